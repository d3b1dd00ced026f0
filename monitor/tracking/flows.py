"""Every flow that is being watched, in bounded memory whatever arrives.

A segment belongs to a connection by its key. Until a connection has sent a byte it is only an opening, which is cheap,
since a flood or a scan makes any number of them. Then it is looked into; and once its verdict stands and more would not
change it, it is settled: its directions are counted and passed over, and looked into again now and then.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from monitor.detection.handshake import CertificateReader
from monitor.detection.inspector import FlowInspector, unread_certificate
from monitor.detection.opening import Side
from monitor.segments import SYN, Segment, destination_port, reversed_key, source_port
from monitor.tracking.connections import CLOSING_FLAGS, Connection, ends_of
from monitor.tracking.openings import Endings, Openings
from monitor.tracking.settled import SettledDirections
from monitor.verdicts import Flow, Verdict

# How long a hole is waited for, and what was late of a connection that is closed; by the packets' clock.
_PATIENCE_SECONDS = 0.2
_LINGERING_SECONDS = 0.5
# How often a settled flow is looked into again, and how many of each kind at a tick.
_LOOK_AGAIN_SECONDS = 30.0
_LOOK_AGAIN_UNDECIDED_SECONDS = 2.0
_LOOKS_PER_TICK = 2
# A flow that has sent nothing for so long is no longer watched; so many are asked at a tick.
_IDLE_SECONDS = 3600.0
_IDLE_UNSETTLED_SECONDS = 900.0
_IDLE_LOOKS = 16


class Change(StrEnum):
    """What is told of a flow."""

    FOUND = "found"
    """Its first verdict other than undecided."""
    CHANGED = "changed"
    """Another verdict."""
    ENDED = "ended"
    """Its connection is over, or it is no longer watched."""


class Eviction(StrEnum):
    """Why something is no longer watched that may go on."""

    OPENINGS_FULL = "openings_full"
    UNSETTLED_FULL = "unsettled_full"
    BUFFERS_FULL = "buffers_full"
    FLOWS_FULL = "flows_full"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept at most.

    Attributes:
        openings: connections that have sent no byte yet.
        unsettled: flows that are being looked into.
        flows: all flows.
        buffered_bytes: of all flows that are being looked into.
        endings: directions remembered for some seconds after their end.
    """

    openings: int = 65_536
    unsettled: int = 8_192
    flows: int = 65_536
    buffered_bytes: int = 64 << 20
    endings: int = 8_192


