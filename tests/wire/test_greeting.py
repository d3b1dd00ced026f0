import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.parsing import assert_parses
from tests.wire.vectors import (
    MARIADB_10_GREETING,
    MARIADB_11_GREETING,
    MYSQL_8_GREETING,
    MYSQL_9_GREETING_WITHOUT_TLS,
    NONCE,
    TOO_MANY_CONNECTIONS,
)
from wire.capabilities import NO_CAPABILITIES, Capability
from wire.errors import MalformedPacket, TruncatedPacket, UnexpectedPacket
from wire.greeting import HandshakeV10, with_tls_offered

GREETINGS = [MYSQL_8_GREETING, MYSQL_9_GREETING_WITHOUT_TLS, MARIADB_10_GREETING, MARIADB_11_GREETING]

greetings = st.builds(
    HandshakeV10,
    server_version=st.binary(max_size=30).filter(lambda version: b"\x00" not in version),
    thread_id=st.integers(0, 2**32 - 1),
    capabilities=st.integers(0, 2**32 - 1).map(lambda bits: Capability(bits | Capability.CLIENT_PLUGIN_AUTH)),
    nonce=st.binary(min_size=20, max_size=200),
    charset=st.integers(0, 255),
    status=st.integers(0, 2**16 - 1),
    plugin=st.binary(max_size=30).filter(lambda plugin: b"\x00" not in plugin),
)


def test_parses_a_mysql_greeting() -> None:
    expected = HandshakeV10(
        server_version=b"8.4.6",
        thread_id=42,
        capabilities=Capability(0xDFFF_FFFF),
        nonce=NONCE,
        charset=0xFF,
        status=2,
        plugin=b"caching_sha2_password",
    )
    assert_parses(HandshakeV10.parse, MYSQL_8_GREETING, expected, ignores_trailing_bytes=True)
    assert not expected.is_mariadb


def test_parses_a_mariadb_greeting_with_its_further_capabilities() -> None:
    expected = HandshakeV10(
        server_version=b"5.5.5-10.11.14-MariaDB-0+deb12u2",
        thread_id=31,
        capabilities=Capability(0x81FF_F7FE),
        extended_capabilities=Capability.MARIADB_CLIENT_PROGRESS
        | Capability.MARIADB_CLIENT_STMT_BULK_OPERATIONS
        | Capability.MARIADB_CLIENT_EXTENDED_METADATA
        | Capability.MARIADB_CLIENT_CACHE_METADATA,
        nonce=NONCE,
        charset=0x2D,
        status=2,
        plugin=b"mysql_native_password",
    )
    assert_parses(HandshakeV10.parse, MARIADB_10_GREETING, expected, ignores_trailing_bytes=True)
    assert expected.is_mariadb


def test_reserved_bytes_are_no_capabilities_where_bit_0_is_set() -> None:
    reserved = MYSQL_8_GREETING.index(b"\x15\x00\x00") + 7
    payload = MYSQL_8_GREETING[:reserved] + b"\xff\xff\xff\xff" + MYSQL_8_GREETING[reserved + 4 :]
    assert HandshakeV10.parse(payload) == HandshakeV10.parse(MYSQL_8_GREETING)
    assert HandshakeV10.parse(payload).extended_capabilities == NO_CAPABILITIES


@pytest.mark.parametrize("payload", GREETINGS)
def test_serializes_to_the_same_bytes(payload: bytes) -> None:
    assert HandshakeV10.parse(payload).serialize() == payload


@given(greetings)
def test_greetings_come_back(greeting: HandshakeV10) -> None:
    assert HandshakeV10.parse(greeting.serialize()) == greeting


def test_accepts_a_plugin_name_without_its_nul() -> None:
    assert HandshakeV10.parse(MYSQL_8_GREETING[:-1]).plugin == b"caching_sha2_password"


def test_a_server_without_plugins_names_none() -> None:
    greeting = HandshakeV10(b"5.5.60", 1, Capability(0xF7FF), NONCE)
    assert greeting.serialize().endswith(NONCE[8:] + b"\x00")
    assert_parses(HandshakeV10.parse, greeting.serialize(), greeting, ignores_trailing_bytes=True)


def test_every_greeting_cut_before_its_plugin_is_truncated() -> None:
    for payload in GREETINGS:
        for length in range(payload.rindex(NONCE[8:]) + 13):
            with pytest.raises(TruncatedPacket):
                HandshakeV10.parse(payload[:length])


def test_an_error_in_place_of_a_greeting_is_unexpected() -> None:
    with pytest.raises(UnexpectedPacket):
        HandshakeV10.parse(TOO_MANY_CONNECTIONS)
    with pytest.raises(UnexpectedPacket):
        with_tls_offered(TOO_MANY_CONNECTIONS, offered=True)


def test_another_protocol_version_is_malformed() -> None:
    with pytest.raises(MalformedPacket):
        HandshakeV10.parse(b"\x09" + MYSQL_8_GREETING[1:])
    with pytest.raises(MalformedPacket):
        with_tls_offered(b"\x16\x03\x01", offered=True)


def test_a_nonce_too_short_to_be_told_from_its_padding_is_not_written() -> None:
    with pytest.raises(ValueError, match="19 bytes"):
        HandshakeV10(b"8", 1, NO_CAPABILITIES, bytes(19)).serialize()


@pytest.mark.parametrize("payload", GREETINGS)
@pytest.mark.parametrize("offered", [True, False])
def test_offering_tls_changes_one_bit_and_nothing_else(payload: bytes, offered: bool) -> None:
    payload += b"\x00 a later version's tail"
    edited = with_tls_offered(payload, offered)
    assert bool(HandshakeV10.parse(edited).capabilities & Capability.CLIENT_SSL) == offered
    changed = int.from_bytes(edited, "big") ^ int.from_bytes(payload, "big")
    assert len(edited) == len(payload)
    assert changed.bit_count() <= 1
    assert with_tls_offered(edited, offered) == edited
    assert payload in {with_tls_offered(edited, True), with_tls_offered(edited, False)}


def test_a_greeting_cut_before_its_capabilities_cannot_be_edited() -> None:
    end = MYSQL_8_GREETING.index(b"\xff\xff") + 2
    for length in range(end):
        with pytest.raises(TruncatedPacket):
            with_tls_offered(MYSQL_8_GREETING[:length], offered=True)
    assert len(with_tls_offered(MYSQL_8_GREETING[:end], offered=False)) == end


@pytest.mark.parametrize(
    ("version", "major"),
    [(b"9.7.4-2", 9), (b"8.0.36-28", 8), (b"5.7.44", 5), (b"11.8.9-MariaDB", 11), (b"5.5.5-10.11.18-MariaDB", 5),
     (b"", 0), (b"nine.7", 0), (b"\xb2.0", 0), (b"12345678901234567890.1", 0)],
)  # fmt: skip
def test_the_major_version(version: bytes, major: int) -> None:
    greeting = HandshakeV10(server_version=version, thread_id=1, capabilities=Capability(0), nonce=bytes(20))
    assert greeting.major_version == major
