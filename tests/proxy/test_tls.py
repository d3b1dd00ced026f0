"""TLS on both legs against Python's own ssl: what is agreed on, what is refused, and how each refusal is named."""

import contextlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio
from cryptography import x509
from OpenSSL import SSL

from certs.profiles import Role
from proxy.legs import Leg, TlsLeg
from proxy.openssl import (
    Context,
    Negotiated,
    TlsEngine,
    TlsFailed,
    TlsSettingsError,
    client_context,
    server_context,
)
from proxy.outcomes import LegClosed, Reason, SessionRefused, Stage
from proxy.tls import _refused_handshake, _refused_source
from tests.proxy.pki import EXPIRED, NOT_YET, Leaf, Pki

TWELVE, THIRTEEN = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@dataclass
class Outcome:
    """What became of a handshake, as either end saw it."""

    negotiated: Negotiated | None = None
    failed: TlsFailed | None = None
    peer_error: ssl.SSLError | OSError | None = None
    peer_version: str | None = None
    peer_cipher: str | None = None

    @property
    def reason(self) -> Reason:
        assert self.failed is not None, self
        return _refused_handshake(self.failed).reason

    @property
    def source_reason(self) -> Reason:
        assert self.failed is not None, self
        return _refused_source(self.failed, "name").reason


Prepare = Callable[[socket.socket], None]


def loopback_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    return one, other


async def shake(engine: TlsEngine, sock: socket.socket) -> Negotiated:
    leg = Leg(sock, "replica")
    while (want := engine.shake_hands()) is not None:
        await leg.wait(want)
    return engine.negotiated(0.0)


async def meet(
    peer_context: ssl.SSLContext,
    make_engine: Callable[[socket.socket], TlsEngine],
    *,
    server_side: bool = False,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
    then: Callable[[ssl.SSLSocket], None] | None = None,
) -> Outcome:
    """One handshake between Binlock's engine and a blocking peer in a thread."""
    ours, theirs = loopback_pair()
    outcome = Outcome()
    theirs.settimeout(10)

    def peer() -> None:
        try:
            with peer_context.wrap_socket(
                theirs, server_side=server_side, server_hostname=name, session=session
            ) as tls:
                outcome.peer_version, outcome.peer_cipher = tls.version(), (tls.cipher() or ("",))[0]
                # A server's refusal of the certificate comes after the handshake in TLS 1.3.
                if tls.recv(1) and then is not None:
                    then(tls)
        except (ssl.SSLError, OSError) as error:
            outcome.peer_error = error

    with trio.fail_after(10), contextlib.closing(ours), contextlib.closing(theirs):
        ours.setblocking(False)
        engine = make_engine(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, peer)
            try:
                outcome.negotiated = await shake(engine, ours)
                engine.write(memoryview(b"x"))
            except TlsFailed as error:
                outcome.failed = error
            if outcome.failed is not None or then is None:
                engine.say_goodbye()
                with contextlib.suppress(OSError):
                    ours.shutdown(socket.SHUT_WR)
    return outcome


async def as_server(context: Context, peer: ssl.SSLContext, **options: object) -> Outcome:
    return await meet(peer, lambda sock: TlsEngine.accepting(context, sock), **options)  # type: ignore[arg-type]


async def as_client(context: Context, peer: ssl.SSLContext, name: str = "localhost") -> Outcome:
    return await meet(peer, lambda sock: TlsEngine.connecting(context, sock, name), server_side=True)


