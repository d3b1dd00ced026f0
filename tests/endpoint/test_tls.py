"""Mutual TLS of the endpoint, with OpenSSL's own client and Python's: who gets in, and what others are told."""

import http.client
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from certs.profiles import Role
from endpoint.answers import alive
from endpoint.asking import Unreachable, ask
from endpoint.serving import Endpoint
from endpoint.tls import ClientTls, ServerTls, TlsFileError, TlsFiles
from testbed.fetch import bundle
from tests.endpoint.client import GIVE_UP_SECONDS, no_defect
from tests.proxy.pki import EXPIRED, NOT_YET, Leaf, Pki

HOST = "127.0.0.1"
ASK = b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n"


def files(pki: Pki, leaf: Leaf | None = None, **more: Any) -> TlsFiles:
    leaf = leaf or pki.proxy
    chosen = {"certificate": leaf.certificate_file, "key": leaf.key_file, "ca": pki.authority.file}
    return TlsFiles(**{**chosen, **more})


@dataclass
class Served:
    """An endpoint with TLS, and who asks it."""

    pki: Pki
    endpoint: Endpoint
    port: int
    refused: list[tuple[str, str, bool]] = field(default_factory=list)

    async def get(self, leaf: Leaf | None, **options: Any) -> tuple[int, str]:
        """What Python's client gets for `/alive`."""
        return await trio.to_thread.run_sync(partial(self._get, leaf, **options))

    def _get(self, leaf: Leaf | None, *, maximum: ssl.TLSVersion | None = None) -> tuple[int, str]:
        context = self.pki.client(leaf)
        if maximum is not None:
            context.maximum_version = maximum
        connection = http.client.HTTPSConnection(HOST, self.port, context=context, timeout=GIVE_UP_SECONDS)
        try:
            connection.request("GET", "/alive")
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    async def s_client(self, *options: str | Path) -> subprocess.CompletedProcess[bytes]:
        """OpenSSL's client, which asks for `/alive`."""
        command = [*bundle("openssl").command("openssl"), "s_client", "-connect", f"{HOST}:{self.port}", "-ign_eof"]
        asked = ASK.replace(b"Host: x", b"Host: x\r\nConnection: close")
        return await trio.run_process(
            [*command, *map(str, options)], stdin=asked, capture_stdout=True, capture_stderr=True, check=False
        )

    async def dial(self, leaf: Leaf) -> trio.SSLStream[trio.SocketStream]:
        stream = trio.SSLStream(await trio.open_tcp_stream(HOST, self.port), self.pki.client(leaf))
        await stream.do_handshake()
        return stream


@asynccontextmanager
async def serving(pki: Pki, tls: ServerTls) -> AsyncIterator[Served]:
    refused: list[tuple[str, str, bool]] = []
    endpoint = Endpoint({"/alive": alive}, on_defect=no_defect, on_refusal=lambda *told: refused.append(told))
    endpoint.tls = tls
    with trio.fail_after(GIVE_UP_SECONDS):
        [listener] = await trio.open_tcp_listeners(0, host=HOST)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, endpoint.serve, [listener])
            yield Served(pki, endpoint, listener.socket.getsockname()[1], refused)
            nursery.cancel_scope.cancel()


@pytest.fixture
async def served(pki: Pki) -> AsyncIterator[Served]:
    tls = ServerTls(files(pki, crl=(pki.authority.write_crl(pki.crl),)))
    async with serving(pki, tls) as made:
        yield made


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_who_shows_a_certificate_of_the_authority_is_answered(served: Served, maximum: ssl.TLSVersion) -> None:
    for _ in range(2):
        assert await served.get(served.pki.replica, maximum=maximum) == (200, "ok\n")
    assert served.refused == []


