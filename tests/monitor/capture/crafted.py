"""Frames made by hand, header by header."""

import ipaddress
import struct

ETHERNET = bytes.fromhex("020000000002020000000001")
ACK, PSH_ACK, SYN, SYN_ACK, FIN_ACK, RST = 0x10, 0x18, 0x02, 0x12, 0x11, 0x04
SOURCE, REPLICA = "10.0.0.1", "10.0.0.2"
SOURCE6, REPLICA6 = "fd00::1", "fd00::2"


def ethernet(packet: bytes, *tags: int) -> bytes:
    """A frame around an IP packet, behind VLAN tags with these protocol numbers."""
    protocol = {4: 0x0800, 6: 0x86DD}[packet[0] >> 4]
    return ETHERNET + b"".join(struct.pack("!HH", tag, 5) for tag in tags) + struct.pack("!H", protocol) + packet


def padded(frame: bytes) -> bytes:
    """As long as the shortest that Ethernet carries."""
    return frame.ljust(60, b"\xaa")


def ipv4(
    protocol: int,
    payload: bytes,
    *,
    source: str = SOURCE,
    destination: str = REPLICA,
    options: bytes = b"",
    fragment: int = 0x4000,
    total_bytes: int | None = None,
) -> bytes:
    """A packet; `fragment` is the field of flags and offset."""
    header_bytes = 20 + len(options)
    total = header_bytes + len(payload) if total_bytes is None else total_bytes
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed
    fixed = struct.pack("!BBHHHBBH", 0x40 | header_bytes // 4, 0, total, 1, fragment, 64, protocol, 0)
    return fixed + addresses + options + payload


def ipv6(
    protocol: int,
    payload: bytes,
    *,
    source: str = SOURCE6,
    destination: str = REPLICA6,
    payload_bytes: int | None = None,
) -> bytes:
    """A packet whose next header is `protocol`."""
    length = len(payload) if payload_bytes is None else payload_bytes
    addresses = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed
    return struct.pack("!IHBB", 6 << 28, length, protocol, 64) + addresses + payload


def tcp(
    source_port: int = 3306,
    destination_port: int = 40000,
    payload: bytes = b"",
    *,
    flags: int = PSH_ACK,
    options: bytes = b"",
) -> bytes:
    """A segment."""
    fixed = struct.pack("!HHIIBBHHH", source_port, destination_port, 1, 1, (20 + len(options)) << 2, flags, 512, 0, 0)
    return fixed + options + payload


def udp(destination_port: int, payload: bytes = b"", *, source_port: int = 50000) -> bytes:
    """A datagram."""
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def key(
    source_port: int = 3306, destination_port: int = 40000, *, source: str = SOURCE, destination: str = REPLICA
) -> bytes:
    """The direction's key."""
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return addresses + struct.pack("!HH", source_port, destination_port)
