"""Full authentication is carried over between legs that differ in secrecy. A cold cache is the case that counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from testbed.flavours import Flavour
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import PASSWORD, Proxy, replicating

StartProxy = Callable[..., Proxy]
Accounts = dict[tuple[str, int], str]
PLUGINS = ("caching_sha2_password", "sha256_password")
LEGS = ("tls-unix", "tls-tcp", "tls-tls", "plain-tls", "plain-tcp", "plain-unix", "tunnel-tcp")


@dataclass(frozen=True)
class Stand:
    """What these tests share: two servers, certificates, and ways to start proxies."""

    pair: Pair
    pki: Pki
    source_side: StartProxy
    replica_side: StartProxy

    def route(self, legs: str, account: str) -> tuple[Proxy, dict[str, Any]]:
        """A proxy with these legs (a tunnel is two), and the options of a replica that connects to it."""
        replica_leg, source_leg = legs.split("-")
        sources: dict[str, dict[str, Any]] = {
            "unix": {"source": f"unix:{self.pair.source.socket_path}", "source_tls": None},
            "tcp": {"source": f"127.0.0.1:{self.pair.source.port}", "source_tls": None},
            "tls": {"source": f"127.0.0.1:{self.pair.source.port}", "source_tls": self.pki.source_tls()},
        }
        by_certificate = [{"identity": "replica-1.example", "accounts": [account]}]
        by_name = [{"name": "local", "accounts": [account]}]
        if replica_leg == "tls":
            proxy = self.source_side(replicas=by_certificate, **sources[source_leg])
            return proxy, {"tls": self.pki.authority.replica_tls(self.pki.replica)}
        if replica_leg == "plain":
            proxy = self.replica_side(replicas=by_name, **sources[source_leg])
        else:
            inner = self.source_side(replicas=by_certificate, **sources[source_leg])
            proxy = self.replica_side(replicas=by_name, source=f"127.0.0.1:{inner.port}")
        return proxy, {"get_source_public_key": True}

    def assert_replicates(self, proxy: Proxy, account: str, **options: Any) -> None:
        table = self.pair.table()
        with replicating(self.pair.replica, proxy.port, user=account, **options):
            table.insert(5)
            table.assert_same_on(self.pair.replica)


@pytest.fixture
def stand(pair: Pair, pki: Pki, source_side: StartProxy, replica_side: StartProxy) -> Stand:
    return Stand(pair, pki, source_side, replica_side)


@pytest.fixture(scope="module")
def accounts(start_pair: Callable[..., Pair]) -> Accounts:
    """One account for each plugin and length of password."""
    source = start_pair(Flavour.MYSQL_9_7).source
    made = {}
    for plugin in PLUGINS:
        for length in (0, 20, 32):
            name = f"{plugin[:7]}_{length}"
            source.create_replication_account(name, "p" * length, plugin=plugin)
            made[plugin, length] = name
    return made


@pytest.mark.parametrize("legs", LEGS)
@pytest.mark.parametrize("plugin", PLUGINS)
def test_cold_then_warm(stand: Stand, accounts: Accounts, plugin: str, legs: str) -> None:
    account = accounts[plugin, 20]
    proxy, options = stand.route(legs, account)
    stand.pair.cool_down()
    stand.assert_replicates(proxy, account, password="p" * 20, **options)
    stand.assert_replicates(proxy, account, password="p" * 20, **options)


@pytest.mark.parametrize("length", [0, 32])
@pytest.mark.parametrize("legs", ["tls-tcp", "plain-tls"])
@pytest.mark.parametrize("plugin", PLUGINS)
def test_an_empty_password_and_the_longest_that_a_replica_takes(
    stand: Stand, accounts: Accounts, plugin: str, legs: str, length: int
) -> None:
    account = accounts[plugin, length]
    proxy, options = stand.route(legs, account)
    stand.pair.cool_down()
    stand.assert_replicates(proxy, account, password="p" * length, **options)


@pytest.mark.parametrize("legs", ["tls-tcp", "plain-tls"])
def test_a_restart_of_the_source_is_survived(stand: Stand, legs: str) -> None:
    proxy, options = stand.route(legs, "repl")
    table = stand.pair.table()
    with replicating(stand.pair.replica, proxy.port, user="repl", password=PASSWORD, **options):
        stand.pair.replica.wait_for_replication()
        table.insert(5)
        stand.pair.source.restart()
        table.insert(5)
        table.assert_same_on(stand.pair.replica)


@pytest.mark.parametrize("legs", ["tls-tcp", "plain-tls"])
@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_wrong_password_is_refused_by_the_source_also_when_bridged(
    stand: Stand, accounts: Accounts, plugin: str, legs: str
) -> None:
    account = accounts[plugin, 20]
    proxy, options = stand.route(legs, account)
    stand.pair.cool_down()
    with replicating(stand.pair.replica, proxy.port, user=account, password="wrong", **options):
        assert "Access denied" in proxy.wait_for_refusal("authentication_rejected")["detail"]


def test_a_replica_that_holds_the_sources_own_key_is_told_so(stand: Stand) -> None:
    proxy, _ = stand.route("plain-tls", "repl")
    replica = stand.pair.replica
    stand.pair.cool_down()
    key = stand.pair.source.folder / "data" / "public_key.pem"
    with replicating(replica, proxy.port, user="repl"):
        replica.stop_replication()
        replica.sql(f"CHANGE REPLICATION SOURCE TO SOURCE_PUBLIC_KEY_PATH = '{key}'")
        replica.start_replication()
        proxy.wait_for_refusal("authentication_not_bridgeable")
        replica.wait_until(
            lambda: "take SOURCE_PUBLIC_KEY_PATH out" in replica.replica_status().last_io_error,
            what="the reason in the replica's status",
        )
