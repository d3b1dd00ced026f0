"""Directions of flows whose verdict stands: they are counted by a look-up on raw bytes, and not looked into.

`SettledDirections` is what the two fast paths share with the flow table: user space asks it for every frame, and the
kernel is given its busiest keys to skip.
"""

from dataclasses import dataclass

_HALF = 1 << 31
_MASK = (1 << 32) - 1


@dataclass(slots=True, eq=False)
class SettledDirection:
    """One direction of a settled flow.

    Attributes:
        key: as in `monitor.segments`.
        watches_commands: whether a dump command in this direction would change the verdict, so that packets that could
            hold one are worth a look.
        packets: how many were seen since it was settled.
        bytes: by how much its sequence numbers have advanced since; so what the kernel skipped is counted too, and what
            was sent twice is not.
        next_sequence: the number behind the last payload byte seen; None before there was any.
        last_seconds: when the last packet passed.
    """

    key: bytes
    next_sequence: int | None
    watches_commands: bool = False
    packets: int = 0
    bytes: int = 0
    last_seconds: float = 0.0

    def pass_over(self, sequence: int, payload_bytes: int, time_seconds: float) -> None:
        """Counts a packet that is not looked into."""
        self.packets += 1
        self.last_seconds = time_seconds
        end = (sequence + payload_bytes) & _MASK
        if self.next_sequence is None:
            self.next_sequence = sequence & _MASK
        advance = (end - self.next_sequence) & _MASK
        if advance < _HALF:
            self.bytes += advance
            self.next_sequence = end


class SettledDirections(dict[bytes, SettledDirection]):
    """By key. `generation` changes whenever a key comes or goes, so that the kernel's list can be kept current."""

    __slots__ = ("generation",)

    def __init__(self) -> None:
        super().__init__()
        self.generation = 0

    def add(self, direction: SettledDirection) -> None:
        """Lets a direction be passed over."""
        self[direction.key] = direction
        self.generation += 1

    def remove(self, key: bytes) -> SettledDirection | None:
        """Has a direction looked into again."""
        direction = self.pop(key, None)
        if direction is not None:
            self.generation += 1
        return direction
