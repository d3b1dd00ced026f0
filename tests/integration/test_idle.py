"""Streams on which nothing happens: heartbeats keep them up, and without them a replica connects again by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from testbed.flavours import Flavour
from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.deployments import StartProxy
from tests.integration.lab import replicating
from tests.integration.load import at_least

every = pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)


@every
def test_heartbeats_keep_an_idle_stream_up(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    table = pair.table()
    with (
        net_timeout(pair, seconds=5),
        replicating(
            pair.replica,
            proxy.port,
            user="repl",
            tls=pki.authority.replica_tls(pki.replica),
            heartbeat_period=1,
        ),
    ):
        pair.replica.wait_for_replication()
        table.insert(1)
        table.assert_same_on(pair.replica)
        session, threads, received = proxy.stream_of("replica-1.example"), dump_threads(pair), heartbeats(pair)
        # Longer than the replica waits for a sign of life.
        pair.replica.wait_until(lambda: heartbeats(pair) >= received + 7, what="seven heartbeats")
        assert dump_threads(pair) == threads
        assert proxy.stream_of("replica-1.example")["session"] == session["session"]
        assert len(proxy.events("session_started")) == 1
        table.insert(10)
        table.assert_same_on(pair.replica)


@modern
def test_without_heartbeats_an_idle_replica_connects_again_and_loses_nothing(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    proxy = source_side()
    table = pair.table()

    def ended() -> int:
        return len(proxy.events("session_ended"))

    with (
        net_timeout(pair, seconds=3),
        replicating(
            pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica), heartbeat_period=0
        ),
    ):
        pair.replica.wait_for_replication()
        for _ in range(2):
            table.insert(10)
            former = ended()
            pair.replica.wait_until(at_least(ended, former + 1), what="the replica to give up waiting")
        table.insert(10)
        table.assert_same_on(pair.replica)
        assert {event["reason"] for event in proxy.events("session_ended")} == {"disconnected"}
        assert not [event for event in proxy.events() if event["level"] in {"warning", "error"}]
        pair.source.wait_until(lambda: len(dump_threads(pair)) == 1, what="one dump thread")


@contextmanager
def net_timeout(pair: Pair, *, seconds: int) -> Iterator[None]:
    """How long the replica waits for a sign of life from the source."""
    name = "slave_net_timeout" if pair.flavour.is_mariadb else "replica_net_timeout"
    former = pair.replica.scalar(f"SELECT @@GLOBAL.{name}")
    pair.replica.sql(f"SET GLOBAL {name} = {seconds}")
    try:
        yield
    finally:
        pair.replica.sql(f"SET GLOBAL {name} = {former}")


def heartbeats(pair: Pair) -> int:
    if pair.flavour.is_mariadb:
        return int(pair.replica.replica_status().raw["Slave_received_heartbeats"])
    table = "performance_schema.replication_connection_status"
    return int(pair.replica.scalar(f"SELECT COUNT_RECEIVED_HEARTBEATS FROM {table} WHERE CHANNEL_NAME = ''"))


def dump_threads(pair: Pair) -> list[int]:
    return [row["Id"] for row in pair.source.sql("SHOW PROCESSLIST") if row["Command"].startswith("Binlog Dump")]
