"""Servers and an authority that live for the whole run: starting them once is what keeps these tests quick."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pymysql
import pytest

from testbed.flavours import Flavour
from testbed.servers import Server
from tests.integration.clients.programs import ClientPrograms
from tests.integration.clients.stand import Stand
from tests.integration.lab import PASSWORD, Authority, Leaf, Proxy, RouteConfig, Table

MODERN = (Flavour.MYSQL_9_7, Flavour.MARIADB_11_8)
_numbers = itertools.count(1)


@dataclass
class Pair:
    """A source with TLS of its own, and a replica, both of one flavour."""

    source: Server
    replica: Server

    @property
    def flavour(self) -> Flavour:
        return self.source.flavour

    def table(self) -> Table:
        return Table(self.source, f"schema_{next(_numbers)}")

    def end_dumps(self) -> None:
        """Ends what earlier replicas have left on the source, which notices that one is gone when it next sends."""
        running = "SELECT id AS id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
        for row in self.source.sql(running):
            with contextlib.suppress(pymysql.err.OperationalError):  # gone by itself
                self.source.sql("KILL %s", row["id"])
        self.source.wait_until(lambda: not self.source.sql(running), what="the dumps of earlier tests to end")

    def cool_down(self) -> None:
        """Empties the source's cache of passwords, so that the next login is a full one."""
        self.source.sql("FLUSH PRIVILEGES")


@dataclass(frozen=True)
class Pki:
    """An authority with the leaves that the tests need."""

    authority: Authority
    proxy: Leaf
    replica: Leaf
    source: Leaf

    def replica_tls(self, **more: object) -> dict[str, object]:
        return {
            "certificate": self.proxy.certificate,
            "key": self.proxy.key,
            "ca": self.authority.ca,
            "crl": [self.authority.crl],
            **more,
        }

    source_tls = replica_tls


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    authority = Authority(tmp_path_factory.mktemp("pki") / "site")
    return Pki(
        authority,
        proxy=authority.issue("proxy", "proxy.example", "--dns", "localhost", "--ip", "127.0.0.1"),
        replica=authority.issue("replica", "replica-1.example"),
        source=authority.issue("source", "source.example", "--dns", "localhost", "--ip", "127.0.0.1"),
    )


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody here trusts."""
    return Authority(tmp_path_factory.mktemp("pki") / "foreign")


@pytest.fixture(scope="session")
def start_pair(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Flavour], Pair]]:
    """Makes the pair of a flavour when it is first asked for."""
    pairs: dict[Flavour, Pair] = {}

    def start(flavour: Flavour) -> Pair:
        if flavour not in pairs:
            folder = tmp_path_factory.mktemp(flavour.value)
            tls = {
                "ssl_ca": str(pki.authority.ca),
                "ssl_cert": str(pki.source.certificate),
                "ssl_key": str(pki.source.key),
            }
            # MariaDB's own default is OFF, and connection attributes are seen there alone.
            seen = {"performance_schema": "ON"}
            pair = Pair(
                Server(folder / "source", flavour, server_id=1, options=tls | seen).start(),
                Server(
                    folder / "replica",
                    flavour,
                    server_id=2,
                    options={"replica_net_timeout": "20"} if not flavour.is_mariadb else {},
                ).start(),
            )
            pairs[flavour] = pair
            pair.source.create_replication_account("repl", PASSWORD)
        return pairs[flavour]

    yield start
    for pair in pairs.values():
        pair.replica.kill()
        pair.source.kill()


@pytest.fixture
def pair(request: pytest.FixtureRequest, start_pair: Callable[[Flavour], Pair]) -> Pair:
    """The pair of the flavour that the test is parametrised with (indirectly), MySQL 9.7 otherwise."""
    pair = start_pair(getattr(request, "param", Flavour.MYSQL_9_7))
    pair.end_dumps()
    return pair


@pytest.fixture(scope="session")
def start_second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Flavour], Server]]:
    """Makes the second replica of a flavour when it is first asked for; its server id is 3."""
    servers: dict[Flavour, Server] = {}

    def start(flavour: Flavour) -> Server:
        if flavour not in servers:
            folder = tmp_path_factory.mktemp(f"{flavour.value}-second")
            servers[flavour] = Server(folder / "replica", flavour, server_id=3).start()
        return servers[flavour]

    yield start
    for server in servers.values():
        server.kill()


@pytest.fixture
def second(pair: Pair, start_second: Callable[[Flavour], Server]) -> Server:
    """Another replica beside the pair's."""
    return start_second(pair.flavour)


@pytest.fixture
def source_side(pki: Pki, pair: Pair, tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """Starts source-side proxies: TLS for replicas, the source over its unix socket unless the test says otherwise."""
    started: list[Proxy] = []

    def start(*, limits: str = "", **changes: object) -> Proxy:
        settings: dict[str, object] = {
            "source": f"unix:{pair.source.socket_path}",
            "replicas": [{"identity": "replica-1.example", "accounts": ["repl"], "server_ids": [2]}],
            "replica_tls": pki.replica_tls(),
        } | changes
        proxy = Proxy(tmp_path / f"source-side-{len(started)}", RouteConfig(**settings), limits=limits)  # type: ignore[arg-type]
        started.append(proxy)
        return proxy.start()

    yield start
    for proxy in started:
        proxy.__exit__()


@pytest.fixture
def replica_side(pki: Pki, pair: Pair, tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """Starts replica-side proxies: plaintext for the replica beside them, MySQL TLS towards the source."""
    started: list[Proxy] = []

    def start(source: str | None = None, **changes: object) -> Proxy:
        settings: dict[str, object] = {
            "source": source or f"127.0.0.1:{pair.source.port}",
            "replicas": [{"name": "local", "accounts": ["repl"], "server_ids": [2]}],
            "source_tls": {
                "certificate": pki.replica.certificate,
                "key": pki.replica.key,
                "ca": pki.authority.ca,
                "crl": [pki.authority.crl],
            },
        } | changes
        proxy = Proxy(tmp_path / f"replica-side-{len(started)}", RouteConfig(**settings))  # type: ignore[arg-type]
        started.append(proxy)
        return proxy.start()

    yield start
    for proxy in started:
        proxy.__exit__()


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientPrograms]:
    """Other people's clients, each started when it is first needed."""
    with ClientPrograms(tmp_path_factory.mktemp("clients")) as programs:
        yield programs


@pytest.fixture(scope="session")
def start_stand(
    pki: Pki, start_pair: Callable[[Flavour], Pair], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Flavour], Stand]]:
    """Makes the stand of a flavour, for tests of clients, when it is first asked for."""
    stands: dict[Flavour, Stand] = {}

    def start(flavour: Flavour) -> Stand:
        if flavour not in stands:
            folder = tmp_path_factory.mktemp(f"{flavour.value}-clients")
            stands[flavour] = Stand(start_pair(flavour).source, pki, folder).__enter__()
        return stands[flavour]

    yield start
    for stand in stands.values():
        stand.__exit__()


@pytest.fixture
def client_stand(request: pytest.FixtureRequest, start_stand: Callable[[Flavour], Stand]) -> Stand:
    """The stand of the flavour that the test is parametrised with, indirectly."""
    return start_stand(request.param)
