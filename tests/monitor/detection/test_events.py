"""An event is known by what it says of its size, wherever it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.detection.events import is_of_a_system_schema, schema_of_column, see_event
from tests.monitor.talk import OK, column, event
from wire.binlog import EventType, serialize_stream_packet


def seen(payload: bytes) -> bool:
    return see_event(payload, len(payload)) is not None


@pytest.mark.parametrize("code", [code for code in EventType if code], ids=lambda code: code.name)
@pytest.mark.parametrize("semi_sync", [False, True])
def test_every_type_is_known(code: EventType, semi_sync: bool) -> None:
    payload = serialize_stream_packet(event(code), semi_sync=semi_sync, ack_wanted=semi_sync)
    found = see_event(payload, len(payload))
    assert found is not None
    assert (found.is_semi_sync, found.is_checked, found.server_id) == (semi_sync, True, 7)


def test_a_timestamp_that_begins_like_a_semi_synchronous_header_is_none() -> None:
    payload = serialize_stream_packet(event(timestamp=0x650001EF))
    found = see_event(payload, len(payload))
    assert found is not None
    assert not found.is_semi_sync


def test_the_first_bytes_of_a_long_event_are_enough() -> None:
    payload = serialize_stream_packet(event(body=bytes(100_000)))
    found = see_event(payload[:22], len(payload))
    assert found is not None
    assert not found.is_checked


def test_the_first_fragment_of_an_event_of_more_than_16_mib_is_known() -> None:
    head = serialize_stream_packet(event(body=bytes(17 << 20)))[:26]
    assert see_event(head, 0xFFFFFF) is not None
    assert see_event(head, 0xFFFFFE) is None


def test_a_wrong_checksum_and_none_are_not_right() -> None:
    for one in (event(with_checksum=False), event()[:-1] + b"\x00"):
        payload = serialize_stream_packet(one)
        found = see_event(payload, len(payload))
        assert found is not None
        assert not found.is_checked


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param(0, 1, id="status byte"),
        pytest.param(4, 0x12, id="a timestamp of before 2000"),
        pytest.param(5, 0, id="type 0"),
        pytest.param(5, 99, id="unknown type"),
        pytest.param(10, 1, id="size"),
        pytest.param(19, 0x04, id="flags"),
    ],
)
def test_one_wrong_field_is_enough(place: int, value: int) -> None:
    payload = bytearray(serialize_stream_packet(event()))
    assert seen(bytes(payload))
    assert payload[place] != value
    payload[place] = value
    assert not seen(bytes(payload))


def test_server_id_zero_is_no_servers() -> None:
    assert not seen(serialize_stream_packet(event(server_id=0)))


@given(st.binary(max_size=120))
def test_any_bytes_are_looked_at(payload: bytes) -> None:
    see_event(payload, len(payload))
    schema_of_column(payload)


def test_a_column_says_which_schema_it_is_of() -> None:
    assert schema_of_column(column(b"shop", b"orders", b"id")) == b"shop"
    assert schema_of_column(column(b"", b"", b"UNIX_TIMESTAMP()")) == b""
    assert schema_of_column(OK) is None
    whole = column(b"shop", b"orders", b"id")
    assert [length for length in range(len(whole)) if schema_of_column(whole[:length]) is not None] == []


def test_what_a_replica_asks_of_is_the_systems() -> None:
    assert is_of_a_system_schema(b"")
    assert is_of_a_system_schema(b"INFORMATION_SCHEMA")
    assert not is_of_a_system_schema(b"mysql")
