"""Recorded connections: what truly passed, before anything is done to it."""

from __future__ import annotations

import enum
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from monitor.segments import ACK, FIN, RST, SYN, Segment, destination_port, reversed_key, source_port

__all__ = ["ACK", "FIN", "MODULUS", "RST", "SYN", "Connection", "Segment", "Truth", "payload_runs", "read_connections"]

MODULUS = 1 << 32
ETHERNET_HEADER_BYTES = 14
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
IPPROTO_TCP = 6


class Truth(enum.StrEnum):
    """What a connection is, by how it was made."""

    REPLICATION = "replication in the clear"
    # A library that asks what any client might ask, and then dumps.
    LATE_REPLICATION = "client that becomes a replica, in the clear"
    CLIENT = "client in the clear"
    CLIENT_WITH_EVENTS = "client in the clear that carries events as data"
    TLS = "TLS"
    FAILED_TLS = "TLS that fails"
    OTHER = "neither MySQL nor TLS"
    OTHER_THEN_TLS = "not MySQL, then TLS"

    @property
    def is_mysql_in_the_clear(self) -> bool:
        return self.is_replication or self in {Truth.CLIENT, Truth.CLIENT_WITH_EVENTS}

    @property
    def is_replication(self) -> bool:
        return self in {Truth.REPLICATION, Truth.LATE_REPLICATION}


@dataclass(frozen=True)
class Connection:
    """One TCP connection as recorded, from its SYN on.

    Attributes:
        scenario: by whose name it goes.
        number: counts up from 0 within the scenario.
        truth: what it is.
        segments: of both directions, in the order in which they passed.
    """

    scenario: str
    number: int
    truth: Truth
    segments: tuple[Segment, ...] = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.scenario} #{self.number}"

    @property
    def client_key(self) -> bytes:
        return self.segments[0].key

    @property
    def server_key(self) -> bytes:
        return reversed_key(self.client_key)

    @property
    def server_port(self) -> int:
        return destination_port(self.client_key)

    @cached_property
    def first_sequences(self) -> dict[bytes, int]:
        """The sequence number of each direction's first byte."""
        first: dict[bytes, int] = {}
        for segment in self.segments:
            if segment.flags & SYN and segment.key not in first:
                first[segment.key] = (segment.sequence + 1) % MODULUS
        return first

    @cached_property
    def sent(self) -> dict[bytes, bytes]:
        """All that each direction carried. The recordings have no loss, so it is whole."""
        whole: dict[bytes, bytes] = {}
        for key in (self.client_key, self.server_key):
            runs = payload_runs(self.segments, key, self.first_sequences.get(key, 0))
            if len(runs) > 1 or (runs and runs[0][0] != 0):
                raise ValueError(f"{self.name}: the recording has gaps: {[(at, len(data)) for at, data in runs]}")
            whole[key] = runs[0][1] if runs else b""
        return whole

    @property
    def both(self) -> tuple[bytes, bytes]:
        """What the client sent, and what the server did."""
        return self.sent[self.client_key], self.sent[self.server_key]

    @property
    def payload_bytes(self) -> int:
        return sum(map(len, self.sent.values()))

    @property
    def carries_data(self) -> bool:
        return any(segment.payload for segment in self.segments)


def payload_runs(segments: tuple[Segment, ...] | list[Segment], key: bytes, first: int) -> list[tuple[int, bytes]]:
    """What of one direction is there: where in it each run of bytes begins, and the run."""
    placed = [
        ((segment.sequence + bool(segment.flags & SYN) - first) % MODULUS, segment.payload)
        for segment in segments
        if segment.key == key and segment.payload
    ]
    # A keepalive carries a byte before the first one.
    placed = [(at, data) for at, data in placed if at < MODULUS // 2]
    placed.sort(key=lambda item: item[0])
    runs: list[tuple[int, bytearray]] = []
    for at, data in placed:
        end = runs[-1][0] + len(runs[-1][1]) if runs else -1
        if at > end:
            runs.append((at, bytearray(data)))
        elif at + len(data) > end:
            runs[-1][1].extend(data[end - at :])
    return [(at, bytes(data)) for at, data in runs]


def noise_of(seed: int | str) -> random.Random:
    """The same numbers each time."""
    return random.Random(seed)  # noqa: S311 - no secret


def read_connections(pcap: Path, server_port: int, scenario: str, truths: tuple[Truth, ...]) -> list[Connection]:
    """The connections to a port in a recording, in the order of their SYNs; the last truth holds for all that follow.

    Raises:
        ValueError: Something else than Ethernet, IP and TCP.
    """
    open_ones: dict[bytes, list[Segment]] = {}
    found: list[list[Segment]] = []
    for segment in read_segments(pcap):
        if server_port not in {source_port(segment.key), destination_port(segment.key)}:
            continue
        if segment.flags & (SYN | ACK) == SYN:
            started: list[Segment] = []
            found.append(started)
            open_ones[segment.key] = open_ones[reversed_key(segment.key)] = started
        if segment.key in open_ones:
            open_ones[segment.key].append(segment)
    connections = [
        Connection(scenario, number, truths[min(number, len(truths) - 1)], tuple(segments))
        for number, segments in enumerate(found)
    ]
    return [connection for connection in connections if connection.carries_data]


def read_segments(pcap: Path) -> Iterator[Segment]:
    """What `testbed.capture` has written: little-endian, microseconds, Ethernet, nothing cut off."""
    with pcap.open("rb") as file:
        file.read(24)
        while len(record := file.read(16)) == 16:
            seconds, microseconds, captured, _ = struct.unpack("=IIII", record)
            segment = _parse(file.read(captured), seconds + microseconds / 1e6)
            if segment is not None:
                yield segment


def _parse(frame: bytes, time_seconds: float) -> Segment | None:
    kind = int.from_bytes(frame[12:14])
    packet = frame[ETHERNET_HEADER_BYTES:]
    if kind == ETHERTYPE_IPV4 and packet[9] == IPPROTO_TCP:
        tcp = packet[(packet[0] & 0x0F) * 4 : int.from_bytes(packet[2:4])]
        addresses = packet[12:20]
    elif kind == ETHERTYPE_IPV6 and packet[6] == IPPROTO_TCP:
        tcp = packet[40 : 40 + int.from_bytes(packet[4:6])]
        addresses = packet[8:40]
    else:
        return None
    sequence, acknowledgement, offset, flags = struct.unpack_from("!IIBB", tcp, 4)
    payload = tcp[(offset >> 4) * 4 :]
    return Segment(addresses + tcp[:4], sequence, acknowledgement, flags & 0x3F, payload, len(payload), time_seconds)
