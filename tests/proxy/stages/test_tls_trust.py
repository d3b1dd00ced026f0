"""Whom the two legs trust: chains, validity, purpose, CRLs, and the source's name."""

import contextlib
import socket
import ssl

import pytest
from cryptography import x509
from OpenSSL import SSL

from certs.profiles import Role
from proxy.openssl import (
    Context,
    TlsEngine,
    TlsFailed,
    TlsSettingsError,
    client_context,
    server_context,
)
from proxy.outcomes import Reason
from proxy.stages.tls import _refused_source
from tests.proxy.pki import EXPIRED, NOT_YET, Pki
from tests.proxy.stages.handshakes import (
    THIRTEEN,
    TWELVE,
    as_client,
    as_server,
    loopback_pair,
    replica,
)


@pytest.mark.parametrize("version", [TWELVE, THIRTEEN])
@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        ("expired_replica", Reason.CERTIFICATE_EXPIRED),
        ("revoked_replica", Reason.CERTIFICATE_REVOKED),
        ("foreign_replica", Reason.CERTIFICATE_UNTRUSTED),
        ("future_replica", Reason.CERTIFICATE_REFUSED),
        ("source", Reason.CERTIFICATE_REFUSED),
    ],
)
async def test_refuses_a_certificate_and_says_why(
    leaf: str, reason: Reason, version: ssl.TLSVersion, pki: Pki, replica_context: Context
) -> None:
    outcome = await as_server(replica_context, replica(pki, getattr(pki, leaf), version=version))
    assert outcome.reason is reason
    assert outcome.negotiated is None
    assert outcome.peer_error is not None


@pytest.mark.parametrize("version", [TWELVE, THIRTEEN])
async def test_refuses_a_replica_without_a_certificate(
    version: ssl.TLSVersion, pki: Pki, replica_context: Context
) -> None:
    context = pki.client(None)
    context.minimum_version = context.maximum_version = version
    outcome = await as_server(replica_context, context)
    assert outcome.reason is Reason.CERTIFICATE_MISSING


async def test_refuses_a_certificate_that_signed_itself(pki: Pki, replica_context: Context) -> None:
    stranger = pki.stranger.write(pki.stranger.certificate, pki.stranger.key)
    assert (await as_server(replica_context, replica(pki, stranger))).reason is Reason.CERTIFICATE_UNTRUSTED


async def test_with_any_crl_every_issuer_needs_one(pki: Pki) -> None:
    anchors = (pki.authority.certificate, pki.stranger.certificate)
    context = server_context(pki.material(pki.proxy, anchors=anchors, crls=(pki.crl,)))
    assert (await as_server(context, replica(pki))).negotiated is not None
    assert (await as_server(context, replica(pki, pki.foreign_replica))).reason is Reason.CRL_UNUSABLE


async def test_a_crl_past_its_next_update_refuses_everybody(pki: Pki) -> None:
    context = server_context(pki.material(pki.proxy, crls=(pki.authority.crl(**EXPIRED),)))
    assert (await as_server(context, replica(pki))).reason is Reason.CRL_UNUSABLE


async def test_a_crl_of_the_future_refuses_everybody(pki: Pki) -> None:
    context = server_context(pki.material(pki.proxy, crls=(pki.authority.crl(**NOT_YET),)))
    assert (await as_server(context, replica(pki))).reason is Reason.CRL_UNUSABLE


async def test_without_a_crl_nothing_is_revoked(pki: Pki) -> None:
    context = server_context(pki.material(pki.proxy))
    assert (await as_server(context, replica(pki, pki.revoked_replica))).negotiated is not None


async def test_a_replica_that_does_not_trust_binlock_is_named_as_the_one(pki: Pki, replica_context: Context) -> None:
    context = pki.client(pki.replica, trusts=pki.stranger.file)
    outcome = await as_server(replica_context, context)
    assert outcome.reason is Reason.REPLICA_REJECTED_CERTIFICATE


