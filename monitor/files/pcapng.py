"""The capture file of Wireshark: blocks, among which are packets of several interfaces, each with its own link type.

The block types and options are those of draft-ietf-opsawg-pcapng, sections 4.1 to 4.4 and appendix A.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

from monitor.files.pieces import Damage, Packet, Pieces

SECTION_HEADER = b"\x0a\x0d\x0d\x0a"
_SECTION = 0x0A0D0D0A
_INTERFACE = 1
_OLD_PACKET = 2
_SIMPLE_PACKET = 3
_ENHANCED_PACKET = 6
_BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}

_OPTION_RESOLUTION = 9
_OPTION_OFFSET = 14
_LEAST_BLOCK_BYTES = 12
# Decryption secrets and the names of a large site fit in; more is no length.
_MOST_BLOCK_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class _Interface:
    link_type: int
    snap_bytes: int
    # Of a time stamp's unit, and what is to be added to each.
    unit_seconds: float = 1e-6
    offset_seconds: int = 0


class Pcapng:
    """A capture file that begins with a section header."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._interfaces: list[_Interface] = []
        self._last_seconds = 0.0
        self._set_byte_order("<")

    def _set_byte_order(self, order: str) -> None:
        self._order = order
        self._block = struct.Struct(f"{order}II")
        self._length = struct.Struct(f"{order}I")
        self._enhanced = struct.Struct(f"{order}IIIII")
        self._old = struct.Struct(f"{order}HHIIII")

    def __iter__(self) -> Iterator[Packet]:
        """The packets.

        Raises:
            Damage: what comes next is no block.
        """
        pieces = self._pieces
        while pieces.has(_LEAST_BLOCK_BYTES):
            data, start = pieces.data, pieces.position
            if data[start : start + 4] == SECTION_HEADER:
                self._begin_section(data[start + 8 : start + 12])
            kind, length = self._block.unpack_from(data, start)
            if length % 4 or not _LEAST_BLOCK_BYTES <= length <= _MOST_BLOCK_BYTES:
                raise Damage(f"a block of {length} bytes")
            if not pieces.has(length):
                break
            data, start = pieces.data, pieces.position
            end = start + length - 4
            if self._length.unpack_from(data, end)[0] != length:
                raise Damage("a block whose two lengths differ")
            packet = self._packet(kind, data, start + 8, end)
            pieces.position = end + 4
            if packet is not None:
                yield packet
        pieces.end()

    def _begin_section(self, magic: bytes) -> None:
        order = _BYTE_ORDERS.get(magic)
        if order is None:
            raise Damage("a section without a byte order")
        if order != self._order:
            self._set_byte_order(order)
        self._interfaces = []

    def _packet(self, kind: int, data: bytes | mmap, start: int, end: int) -> Packet | None:
        try:
            if kind == _ENHANCED_PACKET:
                number, high, low, captured, wire_bytes = self._enhanced.unpack_from(data, start)
                start += 20
            elif kind == _OLD_PACKET:
                number, _, high, low, captured, wire_bytes = self._old.unpack_from(data, start)
                start += 20
            elif kind == _SIMPLE_PACKET:
                return self._simple_packet(data, start, end)
            else:
                if kind == _INTERFACE:
                    self._interfaces.append(self._interface(data, start, end))
                return None
            interface = self._interfaces[number]
        except (struct.error, IndexError):
            raise Damage("a packet block of an unknown interface, or too short") from None
        if start + captured > end:
            raise Damage("a packet longer than its block")
        self._last_seconds = (high << 32 | low) * interface.unit_seconds + interface.offset_seconds
        return interface.link_type, self._last_seconds, data[start : start + captured], wire_bytes

    def _simple_packet(self, data: bytes | mmap, start: int, end: int) -> Packet:
        """A packet of the first interface, without a time: then it is that of the packet before."""
        interface = self._interfaces[0]
        (wire_bytes,) = self._length.unpack_from(data, start)
        captured = min(wire_bytes, interface.snap_bytes or wire_bytes, end - start - 4)
        return interface.link_type, self._last_seconds, data[start + 4 : start + 4 + captured], wire_bytes

    def _interface(self, data: bytes | mmap, start: int, end: int) -> _Interface:
        link_type, _, snap_bytes = struct.unpack_from(f"{self._order}HHI", data, start)
        unit_seconds, offset_seconds = 1e-6, 0
        start += 8
        while start + 4 <= end:
            code, length = struct.unpack_from(f"{self._order}HH", data, start)
            value = data[start + 4 : min(start + 4 + length, end)]
            if code == _OPTION_RESOLUTION and length == 1:
                # A negative power of ten, or of two with the highest bit.
                unit_seconds = 2.0 ** -(value[0] & 0x7F) if value[0] & 0x80 else 10.0 ** -value[0]
            elif code == _OPTION_OFFSET and length == 8:
                (offset_seconds,) = struct.unpack(f"{self._order}q", value)
            start += 4 + (length + 3) // 4 * 4
        return _Interface(link_type, snap_bytes, unit_seconds, offset_seconds)
