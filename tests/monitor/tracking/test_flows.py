"""Flows begin, settle, are looked into again, end; and whatever arrives, no more is kept than the limits say."""

from __future__ import annotations

import random
import ssl
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.segments import ACK, FIN, RST, SYN, Segment, reversed_key
from monitor.tracking.flows import Change, Eviction, FlowTable, Limits
from monitor.verdicts import Flow, Verdict
from tests.monitor.detection.shaking import Certificate, Handshake
from tests.monitor.segmenting import CLIENT, CLIENT_KEY, SERVER, Conversation, packet, torn
from tests.monitor.talk import (
    CLIENT_QUERIES,
    GREETING,
    OK,
    client,
    dump,
    event,
    logged_in,
    query,
    replication,
    result,
    ssl_request,
    stream,
)

PORTS = frozenset({3306})
BEGINNING = 1_700_000_000.0


UNLIMITED = Limits()


class Table:
    """A flow table with what it told."""

    def __init__(self, *, ports: frozenset[int] | None = PORTS, limits: Limits = UNLIMITED) -> None:
        self.told: list[tuple[Change, Verdict, str]] = []
        self.flows: dict[int, Flow] = {}
        self.table = FlowTable(ports=ports, notify=self._note, limits=limits)

    def _note(self, change: Change, flow: Flow) -> None:
        self.told.append((change, flow.verdict, flow.server))
        self.flows[flow.number] = flow

    def take(self, segments: Iterable[Segment]) -> Table:
        for segment in segments:
            self.table.take(segment)
            self.table.tick(segment.time_seconds)
        return self

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        return [(change.value, verdict.value) for change, verdict, _ in self.told]


def key_of(number: int, port: int = 3306) -> bytes:
    return (
        bytes([198, 51, 100, number >> 16 & 255])
        + bytes([192, 0, 2, 2])
        + (number & 0xFFFF).to_bytes(2)
        + (port).to_bytes(2)
    )


def test_a_whole_connection_is_found_and_ends() -> None:
    conversation = Conversation()
    table = Table().take([*conversation.open(), *conversation.say(replication()), *conversation.close()])
    table.table.tick(conversation.now_seconds + 1)
    assert table.verdicts == [("found", "plaintext-replication"), ("ended", "plaintext-replication")]
    [flow] = table.flows.values()
    assert (flow.client, flow.server) == ("192.0.2.1:40000", "192.0.2.2:3306")
    assert (flow.mid_stream, flow.is_over, flow.is_incomplete) == (False, True, False)
    assert flow.bytes == sum(len(data) for _, data in replication())
    assert list(table.table.flows()) == []


def test_the_foremost_flows_are_those_of_the_lowest_rank_and_up_to_date() -> None:
    table = Table()
    conversations = [Conversation(key=key_of(number)) for number in range(3)]
    for conversation, said in zip(conversations, (client(), replication(), client()), strict=True):
        table.take([*conversation.open(), *conversation.say(said)])

    def rank(flow: Flow) -> tuple[int, int]:
        return int(flow.verdict is not Verdict.PLAINTEXT_REPLICATION), -flow.number

    assert [flow.number for flow in table.table.foremost(2, rank)] == [2, 3]
    assert [flow.number for flow in table.table.foremost(9, rank)] == [2, 3, 1]
    before = table.table.foremost(1, rank)[0].bytes
    table.take(conversations[1].say([(SERVER, stream(event()))]))
    assert table.table.foremost(1, rank)[0].bytes > before


