"""What is recorded of real servers: every way in which they replicate and are asked, and what each truly is."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import pymysql

from testbed.flavours import Flavour
from testbed.replication import ReplicaTls
from tests.integration.lab import PASSWORD, Authority
from tests.integration.semi_sync import semi_synchronous
from tests.monitor.matrix.connections import Truth, noise_of
from tests.monitor.matrix.stand import CLIENT_ACCOUNT, REPLICA_ACCOUNT, SCHEMA, Stand

LARGE_BODY_BYTES = 17_000_000


@dataclass(frozen=True)
class Scenario:
    """Something that happens on the wire.

    Attributes:
        name: the flavour, and what happens.
        flavour: of the pair.
        play: does it.
        truths: of its connections, in order; the last holds for all that follow.
    """

    name: str
    flavour: Flavour
    play: Callable[[Stand], None]
    truths: tuple[Truth, ...]


def replicate(stand: Stand, **options: object) -> None:
    with stand.replicating(**options):
        stand.work()


def replicate_by_position(stand: Stand) -> None:
    replicate(stand, auto_position=False)


def replicate_over_ipv6(stand: Stand) -> None:
    replicate(stand, host="::1")


def replicate_a_backlog(stand: Stand) -> None:
    """What was written before comes at once, many events to a segment."""
    position = stand.source.binlog_position()
    stand.work(30)
    stand.source.sql("FLUSH BINARY LOGS")
    stand.work(10)
    with stand.replicating(auto_position=False, position=position):
        pass


def replicate_statements(stand: Stand) -> None:
    with stand.replicating(), stand.source.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_format = STATEMENT")
        for number in range(8):
            cursor.execute(f"INSERT INTO {SCHEMA}.orders (body) VALUES ('statement {number}')")
        cursor.execute("BEGIN")
        for number in range(5):
            cursor.execute(f"UPDATE {SCHEMA}.orders SET body = 'again {number}' ORDER BY id DESC LIMIT 1")
        cursor.execute("COMMIT")


def replicate_without_checksums(stand: Stand) -> None:
    with stand.setting("binlog_checksum", "NONE"), stand.replicating():
        stand.work()


def replicate_a_compressed_log(stand: Stand) -> None:
    name = "log_bin_compress" if stand.is_mariadb else "binlog_transaction_compression"
    with stand.setting(name, 1), stand.replicating():
        for _ in range(5):
            stand.insert(4, body_bytes=2000)


def replicate_semi_synchronously(stand: Stand, compression: str = "uncompressed") -> None:
    with (
        semi_synchronous(stand.pair, timeout_seconds=20) as semi_sync,
        stand.replicating(compression=compression),
    ):
        semi_sync.wait_for_replica()
        stand.work()


def replicate_idly(stand: Stand) -> None:
    """Nothing happens, and heartbeats say so."""
    with stand.replicating(heartbeat_period=0.25):
        time.sleep(1.5)


def replicate_a_large_event(stand: Stand) -> None:
    with stand.replicating():
        stand.insert(1)
        stand.insert(1, body_bytes=LARGE_BODY_BYTES)
        stand.insert(1)
    with stand.source.connection() as connection, connection.cursor() as cursor:
        # Or it would travel once more.
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute(f"DELETE FROM {SCHEMA}.orders WHERE LENGTH(body) > 1000000")


def replicate_over_tls(stand: Stand, version: str | None = None) -> None:
    tls = ReplicaTls(ca=stand.authority.ca, verify_server_cert=False, tls_version=version)
    replicate(stand, tls=tls)


def be_refused_as_a_replica(stand: Stand) -> None:
    """The password is wrong."""
    more = {} if stand.is_mariadb else {"get_source_public_key": True}
    stand.replica.replicate_from(
        host="127.0.0.1", port=stand.source.port, user=REPLICA_ACCOUNT, password="wrong", connect_retry_seconds=60,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip
    stand.replica.wait_until(lambda: stand.replica.replica_status().last_io_errno, what="the refusal")
    stand.replica.reset_replication()


def read_the_log(stand: Stand, *, by_gtid: bool = False, encrypted: str = "", compress: str = "") -> None:
    transport = stand.over_tls(encrypted) if encrypted else stand.in_the_clear
    compression = compression_words(stand, compress)
    stand.source.sql("FLUSH BINARY LOGS")
    stand.work()
    name, _ = stand.source.binlog_position()
    way = "--read-from-remote-source=BINLOG-DUMP-GTIDS" if by_gtid else "--read-from-remote-server"
    stand.run(stand.command("mysqlbinlog", *transport, *compression, way, name))


def read_the_log_and_follow(stand: Stand) -> None:
    name, position = stand.source.binlog_position()
    command = stand.command(
        "mysqlbinlog", *stand.in_the_clear, "--read-from-remote-server", "--stop-never", f"--start-position={position}",
        name,
    )  # fmt: skip
    # Of an earlier one that is gone the source would say the same.
    stand.pair.end_dumps()
    has_all = (
        "SELECT COUNT(*) FROM information_schema.processlist "
        "WHERE command LIKE 'Binlog Dump%' AND state LIKE '%has sent all binlog%'"
    )
    with stand.host.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
        stand.source.wait_until(has_all, what="mysqlbinlog to follow")
        stand.work()
        stand.source.wait_until(has_all, what="mysqlbinlog to have what was written")
        program.kill()


FOLLOW = """
import sys
from pymysqlreplication import BinLogStreamReader
port, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]
settings = {"host": "127.0.0.1", "port": port, "user": user, "passwd": password, "ssl_disabled": True}
if sys.argv[4] == "True":
    where = {"is_mariadb": True, "auto_position": sys.argv[5]}
