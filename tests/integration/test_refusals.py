"""What must be refused is refused, and a DBA can read why: in the replica's status, or in the proxy's log."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from testbed.fetch import bundle
from testbed.flavours import Flavour
from testbed.servers import Server, free_port
from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.lab import PASSWORD, WAIT_SECONDS, Authority, Leaf, Proxy, replicating, run_certs
from wire.capabilities import Capability
from wire.commands import Query
from wire.framing import encode_packet
from wire.greeting import HandshakeV10
from wire.login import HandshakeResponse41, SSLRequest

StartProxy = Callable[..., Proxy]
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)


def refused(
    replica: Server, proxy: Proxy, reason: str, *, shown: str | tuple[str, ...], user: str = "repl", **options: Any
) -> dict[str, Any]:
    """Lets a replica try, and returns the proxy's log line once the replica shows one of the texts."""
    texts = (shown,) if isinstance(shown, str) else shown
    with replicating(replica, proxy.port, user=user, **options):
        event = proxy.wait_for_refusal(reason)
        replica.wait_until(
            lambda: any(text in replica.replica_status().last_io_error for text in texts),
            what=f"{texts} in the replica's status",
        )
        assert replica.replica_status().io_running != "Yes"
    assert proxy.metric("binlock_proxy_refusals_total", stage=event["stage"], reason=reason) >= 1
    return event


