"""Everything at once: writers and appliers side by side, an encrypted and compressed log, servers that are killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.encryption import binlog_encryption
from testbed.flavours import Flavour
from testbed.servers import Server
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import PASSWORD, Proxy, RouteConfig, replicating
from tests.integration.load import at_least, writing

if TYPE_CHECKING:
    from pymysql.cursors import Cursor

SCHEMAS = [f"storm_{number}" for number in range(6)]
SOURCE_OPTIONS: dict[bool, dict[str, str | int | Path | None]] = {
    False: {"binlog-transaction-compression": "ON"},
    True: {"log-bin-compress": "ON", "log-bin-compress-min-len": 10},
}
REPLICA_OPTIONS: dict[bool, dict[str, str | int | Path | None]] = {
    # Without recovery a relay log that was cut off is an error, with any source.
    False: {"replica-parallel-workers": 8, "relay-log-recovery": "ON"},
    True: {"slave-parallel-threads": 8, "slave-parallel-mode": "optimistic"},
}


@pytest.mark.parametrize("flavour", list(Flavour), ids=lambda flavour: flavour.value)
def test_no_row_is_lost_whatever_is_restarted(flavour: Flavour, pki: Pki, tmp_path: Path) -> None:
    with stormy_pair(flavour, tmp_path) as pair:
        route = RouteConfig(
            source=f"unix:{pair.source.socket_path}",
            replicas=[{"identity": "replica-1.example", "accounts": ["repl"], "server_ids": [2]}],
            replica_tls=pki.replica_tls(),
        )
        with (
            Proxy(tmp_path / "proxy", route) as proxy,
            replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)),
        ):
            pair.replica.wait_for_replication()
            with writing(pair.source, turn_of(pair), writers=len(SCHEMAS), survives_restarts=True) as turns:
                for happening in happenings(pair, proxy):
                    happening()
                    pair.source.wait_until(at_least(turns, turns() + 100), what="a hundred commits")
                    pair.replica.wait_for_replication()
            pair.replica.catch_up_with(pair.source)
            for schema in SCHEMAS:
                assert pair.source.row_count(f"{schema}.orders") > 0
                assert pair.replica.table_checksums(schema) == pair.source.table_checksums(schema)
            assert {event["reason"] for event in proxy.events("session_ended")} <= {
                "closed",
                "disconnected",
                "source_disconnected",
            }


def happenings(pair: Pair, proxy: Proxy) -> Iterator[Callable[[], object]]:
    def rotate() -> None:
        for _ in range(20):
            pair.source.sql("FLUSH BINARY LOGS")

    def revive(server: Server) -> Callable[[], object]:
        def kill_and_start() -> None:
            server.kill()
            server.start()

        return kill_and_start

    def stop_and_start() -> None:
        pair.replica.stop_replication()
        pair.replica.start_replication()

    def restart_replica() -> None:
        # A MariaDB 11.8 that shuts down while its parallel appliers are at work may wait for one of them for ever.
        pair.replica.stop_replication()
        pair.replica.restart()

    yield rotate
    yield restart_replica
    yield revive(pair.replica)
    yield pair.source.restart
    yield revive(pair.source)
    yield rotate
    yield stop_and_start


def turn_of(pair: Pair) -> Callable[[Cursor, int, int], None]:
    def turn(cursor: Cursor, writer: int, number: int) -> None:
        orders = f"{SCHEMAS[writer]}.orders"
        if pair.flavour.is_mariadb:
            cursor.execute(f"SET SESSION gtid_domain_id = {writer % 3}")
        cursor.execute("BEGIN")
        values = ", ".join([f"(REPEAT('a body of some length ', {1 + number % 60}))"] * 5)
        cursor.execute(f"INSERT INTO {orders} (body) VALUES {values}")
        cursor.execute(f"UPDATE {orders} SET body = CONCAT(body, '.') ORDER BY id DESC LIMIT 8")
        cursor.execute(f"DELETE FROM {orders} ORDER BY id LIMIT 1")
        cursor.execute("COMMIT")

    return turn


@contextmanager
def stormy_pair(flavour: Flavour, folder: Path) -> Iterator[Pair]:
    encryption = binlog_encryption(flavour, folder / "encryption")
    pair = Pair(
        Server(
            folder / "source",
            flavour,
            server_id=1,
            options=encryption.options | SOURCE_OPTIONS[flavour.is_mariadb],
            program=encryption.program,
        ),
        Server(folder / "replica", flavour, server_id=2, options=REPLICA_OPTIONS[flavour.is_mariadb]),
    )
    with pair.source, pair.replica:
        pair.source.create_replication_account("repl", PASSWORD)
        for schema in SCHEMAS:
            pair.source.sql(f"CREATE DATABASE {schema}")
            pair.source.sql(f"CREATE TABLE {schema}.orders (id INT AUTO_INCREMENT PRIMARY KEY, body LONGTEXT)")
        yield pair
