"""TLS on both legs against Python's own ssl: what is agreed on, what is refused, how each refusal is named."""

import contextlib
import ssl

import pytest
import trio

from proxy.openssl import (
    Context,
    TlsEngine,
    TlsFailed,
    TlsSettingsError,
    server_context,
)
from proxy.outcomes import Reason, SessionRefused, Stage
from proxy.stages.tls import _refused_handshake
from tests.proxy.pki import Pki
from tests.proxy.stages.handshakes import (
    THIRTEEN,
    TWELVE,
    as_server,
    loopback_pair,
    replica,
    shake,
)


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


@pytest.mark.parametrize("version", [TWELVE, THIRTEEN])
async def test_a_second_connection_cannot_resume_the_first(
    version: ssl.TLSVersion, pki: Pki, replica_context: Context
) -> None:
    """Each ends in order and has carried data: OpenSSL keeps no session that broke, and TLS 1.3 sends it with data."""
    context = replica(pki, version=version)
    sessions: list[ssl.SSLSession | None] = []
    reused: list[bool | None] = []

    def note(tls: ssl.SSLSocket) -> None:
        sessions.append(tls.session)
        reused.append(tls.session_reused)

    first = await as_server(replica_context, context, then=note, in_order=True)
    assert sessions[0] is not None
    second = await as_server(replica_context, context, then=note, in_order=True, session=sessions[0])
    assert (first.peer_error, first.failed, second.peer_error, second.failed) == (None, None, None, None)
    assert reused == [False, False]


async def test_no_ticket_is_handed_out_in_tls_1_2(pki: Pki, replica_context: Context) -> None:
    """In TLS 1.3 OpenSSL sends tickets all the same, which name a session that nobody keeps."""
    tickets: list[bool] = []

    def note(tls: ssl.SSLSocket) -> None:
        assert tls.session is not None
        tickets.append(tls.session.has_ticket)

    await as_server(replica_context, replica(pki, version=TWELVE), then=note)
    assert tickets == [False]


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
    with contextlib.closing(ours), contextlib.closing(theirs), trio.fail_after(60):
        ours.setblocking(False)
        theirs.sendall(garbage)
        with pytest.raises(TlsFailed) as failed:
            await shake(TlsEngine.accepting(replica_context, ours), ours)
        refused = _refused_handshake(failed.value)
        assert isinstance(refused, SessionRefused)
        assert refused.stage is Stage.TLS
        assert refused.reason in {Reason.NOT_TLS, Reason.TLS_HANDSHAKE_FAILED}
        assert refused.answer is None
