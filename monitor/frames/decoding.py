"""From frames to the flow table, by the shortest way each frame allows.

A packet of a settled flow is counted by a look-up on raw bytes. Of the rest, the common ones are parsed by hand, and
what is left goes through scapy's dissector.
"""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from monitor.files.recordings import Recording
from monitor.frames.headers import LINK_ETHERNET, TCP, Answer, Frame, find_ip, parse_ip
from monitor.frames.skimming import Shape, Skimmer, shape_of
from monitor.segments import CONTROL_FLAGS, Segment
from monitor.tracking.settled import SettledDirections

if TYPE_CHECKING:
    from monitor.scapy import Dissector

_ETHERNET_BYTES = 14
_IPV4_BYTES = 20
_IPV6_BYTES = 40
# The IP header and the TCP header up to the flags.
_ipv4 = struct.Struct(">2xH2xHxB2x12sI4xBB")
_ipv6 = struct.Struct(">4xHBx36sI4xBB")
_ipv4_unpack, _ipv6_unpack = _ipv4.unpack_from, _ipv6.unpack_from
_IPV4_LEAST_BYTES, _IPV6_LEAST_BYTES = _ipv4.size, _ipv6.size
_IPV4_FIRST = 0x45
_MORE_FRAGMENTS_OR_OFFSET = 0x3FFF
_LEAST_OFFSET = 0x50

# COM_BINLOG_DUMP, COM_REGISTER_SLAVE, COM_BINLOG_DUMP_GTID.
_REPLICATION_COMMANDS = frozenset({0x12, 0x15, 0x1E})
_COMMAND_POSITION = 4

_MOST_ERRORS_REPORTED = 5
_TICK_SECONDS = 0.25
_PACKETS_BETWEEN_PROGRESS = 1 << 16


class Table(Protocol):
    """What is needed of `monitor.tracking.flows.FlowTable`."""

    settled: SettledDirections

    def take(self, segment: Segment) -> None:
        """Takes a segment that is not passed over."""

    def tick(self, now_seconds: float) -> None:
        """Does what time demands."""


def _no_error(_error: Exception) -> None:
    pass


def _no_progress(_packets: int) -> None:
    pass


