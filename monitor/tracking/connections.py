"""One connection that is being watched: looked into, or settled and only counted."""

from monitor.detection.inspector import FlowInspector
from monitor.segments import (
    ACK,
    FIN,
    RST,
    Segment,
    destination_address,
    destination_port,
    source_address,
    source_port,
)
from monitor.tracking.assembly import Hole, Piece, StreamAssembler
from monitor.tracking.settled import SettledDirection
from monitor.verdicts import Flow, Verdict

# Some segments in a row of another place: the connection is another one, and its beginning was not seen.
_MOST_STRAYS = 3
_DUMP_COMMANDS = {b"\x00\x12", b"\x00\x15", b"\x00\x1e"}


class Connection:
    """A flow, and what is needed to watch it. Its directions are numbered 0 and 1.

    Attributes:
        flow: what is said of it.
        keys: of the directions.
        inspector: judges it.
        first_sequences: of the SYN of each direction, where it was seen.
        settled: what is counted of each direction; None while the connection is looked into.
        reported: the verdict that was told of last.
        held_bytes: how much is held to look into it, brought up to date by who limits that.
        counted_bytes: how many of its bytes have been counted under a verdict.
    """

    __slots__ = (
        "_assemblers", "_finished", "_taken_bytes", "_taken_packets", "counted_bytes", "first_sequences", "flow",
        "held_bytes", "inspector", "keys", "reported", "settled",
    )  # fmt: skip

    def __init__(
        self, flow: Flow, keys: tuple[bytes, bytes], inspector: FlowInspector, sequences: tuple[int | None, int | None]
    ) -> None:
        """Begins.

        Args:
            flow: as yet without a verdict.
            keys: of the directions, the client's first as far as is known.
            inspector: of this flow.
            sequences: of the SYN of each direction, where it was seen.
        """
        self.flow = flow
        self.keys = keys
        self.inspector = inspector
        self.first_sequences = sequences
        self.settled: tuple[SettledDirection, SettledDirection] | None = None
        self.reported = Verdict.UNDECIDED
        self.held_bytes = 0
        self.counted_bytes = 0
        self._assemblers = (StreamAssembler(), StreamAssembler())
        self._finished = [False, False]
        self._taken_packets = self._taken_bytes = 0
        for assembler, sequence in zip(self._assemblers, sequences, strict=True):
            if sequence is not None:
                assembler.begin(sequence + 1)

    @property
    def is_waiting(self) -> bool:
        """Whether there is a hole that may still be filled."""
        first, second = self._assemblers
        return first.is_waiting or second.is_waiting

    @property
    def is_elsewhere(self) -> bool:
        """Whether its segments are of another place: of another connection, that is."""
        first, second = self._assemblers
        return first.strays >= _MOST_STRAYS or second.strays >= _MOST_STRAYS

    def look_into(self, direction: int, segment: Segment) -> None:
        """Takes a segment of a connection that is not settled."""
        flow = self.flow
        flow.packets += 1
        flow.bytes += segment.payload_bytes
        flow.last_seconds = segment.time_seconds
        if segment.flags & ACK:
            self._assemblers[1 - direction].acknowledge(segment.acknowledgement)
        if segment.payload_bytes:
            pieces = self._assemblers[direction].push(
                segment.sequence, segment.payload, segment.payload_bytes, segment.time_seconds
            )
            self._read(direction, pieces)

    def pass_over(self, direction: int, segment: Segment) -> bool:
        """Takes a segment of a settled connection.

        Returns:
            Whether it may be a command that changes the verdict.
        """
        if self.settled is None:
            return False
        settled = self.settled[direction]
        settled.pass_over(segment.sequence, segment.payload_bytes, segment.time_seconds)
        return settled.watches_commands and segment.payload[3:5] in _DUMP_COMMANDS

    def give_up_holes(self, before_seconds: float) -> None:
        """Reads on behind holes that have been waited for since then or earlier."""
        for direction in (0, 1):
            self._read(direction, self._assemblers[direction].give_up(before_seconds))

    def close(self, direction: int, segment: Segment) -> bool:
        """Takes a FIN or RST; says whether the connection is closed, so that only what was late can still come."""
        self._finished[direction] = True
        return bool(segment.flags & RST) or all(self._finished)

    def end(self) -> None:
        """Nothing more will come."""
        self.flow.is_over = True
        if self.settled is None:
            for direction in (0, 1):
                self._read(direction, self._assemblers[direction].flush())
            self.inspector.end()

    def settle(self) -> tuple[SettledDirection, SettledDirection]:
        """Stops looking into it; returns what is to be counted instead."""
        client = self.inspector.client_direction
        may_change = self.flow.verdict in {Verdict.PLAINTEXT_CLIENT, Verdict.UNDECIDED}
        first, second = (
            SettledDirection(
                key,
                self._assemblers[direction].next_sequence,
                watches_commands=may_change and client in {None, direction},
                last_seconds=self.flow.last_seconds,
            )
            for direction, key in enumerate(self.keys)
        )
        self.settled = (first, second)
        self._assemblers = (StreamAssembler(), StreamAssembler())
        self._taken_packets = self._taken_bytes = 0
        return self.settled

    def look_again(self) -> None:
        """Has it looked into from its next byte on."""
        self.count()
        self.settled = None
        self.inspector.look_again()

    def count(self) -> None:
        """Brings the flow's counts up to date with what was passed over."""
        if self.settled is None:
            return
        first, second = self.settled
        packets, size = first.packets + second.packets, first.bytes + second.bytes
        self.flow.packets += packets - self._taken_packets
        self.flow.bytes += size - self._taken_bytes
        self._taken_packets, self._taken_bytes = packets, size
        self.flow.last_seconds = max(self.flow.last_seconds, first.last_seconds, second.last_seconds)

    def holding_bytes(self) -> int:
        """How much is held to look into it, now."""
        first, second = self._assemblers
        return self.inspector.buffered_bytes + first.held_bytes + second.held_bytes

    def next_sequence(self, direction: int) -> int | None:
        """The number behind the last byte of a direction; None if it had none."""
        return (self._assemblers if self.settled is None else self.settled)[direction].next_sequence

    def turn_round(self) -> None:
        """Names client and server by what has turned out."""
        client = self.inspector.client_direction
        if client is not None:
            self.flow.client, self.flow.server = ends_of(self.keys[client])

    def _read(self, direction: int, pieces: list[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Hole):
                self.inspector.lose(direction, piece.length)
            else:
                self.inspector.feed(direction, piece)


CLOSING_FLAGS = FIN | RST


def ends_of(key: bytes) -> tuple[str, str]:
    """Where a direction comes from and goes to, "address:port" each."""
    return _shown(source_address(key), source_port(key)), _shown(destination_address(key), destination_port(key))


def _shown(address: object, port: int) -> str:
    text = str(address)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
