"""Every flow that is being watched, in bounded memory whatever arrives.

A segment belongs to a connection by its key. Until a connection has sent a byte it is only an `_Opening`, which is
cheap, since a flood or a scan makes any number of them. Then it is looked into, by an assembler for each direction and an
inspector; and once its verdict stands and more would not change it, it is settled: its directions are counted and
passed over, and looked into again now and then.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from monitor.assembly import Hole, Piece, StreamAssembler
from monitor.detection.handshake import CertificateReader
from monitor.detection.inspector import FlowInspector, unread_certificate
from monitor.detection.opening import Side
from monitor.segments import (
    ACK,
    FIN,
    RST,
    SYN,
    Segment,
    destination_address,
    destination_port,
    reversed_key,
    source_address,
    source_port,
)
from monitor.settled import SettledDirection, SettledDirections
from monitor.verdicts import Flow, Verdict

# How long a hole is waited for, by the packets' clock.
_PATIENCE_SECONDS = 0.5
# How often a settled flow is looked into again, and how many flows at most in a second.
_LOOK_AGAIN_SECONDS = 30.0
_LOOK_AGAIN_UNDECIDED_SECONDS = 2.0
_LOOKS_PER_TICK = 2
# A flow that has sent nothing for so long is no longer watched.
_IDLE_SECONDS = 3600.0
_IDLE_UNSETTLED_SECONDS = 900.0
_ENDED_SECONDS = 5.0
# Some segments in a row of another place: the connection is another one, and its beginning was not seen.
_MOST_STRAYS = 3


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
        ended: connections remembered for a few seconds, so that a late packet does not make a flow.
    """

    openings: int = 65_536
    unsettled: int = 8_192
    flows: int = 65_536
    buffered_bytes: int = 64 << 20
    ended: int = 8_192


@dataclass(slots=True)
class _Opening:
    """A handshake, by the key of the side that began."""

    client_sequence: int
    server_sequence: int | None = None
    packets: int = 1
    first_seconds: float = 0.0


@dataclass(slots=True, eq=False)
class _Connection:
    """A flow, and what is needed to watch it. Its directions are numbered 0 and 1; `keys` has theirs."""

    flow: Flow
    keys: tuple[bytes, bytes]
    inspector: FlowInspector
    assemblers: tuple[StreamAssembler, StreamAssembler] = field(
        default_factory=lambda: (StreamAssembler(), StreamAssembler())
    )
    first_sequences: list[int | None] = field(default_factory=lambda: [None, None])
    settled: tuple[SettledDirection, SettledDirection] | None = None
    reported: Verdict = Verdict.UNDECIDED
    finished: list[bool] = field(default_factory=lambda: [False, False])
    buffered_bytes: int = 0
    counted_bytes: int = 0
    settled_packets: int = 0
    settled_bytes: int = 0

    def count(self) -> None:
        """Brings the flow's counts up to date with what was passed over."""
        if self.settled is None:
            return
        first, second = self.settled
        packets, size = first.packets + second.packets, first.bytes + second.bytes
        self.flow.packets += packets - self.settled_packets
        self.flow.bytes += size - self.settled_bytes
        self.settled_packets, self.settled_bytes = packets, size
        self.flow.last_seconds = max(self.flow.last_seconds, first.last_seconds, second.last_seconds)