def replica(pki: Pki, leaf: Leaf | None = None, *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = pki.client(leaf or pki.replica)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


# What is agreed on.


@pytest.mark.parametrize(
    ("version", "name", "cipher"),
    [(TWELVE, "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"), (THIRTEEN, "TLSv1.3", "TLS_AES_256_GCM_SHA384")],
)
async def test_agrees_on_each_configured_version(
    version: ssl.TLSVersion, name: str, cipher: str, pki: Pki, replica_context: Context
) -> None:
    outcome = await as_server(replica_context, replica(pki, version=version))
    assert outcome.negotiated is not None
    assert (outcome.negotiated.version, outcome.negotiated.cipher) == (name, cipher)
    assert (outcome.peer_version, outcome.peer_cipher) == (name, cipher)


async def test_knows_the_peers_leaf_and_the_group(pki: Pki, replica_context: Context) -> None:
    outcome = await as_server(replica_context, replica(pki))
    assert outcome.negotiated is not None
    assert outcome.negotiated.peer_leaf == pki.replica.certificate
    assert outcome.negotiated.group.lower() == "x25519"


@pytest.mark.parametrize(
    ("versions", "offered"), [(("TLSv1.2",), THIRTEEN), (("TLSv1.3",), TWELVE)], ids=["only 1.2", "only 1.3"]
)
async def test_refuses_a_version_that_is_not_configured(
    versions: tuple[str, ...], offered: ssl.TLSVersion, pki: Pki
) -> None:
    outcome = await as_server(server_context(pki.material(pki.proxy, versions=versions)), replica(pki, version=offered))
    assert outcome.reason is Reason.TLS_VERSION_REFUSED


async def test_refuses_tls_1_1_whatever_the_replica_offers(pki: Pki, replica_context: Context) -> None:
    context = replica(pki)
    with pytest.warns(DeprecationWarning):  # noqa: PT030, PT031
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    outcome = await as_server(replica_context, context)
    assert outcome.reason is Reason.TLS_VERSION_REFUSED


@pytest.mark.parametrize(
    "cipher",
    ["ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-CCM", "ECDHE-ECDSA-CAMELLIA128-SHA256"],
)
async def test_refuses_a_cipher_that_is_not_on_the_default_list(
    cipher: str, pki: Pki, replica_context: Context
) -> None:
    context = replica(pki, version=TWELVE)
    try:
        context.set_ciphers(cipher)
    except ssl.SSLError:
        pytest.fail(f"this Python's OpenSSL has no {cipher}; choose another for the test")
    outcome = await as_server(replica_context, context)
    assert outcome.reason is Reason.NO_SHARED_CIPHER


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"])
async def test_refuses_a_cipher_that_the_configuration_leaves_out(cipher: str, pki: Pki) -> None:
    ours = server_context(pki.material(pki.proxy, ciphers=("ECDHE-ECDSA-AES256-GCM-SHA384",)))
    context = replica(pki, version=TWELVE)
    context.set_ciphers(cipher)
    assert (await as_server(ours, context)).reason is Reason.NO_SHARED_CIPHER


async def test_the_order_of_the_configured_ciphers_decides(pki: Pki) -> None:
    order = ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384")
    context = replica(pki, version=TWELVE)
    context.set_ciphers(":".join(reversed(order)))
    outcome = await as_server(server_context(pki.material(pki.proxy, ciphers=order)), context)
    assert outcome.peer_cipher == order[0]


async def test_refuses_a_ciphersuite_that_the_configuration_leaves_out(pki: Pki) -> None:
    ours = server_context(pki.material(pki.proxy, ciphersuites=("TLS_AES_128_CCM_SHA256",)))
    assert (await as_server(ours, replica(pki, version=THIRTEEN))).reason is Reason.NO_SHARED_CIPHER


@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"])
async def test_agrees_on_the_one_configured_ciphersuite(suite: str, pki: Pki) -> None:
    outcome = await as_server(server_context(pki.material(pki.proxy, ciphersuites=(suite,))), replica(pki))
    assert outcome.peer_cipher == suite


@pytest.mark.parametrize("version", [TWELVE, THIRTEEN])
async def test_refuses_a_group_that_the_configuration_leaves_out(version: ssl.TLSVersion, pki: Pki) -> None:
    context = replica(pki, version=version)
    context.set_ecdh_curve("prime256v1")
    outcome = await as_server(server_context(pki.material(pki.proxy, groups=("X25519", "P-384"))), context)
    # TLS 1.2 has no words for it: without a group there is no cipher either.
    assert outcome.reason is (Reason.NO_SHARED_GROUP if version is THIRTEEN else Reason.NO_SHARED_CIPHER)


async def test_agrees_on_the_one_configured_group(pki: Pki) -> None:
    outcome = await as_server(server_context(pki.material(pki.proxy, groups=("P-384",))), replica(pki))
    assert outcome.negotiated is not None
    assert outcome.negotiated.group == "secp384r1"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ciphers", "ECDHE-ECDSA-AES256-GCM-SHA3840"),
        ("ciphers", "TLS_AES_256_GCM_SHA384"),
        ("ciphers", ""),
        ("ciphers", "A:B"),
        ("ciphers", "ÄES"),
        ("ciphersuites", "TLS_AES_512_GCM"),
        ("ciphersuites", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("groups", "X25520"),
        ("groups", "?X25520"),
    ],
)
def test_refuses_a_name_that_openssl_does_not_know_and_names_the_setting(setting: str, value: str, pki: Pki) -> None:
    with pytest.raises(TlsSettingsError, match=f"^{setting}: "):
        server_context(pki.material(pki.proxy, **{setting: (value,)}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ciphers", "ALL"),
        ("ciphers", "DEFAULT"),
        ("ciphers", "HIGH"),
        ("ciphers", "aNULL"),
        ("ciphers", "ECDHE+AESGCM"),
        ("ciphers", "ALL@SECLEVEL=0"),
        ("ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384 ALL"),
        ("ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384,AES128-SHA"),
        ("groups", "DEFAULT"),
        ("groups", "X25519/P-256"),
        ("groups", "*X25519"),
        ("groups", ""),
    ],
)
def test_takes_names_only_and_no_expression_that_stands_for_more(setting: str, value: str, pki: Pki) -> None:
    with pytest.raises(TlsSettingsError, match=f"^{setting}: "):
        server_context(pki.material(pki.proxy, **{setting: (value,)}))  # type: ignore[arg-type]


