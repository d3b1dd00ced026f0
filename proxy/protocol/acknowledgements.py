"""What may come back while the binlog runs: semi-synchronous acknowledgements and COM_QUIT, whole, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from wire.binlog import SEMI_SYNC_MAGIC
from wire.compression import FrameEnd, FrameReader, Inflater
from wire.datatypes import Payload
from wire.errors import MalformedPacket
from wire.framing import HEADER_BYTES, PacketDecoder, encode_packet
from wire.phases import Message, Phase, Sender, classify

# A SemiSyncAck is 9 bytes and a binlog file name, at most 512 (FN_REFLEN in mysys.h).
_ACK_LIMIT_BYTES = 9 + 512
# What may wait in compressed frames for the end of an acknowledgement.
_PENDING_LIMIT_BYTES = 64 * 1024


class AcknowledgementGuard:
    """Lets whole acknowledgements through. An unfinished one waits, so that none is ever judged by its header alone.

    Attributes:
        acknowledged: the log positions, as wide as in an event, of those that were let through since this was cleared.
    """

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self._decoder = PacketDecoder(_ACK_LIMIT_BYTES)

    def admit(self, piece: memoryview) -> memoryview:
        """What may go to the source now.

        Raises:
            WireError: something else than an acknowledgement or COM_QUIT came.
        """
        if not len(self._decoder) and _is_one_acknowledgement(piece):
            self.acknowledged.append(_acknowledged_position(piece[HEADER_BYTES:]))
            return piece
        self._decoder.feed(piece)
        admitted = []
        while (packet := self._decoder.next_packet()) is not None:
            if classify(Phase.STREAM, Sender.REPLICA, packet.payload) is Message.SEMI_SYNC_ACK:
                self.acknowledged.append(_acknowledged_position(packet.payload))
            admitted.append(encode_packet(packet.payload, packet.sequence_id))
        return memoryview(b"".join(admitted))


class CompressedAcknowledgementGuard:
    """As `AcknowledgementGuard`, where they come in compressed frames, which pass as they are.

    Attributes:
        acknowledged: the log positions, as wide as in an event, of those that were let through since this was cleared.
    """

    def __init__(self, new_inflater: Callable[[], Inflater]) -> None:
        self.acknowledged: list[int] = []
        self._frames = FrameReader(new_inflater, max_content_bytes=_PENDING_LIMIT_BYTES)
        self._decoder = PacketDecoder(_ACK_LIMIT_BYTES)
        self._pending = b""
        self._unfinished: list[int] = []  # positions of the acknowledgements in what is pending

    def admit(self, piece: memoryview) -> memoryview:
        """What may go to the source now: frames behind which no acknowledgement is unfinished.

        Raises:
            WireError: something else than an acknowledgement or COM_QUIT came.
        """
        waiting, admitted = len(self._pending), 0
        self._pending += piece
        for part in self._frames.advance(piece):
            if not isinstance(part, FrameEnd):
                self._judge(part)
            elif not len(self._decoder):
                admitted = waiting + part.offset
                self.acknowledged += self._unfinished
                self._unfinished.clear()
        if len(self._pending) - admitted > _PENDING_LIMIT_BYTES:
            raise MalformedPacket("compressed frames without an end of the acknowledgement in them")
        result, self._pending = self._pending[:admitted], self._pending[admitted:]
        return memoryview(result)

    def _judge(self, content: bytes) -> None:
        self._decoder.feed(content)
        while (packet := self._decoder.next_packet()) is not None:
            if classify(Phase.STREAM, Sender.REPLICA, packet.payload) is Message.SEMI_SYNC_ACK:
                self._unfinished.append(_acknowledged_position(packet.payload))


def _is_one_acknowledgement(piece: memoryview) -> bool:
    # As it comes on nearly every commit: one packet, whole, nothing behind it.
    size = len(piece) - HEADER_BYTES
    return (
        9 < size <= _ACK_LIMIT_BYTES
        and piece[HEADER_BYTES] == SEMI_SYNC_MAGIC
        and (piece[0] | piece[1] << 8 | piece[2] << 16) == size
    )


def _acknowledged_position(payload: Payload) -> int:
    # 64 bits wide behind the magic byte, of which an event's header has the lower half.
    return int.from_bytes(payload[1:5], "little")
