"""One TCP segment as it passed: what every source of packets is decoded to, and all that detection is given.

A direction's key is the addresses and ports as they stand on the wire, one behind the other: source address,
destination address, source port, destination port, in network order. That is 12 bytes for IPv4 and 36 for IPv6, and
in a packet without options or extension headers it is one slice of the frame.
"""

import ipaddress
from dataclasses import dataclass

IPV4_KEY_BYTES = 12
IPV6_KEY_BYTES = 36

# RFC 9293, section 3.1.
FIN = 0x01
SYN = 0x02
RST = 0x04
ACK = 0x10
CONTROL_FLAGS = FIN | SYN | RST


@dataclass(slots=True)
class Segment:
    """One TCP segment.

    Attributes:
        key: the direction's key, see above.
        sequence: number of the first payload byte, or of the SYN.
        acknowledgement: the next byte that the sender expects; means nothing without the flag ACK.
        flags: of the TCP header.
        payload: what was captured of it.
        payload_bytes: how much was sent; more than `payload` has where the capture cuts packets off.
        time_seconds: when it passed, since the epoch.
    """

    key: bytes
    sequence: int
    acknowledgement: int
    flags: int
    payload: bytes
    payload_bytes: int
    time_seconds: float


def reversed_key(key: bytes) -> bytes:
    """The key of the other direction."""
    address_bytes = (len(key) - 4) // 2
    return key[address_bytes:-4] + key[:address_bytes] + key[-2:] + key[-4:-2]


def source_port(key: bytes) -> int:
    """The port that the direction comes from."""
    return int.from_bytes(key[-4:-2])


def destination_port(key: bytes) -> int:
    """The port that the direction goes to."""
    return int.from_bytes(key[-2:])


def source_address(key: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that the direction comes from."""
    return ipaddress.ip_address(key[: (len(key) - 4) // 2])


def destination_address(key: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that the direction goes to."""
    return ipaddress.ip_address(key[(len(key) - 4) // 2 : -4])
