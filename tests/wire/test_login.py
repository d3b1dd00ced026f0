import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.parsing import assert_every_prefix_is_refused, assert_parses
from tests.wire.vectors import (
    MARIADB_LOGIN,
    MYSQL_LOGIN,
    MYSQL_LOGIN_OVER_TLS,
    MYSQL_SSL_REQUEST,
    SCRAMBLE_20,
    SCRAMBLE_32,
)
from wire.capabilities import NO_CAPABILITIES, Capability
from wire.datatypes import lenenc_bytes
from wire.errors import MalformedPacket, TruncatedPacket, WireError
from wire.login import (
    ATTRIBUTES_LIMIT_BYTES,
    HandshakeResponse41,
    SSLRequest,
    is_ssl_request,
    with_attributes_added,
    with_auth_response,
    with_tls_flag,
)

TAIL = b"\x03\x00\x00\x00 something that a later version appends"

PROXY_ATTRIBUTES = {b"_proxy_peer_ip": b"10.20.0.7", b"_proxy_tls_version": b"TLSv1.3"}

without_nul = st.binary(max_size=40).filter(lambda value: b"\x00" not in value)


@st.composite
def logins(draw: st.DrawFn) -> HandshakeResponse41:
    capabilities = Capability(draw(st.integers(0, 2**29 - 1)) | Capability.CLIENT_PROTOCOL_41)
    compression = capabilities & (Capability.CLIENT_COMPRESS | Capability.CLIENT_ZSTD_COMPRESSION_ALGORITHM)
    zstd = compression == Capability.CLIENT_ZSTD_COMPRESSION_ALGORITHM
    mariadb = not capabilities & Capability.CLIENT_MYSQL
    return HandshakeResponse41(
        capabilities=capabilities,
        user=draw(without_nul),
        auth_response=draw(without_nul),
        max_packet_bytes=draw(st.integers(0, 2**32 - 1)),
        charset=draw(st.integers(0, 255)),
        extended_capabilities=Capability(draw(st.integers(0, 2**32 - 1)) << 32) if mariadb else NO_CAPABILITIES,
        database=draw(without_nul) if capabilities & Capability.CLIENT_CONNECT_WITH_DB else None,
        plugin=draw(without_nul) if capabilities & Capability.CLIENT_PLUGIN_AUTH else None,
        attributes=draw(st.dictionaries(st.binary(max_size=20), st.binary(max_size=300), max_size=5))
        if capabilities & Capability.CLIENT_CONNECT_ATTRS
        else {},
        zstd_level=draw(st.integers(1, 22)) if zstd else None,
        tail=draw(st.binary(max_size=9)) if zstd else b"",
    )


def test_parses_a_request_for_tls() -> None:
    expected = SSLRequest(Capability(0x19FF_AE85), 1 << 30, 0xFF)
    assert_parses(SSLRequest.parse, MYSQL_SSL_REQUEST, expected, ignores_trailing_bytes=True)
    assert expected.serialize() == MYSQL_SSL_REQUEST


def test_parses_a_request_for_tls_from_mariadb() -> None:
    payload = with_tls_flag(MARIADB_LOGIN[:32], wanted=True)
    request = SSLRequest.parse(payload)
    assert request.extended_capabilities == (
        Capability.MARIADB_CLIENT_STMT_BULK_OPERATIONS | Capability.MARIADB_CLIENT_EXTENDED_METADATA
    )
    assert request.serialize() == payload


def test_accepts_the_request_of_four_bytes() -> None:
    payload = MYSQL_SSL_REQUEST[:4]
    assert is_ssl_request(payload)
    assert SSLRequest.parse(payload) == SSLRequest(Capability(0x19FF_AE85))


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 31])
def test_refuses_a_request_of_any_other_length_below_32(length: int) -> None:
    with pytest.raises(WireError):
        SSLRequest.parse(MYSQL_SSL_REQUEST[:length])


