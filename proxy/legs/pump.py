"""One direction of a session: bytes from one leg to the other, with no work per byte.

A pump owns a buffer only from the moment bytes arrive until they have left, so an idle session holds none, and a slow
sink holds one: that is the bound on its memory. It reads, sends, and waits only when the kernel says so; after some
full buffers it lets the other sessions have their turn.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import trio

from proxy.legs.leg import Leg
from wire.compressed_stream import CompressedStreamTracker
from wire.stream import StreamTracker

# Sixteen TLS records: one receive and one send for each 256 KiB of a bulk stream.
BUFFER_BYTES = 256 * 1024
# What one session may move before the others have their turn: about two milliseconds of encryption. A turn of the event
# loop costs as much as a tenth of a buffer.
_TURN_BYTES = 2 * 1024 * 1024
# Less than this is alone, mostly, and asking for more before waiting costs a small round trip what it cannot spare.
_SMALL_BYTES = 16 * 1024
# Buffers kept for reuse; more are made while more sessions are moving bytes in the same instant.
_KEPT_BUFFERS = 16


class PumpEnd(Enum):
    """Why a pump returned."""

    END_OF_STREAM = "end of stream"
    PAUSED = "paused"


class _BufferPool:
    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        return self._free.pop() if self._free else memoryview(bytearray(BUFFER_BYTES))

    def give_back(self, view: memoryview) -> None:
        if len(self._free) < _KEPT_BUFFERS:
            self._free.append(view)


_pool = _BufferPool()


class Pump:
    """Moves bytes from `origin` to `sink` until the end of the stream.

    Args:
        origin: read from.
        sink: written to.
        count: called with the number of bytes of each piece that has left.
        admit: judges each piece before it leaves and returns what may leave now; None admits everything. It may
            raise, which ends the pump.
        tracker: follows the event stream, so that `pause` ends it between two packets; None ends it anywhere.
    """

    def __init__(
        self,
        origin: Leg,
        sink: Leg,
        *,
        count: Callable[[int], None],
        admit: Callable[[memoryview], memoryview] | None = None,
        tracker: StreamTracker | CompressedStreamTracker | None = None,
    ) -> None:
        self._origin = origin
        self._sink = sink
        self._count = count
        self._admit = admit
        self._tracker = tracker
        self._scope = trio.CancelScope()
        self._is_waiting = False
        self._is_pausing = False
        self._is_cut = False

    @property
    def is_quiet(self) -> bool:
        """Whether nothing that was read is still to be sent, and no packet is half-way through."""
        return self._is_waiting and self._is_between_packets

    def pause(self) -> None:
        """Makes `run` return at the end of the packet that is half-way through; at once if none is."""
        self._is_pausing = True
        if self.is_quiet:
            self._scope.cancel()

    def resume(self) -> None:
        """Takes `pause` back, while the piece that would be the last is judged."""
        self._is_pausing = False

    async def run(self) -> PumpEnd:
        """Moves bytes.

        Raises:
            LegClosed: either leg broke.
            WireError: what came is none of what `admit` or `tracker` knows.
        """
        with self._scope:
            while not (self._is_pausing and self._is_between_packets):
                received = await self._take_turn()
                if self._is_cut:
                    break
                if received == 0:
                    return PumpEnd.END_OF_STREAM
                self._is_waiting = True
                if received >= _SMALL_BYTES:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._origin.wait(received)
                self._is_waiting = False
        return PumpEnd.PAUSED

    @property
    def _is_between_packets(self) -> bool:
        return self._tracker is None or self._tracker.is_between_packets

    async def _take_turn(self) -> int:
        """Moves bytes while they keep coming; returns what the last receive did."""
        left = _TURN_BYTES
        view = _pool.take()
        try:
            while (received := self._origin.try_receive(view)) > 0:
                await self._send(view[:received])
                left -= received
                if received < _SMALL_BYTES or left <= 0 or self._is_pausing:
                    break
            return received
        finally:
            _pool.give_back(view)

    async def _send(self, piece: memoryview) -> None:
        if self._tracker is not None:
            self._tracker.advance(piece)
        if self._admit is not None:
            piece = self._admit(piece)
        if self._is_pausing and self._tracker is not None and self._tracker.boundary is not None:
            # What follows is not sent: the replica asks for it again.
            piece, self._is_cut = piece[: self._tracker.boundary], True
        size = len(piece)
        while piece:
            sent = self._sink.try_send(piece)
            if sent < 0:
                await self._sink.wait(sent)
            else:
                piece = piece[sent:]
        self._count(size)
