"""What stands in the clear in a capture: an independent, simple look, not Binlock's own monitor.

Reads classic pcap files of Ethernet packets. TCP payloads are put in sequence order per direction, what was
sent twice is taken once, and a gap separates what stands on its two sides.
"""

import dataclasses
import ipaddress
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ETHERNET_HEADER = 14
ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLANS = 0x0800, 0x86DD, (0x8100, 0x88A8)
IPPROTO_TCP = 6
IPV6_EXTENSIONS = (0, 43, 60)  # hop-by-hop, routing, destination options: 8 bytes times (length + 1)
FLAG_SYN = 0x02


@dataclasses.dataclass(frozen=True)
class Segment:
    """One TCP segment."""

    source: str  # "address:port", an IPv6 address in brackets
    destination: str
    sequence: int
    syn: bool
    payload: bytes


@dataclasses.dataclass(frozen=True)
class Stream:
    """One direction of one connection, as runs of bytes with gaps between them."""

    source: str
    destination: str
    runs: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """How many bytes of payload were captured."""
        return sum(map(len, self.runs))


@dataclasses.dataclass(frozen=True)
class Hit:
    """A needle, and the direction in which it was seen first: "address:port" of sender and receiver."""

    needle: bytes
    source: str
    destination: str


def clear_text_hits(pcap: Path, needles: Iterable[bytes]) -> list[Hit]:
    """Where each needle stands readable: one hit for each direction of a connection that has it."""
    wanted = list(needles)
    return [
        Hit(needle, stream.source, stream.destination)
        for stream in tcp_streams(pcap)
        for needle in wanted
        if any(needle in run for run in stream.runs)
    ]


def tcp_streams(pcap: Path) -> list[Stream]:
    """Every direction of every TCP connection in a capture, in order of its first segment."""
    directions: dict[tuple[str, str], list[list[Segment]]] = {}
    for segment in read_segments(pcap):
        connections = directions.setdefault((segment.source, segment.destination), [])
        # A SYN with another sequence number is a new connection between the same ports.
        reused = segment.syn and connections and segment.sequence != connections[-1][0].sequence
        if not connections or reused:
            connections.append([])
        connections[-1].append(segment)
    return [
        Stream(source, destination, _assemble(segments))
        for (source, destination), connections in directions.items()
        for segments in connections
    ]


def _assemble(segments: Sequence[Segment]) -> tuple[bytes, ...]:
    """The payloads in sequence order, without what was sent twice; a new run after each gap."""
    first = segments[0].sequence
    offset = 0  # of the segment before, counted from the first: the sequence number wraps, this does not
    placed: list[tuple[int, bytes]] = []
    for segment in segments:
        distance = (segment.sequence + segment.syn - first - offset) & 0xFFFFFFFF
        offset += distance - (1 << 32) if distance >= 1 << 31 else distance
        if segment.payload:
            placed.append((offset, segment.payload))
    placed.sort(key=lambda item: item[0])
    runs: list[bytearray] = []
    end = 0
    for start, payload in placed:
        if not runs or start > end:
            runs.append(bytearray())
            end = start
        if start + len(payload) > end:
            runs[-1] += payload[end - start :]
            end = start + len(payload)
    return tuple(map(bytes, runs))


def read_segments(pcap: Path) -> Iterator[Segment]:
    """The TCP segments of a capture, in the order in which they were captured.

    Raises:
        ValueError: not a classic pcap file of Ethernet packets.
    """
    with pcap.open("rb") as file:
        header = file.read(24)
        order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}.get(header[:4])
        if order is None or struct.unpack(f"{order}I", header[20:24])[0] != 1:
            raise ValueError(f"{pcap} is not a classic pcap file of Ethernet packets")
        while len(record := file.read(16)) == 16:
            _, _, captured, _ = struct.unpack(f"{order}IIII", record)
            segment = _parse_ethernet(file.read(captured))
            if segment is not None:
                yield segment


def _parse_ethernet(packet: bytes) -> Segment | None:
    position = ETHERNET_HEADER
    kind = int.from_bytes(packet[12:14])
    while kind in ETHERTYPE_VLANS:
        kind = int.from_bytes(packet[position + 2 : position + 4])
        position += 4
    if kind == ETHERTYPE_IPV4:
        header_length = (packet[position] & 0x0F) * 4
        total = int.from_bytes(packet[position + 2 : position + 4])
        if packet[position + 9] != IPPROTO_TCP:
            return None
        source, destination = packet[position + 12 : position + 16], packet[position + 16 : position + 20]
        return _parse_tcp(packet[position + header_length : position + total], source, destination)
    if kind == ETHERTYPE_IPV6:
        total = int.from_bytes(packet[position + 4 : position + 6])
        protocol = packet[position + 6]
        source, destination = packet[position + 8 : position + 24], packet[position + 24 : position + 40]
        rest = packet[position + 40 : position + 40 + total]
        while protocol in IPV6_EXTENSIONS:
            protocol, rest = rest[0], rest[8 * (rest[1] + 1) :]
        return _parse_tcp(rest, source, destination) if protocol == IPPROTO_TCP else None
    return None


def _parse_tcp(segment: bytes, source: bytes, destination: bytes) -> Segment:
    source_port, destination_port, sequence = struct.unpack("!HHI", segment[:8])
    return Segment(
        _endpoint(source, source_port),
        _endpoint(destination, destination_port),
        sequence,
        bool(segment[13] & FLAG_SYN),
        segment[(segment[12] >> 4) * 4 :],
    )


def _endpoint(address: bytes, port: int) -> str:
    text = str(ipaddress.ip_address(address))
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"