def test_the_bit_and_not_the_length_makes_a_request_for_tls() -> None:
    assert is_ssl_request(MYSQL_SSL_REQUEST)
    assert is_ssl_request(MYSQL_LOGIN_OVER_TLS)
    assert SSLRequest.parse(MYSQL_LOGIN_OVER_TLS) == SSLRequest.parse(MYSQL_SSL_REQUEST)
    assert not is_ssl_request(MYSQL_LOGIN)
    assert not is_ssl_request(MYSQL_LOGIN[:32])
    assert not is_ssl_request(b"\x85")
    with pytest.raises(MalformedPacket):
        SSLRequest.parse(MYSQL_LOGIN[:32])


def test_the_request_before_a_login_has_its_capabilities() -> None:
    assert SSLRequest.for_login(MYSQL_LOGIN) == MYSQL_SSL_REQUEST
    assert SSLRequest.for_login(MYSQL_LOGIN_OVER_TLS) == MYSQL_SSL_REQUEST
    assert with_tls_flag(MYSQL_LOGIN, wanted=True).startswith(SSLRequest.for_login(MYSQL_LOGIN))
    with pytest.raises(TruncatedPacket):
        SSLRequest.for_login(MYSQL_LOGIN[:31])


def test_parses_the_login_of_a_mysql_replica() -> None:
    expected = HandshakeResponse41(
        capabilities=Capability(0x19FF_A685),
        user=b"repl",
        auth_response=SCRAMBLE_32,
        max_packet_bytes=1 << 30,
        charset=0xFF,
        plugin=b"caching_sha2_password",
        attributes={
            b"program_name": b"mysqld",
            b"_client_role": b"binary_log_listener",
            b"_client_replication_channel_name": b"",
            b"_pid": b"4242",
            b"_platform": b"x86_64",
        },
    )
    assert_parses(HandshakeResponse41.parse, MYSQL_LOGIN, expected)
    assert_every_prefix_is_refused(HandshakeResponse41.parse, MYSQL_LOGIN)


def test_parses_the_login_of_a_mariadb_replica() -> None:
    expected = HandshakeResponse41(
        capabilities=Capability(0x001F_A68C),
        user=b"repl",
        auth_response=SCRAMBLE_20,
        max_packet_bytes=1 << 30,
        charset=0x2D,
        extended_capabilities=Capability(0xC << 32),
        database=b"orders",
        plugin=b"mysql_native_password",
        attributes={b"_client_name": b"libmysql"},
    )
    assert_parses(HandshakeResponse41.parse, MARIADB_LOGIN, expected)
    assert_every_prefix_is_refused(HandshakeResponse41.parse, MARIADB_LOGIN)


@pytest.mark.parametrize("payload", [MYSQL_LOGIN, MYSQL_LOGIN_OVER_TLS, MARIADB_LOGIN, MYSQL_LOGIN + TAIL])
def test_serializes_to_the_same_bytes(payload: bytes) -> None:
    assert HandshakeResponse41.parse(payload).serialize() == payload


@given(logins())
def test_logins_come_back(login: HandshakeResponse41) -> None:
    assert HandshakeResponse41.parse(login.serialize()) == login


def test_keeps_an_unknown_tail() -> None:
    assert HandshakeResponse41.parse(MYSQL_LOGIN + TAIL).tail == TAIL


def test_reads_one_byte_of_zstd_level_though_connector_c_writes_four() -> None:
    zstd = dataclasses.replace(
        HandshakeResponse41.parse(MYSQL_LOGIN),
        capabilities=Capability(0x19FF_A685) | Capability.CLIENT_ZSTD_COMPRESSION_ALGORITHM,
        zstd_level=3,
        tail=b"\x00\x00\x00",
    )
    assert_parses(HandshakeResponse41.parse, zstd.serialize(), zstd)


def test_zlib_beats_zstd_and_no_level_is_read() -> None:
    both = Capability.CLIENT_COMPRESS | Capability.CLIENT_ZSTD_COMPRESSION_ALGORITHM
    login = HandshakeResponse41(Capability.CLIENT_PROTOCOL_41 | both, b"repl", tail=b"\x05")
    assert HandshakeResponse41.parse(login.serialize()) == dataclasses.replace(login, zstd_level=None, tail=b"\x05")


