"""What a handshake shows is what the two ends agreed upon."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.detection.handshake import HandshakeReader
from monitor.detection.inspector import unread_certificate
from monitor.scapy import certificate_not_after
from monitor.verdicts import Flow, TlsFacts
from tests.monitor.detection.shaking import Certificate, Handshake
from tests.monitor.detection.watching import Watch
from tests.monitor.segmenting import CLIENT, SERVER
from tests.monitor.talk import GREETING, ssl_request

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


def seen(handshake: Handshake) -> Flow:
    handshake.say(CLIENT, b"x" * 100)
    handshake.say(SERVER, b"y" * 100)
    watch = Watch(not_after_of=certificate_not_after)
    watch.take([(SERVER, GREETING), (CLIENT, ssl_request()), *handshake.said])
    return watch.flow


def test_tls_1_3_shows_version_cipher_and_group(certificate: Certificate) -> None:
    flow = seen(Handshake(certificate, TLS_1_3))
    assert (flow.verdict, flow.tls.version, flow.tls.group) == ("tls", "TLSv1.3", "x25519")
    assert flow.tls.cipher == "TLS_AES_256_GCM_SHA384"
    assert flow.tls.certificate_not_after is None


def test_a_hello_retry_request_is_not_the_answer(certificate: Certificate) -> None:
    handshake = Handshake(certificate, TLS_1_3, server_group="secp384r1")
    assert [side for side, _ in handshake.said].count(CLIENT) >= 2
    watch = Watch().take([(SERVER, GREETING), (CLIENT, ssl_request()), *handshake.said[:2]])
    assert (watch.flow.tls.version, watch.flow.tls.group) == ("", "")
    assert seen(handshake).tls.group == "secp384r1"


@pytest.mark.parametrize(
    ("ciphers", "name"),
    [
        ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ],
)
def test_tls_1_2_shows_when_the_certificate_expires_too(certificate: Certificate, ciphers: str, name: str) -> None:
    flow = seen(Handshake(certificate, TLS_1_2, ciphers=ciphers))
    assert (flow.verdict, flow.tls.version, flow.tls.cipher) == ("tls", "TLSv1.2", name)
    assert flow.tls.group in {"x25519", "secp256r1"}
    assert flow.tls.certificate_not_after == certificate.not_after


def test_a_suite_that_encrypts_nothing_is_not_tls(tmp_path: Path) -> None:
    handshake = Handshake(Certificate(tmp_path, with_rsa=True), TLS_1_2, ciphers="NULL-SHA256:@SECLEVEL=0")
    assert handshake.cipher == "NULL-SHA256"
    flow = seen(handshake)
    assert flow.verdict == "undecided"
    assert flow.tls.cipher == "TLS_RSA_WITH_NULL_SHA256"
    assert "TLS records that encrypt nothing" in flow.evidence


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_any_bytes_are_read(fragments: list[bytes]) -> None:
    reader = HandshakeReader(TlsFacts(), unread_certificate)
    for fragment in fragments:
        reader.feed(fragment)


@given(st.binary(max_size=200), st.sampled_from([1, 2, 11, 12]))
def test_any_message_is_read(body: bytes, kind: int) -> None:
    HandshakeReader(TlsFacts(), certificate_not_after).feed(bytes([kind]) + len(body).to_bytes(3) + body)
