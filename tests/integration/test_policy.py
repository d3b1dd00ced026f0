"""The policy `replication`: every real replica passes it, in every manner, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT, COMMAND

from testbed.flavours import Flavour
from testbed.replication import change_source
from testbed.servers import Server
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import PASSWORD, Proxy, Table, replicating
from tests.integration.recordings import (
    assert_nothing_refused,
    client_command,
    connect,
    make_account,
    recorded,
    run_client,
)

StartProxy = Callable[..., Proxy]
MARIADBS = (Flavour.MARIADB_10_11, Flavour.MARIADB_11_8)
every_server = pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
mysql = pytest.mark.parametrize("pair", [Flavour.MYSQL_9_7], indirect=True, ids=lambda flavour: flavour.value)
mariadb = pytest.mark.parametrize("pair", list(MARIADBS), indirect=True, ids=lambda flavour: flavour.value)


def assert_replicates(pair: Pair, table: Table) -> None:
    pair.replica.wait_for_replication()
    table.insert(10)
    table.assert_same_on(pair.replica)


@every_server
def test_by_gtid_and_again_after_the_connection_was_lost(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    table = pair.table()
    with recorded(pair.source) as recording:
        with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
            assert_replicates(pair, table)
            first = proxy.stream_of("replica-1.example")["session"]
            pair.source.sql("KILL %s", thread_of_dump(pair.source))
            proxy.wait_for_event("stream_started", matches=lambda event: event["session"] != first)
            assert_replicates(pair, table)
        first_asked, second_asked = recording.queries_of("repl")
    # mysql_reconnect sends it, and so the list of queries has it.
    assert any(query.startswith("SET NAMES") for query in second_asked)
    assert not any(query.startswith("SET NAMES") for query in first_asked)
    assert_nothing_refused(proxy)


def thread_of_dump(server: Server) -> int:
    [found] = server.sql("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")
    return int(next(iter(found.values())))


@every_server
def test_by_file_and_position(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        # Each has what came before, so that a position is enough.
        assert_replicates(pair, table)
    with replicating(
        pair.replica, proxy.port, user="repl", auto_position=False, position=pair.source.binlog_position(),
        tls=pki.authority.replica_tls(pki.replica),
    ):  # fmt: skip
        assert_replicates(pair, table)
    assert_nothing_refused(proxy)


@contextmanager
def changed(server: Server, **variables: str | int) -> Iterator[None]:
    """Global variables for the duration."""
    before = {name: server.scalar(f"SELECT @@GLOBAL.{name}") for name in variables}
    for name, value in variables.items():
        server.sql(f"SET GLOBAL {name} = %s", value)
    try:
        yield
    finally:
        for name, value in before.items():
            server.sql(f"SET GLOBAL {name} = %s", value)


@mysql
def test_semi_synchronously_with_mysql(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    table = pair.table()
    for server, side in ((pair.source, "source"), (pair.replica, "replica")):
        if not server.scalar(
            f"SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_name = 'rpl_semi_sync_{side}'"
        ):
            with server.connection() as connection, connection.cursor() as cursor:
                cursor.execute("SET SESSION sql_log_bin = 0")
                cursor.execute(f"INSTALL PLUGIN rpl_semi_sync_{side} SONAME 'semisync_{side}.so'")
    with (
        changed(pair.source, rpl_semi_sync_source_enabled=1),
        changed(pair.replica, rpl_semi_sync_replica_enabled=1),
        replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)),
    ):
        pair.replica.wait_for_replication()
        pair.source.wait_until(lambda: status(pair.source, "Rpl_semi_sync_source_clients") == "1")
        assert_replicates(pair, table)
        assert int(status(pair.source, "Rpl_semi_sync_source_yes_tx")) > 0
    assert_nothing_refused(proxy)


def status(server: Server, name: str) -> str:
    return str(server.sql(f"SHOW GLOBAL STATUS LIKE '{name}'")[0]["Value"])


@mariadb
def test_semi_synchronously_with_mariadb_which_kills_its_old_thread_when_it_stops(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    proxy = source_side()
    table = pair.table()
    with (
        changed(pair.source, rpl_semi_sync_master_enabled=1),
        changed(pair.replica, rpl_semi_sync_slave_enabled=1),
        recorded(pair.source) as recording,
    ):
        with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
            pair.replica.wait_for_replication()
            pair.source.wait_until(lambda: status(pair.source, "Rpl_semi_sync_master_clients") == "1")
            assert_replicates(pair, table)
            thread_id, stream = thread_of_dump(pair.source), proxy.stream_of("replica-1.example")["session"]
        # The second connection comes with TLS and the certificate; either may be the first to end.
        first = proxy.wait_for_end(stream)
        second = proxy.wait_for_event("session_ended", matches=lambda event: event["session"] > stream)
        assert second["identity"] == first["identity"] == "replica-1.example"
        assert f"KILL {thread_id}\n" in recording.text
    assert_nothing_refused(proxy)


@every_server
def test_on_a_channel_of_its_own(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    table = pair.table()
    statement, values = change_source(
        pair.flavour, host="127.0.0.1", port=proxy.port, user="repl", password=PASSWORD, auto_position=True,
        position=None, tls=pki.authority.replica_tls(pki.replica), get_source_public_key=False,
        connect_retry_seconds=1, retry_count=None, bind=None, heartbeat_period=None,
    )  # fmt: skip
    if pair.flavour.is_mariadb:
        statement = statement.replace("CHANGE MASTER TO", "CHANGE MASTER 'orders' TO")
        start, stop, reset = "START SLAVE 'orders'", "STOP SLAVE 'orders'", "RESET SLAVE 'orders' ALL"
    else:
        statement += " FOR CHANNEL 'orders'"
        start, stop, reset = (
            f"{word} FOR CHANNEL 'orders'" for word in ("START REPLICA", "STOP REPLICA", "RESET REPLICA ALL")
        )
    pair.replica.sql(statement, *values)
    pair.replica.sql(start)
    try:
        assert_replicates(pair, table)
    finally:
        pair.replica.sql(stop)
        pair.replica.sql(reset)
    assert_nothing_refused(proxy)


@mariadb
def test_mariadb_with_the_current_position_a_filter_and_an_end(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    table = pair.table()
    replica = pair.replica
    with (
        recorded(pair.source) as recording,
        replicating(replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)),
    ):
        assert_replicates(pair, table)
        replica.stop_replication()
        replica.sql("CHANGE MASTER TO MASTER_USE_GTID = current_pos")
        with changed(replica, replicate_events_marked_for_skip="FILTER_ON_MASTER", gtid_ignore_duplicates=1):
            replica.start_replication()
            assert_replicates(pair, table)
            replica.stop_replication()
        table.insert(10)
        ways = ["master_gtid_pos"]
        if pair.flavour is Flavour.MARIADB_11_8:
            ways += ["SQL_BEFORE_GTIDS", "SQL_AFTER_GTIDS"]
        for way in ways:
            table.insert(1)
            replica.sql(f"START SLAVE UNTIL {way} = %s", pair.source.executed_gtids())
            replica.wait_until(lambda: replica.replica_status().sql_running == "No", what=f"the end by {way}")
            replica.stop_replication()
        replica.start_replication()
        assert_replicates(pair, table)
        for sent in ("SET skip_replication=1", "SET @slave_gtid_ignore_duplicates=1", "SET @slave_until_gtid='"):
            assert sent in recording.text
        assert ("SET @slave_gtid_until_before_gtids=1" in recording.text) == (pair.flavour is Flavour.MARIADB_11_8)
    assert_nothing_refused(proxy)


FORBIDDEN = [
    b"DROP DATABASE canary",
    b"SELECT * FROM mysql.user",
    b"SET GLOBAL max_connections = 7",
    b"SELECT UNIX_TIMESTAMP(); DROP DATABASE canary",
    b"SELECT UNIX_TIMESTAMP() /* x */; DROP DATABASE canary",
    b"/* x */ DROP DATABASE canary",
    b"/*!50000 DROP DATABASE canary */",
    b"/*M!100000 DROP DATABASE canary */",
    b"SELECT UNIX_TIMESTAMP() /*!50000 , (SELECT COUNT(*) FROM mysql.user) */",
    b"SET @slave_uuid = '\xbf\\'; DROP DATABASE canary; -- '",
    b"SET @slave_uuid = 'a\\'; DROP DATABASE canary; -- '",
    b"SET @slave_uuid = 'a', GLOBAL max_connections = 7",
    b"SET @slave_uuid = (SELECT COUNT(*) FROM mysql.user)",
    b"KILL 1",
    b"PREPARE canary FROM 'SELECT 1'",
    b"SHUTDOWN /* canary */",
]


@every_server
def test_nothing_else_reaches_the_source_and_the_session_lives_on(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    make_account(pair.source, "mighty")
    proxy = source_side(replicas=[{"identity": "replica-1.example", "accounts": ["mighty"]}])
    pair.source.sql("CREATE DATABASE IF NOT EXISTS canary")
    with recorded(pair.source) as recording:
        for charset in ("utf8mb4", "gbk"):
            connection = connect(
                proxy, pki, user="mighty", charset=charset, local_infile=True, client_flag=CLIENT.MULTI_STATEMENTS
            )
            with connection, connection.cursor() as cursor:
                for text in [*FORBIDDEN, b"LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE canary.t"]:
                    with pytest.raises(pymysql.err.Error) as refused:
                        cursor.execute(text)
                    assert_refused_by_binlock(refused.value)
                assert cursor.execute("SELECT UNIX_TIMESTAMP()") == 1
                for command in (
                    COMMAND.COM_CHANGE_USER,
                    COMMAND.COM_STMT_PREPARE,
                    COMMAND.COM_INIT_DB,
                    COMMAND.COM_SHUTDOWN,
                ):
                    send_command(connection, command, b"canary\x00")
                    with pytest.raises(pymysql.err.Error) as refused:
                        read_answer(connection)
                    assert_refused_by_binlock(refused.value)
                assert cursor.execute("SELECT UNIX_TIMESTAMP()") == 1
        asked = recording.text
    assert "canary" not in asked
    assert "mysql.user" not in asked
    assert "max_connections" not in asked
    assert "KILL" not in asked
    assert asked.count("SELECT UNIX_TIMESTAMP()") == 4
    assert pair.source.sql("SHOW DATABASES LIKE 'canary'")
    shown = {event.get("query") for event in proxy.events("command_refused")}
    assert {"DROP DATABASE", "SET GLOBAL", "KILL", "LOAD DATA LOCAL", "other"} <= shown
    assert "canary" not in proxy.program.log_path.read_text()
    assert proxy.metric("binlock_proxy_commands_total", command="COM_CHANGE_USER", decision="refused") == 2


def send_command(connection: Any, command: int, argument: bytes) -> None:
    connection._execute_command(command, argument)


def read_answer(connection: Any) -> None:
    connection._read_packet()


def thread_of(connection: Any) -> int:
    return int(connection.thread_id())


def assert_refused_by_binlock(error: pymysql.err.Error) -> None:
    assert error.args[0] == 1227
    assert error.args[1].startswith("Binlock: ")


@every_server
def test_the_servers_own_client_is_refused_and_goes_on(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    make_account(pair.source, "mighty")
    proxy = source_side(replicas=[{"identity": "replica-1.example", "accounts": ["mighty"]}])
    script = b"SELECT UNIX_TIMESTAMP(); DROP DATABASE canary; SELECT * FROM mysql.user; SELECT UNIX_TIMESTAMP();"
    words = ("--force", "--batch", "--skip-column-names")
    command = client_command(pair.flavour, "mysql", proxy, pki, *words, user="mighty")
    with recorded(pair.source) as recording:
        done = run_client(command, given=script)
        assert "DROP" not in recording.text
    assert done.stderr.count(b"ERROR 1227 (42000)") == 2
    assert b"Binlock: this route admits only what a replica's I/O thread asks" in done.stderr
    assert len(done.stdout.split()) == 2


@every_server
def test_a_site_may_add_queries_of_its_own(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(more={"queries": [r"SELECT VERSION\(\)", r"SHOW VARIABLES LIKE '[a-z_]+'"]})
    with connect(proxy, pki) as connection, connection.cursor() as cursor:
        for admitted in ("SELECT VERSION()", "show variables like 'log_bin'"):
            assert cursor.execute(admitted) == 1
        for refused in ("SELECT VERSION(), 1", "SELECT VERSION() /* x */", "SELECT VERSION(); SELECT VERSION()"):
            with pytest.raises(pymysql.err.Error, match="Binlock"):
                cursor.execute(refused)


@every_server
def test_a_replica_may_kill_its_own_thread_and_no_other_of_its_account(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    other = pki.authority.issue_again("replica", f"other-{pair.flavour.name.lower().replace('_', '-')}.example")
    name = f"other-{pair.flavour.name.lower().replace('_', '-')}.example"
    proxy = source_side(
        replicas=[{"identity": "replica-1.example", "accounts": ["repl"]}, {"identity": name, "accounts": ["repl"]}]
    )
    with connect(proxy, pki) as first, connect(proxy, pki) as second, connect(proxy, pki, leaf=other) as third:
        with third.cursor() as cursor, pytest.raises(pymysql.err.Error, match="KILL is for the threads"):
            cursor.execute(f"KILL {thread_of(first)}")
        with second.cursor() as cursor:
            cursor.execute(f"KILL {thread_of(first)}")
        with first.cursor() as cursor, pytest.raises(pymysql.err.Error):
            cursor.execute("SELECT UNIX_TIMESTAMP()")
        with third.cursor() as cursor:
            assert cursor.execute("SELECT UNIX_TIMESTAMP()") == 1
