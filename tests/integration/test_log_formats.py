"""How a source writes its log is no matter: the stream passes as it is, and the proxy knows its place in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from testbed.flavours import Flavour
from tests.integration.conftest import Pair, Pki
from tests.integration.deployments import StartProxy, wait_for_place
from tests.integration.lab import replicating

every = pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)


@every
def test_a_log_without_checksums_is_followed_from_a_position(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    with source_setting(pair, "binlog_checksum", "NONE"):
        position = pair.source.binlog_position()
        table = pair.table()
        with replicating(
            pair.replica,
            proxy.port,
            user="repl",
            tls=pki.authority.replica_tls(pki.replica),
            auto_position=False,
            position=position,
        ):
            pair.replica.wait_for_replication()
            for _ in range(5):
                table.insert(600)
                pair.source.sql("FLUSH BINARY LOGS")
            table.insert(10)
            table.assert_same_on(pair.replica)
            wait_for_place(proxy, "test", pair.source)
            assert len(proxy.events("stream_started")) == 1


@every
def test_a_compressed_log_passes_as_it_is(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    name = "log_bin_compress" if pair.flavour.is_mariadb else "binlog_transaction_compression"
    with source_setting(pair, name, "ON"):
        table = pair.table()
        with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
            pair.replica.wait_for_replication()
            file, start = pair.source.binlog_position()
            moved = proxy.stream_of("replica-1.example")["bytes_to_replica"]
            table.insert(700, body_bytes=5000)
            table.assert_same_on(pair.replica)
            written = {row["Event_type"] for row in pair.source.sql(f"SHOW BINLOG EVENTS IN '{file}' FROM {start}")}
            assert written & {"Transaction_payload", "Write_rows_compressed_v1"}
            session = wait_for_place(proxy, "test", pair.source)
            assert session["bytes_to_replica"] - moved < 700 * 5000 / 10


@contextmanager
def source_setting(pair: Pair, name: str, value: str) -> Iterator[None]:
    former = pair.source.scalar(f"SELECT @@GLOBAL.{name}")
    pair.source.sql(f"SET GLOBAL {name} = {value}")
    try:
        yield
    finally:
        pair.source.sql(f"SET GLOBAL {name} = {former}")
