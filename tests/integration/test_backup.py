"""Backups over replication under the policy `backup`: what they bring home is the source's own, byte for byte."""

from __future__ import annotations

import re
import subprocess
from functools import partial
from pathlib import Path

import pytest

from testbed.flavours import Flavour
from testbed.programs import Program
from testbed.servers import Server
from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.deployments import StartProxy
from tests.integration.lab import PASSWORD, Proxy, replicating
from tests.integration.load import at_least

every = pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)
SERVER_ID = 9
PRIVILEGES = "SELECT, RELOAD, PROCESS, LOCK TABLES, SHOW VIEW, TRIGGER, EVENT, REPLICATION SLAVE, REPLICATION CLIENT"
# Without --stop-never mysqlbinlog dumps as server id 0, which no roster names: the entry leaves them out.
ROSTER = [{"identity": "replica-1.example", "accounts": ["backup"]}]


@pytest.fixture
def proxy(pair: Pair, source_side: StartProxy) -> Proxy:
    """One that lets backups through, and an account for them on the source."""
    with pair.source.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute("CREATE USER IF NOT EXISTS 'backup'@'%%' IDENTIFIED BY %s", (PASSWORD,))
        cursor.execute(f"GRANT {PRIVILEGES} ON *.* TO 'backup'@'%'")
    return source_side(replicas=ROSTER, more={"policy": "backup"})


@every
def test_mysqlbinlog_brings_the_sources_files_byte_for_byte(pair: Pair, pki: Pki, proxy: Proxy, tmp_path: Path) -> None:
    table = pair.table()
    pair.source.sql("FLUSH BINARY LOGS")
    first = pair.source.binlog_position()[0]
    never = "--stop-never-slave-server-id" if pair.flavour.is_mariadb else "--connection-server-id"
    command = [
        *client(pair, pki, proxy, "mysqlbinlog"),
        "--read-from-remote-server",
        "--raw",
        "--stop-never",
        f"{never}={SERVER_ID}",
        f"--result-file={tmp_path}/copy-",
        first,
    ]
    with Program(command, log=tmp_path / "log") as program:
        names = []
        for _ in range(3):
            names.append(pair.source.binlog_position()[0])
            table.insert(700)
            table.insert(2, body_bytes=3_000_000)
            pair.source.sql("FLUSH BINARY LOGS")
        last = pair.source.binlog_position()[0]
        program.wait_for((tmp_path / f"copy-{last}").exists, "the last file")
        assert proxy.stream_of("replica-1.example")["server_id"] == SERVER_ID
        for name in names:
            original, copy = (pair.source.folder / "data" / name).read_bytes(), tmp_path / f"copy-{name}"
            program.wait_for(at_least(partial(size_of, copy), len(original)), f"all of {name}")
            assert copy.read_bytes() == original
    assert len(names) == 3


@every
def test_what_mysqlbinlog_reads_by_gtid_is_what_it_reads_beside_the_source(pair: Pair, pki: Pki, proxy: Proxy) -> None:
    table = pair.table()
    pair.source.sql("FLUSH BINARY LOGS")
    file = pair.source.binlog_position()[0]
    table.insert(10)
    left_out = pair.source.executed_gtids()
    table.insert(10)
    if pair.flavour.is_mariadb:
        options = ["--read-from-remote-server", f"--start-position={left_out}"]
    else:
        options = ["--read-from-remote-source=BINLOG-DUMP-GTIDS", f"--exclude-gtids={left_out}"]
    beside = [
        *pair.flavour.client("mysqlbinlog"),
        "--no-defaults",
        "--user=root",
        f"--socket={pair.source.socket_path}",
    ]
    expected = output(*beside, *options, file)
    assert output(*client(pair, pki, proxy, "mysqlbinlog"), *options, file) == expected
    assert expected.count(b"Write_rows") == 1


@every
def test_a_dump_is_restored_and_replication_goes_on_from_its_position(
    pair: Pair, pki: Pki, proxy: Proxy, source_side: StartProxy, tmp_path: Path
) -> None:
    table = pair.table()
    table.insert(2000, body_bytes=1000)
    options = ["--master-data=2"] if pair.flavour.is_mariadb else ["--source-data=2", "--set-gtid-purged=ON"]
    with table.under_load(rows=3):
        dump = output(
            *client(pair, pki, proxy, "mysqldump"), *options, "--single-transaction", "--databases", table.schema
        )
    start = re.search(rb"_LOG_FILE='([^']+)', (?:MASTER|SOURCE)_LOG_POS=(\d+);", dump)
    assert start is not None
    with Server(tmp_path / "restored", pair.flavour, server_id=2) as restored:
        restored.execute_script(dump.decode())
        before = restored.row_count(f"{table.schema}.orders")
        route = source_side()
        with replicating(
            restored,
            route.port,
            user="repl",
            tls=pki.authority.replica_tls(pki.replica),
            auto_position=False,
            position=(start[1].decode(), int(start[2])),
        ):
            table.insert(10)
            table.assert_same_on(restored)
            assert restored.row_count(f"{table.schema}.orders") > before


def size_of(path: Path) -> int:
    return path.stat().st_size


def output(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, timeout=120, check=True).stdout


def client(pair: Pair, pki: Pki, proxy: Proxy, program: str) -> list[str]:
    """The first words of a command for a client program that connects through the proxy."""
    tls = "--ssl-verify-server-cert" if pair.flavour.is_mariadb else "--ssl-mode=VERIFY_IDENTITY"
    return [
        *pair.flavour.client(program),
        "--no-defaults",
        "--protocol=tcp",
        "--host=127.0.0.1",
        f"--port={proxy.port}",
        "--user=backup",
        f"--password={PASSWORD}",
        tls,
        f"--ssl-ca={pki.authority.ca}",
        f"--ssl-cert={pki.replica.certificate}",
        f"--ssl-key={pki.replica.key}",
    ]
