"""What may become of a connection before a monitor sees it: cut, torn, doubled, reordered, lost, one-sided, reused.

Every case is made of a recorded connection by a seed, so that it can be made again.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from monitor.segments import ACK, CONTROL_FLAGS, FIN, SYN, Segment
from tests.monitor.matrix.connections import MODULUS, Connection, noise_of
from tests.monitor.matrix.truth import end_of_answers, end_of_login
from wire.login import SSL_REQUEST_BYTES, SSLRequest

MTU_PAYLOAD_BYTES = 1448
JUMBO_PAYLOAD_BYTES = 8948
LARGEST_PAYLOAD_BYTES = 65483
# What a snap length of 96 leaves behind the headers of Ethernet, IPv4 and TCP with timestamps.
SNAPPED_PAYLOAD_BYTES = 30
TINY_LIMIT_BYTES = 12_000
LARGE_BYTES = 1_000_000


@dataclass(frozen=True)
class Part:
    """A connection, and what of it a case holds.

    Attributes:
        connection: as recorded.
        segments: what is left, in the order in which it is seen.
        first: the sequence number of each direction's first byte, here.
    """

    connection: Connection
    segments: list[Segment] = field(repr=False)
    first: dict[bytes, int] = field(repr=False)


@dataclass(frozen=True)
class Case:
    """What a monitor is given.

    Attributes:
        derivation: what was done.
        parts: connections one behind the other; more than one where ports are used again.
        any_port: whether the monitor is not told which port is the server's.
    """

    derivation: str
    parts: tuple[Part, ...]
    any_port: bool = False

    @property
    def name(self) -> str:
        return f"{' then '.join(part.connection.name for part in self.parts)}, {self.derivation}"


def cases_of(connection: Connection, others: Sequence[Connection], factor: int) -> Iterator[Case]:
    """All cases of a connection, the same each time.

    Args:
        connection: as recorded.
        others: whose ports may be used again by it, and that may use its.
        factor: how many of each kind, 1 for few.
    """
    noise = noise_of(f"{connection.name} {factor}")
    few, many = (2, 4) if connection.payload_bytes > LARGE_BYTES else (4 * factor, 10 * factor)
    yield _case(connection, "as it was", connection.segments)
    yield _case(connection, "as it was, any port", connection.segments, any_port=True)
    yield Case("numbers that wrap", (wrapped(connection, noise),))
    if connection.truth.is_mysql_in_the_clear and all(connection.both):
        yield Case("asks for TLS and goes on in the clear", (pretending(connection),))
    for number, (name, kept) in enumerate(partial_views(connection, few, many, noise)):
        yield _case(connection, name, kept, any_port=number % 5 == 4)
    for name, kept in other_segments(connection, few, noise):
        yield _case(connection, name, kept)
    for name, kept in mishaps(connection, few, noise):
        yield _case(connection, name, kept)
    for _ in range(many):
        yield _case(connection, *several_mishaps(connection, noise))
    for other in noise.sample(others, min(few, len(others))):
        yield reused(connection, other, noise)


def _case(connection: Connection, derivation: str, kept: Iterable[Segment], *, any_port: bool = False) -> Case:
    return Case(derivation, (Part(connection, list(kept), dict(connection.first_sequences)),), any_port)


Derived = tuple[str, list[Segment]]  # what was done, and what is left


def partial_views(connection: Connection, few: int, many: int, noise: random.Random) -> Iterator[Derived]:
    """Seen from some place on, up to some place, from one side, through a keyhole."""
    segments = list(connection.segments)
    for at in cut_places(segments, many, noise):
        yield f"from segment {at} on", segments[at:]
    for _ in range(many):
        yield from_within(segments, noise)
    for at in noise.sample(range(1, len(segments)), min(few, len(segments) - 1)):
        yield f"up to segment {at}", segments[:at]
    yield from one_sided(connection, many, noise)
    with_data = [segment for segment in segments if segment.payload]
    for segment in noise.sample(with_data, min(many, len(with_data))):
        yield f"one segment alone, of {len(segment.payload)} bytes", [segment]
    yield "a snap length of 96", snapped(segments)
    yield "a snap length of 96 from the middle on", snapped(segments[len(segments) // 2 :])


def other_segments(connection: Connection, few: int, noise: random.Random) -> Iterator[Derived]:
    """The same bytes, in other segments."""
    for size in sizes(connection):
        yield f"segments of {size} bytes", resized(connection.segments, itertools.repeat(size).__next__)
    for _ in range(few):
        yield "segments of random sizes", randomly_resized(connection.segments, noise)


def mishaps(connection: Connection, few: int, noise: random.Random) -> Iterator[Derived]:
    """What networks and captures do, one thing at a time."""
    segments = connection.segments
    for _ in range(few):
        yield "duplicates", doubled(segments, noise)
        yield "retransmissions cut otherwise", retransmitted(segments, noise)
        yield "reordered", reordered(segments, noise)
    for share in (0.03, 0.1, 0.3, 0.6):
        for _ in range(max(1, few // 2)):
            yield f"{share:.0%} lost", lossy(segments, share, noise)
            yield f"{share:.0%} of MTU-sized lost", lossy(mtu_sized(segments), share, noise)


def cut_places(segments: list[Segment], many: int, noise: random.Random) -> list[int]:
    """All early ones, and some of the later."""
    early = min(len(segments), 2 * many)
    later = range(early, len(segments))
    return [*range(1, early), *sorted(noise.sample(later, min(many, len(later))))]


def from_within(segments: list[Segment], noise: random.Random) -> Derived:
    """The monitor joins in the middle of a segment's bytes."""
    at = noise.choice([number for number, segment in enumerate(segments) if segment.payload])
    segment = segments[at]
    skipped = noise.randrange(len(segment.payload))
    return f"from byte {skipped} of segment {at} on", [
        part_of(segment, skipped, len(segment.payload)),
        *segments[at + 1 :],
    ]


