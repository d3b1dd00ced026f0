import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.parsing import assert_parses
from tests.wire.vectors import BINLOG_LOST, END
from wire.binlog import (
    EVENT_HEADER_BYTES,
    STREAM_PREFIX_BYTES,
    EventHeader,
    EventType,
    RotateEvent,
    SemiSyncAck,
    StreamPacket,
    serialize_stream_packet,
)
from wire.datatypes import Payload
from wire.errors import MalformedPacket, TruncatedPacket
from wire.results import EofPacket, ErrPacket

XID_HEADER_BYTES = (
    b"\x80\x8b\x1f\x69"  # timestamp
    b"\x10"  # XID
    b"\x01\x00\x00\x00"  # server id
    b"\x1f\x00\x00\x00"  # 31 bytes with the checksum
    b"\x2a\x01\x00\x00"  # position after it
    b"\x00\x00"
)
XID_EVENT = XID_HEADER_BYTES + b"\x4d\x00\x00\x00\x00\x00\x00\x00" + b"\xde\xad\xbe\xef"
XID_HEADER = EventHeader(0x691F8B80, EventType.XID, 1, 31, 0x12A, 0)

ROTATE_EVENT = (
    b"\x00\x00\x00\x00"
    b"\x04"
    b"\x01\x00\x00\x00"
    b"\x28\x00\x00\x00"  # 40 bytes
    b"\x00\x00\x00\x00"
    b"\x20\x00"  # artificial
    b"\x04\x00\x00\x00\x00\x00\x00\x00"
    b"binlog.000042"
)

ACK = b"\xef\x2a\x01\x00\x00\x00\x00\x00\x00binlog.000042"


def parse_plain(payload: Payload) -> StreamPacket | EofPacket | ErrPacket:
    return StreamPacket.parse(payload, semi_sync=False)


def parse_semi_sync(payload: Payload) -> StreamPacket | EofPacket | ErrPacket:
    return StreamPacket.parse(payload, semi_sync=True)


def test_parses_the_header_of_an_event() -> None:
    assert_parses(EventHeader.parse, XID_EVENT, XID_HEADER, ignores_trailing_bytes=True)
    assert XID_HEADER.serialize() == XID_HEADER_BYTES
    for length in range(EVENT_HEADER_BYTES):
        with pytest.raises(TruncatedPacket):
            EventHeader.parse(XID_EVENT[:length])


def test_an_event_smaller_than_its_header_is_malformed() -> None:
    with pytest.raises(MalformedPacket):
        EventHeader.parse(XID_EVENT[:9] + b"\x12\x00\x00\x00" + XID_EVENT[13:])


def test_an_event_of_a_type_from_the_future_is_an_event() -> None:
    header = EventHeader.parse(XID_EVENT[:4] + b"\xf0" + XID_EVENT[5:])
    assert header.type_code == 0xF0
    assert header.type_code not in set(EventType)


def test_parses_a_packet_of_the_stream() -> None:
    payload = b"\x00" + XID_EVENT
    expected = StreamPacket(XID_HEADER, ack_wanted=False, event_offset=1)
    assert_parses(parse_plain, payload, expected, ignores_trailing_bytes=True)
    assert payload[expected.event_offset :] == XID_EVENT
    assert serialize_stream_packet(XID_EVENT) == payload


@pytest.mark.parametrize("ack_wanted", [True, False])
def test_parses_a_packet_of_a_semi_synchronous_stream(ack_wanted: bool) -> None:
    payload = (b"\x00\xef\x01" if ack_wanted else b"\x00\xef\x00") + XID_EVENT
    expected = StreamPacket(XID_HEADER, ack_wanted, event_offset=3)
    assert_parses(parse_semi_sync, payload, expected, ignores_trailing_bytes=True)
    assert serialize_stream_packet(XID_EVENT, semi_sync=True, ack_wanted=ack_wanted) == payload


def test_the_first_bytes_of_a_packet_are_enough() -> None:
    assert parse_semi_sync((b"\x00\xef\x01" + XID_EVENT)[:STREAM_PREFIX_BYTES]).__class__ is StreamPacket


def test_a_semi_synchronous_stream_has_its_header_in_every_packet() -> None:
    with pytest.raises(MalformedPacket, match="semi-synchronous"):
        parse_semi_sync(b"\x00" + XID_EVENT)


@pytest.mark.parametrize("parse", [parse_plain, parse_semi_sync])
def test_a_stream_can_end_or_fail(parse: object) -> None:
    assert callable(parse)
    assert parse(END) == EofPacket(0, 2)
    lost = parse(BINLOG_LOST)
    assert isinstance(lost, ErrPacket)
    assert lost.code == 1236
    with pytest.raises(MalformedPacket):
        parse(b"\x0a" + XID_EVENT)
    with pytest.raises(MalformedPacket):
        parse(b"\xfe" + XID_EVENT)
    with pytest.raises(TruncatedPacket):
        parse(b"")


def test_parses_a_rotation_without_checksum() -> None:
    expected = RotateEvent(4, b"binlog.000042")
    assert_parses(RotateEvent.parse, ROTATE_EVENT, expected)
    assert expected.serialize(server_id=1, with_checksum=False) == ROTATE_EVENT


def test_parses_a_rotation_with_checksum() -> None:
    sized = ROTATE_EVENT[:9] + b"\x2c\x00\x00\x00" + ROTATE_EVENT[13:]
    payload = sized + zlib.crc32(sized).to_bytes(4, "little")
    expected = RotateEvent(4, b"binlog.000042")
    assert_parses(RotateEvent.parse, payload, expected)
    assert expected.serialize(server_id=1, with_checksum=True) == payload


@given(st.integers(0, 2**64 - 1), st.binary(max_size=80), st.booleans())
def test_rotations_come_back(position: int, file: bytes, with_checksum: bool) -> None:
    rotate = RotateEvent(position, file)
    assert RotateEvent.parse(rotate.serialize(server_id=9, with_checksum=with_checksum)) == rotate


def test_another_event_is_no_rotation() -> None:
    with pytest.raises(MalformedPacket, match="type 16"):
        RotateEvent.parse(XID_EVENT)


def test_parses_an_acknowledgement() -> None:
    assert_parses(SemiSyncAck.parse, ACK, SemiSyncAck(0x12A, b"binlog.000042"))
    for length in range(9):
        with pytest.raises(TruncatedPacket):
            SemiSyncAck.parse(ACK[:length])
    with pytest.raises(MalformedPacket):
        SemiSyncAck.parse(b"\x03" + ACK[1:])


@given(st.integers(0, 2**64 - 1), st.binary(max_size=512))
def test_acknowledgements_come_back(position: int, file: bytes) -> None:
    assert SemiSyncAck.parse(SemiSyncAck(position, file).serialize()) == SemiSyncAck(position, file)
