"""What the tests of clients share: for each flavour a source with accounts, and one Binlock with all the routes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.flavours import Flavour
from testbed.servers import Server, free_port
from tests.integration.clients.facts import PLAINTEXT, PLUGINS, READERS, Client, reader_policy
from tests.integration.clients.programs import Row, Target
from tests.integration.clients.recorder import Recorder
from tests.integration.lab import PASSWORD, Proxy, RouteConfig

if TYPE_CHECKING:
    from tests.integration.conftest import Pki

ACCOUNT = "asker"
READER_ACCOUNT = "reader"  # may do what a replica may, and nothing else
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Rows:
    """A table of its own on a source, with rows for a client to bring."""

    source: Server
    schema: str
    rows: tuple[tuple[int, str], ...] = ((1, "first"), (2, "größer als 大"), (3, "x" * 300_000))

    def insert(self) -> None:
        for number, body in self.rows:
            self.source.sql(f"INSERT INTO {self.schema}.orders VALUES (%s, %s)", number, body)

    @property
    def query(self) -> str:
        return f"SELECT id, body FROM {self.schema}.orders ORDER BY id"

    def assert_are(self, seen: Sequence[Row]) -> None:
        assert [(int(row["id"]), row["body"]) for row in seen] == list(self.rows)


class Stand:
    """One source, and a Binlock in front of it with a route for each deployment and purpose. A context manager.

    Query clients share the route that has the deployment's name; each reader has routes of its own, under its policy.
    `recorded` keeps what is sent, `strict` admits what a replica sends and nothing else, `misnamed` shows a certificate
    for another host.
    """

    def __init__(self, source: Server, pki: Pki, folder: Path) -> None:
        self.source = source
        self.recorder = Recorder(source.port)
        self._pki = pki
        self._ports: dict[str, int] = {}
        self._make_accounts()
        routes = self._deployments("", {"policy": "backup"}, [])
        for reader, server_id in READERS.items():
            routes += self._deployments(f"-{reader.name}", reader_policy(reader), [server_id])
        elsewhere = pki.authority.issue_again("proxy", "elsewhere.example")
        misnamed = pki.replica_tls(certificate=elsewhere.certificate, key=elsewhere.key)
        routes += [
            self._route("recorded", f"127.0.0.1:{self.recorder.port}", {"policy": "any"}),
            self._route("strict", f"unix:{source.socket_path}", {}),
            self._route("misnamed", f"unix:{source.socket_path}", {}, replica_tls=misnamed),
        ]
        self.proxy = Proxy(folder, *routes)

    @property
    def flavour(self) -> Flavour:
        return self.source.flavour

    def target(self, route: str, *, account: str = ACCOUNT) -> Target:
        """How a client reaches a route."""
        leaf = self._pki.replica
        files = {"ca": self._pki.authority.ca, "cert": leaf.certificate, "key": leaf.key}
        is_plaintext = route.startswith(PLAINTEXT)
        return Target(
            self._ports[route], account, None if is_plaintext else {name: str(path) for name, path in files.items()}
        )

    def reader_target(self, reader: Client, deployment: str) -> Target:
        return self.target(f"{deployment}-{reader.name}", account=READER_ACCOUNT)

    def without_binlock(self, account: str) -> Target:
        """The source itself, by TLS."""
        return Target(self.source.port, account, self.target("strict").tls)

    @cached_property
    def rows(self) -> Rows:
        """Rows that are there, for clients that ask."""
        rows = self.table()
        rows.insert()
        return rows

    def table(self) -> Rows:
        """Rows that are not there yet, for a reader."""
        schema = f"clients_{next(_numbers)}"
        self.source.sql(f"CREATE DATABASE {schema}")
        self.source.sql(f"CREATE TABLE {schema}.orders (id INT PRIMARY KEY, body MEDIUMTEXT CHARACTER SET utf8mb4)")
        return Rows(self.source, schema)

    def from_here(self, reader: Client, mode: str) -> dict[str, Any]:
        """The reader's own options for starting after what is in the binlog now.

        Args:
            reader: which.
            mode: `gtid`, `file`, or `end`, where the reader asks the source itself.
        """
        is_mariadb, is_zongji = self.flavour.is_mariadb, reader is Client.ZONGJI
        if mode == "gtid":
            variable = "gtid_current_pos" if is_mariadb else "gtid_executed"
            gtids = str(self.source.scalar(f"SELECT @@GLOBAL.{variable}")).replace("\n", "")
            return {"gtidSet": gtids} if is_zongji else {"auto_position": gtids, "is_mariadb": is_mariadb}
        if mode == "end":
            return {"startAtEnd": True} if is_zongji else {"resume_stream": True}
        file, position = self.source.binlog_position()
        if is_zongji:
            return {"filename": file, "position": position}
        return {"log_file": file, "log_pos": position, "resume_stream": True}

    def cool_down(self) -> None:
        """Empties the source's cache of passwords, so that the next login is a full one."""
        self.source.sql("FLUSH PRIVILEGES")

    def end_of(self, route: str, mark: int) -> dict[str, Any]:
        """What the log says first of the end of a session of the route, after `mark`."""
        return self.proxy.wait_for_event(
            "session_ended", "session_refused", matches=lambda event: event["route"] == route, after=mark
        )

    def _deployments(self, suffix: str, policy: dict[str, Any], server_ids: list[int]) -> list[RouteConfig]:
        tcp, unix = f"127.0.0.1:{self.source.port}", f"unix:{self.source.socket_path}"
        towards = self._pki.source_tls(certificate=self._pki.replica.certificate, key=self._pki.replica.key)
        more: dict[str, Any] = {"policy": policy, "server_ids": server_ids}
        inner = self._route(f"source-side-unix{suffix}", unix, **more)
        return [
            inner,
            self._route(f"source-side-tcp{suffix}", tcp, **more),
            self._route(f"source-side-tls{suffix}", tcp, source_tls=towards, **more),
            self._route(f"replica-side{suffix}", tcp, replica_tls=None, source_tls=towards, **more),
            self._route(f"tunnel{suffix}", inner.listen, replica_tls=None, source_tls=towards, **more),
        ]

    def _route(
        self, name: str, source: str, policy: dict[str, Any], server_ids: Sequence[int] = (), **tls: Any
    ) -> RouteConfig:
        replica_tls = tls.get("replica_tls", self._pki.replica_tls())
        entry: dict[str, Any] = {"identity": "replica-1.example"} if replica_tls else {"name": "local"}
        entry["accounts"] = [ACCOUNT, READER_ACCOUNT, *(account_of(plugin) for plugin in PLUGINS[self.flavour])]
        if server_ids:
            entry["server_ids"] = list(server_ids)
        while (port := free_port()) in self._ports.values():
            pass
        self._ports[name] = port
        return RouteConfig(
            source, [entry], name=name, listen=f"127.0.0.1:{port}", replica_tls=replica_tls,
            source_tls=tls.get("source_tls"), more=policy,
        )  # fmt: skip

    def _make_accounts(self) -> None:
        self.source.create_replication_account(READER_ACCOUNT, PASSWORD)
        for plugin in (None, *PLUGINS[self.flavour]):
            name = account_of(plugin) if plugin else ACCOUNT
            self.source.create_replication_account(name, PASSWORD, plugin=plugin)
            with self.source.connection() as connection, connection.cursor() as cursor:
                cursor.execute("SET SESSION sql_log_bin = 0")
                cursor.execute("GRANT SELECT, REPLICATION CLIENT ON *.* TO %s@'%%'", (name,))

    def __enter__(self) -> Stand:
        # With it a reader knows columns and characters from the binlog, and asks for neither.
        self.source.sql("SET GLOBAL binlog_row_metadata = FULL")
        self.proxy.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.__exit__()
        self.recorder.__exit__()


def account_of(plugin: str) -> str:
    """The account that logs in with the plugin."""
    return f"{ACCOUNT}_{plugin}"
