"""Connections that have sent no byte yet, and those that have just ended.

Both are small and bounded, since a flood or a scan makes any number of them.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from monitor.segments import ACK, Segment, reversed_key

_MODULUS = 1 << 32
# A segment of another connection between the same ports lies elsewhere in the sequence.
_NEAR_BYTES = 1 << 24
# How long a late packet is taken for one of a connection that has ended.
_ENDED_SECONDS = 5.0


@dataclass(slots=True)
class Opening:
    """A handshake, or as much of one as was seen.

    Attributes:
        client_sequence: of the SYN.
        server_sequence: of its answer; None if none was seen.
        packets: how many were seen.
        first_seconds: when the first one passed.
    """

    client_sequence: int
    server_sequence: int | None
    packets: int
    first_seconds: float

    def holds(self, segment: Segment, *, is_client: bool) -> bool:
        """Whether a segment can be of the connection that begins so."""
        first = self.client_sequence if is_client else self.server_sequence
        return first is None or (segment.sequence - first) % _MODULUS < _NEAR_BYTES


class Openings:
    """Handshakes by the key of the side that began.

    Attributes:
        total: how many were seen.
        forgotten: how many had to make room for others.
    """

    def __init__(self, limit: int) -> None:
        self.total = 0
        self.forgotten = 0
        self._limit = limit
        self._by_key: OrderedDict[bytes, Opening] = OrderedDict()

    def __iter__(self) -> Iterator[tuple[bytes, Opening]]:
        return iter(list(self._by_key.items()))

    def take(self, segment: Segment) -> None:
        """Takes a SYN, of either side."""
        is_answer = bool(segment.flags & ACK)
        key = reversed_key(segment.key) if is_answer else segment.key
        client_sequence = (segment.acknowledgement - 1) % _MODULUS if is_answer else segment.sequence
        opening = self._by_key.get(key)
        if opening is not None and opening.client_sequence == client_sequence:
            opening.packets += 1
        else:
            opening = self._add(key, Opening(client_sequence, None, 1, segment.time_seconds))
        if is_answer:
            opening.server_sequence = segment.sequence

    def pop(self, key: bytes) -> Opening | None:
        """Takes out the opening whose client has this key."""
        return self._by_key.pop(key, None)

    def _add(self, key: bytes, opening: Opening) -> Opening:
        self.total += 1
        self._by_key.pop(key, None)
        if len(self._by_key) >= self._limit:
            self._by_key.popitem(last=False)
            self.forgotten += 1
        self._by_key[key] = opening
        return opening


class Endings:
    """Connections that have ended a moment ago, so that a late packet does not make a flow of its own."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_key: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def add(self, key: bytes, next_sequence: int, time_seconds: float) -> None:
        """Remembers one direction.

        Args:
            key: of the direction.
            next_sequence: the number behind its last byte.
            time_seconds: when it ended.
        """
        self._by_key.pop(key, None)
        self._by_key[key] = (next_sequence, time_seconds)
        if len(self._by_key) > self._limit:
            self._by_key.popitem(last=False)

    def has_sent(self, segment: Segment) -> bool:
        """Whether a segment repeats what such a connection has sent."""
        ended = self._by_key.get(segment.key)
        if ended is None or segment.time_seconds > ended[1] + _ENDED_SECONDS:
            return False
        return (ended[0] - segment.sequence - segment.payload_bytes) % _MODULUS < _NEAR_BYTES

    def forget(self, now_seconds: float) -> None:
        """Drops those that have ended long enough ago."""
        while self._by_key and next(iter(self._by_key.values()))[1] < now_seconds - _ENDED_SECONDS:
            self._by_key.popitem(last=False)
