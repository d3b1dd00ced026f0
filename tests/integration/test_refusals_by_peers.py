"""What makes a handshake or a source fail that is no configuration of Binlock's own: seen on real programs.

The rows of docs/refusals.md that test_refusals.py does not have.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymysql
import pytest
from cryptography import x509

from testbed.fetch import bundle
from testbed.flavours import Flavour
from testbed.servers import Server, free_port
from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.lab import Authority, Proxy
from tests.integration.test_refusals import login_packet, read_greeting, refused

StartProxy = Callable[..., Proxy]
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)
# What a replica shows of a TLS alert, or of the connection that was closed behind it.
ALERT = ("alert", "error", "Lost connection", "wrong version number")
# No name of Binlock's certificate.
ELSEWHERE = "127.0.0.2"


@modern
def test_a_certificate_that_is_not_for_clients(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    tls = pki.authority.replica_tls(pki.source)
    event = refused(pair.replica, source_side(), "certificate_refused", shown=ALERT, tls=tls)
    assert "unsuitable certificate purpose" in event["detail"] or "unsupported certificate purpose" in event["detail"]


def test_a_crl_that_lapses_while_binlock_runs(
    start_pair: Callable[[Flavour], Pair], pki: Pki, source_side: StartProxy, tmp_path: Path
) -> None:
    replicas = [start_pair(flavour).replica for flavour in MODERN]
    crl = tmp_path / "soon.crl"
    # Long enough for Binlock to start, which it would not with one that has lapsed.
    crl.write_bytes(pki.authority.lapsed_crl(timedelta(seconds=15)))
    proxy = source_side(replica_tls=pki.replica_tls(crl=[crl]))
    lapse = x509.load_pem_x509_crl(crl.read_bytes()).next_update_utc
    assert lapse is not None
    while datetime.now(UTC) <= lapse + timedelta(seconds=1):
        time.sleep(0.05)
    for replica in replicas:
        tls = pki.authority.replica_tls(pki.replica)
        event = refused(replica, proxy, "crl_unusable", shown=ALERT, tls=tls)
        assert "CRL has expired" in event["detail"]


@modern
def test_a_group_that_the_replica_does_not_offer(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    # OpenSSL knows it and offers it to nobody by itself.
    proxy = source_side(replica_tls=pki.replica_tls(versions=["TLSv1.3"], groups=["brainpoolP256r1tls13"]))
    tls = pki.authority.replica_tls(pki.replica)
    refused(pair.replica, proxy, "no_shared_group", shown=ALERT, tls=tls)


def test_a_peer_without_a_signature_that_fits_the_certificate(pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    seen = subprocess.run(
        [*bundle("openssl").command("openssl"), "s_client", "-starttls", "mysql", "-connect", f"127.0.0.1:{proxy.port}",
         "-sigalgs", "rsa_pss_rsae_sha256"],
        input="", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "handshake failure" in seen.stderr
    event = proxy.wait_for_refusal("tls_handshake_failed")
    assert "signature algorithm" in event["detail"]


@modern
def test_a_replica_that_finds_another_name_in_binlocks_certificate(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    proxy = source_side(listen=f"{ELSEWHERE}:{free_port(ELSEWHERE)}")
    tls = pki.authority.replica_tls(pki.replica)
    event = refused(
        pair.replica, proxy, "replica_rejected_certificate", shown="SSL connection error", tls=tls, host=ELSEWHERE
    )
    # MySQL looks at the name within the handshake, MariaDB behind it.
    said = "left behind the TLS handshake" if pair.flavour.is_mariadb else "alert bad certificate"
    assert said in event["detail"]


@modern
def test_a_replica_that_does_not_trust_binlocks_authority(
    pair: Pair, pki: Pki, foreign: Authority, source_side: StartProxy
) -> None:
    proxy = source_side(listen=f"{ELSEWHERE}:{free_port(ELSEWHERE)}")
    tls = foreign.replica_tls(pki.replica)
    refused(pair.replica, proxy, "replica_rejected_certificate", shown="SSL connection error", tls=tls, host=ELSEWHERE)


@pytest.mark.parametrize("flavour", list(Flavour), ids=lambda flavour: flavour.value)
def test_a_client_that_finds_another_name_in_binlocks_certificate(
    pki: Pki, source_side: StartProxy, flavour: Flavour
) -> None:
    proxy = source_side(listen=f"{ELSEWHERE}:{free_port(ELSEWHERE)}")
    verify = "--ssl-verify-server-cert" if flavour.is_mariadb else "--ssl-mode=VERIFY_IDENTITY"
    leaf = pki.replica
    seen = subprocess.run(
        [*flavour.client("mysql"), "--no-defaults", "--user=repl", "--password=none", f"--host={ELSEWHERE}",
         f"--port={proxy.port}", verify, f"--ssl-ca={pki.authority.ca}", f"--ssl-cert={leaf.certificate}",
         f"--ssl-key={leaf.key}", "--execute=SELECT 1"],
        capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "ERROR 2026" in seen.stderr
    proxy.wait_for_refusal("replica_rejected_certificate")


@pytest.mark.parametrize(
    ("flavour", "options"),
    [(Flavour.MYSQL_9_7, {"tls-version": ""}), (Flavour.MARIADB_11_8, {"skip-ssl": None})],
    ids=["mysql-9.7", "mariadb-11.8"],
)
def test_a_source_whose_tls_is_off(
    start_pair: Callable[[Flavour], Pair], pki: Pki, replica_side: StartProxy, tmp_path: Path, flavour: Flavour,
    options: dict[str, Any],
) -> None:  # fmt: skip
    with Server(tmp_path / "source", flavour, server_id=1, options=options) as source:
        proxy = replica_side(source=f"127.0.0.1:{source.port}")
        event = refused(
            start_pair(flavour).replica, proxy, "source_without_tls", shown="Binlock: the source does not offer TLS"
        )
    assert event["stage"] == "greeting"


@contextlib.contextmanager
def crowded(source: Server) -> Iterator[None]:
    """No connection is left on the source."""
    former = source.scalar("SELECT @@GLOBAL.max_connections")
    with contextlib.ExitStack() as held:
        held.enter_context(source.connection()).query("SET GLOBAL max_connections = 10")
        with contextlib.suppress(pymysql.err.OperationalError):
            while True:
                held.enter_context(source.connection())
        yield
    source.wait_until(lambda: answers(source), what="a connection that is free again")
    source.sql("SET GLOBAL max_connections = %s", former)


def answers(source: Server) -> bool:
    with contextlib.suppress(pymysql.err.OperationalError):
        return bool(source.scalar("SELECT 1"))
    return False


@modern
def test_a_source_that_turns_the_connection_away(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    with crowded(pair.source):
        tls = pki.authority.replica_tls(pki.replica)
        event = refused(pair.replica, proxy, "source_refused", shown="Too many connections", tls=tls)
    assert event["detail"] == "the source greets with error 1040: Too many connections"


@modern
def test_a_source_that_dies_during_the_login(pair: Pair, replica_side: StartProxy, second: Server) -> None:
    proxy = replica_side(source=f"127.0.0.1:{second.port}", source_tls=None)
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        read_greeting(connection)
        second.kill()
        connection.sendall(login_packet(1))
        event = proxy.wait_for_refusal("source_disconnected")
        assert connection.recv(4096) == b""
    second.start()
    assert (event["stage"], event["account"]) == ("authentication", "repl")
