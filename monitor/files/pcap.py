"""The classic capture file: a header, then packets of one link type."""

import struct
from collections.abc import Iterator

from monitor.files.pieces import Damage, Packet, Pieces

# In the byte order of whoever wrote. The third has more in its record headers (A. Kuznetzov's patch to libpcap).
_MICROSECONDS = 0xA1B2C3D4
_NANOSECONDS = 0xA1B23C4D
_MODIFIED = 0xA1B2CD34
PCAP_MAGICS = {
    magic.to_bytes(4, order): (order, magic)
    for magic in (_MICROSECONDS, _NANOSECONDS, _MODIFIED)
    for order in ("little", "big")
}
_HEADER_BYTES = 24
_RECORD_BYTES = 16
_MODIFIED_RECORD_BYTES = 24
_VERSION = 2
# libpcap writes no more than 256 KiB a packet. More than this is no length.
_MOST_FRAME_BYTES = 1 << 24


class Pcap:
    """A classic capture file.

    Attributes:
        pieces: where it is read from, behind the header.
        byte_order: "<" or ">" for `struct`.
        link_type: of every packet.
        record_bytes: what stands before each packet.
        second: how many units of the fraction there are in one.
    """

    def __init__(self, pieces: Pieces) -> None:
        """Reads the header.

        Raises:
            Damage: it makes no sense.
        """
        order, magic = PCAP_MAGICS[pieces.peek(4)]
        self.pieces = pieces
        self.byte_order = "<" if order == "little" else ">"
        self.record_bytes = _MODIFIED_RECORD_BYTES if magic == _MODIFIED else _RECORD_BYTES
        self.second = 1e9 if magic == _NANOSECONDS else 1e6
        header = struct.unpack(f"{self.byte_order}IHHIIII", pieces.take(_HEADER_BYTES))
        if header[1] != _VERSION:
            raise Damage(f"version {header[1]} of the format is unknown")
        # The upper half says whether a checksum of the frame is behind each.
        self.link_type = header[6] & 0xFFFF
        self._record = struct.Struct(f"{self.byte_order}IIII")

    def __iter__(self) -> Iterator[Packet]:
        """The packets.

        Raises:
            Damage: what comes next is no packet.
        """
        while (packet := self.next_packet()) is not None:
            yield packet

    def next_packet(self) -> Packet | None:
        """One packet; None at the end.

        Raises:
            Damage: what comes next is no packet.
        """
        pieces = self.pieces
        if pieces.has(self.record_bytes):
            seconds, fraction, captured, wire_bytes = self._record.unpack_from(pieces.data, pieces.position)
            if captured > _MOST_FRAME_BYTES:
                raise Damage(f"a packet of {captured} bytes")
            if pieces.has(self.record_bytes + captured):
                start = pieces.position + self.record_bytes
                pieces.position = start + captured
                frame = pieces.data[start : pieces.position]
                return self.link_type, seconds + fraction / self.second, frame, wire_bytes
        pieces.end()
        return None
