import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.flavours import Flavour
from testbed.hosts import Host, Network
from testbed.pcap import clear_text_hits
from testbed.programs import ProgramError
from testbed.replication import ReplicaTls
from testbed.servers import Server, free_port

FLAVOURS = pytest.mark.parametrize("flavour", list(Flavour), ids=lambda flavour: flavour.value)


@contextlib.contextmanager
def pair(folder: Path, flavour: Flavour, host: Host | None = None) -> Iterator[tuple[Server, Server]]:
    with (
        Server(folder / "source", flavour, server_id=1, host=host) as source,
        Server(folder / "replica", flavour, server_id=2, host=host) as replica,
    ):
        source.create_replication_account("repl", "secret")
        yield source, replica


def follow(replica: Server, source: Server, **options: Any) -> None:
    login = {"host": "127.0.0.1", "port": source.port, "user": "repl", "password": "secret"}
    replica.replicate_from(**{**login, "get_source_public_key": True, **options})


def fill(source: Server, schema: str) -> None:
    source.execute_script(
        f"CREATE DATABASE {schema}; CREATE TABLE {schema}.orders (id INT PRIMARY KEY, what TEXT);"
        f"INSERT INTO {schema}.orders VALUES (1, 'apples'), (2, 'pears');"
        f"DELETE FROM {schema}.orders WHERE id = 1"
    )


@FLAVOURS
def test_a_replica_follows_by_gtid_and_by_position(folder: Path, flavour: Flavour) -> None:
    with pair(folder, flavour) as (source, replica):
        fill(source, "first")
        follow(replica, source)
        replica.wait_for_replication()
        replica.catch_up_with(source)
        assert replica.row_count("first.orders") == 1
        assert replica.table_checksums("first") == source.table_checksums("first")
        assert replica.executed_gtids() == source.executed_gtids() != ""
        assert replica.replica_status().executed_gtids == source.executed_gtids()

        replica.reset_replication()
        with pytest.raises(LookupError, match="replicates from nowhere"):
            replica.replica_status()
        position = source.binlog_position()
        fill(source, "second")
        follow(replica, source, auto_position=False, position=position)
        replica.catch_up_with(source)
        assert replica.table_checksums("second") == source.table_checksums("second")
        status = replica.replica_status()
        assert (status.source_log_file, status.read_source_log_pos) == source.binlog_position()

        source.kill()
        replica.wait_until(lambda: not replica.replica_status().running)
        assert replica.replica_status().io_running == "Connecting"
        source.start()
        source.sql("DROP DATABASE second")
        replica.catch_up_with(source)
        replica.wait_for_replication()


@pytest.mark.parametrize("flavour", [Flavour.MYSQL_9_7, Flavour.MARIADB_11_8], ids=lambda flavour: flavour.value)
def test_what_replicates_in_clear_is_seen_and_what_replicates_in_tls_is_not(folder: Path, flavour: Flavour) -> None:
    with Network() as network, pair(folder, flavour, host := network.add_host("both")) as (source, replica):
        with host.open_capture(folder / "tls.pcap", interface="lo") as tls:
            follow(replica, source, tls=ReplicaTls(verify_server_cert=False))
            fill(source, "first")
            replica.catch_up_with(source)
        replica.stop_replication()
        with host.open_capture(folder / "plain.pcap", interface="lo") as plain:
            follow(replica, source)
            fill(source, "second")
            replica.catch_up_with(source)
    assert clear_text_hits(tls.path, [b"pears", b"CREATE TABLE first"]) == []
    seen = clear_text_hits(plain.path, [b"pears", b"CREATE TABLE second"])
    assert {hit.needle for hit in seen} == {b"pears", b"CREATE TABLE second"}
    assert {hit.source for hit in seen} == {f"127.0.0.1:{source.port}"}


@pytest.mark.parametrize("flavour", [Flavour.MARIADB_10_11, Flavour.MARIADB_11_8], ids=lambda flavour: flavour.value)
def test_a_mariadb_replica_logs_in_by_ed25519(folder: Path, flavour: Flavour) -> None:
    with pair(folder, flavour) as (source, replica):
        source.create_replication_account("modern", "secret", plugin="ed25519")
        follow(replica, source, user="modern")
        replica.wait_for_replication()


@FLAVOURS
def test_a_second_server_starts_from_the_template(
    folder: Path, flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    flavour.make_data(folder / "first" / "data")
    monkeypatch.delattr(Flavour, "_initialise")
    flavour.make_data(folder / "second" / "data")
    assert (folder / "second" / "data" / "mysql").exists()


def test_a_clean_stop_keeps_everything(folder: Path) -> None:
    with Server(folder / "one", Flavour.MARIADB_11_8, server_id=1) as server:
        fill(server, "shop")
        before = server.table_checksums("shop")
        server.restart()
        assert server.table_checksums("shop") == before
        server.stop()
        assert not server.running
    again = Server(folder / "one", Flavour.MARIADB_11_8, server_id=1, options={"read-only": "ON"})
    with again:
        assert again.table_checksums("shop") == before
        assert again.scalar("SELECT @@read_only") == 1


def test_a_server_that_dies_at_start_says_why(folder: Path) -> None:
    server = Server(folder, Flavour.MYSQL_9_7, server_id=1, options=["--no-such-option"])
    with pytest.raises(ProgramError, match="unknown option '--no-such-option'"):
        server.start()


def test_a_port_is_chosen_once_whoever_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = range(31980, 32000)
    monkeypatch.setattr("testbed.servers.PORTS", ports)
    choose = f"from testbed import servers; servers.PORTS = {ports}; print(servers.free_port(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", choose], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        chosen = [int(other.stdout.readline())]
        # Nothing listens on any of them.
        chosen += [free_port() for _ in range(5)]
        assert sorted(set(chosen)) == sorted(chosen)
        monkeypatch.setattr("testbed.servers.PORTS", chosen)
        with pytest.raises(ProgramError, match="no port"):
            free_port()


def test_a_folder_with_a_long_path_gets_a_short_socket(folder: Path) -> None:
    with Server(folder / ("long" * 30), Flavour.MARIADB_10_11, server_id=1) as server:
        assert server.scalar("SELECT @@server_id") == 1
    assert not server.socket_path.parent.exists()
