import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.parsing import assert_every_prefix_is_refused, assert_parses
from wire.capabilities import NO_CAPABILITIES, Capability
from wire.commands import (
    BinlogDump,
    BinlogDumpGtid,
    Command,
    DumpFlag,
    OtherCommand,
    ParsedCommand,
    Query,
    RegisterReplica,
    command_of,
    parse_command,
)
from wire.datatypes import Payload
from wire.errors import MalformedPacket, TruncatedPacket, UnexpectedPacket

WITH_ATTRIBUTES = Capability.CLIENT_QUERY_ATTRIBUTES

REGISTER = (
    b"\x15"
    b"\x02\x00\x00\x00"
    b"\x09replica-1"
    b"\x04repl"
    b"\x07hunter2"  # the password
    b"\xea\x0c"
    b"\x00\x00\x00\x00"
    b"\x01\x00\x00\x00"
)

DUMP = b"\x12\x9d\x00\x00\x00\x02\x00\x02\x00\x00\x00binlog.000042"

GTID_SET = (
    b"\x01\x00\x00\x00\x00\x00\x00\x00"
    + bytes(range(0xA0, 0xB0))
    + b"\x01\x00\x00\x00\x00\x00\x00\x00"
    + b"\x01\x00\x00\x00\x00\x00\x00\x00\x2b\x00\x00\x00\x00\x00\x00\x00"
)

DUMP_GTID = b"\x1e\x04\x00\x02\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x30\x00\x00\x00" + GTID_SET

names = st.binary(max_size=255)
ids = st.integers(0, 2**32 - 1)
files = st.binary(max_size=80).filter(lambda name: b"\x00" not in name)
flags = st.integers(0, 2**16 - 1).map(DumpFlag)


def parse(payload: Payload) -> ParsedCommand:
    return parse_command(payload, NO_CAPABILITIES)


def parse_with_attributes(payload: Payload) -> ParsedCommand:
    return parse_command(payload, WITH_ATTRIBUTES)


def test_parses_a_query() -> None:
    assert_parses(parse, b"\x03SELECT UNIX_TIMESTAMP()", Query(b"SELECT UNIX_TIMESTAMP()"))


def test_parses_a_query_behind_no_attributes() -> None:
    payload = b"\x03\x00\x01SELECT @@GLOBAL.SERVER_ID"
    assert_parses(parse_with_attributes, payload, Query(b"SELECT @@GLOBAL.SERVER_ID"))
    assert Query(b"SELECT @@GLOBAL.SERVER_ID").serialize(WITH_ATTRIBUTES) == payload


def test_parses_a_query_behind_attributes_of_every_width() -> None:
    types = [
        (0x01, b"\x07", b"\x07"),
        (0x02, b"\x07\x00", b"\x07\x00"),
        (0x03, b"\x07\x00\x00\x00", b"\x07\x00\x00\x00"),
        (0x05, bytes(8), bytes(8)),
        (0x0C, b"\x04\xe9\x07\x0b\x14", b"\xe9\x07\x0b\x14"),
        (0xFE, b"\x08trace-id", b"trace-id"),
        (0x06, b"", None),
        (0xF5, b"\x02{}", b"{}"),
        (0x0B, b"\x00", b""),
    ]
    payload = (
        b"\x03\x09\x01"
        b"\x40\x00"  # the seventh is NULL
        b"\x01"
        + b"".join(bytes([code, 0x80]) + bytes([1]) + b"%d" % index for index, (code, _, _) in enumerate(types))
        + b"".join(sent for _, sent, _ in types)
        + b"DO 1"
    )
    attributes = {b"%d" % index: value for index, (_, _, value) in enumerate(types)}
    assert_parses(parse_with_attributes, payload, Query(b"DO 1", attributes))


@given(st.binary(), st.dictionaries(st.binary(max_size=9), st.none() | st.binary(max_size=300), max_size=20))
def test_queries_come_back(text: bytes, attributes: dict[bytes, bytes | None]) -> None:
    query = Query(text, attributes)
    assert parse_with_attributes(query.serialize(WITH_ATTRIBUTES)) == query
    assert parse(query.serialize(NO_CAPABILITIES)) == Query(text)