async def test_openssl_finds_what_is_promised(served: Served) -> None:
    leaf = served.pki.replica
    shown = ("-cert", leaf.certificate_file, "-key", leaf.key_file, "-CAfile", served.pki.authority.file)
    done = await served.s_client(*shown, "-verify_return_error", "-verify_hostname", "proxy.example")
    assert b"HTTP/1.1 200" in done.stdout
    assert b"Verify return code: 0 (ok)" in done.stdout
    assert b"New, TLSv1.3" in done.stdout
    # Without a ticket nobody can come back without showing a certificate.
    assert b"New Session Ticket" not in done.stdout
    for version in ("-tls1_1", "-tls1_2"):
        done = await served.s_client(*shown, version, "-cipher", "ALL:@SECLEVEL=0")
        assert (b"HTTP/1.1 200" in done.stdout) == (version == "-tls1_2"), version
    done = await served.s_client(*shown, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256")
    assert b"handshake failure" in done.stderr


REFUSED = {
    "none": ("", "peer did not return a certificate", "certificate required"),
    "stranger's": ("foreign_replica", "unable to get local issuer certificate", "unknown ca"),
    "expired": ("expired_replica", "certificate has expired", "certificate expired"),
    "not yet valid": ("future_replica", "certificate is not yet valid", "bad certificate"),
    "revoked": ("revoked_replica", "certificate revoked", "certificate revoked"),
    "not for clients": ("source", "unsuitable certificate purpose", "unsupported certificate"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_everybody_else_is_told_why(served: Served, case: str, version: str) -> None:
    name, logged, told = REFUSED[case]
    if (version, case) == ("-tls1_2", "none"):
        told = "handshake failure"  # TLS 1.2 has no other word for it
    leaf: Leaf | None = getattr(served.pki, name) if name else None
    shown = () if leaf is None else ("-cert", leaf.certificate_file, "-key", leaf.key_file)
    done = await served.s_client(*shown, version)
    assert b"HTTP/1.1" not in done.stdout
    assert f"alert {told}" in done.stderr.decode()
    [(peer, why, may_log)] = served.refused
    assert peer.startswith(f"{HOST}:")
    assert logged in why.replace("_", " ").lower().replace("peer did not return a certificate", logged)
    assert may_log
    assert (await served.get(served.pki.replica))[0] == 200


async def test_plaintext_gets_no_page_and_ends_nothing(served: Served) -> None:
    async with await trio.open_tcp_stream(HOST, served.port) as stream:
        await stream.send_all(ASK)
        await stream.send_eof()
        assert b"HTTP/1.1 2" not in b"".join([piece async for piece in stream])
    assert len(served.refused) == 1
    assert (await served.get(served.pki.replica))[0] == 200


async def test_of_many_refusals_few_are_to_be_logged(served: Served) -> None:
    for _ in range(5):
        with pytest.raises(OSError, match="ALERT"):
            await served.get(served.pki.foreign_replica)
    assert len(served.refused) == 5
    assert 1 <= sum(may_log for _, _, may_log in served.refused) < 5


async def test_silent_handshakes_make_room_for_whoever_shakes_hands(served: Served) -> None:
    silent = [await trio.open_tcp_stream(HOST, served.port) for _ in range(70)]
    assert (await served.get(served.pki.replica))[0] == 200
    # The first to come are the first to go, at once; the last are given their time, of ten seconds.
    with trio.fail_after(5):
        for stream in silent[:5]:
            assert await stream.receive_some() == b""
    with trio.move_on_after(0.05) as waiting:
        await silent[-1].receive_some()
    assert waiting.cancelled_caught
    for stream in silent:
        await stream.aclose()


async def test_whoever_never_finishes_a_handshake_is_sent_away(
    pki: Pki, autojump_clock: trio.testing.MockClock
) -> None:
    endpoint = Endpoint({"/alive": alive}, on_defect=no_defect)
    endpoint.tls = ServerTls(files(pki))
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(endpoint.serve, far)
        began = trio.current_time()
        assert await near.receive_some() == b""
    assert trio.current_time() - began == pytest.approx(10)


async def test_a_client_that_reads_no_goodbye_is_not_waited_for(
    pki: Pki, autojump_clock: trio.testing.MockClock
) -> None:
    endpoint = Endpoint({"/alive": alive}, on_defect=no_defect)
    endpoint.tls = ServerTls(files(pki))
    # What is sent waits until it is read.
    near, far = trio.testing.lockstep_stream_pair()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endpoint.serve, far)
            stream = trio.SSLStream(near, pki.client(pki.replica))
            await stream.do_handshake()
            await stream.send_all(ASK.replace(b"Host: x", b"Host: x\r\nConnection: close"))
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")


async def test_another_certificate_comes_into_force_and_ends_what_the_former_let_in(served: Served) -> None:
    pki = served.pki
    async with await served.dial(pki.replica) as former:
        await former.send_all(ASK)
        assert b"200 OK" in await former.receive_some()
        crl = pki.authority.write_crl(pki.authority.crl(pki.replica))
        served.endpoint.tls = ServerTls(files(pki, pki.source, crl=(crl,)))
        await former.send_all(ASK)
        assert await former.receive_some() == b""
    with pytest.raises(ssl.SSLError, match="REVOKED"):
        await served.get(pki.replica)
    async with await served.dial(pki.unlisted_replica) as other:
        assert other.getpeercert(binary_form=True) == pki.source.certificate.public_bytes(Encoding.DER)


async def test_a_connection_does_not_outlive_its_certificate(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = served.pki.replica
    async with await served.dial(leaf) as stream:
        await stream.send_all(ASK)
        assert b"200 OK" in await stream.receive_some()
        after = leaf.certificate.not_valid_after_utc.timestamp()
        monkeypatch.setattr("endpoint.serving.time.time", lambda: after)
        await stream.send_all(ASK)
        assert await stream.receive_some() == b""


async def test_our_own_client_verifies_whom_it_asks(served: Served) -> None:
    pki, where = served.pki, (HOST, served.port)

    async def asked(tls: ClientTls | None) -> tuple[int, str]:
        return await trio.to_thread.run_sync(ask, where, "/alive", tls)

    own = files(pki)
    assert await asked(ClientTls(own, "proxy.example")) == (200, "ok\n")
    assert await asked(ClientTls(own, None)) == (200, "ok\n")
    for tls, why in (
        (ClientTls(own, "other.example"), "match"),
        (ClientTls(files(pki, ca=pki.stranger.file), None), "verify failed"),
        (ClientTls(files(pki, pki.expired_replica), None), "expired"),
        (None, "closed connection|reset"),
    ):
        with pytest.raises(Unreachable, match=why):
            await asked(tls)


def broken(pki: Pki, folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """What is wrong, and what is said of it."""
    made = {name: folder / name for name in ("empty", "nowhere", "encrypted", "mixed.crl", "cut.crt")}
    made["empty"].write_text("")
    made["encrypted"].write_bytes(
        pki.proxy.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    made["mixed.crl"].write_bytes(pki.crl.public_bytes(Encoding.PEM) + pki.stranger.file.read_bytes())
    made["cut.crt"].write_bytes(pki.proxy.certificate_file.read_bytes()[:-80])
    return {
        "no certificate": ({"certificate": made["nowhere"]}, "certificate: cannot be read: No such file"),
        "no key": ({"key": made["nowhere"]}, "key: cannot be read: No such file"),
        "no ca": ({"ca": made["nowhere"]}, "ca: cannot be read: No such file"),
        "no crl": ({"crl": (made["nowhere"],)}, "crl: cannot be read: No such file"),
        "a folder": ({"ca": folder}, "ca: cannot be read: Is a directory"),
        "nothing in it": ({"ca": made["empty"]}, "ca: holds no PEM that can be used: no CERTIFICATE block"),
        "no key in it": (
            {"key": pki.proxy.certificate_file},
            "key: holds no PEM that can be used: no PRIVATE KEY",
        ),
        "another key": ({"key": pki.source.key_file}, "key: does not belong to the certificate"),
        "a passphrase": (
            {"key": made["encrypted"]},
            "key: is encrypted; the endpoint needs a key without a passphrase",
        ),
        "cut off": ({"certificate": made["cut.crt"]}, "holds no PEM that can be used"),
        "an authority among the CRLs": ({"crl": (made["mixed.crl"],)}, "crl: holds a certificate, which would be"),
        "no CRL": ({"crl": (pki.authority.file,)}, "crl: holds no PEM that can be used: no X509 CRL block"),
    }


def test_a_file_that_cannot_be_used_is_named_with_the_reason(pki: Pki, tmp_path: Path) -> None:
    for case, (changed, said) in broken(pki, tmp_path).items():
        with pytest.raises(TlsFileError) as error:
            ServerTls(files(pki, **changed))
        assert said in str(error.value), case
        [value] = changed.values()
        [path] = value if isinstance(value, tuple) else [value]
        assert str(error.value).startswith(f"{path}: "), case


async def test_a_crl_is_asked_of_every_authority_in_the_chain(pki: Pki) -> None:
    crl = pki.stranger.write_crl(pki.stranger.crl())
    async with serving(pki, ServerTls(files(pki, crl=(crl,)))) as served:
        with pytest.raises(OSError, match="ALERT"):
            await served.get(pki.replica)
        assert "unable to get certificate CRL" in served.refused[0][1]
    lapsed = pki.authority.write_crl(pki.authority.crl(**EXPIRED))
    async with serving(pki, ServerTls(files(pki, crl=(lapsed,)))) as served:
        with pytest.raises(OSError, match="ALERT"):
            await served.get(pki.replica)
        assert "CRL has expired" in served.refused[0][1]


def test_the_leaf_is_known_for_its_expiry(pki: Pki) -> None:
    chained = pki.authority.chained(pki.authority.issue(Role.PROXY, "p.example", **NOT_YET))
    tls = ServerTls(files(pki, chained))
    assert tls.certificate_der == chained.certificate.public_bytes(Encoding.DER)
