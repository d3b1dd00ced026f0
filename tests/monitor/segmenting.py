"""Conversations as segments: what both sides say, in order, with sequence numbers that are right."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from monitor.segments import ACK, FIN, RST, SYN, Segment, reversed_key
from wire.framing import encode_packet

CLIENT, SERVER = "client", "server"
CLIENT_KEY = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + (40000).to_bytes(2) + (3306).to_bytes(2)
MODULUS = 1 << 32

Said = tuple[str, bytes]


def packet(payload: bytes, sequence_id: int = 0) -> bytes:
    return encode_packet(payload, sequence_id)


class Conversation:
    """Makes segments; the clock goes on by a millisecond for each."""

    def __init__(self, *, key: bytes = CLIENT_KEY, first: tuple[int, int] = (1000, 4_294_967_000)) -> None:
        self.keys = {CLIENT: key, SERVER: reversed_key(key)}
        self.next = {CLIENT: first[0], SERVER: first[1]}
        self.now_seconds = 1_700_000_000.0

    def segment(self, side: str, payload: bytes = b"", flags: int = ACK) -> Segment:
        other = SERVER if side == CLIENT else CLIENT
        made = Segment(
            self.keys[side], self.next[side], self.next[other], flags, payload, len(payload), self.now_seconds
        )
        self.next[side] = (self.next[side] + len(payload) + bool(flags & (SYN | FIN))) % MODULUS
        self.now_seconds += 0.001
        return made

    def open(self) -> list[Segment]:
        return [self.segment(CLIENT, flags=SYN), self.segment(SERVER, flags=SYN | ACK), self.segment(CLIENT)]

    def say(self, said: Iterable[Said], largest: int = 1448) -> list[Segment]:
        return [
            self.segment(side, data[start : start + largest])
            for side, data in said
            for start in range(0, len(data), largest)
        ]

    def close(self) -> list[Segment]:
        return [self.segment(side, flags=FIN | ACK) for side in (CLIENT, SERVER)]

    def reset(self) -> list[Segment]:
        return [self.segment(SERVER, flags=RST)]


def torn(segments: Sequence[Segment], chance: random.Random, largest: int) -> list[Segment]:
    """The same bytes in other segments."""
    pieces = []
    for segment in segments:
        start = 0
        while start < len(segment.payload):
            size = chance.randint(1, largest)
            payload = segment.payload[start : start + size]
            pieces.append(
                Segment(
                    segment.key, (segment.sequence + start) % MODULUS, segment.acknowledgement, segment.flags, payload,
                    len(payload), segment.time_seconds,
                )
            )  # fmt: skip
            start += size
        if not segment.payload:
            pieces.append(segment)
    return pieces
