"""Compressed sessions of real replicas and clients: nothing is inflated on the way, and everything is judged."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Literal

import pytest

from testbed.flavours import Flavour
from tests.integration.conftest import Pair, Pki
from tests.integration.deployments import deploy, wait_for_place
from tests.integration.lab import PASSWORD, Proxy, replicating
from tests.integration.semi_sync import semi_synchronous

StartProxy = Callable[..., Proxy]
Compression = Literal["zlib", "zstd"]
BY_FLAVOUR = [
    pytest.param(Flavour.MYSQL_9_7, "zlib", id="mysql-9.7-zlib"),
    pytest.param(Flavour.MYSQL_9_7, "zstd", id="mysql-9.7-zstd"),
    pytest.param(Flavour.MARIADB_10_11, "zlib", id="mariadb-10.11-zlib"),
    pytest.param(Flavour.MARIADB_11_8, "zlib", id="mariadb-11.8-zlib"),
]
compressed = pytest.mark.parametrize(("pair", "compression"), BY_FLAVOUR, indirect=["pair"])


@compressed
@pytest.mark.parametrize("deployment", ["source-side-unix", "source-side-tls", "tunnel"])
def test_a_compressed_stream_stays_compressed_and_loses_nothing(
    pair: Pair,
    compression: Compression,
    pki: Pki,
    deployment: str,
    source_side: StartProxy,
    replica_side: StartProxy,
) -> None:
    proxy, options = deploy(deployment, pair, pki, source_side, replica_side)
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", compression=compression, **options):
        pair.replica.wait_for_replication()
        table.insert(1500)
        # Packets of 16 MiB in frames of 16 MiB, and what is left of each.
        table.insert(2, body_bytes=20_000_000)
        table.insert(10)
        table.assert_same_on(pair.replica)
        session = wait_for_place(proxy, "test", pair.source)
        assert session["compression"] == compression
        assert 1_000 < session["bytes_to_replica"] < 4_000_000


@compressed
def test_a_commit_waits_for_an_acknowledgement_that_is_compressed(
    pair: Pair, compression: Compression, pki: Pki, source_side: StartProxy
) -> None:
    proxy = source_side()
    tls = pki.authority.replica_tls(pki.replica)
    with (
        semi_synchronous(pair, timeout_seconds=20) as semi_sync,
        replicating(pair.replica, proxy.port, user="repl", tls=tls, compression=compression),
    ):
        semi_sync.wait_for_replica()
        table = pair.table()
        before = semi_sync.counts()
        for _ in range(20):
            table.insert(1)
        assert semi_sync.counts() == (before[0] + 20, before[1])
        table.assert_same_on(pair.replica)
        assert proxy.metric("binlock_proxy_semisync_ack_seconds_count") >= 20


@compressed
def test_a_compressed_stream_ends_between_two_frames_and_resumes(
    pair: Pair, compression: Compression, pki: Pki, source_side: StartProxy
) -> None:
    proxy = source_side(limits="[limits]\nsession_max_age_seconds = 1")
    written_before = pair.replica.log_path.stat().st_size
    table = pair.table()
    tls = pki.authority.replica_tls(pki.replica)
    with replicating(pair.replica, proxy.port, user="repl", tls=tls, compression=compression):
        pair.replica.wait_for_replication()
        with table.under_load(body_bytes=5000):
            pair.replica.wait_until(
                lambda: sum(event["reason"] == "max_age" for event in proxy.events("session_ended")) >= 3,
                what="three sessions to be of age",
            )
        table.assert_same_on(pair.replica)
    # The ERR between the frames was read as what it is: nothing else in the replica's log speaks of the protocol.
    written = pair.replica.log_path.read_bytes()[written_before:].decode(errors="replace")
    assert "the session is" in written or "Binlock" in written
    assert "out of order" not in written
    assert "ncompress" not in written


@compressed
def test_commands_in_frames_are_judged(pair: Pair, compression: Compression, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    flag = ["--compress"] if pair.flavour.is_mariadb else [f"--compression-algorithms={compression}"]
    script = "DROP DATABASE mysql; SELECT @@GLOBAL.SERVER_ID; SELECT * FROM mysql.user; SELECT @@GLOBAL.SERVER_ID;"
    done = subprocess.run(
        [
            *pair.flavour.client("mysql"),
            "--no-defaults",
            *flag,
            "--host=127.0.0.1",
            f"--port={proxy.port}",
            "--user=repl",
            f"--password={PASSWORD}",
            f"--ssl-ca={pki.authority.ca}",
            f"--ssl-cert={pki.replica.certificate}",
            f"--ssl-key={pki.replica.key}",
            "--batch",
            "--force",
        ],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.count("ERROR 1227 (42000)") == 2, done.stderr
    assert done.stdout.split() == ["@@GLOBAL.SERVER_ID", "1"] * 2, (done.stdout, done.stderr)
    [started] = proxy.events("session_started")
    assert started["compression"] == compression
