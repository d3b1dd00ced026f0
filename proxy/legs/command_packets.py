"""Commands off the replica's leg, one at a time and not a byte further than the one; packets or compressed frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.legs.leg import Leg
from wire.compression import FrameEnd, FrameReader, Inflater, encode_stored_frames
from wire.errors import MalformedPacket
from wire.framing import Packet, PacketDecoder, encode_packet


@dataclass(frozen=True, slots=True)
class CommandPacket:
    """One command as it came.

    Attributes:
        packet: what is judged.
        sent: the bytes to pass on.
        frame_sequence_id: of the last compressed frame that it came in; None where nothing is compressed.
    """

    packet: Packet
    sent: bytes
    frame_sequence_id: int | None = None

    def encode_answer(self, payload: bytes) -> bytes:
        """A packet that answers the command, as the replica expects it."""
        answer = encode_packet(payload, self.packet.last_sequence_id + 1)
        if self.frame_sequence_id is None:
            return answer
        return encode_stored_frames(answer, self.frame_sequence_id + 1)


class CommandReader:
    """Reads commands from a leg.

    Args:
        leg: the replica's.
        limit_bytes: the largest command that is borne.
        new_inflater: see `proxy.compression.inflater_for`; None where nothing is compressed.
    """

    def __init__(self, leg: Leg, limit_bytes: int, new_inflater: Callable[[], Inflater] | None) -> None:
        self._leg = leg
        self._limit_bytes = limit_bytes
        self._decoder = PacketDecoder(limit_bytes)
        self._frames = None if new_inflater is None else FrameReader(new_inflater, max_content_bytes=limit_bytes)
        self._sent = bytearray()
        self._frame_sequence_id = 0

    @property
    def is_ahead(self) -> bool:
        """Whether more than the last command has been read: it shared a compressed frame with what follows."""
        return len(self._decoder) > 0

    async def receive(self) -> CommandPacket:
        """The next command.

        Raises:
            WireError: the packet or its frame is malformed, or too large.
            LegClosed: the leg ended.
        """
        if self._frames is None:
            while (packet := self._decoder.next_packet()) is None:
                self._decoder.feed(await self._leg.receive_exactly(self._decoder.bytes_needed()))
            return CommandPacket(packet, encode_packet(packet.payload, packet.sequence_id))
        is_whole = not self.is_ahead
        while (packet := self._decoder.next_packet()) is None:
            await self._receive_frame(self._frames)
        if is_whole and not self.is_ahead:
            sent = bytes(self._sent)
        else:
            sent = encode_stored_frames(encode_packet(packet.payload, packet.sequence_id), 0)
        self._sent.clear()
        return CommandPacket(packet, sent, self._frame_sequence_id)

    async def _receive_frame(self, frames: FrameReader) -> None:
        """One frame; the decoder is asked after each piece, so that a command too large is refused by its header."""
        ended = False
        while not ended:
            data = await self._leg.receive_exactly(frames.bytes_needed())
            self._sent += data
            if len(self._sent) > 2 * self._limit_bytes:
                raise MalformedPacket(f"compressed frames of {len(self._sent)} bytes without an end of the command")
            for part in frames.advance(data):
                if isinstance(part, FrameEnd):
                    self._frame_sequence_id, ended = part.sequence_id, True
                else:
                    self._decoder.feed(part)