def one_sided(connection: Connection, many: int, noise: random.Random) -> Iterator[Derived]:
    for who, key in (("client", connection.client_key), ("server", connection.server_key)):
        side = [segment for segment in connection.segments if segment.key == key]
        data_only = [segment for segment in side if segment.payload]
        yield f"the {who}'s side", side
        yield f"the {who}'s side without its SYN", [segment for segment in side if not segment.flags & CONTROL_FLAGS]
        for _ in range(many if data_only else 0):
            name, kept = from_within(side, noise)
            if noise.random() < 0.5:
                kept = randomly_resized(kept, noise)
                name += ", of random sizes"
            yield f"the {who}'s side {name}", kept


def sizes(connection: Connection) -> list[int]:
    if connection.payload_bytes > LARGE_BYTES:
        return [MTU_PAYLOAD_BYTES]
    tiny = [1, 3] if connection.payload_bytes <= TINY_LIMIT_BYTES else []
    return [*tiny, 100, MTU_PAYLOAD_BYTES, JUMBO_PAYLOAD_BYTES]


def part_of(segment: Segment, start: int, end: int) -> Segment:
    """Some of a segment's bytes, as a segment."""
    flags = segment.flags if end == len(segment.payload) else segment.flags & ~FIN
    sequence = (segment.sequence + start) % MODULUS
    payload = segment.payload[start:end]
    return Segment(segment.key, sequence, segment.acknowledgement, flags, payload, len(payload), segment.time_seconds)


class Sizes(Protocol):
    """Says how large the next segment is."""

    def __call__(self) -> int:
        """In bytes, at least one."""


def resized(segments: Iterable[Segment], size: Sizes) -> list[Segment]:
    """What was sent in a row by one side, cut anew."""
    made: list[Segment] = []
    for segment in segments:
        if not segment.payload:
            made.append(segment)
            continue
        at = 0
        while at < len(segment.payload):
            end = min(len(segment.payload), at + size())
            made.append(part_of(segment, at, end))
            at = end
    return made


