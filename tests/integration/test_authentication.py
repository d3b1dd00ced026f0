"""Full authentication between legs that differ in secrecy, where replicas are particular. The rest is in the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from testbed.flavours import Flavour
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import PASSWORD, Proxy, replicating

StartProxy = Callable[..., Proxy]
LEGS = ["tls-tcp", "plain-tls"]
SHA2_PLUGINS = ("caching_sha2_password", "sha256_password")
# MySQL and MariaDB: the longest that CHANGE REPLICATION SOURCE TO and CHANGE MASTER TO take.
LONGEST = {Flavour.MYSQL_9_7: 32, Flavour.MARIADB_11_8: 96}


@pytest.fixture
def route(pair: Pair, pki: Pki, source_side: StartProxy, replica_side: StartProxy) -> Callable[..., Any]:
    """Starts a proxy with a pair of legs; returns it with what a replica is told that connects to it."""

    def start(legs: str, account: str) -> tuple[Proxy, dict[str, Any]]:
        tcp = f"127.0.0.1:{pair.source.port}"
        if legs == "tls-tcp":
            roster = [{"identity": "replica-1.example", "accounts": [account]}]
            return source_side(source=tcp, replicas=roster), {"tls": pki.authority.replica_tls(pki.replica)}
        proxy = replica_side(source=tcp, source_tls=pki.source_tls(), replicas=[{"name": "l", "accounts": [account]}])
        return proxy, {} if pair.flavour.is_mariadb else {"get_source_public_key": True}

    return start


@pytest.mark.parametrize("legs", LEGS)
@pytest.mark.parametrize("pair", LONGEST, indirect=True, ids=lambda flavour: flavour.value)
def test_the_longest_password_that_a_replica_takes(pair: Pair, route: Callable[..., Any], legs: str) -> None:
    password = "p" * LONGEST[pair.flavour]
    account = f"longest_{legs.replace('-', '_')}"
    pair.source.create_replication_account(account, password, plugin="caching_sha2_password")
    if pair.flavour.is_mariadb:
        pair.source.restart()  # for the RSA keys of the plugin
    proxy, options = route(legs, account)
    pair.cool_down()
    with replicating(pair.replica, proxy.port, user=account, password=password, **options):
        pair.replica.wait_for_replication()


@pytest.mark.parametrize("legs", LEGS)
def test_a_restart_of_the_source_is_survived(pair: Pair, route: Callable[..., Any], legs: str) -> None:
    proxy, options = route(legs, "repl")
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", password=PASSWORD, **options):
        pair.replica.wait_for_replication()
        table.insert(5)
        pair.source.restart()
        table.insert(5)
        table.assert_same_on(pair.replica)


@pytest.mark.parametrize("plugin", SHA2_PLUGINS)
def test_a_replica_that_holds_the_sources_own_key_is_told_so(
    pair: Pair, route: Callable[..., Any], plugin: str
) -> None:
    account = f"pinned_{plugin[:7]}"
    pair.source.create_replication_account(account, PASSWORD, plugin=plugin)
    proxy, _ = route("plain-tls", account)
    replica = pair.replica
    key = pair.source.folder / "data" / "public_key.pem"
    with replicating(replica, proxy.port, user=account):
        replica.stop_replication()
        pair.cool_down()
        replica.sql(f"CHANGE REPLICATION SOURCE TO SOURCE_PUBLIC_KEY_PATH = '{key}'")
        replica.start_replication()
        refusal = proxy.wait_for_refusal("authentication_not_bridgeable")
        assert (refusal["stage"], refusal["account"]) == ("authentication", account)
        replica.wait_until(
            lambda: "take SOURCE_PUBLIC_KEY_PATH out" in replica.replica_status().last_io_error,
            what="the reason in the replica's status",
        )
