"""Bytes come out in order and once, and what is missing is said to be missing."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from monitor.tracking.assembly import HELD_LIMIT_BYTES, HELD_LIMIT_SEGMENTS, Hole, Piece, StreamAssembler

MODULUS = 1 << 32


def put_together(pieces: list[Piece], wholly: bytes) -> bytes:
    """The bytes of all pieces, with those of holes taken from `wholly`; fails where a piece has others."""
    position = 0
    for piece in pieces:
        if isinstance(piece, Hole):
            position += piece.length
        else:
            assert piece == wholly[position : position + len(piece)]
            position += len(piece)
    return wholly[:position]


def begun(sequence: int) -> StreamAssembler:
    assembler = StreamAssembler()
    assembler.begin(sequence)
    return assembler


segmentations = st.lists(st.integers(1, 40), min_size=1, max_size=40)


@given(sizes=segmentations, seed=st.integers(0, 1 << 32), first=st.integers(0, MODULUS - 1))
def test_any_order_with_duplicates_gives_the_same_bytes(sizes: list[int], seed: int, first: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    wholly = chance.randbytes(sum(sizes))
    cuts = [(sum(sizes[:index]), size) for index, size in enumerate(sizes)]
    # Each once or twice, none further away than what is held.
    sent = [cut for cut in cuts for _ in range(chance.choice((1, 1, 2)))]
    order = sorted(range(len(sent)), key=lambda index: index + chance.uniform(0, 12))
    assembler, pieces = begun(first), []
    for index in order:
        start, size = sent[index]
        pieces += assembler.push((first + start) % MODULUS, wholly[start : start + size], size, 0.0)
    assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == wholly
    assert not any(isinstance(piece, Hole) for piece in pieces)
    assert not assembler.is_waiting
    assert assembler.held_bytes == 0


@given(sizes=segmentations, seed=st.integers(0, 1 << 32), first=st.integers(0, MODULUS - 1))
def test_what_is_lost_is_a_hole_of_its_size(sizes: list[int], seed: int, first: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    wholly = chance.randbytes(sum(sizes))
    assembler, pieces = begun(first), []
    start, last_end = 0, 0
    for size in sizes:
        if chance.random() < 0.7:
            pieces += assembler.push((first + start) % MODULUS, wholly[start : start + size], size, 0.0)
            last_end = start + size
        start += size
    pieces += assembler.flush()
    assert len(put_together(pieces, wholly)) == last_end
    assert assembler.held_bytes == 0


@given(sizes=segmentations, seed=st.integers(0, 1 << 32), first=st.integers(0, MODULUS - 1))
def test_a_stream_that_is_joined_begins_with_the_first_of_its_first_segments(
    sizes: list[int], seed: int, first: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    wholly = chance.randbytes(sum(sizes))
    cuts = [(sum(sizes[:index]), size) for index, size in enumerate(sizes)]
    beginning = cuts[:3]
    chance.shuffle(beginning)
    assembler, pieces = StreamAssembler(), []
    for start, size in beginning + cuts[3:]:
        pieces += assembler.push((first + start) % MODULUS, wholly[start : start + size], size, 0.0)
    pieces += assembler.flush()
    assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == wholly
    assert assembler.next_sequence == (first + len(wholly)) % MODULUS


def test_segments_that_overlap_give_each_byte_once() -> None:
    assembler = begun(0)
    assert assembler.push(0, b"abcd", 4, 0.0) == [b"abcd"]
    assert assembler.push(2, b"cdef", 4, 0.0) == [b"ef"]
    assert assembler.push(0, b"ab", 2, 0.0) == []
    assert assembler.push(5, b"f", 1, 0.0) == []


def test_a_captured_part_leaves_a_hole_behind_it() -> None:
    assembler = begun(0)
    assert assembler.push(0, b"abc", 10, 0.0) == [b"abc", Hole(7)]
    assert assembler.push(10, b"", 5, 0.0) == [Hole(5)]
    assert assembler.push(15, b"x", 1, 0.0) == [b"x"]


def test_a_hole_is_given_up_once_the_other_side_has_what_is_missing() -> None:
    assembler = begun(0)
    for number in range(1, 8):
        assert assembler.push(number * 10, b"0123456789", 10, 0.0) == []
    assembler.acknowledge(40)
    pieces = assembler.push(80, b"0123456789", 10, 0.0)
    assert pieces == [Hole(10), *[b"0123456789"] * 8]


def test_a_hole_is_given_up_in_time() -> None:
    assembler = begun(0)
    assembler.push(10, b"x", 1, 100.0)
    assert assembler.give_up(99.9) == []
    assert assembler.give_up(100.0) == [Hole(10), b"x"]


def test_no_more_is_held_than_the_limits_allow() -> None:
    assembler = begun(0)
    most = 0
    for number in range(1, 1000):
        assembler.push(number * 2000, bytes(1000), 1000, 0.0)
        most = max(most, assembler.held_bytes)
    assert most <= min(HELD_LIMIT_BYTES, HELD_LIMIT_SEGMENTS * 1000)


def test_segments_of_another_place_are_strays_until_one_fits() -> None:
    assembler = begun(0)
    assembler.push(0, b"a", 1, 0.0)
    for number in range(3):
        assert assembler.push(1 << 30, b"b", 1, 0.0) == []
        assert assembler.strays == number + 1
    assembler.push(1, b"c", 1, 0.0)
    assert assembler.strays == 0
