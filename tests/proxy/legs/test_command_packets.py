"""Commands are read one at a time, and passed on as they came; in compressed frames too."""

from __future__ import annotations

import socket
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from proxy.legs.command_packets import CommandReader
from proxy.legs.leg import Leg
from proxy.outcomes import LegClosed
from proxy.protocol.compression import inflater_for, zstd
from wire.compression import Algorithm, FrameEnd, FrameReader, ZlibInflater, encode_stored_frames
from wire.errors import WireError
from wire.framing import MAX_FRAGMENT_BYTES, encode_packet

QUERY = encode_packet(b"\x03SELECT UNIX_TIMESTAMP()" * 4, 0)
PING = encode_packet(b"\x0e", 0)
LIMIT_BYTES = 1 << 20
algorithms = pytest.mark.parametrize("algorithm", list(Algorithm))
COMPRESS: dict[Algorithm, Callable[[bytes], bytes]] = {Algorithm.ZLIB: zlib.compress, Algorithm.ZSTD: zstd.compress}


@asynccontextmanager
async def sending(
    data: bytes, algorithm: Algorithm | None, *, limit_bytes: int = LIMIT_BYTES
) -> AsyncIterator[CommandReader]:
    """A reader whose replica sends `data` and half-closes."""
    near, far = socket.socketpair()
    leg, replica = Leg(near, "replica"), Leg(far, "test")

    async def send() -> None:
        try:
            await replica.send_all(data)
        except LegClosed:
            return
        replica.end_sending()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            yield CommandReader(leg, limit_bytes, inflater_for(algorithm))
            leg.close()
    replica.close()


def frame(algorithm: Algorithm, content: bytes, sequence_id: int) -> bytes:
    body = COMPRESS[algorithm](content)
    return len(body).to_bytes(3, "little") + bytes([sequence_id]) + len(content).to_bytes(3, "little") + body


async def test_plain_commands_one_by_one() -> None:
    async with sending(QUERY + PING, None) as commands:
        first, second = await commands.receive(), await commands.receive()
    assert (first.sent, second.sent) == (QUERY, PING)
    assert first.encode_answer(b"no") == encode_packet(b"no", 1)


@algorithms
async def test_a_compressed_command_is_passed_on_as_it_came(algorithm: Algorithm) -> None:
    frames = [frame(algorithm, QUERY[:40], 0) + frame(algorithm, QUERY[40:], 1), encode_stored_frames(PING, 0)]
    async with sending(b"".join(frames), algorithm) as commands:
        first, second = await commands.receive(), await commands.receive()
        assert not commands.is_ahead
    assert [first.sent, second.sent] == frames
    assert [first.packet.payload, second.packet.payload] == [QUERY[4:], PING[4:]]
    assert first.encode_answer(b"no") == encode_stored_frames(encode_packet(b"no", 1), 2)


@algorithms
async def test_a_large_command_comes_in_several_frames_and_fragments(algorithm: Algorithm) -> None:
    command = encode_packet(b"\x03" + bytes(MAX_FRAGMENT_BYTES + 5), 0)
    frames = frame(algorithm, command[:MAX_FRAGMENT_BYTES], 0) + frame(algorithm, command[MAX_FRAGMENT_BYTES:], 1)
    async with sending(frames, algorithm, limit_bytes=1 << 26) as commands:
        received = await commands.receive()
    assert received.sent == frames
    assert received.encode_answer(b"no") == encode_stored_frames(encode_packet(b"no", 2), 2)


@algorithms
async def test_two_commands_in_one_frame_are_told_apart(algorithm: Algorithm) -> None:
    async with sending(frame(algorithm, QUERY + PING, 0), algorithm) as commands:
        first, ahead = await commands.receive(), [commands.is_ahead]
        second, ahead = await commands.receive(), [*ahead, commands.is_ahead]
    assert ahead == [True, False]
    for command, packet in ((first, QUERY), (second, PING)):
        content, end = FrameReader(ZlibInflater).advance(command.sent)
        assert content == packet
        assert isinstance(end, FrameEnd)


@pytest.mark.parametrize("algorithm", [None, *Algorithm])
async def test_a_command_too_large_is_refused_by_its_header(algorithm: Algorithm | None) -> None:
    header = (LIMIT_BYTES + 1).to_bytes(3, "little") + b"\x00"
    data = header if algorithm is None else encode_stored_frames(header, 0)
    async with sending(data, algorithm) as commands:
        with pytest.raises(WireError, match=f"{LIMIT_BYTES} are allowed"):
            await commands.receive()


@algorithms
@pytest.mark.parametrize(
    "sent",
    [bytes(7) * (LIMIT_BYTES // 3), QUERY * 30_000, encode_stored_frames(b"\x09", 0) * 300_000],
    ids=["empty", "no-frames", "endless"],
)
async def test_frames_without_a_command_are_not_kept(algorithm: Algorithm, sent: bytes) -> None:
    async with sending(sent, algorithm) as commands:
        with pytest.raises(WireError):
            await commands.receive()


@pytest.mark.parametrize("algorithm", [None, *Algorithm])
async def test_an_end_within_a_command_is_an_end(algorithm: Algorithm | None) -> None:
    data = QUERY if algorithm is None else frame(algorithm, QUERY, 0)
    async with sending(data[:-1], algorithm) as commands:
        with pytest.raises(LegClosed):
            await commands.receive()