class FlowTable:
    """Watches flows.

    Attributes:
        settled: the directions that need not be looked into; who reads packets asks it first.
        total: how many flows were given each verdict.
        bytes: how many bytes of payload passed under each verdict; `count` brings them up to date.
        evictions: how many flows were given up, by reason.
    """

    def __init__(
        self,
        *,
        ports: frozenset[int] | None,
        notify: Callable[[Change, Flow], None],
        limits: Limits = Limits(),
        not_after_of: CertificateReader = unread_certificate,
    ) -> None:
        """Begins with nothing.

        Args:
            ports: those that servers are expected on; None for any.
            notify: is told of each change of a flow.
            limits: what is kept at most.
            not_after_of: reads when a DER certificate expires.
        """
        self.settled = SettledDirections()
        self._openings = Openings(limits.openings)
        self.total = dict.fromkeys(Verdict, 0)
        self.bytes = dict.fromkeys(Verdict, 0)
        self.evictions = dict.fromkeys(Eviction, 0)
        self._ports = ports
        self._notify = notify
        self._limits = limits
        self._not_after_of = not_after_of
        self._numbers = 0
        self._by_key: dict[bytes, tuple[Connection, int]] = {}
        self._unsettled: OrderedDict[Connection, None] = OrderedDict()
        self._passed_over: OrderedDict[Connection, None] = OrderedDict()
        self._waiting: dict[Connection, None] = {}  # those with a hole that may still be filled
        self._to_look_again: dict[float, deque[tuple[float, Connection]]] = {
            _LOOK_AGAIN_SECONDS: deque(),
            _LOOK_AGAIN_UNDECIDED_SECONDS: deque(),
        }
        self._lingering: dict[Connection, float] = {}  # those that are closed, and since when
        self._endings = Endings(limits.endings)
        self._held_bytes = 0

    @property
    def openings_total(self) -> int:
        """How many connections have begun to open."""
        return self._openings.total

    def flows(self) -> Iterator[Flow]:
        """Those that are being watched, the oldest first."""
        for connection in sorted(self._watched(), key=lambda one: one.flow.number):
            connection.count()
            yield connection.flow

    def foremost(self, most: int, rank: Callable[[Flow], tuple[int, int]]) -> list[Flow]:
        """Those with the lowest ranks of all that are being watched, without bringing the others up to date."""
        connections = heapq.nsmallest(most, self._watched(), key=lambda one: rank(one.flow))
        for connection in connections:
            connection.count()
        return [connection.flow for connection in connections]

    def active(self) -> dict[Verdict, int]:
        """How many flows are being watched, by verdict."""
        active = dict.fromkeys(Verdict, 0)
        for connection in self._watched():
            active[connection.flow.verdict] += 1
        return active

    def count(self) -> None:
        """Brings `bytes` up to date."""
        for connection in self._watched():
            self._count(connection)

    def take(self, segment: Segment) -> None:
        """Takes a segment that was not passed over by its key."""
        known = self._by_key.get(segment.key)
        if segment.flags & SYN:
            self._open(segment, known)
            return
        if known is None:
            if not segment.payload_bytes or self._endings.has_sent(segment):
                return
            known = self._begin(segment)
        connection, direction = known
        if connection.settled is not None and connection.pass_over(direction, segment):
            self._look_again(connection)
        if connection.settled is None:
            connection.look_into(direction, segment)
            if connection.is_elsewhere:
                self._end(connection)
                self.take(segment)
                return
            self._unsettled.move_to_end(connection)
            if segment.payload_bytes:
                self._after_reading(connection)
        if segment.flags & CLOSING_FLAGS and not connection.flow.is_over and connection.close(direction, segment):
            self._lingering.setdefault(connection, segment.time_seconds)

    def tick(self, now_seconds: float) -> None:
        """Does what time demands: gives up holes, looks into settled flows again, forgets idle ones.

        Args:
            now_seconds: by the clock of the packets, a few times a second.
        """
        for connection in list(self._waiting):
            if not connection.flow.is_over:
                connection.give_up_holes(now_seconds - _PATIENCE_SECONDS)
                self._after_reading(connection)
        while (
            self._lingering and (closed := next(iter(self._lingering.items())))[1] <= now_seconds - _LINGERING_SECONDS
        ):
            self._end(*closed)
        self._endings.forget(now_seconds)
        for interval, waiting in self._to_look_again.items():
            looks = _LOOKS_PER_TICK
            while waiting and looks and waiting[0][0] <= now_seconds - interval:
                _, connection = waiting.popleft()
                if connection.settled is not None and not connection.flow.is_over:
                    self._look_again(connection)
                    looks -= 1
        self._forget_idle(now_seconds)

    def finish(self) -> None:
        """Ends everything: no more will come. Handshakes without a byte become flows of their own."""
        for connection in list(self._watched()):
            self._end(connection)
        for key, opening in self._openings:
            self._openings.pop(key)
            flow = self._new_flow(key, opening.first_seconds)
            flow.packets, flow.mid_stream, flow.is_over = opening.packets, False, True
            flow.evidence.append("no data")
            self.total[Verdict.UNDECIDED] += 1
            self._notify(Change.ENDED, flow)

    def _watched(self) -> Iterator[Connection]:
        yield from self._unsettled
        yield from self._passed_over

    # Connections begin.

    def _open(self, segment: Segment, known: tuple[Connection, int] | None) -> None:
        if known is not None:
            connection, direction = known
            if connection.first_sequences[direction] == segment.sequence:
                connection.flow.packets += 1
                return
            # The same ports again: another connection.
            self._end(connection)
        self._openings.take(segment)
        self.evictions[Eviction.OPENINGS_FULL] = self._openings.forgotten

    def _begin(self, segment: Segment) -> tuple[Connection, int]:
        """Begins a flow with its first byte, or with the first that was seen."""
        key, other_key = segment.key, reversed_key(segment.key)
        opening, is_client = self._openings.pop(key), True
        if opening is None:
            opening = self._openings.pop(other_key)
            is_client = opening is None and self._comes_from_client(key)
        keys = (key, other_key) if is_client else (other_key, key)
        flow = self._new_flow(keys[0], segment.time_seconds)
        sequences: tuple[int | None, int | None] = (None, None)
        if opening is not None and opening.holds(segment, is_client=is_client):
            sequences = (opening.client_sequence, opening.server_sequence)
            flow.packets, flow.first_seconds = opening.packets, opening.first_seconds
            flow.mid_stream = False
        knows_sides = (
            not flow.mid_stream or self._is_watched(source_port(key)) or self._is_watched(source_port(other_key))
        )
        inspector = FlowInspector(
            flow,
            sides=(Side.CLIENT, Side.SERVER) if knows_sides else (None, None),
            starts=(sequences[0] is not None, sequences[1] is not None),
            not_after_of=self._not_after_of,
        )
        connection = Connection(flow, keys, inspector, sequences)
        self._make_room()
        while len(self._unsettled) + len(self._passed_over) >= self._limits.flows:
            self._evict(next(self._watched()), Eviction.FLOWS_FULL)
        self._by_key[keys[0]], self._by_key[keys[1]] = (connection, 0), (connection, 1)
        self._unsettled[connection] = None
        return self._by_key[key]

    def _is_watched(self, port: int) -> bool:
        return self._ports is not None and port in self._ports

    def _comes_from_client(self, key: bytes) -> bool:
        """A guess, where no handshake was seen: servers have the ports that are watched, or the lower ones."""
        source, destination = source_port(key), destination_port(key)
        if self._is_watched(source) != self._is_watched(destination):
            return self._is_watched(destination)
        return source > destination

    def _new_flow(self, key: bytes, time_seconds: float) -> Flow:
        self._numbers += 1
        client, server = ends_of(key)
        return Flow(self._numbers, client, server, first_seconds=time_seconds, last_seconds=time_seconds)

    def _make_room(self) -> None:
        while len(self._unsettled) >= self._limits.unsettled:
            self._evict(next(iter(self._unsettled)), Eviction.UNSETTLED_FULL)

    def _evict(self, connection: Connection, reason: Eviction) -> None:
        self.evictions[reason] += 1
        self._end(connection)

    # What is read of them is told, and settled once it stands.

    def _after_reading(self, connection: Connection) -> None:
        self._report(connection)
        if connection.is_waiting:
            self._waiting[connection] = None
        else:
            self._waiting.pop(connection, None)
        held_bytes = connection.holding_bytes()
        self._held_bytes += held_bytes - connection.held_bytes
        connection.held_bytes = held_bytes
        if connection.inspector.has_seen_enough:
            self._settle(connection)
        while self._held_bytes > self._limits.buffered_bytes and self._unsettled:
            self._evict(next(iter(self._unsettled)), Eviction.BUFFERS_FULL)

    def _report(self, connection: Connection) -> None:
        flow = connection.flow
        if flow.verdict is connection.reported:
            return
        connection.turn_round()
        change = Change.FOUND if connection.reported is Verdict.UNDECIDED else Change.CHANGED
        self._count(connection)
        connection.reported = flow.verdict
        self.total[flow.verdict] += 1
        self._notify(change, flow)

    def _count(self, connection: Connection) -> None:
        connection.count()
        flow = connection.flow
        self.bytes[connection.reported] += flow.bytes - connection.counted_bytes
        connection.counted_bytes = flow.bytes

    def _settle(self, connection: Connection) -> None:
        for direction in connection.settle():
            self.settled.add(direction)
        self._release(connection)
        self._passed_over[connection] = None
        verdict = connection.flow.verdict
        if verdict is not Verdict.PLAINTEXT_REPLICATION:
            interval = _LOOK_AGAIN_UNDECIDED_SECONDS if verdict is Verdict.UNDECIDED else _LOOK_AGAIN_SECONDS
            self._to_look_again[interval].append((connection.flow.last_seconds, connection))

    def _look_again(self, connection: Connection) -> None:
        for key in connection.keys:
            self.settled.remove(key)
        connection.look_again()
        self._passed_over.pop(connection, None)
        self._make_room()
        self._unsettled[connection] = None

    def _release(self, connection: Connection) -> None:
        self._held_bytes -= connection.held_bytes
        connection.held_bytes = 0
        self._waiting.pop(connection, None)
        self._unsettled.pop(connection, None)
        self._passed_over.pop(connection, None)

    # Connections end.

    def _end(self, connection: Connection, time_seconds: float | None = None) -> None:
        """Ends a flow; late packets of a connection that is over since `time_seconds` make no new one."""
        if connection.flow.is_over:
            return
        connection.end()
        self._report(connection)
        self._count(connection)
        if connection.reported is Verdict.UNDECIDED:
            self.total[Verdict.UNDECIDED] += 1
        for direction, key in enumerate(connection.keys):
            self._by_key.pop(key, None)
            self.settled.remove(key)
            next_sequence = connection.next_sequence(direction)
            if time_seconds is not None and next_sequence is not None:
                self._endings.add(key, next_sequence, time_seconds)
        self._release(connection)
        self._lingering.pop(connection, None)
        self._notify(Change.ENDED, connection.flow)

    def _forget_idle(self, now_seconds: float) -> None:
        for connections, limit in ((self._unsettled, _IDLE_UNSETTLED_SECONDS), (self._passed_over, _IDLE_SECONDS)):
            for connection in list(connections)[:_IDLE_LOOKS]:
                connection.count()
                if connection.flow.last_seconds < now_seconds - limit:
                    self._evict(connection, Eviction.IDLE)
                else:
                    connections.move_to_end(connection)
