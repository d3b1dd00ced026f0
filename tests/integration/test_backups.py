"""The policy `backup`: the servers' own dump, binlog and clone programs do their work through it, and no more."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest
from pymysql.constants import CLIENT

from testbed.flavours import Flavour
from testbed.servers import Server
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import PASSWORD, Proxy, replicating
from tests.integration.recordings import (
    assert_nothing_refused,
    client_command,
    connect,
    make_account,
    recorded,
    run_client,
)
from tests.proxy.sql.test_backup import CHANGES

StartProxy = Callable[..., Proxy]
every_server = pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
ROSTER = [{"identity": "replica-1.example", "accounts": ["saver"]}]
SCHEMA = "warehouse"
CONTENT = f"""
CREATE DATABASE {SCHEMA} CHARACTER SET utf8mb4;
USE {SCHEMA};
CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, body TEXT, made TIMESTAMP(6) DEFAULT NOW(6));
CREATE TABLE `caf\u00e9_orders` (id INT PRIMARY KEY, `it's 100%` VARCHAR(100));
CREATE TABLE `we``ird "tab\\le''s;` (id INT PRIMARY KEY, `c;--` BLOB, `#` INT, doubled INT AS (id * 2));
INSERT INTO orders (body) VALUES ('plain'), ('it''s; DROP "x" -- \\\\'), (REPEAT('\u00e9', 1000));
INSERT INTO `caf\u00e9_orders` VALUES (1, 'a'), (2, 'b\u00e9');
INSERT INTO `we``ird "tab\\le''s;` (id, `c;--`, `#`) VALUES (1, 0x00275c22, 7);
CREATE VIEW latest AS SELECT * FROM orders;
CREATE PROCEDURE nothing() SELECT 1;
CREATE FUNCTION one() RETURNS INT DETERMINISTIC RETURN 1;
CREATE TRIGGER mark BEFORE INSERT ON orders FOR EACH ROW SET NEW.body = CONCAT(NEW.body, '');
CREATE EVENT daily ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1;
"""
FULL = ["--databases", SCHEMA, "--routines", "--triggers", "--events"]
SOURCE_DATA = {True: "--master-data=2", False: "--source-data=2"}


@pytest.fixture
def warehouse(pair: Pair) -> Iterator[Pair]:
    """The pair, with something to save on its source."""
    make_account(pair.source, "saver")
    with pair.source.connection() as connection, connection.cursor() as cursor:
        # One by one: MySQL keeps the semicolon of a script in a routine's body, where mysqldump cannot have it.
        for statement in CONTENT.strip().split(";\n"):
            cursor.execute(statement.removesuffix(";"))
    yield pair
    pair.source.sql(f"DROP DATABASE {SCHEMA}")


def dump(pair: Pair, pki: Pki, proxy: Proxy, *words: str) -> bytes:
    without_gtids = [] if pair.flavour.is_mariadb else ["--set-gtid-purged=OFF"]
    done = run_client(client_command(pair.flavour, "mysqldump", proxy, pki, *without_gtids, *words, user="saver"))
    assert done.returncode == 0, done.stderr
    assert b"Binlock" not in done.stderr
    return done.stdout


def restored(pair: Pair, dumped: bytes) -> dict[str, int]:
    """Checksums of what a dump makes on the replica, which forgets it then."""
    command = [
        *pair.flavour.client("mysql"), "--no-defaults", "--user=root", f"--socket={pair.replica.socket_path}",
        "--default-character-set=utf8mb4", "--init-command=SET SESSION sql_log_bin = 0",
    ]  # fmt: skip
    try:
        done = run_client(command, given=dumped)
        assert done.returncode == 0, done.stderr
        assert pair.replica.scalar(f"SELECT {SCHEMA}.one()") == 1
        return checksums(pair.replica)
    finally:
        with pair.replica.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 0")
            cursor.execute(f"DROP DATABASE IF EXISTS {SCHEMA}")


def checksums(server: Server) -> dict[str, int]:
    listing = (
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE'"
    )
    names = [row["name"] for row in server.sql(listing, SCHEMA)]
    quoted = ", ".join(f"`{SCHEMA}`." + "`" + name.replace("`", "``") + "`" for name in names)
    return {row["Table"]: row["Checksum"] for row in server.sql(f"CHECKSUM TABLE {quoted}")}


CONSISTENT = {
    "locking": [],
    "a snapshot": ["--single-transaction"],
    "a snapshot at a position": ["--single-transaction", "SOURCE_DATA", "--flush-logs"],
    "everything locked": ["--lock-all-tables", "--flush-logs", "--flush-privileges"],
    "no extras": ["--skip-opt", "--order-by-primary", "--hex-blob", "--complete-insert", "--create-options"],
    "another character set": ["--default-character-set=utf8mb4", "--skip-tz-utc", "--skip-quick"],
}


@every_server
@pytest.mark.parametrize("way", CONSISTENT)
def test_a_dump_can_be_restored(warehouse: Pair, pki: Pki, source_side: StartProxy, way: str) -> None:
    proxy = source_side(replicas=ROSTER, more={"policy": "backup"})
    words = [word.replace("SOURCE_DATA", SOURCE_DATA[warehouse.flavour.is_mariadb]) for word in CONSISTENT[way]]
    dumped = dump(warehouse, pki, proxy, *FULL, *words)
    assert_nothing_refused(proxy)
    assert restored(warehouse, dumped) == checksums(warehouse.source)


OTHERS = {
    "every database": ["--all-databases", "--single-transaction", "--routines", "--events"],
    "rows that are asked for": [SCHEMA, "orders", '--where=id > 1 and body <> "x\\\\y" and made < NOW()'],
    "ANSI": ["--databases", SCHEMA, "--compatible=ansi"],
    "tablespaces": ["--databases", SCHEMA, "--all-tablespaces"],
    "XML": ["--databases", SCHEMA, "--xml"],
    "structure": [
        "--databases",
        SCHEMA,
        "--no-data",
        "--skip-quote-names",
        f"--ignore-table={SCHEMA}.caf\u00e9_orders",
    ],
    "latin1": [SCHEMA, "orders", "--default-character-set=latin1"],
}
OF_MARIADB = {
    "history": ["--databases", SCHEMA, "--dump-history"],
    "the system": ["--system=all"],
    "by GTID": ["--databases", SCHEMA, "--gtid", "--master-data", "--single-transaction"],
    "within a time": ["--databases", SCHEMA, "--max-statement-time=100"],
}
OF_MYSQL = {
    "statistics": ["--databases", SCHEMA, "--column-statistics", "--mysqld-long-query-time=5"],
    "with GTIDs": ["--databases", SCHEMA, "--set-gtid-purged=ON"],
    "without invisible keys": ["--databases", SCHEMA, "--skip-generated-invisible-primary-key"],
    "users": ["--all-databases", "--users", "--add-drop-user"],
}


@every_server
def test_dumps_of_every_kind_are_made(warehouse: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(replicas=ROSTER, more={"policy": "backup"})
    for words in (OTHERS | (OF_MARIADB if warehouse.flavour.is_mariadb else OF_MYSQL)).values():
        dumped = dump(warehouse, pki, proxy, *words)
        assert b"ompleted" in dumped or b"</mysqldump>" in dumped, words
    assert_nothing_refused(proxy)


@every_server
def test_a_dump_that_writes_or_purges_on_the_source_is_refused(
    warehouse: Pair, pki: Pki, source_side: StartProxy, tmp_path: Path
) -> None:
    proxy = source_side(replicas=ROSTER, more={"policy": "backup"})
    purge = "--delete-master-logs" if warehouse.flavour.is_mariadb else "--delete-source-logs"
    with recorded(warehouse.source) as recording:
        for words in ([f"--tab={tmp_path}", SCHEMA], ["--databases", SCHEMA, purge]):
            done = run_client(client_command(warehouse.flavour, "mysqldump", proxy, pki, *words, user="saver"))
            assert done.returncode != 0
            assert b"Binlock: the policy 'backup' of this route does not admit" in done.stderr
    assert "OUTFILE" not in recording.text
    assert "PURGE" not in recording.text


@every_server
def test_mysqlbinlog_copies_the_log_and_follows_it(
    pair: Pair, pki: Pki, source_side: StartProxy, tmp_path: Path
) -> None:
    make_account(pair.source, "saver")
    proxy = source_side(replicas=ROSTER, more={"policy": "backup"})
    table = pair.table()
    pair.source.sql("FLUSH BINARY LOGS")
    name, _ = pair.source.binlog_position()
    table.insert(10)
    pair.source.sql("FLUSH BINARY LOGS")
    ways: list[list[str]] = [
        ["--read-from-remote-server"],
        ["--read-from-remote-server", "--verbose", "--start-position=4"],
    ]
    if pair.flavour.is_mariadb:
        ways.append(["--read-from-remote-server", "--stop-position=" + pair.source.executed_gtids()])
    else:
        nobodys = "00000000-0000-0000-0000-000000000000:1-5"
        ways.append(["--read-from-remote-source=BINLOG-DUMP-GTIDS", f"--exclude-gtids={nobodys}"])
        ways.append(["--read-from-remote-server", "--connection-server-id=99"])
    for way in ways:
        done = run_client(client_command(pair.flavour, "mysqlbinlog", proxy, pki, *way, name, user="saver"))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(b"COMMIT/*!*/") == 1, way
    raw = ["--read-from-remote-server", "--raw", f"--result-file={tmp_path}/"]
    assert run_client(client_command(pair.flavour, "mysqlbinlog", proxy, pki, *raw, name, user="saver")).returncode == 0
    assert (tmp_path / name).read_bytes() == (pair.source.folder / "data" / name).read_bytes()
    server_id = "--stop-never-slave-server-id=77" if pair.flavour.is_mariadb else "--connection-server-id=77"
    follow = client_command(
        pair.flavour, "mysqlbinlog", proxy, pki, *raw, "--stop-never", server_id, pair.source.binlog_position()[0],
        user="saver",
    )  # fmt: skip
    with subprocess.Popen(follow, stderr=subprocess.DEVNULL) as program:
        proxy.wait_for_event("stream_started", matches=lambda event: event.get("server_id") == 77)
        table.insert(10)
        now, size = pair.source.binlog_position()
        copied = tmp_path / now
        pair.source.wait_until(lambda: copied.exists() and copied.stat().st_size >= size, what="the copy of the log")
        program.kill()
    assert_nothing_refused(proxy)


def test_a_clone_is_made_through_it_and_runs(pair: Pair, pki: Pki, source_side: StartProxy, tmp_path: Path) -> None:
    make_account(pair.source, "saver")
    table = pair.table()
    table.insert(1000)
    proxy = source_side(replicas=ROSTER, more={"policy": "backup"})
    for server in (pair.source, pair.replica):
        if not server.scalar("SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_name = 'clone'"):
            with server.connection() as connection, connection.cursor() as cursor:
                cursor.execute("SET SESSION sql_log_bin = 0")
                cursor.execute("INSTALL PLUGIN clone SONAME 'mysql_clone.so'")
    replica = pair.replica
    replica.sql("SET GLOBAL clone_valid_donor_list = %s", f"127.0.0.1:{proxy.port}")
    for option, path in (("ca", pki.authority.ca), ("cert", pki.replica.certificate), ("key", pki.replica.key)):
        replica.sql(f"SET GLOBAL clone_ssl_{option} = %s", str(path))
    folder = tmp_path / "copy"
    replica.sql(
        "CLONE INSTANCE FROM 'saver'@'127.0.0.1':%s IDENTIFIED BY %s DATA DIRECTORY = %s REQUIRE SSL",
        proxy.port, PASSWORD, str(folder / "data"),
    )  # fmt: skip
    assert_nothing_refused(proxy, admitted="COM_CLONE")
    with Server(folder, Flavour.MYSQL_9_7, server_id=9) as copy:
        copy.sql("SELECT 1")
        assert copy.table_checksums(table.schema) == pair.source.table_checksums(table.schema)


@every_server
def test_replication_passes_as_well(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(more={"policy": "backup"})
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        table.insert(10)
        table.assert_same_on(pair.replica)
    assert_nothing_refused(proxy)


@every_server
def test_what_is_no_backup_never_reaches_the_source(warehouse: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(replicas=ROSTER, more={"policy": "backup"})
    with recorded(warehouse.source) as recording:
        connection = connect(
            proxy, pki, user="saver", charset="utf8mb4", local_infile=True, client_flag=CLIENT.MULTI_STATEMENTS
        )
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT 'begin'")
            cursor.fetchall()
            for text in CHANGES:
                if text == "SET NAMES gbk":
                    continue
                with pytest.raises(pymysql.err.Error) as refused:
                    cursor.execute(text.encode())
                assert refused.value.args[0] == 1227, text
            assert cursor.execute("SELECT 'end'") == 1
        asked = recording.text.partition("SELECT 'begin'")[2].partition("SELECT 'end'")[0]
    assert asked.strip().splitlines()[1:] == []