@modern
def test_an_address_outside_the_allowlist(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(allow=["127.0.0.8/29"])
    event = refused(
        pair.replica, proxy, "address_not_allowed", shown="Binlock: host 127.0.0.1 is not on the allowlist",
        tls=pki.authority.replica_tls(pki.replica),
    )  # fmt: skip
    assert event["stage"] == "admission"
    assert (
        pair.source.scalar("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'unauthenticated user'")
        == 0
    )


@modern
def test_a_replica_that_stays_in_plaintext(pair: Pair, source_side: StartProxy) -> None:
    options: dict[str, Any] = {} if pair.flavour.is_mariadb else {"get_source_public_key": True}
    proxy = source_side()
    event = refused(pair.replica, proxy, "plaintext_refused", shown="Binlock: this route requires TLS", **options)
    assert event["stage"] == "tls"


@modern
def test_no_certificate(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    # Under TLS 1.3 a client learns this only when it first reads; the text is its TLS library's.
    refused(
        pair.replica, source_side(), "certificate_missing", shown=("certificate required", "error", "Lost connection"),
        tls=pki.authority.replica_tls(None),
    )  # fmt: skip


@modern
def test_a_certificate_of_another_authority(
    pair: Pair, pki: Pki, foreign: Authority, source_side: StartProxy, tmp_path: Path
) -> None:
    leaf = foreign.issue("replica", f"replica-{pair.flavour.value}.example".replace("_", "-"))
    tls = pki.authority.replica_tls(leaf)
    refused(
        pair.replica, source_side(), "certificate_untrusted", shown=("unknown ca", "error", "Lost connection"), tls=tls
    )


def wait_until_expired(leaf: Leaf) -> None:
    not_after = x509.load_pem_x509_certificate(leaf.certificate.read_bytes()).not_valid_after_utc
    while datetime.now(UTC) <= not_after + timedelta(seconds=1):
        time.sleep(0.05)


@modern
def test_an_expired_certificate(pair: Pair, pki: Pki, source_side: StartProxy, tmp_path: Path) -> None:
    run_certs("issue", "replica", "short.example", "--dir", pki.authority.folder, "--seconds", "1", "--out", tmp_path)
    leaf = Leaf(tmp_path / "short.example.crt", tmp_path / "short.example.key")
    wait_until_expired(leaf)
    proxy = source_side(replicas=[{"identity": "short.example", "accounts": ["repl"]}])
    tls = pki.authority.replica_tls(leaf)
    refused(
        pair.replica, proxy, "certificate_expired", shown=("certificate expired", "error", "Lost connection"), tls=tls
    )


@modern
def test_a_certificate_that_is_not_on_the_roster(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(replicas=[{"identity": "another.example", "accounts": ["repl"]}])
    tls = pki.authority.replica_tls(pki.replica)
    event = refused(
        pair.replica, proxy, "identity_not_on_roster",
        shown="Binlock: the certificate of replica-1.example is not on the roster", tls=tls,
    )  # fmt: skip
    assert event["stage"] == "identity"


@modern
def test_another_account_than_the_rosters(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(replicas=[{"identity": "replica-1.example", "accounts": ["backup"]}])
    tls = pki.authority.replica_tls(pki.replica)
    refused(
        pair.replica, proxy, "account_not_allowed",
        shown="Binlock: replica-1.example may not log in as 'repl'", tls=tls,
    )  # fmt: skip


@modern
def test_another_server_id_than_the_rosters(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(replicas=[{"identity": "replica-1.example", "accounts": ["repl"], "server_ids": [77]}])
    tls = pki.authority.replica_tls(pki.replica)
    refused(
        pair.replica, proxy, "server_id_not_allowed",
        shown="Binlock: replica-1.example may not replicate as server id 2", tls=tls,
    )  # fmt: skip


@modern
def test_a_wrong_password_is_the_sources_own_refusal(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    tls = pki.authority.replica_tls(pki.replica)
    event = refused(
        pair.replica,
        source_side(),
        "authentication_rejected",
        shown="Access denied for user 'repl'",
        password="wrong",
        tls=tls,
    )
    assert "1045" in event["detail"]


@modern
def test_a_source_that_is_down(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(source=f"127.0.0.1:{free_port()}")
    tls = pki.authority.replica_tls(pki.replica)
    event = refused(
        pair.replica, proxy, "source_unreachable",
        shown="Binlock: the source behind this route cannot be reached", tls=tls,
    )  # fmt: skip
    assert "refused" in event["detail"]


@modern
def test_a_source_whose_certificate_has_another_name(pair: Pair, pki: Pki, replica_side: StartProxy) -> None:
    source_tls = {
        "certificate": pki.replica.certificate, "key": pki.replica.key, "ca": pki.authority.ca,
        "server_name": "other.example",
    }  # fmt: skip
    event = refused(
        pair.replica, replica_side(source_tls=source_tls), "source_name_mismatch",
        shown="Binlock: the source's certificate is not for other.example",
    )  # fmt: skip
    assert event["stage"] == "source"


@modern
def test_a_source_of_another_authority(pair: Pair, foreign: Authority, replica_side: StartProxy) -> None:
    refused(
        pair.replica, replica_side(source_tls={"ca": foreign.ca}), "source_tls_failed",
        shown="Binlock: TLS towards the source failed",
    )  # fmt: skip


@pytest.mark.parametrize("pair", [Flavour.MYSQL_9_7], indirect=True)
@pytest.mark.parametrize(
    ("listed", "offered"),
    [
        (
            {"versions": ["TLSv1.2"], "ciphers": ["ECDHE-ECDSA-AES256-GCM-SHA384"]},
            {"tls_version": "TLSv1.2", "cipher": "ECDHE-ECDSA-AES128-GCM-SHA256"},
        ),
        (
            {"ciphersuites": ["TLS_AES_256_GCM_SHA384"]},
            {"tls_version": "TLSv1.3", "ciphersuites": "TLS_AES_128_GCM_SHA256"},
        ),
    ],
    ids=["TLSv1.2", "TLSv1.3"],
)
def test_a_cipher_that_is_not_on_the_list(
    pair: Pair, pki: Pki, source_side: StartProxy, listed: dict[str, Any], offered: dict[str, str]
) -> None:
    proxy = source_side(replica_tls=pki.replica_tls(**listed))
    tls = pki.authority.replica_tls(pki.replica, **offered)
    refused(pair.replica, proxy, "no_shared_cipher", shown="handshake failure", tls=tls)


def test_a_tls_version_that_is_not_on_the_list(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(replica_tls=pki.replica_tls(versions=["TLSv1.3"]))
    tls = pki.authority.replica_tls(pki.replica, tls_version="TLSv1.2")
    refused(pair.replica, proxy, "tls_version_refused", shown="protocol version", tls=tls)


def openssl_client(proxy: Proxy, pki: Pki, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*bundle("openssl").command("openssl"), "s_client", "-starttls", "mysql", "-connect", f"127.0.0.1:{proxy.port}",
         "-CAfile", pki.authority.ca, "-showcerts", *map(str, options)],
        input="", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_tls_1_1(pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    seen = openssl_client(proxy, pki, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    assert "protocol version" in seen.stderr
    proxy.wait_for_refusal("tls_version_refused")


def test_openssl_sees_the_configured_chain_and_is_refused_without_a_certificate(
    pki: Pki, source_side: StartProxy
) -> None:
    proxy = source_side()
    seen = openssl_client(proxy, pki)
    shown = [block.strip() for block in seen.stdout.split("-----BEGIN CERTIFICATE-----")[1:]]
    sent = "".join(shown[0].split("-----END")[0].split())
    assert sent in "".join(pki.proxy.certificate.read_text().split())
    assert seen.stdout.count("-----BEGIN CERTIFICATE-----") - seen.stdout.count("Server certificate\n-----BEGIN") == 1
    assert "Verification: OK" in seen.stdout
    proxy.wait_for_refusal("certificate_missing")
    accepted = openssl_client(
        proxy, pki, "-cert", pki.replica.certificate, "-key", pki.replica.key, "-verify_return_error"
    )
    assert "Verify return code: 0 (ok)" in accepted.stdout
    assert "alert" not in accepted.stderr


def login_packet(sequence_id: int, user: bytes = b"repl", flags: Capability = Capability.CLIENT_PROTOCOL_41) -> bytes:
    return encode_packet(
        HandshakeResponse41(capabilities=flags | Capability.CLIENT_SECURE_CONNECTION, user=user).serialize(),
        sequence_id,
    )


def read_greeting(connection: socket.socket) -> HandshakeV10:
    with connection.makefile("rb") as stream:
        header = stream.read(4)
        return HandshakeV10.parse(stream.read(int.from_bytes(header[:3], "little")))


def test_plaintext_smuggled_in_behind_the_ssl_request(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    pair.source.sql("SET GLOBAL general_log_file = 'smuggled.log'")
    pair.source.sql("SET GLOBAL general_log = ON")
    flags = Capability.CLIENT_PROTOCOL_41 | Capability.CLIENT_SSL
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        read_greeting(connection)
        request = encode_packet(SSLRequest(capabilities=flags).serialize(), 1)
        query = encode_packet(Query(b"CREATE DATABASE smuggled").serialize(Capability(0)), 0)
        connection.sendall(request + login_packet(2) + query)
        event = proxy.wait_for_refusal("not_tls")
    pair.source.sql("SET GLOBAL general_log = OFF")
    assert event["stage"] == "tls"
    assert not pair.source.sql("SHOW DATABASES LIKE 'smuggled'")
    log = (pair.source.folder / "data" / "smuggled.log").read_text(errors="replace")
    assert "general_log" in log
    assert "CREATE DATABASE smuggled" not in log
    assert "\tConnect\trepl" not in log


def test_a_handshake_cannot_be_injected_before_tls_either(pki: Pki, source_side: StartProxy) -> None:
    """Plaintext before the ClientHello, in a segment of its own, fails in the TLS engine as well."""
    proxy = source_side()
    context = ssl.create_default_context(cafile=pki.authority.ca)
    context.load_cert_chain(pki.replica.certificate, pki.replica.key)
    flags = Capability.CLIENT_PROTOCOL_41 | Capability.CLIENT_SSL
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        read_greeting(connection)
        connection.sendall(encode_packet(SSLRequest(capabilities=flags).serialize(), 1))
        connection.sendall(login_packet(2))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        # Binlock may be gone before the hello is sent.
        with contextlib.suppress(OSError):
            connection.sendall(outgoing.read())
            while answer := connection.recv(4096):
                incoming.write(answer)
        incoming.write_eof()
        with pytest.raises(ssl.SSLError):
            tls.do_handshake()
    proxy.wait_for_refusal("not_tls")


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", b"\x00" * 64, b"\xff" * 64],
    ids=["http", "client hello", "zeros", "ones"],
)
def test_garbage_ends_its_own_session_only(pair: Pair, pki: Pki, source_side: StartProxy, garbage: bytes) -> None:
    proxy = source_side(limits="[limits]\nconnection_phase_seconds = 3")
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
            connection.sendall(garbage)
            connection.settimeout(WAIT_SECONDS)
            # What Binlock has not read when it closes makes it a reset.
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
        event = proxy.wait_for_event("session_refused")
        assert event["reason"] in {"protocol_error", "timeout"}
        table.insert(10)
        table.assert_same_on(pair.replica)


def test_a_port_scan_that_resets_its_connections_ends_nothing(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    for _ in range(200):
        scan = socket.create_connection(("127.0.0.1", proxy.port))
        scan.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        scan.close()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()


def test_silent_peers_are_sent_away_and_do_not_keep_others_out(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(limits="[limits]\nconnection_phase_seconds = 1\nunauthenticated_sessions = 20")
    silent = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(40)]
    proxy.wait_for_refusal("too_many_sessions")
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
    proxy.wait_for_refusal("timeout")
    for connection in silent:
        connection.close()


def test_what_was_refused_is_not_in_the_log_as_a_secret(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    pair.cool_down()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
    assert PASSWORD not in proxy.program.log_path.read_text()
