"""Whatever a peer sends, a parser returns or raises a `WireError`. Nothing else may come out."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.wire.vectors import (
    ACCESS_DENIED,
    MARIADB_10_GREETING,
    MARIADB_LOGIN,
    MYSQL_8_GREETING,
    MYSQL_LOGIN,
    MYSQL_SSL_REQUEST,
    NONCE,
    OK,
)
from wire.authentication import (
    AuthMoreData,
    AuthNextFactor,
    AuthSwitchRequest,
    classify_auth_reply,
    xor_with_nonce,
)
from wire.binlog import EventHeader, RotateEvent, SemiSyncAck, StreamPacket
from wire.capabilities import NO_CAPABILITIES, Capability
from wire.commands import parse_command
from wire.errors import WireError
from wire.greeting import HandshakeV10, with_tls_offered
from wire.login import HandshakeResponse41, SSLRequest, is_ssl_request, with_attributes_added, with_tls_flag
from wire.phases import ConnectionPhases, Phase, Sender, classify
from wire.results import EofPacket, ErrPacket, OkPacket, is_eof, is_err, is_ok

PARSERS: dict[str, Callable[[bytes], object]] = {
    "HandshakeV10": HandshakeV10.parse,
    "with_tls_offered": lambda payload: with_tls_offered(payload, offered=False),
    "SSLRequest": SSLRequest.parse,
    "SSLRequest.for_login": SSLRequest.for_login,
    "is_ssl_request": is_ssl_request,
    "HandshakeResponse41": HandshakeResponse41.parse,
    "with_tls_flag": lambda payload: with_tls_flag(payload, wanted=True),
    "with_attributes_added": lambda payload: with_attributes_added(payload, {b"_proxy": b"yes"}, reserved=b"_proxy"),
    "AuthSwitchRequest": AuthSwitchRequest.parse,
    "AuthMoreData": AuthMoreData.parse,
    "AuthNextFactor": AuthNextFactor.parse,
    "classify_auth_reply": classify_auth_reply,
    "xor_with_nonce": lambda payload: xor_with_nonce(b"secret\x00", payload),
    "OkPacket": OkPacket.parse,
    "OkPacket before 4.1": lambda payload: OkPacket.parse(payload, NO_CAPABILITIES),
    "ErrPacket": ErrPacket.parse,
    "EofPacket": EofPacket.parse,
    "is_ok, is_err, is_eof": lambda payload: (is_ok(payload), is_err(payload), is_eof(payload)),
    "parse_command": lambda payload: parse_command(payload, NO_CAPABILITIES),
    "parse_command with attributes": lambda payload: parse_command(payload, Capability.CLIENT_QUERY_ATTRIBUTES),
    "EventHeader": EventHeader.parse,
    "StreamPacket": lambda payload: StreamPacket.parse(payload, semi_sync=False),
    "StreamPacket with semi-sync": lambda payload: StreamPacket.parse(payload, semi_sync=True),
    "RotateEvent": RotateEvent.parse,
    "SemiSyncAck": SemiSyncAck.parse,
}

VECTORS = [
    MYSQL_8_GREETING,
    MARIADB_10_GREETING,
    MYSQL_LOGIN,
    MARIADB_LOGIN,
    MYSQL_SSL_REQUEST,
    ACCESS_DENIED,
    OK,
]

headers = st.sampled_from(
    [
        b"",
        b"\x00",
        b"\x01",
        b"\x02",
        b"\x03\x01\x01",
        b"\x0a",
        b"\x12",
        b"\x15",
        b"\x1e",
        b"\xef",
        b"\xfe",
        b"\xff",
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real packet with a few bytes changed, cut out or put in."""
    payload = bytearray(draw(st.sampled_from(VECTORS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(payload)))
        payload[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(payload)


payloads = st.binary(max_size=200) | st.builds(bytes.__add__, headers, st.binary(max_size=80)) | damaged()


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=200)
@given(payload=payloads)
@example(payload=b"")
def test_a_parser_returns_or_raises_a_wire_error(name: str, payload: bytes) -> None:
    with contextlib.suppress(WireError):
        PARSERS[name](payload)


@settings(max_examples=300)
@given(st.sampled_from(Phase), st.sampled_from(Sender), payloads)
def test_classifying_returns_or_raises_a_wire_error(phase: Phase, sender: Sender, payload: bytes) -> None:
    with contextlib.suppress(WireError):
        classify(phase, sender, payload)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(Sender), payloads), max_size=12))
def test_a_refused_packet_leaves_the_phase_as_it_was(packets: list[tuple[Sender, bytes]]) -> None:
    connection = ConnectionPhases()
    for sender, payload in packets:
        before = connection.phase
        try:
            connection.observe(sender, payload)
        except WireError:
            assert connection.phase is before
        if connection.phase is Phase.TLS:
            connection.tls_established()


@given(st.binary(min_size=1, max_size=20))
def test_a_login_of_any_nonce_is_at_worst_refused(nonce: bytes) -> None:
    assert len(xor_with_nonce(NONCE, nonce)) == len(NONCE)
