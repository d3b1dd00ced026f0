"""The monitor's verdicts on recordings of real programs, whole and in every state of disrepair; none may be wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.segments import Segment
from monitor.verdicts import Verdict
from tests.monitor.matrix.confusion import Matrix, Outcome, judge, run
from tests.monitor.matrix.connections import MODULUS, Connection, Truth, noise_of
from tests.monitor.matrix.derivations import (
    LARGE_BYTES,
    Case,
    Part,
    cases_of,
    doubled,
    joined,
    lossy,
    part_of,
    reordered,
    resized,
)
from tests.monitor.matrix.document import documented_counts, documented_scenarios
from tests.monitor.matrix.recording import names, recorded
from tests.monitor.matrix.truth import ALLOWED, Oracle

SHOWN_FAILURES = 25
FEW = 1
# As many as take a quarter of an hour.
MANY = 20
LARGEST_SEGMENT_BYTES = 65_483
PIECES_LIMIT = 400


@pytest.fixture(scope="module")
def connections() -> Sequence[Connection]:
    return recorded()


@pytest.fixture(scope="module")
def oracle(connections: Sequence[Connection]) -> Oracle:
    return Oracle(connections)


@pytest.fixture(scope="module")
def matrix(connections: Sequence[Connection]) -> Matrix:
    return run(connections, FEW)


def complaint(outcomes: Sequence[Outcome]) -> str:
    shown = "\n\n".join(outcome.describe() for outcome in outcomes[:SHOWN_FAILURES])
    return f"{len(outcomes)} cases, among them:\n{shown}"


def test_no_verdict_is_wrong_at_any_time(matrix: Matrix) -> None:
    wrong = [outcome for outcome in matrix.failures if outcome.wrong]
    assert not wrong, complaint(wrong)


def test_what_is_left_of_a_connection_is_recognised_where_it_is_enough(matrix: Matrix) -> None:
    missed = [outcome for outcome in matrix.failures if outcome.is_missed]
    assert not missed, complaint(missed)


def test_every_kind_of_connection_is_seen_whole(matrix: Matrix) -> None:
    """The recordings are what they are said to be: enough of each kind can be decided."""
    assert set(matrix.whole) == set(names())
    for truth in {Truth.REPLICATION, Truth.LATE_REPLICATION, Truth.CLIENT, Truth.TLS, Truth.OTHER}:
        assert matrix.decidable[truth] > 100, truth


def test_a_whole_connection_is_recognised_unless_it_says_nothing(matrix: Matrix) -> None:
    wanted = {
        Truth.REPLICATION: Verdict.PLAINTEXT_REPLICATION,
        Truth.LATE_REPLICATION: Verdict.PLAINTEXT_REPLICATION,
        Truth.TLS: Verdict.TLS,
        Truth.OTHER: Verdict.NOT_MYSQL,
        Truth.CLIENT_WITH_EVENTS: Verdict.PLAINTEXT_CLIENT,
    }
    seen = {
        (scenario, truth): verdict
        for scenario, entries in matrix.whole.items()
        for truth, verdict in entries
        if truth in wanted and not scenario.endswith(": refused")
    }
    assert {key: verdict for key, verdict in seen.items() if verdict is not wanted[key[1]]} == {}


def test_the_document_lists_every_scenario_and_its_matrix_has_nothing_wrong() -> None:
    assert documented_scenarios() == names()
    for truth, counts in documented_counts().items():
        # A blob of events that is joined in the middle is a stream of events, as far as can be seen.
        allowed = ALLOWED[Truth(truth)] | (
            {Verdict.PLAINTEXT_REPLICATION} if truth == Truth.CLIENT_WITH_EVENTS else set()
        )
        assert [
            verdict for verdict, count in zip(Verdict, counts, strict=False) if count and verdict not in allowed
        ] == []


@pytest.mark.soak
def test_no_verdict_is_wrong_in_many_more_cases(connections: Sequence[Connection]) -> None:
    many = run(connections, MANY)
    assert not many.failures, complaint(many.failures)


def of_the_small(connections: Sequence[Connection], number: int) -> Connection:
    small = [connection for connection in connections if connection.payload_bytes < LARGE_BYTES]
    return small[number % len(small)]


def assert_right(case: Case, oracle: Oracle) -> None:
    for outcome in judge(case, oracle):
        assert not outcome.wrong, outcome.describe()
        assert not outcome.is_missed, outcome.describe()


property_settings = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@property_settings
@given(number=st.integers(0, 10_000), cuts=st.lists(st.integers(1, LARGEST_SEGMENT_BYTES), min_size=1, max_size=30))
def test_no_segmentation_changes_a_verdict(
    connections: Sequence[Connection], oracle: Oracle, number: int, cuts: list[int]
) -> None:
    connection = of_the_small(connections, number)
    again = joined(connection.segments, LARGEST_SEGMENT_BYTES)
    # Where the sizes are tiny, the rest comes at once.
    sizes = iter(cuts * (PIECES_LIMIT // len(cuts)))
    segments = resized(again, lambda: next(sizes, LARGEST_SEGMENT_BYTES))
    case = Case(f"segments of {cuts}", (Part(connection, segments, dict(connection.first_sequences)),))
    assert_right(case, oracle)


@property_settings
@given(number=st.integers(0, 10_000), lost=st.sets(st.integers(0, 200), max_size=60), seed=st.integers(0, 2**32))
def test_no_loss_makes_a_verdict_wrong(
    connections: Sequence[Connection], oracle: Oracle, number: int, lost: set[int], seed: int
) -> None:
    connection = of_the_small(connections, number)
    noise = noise_of(seed)
    most = noise.choice([30, 1448, LARGEST_SEGMENT_BYTES])
    torn = resized(connection.segments, lambda: noise.randint(1, most))
    segments = [segment for place, segment in enumerate(torn) if place not in lost]
    case = Case(f"without segments {sorted(lost)}", (Part(connection, segments, dict(connection.first_sequences)),))
    assert_right(case, oracle)


@property_settings
@given(number=st.integers(0, 10_000), start=st.floats(0, 1), end=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_no_stretch_of_a_connection_gives_a_wrong_verdict(
    connections: Sequence[Connection], oracle: Oracle, number: int, start: float, end: float, seed: int
) -> None:
    """From any byte to any other, in any state."""
    connection = of_the_small(connections, number)
    noise = noise_of(seed)
    segments = list(connection.segments)
    first, last = sorted((int(start * len(segments)), int(end * len(segments))))
    kept = trimmed(segments[first : last + 1], noise)
    for _ in range(noise.randint(0, 2)):
        kept = noise.choice([doubled(kept, noise), reordered(kept, noise), lossy(kept, 0.1, noise)])
    case = Case(f"from {first} to {last}, seed {seed}", (Part(connection, kept, dict(connection.first_sequences)),))
    assert_right(case, oracle)


def trimmed(segments: list[Segment], noise: random.Random) -> list[Segment]:
    """Without the first bytes."""
    if not segments or not segments[0].payload:
        return segments
    start = noise.randrange(len(segments[0].payload))
    return [part_of(segments[0], start, len(segments[0].payload)), *segments[1:]]


def test_what_the_derivations_leave_is_what_was_sent(connections: Sequence[Connection]) -> None:
    """No case holds a byte that was not sent where it stands; but for the one that asks for TLS."""
    for connection in connections:
        if connection.payload_bytes > LARGE_BYTES:
            continue
        for case in cases_of(connection, [], FEW):
            if case.derivation.startswith("asks for TLS"):
                continue
            [part] = case.parts
            for segment in part.segments:
                if segment.payload:
                    at = (segment.sequence - part.first[segment.key]) % MODULUS
                    sent = connection.sent[segment.key]
                    assert sent[at : at + len(segment.payload)] == segment.payload, case.name