else:
    where = {"log_file": sys.argv[5], "log_pos": 4, "resume_stream": True}
reader = BinLogStreamReader(connection_settings=settings, server_id=77, blocking=False, **where)
count = sum(1 for _ in reader)
reader.close()
assert count
"""


def follow_with_a_library(stand: Stand) -> None:
    """Without waiting for more."""
    stand.source.sql("FLUSH BINARY LOGS")
    start = stand.source.executed_gtids() if stand.is_mariadb else stand.source.binlog_position()[0]
    stand.work()
    stand.run_python(FOLLOW, str(stand.source.port), CLIENT_ACCOUNT, PASSWORD, str(stand.is_mariadb), start)


QUERIES = f"""
SELECT VERSION(), @@hostname, CONNECTION_ID();
SHOW VARIABLES LIKE 'server_id';
USE {SCHEMA};
SELECT COUNT(*), MAX(id) FROM orders;
INSERT INTO orders (body) VALUES ('one'), ('two'), (REPEAT('three', 100));
SELECT id, body, made FROM orders ORDER BY id DESC LIMIT 30;
UPDATE orders SET body = 'four' ORDER BY id DESC LIMIT 1;
CREATE TEMPORARY TABLE t (a INT);
DROP TEMPORARY TABLE t;
SHOW PROCESSLIST;
SHOW BINARY LOGS;
SELECT REPEAT('y', 20000);
""".encode()


def compression_words(stand: Stand, algorithm: str) -> list[str]:
    if not algorithm:
        return []
    return ["--compress"] if stand.is_mariadb else [f"--compression-algorithms={algorithm}"]


def ask_on_the_command_line(stand: Stand, *, encrypted: str = "", compress: str = "") -> None:
    transport = stand.over_tls(encrypted) if encrypted else stand.in_the_clear
    stand.run(stand.command("mysql", *transport, *compression_words(stand, compress)), QUERIES)


def be_refused_as_a_client(stand: Stand) -> None:
    stand.run(stand.command("mysql", *stand.in_the_clear, password="wrong"), QUERIES, may_fail=True)


def distrust_the_source(stand: Stand) -> None:
    """The client finds the certificate to be of an authority that it does not know, and leaves in the handshake."""
    stranger = Authority(stand.folder / "stranger")
    wanted = ["--ssl", "--ssl-verify-server-cert"] if stand.is_mariadb else ["--ssl-mode=VERIFY_CA"]
    stand.run(stand.command("mysql", *wanted, f"--ssl-ca={stranger.ca}"), QUERIES, may_fail=True)


def ask_from_python(stand: Stand) -> None:
    noise = noise_of(5)
    with stand.pymysql(database=SCHEMA) as connection, connection.cursor() as cursor:
        for size in (10, 300, 5000):
            cursor.execute("INSERT INTO orders (body) VALUES (%s)", (noise.randbytes(size),))
        connection.commit()
        cursor.execute("SELECT * FROM orders ORDER BY id DESC LIMIT 5")
        cursor.fetchall()
        connection.ping(reconnect=False)


def store_a_binary_log(stand: Stand) -> None:
    """A client that moves, as blobs, what looks like a stream of events: packets, headers, checksums and all."""
    name, _ = stand.source.binlog_position()
    log = (stand.source.folder / "data" / name).read_bytes()[4:60_000]
    packets, at = bytearray(), 0
    while at + 19 <= len(log):
        size = int.from_bytes(log[at + 9 : at + 13], "little")
        packets += (size + 1).to_bytes(3, "little") + bytes([at & 0xFF, 0]) + log[at : at + size]
        at += size
    with stand.pymysql(database=SCHEMA) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders (body) VALUES (%s)", (bytes(packets),))
        connection.commit()
        cursor.execute("SELECT body FROM orders ORDER BY id DESC LIMIT 1")
        cursor.fetchall()
        cursor.execute("DELETE FROM orders ORDER BY id DESC LIMIT 1")
        connection.commit()


def be_idle(stand: Stand) -> None:
    """Pings, and nothing that could be asked by nobody but a client."""
    with stand.pymysql(init_command=None) as connection:
        for _ in range(5):
            connection.ping(reconnect=False)


PREPARED = """
import sys
import mysql.connector
connection = mysql.connector.connect(
    host="127.0.0.1", port=int(sys.argv[1]), user=sys.argv[2], password=sys.argv[3], database=sys.argv[4],
    ssl_disabled=True, use_pure=True, compress=sys.argv[5] == "True",
)
cursor = connection.cursor(prepared=True)
for number in range(6):
    cursor.execute("INSERT INTO orders (body) VALUES (%s)", (bytes(range(256)) * (number % 4),))
    cursor.execute("SELECT id, body FROM orders WHERE id > %s ORDER BY id DESC LIMIT 3", (number,))
    cursor.fetchall()
