"""Where scenarios play: a source and its replica on a host of their own, whose loopback interface is recorded."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import pymysql
from pymysql.connections import Connection

from testbed.flavours import Flavour
from testbed.hosts import Host
from testbed.servers import Server
from tests.integration.conftest import Pair
from tests.integration.lab import PASSWORD, Authority

REPLICA_ACCOUNT = "repl"
CLIENT_ACCOUNT = "app"
SCHEMA = "shop"
CLIENT_SECONDS = 60


class Stand:
    """A running pair of one flavour. A context manager.

    Everything but what a scenario is about goes over the servers' unix sockets, so that it is not in the recording.
    """

    def __init__(self, flavour: Flavour, host: Host, folder: Path, authority: Authority) -> None:
        self.flavour = flavour
        self.host = host
        self.folder = folder
        self.authority = authority
        leaf = authority.issue("source", f"source.{flavour.value.replace('.', '-')}.example", "--ip", "127.0.0.1")
        tls = {"ssl_ca": authority.ca, "ssl_cert": leaf.certificate, "ssl_key": leaf.key}
        self.source = Server(folder / "source", flavour, server_id=1, host=host, options={"local_infile": 1, **tls})
        self.replica = Server(folder / "replica", flavour, server_id=2, host=host)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for server in (self.source, self.replica):
            self._stack.enter_context(server)
        self.source.create_replication_account(REPLICA_ACCOUNT, PASSWORD)
        with self.source.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 0")
            cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", (CLIENT_ACCOUNT, PASSWORD))
            cursor.execute("GRANT ALL ON *.* TO %s@'%%'", (CLIENT_ACCOUNT,))
        self.source.sql(f"CREATE DATABASE {SCHEMA}")
        self.source.sql(
            f"CREATE TABLE {SCHEMA}.orders (id INT AUTO_INCREMENT PRIMARY KEY, body LONGBLOB, made TIMESTAMP(6) "
            "DEFAULT NOW(6))"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def pair(self) -> Pair:
        return Pair(self.source, self.replica)

    @property
    def is_mariadb(self) -> bool:
        return self.flavour.is_mariadb

    def insert(self, rows: int, body_bytes: int = 60) -> None:
        values = ", ".join([f"(REPEAT('x', {body_bytes}))"] * rows)
        self.source.sql(f"INSERT INTO {SCHEMA}.orders (body) VALUES {values}")

    def work(self, transactions: int = 6) -> None:
        """Transactions of rows, each of a few events."""
        for number in range(transactions):
            self.insert(number % 3 + 1, body_bytes=30 + 70 * number)
        self.source.sql(f"UPDATE {SCHEMA}.orders SET body = 'other' ORDER BY id DESC LIMIT 2")
        self.source.sql(f"DELETE FROM {SCHEMA}.orders ORDER BY id LIMIT 1")

    @contextmanager
    def replicating(self, **options: Any) -> Iterator[None]:
        """The replica follows, in the clear unless told otherwise; it has caught up at the end."""
        if not self.is_mariadb and options.get("tls") is None:
            options["get_source_public_key"] = True
        settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.source.port,
            "user": REPLICA_ACCOUNT,
            "password": PASSWORD,
            **options,
        }
        if settings.get("auto_position") is False:
            settings.setdefault("position", self.source.binlog_position())
        self.replica.replicate_from(**settings)
        try:
            self.replica.wait_for_replication()
            yield
            self.replica.catch_up_with(self.source)
        finally:
            self.replica.reset_replication()

    @contextmanager
    def setting(self, name: str, value: str | int) -> Iterator[None]:
        former = self.source.scalar(f"SELECT @@GLOBAL.{name}")
        self.source.sql(f"SET GLOBAL {name} = %s", value)
        try:
            yield
        finally:
            self.source.sql(f"SET GLOBAL {name} = %s", former)

    def command(self, program: str, *words: str, user: str = CLIENT_ACCOUNT, password: str = PASSWORD) -> list[str]:
        """The command of one of the flavour's client programs that connects over TCP."""
        return [
            *self.flavour.client(program), "--no-defaults", "--host=127.0.0.1", "--protocol=tcp",
            f"--port={self.source.port}", f"--user={user}", f"--password={password}", *words,
        ]  # fmt: skip

    @property
    def in_the_clear(self) -> list[str]:
        """Options of a client program that wants no TLS; MySQL's then needs the key for the password."""
        return ["--skip-ssl"] if self.is_mariadb else ["--ssl-mode=DISABLED", "--get-server-public-key"]

    def over_tls(self, version: str = "TLSv1.3") -> list[str]:
        """Options of a client program that demands TLS."""
        wanted = ["--ssl", "--ssl-verify-server-cert"] if self.is_mariadb else ["--ssl-mode=VERIFY_CA"]
        return [*wanted, f"--ssl-ca={self.authority.ca}", f"--tls-version={version}"]

    def run(self, command: list[str], given: bytes = b"", *, may_fail: bool = False) -> bytes:
        """A client program to its end; what it wrote.

        Raises:
            AssertionError: It failed.
        """
        done = subprocess.run(
            self.host.command(command), input=given, capture_output=True, timeout=CLIENT_SECONDS, check=False
        )
        assert may_fail or done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')}"
        return done.stdout

    def run_python(self, script: str, *words: str) -> None:
        """A script of ours on the host."""
        self.run([sys.executable, "-c", script, *words])

    def open_socket(self) -> socket.socket:
        """A connection to the source from its host."""
        return self.host.open_connection("127.0.0.1", self.source.port)

    @contextmanager
    def pymysql(self, **options: Any) -> Iterator[Connection[Any]]:
        """PyMySQL in the clear."""
        connection = pymysql.connect(
            user=CLIENT_ACCOUNT, password=PASSWORD, charset="utf8mb4", defer_connect=True, ssl_disabled=True, **options
        )
        with self.open_socket() as sock:
            connection.connect(sock)
            with connection:
                yield connection
