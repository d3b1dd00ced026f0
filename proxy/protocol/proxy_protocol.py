"""The PROXY protocol, versions 1 and 2: who really connects, said by a load balancer in front, and to a source behind.

Bytes in, values out; the reading and sending is done elsewhere. Specification: "The PROXY protocol, versions 1 & 2"
(proxy-protocol.txt of HAProxy), sections 2.1 and 2.2. Only the addresses are used; TLVs are passed over.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from proxy.configuration.addresses import IpAddress
from proxy.configuration.config import ProxyProtocolVersion
from wire.errors import MalformedPacket

_SIGNATURE_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_HEADER_V2_BYTES = 16
# Section 2.1: the longest line is "PROXY UNKNOWN" with two IPv6 addresses, 107 bytes with its end.
_LINE_LIMIT_BYTES = 107
# Section 2.2: a receiver must take the addresses and may bound the rest. Certificates as TLVs stay far below this.
_BODY_LIMIT_BYTES = 8192
_PROXY_COMMAND, _LOCAL_COMMAND = 0x21, 0x20
_TCP4, _TCP6 = 0x11, 0x21
_LINE_FAMILIES: dict[str, type[ipaddress.IPv4Address | ipaddress.IPv6Address]] = {
    "TCP4": ipaddress.IPv4Address,
    "TCP6": ipaddress.IPv6Address,
}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """A connection's two ends."""

    source: tuple[IpAddress, int]
    destination: tuple[IpAddress, int]


class PreambleDecoder:
    """Takes one PROXY header from the start of a connection and not a byte more.

    Feed it exactly `bytes_needed` bytes until that is 0; then `endpoints` is valid.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_complete = False
        self._endpoints: Endpoints | None = None

    @property
    def endpoints(self) -> Endpoints | None:
        """What the header says; None for LOCAL and UNKNOWN: the load balancer speaks for itself."""
        return self._endpoints

    def bytes_needed(self) -> int:
        """How many bytes to read next; 0 when the header is complete."""
        if self._is_complete:
            return 0
        have = len(self._buffer)
        if have < len(_SIGNATURE_V2):
            # The shortest line of version 1 is longer than this, so reading so far takes nothing that follows.
            return len(_SIGNATURE_V2) - have
        if not self._buffer.startswith(_SIGNATURE_V2):
            return 1
        if have < _HEADER_V2_BYTES:
            return _HEADER_V2_BYTES - have
        return _HEADER_V2_BYTES + int(struct.unpack_from(">H", self._buffer, 14)[0]) - have

    def feed(self, data: bytes) -> None:
        """Takes the next bytes.

        Raises:
            MalformedPacket: this is no PROXY header.
        """
        self._buffer += data
        if len(self._buffer) < len(_SIGNATURE_V2):
            return
        if self._buffer.startswith(_SIGNATURE_V2):
            self._feed_v2()
        elif self._buffer.startswith(b"PROXY "):
            self._feed_v1()
        else:
            raise MalformedPacket("a load balancer's connection begins without a PROXY header")

    def _feed_v1(self) -> None:
        if not self._buffer.endswith(b"\r\n"):
            if len(self._buffer) >= _LINE_LIMIT_BYTES:
                raise MalformedPacket("a PROXY line without an end")
            return
        words = bytes(self._buffer[:-2]).decode("ascii", errors="replace").split(" ")
        self._is_complete = True
        if words[1] == "UNKNOWN":
            return
        address_class = _LINE_FAMILIES.get(words[1])
        if address_class is None or len(words) != 6 or "%" in words[2] + words[3]:
            raise MalformedPacket("a PROXY line of another form than TCP4, TCP6 or UNKNOWN")
        try:
            source, destination = address_class(words[2]), address_class(words[3])
            source_port, destination_port = (_port(word) for word in words[4:])
        except ValueError as error:
            raise MalformedPacket(f"a PROXY line: {error}") from error
        self._endpoints = Endpoints((source, source_port), (destination, destination_port))

    def _feed_v2(self) -> None:
        if len(self._buffer) < _HEADER_V2_BYTES:
            return
        command, family, length = struct.unpack_from(">BBH", self._buffer, 12)
        if length > _BODY_LIMIT_BYTES or command not in {_PROXY_COMMAND, _LOCAL_COMMAND}:
            raise MalformedPacket("a PROXY header of an unknown version or command, or too long")
        if len(self._buffer) < _HEADER_V2_BYTES + length:
            return
        self._is_complete = True
        if command == _LOCAL_COMMAND or family not in {_TCP4, _TCP6}:
            return
        size = 4 if family == _TCP4 else 16
        if length < 2 * size + 4:
            raise MalformedPacket("a PROXY header shorter than its addresses")
        body = bytes(self._buffer[_HEADER_V2_BYTES:])
        source, destination = ipaddress.ip_address(body[:size]), ipaddress.ip_address(body[size : 2 * size])
        source_port, destination_port = struct.unpack_from(">HH", body, 2 * size)
        self._endpoints = Endpoints((source, source_port), (destination, destination_port))


def serialize_preamble(endpoints: Endpoints, version: ProxyProtocolVersion) -> bytes:
    """The header that tells the next hop who connects; both addresses are written in the wider family of the two."""
    (source, source_port), (destination, destination_port) = endpoints.source, endpoints.destination
    if source.version != destination.version:
        source, destination = _widened(source), _widened(destination)
    if version == "v1":
        family = "TCP4" if source.version == 4 else "TCP6"
        return f"PROXY {family} {source} {destination} {source_port} {destination_port}\r\n".encode()
    body = source.packed + destination.packed + struct.pack(">HH", source_port, destination_port)
    family_byte = _TCP4 if source.version == 4 else _TCP6
    return _SIGNATURE_V2 + struct.pack(">BBH", _PROXY_COMMAND, family_byte, len(body)) + body


def _widened(address: IpAddress) -> IpAddress:
    return address if address.version == 6 else ipaddress.IPv6Address(f"::ffff:{address}")


def _port(word: str) -> int:
    if not word.isascii() or not word.isdigit() or int(word) > 65535:
        raise ValueError(f"{word!r} is no port")
    return int(word)