def test_accepts_a_login_that_ends_before_its_plugin() -> None:
    capabilities = Capability.CLIENT_PROTOCOL_41 | Capability.CLIENT_PLUGIN_AUTH
    login = HandshakeResponse41(capabilities, b"repl", SCRAMBLE_20, plugin=b"")
    assert HandshakeResponse41.parse(login.serialize()[:-1]) == login


def test_refuses_a_login_from_before_4_1() -> None:
    with pytest.raises(MalformedPacket, match=r"before protocol 4\.1"):
        HandshakeResponse41.parse(b"\x85\x24\x00\x00\x00root\x00secret\x00" + bytes(30))


def test_refuses_attributes_that_overrun_their_own_length() -> None:
    head = MARIADB_LOGIN[: MARIADB_LOGIN.index(b"\x16\x0c_client_name")]
    with pytest.raises(MalformedPacket, match="overrun"):
        HandshakeResponse41.parse(head + lenenc_bytes(b"\x0c_client_name\x09libmysql") + b"more")


def test_refuses_attributes_longer_than_the_login() -> None:
    head = MARIADB_LOGIN[: MARIADB_LOGIN.index(b"\x16\x0c_client_name")]
    with pytest.raises(TruncatedPacket):
        HandshakeResponse41.parse(head + b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f")


def test_a_login_does_not_show_its_secret() -> None:
    assert repr(SCRAMBLE_32) not in repr(HandshakeResponse41.parse(MYSQL_LOGIN))


@pytest.mark.parametrize("payload", [MYSQL_LOGIN + TAIL, MYSQL_LOGIN_OVER_TLS + TAIL, MYSQL_SSL_REQUEST])
def test_the_tls_flag_changes_one_bit_and_nothing_else(payload: bytes) -> None:
    for wanted in (True, False):
        edited = with_tls_flag(payload, wanted)
        assert is_ssl_request(edited) == wanted
        assert edited[:1] + edited[2:] == payload[:1] + payload[2:]
        assert edited[1] & ~0x08 == payload[1] & ~0x08
    with pytest.raises(TruncatedPacket):
        with_tls_flag(payload[:3], wanted=True)


def added(payload: bytes, extra: dict[bytes, bytes] = PROXY_ATTRIBUTES) -> bytes:
    return with_attributes_added(payload, extra, reserved=b"_proxy_")


@pytest.mark.parametrize("payload", [MYSQL_LOGIN, MARIADB_LOGIN])
@pytest.mark.parametrize("tail", [b"", TAIL])
def test_attributes_are_added_before_the_replicas_own_and_an_unknown_tail(payload: bytes, tail: bytes) -> None:
    before = HandshakeResponse41.parse(payload + tail)
    edited = added(payload + tail)
    after = HandshakeResponse41.parse(edited)
    assert after == dataclasses.replace(before, attributes={**PROXY_ATTRIBUTES, **before.attributes})
    # A server that has no room for all keeps the first.
    assert list(after.attributes) == [*PROXY_ATTRIBUTES, *before.attributes]
    assert edited.endswith(tail)


def test_adding_attributes_widens_their_length_where_it_must() -> None:
    extra = {b"_proxy_subject": b"x" * 300, b"_proxy_issuer": b"y" * 60_000}
    login = HandshakeResponse41.parse(added(MYSQL_LOGIN + TAIL, extra))
    assert login.attributes[b"_proxy_issuer"] == b"y" * 60_000
    assert login.attributes[b"_client_role"] == b"binary_log_listener"
    assert login.tail == TAIL


@pytest.mark.parametrize(
    "name", [b"_proxy_peer_ip", b"_proxy_", b"_proxy_unheard_of", b"_PROXY_PEER_IP", b"_Proxy_peer_ip\x00"]
)
@pytest.mark.parametrize("extra", [PROXY_ATTRIBUTES, {}], ids=["some", "none"])
def test_a_replica_cannot_forge_what_the_proxy_adds(name: bytes, extra: dict[bytes, bytes]) -> None:
    forged = with_attributes_added(MYSQL_LOGIN + TAIL, {name: b"192.0.2.1"}, reserved=b"none")
    assert b"192.0.2.1" in forged
    honest = added(forged, extra)
    assert honest == added(MYSQL_LOGIN + TAIL, extra)
    assert b"192.0.2.1" not in honest


@pytest.mark.parametrize("name", [b"proxy_peer_ip", b"_proxypeer", b" _proxy_peer_ip", b"_client_proxy_"])
def test_other_names_are_kept(name: bytes) -> None:
    login = with_attributes_added(MYSQL_LOGIN, {name: b"here"}, reserved=b"none")
    assert added(login, {}) == login
    assert HandshakeResponse41.parse(added(login)).attributes[name] == b"here"


def test_the_replicas_own_attributes_make_room_at_their_end() -> None:
    own = {b"n%04d" % number: b"v" * 100 for number in range(600)}
    login = dataclasses.replace(HandshakeResponse41.parse(MYSQL_LOGIN), attributes=own).serialize()
    extra = {b"_proxy_peer_ip": b"x" * 5000}
    edited = HandshakeResponse41.parse(added(login, extra)).attributes
    names = list(edited)
    assert names[0] == b"_proxy_peer_ip"
    assert names[1:] == list(own)[: len(names) - 1]
    room = ATTRIBUTES_LIMIT_BYTES - len(lenenc_bytes(b"_proxy_peer_ip") + lenenc_bytes(b"x" * 5000))
    assert len(names) - 1 == room // len(lenenc_bytes(b"n0000") + lenenc_bytes(b"v" * 100))


def test_more_attributes_than_a_server_takes_are_refused() -> None:
    login = dataclasses.replace(HandshakeResponse41.parse(MYSQL_LOGIN), attributes={})
    for room, name in ((0, b"fits"), (1, b"does not")):
        value = b"v" * (ATTRIBUTES_LIMIT_BYTES - len(lenenc_bytes(name)) - 3 + room)
        payload = dataclasses.replace(login, attributes={name: value}).serialize()
        if room:
            with pytest.raises(MalformedPacket, match="65536 bytes of connection attributes"):
                HandshakeResponse41.parse(payload)
        else:
            assert HandshakeResponse41.parse(payload).attributes == {name: value}


def test_no_attributes_are_added_where_none_were_agreed_upon() -> None:
    login = HandshakeResponse41(Capability.CLIENT_PROTOCOL_41, b"repl", SCRAMBLE_20)
    assert added(login.serialize() + TAIL) == login.serialize() + TAIL


@pytest.mark.parametrize("payload", [MYSQL_LOGIN + TAIL, MARIADB_LOGIN + TAIL])
@pytest.mark.parametrize("response", [b"", SCRAMBLE_20, b"r" * 255])
def test_another_authentication_response_leaves_the_rest_alone(payload: bytes, response: bytes) -> None:
    before = HandshakeResponse41.parse(payload)
    edited = with_auth_response(payload, response)
    assert HandshakeResponse41.parse(edited) == dataclasses.replace(before, auth_response=response)


@given(logins(), without_nul, st.dictionaries(st.just(b"_proxy_x"), st.binary(max_size=300)))
def test_edits_of_any_login_change_what_they_say(
    login: HandshakeResponse41, response: bytes, extra: dict[bytes, bytes]
) -> None:
    payload = login.serialize()
    assert HandshakeResponse41.parse(with_auth_response(payload, response)) == dataclasses.replace(
        login, auth_response=response
    )
    has_attributes = login.capabilities & Capability.CLIENT_CONNECT_ATTRS
    assert HandshakeResponse41.parse(added(payload, extra)) == dataclasses.replace(
        login, attributes={**login.attributes, **extra} if has_attributes else {}
    )


def test_a_response_that_does_not_fit_its_form_is_not_written() -> None:
    with pytest.raises(ValueError, match="one byte"):
        with_auth_response(MARIADB_LOGIN, bytes(256))
    login = HandshakeResponse41(Capability.CLIENT_PROTOCOL_41, b"repl", b"old")
    with pytest.raises(ValueError, match="NUL"):
        with_auth_response(login.serialize(), b"a\x00b")
    assert HandshakeResponse41.parse(with_auth_response(login.serialize(), b"new")).auth_response == b"new"