class Intake:
    """Takes frames and gives the flow table what it must see of them.

    Attributes:
        packets: how many frames there were.
        malformed: how many contradicted themselves.
        errors: how many met a defect in here or in the flow table, and were lost by it.
        dissected: how many went through scapy.
        datagrams_reassembled: how many IP packets were put together from fragments.
        datagrams_dropped: how many could not be.
    """

    def __init__(
        self, table: Table, *, ports: frozenset[int] | None, on_error: Callable[[Exception], None] = _no_error
    ) -> None:
        """Begins with nothing.

        Args:
            table: gets the segments.
            ports: one of a segment's two must be among them; None takes every port.
            on_error: is told of the first few exceptions.
        """
        self.packets = 0
        self.malformed = 0
        self.errors = 0
        self.dissected = 0
        self._table = table
        self._ports = ports
        self._on_error = on_error
        self._settled_by = table.settled.get
        self._dissector: Dissector | None = None

    @property
    def datagrams_reassembled(self) -> int:
        """See the class."""
        return self._dissector.fragments.reassembled if self._dissector else 0

    @property
    def datagrams_dropped(self) -> int:
        """See the class."""
        return self._dissector.fragments.dropped if self._dissector else 0

    def take(self, frame: Frame, link_type: int, time_seconds: float, wire_bytes: int) -> bool:
        """Takes one frame. It raises nothing: a packet that meets a defect costs that packet.

        Args:
            frame: what was captured of it; it may be a buffer that is used again.
            link_type: what it begins with, by libpcap's numbers.
            time_seconds: when it passed, since the epoch.
            wire_bytes: how long it was.

        Returns:
            Whether it was passed over.
        """
        self.packets += 1
        try:
            if link_type == LINK_ETHERNET and len(frame) > _ETHERNET_BYTES and frame[12] == 0x08 and frame[13] == 0:
                start = _ETHERNET_BYTES
            else:
                start = find_ip(frame, link_type)
            if start >= 0:
                if self._pass_over(frame, start, time_seconds, wire_bytes):
                    return True
                found = parse_ip(frame, start, time_seconds, wire_bytes, self._ports)
            else:
                found = Answer(start)
            if found is Answer.COMPLEX:
                found = self._dissect(frame, link_type, time_seconds)
            if isinstance(found, Segment):
                self._table.take(found)
            elif found is Answer.MALFORMED:
                self.malformed += 1
        except Exception as error:  # noqa: BLE001 - whatever a packet does, the next one is looked at
            self.errors += 1
            if self.errors <= _MOST_ERRORS_REPORTED:
                self._on_error(error)
        return False

    def _pass_over(  # noqa: PLR0911 - calls would take longer than the look-up
        self, frame: Frame, start: int, time_seconds: float, wire_bytes: int
    ) -> bool:
        """Counts a packet of a settled direction; False for one that wants a closer look."""
        captured = len(frame) - start
        if captured < _IPV4_LEAST_BYTES:
            return False
        first = frame[start]
        if first == _IPV4_FIRST:
            length, fragment, protocol, key, sequence, offset, flags = _ipv4_unpack(frame, start)
            direction = self._settled_by(key)
            if direction is None or fragment & _MORE_FRAGMENTS_OR_OFFSET:
                return False
            header_bytes = _IPV4_BYTES + (offset >> 4) * 4
            payload_bytes = (length or wire_bytes - start) - header_bytes
        elif first >> 4 == 6 and captured >= _IPV6_LEAST_BYTES:
            length, protocol, key, sequence, offset, flags = _ipv6_unpack(frame, start)
            direction = self._settled_by(key)
            if direction is None:
                return False
            header_bytes = _IPV6_BYTES + (offset >> 4) * 4
            payload_bytes = (length + _IPV6_BYTES if length else wire_bytes - start) - header_bytes
        else:
            return False
        if protocol != TCP or flags & CONTROL_FLAGS or payload_bytes < 0 or offset < _LEAST_OFFSET:
            return False
        if direction.watches_commands and payload_bytes > _COMMAND_POSITION:
            command = start + header_bytes + _COMMAND_POSITION
            if len(frame) > command and frame[command] in _REPLICATION_COMMANDS and frame[command - 1] == 0:
                return False
        direction.pass_over(sequence, payload_bytes, time_seconds)
        return True

    def _dissect(self, frame: Frame, link_type: int, time_seconds: float) -> Segment | Answer:
        if self._dissector is None:
            # Most captures need none, and scapy takes a quarter of a second to load.
            from monitor.scapy import Dissector  # noqa: PLC0415

            self._dissector = Dissector()
        self.dissected += 1
        found = self._dissector.dissect(frame, link_type, time_seconds)
        if isinstance(found, Segment) and self._ports is not None:
            ports = {int.from_bytes(found.key[-4:-2]), int.from_bytes(found.key[-2:])}
            if self._ports.isdisjoint(ports):
                return Answer.OTHER
        return found

    def take_all(self, recording: Recording, note_progress: Callable[[int], None] = _no_progress) -> None:
        """Takes every packet of a capture file, and has the table keep time by them.

        Args:
            recording: opened, and not read from.
            note_progress: called with the number of packets so far, now and then.

        Raises:
            RecordingError: the file is damaged. What came before was taken.
        """
        pcap, packets = recording.pcap, iter(recording)
        skimmers: dict[Shape, Skimmer] = {}
        skimmer: Skimmer | None = None
        next_tick_seconds = float("-inf")
        next_progress = self.packets + _PACKETS_BETWEEN_PROGRESS
        while True:
            if skimmer is not None:
                self.packets += skimmer.skim()
            packet = next(packets, None)
            if packet is None:
                return
            link_type, time_seconds, frame, wire_bytes = packet
            if time_seconds >= next_tick_seconds:
                self._table.tick(time_seconds)
                next_tick_seconds = time_seconds + _TICK_SECONDS
            is_passed_over = self.take(frame, link_type, time_seconds, wire_bytes)
            # Where one is passed over, the next may be as well.
            skimmer = None
            if is_passed_over and pcap is not None:
                shape = shape_of(frame, link_type)
                skimmer = skimmers.get(shape)
                if skimmer is None:
                    skimmer = skimmers[shape] = Skimmer(self._table.settled, pcap, shape)
            if self.packets >= next_progress:
                note_progress(self.packets)
                next_progress = self.packets + _PACKETS_BETWEEN_PROGRESS