connection.commit()
connection.close()
"""


def prepare_statements(stand: Stand, *, compress: bool = False) -> None:
    stand.run_python(PREPARED, str(stand.source.port), CLIENT_ACCOUNT, PASSWORD, SCHEMA, str(compress))


def dump_tables(stand: Stand) -> None:
    more = [] if stand.is_mariadb else ["--set-gtid-purged=OFF"]
    stand.run(stand.command("mysqldump", *stand.in_the_clear, *more, "--routines", "--databases", SCHEMA))


def dump_with_the_position(stand: Stand) -> None:
    word = "--master-data=2" if stand.is_mariadb else "--source-data=2"
    more = [] if stand.is_mariadb else ["--set-gtid-purged=OFF"]
    stand.run(stand.command("mysqldump", *stand.in_the_clear, *more, word, "--single-transaction", SCHEMA))


def load_local_data(stand: Stand) -> None:
    data = stand.folder / "orders.txt"
    data.write_text("".join(f"line {number}\n" for number in range(2000)))
    statement = f"LOAD DATA LOCAL INFILE '{data}' INTO TABLE {SCHEMA}.orders (body)"
    stand.run(stand.command("mysql", *stand.in_the_clear, "--local-infile=1"), statement.encode())
    stand.source.sql(f"DELETE FROM {SCHEMA}.orders WHERE body LIKE 'line%%'")


def leave_without_a_word(stand: Stand) -> None:
    """Reads the greeting, as health checks do, and closes."""
    with stand.open_socket() as sock:
        sock.recv(4096)


def log_in_only(stand: Stand) -> None:
    with suppress(pymysql.Error):
        connection = pymysql.connect(
            user=CLIENT_ACCOUNT, password=PASSWORD, charset="utf8mb4", defer_connect=True, ssl_disabled=True,
            autocommit=None,
        )  # fmt: skip
        with stand.open_socket() as sock:
            connection.connect(sock)
            connection.close()


REPLICATION: dict[str, Callable[[Stand], None]] = {
    "GTID": replicate,
    "position": replicate_by_position,
    "IPv6": replicate_over_ipv6,
    "backlog": replicate_a_backlog,
    "statements": replicate_statements,
    "no checksums": replicate_without_checksums,
    "compressed log": replicate_a_compressed_log,
    "zlib": partial(replicate, compression="zlib"),
    "heartbeats": replicate_idly,
    "large event": replicate_a_large_event,
    "refused": be_refused_as_a_replica,
    "mysqlbinlog": read_the_log,
    "mysqlbinlog following": read_the_log_and_follow,
}
REPLICATION_OF_MYSQL: dict[str, Callable[[Stand], None]] = {
    "zstd": partial(replicate, compression="zstd"),
    "mysqlbinlog zlib": partial(read_the_log, compress="zlib"),
    "mysqlbinlog by GTID": partial(read_the_log, by_gtid=True),
}
CLIENTS: dict[str, Callable[[Stand], None]] = {
    "command line": ask_on_the_command_line,
    "command line zlib": partial(ask_on_the_command_line, compress="zlib"),
    "refused client": be_refused_as_a_client,
    "PyMySQL": ask_from_python,
    "pings": be_idle,
    "prepared statements": prepare_statements,
    "prepared statements zlib": partial(prepare_statements, compress=True),
    "mysqldump": dump_tables,
    "mysqldump with the position": dump_with_the_position,
    "LOAD DATA LOCAL": load_local_data,
    "greeting only": leave_without_a_word,
    "login only": log_in_only,
}
CLIENTS_OF_MYSQL: dict[str, Callable[[Stand], None]] = {
    "command line zstd": partial(ask_on_the_command_line, compress="zstd"),
}
TLS: dict[str, Callable[[Stand], None]] = {
    "TLS": replicate_over_tls,
    "mysqlbinlog TLS 1.2": partial(read_the_log, encrypted="TLSv1.2"),
    "mysqlbinlog TLS 1.3": partial(read_the_log, encrypted="TLSv1.3"),
    "command line TLS 1.2": partial(ask_on_the_command_line, encrypted="TLSv1.2"),
    "command line TLS 1.3": partial(ask_on_the_command_line, encrypted="TLSv1.3"),
}
TLS_OF_MYSQL: dict[str, Callable[[Stand], None]] = {
    "TLS 1.2": partial(replicate_over_tls, version="TLSv1.2"),
}


def scenarios() -> Iterator[Scenario]:
    """All of them, each flavour's together."""
    for flavour in Flavour:
        of_mysql = not flavour.is_mariadb
        groups: list[tuple[dict[str, Callable[[Stand], None]], Truth]] = [
            (REPLICATION, Truth.REPLICATION),
            (REPLICATION_OF_MYSQL if of_mysql else {}, Truth.REPLICATION),
            (CLIENTS, Truth.CLIENT),
            ({"blobs of events": store_a_binary_log}, Truth.CLIENT_WITH_EVENTS),
            (CLIENTS_OF_MYSQL if of_mysql else {}, Truth.CLIENT),
            (TLS, Truth.TLS),
            (TLS_OF_MYSQL if of_mysql else {}, Truth.TLS),
            ({"distrust": distrust_the_source}, Truth.FAILED_TLS),
        ]
        for plays, truth in groups:
            for name, play in plays.items():
                yield Scenario(f"{flavour.value}: {name}", flavour, play, (truth,))
        # The library asks what the columns are called, on another connection.
        late = (Truth.LATE_REPLICATION, Truth.CLIENT)
        yield Scenario(f"{flavour.value}: library", flavour, follow_with_a_library, late)
        # Ending a semi-synchronous dump, MariaDB's replica kills it from another connection.
        for compression in ("uncompressed", "zlib", *(["zstd"] if of_mysql else [])):
            yield Scenario(
                f"{flavour.value}: semi-sync {compression}",
                flavour,
                partial(replicate_semi_synchronously, compression=compression),
                (Truth.REPLICATION, Truth.CLIENT),
            )
