"""What every test of a parser asks of it."""

import contextlib
from collections.abc import Callable

import pytest

from wire.datatypes import Payload
from wire.errors import WireError
from wire.framing import PacketDecoder, encode_packet

TRAILING_BYTES = b"\x07and \xff more\x00"


def assert_parses(
    parse: Callable[[Payload], object],
    payload: bytes,
    expected: object,
    *,
    ignores_trailing_bytes: bool = False,
) -> None:
    """Parse a payload whole, arrived byte by byte, cut short anywhere, and with bytes behind it."""
    assert parse(payload) == expected
    assert parse(bytearray(payload)) == expected
    assert parse(memoryview(payload)) == expected
    assert parse(_arrived_byte_by_byte(payload)) == expected
    for length in range(len(payload)):
        parses_or_raises_a_wire_error(parse, payload[:length])
    if ignores_trailing_bytes:
        assert parse(payload + TRAILING_BYTES) == expected
    else:
        parses_or_raises_a_wire_error(parse, payload + TRAILING_BYTES)


def parses_or_raises_a_wire_error(parse: Callable[[Payload], object], payload: bytes) -> None:
    """Anything else that is raised fails the test."""
    with contextlib.suppress(WireError):
        parse(payload)


def assert_every_prefix_is_refused(parse: Callable[[Payload], object], payload: bytes) -> None:
    """For messages whose last field has a length: no prefix may pass for the whole."""
    for length in range(len(payload)):
        with pytest.raises(WireError):
            parse(payload[:length])


def _arrived_byte_by_byte(payload: bytes) -> bytes:
    decoder = PacketDecoder(max_payload_bytes=len(payload))
    stream = encode_packet(payload, sequence_id=7)
    for position in range(len(stream)):
        assert decoder.next_packet() is None
        decoder.feed(stream[position : position + 1])
    packet = decoder.next_packet()
    assert packet is not None
    assert packet.sequence_id == 7
    assert len(decoder) == 0
    return packet.payload
