"""What a source was asked, by its own general log; and the servers' own client programs through a proxy."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
from pymysql.connections import Connection

from testbed.flavours import Flavour
from testbed.servers import Server
from tests.integration.conftest import Pki
from tests.integration.lab import PASSWORD, Leaf, Proxy

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Recording:
    """The general log of a server, from a moment on."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text(errors="replace")

    def queries_of(self, account: str) -> list[list[str]]:
        """What each connection of an account asked, in order."""
        threads = re.findall(rf"(\d+) Connect\t{account}@", self.text)
        return [re.findall(rf"\b{thread} Query\t(.*)", self.text) for thread in threads]


@contextmanager
def recorded(server: Server) -> Iterator[Recording]:
    """Records what a server is asked for the duration."""
    name = f"recording-{next(_numbers)}.log"
    server.sql("SET GLOBAL general_log_file = %s", name)
    server.sql("SET GLOBAL general_log = ON")
    try:
        yield Recording(server.folder / "data" / name)
    finally:
        server.sql("SET GLOBAL general_log = OFF")


def make_account(server: Server, name: str) -> None:
    """An account that may do everything, so that what is refused is refused by the proxy; on this server alone."""
    with server.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute("CREATE USER IF NOT EXISTS %s@'%%' IDENTIFIED BY %s", (name, PASSWORD))
        cursor.execute("GRANT ALL ON *.* TO %s@'%%'", (name,))


def client_command(flavour: Flavour, program: str, proxy: Proxy, pki: Pki, *words: str, user: str) -> list[str]:
    """The command of a client program that connects to a proxy with a certificate."""
    verified = ["--ssl-verify-server-cert"] if flavour.is_mariadb else ["--ssl-mode=VERIFY_IDENTITY"]
    return [
        *flavour.client(program), "--no-defaults", "--host=127.0.0.1", "--protocol=tcp", f"--port={proxy.port}",
        f"--user={user}", f"--password={PASSWORD}", f"--ssl-ca={pki.authority.ca}",
        f"--ssl-cert={pki.replica.certificate}", f"--ssl-key={pki.replica.key}", *verified, *words,
    ]  # fmt: skip


def run_client(command: list[str], *, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, input=given, capture_output=True, timeout=120, check=False)


def connect(proxy: Proxy, pki: Pki, *, user: str = "repl", leaf: Leaf | None = None, **options: Any) -> Connection[Any]:
    """PyMySQL through a proxy; at its start it asks for nothing but its character set."""
    leaf = leaf or pki.replica
    return pymysql.connect(
        host="127.0.0.1",
        port=proxy.port,
        user=user,
        password=PASSWORD,
        autocommit=None,
        ssl_ca=str(pki.authority.ca),
        ssl_cert=str(leaf.certificate),
        ssl_key=str(leaf.key),
        read_timeout=60,
        **options,
    )


def assert_nothing_refused(proxy: Proxy, *, admitted: str = "COM_QUERY") -> None:
    """Neither a session nor a command, by the log and by the metrics."""
    assert not proxy.events("session_refused", "command_refused", "would_refuse")
    refused = [
        line for line in proxy.get("/metrics").splitlines() if 'decision="refused"' in line and line[-4:] != " 0.0"
    ]
    assert not refused
    assert proxy.metric("binlock_proxy_commands_total", command=admitted, decision="admitted") > 0