def test_refuses_attributes_without_types_or_of_an_unknown_type() -> None:
    with pytest.raises(MalformedPacket, match="without their types"):
        parse_with_attributes(b"\x03\x01\x01\x00\x00DO 1")
    with pytest.raises(MalformedPacket, match="0x63"):
        parse_with_attributes(b"\x03\x01\x01\x00\x01\x63\x00\x01nDO 1")


def test_a_claim_of_countless_attributes_costs_nothing() -> None:
    with pytest.raises(TruncatedPacket):
        parse_with_attributes(b"\x03\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01DO 1")


def test_a_query_does_not_show_its_text() -> None:
    secret = b"CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD = 'hunter2'"
    assert "hunter2" not in repr(parse(b"\x03" + secret))


def test_parses_a_registration_without_its_password() -> None:
    expected = RegisterReplica(server_id=2, host=b"replica-1", user=b"repl", port=3306, source_id=1)
    assert_parses(parse, REGISTER, expected, ignores_trailing_bytes=True)
    assert_every_prefix_is_refused(parse, REGISTER)
    assert "hunter2" not in repr(parse(REGISTER))
    assert b"hunter2" not in expected.serialize()


def test_parses_a_dump_from_a_position() -> None:
    expected = BinlogDump(server_id=2, file=b"binlog.000042", position=157, flags=DumpFlag.SEND_ANNOTATE_ROWS)
    assert_parses(parse, DUMP, expected)
    assert expected.serialize() == DUMP
    assert expected.flags & DumpFlag.USE_HEARTBEAT_EVENT_V2  # the same bit in MySQL


def test_the_file_of_a_dump_ends_at_a_nul_as_servers_read_it() -> None:
    assert parse(DUMP + b"\x00junk") == parse(DUMP)


def test_parses_a_dump_from_a_gtid_set() -> None:
    expected = BinlogDumpGtid(server_id=2, gtid_set=GTID_SET, flags=DumpFlag(4))
    assert_parses(parse, DUMP_GTID, expected, ignores_trailing_bytes=True)
    assert_every_prefix_is_refused(parse, DUMP_GTID)
    assert expected.serialize() == DUMP_GTID


@given(
    st.builds(RegisterReplica, ids, names, names, st.integers(0, 2**16 - 1), ids)
    | st.builds(BinlogDump, ids, files, ids, flags)
    | st.builds(BinlogDumpGtid, ids, st.binary(max_size=300), files, st.integers(0, 2**64 - 1), flags)
    | st.builds(OtherCommand, st.sampled_from([Command.COM_PING, Command.COM_CLONE]), st.binary())
)
def test_commands_come_back(command: RegisterReplica | BinlogDump | BinlogDumpGtid | OtherCommand) -> None:
    assert parse(command.serialize()) == command


def test_every_other_command_keeps_its_argument() -> None:
    assert parse(b"\x01") == OtherCommand(Command.COM_QUIT)
    assert parse(b"\x0c\x2a\x00\x00\x00") == OtherCommand(Command.COM_PROCESS_KILL, b"\x2a\x00\x00\x00")
    change_user = parse(b"\x11root\x00\x07hunter2")
    assert change_user == OtherCommand(Command.COM_CHANGE_USER, b"root\x00\x07hunter2")
    assert "hunter2" not in repr(change_user)


def test_parses_every_known_command_byte_or_says_what_is_missing() -> None:
    for code in range(256):
        known = code in set(Command)
        if known:
            assert command_of(bytes([code])) == code
        else:
            with pytest.raises(UnexpectedPacket, match=f"0x{code:02X}"):
                parse(bytes([code]) + bytes(40))


def test_an_empty_payload_is_no_command() -> None:
    with pytest.raises(TruncatedPacket):
        parse(b"")