def joined(segments: Iterable[Segment], limit: int) -> list[Segment]:
    """What follows upon each other is one segment, as offloads make it."""
    made: list[Segment] = []
    for segment in segments:
        last = made[-1] if made else None
        if (
            last is not None
            and last.payload
            and segment.payload
            and segment.key == last.key
            and (last.sequence + len(last.payload)) % MODULUS == segment.sequence
            and len(last.payload) + len(segment.payload) <= limit
            and not last.flags & CONTROL_FLAGS
        ):
            payload = last.payload + segment.payload
            made[-1] = Segment(
                last.key,
                last.sequence,
                segment.acknowledgement,
                segment.flags,
                payload,
                len(payload),
                last.time_seconds,
            )
        else:
            made.append(segment)
    return made


def randomly_resized(segments: Sequence[Segment], noise: random.Random) -> list[Segment]:
    total = sum(len(segment.payload) for segment in segments)
    most = noise.choice([20, 200, 1000, 5000]) if total < LARGE_BYTES else 60_000
    together = joined(
        [segment for segment in segments if segment.payload or segment.flags & CONTROL_FLAGS], LARGEST_PAYLOAD_BYTES
    )
    return resized(together, lambda: noise.randint(1, most))


def mtu_sized(segments: Sequence[Segment]) -> list[Segment]:
    return resized(segments, lambda: MTU_PAYLOAD_BYTES)


def doubled(segments: Sequence[Segment], noise: random.Random) -> list[Segment]:
    """Some come twice, at once (as on `any`) or later."""
    made: list[Segment] = []
    late: list[Segment] = []
    for segment in segments:
        made.append(segment)
        if noise.random() < 0.4:
            (made if noise.random() < 0.5 else late).append(segment)
        if late and noise.random() < 0.3:
            made.append(late.pop(0))
    return made


def retransmitted(segments: Sequence[Segment], noise: random.Random) -> list[Segment]:
    """Some are sent again, together with the one before."""
    made: list[Segment] = []
    before: dict[bytes, Segment] = {}
    for segment in segments:
        made.append(segment)
        last = before.get(segment.key)
        if segment.payload:
            if last is not None and noise.random() < 0.4:
                again = joined([last, segment], LARGEST_PAYLOAD_BYTES * 2)
                if len(again) == 1:
                    payload = again[0].payload
                    start = noise.randrange(len(payload))
                    made.append(part_of(again[0], start, noise.randint(start + 1, len(payload))))
            before[segment.key] = segment
    return made


def reordered(segments: Sequence[Segment], noise: random.Random) -> list[Segment]:
    """Each may fall behind by a few; not the first of a direction, before which nothing is known to be missing."""
    seen: set[bytes] = set()
    places: list[tuple[float, int]] = []
    for number, segment in enumerate(segments):
        is_first = segment.key not in seen
        if segment.payload:
            seen.add(segment.key)
        places.append((number if is_first else number + noise.uniform(0, 3.5), number))
    return [segments[number] for _, number in sorted(places)]


def lossy(segments: Sequence[Segment], share: float, noise: random.Random) -> list[Segment]:
    """Each is lost with this probability; with a direction's first go its late copies, before which nothing is known
    to be missing."""
    kept: list[Segment] = []
    first: dict[bytes, int] = {}
    for segment in segments:
        if noise.random() < share:
            continue
        if segment.payload or segment.flags & SYN:
            distance = (segment.sequence - first.setdefault(segment.key, segment.sequence)) % MODULUS
            if distance >= MODULUS // 2:
                continue
        kept.append(segment)
    return kept


def snapped(segments: Iterable[Segment]) -> list[Segment]:
    return [
        Segment(
            segment.key, segment.sequence, segment.acknowledgement, segment.flags,
            segment.payload[:SNAPPED_PAYLOAD_BYTES], len(segment.payload), segment.time_seconds,
        )
        for segment in segments
    ]  # fmt: skip


