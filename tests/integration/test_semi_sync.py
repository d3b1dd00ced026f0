"""Semi-synchronous replication: a commit waits for the acknowledgement that passes the proxy, and for nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest

from testbed.flavours import Flavour
from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.deployments import StartProxy, deploy
from tests.integration.lab import Table, replicating
from tests.integration.load import standing_still, writing
from tests.integration.semi_sync import WaitPoint, semi_synchronous

every = pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)
# Header, magic byte, position, and the name of a binlog file.
ACK_BYTES = 4 + 1 + 8 + len("binlog.000001")
LONG_SECONDS = 3600
# Time enough to see that a commit waits, and to kill its replica.
SHORT_SECONDS = 8
ACKNOWLEDGEMENTS = "binlock_proxy_semisync_ack_seconds_count"


@pytest.mark.parametrize(
    ("pair", "deployment", "wait_point"),
    [
        (flavour, deployment, wait_point)
        for flavour in Flavour
        for deployment, wait_point in (
            ("source-side-tls", "AFTER_SYNC"),
            ("replica-side", "AFTER_COMMIT"),
            ("tunnel", "AFTER_SYNC"),
        )
        if flavour in MODERN or deployment == "tunnel"
    ],
    indirect=["pair"],
)
def test_each_commit_is_acknowledged_through_the_proxy(
    pair: Pair,
    pki: Pki,
    deployment: str,
    wait_point: WaitPoint,
    source_side: StartProxy,
    replica_side: StartProxy,
) -> None:
    proxy, options = deploy(deployment, pair, pki, source_side, replica_side)
    table = pair.table()
    with (
        semi_synchronous(pair, timeout_seconds=LONG_SECONDS, wait_point=wait_point) as semi_sync,
        replicating(pair.replica, proxy.port, user="repl", **options),
    ):
        semi_sync.wait_for_replica()
        semi_sync.settle(table)
        seen = proxy.metric(ACKNOWLEDGEMENTS)
        acknowledged, without = semi_sync.counts()
        for _ in range(50):
            table.insert(1)
        assert semi_sync.counts() == (acknowledged + 50, without)
        assert proxy.metric(ACKNOWLEDGEMENTS) == seen + 50
        table.assert_same_on(pair.replica)


@every
def test_commits_side_by_side_are_each_acknowledged_and_counted(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    table = pair.table()
    with (
        semi_synchronous(pair, timeout_seconds=LONG_SECONDS) as semi_sync,
        replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)),
    ):
        semi_sync.wait_for_replica()
        semi_sync.settle(table)
        seen, before = proxy.metric(ACKNOWLEDGEMENTS), proxy.stream_of("replica-1.example")["bytes_to_source"]
        acknowledged, without = semi_sync.counts()
        with inserting(table, writers=8) as turns:
            pair.replica.wait_until(lambda: turns() > 500, what="five hundred commits")
        assert semi_sync.counts()[0] > acknowledged
        assert semi_sync.counts()[1] == without
        table.assert_same_on(pair.replica)
        # Several may wait at once, and one answer may stand for all of a group commit: what passed is what counts.
        passed = proxy.stream_of("replica-1.example")["bytes_to_source"] - before
        assert proxy.metric(ACKNOWLEDGEMENTS) - seen == passed / ACK_BYTES


@modern
def test_a_commit_waits_for_a_replica_that_stands_still(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    table = pair.table()
    with (
        semi_synchronous(pair, timeout_seconds=LONG_SECONDS) as semi_sync,
        replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)),
    ):
        semi_sync.wait_for_replica()
        acknowledged, without = semi_sync.counts()
        with standing_still(pair.replica):
            commit = committing(table)
            semi_sync.wait_for_waiting_commit()
            assert semi_sync.counts() == (acknowledged, without)
            assert commit.is_alive()
        commit.join(30)
        assert not commit.is_alive()
        assert semi_sync.counts() == (acknowledged + 1, without)
        table.assert_same_on(pair.replica)


@modern
def test_a_commit_gives_up_when_the_replica_is_killed_and_waits_again_when_it_is_back(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    proxy = source_side()
    table = pair.table()
    with (
        semi_synchronous(pair, timeout_seconds=SHORT_SECONDS, wait_point="AFTER_COMMIT") as semi_sync,
        replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)),
    ):
        semi_sync.wait_for_replica()
        session = proxy.stream_of("replica-1.example")["session"]
        acknowledged, without = semi_sync.counts()
        began = time.monotonic()
        with standing_still(pair.replica):
            commit = committing(table)
            semi_sync.wait_for_waiting_commit()
            pair.replica.kill()
            assert commit.is_alive()
        commit.join(30)
        assert time.monotonic() - began >= SHORT_SECONDS
        assert semi_sync.counts() == (acknowledged, without + 1)
        assert semi_sync.status("status") == "OFF"
        assert proxy.wait_for_end(session)["reason"] == "disconnected"
        table.insert(1)
        assert semi_sync.counts() == (acknowledged, without + 2)

        pair.replica.start()
        semi_sync.enable_replica()
        semi_sync.wait_for_replica()
        # What shows the source that the replica has caught up is the acknowledgement of one more event.
        semi_sync.settle(table)
        seen = proxy.metric(ACKNOWLEDGEMENTS)
        acknowledged, without = semi_sync.counts()
        table.insert(1)
        assert semi_sync.counts() == (acknowledged + 1, without)
        assert proxy.metric(ACKNOWLEDGEMENTS) == seen + 1
        table.assert_same_on(pair.replica)


@pytest.mark.parametrize(
    "pair", [Flavour.MARIADB_10_11, Flavour.MARIADB_11_8], indirect=True, ids=lambda flavour: flavour.value
)
def test_the_kill_with_which_mariadb_stops_ends_the_sources_own_thread(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    """The replica opens a second connection and names the thread of the first, by the number that the greeting had."""
    proxy = source_side()
    with (
        ExitStack() as settings,
        semi_synchronous(pair, timeout_seconds=LONG_SECONDS) as semi_sync,
        replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)),
    ):
        semi_sync.wait_for_replica()
        [thread] = dump_threads(pair)
        stream = proxy.stream_of("replica-1.example")["session"]
        settings.callback(pair.source.sql, "SET GLOBAL general_log = 0, log_output = 'FILE'")
        pair.source.sql("SET GLOBAL log_output = 'TABLE', general_log = 1")
        pair.replica.stop_replication()
        killer = proxy.wait_for_event("session_ended", matches=lambda event: event["session"] > stream)
        pair.source.wait_until(lambda: not dump_threads(pair), what="the source's dump thread to end")
        proxy.wait_for_end(stream)
        asked = pair.source.sql("SELECT argument FROM mysql.general_log WHERE argument LIKE 'KILL%%'")
        assert [row["argument"] for row in asked] == [f"KILL {thread}"]
        header_bytes = 4
        assert killer["bytes_to_source"] == 2 * header_bytes + len(f"\x03KILL {thread}") + len("\x01")
        assert not proxy.events("command_refused", "session_refused")


def dump_threads(pair: Pair) -> list[int]:
    return [row["Id"] for row in pair.source.sql("SHOW PROCESSLIST") if row["Command"] == "Binlog Dump"]


def inserting(table: Table, *, writers: int) -> AbstractContextManager[Callable[[], int]]:
    insert = f"INSERT INTO {table.schema}.orders (body) VALUES (REPEAT('x', 2000))"
    return writing(table.source, lambda cursor, _writer, _turn: cursor.execute(insert), writers=writers)


def committing(table: Table) -> threading.Thread:
    """One commit, in a thread of its own."""
    thread = threading.Thread(target=table.insert, args=(1,), daemon=True)
    thread.start()
    return thread
