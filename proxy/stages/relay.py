"""Stage 8, relay: the binlog goes to the replica as bytes; back come acknowledgements and a goodbye, nothing else.

The stream can be ended from outside, because trust is checked while it runs: between two packets, with an ERR that the
replica can read and that makes it reconnect. A reason that can wait, waits for a moment when the source does not wait
for an acknowledgement.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Protocol

import trio

from proxy.legs.leg import Leg
from proxy.legs.pump import Pump, PumpEnd
from proxy.outcomes import Ending, LegClosed
from proxy.protocol.acknowledgements import AcknowledgementGuard, CompressedAcknowledgementGuard
from proxy.protocol.compression import inflater_for
from proxy.stages.command_phase import StartedDump
from wire.compressed_stream import CompressedStreamTracker
from wire.errors import WireError
from wire.stream import StreamTracker

# A source has as many commits waiting as it has connections that commit; one that asks without end fills no memory.
_UNACKNOWLEDGED_LIMIT = 1024
# After one direction has ended, how long the other may still take.
_HALF_CLOSE_SECONDS = 5
# How long a source may take to read an acknowledgement.
_LINGER_SECONDS = 0.5
_DISCARD_BYTES = 64 * 1024
# An urgent ending waits no longer for the packet that is half-way through: a second is promised from cause to end.
_URGENT_SECONDS = 0.4
# One that can wait for a quiet moment gets it within this, or none; the limits leave room for it.
_PATIENT_SECONDS = 60


class TrafficObserver(Protocol):
    """Who counts what the relay moves."""

    def sent_to_replica(self, count: int) -> None:
        """So many bytes went to the replica."""

    def sent_to_source(self, count: int) -> None:
        """So many bytes went to the source."""

    def acknowledged(self, seconds: float) -> None:
        """The replica acknowledged, so long after the event that asked for it had gone to it."""


class BinlogRelay:
    """The two directions of a session whose dump has begun.

    Attributes:
        tracker: where the stream stands.
        ended_by: which side was the first to close its connection in order; empty while none has.
    """

    def __init__(self, started: StartedDump, observer: TrafficObserver) -> None:
        self._replica = started.authenticated.replica.leg
        self._source = started.authenticated.source.leg
        self._observer = observer
        new_inflater = inflater_for(started.authenticated.compression)
        self._place = StreamTracker() if new_inflater is None else CompressedStreamTracker(new_inflater)
        self.tracker = self._place if isinstance(self._place, StreamTracker) else self._place.stream
        self._events = Pump(
            self._source, self._replica, count=self._sent_events, admit=self._note_asking, tracker=self._place
        )
        self._guard: AcknowledgementGuard | CompressedAcknowledgementGuard = (
            AcknowledgementGuard() if new_inflater is None else CompressedAcknowledgementGuard(new_inflater)
        )
        self._acknowledgements = Pump(
            self._replica, self._source, count=self._sent_acknowledgements, admit=self._guard.admit
        )
        # Log position and time of each piece with events that ask for an acknowledgement and have none yet.
        self._unacknowledged: deque[tuple[int, float]] = deque(maxlen=_UNACKNOWLEDGED_LIMIT)
        self._has_acknowledged = False
        self._ending: Ending | None = None
        self._failure: Exception | None = None
        self._is_over = False
        self.ended_by = ""
        self._scope = trio.CancelScope()

    def end(self, ending: Ending) -> None:
        """Ends the relay, see `Ending.is_urgent`. The replica resumes by position or GTID."""
        if self._ending is not None and not (ending.is_urgent and not self._ending.is_urgent):
            return
        self._ending = ending
        self._scope.deadline = trio.current_time() + (_URGENT_SECONDS if ending.is_urgent else _PATIENT_SECONDS)
        self._end_if_it_may_be()

    async def run(self) -> Ending | None:
        """Relays until one side has ended, or `end` was called.

        Returns:
            What `end` was called with; None if one side ended.

        Raises:
            LegClosed: a leg broke.
            WireError: the replica sent something else than an acknowledgement or COM_QUIT, or what should be
                compressed is not.
        """
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_one, self._events, self._replica, nursery)
                nursery.start_soon(self._run_one, self._acknowledgements, self._source, nursery)
            await self._linger()
        if self._failure is not None:
            raise self._failure
        return self._ending

    async def _run_one(self, pump: Pump, sink: Leg, nursery: trio.Nursery) -> None:
        try:
            end = await pump.run()
        except (LegClosed, WireError) as error:
            # Once one side has ended the stream, the other may close its connection as it likes.
            if not (self._is_over and isinstance(error, LegClosed)):
                self._failure = self._failure or error
            nursery.cancel_scope.cancel()
            return
        if end is PumpEnd.PAUSED:
            if self._ending is not None and not self._ending.is_urgent:
                # Who is told comes back at once, and the source then ends this connection, whatever it has not read.
                await self._linger()
            await self._say_why()
            nursery.cancel_scope.cancel()
            return
        self._is_over = True
        self.ended_by = self.ended_by or ("source" if sink is self._replica else "replica")
        sink.end_sending()
        nursery.cancel_scope.deadline = trio.current_time() + _HALF_CLOSE_SECONDS

    async def _say_why(self) -> None:
        if self._ending is None or self._place.boundary is None:
            return
        answer = self._ending.answer.serialize(with_sqlstate=True)
        try:
            await self._replica.send_all(self._place.encode_at_boundary(answer))
            self._replica.end_sending()
        except LegClosed:
            return

    async def _linger(self) -> None:
        """Gives the source time to read the last acknowledgements."""
        # A source reads acknowledgements on another thread than the one that sends events and that a closed connection
        # ends. One that it has not read by then is lost, and in MariaDB the commit waits until it times out.
        if not self._has_acknowledged:
            return
        self._has_acknowledged = False
        view = memoryview(bytearray(_DISCARD_BYTES))
        with trio.move_on_after(_LINGER_SECONDS), suppress(LegClosed):
            while (received := self._source.try_receive(view)) != 0:
                if received < 0:
                    await self._source.wait(received)
                else:
                    await trio.lowlevel.checkpoint()

    def _end_if_it_may_be(self) -> None:
        if self._ending is not None and (self._ending.is_urgent or not self._unacknowledged):
            self._events.pause()

    def _note_asking(self, piece: memoryview) -> memoryview:
        # Before the piece leaves: while the rest of it waits, the answer to its first events may come.
        if self._place.ack_position is not None:
            self._unacknowledged.append((self._place.ack_position, trio.current_time()))
            if self._ending is not None and not self._ending.is_urgent:
                self._events.resume()
        return piece

    def _sent_events(self, count: int) -> None:
        self._observer.sent_to_replica(count)
        self._end_if_it_may_be()

    def _sent_acknowledgements(self, count: int) -> None:
        self._observer.sent_to_source(count)
        for position in self._guard.acknowledged:
            self._has_acknowledged = True
            self._note_acknowledged(position)
        self._guard.acknowledged.clear()
        self._end_if_it_may_be()

    def _note_acknowledged(self, position: int) -> None:
        if not self._unacknowledged:
            return
        self._observer.acknowledged(trio.current_time() - self._unacknowledged[0][1])
        # Commits of several connections wait side by side: another than the last of a piece leaves it outstanding.
        if any(position == asking for asking, _ in self._unacknowledged):
            while self._unacknowledged.popleft()[0] != position:
                pass