@pytest.mark.parametrize("side", [CLIENT, SERVER])
def test_one_direction_is_enough(side: str) -> None:
    conversation = Conversation()
    segments = [*conversation.open(), *conversation.say(replication())]
    key = conversation.keys[side]
    for skipped in (0, len(segments) - 1 if side == SERVER else len(segments) // 2):
        table = Table().take([segment for segment in segments[skipped:] if segment.key == key])
        table.table.finish()
        assert table.verdicts[0] == ("found", "plaintext-replication")
        [flow] = table.flows.values()
        assert flow.server == "192.0.2.2:3306"


def test_without_ports_the_evidence_says_who_serves() -> None:
    # The server has the higher port, so that the guess is wrong.
    conversation = Conversation(key=bytes([192, 0, 2, 1, 192, 0, 2, 2]) + (1024).to_bytes(2) + (40306).to_bytes(2))
    events = [(SERVER, stream(event(), event()))]
    table = Table(ports=None).take(conversation.say(events))
    table.table.finish()
    assert table.told[0] == (Change.FOUND, Verdict.PLAINTEXT_REPLICATION, "192.0.2.2:40306")


def test_the_same_ports_again_are_another_flow() -> None:
    first, second = Conversation(), Conversation(first=(77_000, 88_000))
    segments = [*first.open(), *first.say(client()), *second.open(), *second.say(replication())]
    table = Table().take(segments)
    table.table.finish()
    assert table.verdicts == [
        ("found", "plaintext-client"), ("ended", "plaintext-client"),
        ("found", "plaintext-replication"), ("ended", "plaintext-replication"),
    ]  # fmt: skip
    assert len(table.flows) == 2


def test_the_same_ports_again_without_a_handshake_are_another_flow() -> None:
    first, second = Conversation(), Conversation(first=(3_000_000_000, 2_000_000_000))
    table = Table().take([*first.open(), *first.say(client()[:4]), *second.say(replication())])
    table.table.finish()
    assert ("ended", "plaintext-client") in table.verdicts
    assert ("found", "plaintext-replication") in table.verdicts


def test_what_is_sent_again_after_the_end_is_no_flow() -> None:
    conversation = Conversation()
    segments = [*conversation.open(), *conversation.say(replication()), *conversation.close()]
    table = Table().take(segments)
    table.table.tick(conversation.now_seconds + 1)
    table.take(segments[-4:-2])
    assert len(table.flows) == 1
    assert list(table.table.flows()) == []


def test_a_reset_ends_a_flow_and_what_follows_it_is_seen() -> None:
    conversation = Conversation()
    table = Table().take([*conversation.open(), *conversation.say(client()), *conversation.reset()])
    table.table.tick(conversation.now_seconds + 1)
    assert table.verdicts[-1] == ("ended", "plaintext-client")
    # Whoever sent the reset may not have been of the connection at all.
    table.take(conversation.say([(SERVER, stream(event(), event()))]))
    table.table.finish()
    assert ("found", "plaintext-replication") in table.verdicts


def settled(said: list[tuple[str, bytes]], *, bulk_bytes: int) -> tuple[Table, Conversation]:
    conversation = Conversation()
    table = Table().take([*conversation.open(), *conversation.say(said)])
    bulk = result(b"shop", b"orders", row=bytes(200)) * (bulk_bytes // 200)
    table.take(conversation.say([(SERVER, bulk)], largest=60_000))
    return table, conversation


def test_a_settled_flow_is_counted_by_its_directions() -> None:
    conversation = Conversation()
    table = Table().take([*conversation.open(), *conversation.say(replication())])
    assert set(table.table.settled) == set(conversation.keys.values())
    [flow] = table.table.flows()
    before = flow.bytes
    for segment in conversation.say([(SERVER, bytes(100_000))]):
        table.table.settled[segment.key].pass_over(segment.sequence, segment.payload_bytes, segment.time_seconds)
    [flow] = table.table.flows()
    assert flow.bytes == before + 100_000
    [flow] = table.table.flows()
    assert flow.bytes == before + 100_000
    table.table.count()
    assert table.table.bytes[Verdict.PLAINTEXT_REPLICATION] + table.table.bytes[Verdict.UNDECIDED] == flow.bytes
    assert flow.last_seconds == pytest.approx(conversation.now_seconds, abs=0.01)


def test_bytes_that_the_kernel_passed_over_are_counted_by_their_numbers() -> None:
    conversation = Conversation()
    table = Table().take([*conversation.open(), *conversation.say(replication())])
    [flow] = table.table.flows()
    before = flow.bytes
    segments = conversation.say([(SERVER, bytes(100_000))])
    last = segments[-1]
    table.table.settled[last.key].pass_over(last.sequence, last.payload_bytes, last.time_seconds)
    [flow] = table.table.flows()
    assert flow.bytes == before + 100_000


def test_a_client_that_dumps_after_it_was_settled_is_looked_into_again() -> None:
    table, conversation = settled(client()[:-1], bulk_bytes=2_000_000)
    assert table.verdicts == [("found", "plaintext-client")]
    assert table.table.settled[conversation.keys[CLIENT]].watches_commands
    assert not table.table.settled[conversation.keys[SERVER]].watches_commands
    table.take(conversation.say([(CLIENT, dump())]))
    table.table.tick(conversation.now_seconds + 1)
    assert table.verdicts[-1] == ("changed", "plaintext-replication")


def test_settled_flows_are_looked_into_again_after_a_while() -> None:
    table, conversation = settled(client()[:-1], bulk_bytes=2_000_000)
    conversation.now_seconds += 40
    table.table.tick(conversation.now_seconds)
    assert not table.table.settled
    # The dump was missed; its stream is not.
    table.take(conversation.say([(SERVER, stream(*(event() for _ in range(5))))]))
    table.table.tick(conversation.now_seconds + 1)
    assert table.verdicts[-1] == ("changed", "plaintext-replication")


def test_tls_that_goes_on_in_the_clear_after_it_was_settled_is_found(tmp_path: Path) -> None:
    handshake = Handshake(Certificate(tmp_path), ssl.TLSVersion.TLSv1_3)
    for _ in range(40):
        handshake.say(SERVER, bytes(500))
    conversation = Conversation()
    said = [(SERVER, GREETING), (CLIENT, ssl_request()), *handshake.said]
    table = Table().take([*conversation.open(), *conversation.say(said)])
    assert table.verdicts == [("found", "tls")]
    assert len(table.table.settled) == 2
    conversation.now_seconds += 40
    table.table.tick(conversation.now_seconds)
    table.take(conversation.say([(SERVER, stream(*(event() for _ in range(5))))]))
    table.table.tick(conversation.now_seconds + 1)
    assert table.verdicts[-1] == ("changed", "plaintext-replication")


def test_a_hole_is_not_waited_for_for_ever() -> None:
    conversation = Conversation()
    table = Table().take([*conversation.open(), *conversation.say(logged_in())])
    conversation.say([(CLIENT, query(CLIENT_QUERIES[3]))])  # lost
    table.take(conversation.say([(CLIENT, dump())]))
    assert table.verdicts == []
    table.table.tick(conversation.now_seconds + 1)
    assert table.verdicts == [("found", "plaintext-replication")]
    [flow] = table.table.flows()
    assert flow.is_incomplete


def test_a_handshake_without_a_byte_is_undecided_at_the_end_of_a_recording() -> None:
    table = Table().take(Conversation().open())
    table.table.finish()
    assert table.verdicts == [("ended", "undecided")]
    [flow] = table.flows.values()
    assert (flow.evidence, flow.bytes, flow.mid_stream) == (["no data"], 0, False)


LITTLE = Limits(openings=50, unsettled=20, flows=30, buffered_bytes=100_000, endings=10)


def flood(count: int) -> Iterable[Segment]:
    for number in range(count):
        yield Segment(key_of(number), number, 0, SYN, b"", 0, BEGINNING + number / 1000)


def test_a_flood_and_a_scan_neither_fill_the_table_nor_hide_a_replica() -> None:
    conversation = Conversation(key=key_of(9_999_999))
    table = Table(limits=LITTLE).take([*conversation.open(), *conversation.say(replication()[:5])])
    table.take(flood(10_000))
    for number in range(5_000):  # a scan: both sides, no data
        key = key_of(number)
        table.take([
            Segment(key, 1, 0, SYN, b"", 0, BEGINNING), Segment(reversed_key(key), 1, 2, SYN | ACK, b"", 0, BEGINNING),
            Segment(key, 2, 2, RST, b"", 0, BEGINNING),
        ])  # fmt: skip
    table.take(conversation.say(replication()[5:]))
    assert table.verdicts == [("found", "plaintext-replication")]
    assert table.table.evictions[Eviction.OPENINGS_FULL] > 14_000
    assert table.table.openings_total > 14_000


def test_flows_that_say_nothing_make_room_for_others() -> None:
    table = Table(limits=LITTLE)
    for number in range(1000):
        table.take([Segment(key_of(number), 1, 0, ACK, b"?" * 40, 40, BEGINNING + number / 1000)])
    assert len(list(table.table.flows())) <= LITTLE.unsettled
    assert table.table.evictions[Eviction.UNSETTLED_FULL] >= 1000 - LITTLE.unsettled
    assert table.table.total[Verdict.UNDECIDED] == table.table.evictions[Eviction.UNSETTLED_FULL]


def test_settled_flows_are_limited_too() -> None:
    table = Table(limits=LITTLE)
    for number in range(100):
        conversation = Conversation(key=key_of(number))
        table.take([*conversation.open(), *conversation.say(replication())])
    assert len(list(table.table.flows())) <= LITTLE.flows
    assert len(table.table.settled) <= 2 * LITTLE.flows
    assert table.table.total[Verdict.PLAINTEXT_REPLICATION] == 100


def test_what_is_held_is_limited() -> None:
    table = Table(limits=LITTLE)
    for number in range(19):
        conversation = Conversation(key=key_of(number))
        segments = [
            *conversation.open(),
            *conversation.say([(CLIENT, b"lost")]),
            *conversation.say([(CLIENT, bytes(60_000))], largest=60_000),
        ]
        table.take(segments[:3] + segments[4:])
    assert table.table.evictions[Eviction.BUFFERS_FULL] >= 17


def test_idle_flows_are_forgotten() -> None:
    conversation = Conversation()
    table = Table().take([*conversation.open(), *conversation.say(replication())])
    table.table.tick(conversation.now_seconds + 3500)
    assert len(table.verdicts) == 1
    table.table.tick(conversation.now_seconds + 3700)
    assert table.verdicts[-1] == ("ended", "plaintext-replication")
    assert table.table.evictions[Eviction.IDLE] == 1


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 32))
def test_torn_doubled_and_reordered_segments_say_the_same(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    for said, verdict in ((replication(), "plaintext-replication"), (client(), "plaintext-client")):
        conversation = Conversation(first=(chance.randrange(1 << 32), chance.randrange(1 << 32)))
        opening = conversation.open()
        pieces = torn(conversation.say(said), chance, 400)
        pieces += chance.sample(pieces, len(pieces) // 4)
        order = sorted(range(len(pieces)), key=lambda index: index % (len(pieces) + 1) + chance.uniform(0, 5))
        table = Table().take(opening)
        for index in order:
            table.table.take(pieces[index])
        table.table.finish()
        assert [told for _, told in table.verdicts[-1:]] == [verdict]
        assert {told for _, told in table.verdicts} <= {verdict}


raw_segments = st.builds(
    Segment,
    key=st.sampled_from([CLIENT_KEY, reversed_key(CLIENT_KEY), key_of(1), key_of(1)]),
    sequence=st.integers(0, (1 << 32) - 1) | st.integers(0, 200),
    acknowledgement=st.integers(0, (1 << 32) - 1),
    flags=st.sampled_from([0, ACK, SYN, SYN | ACK, FIN | ACK, RST, FIN | SYN | RST]),
    payload=st.binary(max_size=60),
    payload_bytes=st.just(0),
    time_seconds=st.floats(BEGINNING, BEGINNING + 100),
)


@given(st.lists(raw_segments, max_size=30), st.data())
def test_any_segments_are_taken(segments: list[Segment], data: st.DataObject) -> None:
    table = Table(limits=Limits(openings=3, unsettled=2, flows=2, buffered_bytes=100, endings=2))
    for segment in segments:
        segment.payload_bytes = len(segment.payload) + data.draw(st.sampled_from([0, 0, 0, 50, 70_000]))
    table.take(segments)
    table.table.finish()
    assert list(table.table.flows()) == []
    assert not table.table.settled


def churn(table: FlowTable, days: int, *, connections_per_day: int, look: Callable[[], None]) -> None:
    """Days of connections: replicas that come and go, clients, scans, flows that vanish; by the packets' clock."""
    now = BEGINNING
    kinds = (replication(), client(), [(SERVER, GREETING)], [(SERVER, packet(OK, 3))], [(CLIENT, b"?" * 50)])
    for number in range(days * connections_per_day):
        conversation = Conversation(key=key_of(number % 4_000_000), first=(number * 7919 % (1 << 32), number))
        conversation.now_seconds = now
        said = kinds[number % len(kinds)]
        segments = [*(conversation.open() if number % 3 else ()), *conversation.say(said)]
        if number % 4:
            segments += conversation.close() if number % 8 else conversation.reset()
        for segment in segments:
            table.take(segment)
        now += 86_400 / connections_per_day
        table.tick(now)
        if number % connections_per_day == connections_per_day // 2:
            look()


def peaks_of_churn(days: int, connections_per_day: int) -> list[int]:
    """The most memory that was in use within each day, in bytes."""
    table = Table(limits=Limits(openings=500, unsettled=300, flows=1000, endings=500))
    peaks: list[int] = []

    def look() -> None:
        table.told.clear()
        table.flows.clear()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()

    tracemalloc.start()
    try:
        churn(table.table, days, connections_per_day=connections_per_day, look=look)
    finally:
        tracemalloc.stop()
    return peaks


def test_days_of_churn_leave_memory_flat() -> None:
    _, second, third, fourth = peaks_of_churn(4, 1500)
    assert max(third, fourth) < second * 1.15


@pytest.mark.soak
def test_a_week_of_churn_leaves_memory_flat() -> None:
    peaks = peaks_of_churn(8, 20_000)
    assert max(peaks[2:]) < peaks[1] * 1.05, peaks