# No resumption.


@pytest.mark.parametrize("version", [TWELVE, THIRTEEN])
async def test_a_second_connection_cannot_resume_the_first(
    version: ssl.TLSVersion, pki: Pki, replica_context: Context
) -> None:
    context = replica(pki, version=version)
    sessions: list[ssl.SSLSession | None] = []
    reused: list[bool | None] = []

    def note(tls: ssl.SSLSocket) -> None:
        sessions.append(tls.session)
        reused.append(tls.session_reused)

    await as_server(replica_context, context, then=note)
    assert sessions[0] is not None
    await as_server(replica_context, context, then=note, session=sessions[0])
    assert reused == [False, False]


async def test_no_ticket_is_handed_out_in_tls_1_2(pki: Pki, replica_context: Context) -> None:
    """In TLS 1.3 OpenSSL sends tickets all the same, which name a session that nobody keeps."""
    tickets: list[bool] = []

    def note(tls: ssl.SSLSocket) -> None:
        assert tls.session is not None
        tickets.append(tls.session.has_ticket)

    await as_server(replica_context, replica(pki, version=TWELVE), then=note)
    assert tickets == [False]


# Whom it trusts.


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


# Towards the source.


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


# What is not TLS at all.


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(64),
        b"\xff" * 64,
        b"\x16\x03\x01\x00\x05hello",
        b"\x0f\x00\x00\x00\x03SELECT version()",
    ],
    ids=["http", "zeros", "ones", "a broken hello", "a query"],
)
async def test_what_is_no_client_hello_is_not_tls(garbage: bytes, replica_context: Context) -> None:
    ours, theirs = loopback_pair()
    with contextlib.closing(ours), contextlib.closing(theirs), trio.fail_after(10):
        ours.setblocking(False)
        theirs.sendall(garbage)
        with pytest.raises(TlsFailed) as failed:
            await shake(TlsEngine.accepting(replica_context, ours), ours)
        refused = _refused_handshake(failed.value)
        assert isinstance(refused, SessionRefused)
        assert refused.stage is Stage.TLS
        assert refused.reason in {Reason.NOT_TLS, Reason.TLS_HANDSHAKE_FAILED}
        assert refused.answer is None


# The leg after the handshake.


@dataclass
class Pair:
    """A `TlsLeg` of Binlock's, and the same connection's other end in Python's ssl."""

    leg: TlsLeg
    peer: ssl.SSLSocket


