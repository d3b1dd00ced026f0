"""The relay of a compressed session: the same bytes pass, the same things are refused, and it ends between frames."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from proxy.protocol.compression import zstd
from tests.proxy.stages.relaying import REVOKED, Stage, ack, err, event, settled
from wire.compression import Algorithm, encode_stored_frames
from wire.errors import WireError

ACK = ack(2)
QUIT = b"\x01\x00\x00\x00\x01"
QUERY = b"\x09\x00\x00\x00\x03SELECT 1"


@pytest.fixture(params=list(Algorithm))
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(compression=request.param)
    yield stage
    stage.close()


def frame(stage: Stage, content: bytes, sequence_id: int) -> bytes:
    body = zlib.compress(content) if stage.compression is Algorithm.ZLIB else zstd.compress(content)
    return len(body).to_bytes(3, "little") + bytes([sequence_id]) + len(content).to_bytes(3, "little") + body


async def test_frames_pass_as_they_came_and_the_stream_is_followed(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    data = frame(stage, event(1) + event(2)[:30], 1) + frame(stage, event(2)[30:] + event(3, 70_000), 2)
    for start in range(0, len(data), 17):
        await stage.source_sends(data[start : start + 17])
    assert stage.at_replica() == data
    assert (stage.relay.tracker.file, stage.relay.tracker.packets) == (b"binlog.000001", 3)
    nursery.cancel_scope.cancel()


async def test_it_ends_between_two_frames_with_an_err_in_a_frame_of_the_next_number(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    first, second = frame(stage, event(1) + event(2)[:30], 1), frame(stage, event(2)[30:], 2)
    await stage.source_sends(first)
    stage.relay.end(REVOKED)
    await settled()
    assert stage.ended == []
    await stage.source_sends(second + frame(stage, event(3)[:20], 3))
    assert stage.ended == [REVOKED]
    assert stage.at_replica() == first + second + encode_stored_frames(err(REVOKED, 3), 3)


@pytest.mark.parametrize("is_stored", [True, False])
async def test_acknowledgements_pass_as_they_came_whatever_frames_they_are_in(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock, is_stored: bool
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(frame(stage, event(1, semi_sync=True) + event(2, semi_sync=True, ack_wanted=True), 1))
    pieces = [ACK[:3], ACK[3:] + QUIT]
    frames = b"".join(
        encode_stored_frames(piece, number) if is_stored else frame(stage, piece, number)
        for number, piece in enumerate(pieces)
    )
    for byte in frames[:-1]:
        await stage.replica_sends(bytes([byte]))
    assert stage.at_source() == b""
    assert stage.acknowledged_after == []
    await stage.replica_sends(frames[-1:])
    assert stage.at_source() == frames
    assert len(stage.acknowledged_after) == 1
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("content", [QUERY, ACK + QUERY, b"\xff\xff\xff\x00" + bytes(100)])
async def test_nothing_else_comes_back(
    stage: Stage, content: bytes, is_stored: bool, autojump_clock: MockClock
) -> None:
    with pytest.RaisesGroup(WireError, allow_unwrapped=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.run)
            await stage.source_sends(frame(stage, event(1), 1))
            sent = encode_stored_frames(content, 0) if is_stored else frame(stage, content, 0)
            await stage.replica_sends(sent)
    assert stage.at_source() == b""


@pytest.mark.parametrize("sent", [ACK, encode_stored_frames(ACK[:-1], 0) * 3000, b"\x00" * 70_007])
async def test_frames_without_an_end_are_not_kept(stage: Stage, sent: bytes, autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(WireError, allow_unwrapped=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.run)
            await stage.source_sends(frame(stage, event(1), 1))
            await stage.replica_sends(sent)
            await stage.replica_sends(bytes(7) * 20_000)
    assert stage.at_source() == b""


async def test_a_source_that_sends_no_frames_ends_the_session(stage: Stage, autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(WireError, allow_unwrapped=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.run)
            await stage.source_sends(b"\x05\x00\x00\x01\x09\x00\x00hello")
