import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.parsing import assert_every_prefix_is_refused, assert_parses
from tests.wire.vectors import ACCESS_DENIED, END, OK, TOO_MANY_CONNECTIONS
from wire.capabilities import NO_CAPABILITIES, Capability
from wire.errors import MalformedPacket
from wire.results import EofPacket, ErrPacket, OkPacket, is_eof, is_err, is_ok

OK_WITH_COUNTERS = b"\x00\xfc\x2c\x01\x05\x02\x40\x01\x00\x09Rows: 300"

counters = st.integers(0, 2**64 - 1)
halves = st.integers(0, 2**16 - 1)


def test_parses_an_ok() -> None:
    assert_parses(OkPacket.parse, OK, OkPacket(status=2))
    assert_every_prefix_is_refused(OkPacket.parse, OK)
    assert OkPacket(status=2).serialize() == OK


def test_parses_an_ok_with_counters_and_information() -> None:
    expected = OkPacket(300, 5, 0x4002, 1, b"\x09Rows: 300")
    assert_parses(OkPacket.parse, OK_WITH_COUNTERS, expected)
    assert expected.serialize() == OK_WITH_COUNTERS


def test_parses_the_ok_that_ends_a_result_set() -> None:
    assert OkPacket.parse(b"\xfe" + OK[1:]) == OkPacket.parse(OK)


def test_capabilities_decide_which_counters_an_ok_has() -> None:
    assert OkPacket.parse(b"\x00\x01\x02rest", NO_CAPABILITIES) == OkPacket(1, 2, 0, 0, b"rest")
    assert OkPacket.parse(b"\x00\x01\x02\x03\x00rest", Capability.CLIENT_TRANSACTIONS) == OkPacket(1, 2, 3, 0, b"rest")


@given(st.builds(OkPacket, counters, counters, halves, halves, st.binary()))
def test_oks_come_back(packet: OkPacket) -> None:
    assert OkPacket.parse(packet.serialize()) == packet


def test_parses_an_error_with_sqlstate() -> None:
    expected = ErrPacket(1045, b"28000", b"Access denied for user 'repl'@'10.20.0.7' (using password: YES)")
    assert_parses(ErrPacket.parse, ACCESS_DENIED, expected)
    assert expected.serialize(with_sqlstate=True) == ACCESS_DENIED


def test_parses_an_error_from_before_the_login() -> None:
    expected = ErrPacket(1040, None, b"Too many connections")
    assert_parses(ErrPacket.parse, TOO_MANY_CONNECTIONS, expected)
    assert expected.serialize(with_sqlstate=False) == TOO_MANY_CONNECTIONS


def test_an_error_whose_state_is_unknown_is_a_general_one() -> None:
    written = ErrPacket(1236, None, b"gone").serialize(with_sqlstate=True)
    assert ErrPacket.parse(written) == ErrPacket(1236, b"HY000", b"gone")


def test_a_message_too_short_for_a_sqlstate_has_none() -> None:
    assert ErrPacket.parse(b"\xff\x15\x04#2800") == ErrPacket(1045, None, b"#2800")


@given(halves, st.binary(min_size=5, max_size=5), st.binary())
def test_errors_come_back(code: int, sqlstate: bytes, message: bytes) -> None:
    packet = ErrPacket(code, sqlstate, message)
    assert ErrPacket.parse(packet.serialize(with_sqlstate=True)) == packet


def test_parses_an_end() -> None:
    assert_parses(EofPacket.parse, END, EofPacket(0, 2))
    assert EofPacket(0, 2).serialize() == END
    assert EofPacket.parse(b"\xfe") == EofPacket()


@pytest.mark.parametrize("parse", [OkPacket.parse, ErrPacket.parse, EofPacket.parse])
def test_another_header_is_malformed(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(MalformedPacket):
        parse(b"\x0a\x00\x00\x00\x00\x00\x00")


@pytest.mark.parametrize(
    ("payload", "ok", "err", "eof"),
    [
        (OK, True, False, False),
        (OK[:-1], False, False, False),
        (OK_WITH_COUNTERS, True, False, False),
        (ACCESS_DENIED, False, True, False),
        (TOO_MANY_CONNECTIONS, False, True, False),
        (b"\xff", False, True, False),
        (END, False, False, True),
        (b"\xfe", False, False, True),
        (b"\xfe" + bytes(7), False, False, True),
        (b"\xfe" + bytes(8), False, False, False),
        (b"", False, False, False),
        (b"\x0a", False, False, False),
    ],
)
def test_the_three_answers_are_told_apart_by_header_and_length(payload: bytes, ok: bool, err: bool, eof: bool) -> None:
    for given_as in (payload, bytearray(payload), memoryview(payload)):
        assert (is_ok(given_as), is_err(given_as), is_eof(given_as)) == (ok, err, eof)


def test_an_end_longer_than_an_end_may_be_is_malformed() -> None:
    with pytest.raises(MalformedPacket):
        EofPacket.parse(b"\xfe" + bytes(8))
