"""Whose turn it is, where the source's answers come in compressed frames."""

from __future__ import annotations

import zlib

import pytest

from proxy.protocol.turns import CompressedTurns
from wire.commands import Command
from wire.compression import ZlibInflater, encode_stored_frames
from wire.errors import MalformedPacket, UnexpectedPacket
from wire.framing import encode_packet
from wire.results import OkPacket

ANSWER = encode_packet(OkPacket().serialize(), 1)


def frame(content: bytes, sequence_id: int) -> bytes:
    body = zlib.compress(content)
    return len(body).to_bytes(3, "little") + bytes([sequence_id]) + len(content).to_bytes(3, "little") + body


def test_an_answer_is_whole_when_the_packet_in_the_frames_is() -> None:
    turns = CompressedTurns(ZlibInflater)
    turns.asked(Command.COM_QUERY)
    data = frame(ANSWER[:3], 1) + encode_stored_frames(ANSWER[3:], 2)
    for byte in data[:-1]:
        assert bytes(turns.watch(memoryview(bytes([byte])))) == bytes([byte])
        with pytest.raises(UnexpectedPacket):
            turns.require_answered(is_quiet=True)
    turns.watch(memoryview(data[-1:]))
    turns.require_answered(is_quiet=True)


def test_an_answer_that_is_no_frame_raises_the_known_error() -> None:
    turns = CompressedTurns(ZlibInflater)
    with pytest.raises(MalformedPacket):
        turns.watch(memoryview(b"\x05\x00\x00\x01\x09\x00\x00hello"))
