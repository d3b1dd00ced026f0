"""Passing over settled packets in bulk, for capture files.

Most packets of a capture belong to flows that are settled. Here one costs less than half a microsecond: what is needed of
its record is unpacked in one go from the piece of the file that is in memory, a look-up says whether its direction is
settled, and its place is noted. Time and sequence numbers are looked at once for each run of packets, at its end.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from monitor.headers import TCP, Frame, find_ip
from monitor.pcap import Pcap
from monitor.segments import CONTROL_FLAGS
from monitor.settled import SettledDirections

_HALF = 1 << 31
_MASK = (1 << 32) - 1
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
        order, start = pcap.byte_order, shape.ip_start
        record = f"{order}I4xI{pcap.record_bytes - 12}x{start}x"
        if shape.version == 4:
            self._packet = struct.Struct(f"{record}B5xHxB2x12s8xBB")
            self._first = 0x45
            self._fragment_mask = 0x3FFF if order == ">" else 0xFF3F
            self._header_bytes = start + 20
            self._length = struct.Struct(f">{pcap.record_bytes + start + 2}xH")
            self._fixed_bytes = 20
        else:
            self._packet = struct.Struct(f"{record}B3xHBx36s8xBB")
            self._first = 0x60
            self._fragment_mask = 0  # a fragment has another header before that of TCP
            self._header_bytes = start + 40
            self._length = struct.Struct(f">{pcap.record_bytes + start + 4}xH")
            self._fixed_bytes = 0
        self._sequence = struct.Struct(f">{pcap.record_bytes + self._header_bytes + 4}xI4xB")
        self._record = struct.Struct(f"{order}IIII")
        self._settled = settled
        self._pcap = pcap

    def skim(self, until_second: int) -> int:
        """Passes over packets up to the first that wants a closer look, or is not wholly in memory.

        Args:
            until_second: the first packet from this second on is left as well.

        Returns:
            How many there were.
        """
        pieces = self._pcap.pieces
        data, position, end = pieces.data, pieces.position, len(pieces.data)
        unpack, record_bytes = self._packet.unpack_from, self._pcap.record_bytes
        first_wanted, fragment_mask, header_bytes = self._first, self._fragment_mask, self._header_bytes
        last_position = end - self._packet.size
        places: dict[bytes, list[int]] = {}
        # The methods of those lists, which saves looking each up for every packet.
        notes: dict[bytes, Callable[[int], None]] = {}
        watched = set()
        count = 0
        while position <= last_position:
            seconds, captured, first, fragment, protocol, key, offset, flags = unpack(data, position)
            behind = position + record_bytes + captured
            if (
                protocol != TCP
                or first != first_wanted
                or fragment & fragment_mask
                or flags & CONTROL_FLAGS
                or behind > end
                or seconds >= until_second
            ):
                break
            note = notes.get(key)
            if note is None:
                direction = self._settled.get(key)
                if direction is None:
                    break
                if direction.watches_commands:
                    watched.add(key)
                places[key] = []
                note = notes[key] = places[key].append
            # What has a payload may be a command, and is looked at one by one.
            if watched and key in watched and captured != header_bytes + (offset >> 2 & 0x3C):
                break
            note(position)
            position = behind
            count += 1
        pieces.position = position
        for key, positions in places.items():
            self._count(key, data, positions)
        return count

    def _count(self, key: bytes, data: bytes, positions: list[int]) -> None:
        if not positions:
            return
        direction = self._settled[key]
        direction.packets += len(positions)
        seconds, fraction, _, _ = self._record.unpack_from(data, positions[-1])
        direction.last_seconds = seconds + fraction / self._pcap.second
        farthest = 0
        for position in positions[-_PLACES:]:
            (length,) = self._length.unpack_from(data, position)
            sequence, offset = self._sequence.unpack_from(data, position)
            if length == 0:
                length = self._record.unpack_from(data, position)[3] - self._header_bytes + self._fixed_bytes
            advance = sequence + length - self._fixed_bytes - (offset >> 2 & 0x3C) - direction.next_sequence & _MASK
            if farthest < advance < _HALF:
                farthest = advance
        direction.bytes += farthest
        direction.next_sequence = direction.next_sequence + farthest & _MASK
