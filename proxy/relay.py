"""Stage 8, relay: the binlog goes to the replica as bytes; back come acknowledgements and a goodbye, nothing else."""

from __future__ import annotations

from typing import Protocol

import trio

from proxy.command_phase import StartedDump
from proxy.legs import Leg
from proxy.outcomes import LegClosed
from proxy.pump import Pump, PumpEnd
from wire.binlog import SEMI_SYNC_MAGIC
from wire.errors import WireError
from wire.framing import HEADER_BYTES, PacketDecoder, encode_packet
from wire.phases import Phase, Sender, classify

# A SemiSyncAck is 9 bytes and a binlog file name, at most 512 (FN_REFLEN in mysys.h).
_ACK_LIMIT_BYTES = 9 + 512
# After one direction has ended, how long the other may still take.
_HALF_CLOSE_SECONDS = 5


class TrafficObserver(Protocol):
    """Who counts what the relay moves."""

    def sent_to_replica(self, count: int) -> None:
        """So many bytes went to the replica."""

    def sent_to_source(self, count: int) -> None:
        """So many bytes went to the source."""


class BinlogRelay:
    """The two directions of a session whose dump has begun."""

    def __init__(self, started: StartedDump, observer: TrafficObserver) -> None:
        self._replica = started.authenticated.replica.leg
        self._source = started.authenticated.source.leg
        self._events = Pump(self._source, self._replica, count=observer.sent_to_replica)
        self._acknowledgements = Pump(
            self._replica, self._source, count=observer.sent_to_source, admit=_AcknowledgementGuard().admit
        )
        self._failure: Exception | None = None

    def end_when_quiet(self) -> None:
        """Ends the relay as soon as nothing is half-way through. The replica resumes by position or GTID."""
        self._events.pause()
        self._acknowledgements.pause()

    async def run(self) -> PumpEnd:
        """Relays until one side has ended.

        Raises:
            LegClosed: a leg broke.
            WireError: the replica sent something else than an acknowledgement or COM_QUIT.
        """
        ends: list[PumpEnd] = []

        async def run_one(pump: Pump, sink: Leg) -> None:
            try:
                end = await pump.run()
            except (LegClosed, WireError) as error:
                self._failure = self._failure or error
                nursery.cancel_scope.cancel()
                return
            ends.append(end)
            if end is PumpEnd.END_OF_STREAM:
                sink.end_sending()
                nursery.cancel_scope.deadline = trio.current_time() + _HALF_CLOSE_SECONDS

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_one, self._events, self._replica)
            nursery.start_soon(run_one, self._acknowledgements, self._source)
        if self._failure is not None:
            raise self._failure
        return PumpEnd.PAUSED if PumpEnd.PAUSED in ends else PumpEnd.END_OF_STREAM


class _AcknowledgementGuard:
    """Lets whole acknowledgements through. An unfinished one waits, so that none is ever judged by its header alone."""

    def __init__(self) -> None:
        self._decoder = PacketDecoder(_ACK_LIMIT_BYTES)

    def admit(self, piece: memoryview) -> memoryview:
        """What may go to the source now.

        Raises:
            WireError: something else than an acknowledgement or COM_QUIT came.
        """
        if not len(self._decoder) and _is_one_acknowledgement(piece):
            return piece
        self._decoder.feed(piece)
        admitted = []
        while (packet := self._decoder.next_packet()) is not None:
            classify(Phase.STREAM, Sender.REPLICA, packet.payload)
            admitted.append(encode_packet(packet.payload, packet.sequence_id))
        return memoryview(b"".join(admitted))


def _is_one_acknowledgement(piece: memoryview) -> bool:
    # As it comes on nearly every commit: one packet, whole, nothing behind it.
    size = len(piece) - HEADER_BYTES
    return (
        9 < size <= _ACK_LIMIT_BYTES
        and piece[HEADER_BYTES] == SEMI_SYNC_MAGIC
        and (piece[0] | piece[1] << 8 | piece[2] << 16) == size
    )
