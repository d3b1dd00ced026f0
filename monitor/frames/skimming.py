"""Passing over settled packets in bulk, for capture files.

Most packets of a capture belong to flows that are settled. Here one costs less than half a microsecond: what is needed
of its record is unpacked in one go from the piece of the file that is in memory, a look-up says whether its direction
is settled, and its place is noted. Times and sequence numbers are looked at once for each run of packets, at its end.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap

from monitor.files.pcap import Pcap
from monitor.frames.headers import TCP, Frame, find_ip
from monitor.segments import CONTROL_FLAGS
from monitor.tracking.settled import SettledDirection, SettledDirections

_HALF = 1 << 31
_MASK = (1 << 32) - 1
# More fragments, and where this one belongs, as the field reads in each byte order.
_FRAGMENT_MASK = {"<": 0xFF3F, ">": 0x3FFF}
# Segments overtake one another by a few places.
_PLACES = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the IP header begins in a frame, and its version."""

    ip_start: int
    version: int


def shape_of(frame: Frame, link_type: int) -> Shape:
    """The shape of a frame that holds an IP packet."""
    start = find_ip(frame, link_type)
    return Shape(start, frame[start] >> 4)


class Skimmer:
    """Passes over the packets of one shape in one file."""

    def __init__(self, settled: SettledDirections, pcap: Pcap, shape: Shape) -> None:
        order, before = pcap.byte_order, pcap.record_bytes + shape.ip_start
        # The lowest byte of the second, and the length of what was captured.
        record = f"<B7xI{before - 12}x" if order == "<" else f">3xB4xI{before - 12}x"
        if shape.version == 4:
            # Fragmentation, protocol, key, flags. There are no options where the key of a settled direction is in its
            # place.
            self._packet = struct.Struct(f"{record}6xHxB2x12s9xB")
            self._fragment_mask = _FRAGMENT_MASK[order]
            ip_bytes, length_at, not_in_length = 20, 2, 20
        else:
            # A fragment has another header before that of TCP.
            self._packet = struct.Struct(f"{record}4xHBx36s9xB")
            self._fragment_mask = 0
            ip_bytes, length_at, not_in_length = 40, 4, 0
        self._not_in_length = not_in_length
        self._header_bytes = shape.ip_start + ip_bytes
        self._length = struct.Struct(f">{before + length_at}xH")
        self._sequence = struct.Struct(f">{before + ip_bytes + 4}xI4xB")
        self._record = struct.Struct(f"{order}IIII")
        self._settled = settled
        self._pcap = pcap

    def skim(self) -> int:
        """Passes over packets up to the first that wants a closer look, belongs to another second, or is not all there.

        Returns:
            How many there were.
        """
        pieces, record_bytes = self._pcap.pieces, self._pcap.record_bytes
        data, position = pieces.data, pieces.position
        unpack, fragment_mask = self._packet.unpack_from, self._fragment_mask
        last_position = len(data) - self._packet.size
        if position > last_position:
            return 0
        places: dict[bytes, list[int]] = {}
        # The methods of those lists, which saves looking each up for every packet.
        notes: dict[bytes, Callable[[int], None]] = {}
        this_second = unpack(data, position)[0]
        key = b""
        while position <= last_position:
            second, captured, fragment, protocol, key, flags = unpack(data, position)
            if protocol != TCP or flags & CONTROL_FLAGS or fragment & fragment_mask or second != this_second:
                break
            try:
                notes[key](position)
            except KeyError:
                direction = self._settled.get(key)
                if direction is None:
                    break
                if not direction.watches_commands:
                    notes[key] = places.setdefault(key, []).append
                elif captured != self._header_bytes + (self._sequence.unpack_from(data, position)[1] >> 2 & 0x3C):
                    # What has a payload may be a command.
                    break
                places.setdefault(key, []).append(position)
            position += record_bytes + captured
        if position > len(data):
            position = places[key].pop()
        pieces.position = position
        for key, positions in places.items():
            if positions:
                self._count(self._settled[key], data, positions)
        return sum(map(len, places.values()))

    def _count(self, direction: SettledDirection, data: bytes | mmap, positions: list[int]) -> None:
        direction.packets += len(positions)
        seconds, fraction, _, _ = self._record.unpack_from(data, positions[-1])
        direction.last_seconds = seconds + fraction / self._pcap.second
        if direction.next_sequence is None:
            direction.next_sequence = self._sequence.unpack_from(data, positions[0])[0]
        next_sequence: int = direction.next_sequence
        farthest = 0
        for position in positions[-_PLACES:]:
            (length,) = self._length.unpack_from(data, position)
            if length == 0:
                length = self._record.unpack_from(data, position)[3] - self._header_bytes + self._not_in_length
            sequence, offset = self._sequence.unpack_from(data, position)
            payload_bytes = length - self._not_in_length - (offset >> 2 & 0x3C)
            advance = (sequence + payload_bytes - next_sequence) & _MASK
            if farthest < advance < _HALF:
                farthest = advance
        direction.bytes += farthest
        direction.next_sequence = (next_sequence + farthest) & _MASK