@contextlib.asynccontextmanager
async def connected_pair(  # type: ignore[no-untyped-def]
    pki: Pki, context: Context, *, version: ssl.TLSVersion | None = None, buffer_bytes: int | None = None
):
    # TCP over the loopback waits for delayed acknowledgements when its buffers are smaller than a segment.
    ours, theirs = loopback_pair() if buffer_bytes is None else socket.socketpair()
    if buffer_bytes is not None:
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    ours.setblocking(False)
    theirs.settimeout(10)
    engine = TlsEngine.accepting(context, ours)
    peers: list[ssl.SSLSocket] = []

    def dial() -> None:
        peers.append(replica(pki, version=version).wrap_socket(theirs))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, dial)
            await shake(engine, ours)
        async with TlsLeg(ours, "replica", engine) as leg:
            with peers[0]:
                yield Pair(leg, peers[0])


@pytest.mark.parametrize("version", [TWELVE, THIRTEEN])
async def test_bulk_crosses_both_ways_at_once_through_tiny_buffers(
    version: ssl.TLSVersion, pki: Pki, replica_context: Context
) -> None:
    data = bytes(range(256)) * 4096
    async with connected_pair(pki, replica_context, version=version, buffer_bytes=4096) as pair:
        pair.peer.settimeout(None)
        pair.peer.setblocking(False)
        got, ours = bytearray(), bytearray()

        async def peer_moves() -> None:
            sent = 0
            while sent < len(data) or len(got) < len(data):
                moved = False
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    if sent < len(data):
                        sent += pair.peer.send(data[sent : sent + 30_000])
                        moved = True
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    got.extend(pair.peer.recv(30_000))
                    moved = True
                await (trio.lowlevel.checkpoint() if moved else trio.sleep(0.0005))  # noqa: ASYNC105

        async def leg_receives() -> None:
            ours.extend(await pair.leg.receive_exactly(len(data)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer_moves)
            nursery.start_soon(leg_receives)
            nursery.start_soon(pair.leg.send_all, data)
        assert bytes(got) == data
        assert bytes(ours) == data


async def test_reads_not_one_byte_more_than_it_was_asked_for(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as pair:
        pair.peer.send(b"one" + b"two")
        assert await pair.leg.receive_exactly(3) == b"one"
        # The rest is in the engine and not in the socket, where no poll would see it.
        view = memoryview(bytearray(100))
        assert pair.leg.try_receive(view) == 3
        assert bytes(view[:3]) == b"two"


async def test_the_end_of_a_stream_is_the_peers_close_notify(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as pair:
        pair.peer.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):
            pair.peer.unwrap()
        await pair.leg.wait(-1)
        assert pair.leg.try_receive(memoryview(bytearray(10))) == 0


@pytest.mark.parametrize("version", [TWELVE, THIRTEEN])
async def test_the_end_of_the_connection_without_close_notify_is_a_broken_leg(
    version: ssl.TLSVersion, pki: Pki, replica_context: Context
) -> None:
    async with connected_pair(pki, replica_context, version=version) as pair:
        socket.socket.shutdown(pair.peer, socket.SHUT_WR)
        with pytest.raises(LegClosed) as closed:
            await pair.leg.receive_exactly(1)
        assert closed.value.leg == "replica"


async def test_a_reset_is_a_broken_leg(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as pair:
        pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        socket.socket.close(pair.peer)
        with pytest.raises(LegClosed):
            await pair.leg.receive_exactly(1)


async def test_a_record_that_was_tampered_with_is_a_broken_leg(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as pair:
        raw = socket.socket(fileno=pair.peer.detach())
        with contextlib.closing(raw):
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            with pytest.raises(LegClosed):
                await pair.leg.receive_exactly(1)


async def test_the_peer_sees_an_end_and_may_still_send_after_a_half_close(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as pair:
        pair.leg.end_sending()
        assert await trio.to_thread.run_sync(pair.peer.recv, 1) == b""
        pair.peer.send(b"late")
        assert await pair.leg.receive_exactly(4) == b"late"


async def test_a_second_close_does_nothing(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as pair:
        pair.leg.close()
        pair.leg.close()


async def test_renegotiation_is_refused(pki: Pki, replica_context: Context) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate_file(str(pki.replica.certificate_file))
    context.use_privatekey_file(str(pki.replica.key_file))
    ours, theirs = loopback_pair()
    with contextlib.closing(ours), contextlib.closing(theirs):
        for sock in (ours, theirs):
            sock.setblocking(False)
        peer = SSL.Connection(context, theirs)
        peer.set_connect_state()
        engine = TlsEngine.accepting(replica_context, ours)
        for _ in range(20):
            with contextlib.suppress(SSL.WantReadError):
                peer.do_handshake()
            engine.shake_hands()
        assert peer.renegotiate()
        errors: list[SSL.Error] = []
        for _ in range(20):
            try:
                peer.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                errors.append(error)
                break
            with contextlib.suppress(TlsFailed):
                engine.read_into(memoryview(bytearray(100)))
        assert "no renegotiation" in str(errors)
        assert peer.total_renegotiations() <= 1


async def test_an_error_of_one_connection_is_not_taken_for_anothers(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as broken, connected_pair(pki, replica_context) as sound:
        raw = socket.socket(fileno=broken.peer.detach())
        with contextlib.closing(raw):
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            sound.peer.send(b"fine")
            with pytest.raises(LegClosed):
                await broken.leg.receive_exactly(1)
            assert await sound.leg.receive_exactly(4) == b"fine"
            assert sound.leg.try_receive(memoryview(bytearray(1))) < 0


# W^X.


def test_a_full_mutual_handshake_needs_no_memory_that_is_writable_and_executable(pki: Pki) -> None:
    program = f"""
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if libc.prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
    raise SystemExit("PR_SET_MDWE: errno %d; the test needs Linux 6.3" % ctypes.get_errno())
import mmap
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    pass
else:
    raise SystemExit("the kernel did not refuse")
from pathlib import Path
from proxy.config import TlsTable
from proxy.material import load_material
from proxy.openssl import TlsEngine, client_context, server_context
def material(certificate, key):
    return load_material(TlsTable(ca={str(pki.authority.file)!r}, certificate=certificate, key=key,
                                  crl=({str(pki.authority.write_crl(pki.crl))!r},)), Path("/"))
ends = socket.socketpair()
for end in ends:
    end.setblocking(False)
server = TlsEngine.accepting(server_context(material({str(pki.proxy.certificate_file)!r}, {str(pki.proxy.key_file)!r})), ends[0])
client = TlsEngine.connecting(
    client_context(material({str(pki.proxy.certificate_file)!r}, {str(pki.proxy.key_file)!r})), ends[1], "proxy.example")
for _ in range(20):
    waiting = [engine.shake_hands() for engine in (client, server)]
client.write(memoryview(b"hello"))
view = memoryview(bytearray(5))
server.read_into(view)
print(waiting, server.negotiated(0).peer_leaf is not None, bytes(view))
"""  # noqa: E501
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[None, None] True b'hello'\n"


@pytest.mark.parametrize("operation", ["read_into", "write"])
def test_a_failure_that_ends_up_in_a_reference_cycle_does_not_crash_the_process(operation: str, pki: Pki) -> None:
    """The traceback of `TlsFailed` keeps the frame alive, the frame its cffi buffer, and the buffer its view."""
    program = f"""
import gc, socket
from pathlib import Path
from proxy.config import TlsTable
from proxy.material import load_material
from proxy.openssl import TlsEngine, TlsFailed, client_context
context = client_context(load_material(TlsTable(ca={str(pki.authority.file)!r}), Path("/")))
gc.disable()
class Other(Exception):
    pass
def receive(engine):
    view = memoryview(bytearray(100))
    try:
        engine.{operation}(view[5:])
    except TlsFailed as error:
        raise Other from error
for _ in range(300):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.close()
    try:
        receive(TlsEngine.connecting(context, ours, "localhost"))
    except Other as error:
        error.itself = error
    ours.close()
    gc.collect()
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "alive\n"
    assert "BufferError" not in done.stderr
