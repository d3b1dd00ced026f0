"""Directions that are passed over are counted right, whatever of them was seen."""

from __future__ import annotations

from monitor.tracking.settled import SettledDirection, SettledDirections
from tests.monitor.segmenting import CLIENT_KEY


def test_bytes_are_counted_by_how_far_sequence_numbers_advance() -> None:
    direction = SettledDirection(CLIENT_KEY, (1 << 32) - 100)
    direction.pass_over((1 << 32) - 100, 50, 1.0)
    direction.pass_over((1 << 32) - 100, 50, 2.0)  # once more
    direction.pass_over(900, 100, 3.0)  # wrapped, and much was skipped
    direction.pass_over(500, 100, 4.0)  # late
    assert (direction.packets, direction.bytes, direction.last_seconds) == (4, 1100, 4.0)
    assert direction.next_sequence == 1000


def test_a_direction_that_had_sent_nothing_begins_with_its_first_segment() -> None:
    direction = SettledDirection(CLIENT_KEY, None)
    direction.pass_over(7_000_000, 30, 1.0)
    assert (direction.bytes, direction.next_sequence) == (30, 7_000_030)


def test_a_change_is_seen_by_its_generation() -> None:
    directions = SettledDirections()
    directions.add(SettledDirection(CLIENT_KEY, 0))
    assert directions.generation == 1
    assert directions.remove(CLIENT_KEY) is not None
    assert directions.remove(CLIENT_KEY) is None
    assert (directions.generation, len(directions)) == (2, 0)