async def test_sends_the_configured_chain_and_nothing_from_the_trust_store(pki: Pki) -> None:
    for chain in ((), (pki.stranger.certificate,)):
        context = server_context(pki.material(pki.proxy, chain=chain))
        ours, theirs = loopback_pair()
        with contextlib.closing(ours), contextlib.closing(theirs):
            for sock in (ours, theirs):
                sock.setblocking(False)
            peer = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), theirs)
            peer.set_connect_state()
            engine = TlsEngine.accepting(context, ours)
            for _ in range(20):
                with contextlib.suppress(SSL.WantReadError):
                    peer.do_handshake()
                with contextlib.suppress(TlsFailed):
                    engine.shake_hands()
                if peer.get_peer_cert_chain(as_cryptography=True):
                    break
            sent = peer.get_peer_cert_chain(as_cryptography=True)
            assert sent == [pki.proxy.certificate, *chain]


async def test_names_its_authorities_to_the_replica(pki: Pki, replica_context: Context) -> None:
    ours, theirs = loopback_pair()
    with contextlib.closing(ours), contextlib.closing(theirs):
        for sock in (ours, theirs):
            sock.setblocking(False)
        peer = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), theirs)
        peer.set_connect_state()
        engine = TlsEngine.accepting(replica_context, ours)
        for _ in range(20):
            with contextlib.suppress(SSL.WantReadError):
                peer.do_handshake()
            with contextlib.suppress(TlsFailed):
                engine.shake_hands()
        names = [name.CN for name in peer.get_client_ca_list()]
    assert names == ["Ours"]


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1"])
async def test_a_source_is_verified_by_dns_name_or_address(name: str, pki: Pki) -> None:
    outcome = await as_client(client_context(pki.material()), pki.server(pki.source), name)
    assert outcome.failed is None
    assert outcome.negotiated is not None
    assert outcome.negotiated.peer_leaf == pki.source.certificate


@pytest.mark.parametrize("name", ["db1.example", "localhost.example", "127.0.0.2", "::1", "localhos"])
async def test_a_source_with_another_name_is_refused(name: str, pki: Pki) -> None:
    outcome = await as_client(client_context(pki.material()), pki.server(pki.source), name)
    assert outcome.source_reason is Reason.SOURCE_NAME_MISMATCH


async def test_the_common_name_of_a_source_counts_for_nothing(pki: Pki) -> None:
    leaf = pki.authority.issue(Role.SOURCE, ip="127.0.0.9")
    assert leaf.certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == "127.0.0.9"
    outcome = await as_client(client_context(pki.material()), pki.server(leaf), "127.0.0.9.example")
    assert outcome.source_reason is Reason.SOURCE_NAME_MISMATCH


@pytest.mark.parametrize("fault", [EXPIRED, NOT_YET])
async def test_a_source_outside_its_validity_is_refused(fault: dict[str, object], pki: Pki) -> None:
    leaf = pki.authority.issue(Role.SOURCE, "localhost", **fault)  # type: ignore[arg-type]
    outcome = await as_client(client_context(pki.material()), pki.server(leaf))
    assert outcome.source_reason is Reason.SOURCE_TLS_FAILED


async def test_a_revoked_source_is_refused(pki: Pki) -> None:
    leaf = pki.authority.issue(Role.SOURCE, "localhost")
    context = client_context(pki.material(crls=(pki.authority.crl(leaf),)))
    outcome = await as_client(context, pki.server(leaf))
    assert outcome.source_reason is Reason.SOURCE_TLS_FAILED
    assert outcome.failed is not None
    assert "revoked" in _refused_source(outcome.failed, "x").detail


async def test_a_replicas_certificate_cannot_pose_as_a_source(pki: Pki) -> None:
    leaf = pki.authority.issue(Role.REPLICA, "localhost")
    outcome = await as_client(client_context(pki.material()), pki.server(leaf))
    assert outcome.source_reason is Reason.SOURCE_TLS_FAILED


async def test_a_source_that_wants_a_certificate_gets_ours(pki: Pki) -> None:
    outcome = await as_client(
        client_context(pki.material(pki.proxy)), pki.server(pki.source, asks_for_certificate=True)
    )
    assert outcome.failed is None
    assert outcome.peer_error is None


@pytest.mark.parametrize("name", ["a..b", "x" * 300])
def test_a_name_that_cannot_be_verified_is_refused_as_a_setting(name: str, pki: Pki) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TlsSettingsError, match="server_name"):
        TlsEngine.connecting(client_context(pki.material()), ours, name)
