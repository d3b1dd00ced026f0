"""The event stream in compressed frames: the same places as without them, and frames to end it between."""

import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.test_stream import Stream, make_stream
from wire.compressed_stream import CompressedStreamTracker
from wire.compression import FrameEnd, FrameReader, ZlibInflater, encode_stored_frames
from wire.errors import MalformedPacket
from wire.framing import PacketDecoder


def in_frames(stream: Stream, frame_bytes: list[int]) -> tuple[bytes, dict[int, int]]:
    """The stream in compressed frames, and where a packet could be put in with which sequence id of a frame."""
    data, start, number, boundaries = b"", 0, 1, {0: 1}
    while start < len(stream.data):
        content = stream.data[start : start + frame_bytes[number % len(frame_bytes)]]
        body = zlib.compress(content)
        if number % 3:
            data += len(body).to_bytes(3, "little") + bytes([number % 256]) + len(content).to_bytes(3, "little") + body
        else:
            data += encode_stored_frames(content, number)
        start, number = start + len(content), number + 1
        if start in stream.boundaries:
            boundaries[len(data)] = number % 256
    return data, boundaries


@given(
    st.lists(st.sampled_from([0, 1, 30, 700, 70_000]), max_size=12),
    st.booleans(),
    st.lists(st.integers(40, 9000), min_size=1, max_size=9),
    st.lists(st.integers(0, 20_000), max_size=20),
)
def test_the_tracker_knows_its_place_however_frames_and_pieces_are_cut(
    bodies: list[int], semi_sync: bool, frame_bytes: list[int], cuts: list[int]
) -> None:
    stream = make_stream(bodies, semi_sync=semi_sync)
    data, boundaries = in_frames(stream, frame_bytes)
    tracker, start = CompressedStreamTracker(ZlibInflater), 0
    for end in [*sorted({min(cut, len(data)) for cut in cuts} - {0}), len(data)]:
        tracker.advance(data[start:end])
        if tracker.boundary is not None:
            assert boundaries[start + tracker.boundary] == tracker.encode_at_boundary(b"ERR")[3]
        assert tracker.is_between_packets == (end in boundaries)
        start = end
    seen = tracker.stream
    assert (seen.file, seen.log_position, seen.packets) == (stream.file, stream.log_position, stream.packets)


def test_what_is_put_in_is_one_frame_with_one_packet() -> None:
    data, _ = in_frames(make_stream([5, 5], semi_sync=False), [10_000])
    tracker = CompressedStreamTracker(ZlibInflater)
    tracker.advance(data)
    [content, end] = FrameReader(ZlibInflater).advance(tracker.encode_at_boundary(b"an error"))
    assert isinstance(content, bytes)
    assert isinstance(end, FrameEnd)
    decoder = PacketDecoder(100)
    decoder.feed(content)
    packet = decoder.next_packet()
    assert packet is not None
    assert (packet.payload, packet.sequence_id, end.sequence_id) == (b"an error", 2, 2)


def test_an_acknowledgement_wanted_anywhere_in_a_piece_is_seen() -> None:
    stream = make_stream([5, 5, 5, 5], semi_sync=True)  # the first of every three events asks
    starts = sorted(stream.boundaries)
    events = [stream.data[start:end] for start, end in itertools.pairwise(starts)]
    tracker, wanted = CompressedStreamTracker(ZlibInflater), []
    for piece in (
        encode_stored_frames(events[0], 1),
        b"".join(encode_stored_frames(event, number) for number, event in enumerate(events[1:4], 2)),
        encode_stored_frames(b"".join(events[2:4]), 5),
    ):
        tracker.advance(piece)
        wanted.append(tracker.ack_position is not None)
    assert wanted == [False, True, False]


def test_what_is_no_frame_raises_the_known_error() -> None:
    with pytest.raises(MalformedPacket):
        CompressedStreamTracker(ZlibInflater).advance(b"\x05\x00\x00\x01\x09\x00\x00hello")