def several_mishaps(connection: Connection, noise: random.Random) -> Derived:
    """Several mishaps at once."""
    segments = list(connection.segments)
    done: list[str] = []
    if noise.random() < 0.6:
        name, segments = from_within(segments, noise)
        done.append(name)
    if noise.random() < 0.3:
        key = noise.choice([connection.client_key, connection.server_key])
        segments = [segment for segment in segments if segment.key == key]
        done.append("one side")
    if noise.random() < 0.7:
        segments = randomly_resized(segments, noise)
        done.append("random sizes")
    if noise.random() < 0.5:
        segments = doubled(segments, noise)
        done.append("duplicates")
    if noise.random() < 0.5:
        share = noise.choice([0.02, 0.1, 0.3])
        segments = lossy(segments, share, noise)
        done.append(f"{share:.0%} lost")
    if noise.random() < 0.5:
        segments = reordered(segments, noise)
        done.append("reordered")
    return f"mishaps {noise.randrange(10**6)}: {'; '.join(done)}", segments


def shifted(segments: Iterable[Segment], connection: Connection, shifts: dict[bytes, int]) -> list[Segment]:
    """Other initial sequence numbers."""
    client, server = connection.client_key, connection.server_key
    peer = {client: server, server: client}
    return [
        Segment(
            segment.key, (segment.sequence + shifts[segment.key]) % MODULUS,
            (segment.acknowledgement + shifts[peer[segment.key]]) % MODULUS,
            segment.flags, segment.payload, segment.payload_bytes, segment.time_seconds,
        )
        for segment in segments
    ]  # fmt: skip


def wrapped(connection: Connection, noise: random.Random) -> Part:
    """Both directions' numbers pass 2^32 within the connection."""
    first: dict[bytes, int] = {}
    shifts: dict[bytes, int] = {}
    for key, data in connection.sent.items():
        first[key] = (MODULUS - noise.randint(0, max(1, len(data) - 1))) % MODULUS
        shifts[key] = (first[key] - connection.first_sequences[key]) % MODULUS
    return Part(connection, shifted(connection.segments, connection, shifts), first)


def pretending(connection: Connection) -> Part:
    """A request for TLS goes before the login, which then is in the clear all the same."""
    asked, answered = map(bytearray, connection.both)
    request = bytes([SSL_REQUEST_BYTES, 0, 0, 1]) + SSLRequest.for_login(bytes(asked[4:]))
    greeting_bytes = 4 + int.from_bytes(answered[:3], "little")
    for data, start, end in ((asked, 0, end_of_login(asked)), (answered, greeting_bytes, end_of_answers(answered))):
        at = start
        while at < end:
            data[at + 3] += 1
            at += 4 + int.from_bytes(data[at : at + 3], "little")
    key, first = connection.client_key, dict(connection.first_sequences)
    content = {key: asked, connection.server_key: answered}
    later = shifted(connection.segments, connection, {key: len(request), connection.server_key: 0})
    made: list[Segment] = []
    for before, segment in zip(connection.segments, later, strict=True):
        if before.flags & SYN:
            made.append(before)
            continue
        at = (before.sequence - first[segment.key]) % MODULUS
        segment.payload = bytes(content[segment.key][at : at + len(segment.payload)])
        if segment.key == key and segment.payload and at == 0:
            made.append(
                Segment(key, before.sequence, before.acknowledgement, ACK, request, len(request), before.time_seconds)
            )
        made.append(segment)
    first[key] = (first[key] + len(request)) % MODULUS
    return Part(connection, made, first)


def reused(former: Connection, latter: Connection, noise: random.Random) -> Case:
    """The second connection has the addresses and ports of the first, whose end is not always seen."""
    sides = {latter.client_key: former.client_key, latter.server_key: former.server_key}
    moved = [
        Segment(
            sides[segment.key], segment.sequence, segment.acknowledgement, segment.flags, segment.payload,
            segment.payload_bytes, former.segments[-1].time_seconds + 5 + number / 1000,
        )
        for number, segment in enumerate(latter.segments)
    ]  # fmt: skip
    first = {sides[key]: number for key, number in latter.first_sequences.items()}
    ended = noise.random() < 0.5
    kept = (
        list(former.segments) if ended else [s for s in former.segments if not s.flags & CONTROL_FLAGS or s.flags & SYN]
    )
    successor = Connection(latter.scenario, latter.number, latter.truth, tuple(moved))
    ending = "" if ended else " without an end"
    return Case(
        f"its ports used again{ending}",
        (Part(former, kept, dict(former.first_sequences)), Part(successor, moved, first)),
    )
