"""The segments of one direction, put in order: bytes, and the holes between them.

What is sent twice is taken once. What comes early is held until what was missing comes, until the other side has
acknowledged it (then it was there, and was not captured), or until too much is held. A hole is reported and never
filled. Where the beginning was not seen the first segments are held too: they may have come in another order.

RFC 9293, section 3.4: sequence numbers count modulo 2**32.
"""

from dataclasses import dataclass

HELD_LIMIT_BYTES = 128 * 1024
HELD_LIMIT_SEGMENTS = 96
# So many segments behind a hole whose bytes are acknowledged say that it will not be filled.
_PATIENCE_SEGMENTS = 8
_HALF, _MODULUS = 1 << 31, 1 << 32
# So many segments tell in which order a stream that is joined goes on; and how far one may come before another.
_JOINING_SEGMENTS = 4
_JOINING_BYTES = 1 << 20
# No retransmission lies so far back: it is another connection.
_FAR_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Hole:
    """So many bytes were not captured."""

    length: int


Piece = bytes | Hole


class StreamAssembler:
    """Puts one direction in order.

    Attributes:
        next_offset: of the next byte, counted from the first; None before there is one.
        held_bytes: how much came early and waits.
        strays: how many segments in a row were of no place near: another connection between the same ports.
    """

    __slots__ = ("_acknowledged", "_base_sequence", "_held", "_waiting_since", "held_bytes", "next_offset", "strays")

    def __init__(self) -> None:
        self.next_offset: int | None = None
        self.held_bytes = 0
        self.strays = 0
        self._base_sequence = 0
        self._held: dict[int, tuple[bytes, int]] = {}  # by offset: what was captured, and how much was sent
        self._acknowledged = 0
        self._waiting_since = 0.0

    def begin(self, sequence: int) -> None:
        """Says which number the first byte has."""
        self._base_sequence = sequence
        self.next_offset = 0

    @property
    def next_sequence(self) -> int | None:
        """The number of the next byte; None before there was any."""
        offset = self.next_offset
        if offset is None and self._held:
            offset = max(start + length for start, (_, length) in self._held.items())
        return None if offset is None else (self._base_sequence + offset) % _MODULUS

    @property
    def is_waiting(self) -> bool:
        """Whether there is a hole that may still be filled."""
        return bool(self._held)

    def push(self, sequence: int, payload: bytes, payload_bytes: int, time_seconds: float) -> list[Piece]:
        """Takes a segment's payload; returns what can be read on now.

        Args:
            sequence: the number of its first byte.
            payload: what was captured of it.
            payload_bytes: how much was sent.
            time_seconds: when it passed.
        """
        if self.next_offset is None:
            return self._join(sequence, payload, payload_bytes, time_seconds)
        offset = self._offset_of(sequence)
        next_offset = self.next_offset
        if abs(offset - next_offset) > _FAR_BYTES:
            self.strays += 1
            return []
        self.strays = 0
        if offset > next_offset:
            return self._hold(offset, payload, payload_bytes, time_seconds)
        pieces = self._advance(offset, payload, payload_bytes)
        self._take_held(pieces)
        return pieces

    def acknowledge(self, acknowledgement: int) -> None:
        """Takes notice of what the other side has received."""
        if self._held:
            self._acknowledged = max(self._acknowledged, self._offset_of(acknowledgement))

    def give_up(self, before_seconds: float) -> list[Piece]:
        """Reports the hole that has been waited for since then or earlier, and what is behind it."""
        if not self._held or self._waiting_since > before_seconds:
            return []
        return self._skip_hole()

    def flush(self) -> list[Piece]:
        """Everything that is held, with its holes."""
        pieces: list[Piece] = []
        while self._held:
            pieces += self._skip_hole()
        return pieces

    def _offset_of(self, sequence: int) -> int:
        next_offset = self.next_offset or 0
        distance = (sequence - self._base_sequence - next_offset) % _MODULUS
        return next_offset + (distance - _MODULUS if distance >= _HALF else distance)

    def _join(self, sequence: int, payload: bytes, payload_bytes: int, time_seconds: float) -> list[Piece]:
        """Takes one of the first segments of a stream whose beginning was not seen."""
        if not self._held:
            self._base_sequence = sequence - _JOINING_BYTES
        offset = self._offset_of(sequence)
        if abs(offset - _JOINING_BYTES) > _JOINING_BYTES:
            self.strays += 1
            return []
        pieces = self._hold(offset, payload, payload_bytes, time_seconds)
        if not pieces and len(self._held) >= _JOINING_SEGMENTS:
            pieces = self._skip_hole()
        return pieces

    def _hold(self, offset: int, payload: bytes, payload_bytes: int, time_seconds: float) -> list[Piece]:
        if not self._held:
            self._waiting_since = time_seconds
        former = self._held.get(offset)
        if former is None or len(former[0]) < len(payload):
            self.held_bytes += len(payload) - (len(former[0]) if former is not None else 0)
            self._held[offset] = (payload, payload_bytes)
        is_lost = len(self._held) >= _PATIENCE_SEGMENTS and self._acknowledged >= min(self._held)
        if is_lost or self.held_bytes > HELD_LIMIT_BYTES or len(self._held) > HELD_LIMIT_SEGMENTS:
            return self._skip_hole()
        return []

    def _skip_hole(self) -> list[Piece]:
        first = min(self._held)
        pieces: list[Piece] = [] if self.next_offset is None else [Hole(first - self.next_offset)]
        self.next_offset = first
        self._take_held(pieces)
        return pieces

    def _take_held(self, pieces: list[Piece]) -> None:
        while self._held:
            offset = min(self._held)
            if offset > (self.next_offset or 0):
                return
            payload, payload_bytes = self._held.pop(offset)
            self.held_bytes -= len(payload)
            pieces += self._advance(offset, payload, payload_bytes)

    def _advance(self, offset: int, payload: bytes, payload_bytes: int) -> list[Piece]:
        next_offset = self.next_offset or 0
        known = next_offset - offset
        if payload_bytes <= known:
            return []
        self.next_offset = offset + payload_bytes
        pieces: list[Piece] = []
        if len(payload) > known:
            pieces.append(payload[known:])
        missing = payload_bytes - max(known, len(payload))
        if missing:
            pieces.append(Hole(missing))
        return pieces
