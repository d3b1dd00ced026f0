"""The tracker knows its place in the event stream however the bytes were cut, and cannot be led off it."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.binlog import EventHeader, EventType, RotateEvent, serialize_stream_packet
from wire.framing import MAX_FRAGMENT_BYTES, encode_packet
from wire.results import EofPacket, ErrPacket
from wire.stream import StreamTracker


@dataclass(frozen=True)
class Stream:
    """Bytes of a stream, and what there is to know about them."""

    data: bytes
    boundaries: dict[int, int]  # offset -> sequence id of a packet put in there
    file: bytes
    log_position: int
    timestamp_seconds: int
    packets: int


def make_stream(
    sizes: list[int], *, semi_sync: bool, rotate_every: int = 9, first_position: int = 4, ask_every: int = 3
) -> Stream:
    """Events with bodies of these sizes behind the artificial rotate event, and a rotate now and then."""
    payloads = [_rotate(b"binlog.000001", first_position, semi_sync, with_checksum=True)]
    file, position, timestamp = b"binlog.000001", first_position, 0
    for number, size in enumerate(sizes):
        if number % rotate_every == rotate_every - 1:
            file, position = b"binlog.%06d" % number, 4
            payloads.append(_rotate(file, position, semi_sync, with_checksum=number % 2 == 0))
        position += 19 + size
        timestamp = 1_700_000_000 + number
        header = EventHeader(timestamp, EventType.WRITE_ROWS, 1, 19 + size, position % (1 << 32), 0)
        event = header.serialize() + bytes(size)
        payloads.append(serialize_stream_packet(event, semi_sync=semi_sync, ack_wanted=number % ask_every == 0))
    data, sequence_id, boundaries = bytearray(), 1, {0: 1}
    for payload in payloads:
        data += encode_packet(payload, sequence_id)
        sequence_id = (sequence_id + len(payload) // MAX_FRAGMENT_BYTES + 1) % 256
        boundaries[len(data)] = sequence_id
    return Stream(bytes(data), boundaries, file, position, timestamp, len(payloads))


def _rotate(file: bytes, position: int, semi_sync: bool, *, with_checksum: bool) -> bytes:
    event = RotateEvent(position=position, file=file).serialize(server_id=1, with_checksum=with_checksum)
    return serialize_stream_packet(event, semi_sync=semi_sync)


def named_boundary(tracker: StreamTracker) -> tuple[int, int] | None:
    """Where another packet could be put in, and with which sequence id."""
    return None if tracker.boundary is None else (tracker.boundary, tracker.encode_at_boundary(b"")[3])


def follow(stream: Stream, cuts: list[int]) -> StreamTracker:
    """Feeds the stream in pieces and holds every boundary that the tracker names against the truth."""
    tracker, start = StreamTracker(), 0
    for end in [*sorted({cut % (len(stream.data) + 1) for cut in cuts} - {0}), len(stream.data)]:
        tracker.advance(stream.data[start:end])
        if (named := named_boundary(tracker)) is not None:
            offset, sequence_id = named
            assert 0 <= offset <= end - start
            assert stream.boundaries[start + offset] == sequence_id
        if end in stream.boundaries:
            assert named == (end - start, stream.boundaries[end])
        start = end
    return tracker


sizes = st.lists(st.sampled_from([0, 1, 4, 30, 700, 70_000]), max_size=30)


@given(sizes, st.booleans(), st.lists(st.integers(0, 1 << 22), max_size=40))
def test_the_tracker_knows_its_place_however_the_stream_is_cut(
    bodies: list[int], semi_sync: bool, cuts: list[int]
) -> None:
    stream = make_stream(bodies, semi_sync=semi_sync)
    tracker = follow(stream, cuts)
    assert (tracker.file, tracker.log_position) == (stream.file, stream.log_position)
    assert tracker.timestamp_seconds == stream.timestamp_seconds
    assert tracker.packets == stream.packets


@given(
    st.lists(st.integers(0, 900), min_size=5, max_size=40),
    st.sampled_from([7, 150, 100_000]),
    st.sampled_from([5_000, 16_384, 60_001]),
    st.booleans(),
    st.sampled_from([3, 100_000]),
)
def test_the_tracker_knows_its_place_where_it_passes_over_packets(
    bodies: list[int], rotate_every: int, piece_bytes: int, semi_sync: bool, ask_every: int
) -> None:
    stream = make_stream(
        bodies * 30,
        semi_sync=semi_sync,
        rotate_every=rotate_every,
        first_position=4_294_960_000,
        ask_every=ask_every,
    )
    tracker = follow(stream, list(range(0, len(stream.data), piece_bytes)))
    assert (tracker.file, tracker.log_position) == (stream.file, stream.log_position % (1 << 32))
    assert (tracker.timestamp_seconds, tracker.event_type) == (stream.timestamp_seconds, EventType.WRITE_ROWS)
    assert tracker.packets == stream.packets


@pytest.mark.parametrize(
    ("packets", "stray_bytes", "stray_sequence", "stray_length"),
    [(300, 1, 0, 0), (300, 0, 1, 0), (300, 0, 0, 1), (5900, 0, 0, 0)],
    ids=["positions", "sequence-id", "length", "more-packets-than-log"],
)
def test_an_event_forged_within_a_row_misleads_nobody(
    packets: int, stray_bytes: int, stray_sequence: int, stray_length: int
) -> None:
    dense = make_stream([20] * 100, semi_sync=False, rotate_every=10_000)
    boundary = max(dense.boundaries)
    sequence_id = dense.boundaries[boundary]
    forged_at, row_bytes = 30_000, 31_000
    end = dense.log_position + row_bytes
    # As it would be if so many packets lay before it, but for what is astray.
    told_end = dense.log_position + forged_at - 5 * packets + 27 - stray_bytes
    xid = EventHeader(1, EventType.XID, 1, 27, told_end, 0).serialize() + bytes(8)
    forged = encode_packet(serialize_stream_packet(xid) + bytes(stray_length), sequence_id + packets + stray_sequence)
    header = EventHeader(7, EventType.WRITE_ROWS, 1, row_bytes, end, 0).serialize()
    body = bytes(forged_at - 5 - len(header)) + forged
    packet = encode_packet(serialize_stream_packet(header + body.ljust(row_bytes - 19, b"\x00")), sequence_id)
    tracker = StreamTracker()
    tracker.advance(dense.data)
    tracker.advance(packet)
    assert (tracker.log_position, tracker.packets) == (end, dense.packets + 1)
    assert named_boundary(tracker) == (len(packet), (sequence_id + 1) % 256)


@pytest.mark.parametrize("semi_sync", [False, True])
def test_the_tracker_knows_its_place_byte_by_byte(semi_sync: bool) -> None:
    stream = make_stream([0, 5, 300, 0, 0, 2, 9, 1, 1, 1, 1, 1], semi_sync=semi_sync)
    tracker = follow(stream, list(range(len(stream.data))))
    assert (tracker.file, tracker.log_position) == (stream.file, stream.log_position)


@pytest.mark.parametrize("difference", [-30, -21, -20, -19, 0, 5])
def test_an_event_of_16_mib_is_one_packet_in_fragments(difference: int) -> None:
    stream = make_stream([10, MAX_FRAGMENT_BYTES + difference, 10], semi_sync=False)
    tracker = follow(stream, list(range(0, len(stream.data), 262_144)))
    assert tracker.log_position == stream.log_position


def test_no_boundary_is_named_between_the_fragments_of_an_event() -> None:
    stream = make_stream([2 * MAX_FRAGMENT_BYTES], semi_sync=False)
    between = len(stream.data) - 20
    tracker = StreamTracker()
    tracker.advance(stream.data[:200])
    tracker.advance(stream.data[200:between])
    assert tracker.boundary is None
    with pytest.raises(ValueError, match="within one packet"):
        tracker.encode_at_boundary(b"")


@pytest.mark.parametrize("cut", [None, 5, 30])
def test_any_event_of_a_piece_can_ask_for_an_acknowledgement(cut: int | None) -> None:
    stream = make_stream([5, 5, 5], semi_sync=True)  # the first of every three events asks
    begin = sorted(stream.boundaries)
    asks, asks_not = stream.data[begin[1] : begin[3]], stream.data[begin[3] : begin[4]]
    tracker = StreamTracker()
    tracker.advance(stream.data[: begin[1]])
    assert tracker.ack_position is None
    asked: list[int | None] = []
    for piece in (asks[:cut], asks[cut:] if cut is not None else b""):
        tracker.advance(piece)
        asked.append(tracker.ack_position)
    assert set(asked) == {4 + 19 + 5, None}
    tracker.advance(asks_not)
    assert tracker.ack_position is None


def test_an_event_that_asks_for_an_acknowledgement_is_not_passed_over() -> None:
    stream = make_stream([20] * 900, semi_sync=True, rotate_every=10_000, ask_every=500)
    dense = sorted(stream.boundaries)[300]
    tracker = StreamTracker()
    tracker.advance(stream.data[:dense])
    assert tracker.ack_position == 4 + 39
    tracker.advance(stream.data[dense:])
    assert tracker.ack_position == 4 + 501 * 39


def test_a_plain_stream_never_wants_an_acknowledgement_whatever_its_timestamps() -> None:
    event = EventHeader(0xEF | 1 << 8, EventType.XID, 1, 27, 200, 0).serialize() + bytes(8)
    tracker = StreamTracker()
    tracker.advance(make_stream([5], semi_sync=False).data + encode_packet(serialize_stream_packet(event), 3))
    assert tracker.ack_position is None
    assert tracker.log_position == 200


@pytest.mark.parametrize(
    "ending",
    [EofPacket(warnings=0, status=2).serialize(), ErrPacket(1236, b"HY000", b"gone").serialize(with_sqlstate=True)],
)
def test_an_end_or_an_error_is_a_packet_and_moves_nothing(ending: bytes) -> None:
    stream = make_stream([5], semi_sync=False)
    tracker = StreamTracker()
    tracker.advance(stream.data)
    tracker.advance(encode_packet(ending, 3))
    assert named_boundary(tracker) == (4 + len(ending), 4)
    assert tracker.log_position == stream.log_position


@given(st.lists(st.binary(max_size=600), max_size=20))
def test_any_bytes_are_followed_without_an_exception(pieces: list[bytes]) -> None:
    tracker = StreamTracker()
    for piece in pieces:
        tracker.advance(piece)
        assert tracker.boundary is None or 0 <= tracker.boundary <= len(piece)
