"""The gate that openings come through: closes upon a flood, looks again, and waits longer each time it was right."""

from monitor.capture.flood import FloodGate

START = 1_700_000_000.0
CALM, FLOOD = 1_000, 50_000


class Clock:
    """A gate that is judged each second."""

    def __init__(self) -> None:
        self.gate = FloodGate()
        self.now = START
        self.openings = 0
        self.gate.judge(0, self.now)

    def run(self, seconds: int, rate: int) -> list[tuple[int, bool]]:
        """When the gate moved, and whether it was closed then; while it is closed nothing comes in."""
        moves = []
        for second in range(seconds):
            self.now += 1
            self.openings += 0 if self.gate.is_closed else rate
            if self.gate.judge(self.openings, self.now):
                moves.append((second, self.gate.is_closed))
        return moves


def test_what_a_busy_server_sees_is_no_flood() -> None:
    clock = Clock()
    assert clock.run(100, 20_000) == []
    assert clock.gate.floods == 0


def test_a_large_count_at_the_start_is_no_rate() -> None:
    gate = FloodGate()
    assert not gate.judge(1_000_000, START)


def test_a_flood_closes_the_gate_and_its_end_leaves_it_open() -> None:
    clock = Clock()
    assert clock.run(1, FLOOD) == [(0, True)]
    assert clock.run(100, CALM) == [(4, False)]
    assert clock.gate.floods == 1


def test_the_pause_doubles_while_the_flood_lasts_up_to_a_minute() -> None:
    clock = Clock()
    moves = clock.run(300, FLOOD)
    closed = [second for second, is_closed in moves if is_closed]
    opened = [second for second, is_closed in moves if not is_closed]
    assert [end - start for start, end in zip(closed, opened, strict=False)][:6] == [5, 10, 20, 40, 60, 60]
    assert clock.gate.floods == 1


def test_after_a_calm_time_a_flood_is_another_and_the_pause_is_short_again() -> None:
    clock = Clock()
    clock.run(100, FLOOD)
    clock.run(300, CALM)
    assert clock.run(10, FLOOD) == [(0, True), (5, False), (6, True)]
    assert clock.gate.floods == 2