class FlowTable:
    """Watches flows.

    Attributes:
        settled: the directions that need not be looked into; who reads packets asks it first.
        total: how many flows were given each verdict.
        bytes: how many bytes of payload passed under each verdict.
        evictions: how many were given up, by reason.
        openings_total: how many handshakes were seen.
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
        self.total = dict.fromkeys(Verdict, 0)
        self.bytes = dict.fromkeys(Verdict, 0)
        self.evictions = dict.fromkeys(Eviction, 0)
        self.openings_total = 0
        self._ports = ports
        self._notify = notify
        self._limits = limits
        self._not_after_of = not_after_of
        self._numbers = 0
        self._openings: OrderedDict[bytes, _Opening] = OrderedDict()
        self._by_key: dict[bytes, tuple[_Connection, int]] = {}
        self._unsettled: OrderedDict[_Connection, None] = OrderedDict()
        self._passed_over: OrderedDict[_Connection, None] = OrderedDict()
        self._to_look_again: dict[float, deque[tuple[float, _Connection]]] = {
            _LOOK_AGAIN_SECONDS: deque(),
            _LOOK_AGAIN_UNDECIDED_SECONDS: deque(),
        }
        self._waiting: dict[_Connection, None] = {}  # those with a hole that may still be filled
        self._ended: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._buffered_bytes = 0

    def flows(self) -> Iterator[Flow]:
        """Those that are being watched, the oldest first."""
        for connection in sorted((*self._unsettled, *self._passed_over), key=lambda one: one.flow.number):
            connection.count()
            yield connection.flow

    def active(self) -> dict[Verdict, int]:
        """How many flows are being watched, by verdict."""
        active = dict.fromkeys(Verdict, 0)
        for connection in (*self._unsettled, *self._passed_over):
            active[connection.flow.verdict] += 1
        return active

    def take(self, segment: Segment) -> None:
        """Takes a segment that is not passed over."""
        key = segment.key
        known = self._by_key.get(key)
        if segment.flags & SYN:
            self._open(segment, known)
            return
        if known is None:
            if not segment.payload_bytes or self._is_late(segment):
                return
            known = self._begin(segment)
        connection, direction = known
        if connection.settled is not None:
            self._pass_over_or_look(connection, direction, segment)
        else:
            flow = connection.flow
            flow.packets += 1
            flow.bytes += segment.payload_bytes
            flow.last_seconds = segment.time_seconds
            self._look_into(connection, direction, segment)
        if segment.flags & (FIN | RST):
            self._close(connection, direction, segment)

    def tick(self, now_seconds: float) -> None:
        """Does what time demands: gives up holes, looks into settled flows again, forgets idle ones.

        Args:
            now_seconds: by the clock of the packets, a few times a second.
        """
        for connection in list(self._waiting):
            if connection.flow.is_over:
                continue
            for direction in (0, 1):
                pieces = connection.assemblers[direction].give_up(now_seconds - _PATIENCE_SECONDS)
                if pieces:
                    self._read(connection, direction, pieces)
            self._after_reading(connection)
        while self._ended and next(iter(self._ended.values()))[1] < now_seconds - _ENDED_SECONDS:
            self._ended.popitem(last=False)
        for interval, waiting in self._to_look_again.items():
            looks = _LOOKS_PER_TICK
            while waiting and looks and waiting[0][0] <= now_seconds - interval:
                _, connection = waiting.popleft()
                if connection.settled is not None and not connection.flow.is_over:
                    self._look_again(connection)
                    looks -= 1
        self._forget_idle(now_seconds)

    def count(self) -> None:
        """Brings `bytes` up to date."""
        for connection in (*self._unsettled, *self._passed_over):
            self._count(connection)

    def finish(self) -> None:
        """Ends everything: no more will come. Handshakes without a byte become flows of their own."""
        for connection in (*self._unsettled, *self._passed_over):
            self._end(connection)
        for key, opening in self._openings.items():
            flow = self._new_flow(key, opening.first_seconds, is_client=True)
            flow.packets, flow.mid_stream, flow.is_over = opening.packets, False, True
            flow.last_seconds = opening.first_seconds
            flow.evidence.append("no data")
            self.total[Verdict.UNDECIDED] += 1
            self._notify(Change.ENDED, flow)
        self._openings.clear()

    # Connections begin.

    def _open(self, segment: Segment, known: tuple[_Connection, int] | None) -> None:
        """Takes a SYN, of either side."""
        if known is not None:
            connection, direction = known
            if connection.first_sequences[direction] == segment.sequence:
                connection.flow.packets += 1
                return
            # The same ports again: another connection.
            self._end(connection)
        if segment.flags & ACK:
            key = reversed_key(segment.key)
            opening = self._openings.get(key)
            if opening is None:
                opening = self._note_opening(key, (segment.acknowledgement - 1) % (1 << 32), segment.time_seconds)
            else:
                opening.packets += 1
            opening.server_sequence = segment.sequence
            return
        opening = self._openings.get(segment.key)
        if opening is not None and opening.client_sequence == segment.sequence:
            opening.packets += 1
            return
        self._note_opening(segment.key, segment.sequence, segment.time_seconds)

    def _note_opening(self, key: bytes, client_sequence: int, time_seconds: float) -> _Opening:
        self.openings_total += 1
        self._openings.pop(key, None)
        if len(self._openings) >= self._limits.openings:
            self._openings.popitem(last=False)
            self.evictions[Eviction.OPENINGS_FULL] += 1
        opening = self._openings[key] = _Opening(client_sequence, first_seconds=time_seconds)
        return opening

    def _begin(self, segment: Segment) -> tuple[_Connection, int]:
        """Begins a flow with its first byte, or with the first that was seen."""
        key, other_key = segment.key, reversed_key(segment.key)
        is_client, opening = True, self._openings.pop(key, None)
        if opening is None:
            opening = self._openings.pop(other_key, None)
            is_client = opening is None and self._comes_from_client(key)
        sequences: list[int | None] = [None, None]
        if opening is not None:
            sequences = [opening.client_sequence, opening.server_sequence]
        keys = (key, other_key) if is_client else (other_key, key)
        is_start = opening is not None and self._is_near(segment, sequences[0 if is_client else 1])
        flow = self._new_flow(keys[0], segment.time_seconds, is_client=True)
        if opening is not None:
            flow.packets, flow.first_seconds = opening.packets, opening.first_seconds
        flow.mid_stream = not is_start
        knows_sides = is_start or self._has_server_port(keys[1]) or self._has_server_port(keys[0])
        sides = (Side.CLIENT, Side.SERVER) if knows_sides else (None, None)
        inspector = FlowInspector(flow, sides=sides, is_start=is_start, not_after_of=self._not_after_of)
        connection = _Connection(flow, keys, inspector)
        if is_start:
            connection.first_sequences = sequences
            for assembler, sequence in zip(connection.assemblers, sequences, strict=True):
                if sequence is not None:
                    assembler.begin((sequence + 1) % (1 << 32))
        self._make_room()
        self._by_key[keys[0]], self._by_key[keys[1]] = (connection, 0), (connection, 1)
        self._unsettled[connection] = None
        return self._by_key[key]

    @staticmethod
    def _is_near(segment: Segment, first_sequence: int | None) -> bool:
        """Whether a segment can be of the connection that began with this SYN."""
        if first_sequence is None:
            return True
        return (segment.sequence - first_sequence) % (1 << 32) < 1 << 24

    def _has_server_port(self, key: bytes) -> bool:
        return self._ports is not None and source_port(key) in self._ports

    def _comes_from_client(self, key: bytes) -> bool:
        """A guess, where no handshake was seen: servers have the ports that are watched, or the lower ones."""
        source, destination = source_port(key), destination_port(key)
        if self._ports is not None and (source in self._ports) != (destination in self._ports):
            return destination in self._ports
        return source > destination

    def _new_flow(self, key: bytes, time_seconds: float, *, is_client: bool) -> Flow:
        self._numbers += 1
        source = _shown(source_address(key), source_port(key))
        destination = _shown(destination_address(key), destination_port(key))
        client, server = (source, destination) if is_client else (destination, source)
        return Flow(self._numbers, client, server, first_seconds=time_seconds, last_seconds=time_seconds)

    def _make_room(self) -> None:
        while len(self._unsettled) >= self._limits.unsettled:
            self._evict(next(iter(self._unsettled)), Eviction.UNSETTLED_FULL)
        while len(self._unsettled) + len(self._passed_over) >= self._limits.flows:
            self._evict(next(iter(self._unsettled or self._passed_over)), Eviction.FLOWS_FULL)

    def _evict(self, connection: _Connection, reason: Eviction) -> None:
        self.evictions[reason] += 1
        self._end(connection)

    # What they send is read.

    def _look_into(self, connection: _Connection, direction: int, segment: Segment) -> None:
        self._unsettled.move_to_end(connection)
        if segment.flags & ACK:
            connection.assemblers[1 - direction].acknowledge(segment.acknowledgement)
        if segment.payload_bytes:
            assembler = connection.assemblers[direction]
            pieces = assembler.push(segment.sequence, segment.payload, segment.payload_bytes, segment.time_seconds)
            if assembler.strays >= _MOST_STRAYS:
                self._end(connection)
                self.take(segment)
                return
            self._read(connection, direction, pieces)
        self._after_reading(connection)

    def _read(self, connection: _Connection, direction: int, pieces: list[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Hole):
                connection.inspector.lose(direction, piece.length)
            else:
                connection.inspector.feed(direction, piece)

    def _after_reading(self, connection: _Connection) -> None:
        """Reports what has changed, and settles the flow if more would change nothing."""
        self._report(connection)
        first, second = connection.assemblers
        if first.is_waiting or second.is_waiting:
            self._waiting[connection] = None
        else:
            self._waiting.pop(connection, None)
        held = connection.inspector.buffered_bytes + first.held_bytes + second.held_bytes
        self._buffered_bytes += held - connection.buffered_bytes
        connection.buffered_bytes = held
        if connection.inspector.has_seen_enough:
            self._settle(connection)
        while self._buffered_bytes > self._limits.buffered_bytes:
            self._evict(next(iter(self._unsettled)), Eviction.BUFFERS_FULL)

    def _report(self, connection: _Connection) -> None:
        flow = connection.flow
        if flow.verdict is connection.reported:
            return
        client = connection.inspector.client_direction
        if client == 1:
            self._turn_round(connection)
        change = Change.FOUND if connection.reported is Verdict.UNDECIDED else Change.CHANGED
        self._count(connection)
        connection.reported = flow.verdict
        self.total[flow.verdict] += 1
        self._notify(change, flow)

    @staticmethod
    def _turn_round(connection: _Connection) -> None:
        """Direction 1 has turned out to be the client's."""
        flow = connection.flow
        key = connection.keys[1]
        flow.client = _shown(source_address(key), source_port(key))
        flow.server = _shown(destination_address(key), destination_port(key))

    def _count(self, connection: _Connection) -> None:
        connection.count()
        flow = connection.flow
        self.bytes[connection.reported] += flow.bytes - connection.counted_bytes
        connection.counted_bytes = flow.bytes

    # Settled flows.

    def _settle(self, connection: _Connection) -> None:
        flow = connection.flow
        client = connection.inspector.client_direction
        may_change = flow.verdict in {Verdict.PLAINTEXT_CLIENT, Verdict.UNDECIDED}
        connection.settled_packets = connection.settled_bytes = 0
        first, second = (
            SettledDirection(
                key,
                assembler.next_sequence,
                watches_commands=may_change and client in {None, direction},
                last_seconds=flow.last_seconds,
            )
            for direction, (key, assembler) in enumerate(zip(connection.keys, connection.assemblers, strict=True))
        )
        connection.settled = (first, second)
        connection.assemblers = (StreamAssembler(), StreamAssembler())
        self._buffered_bytes -= connection.buffered_bytes
        connection.buffered_bytes = 0
        self._waiting.pop(connection, None)
        self._unsettled.pop(connection, None)
        self._passed_over[connection] = None
        self.settled.add(first)
        self.settled.add(second)
        if flow.verdict is not Verdict.PLAINTEXT_REPLICATION:
            is_open = flow.verdict is Verdict.UNDECIDED
            interval = _LOOK_AGAIN_UNDECIDED_SECONDS if is_open else _LOOK_AGAIN_SECONDS
            self._to_look_again[interval].append((flow.last_seconds, connection))

    def _pass_over_or_look(self, connection: _Connection, direction: int, segment: Segment) -> None:
        """Takes a segment of a settled flow that was not passed over: the end, or what may be a command."""
        settled = connection.settled
        if settled is None:
            return
        settled[direction].pass_over(segment.sequence, segment.payload_bytes, segment.time_seconds)
        if settled[direction].watches_commands and segment.payload[3:5] in _DUMP_COMMANDS:
            self._look_again(connection)
            self._look_into(connection, direction, segment)

    def _look_again(self, connection: _Connection) -> None:
        """Has a settled flow looked into, from its next byte on."""
        connection.count()
        if connection.settled is None:
            return
        for direction in connection.settled:
            self.settled.remove(direction.key)
        connection.settled = None
        connection.inspector.look_again()
        connection.assemblers = (StreamAssembler(), StreamAssembler())
        self._passed_over.pop(connection, None)
        while len(self._unsettled) >= self._limits.unsettled:
            self._evict(next(iter(self._unsettled)), Eviction.UNSETTLED_FULL)
        self._unsettled[connection] = None

    # Connections end.

    def _close(self, connection: _Connection, direction: int, segment: Segment) -> None:
        connection.finished[direction] = True
        if segment.flags & RST or all(connection.finished):
            self._end(connection, segment.time_seconds)

    def _end(self, connection: _Connection, time_seconds: float | None = None) -> None:
        if connection.flow.is_over:
            return
        connection.flow.is_over = True
        if connection.settled is None:
            for direction in (0, 1):
                self._read(connection, direction, connection.assemblers[direction].flush())
            connection.inspector.end()
            self._report(connection)
        self._count(connection)
        flow = connection.flow
        if connection.reported is Verdict.UNDECIDED:
            self.total[Verdict.UNDECIDED] += 1
        for direction, key in enumerate(connection.keys):
            self._by_key.pop(key, None)
            if connection.settled is not None:
                self.settled.remove(key)
                next_sequence = connection.settled[direction].next_sequence
            else:
                next_sequence = connection.assemblers[direction].next_sequence
            if time_seconds is not None:
                self._ended[key] = (next_sequence, time_seconds)
        while len(self._ended) > self._limits.ended:
            self._ended.popitem(last=False)
        self._buffered_bytes -= connection.buffered_bytes
        self._waiting.pop(connection, None)
        self._unsettled.pop(connection, None)
        self._passed_over.pop(connection, None)
        self._notify(Change.ENDED, flow)

    def _is_late(self, segment: Segment) -> bool:
        """Whether this was sent again after its connection had ended."""
        ended = self._ended.get(segment.key)
        if ended is None or segment.time_seconds > ended[1] + _ENDED_SECONDS:
            return False
        return (ended[0] - segment.sequence - segment.payload_bytes) % (1 << 32) < 1 << 24

    def _forget_idle(self, now_seconds: float) -> None:
        for connections, limit in ((self._unsettled, _IDLE_UNSETTLED_SECONDS), (self._passed_over, _IDLE_SECONDS)):
            for connection in list(connections)[:_IDLE_LOOKS]:
                connection.count()
                if connection.flow.last_seconds < now_seconds - limit:
                    self._evict(connection, Eviction.IDLE)
                else:
                    connections.move_to_end(connection)


_DUMP_COMMANDS = {b"\x00\x12", b"\x00\x15", b"\x00\x1e"}
# So many flows a tick are looked at for having gone idle.
_IDLE_LOOKS = 16


def _shown(address: object, port: int) -> str:
    text = str(address)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
