import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysql import _auth as auth

from tests.wire.parsing import assert_parses
from tests.wire.vectors import ACCESS_DENIED, NONCE, OK, OTHER_NONCE
from wire.authentication import (
    CACHING_SHA2_FAST_OK,
    CACHING_SHA2_FULL,
    CACHING_SHA2_PASSWORD,
    MYSQL_NATIVE_PASSWORD,
    AuthMoreData,
    AuthNextFactor,
    AuthSwitchRequest,
    OldAuthSwitchRequest,
    caching_sha2_scramble,
    classify_auth_reply,
    native_scramble,
    xor_with_nonce,
)
from wire.errors import MalformedPacket, TruncatedPacket
from wire.results import ErrPacket, OkPacket

PUBLIC_KEY = b"-----BEGIN PUBLIC KEY-----\nbm90IGEga2V5\n-----END PUBLIC KEY-----\n"
AUTH_SWITCH = b"\xfecaching_sha2_password\x00" + OTHER_NONCE + b"\x00"


def test_parses_a_switch_of_plugin_with_its_new_nonce() -> None:
    expected = AuthSwitchRequest(CACHING_SHA2_PASSWORD, OTHER_NONCE + b"\x00")
    assert_parses(AuthSwitchRequest.parse, AUTH_SWITCH, expected)
    assert_parses(classify_auth_reply, AUTH_SWITCH, expected)
    assert expected.nonce == OTHER_NONCE
    assert expected.serialize() == AUTH_SWITCH


def test_a_nonce_without_a_trailing_nul_stays_whole() -> None:
    assert AuthSwitchRequest(MYSQL_NATIVE_PASSWORD, NONCE).nonce == NONCE


def test_parses_more_data() -> None:
    key = AuthMoreData(PUBLIC_KEY)
    assert_parses(classify_auth_reply, b"\x01" + PUBLIC_KEY, key)
    assert key.serialize() == b"\x01" + PUBLIC_KEY
    assert classify_auth_reply(b"\x01\x03") == AuthMoreData(bytes([CACHING_SHA2_FAST_OK]))
    assert classify_auth_reply(b"\x01\x04") == AuthMoreData(bytes([CACHING_SHA2_FULL]))
    assert classify_auth_reply(b"\x01") == AuthMoreData(b"")


def test_parses_data_that_mariadb_sends_without_escaping_it() -> None:
    parsec = b"P\x00" + bytes(range(100, 118))
    assert_parses(classify_auth_reply, parsec, AuthMoreData(parsec, is_escaped=False))
    assert AuthMoreData.parse(parsec).serialize() == parsec


def test_tells_a_further_factor_from_a_question_of_the_dialog_plugin() -> None:
    factor = AuthNextFactor(b"authentication_webauthn_client", b"\x00challenge")
    assert_parses(AuthNextFactor.parse, factor.serialize(), factor)
    assert_parses(classify_auth_reply, factor.serialize(), factor)
    assert classify_auth_reply(b"\x02Password: ") == AuthMoreData(b"\x02Password: ", is_escaped=False)


def test_parses_the_request_of_a_single_byte() -> None:
    assert classify_auth_reply(b"\xfe") == OldAuthSwitchRequest()
    assert OldAuthSwitchRequest().serialize() == b"\xfe"


def test_parses_success_and_failure() -> None:
    assert classify_auth_reply(OK) == OkPacket(status=2)
    reply = classify_auth_reply(ACCESS_DENIED)
    assert isinstance(reply, ErrPacket)
    assert reply.code == 1045


def test_refuses_another_header_and_an_empty_packet() -> None:
    with pytest.raises(MalformedPacket):
        AuthSwitchRequest.parse(b"\x02plugin\x00")
    with pytest.raises(MalformedPacket):
        AuthNextFactor.parse(b"\xfeplugin\x00")
    for parse in (AuthSwitchRequest.parse, AuthNextFactor.parse, AuthMoreData.parse, classify_auth_reply):
        with pytest.raises(TruncatedPacket):
            parse(b"")


@given(st.binary(max_size=30).filter(lambda plugin: plugin and b"\x00" not in plugin), st.binary())
def test_requests_come_back(plugin: bytes, data: bytes) -> None:
    for request in (AuthSwitchRequest(plugin, data), AuthNextFactor(plugin, data), AuthMoreData(data)):
        assert classify_auth_reply(request.serialize()) == request


def test_a_password_is_combined_with_the_repeated_nonce() -> None:
    assert xor_with_nonce(b"\x00" * 5, b"ab") == b"ababa"
    assert xor_with_nonce(b"secret\x00", b"\x00") == b"secret\x00"


@given(st.binary(max_size=100), st.binary(min_size=1, max_size=40))
def test_combining_twice_gives_the_password_back(password: bytes, nonce: bytes) -> None:
    combined = xor_with_nonce(password, nonce)
    assert isinstance(combined, bytearray)
    assert xor_with_nonce(combined, nonce) == password


def test_an_empty_nonce_is_the_peers_fault() -> None:
    with pytest.raises(MalformedPacket):
        xor_with_nonce(b"secret\x00", b"")


def test_an_empty_password_is_answered_by_nothing() -> None:
    assert caching_sha2_scramble(b"", NONCE) == b""
    assert native_scramble(b"", NONCE) == b""


@given(st.binary(min_size=1), st.binary(min_size=20, max_size=20))
def test_a_server_that_holds_the_double_hash_accepts_the_scrambles(password: bytes, nonce: bytes) -> None:
    stored = hashlib.sha1(hashlib.sha1(password).digest()).digest()  # noqa: S324 - the plugin's own choice
    mask = hashlib.sha1(nonce + stored).digest()  # noqa: S324
    once = bytes(a ^ b for a, b in zip(native_scramble(password, nonce), mask, strict=True))
    assert hashlib.sha1(once).digest() == stored  # noqa: S324

    stored = hashlib.sha256(hashlib.sha256(password).digest()).digest()
    mask = hashlib.sha256(stored + nonce).digest()
    once = bytes(a ^ b for a, b in zip(caching_sha2_scramble(password, nonce), mask, strict=True))
    assert hashlib.sha256(once).digest() == stored


def test_scrambles_agree_with_another_implementation() -> None:
    assert caching_sha2_scramble(b"secret", NONCE) == auth.scramble_caching_sha2(b"secret", NONCE)
    assert native_scramble(b"secret", NONCE) == auth.scramble_native_password(b"secret", NONCE)
