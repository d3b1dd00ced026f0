"""Replicas that hang up in the middle of their login for reasons of their own: Binlock says them, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from testbed.flavours import Flavour
from testbed.replication import ReplicaTls
from testbed.servers import Server, free_port
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import Proxy, replicating

StartProxy = Callable[..., Proxy]
LEFT = "replica_left_after_login"
# MariaDB takes localhost, 127.0.0.1 and ::1 for itself, and trusts itself whatever the certificate.
ELSEWHERE = "127.0.0.2"
on_mariadb_11_8 = pytest.mark.parametrize("pair", [Flavour.MARIADB_11_8], indirect=True, ids=["mariadb-11.8"])


@pytest.fixture
def elsewhere(pki: Pki, source_side: StartProxy) -> Callable[..., Proxy]:
    """Starts a proxy at an address that a replica does not take for its own host, with a certificate for it."""
    leaf = pki.authority.issue_again("proxy", "elsewhere.example", "--ip", ELSEWHERE)

    def start(**changes: Any) -> Proxy:
        tls = pki.replica_tls(certificate=leaf.certificate, key=leaf.key)
        return source_side(listen=f"{ELSEWHERE}:{free_port(ELSEWHERE)}", replica_tls=tls, **changes)

    return start


def without_ca(pki: Pki, **more: Any) -> ReplicaTls:
    """A client certificate, no CA, and verification as it is by default: on."""
    return replace(pki.authority.replica_tls(pki.replica, **more), ca=None)


def left(replica: Server, proxy: Proxy, **options: Any) -> dict[str, Any]:
    """Lets a replica try; returns the proxy's line about it once the replica shows its own."""
    with replicating(replica, proxy.port, user=options.pop("user", "repl"), **options):
        event = proxy.wait_for_refusal(LEFT)
        replica.wait_until(lambda: replica.replica_status().last_io_errno, what="an error in the replica's status")
        assert replica.replica_status().io_running != "Yes"
    lines = proxy.events("session_refused", "session_ended")
    assert [line["event"] for line in lines if line["session"] == event["session"]] == ["session_refused"]
    assert proxy.metric("binlock_proxy_refusals_total", stage="authentication", reason=LEFT) >= 1
    return event


def account_of(pair: Pair, plugin: str) -> str:
    account = f"late_{plugin[:7]}"
    if not pair.source.scalar("SELECT COUNT(*) FROM mysql.user WHERE user = %s", account):
        pair.source.create_replication_account(account, "correct horse battery", plugin=plugin)
    return account


@on_mariadb_11_8
@pytest.mark.parametrize("plugin", ["mysql_native_password", "ed25519", "parsec"])
def test_a_replica_that_has_no_ca_leaves_when_it_is_accepted(
    pair: Pair, pki: Pki, elsewhere: StartProxy, plugin: str
) -> None:
    """The password vouches for a certificate here, and the source's OK does so for its own, not for Binlock's."""
    account = account_of(pair, plugin)
    proxy = elsewhere(replicas=[{"identity": "replica-1.example", "accounts": [account]}])
    event = left(pair.replica, proxy, user=account, host=ELSEWHERE, tls=without_ca(pki))
    assert event["stage"] == "authentication"
    assert "had accepted its login" in event["detail"]
    assert "MASTER_SSL_CA" in event["detail"]


@on_mariadb_11_8
def test_a_replica_that_has_no_ca_leaves_when_it_is_asked_for_a_plugin_that_cannot_vouch(
    pair: Pair, pki: Pki, elsewhere: StartProxy
) -> None:
    account = account_of(pair, "caching_sha2_password")
    proxy = elsewhere(replicas=[{"identity": "replica-1.example", "accounts": [account]}])
    event = left(pair.replica, proxy, user=account, host=ELSEWHERE, tls=without_ca(pki))
    assert "asked for caching_sha2_password" in event["detail"]
    assert "MASTER_SSL_CA" in event["detail"]


def test_the_same_in_front_of_mysql(
    pair: Pair, pki: Pki, elsewhere: StartProxy, start_pair: Callable[[Flavour], Pair]
) -> None:
    event = left(start_pair(Flavour.MARIADB_11_8).replica, elsewhere(), host=ELSEWHERE, tls=without_ca(pki))
    assert "asked for caching_sha2_password" in event["detail"]
    assert "MASTER_SSL_CA" in event["detail"]


@on_mariadb_11_8
@pytest.mark.parametrize("remedy", ["the CA", "no verification", "its own host"])
def test_what_helps(pair: Pair, pki: Pki, elsewhere: StartProxy, source_side: StartProxy, remedy: str) -> None:
    proxy = source_side() if remedy == "its own host" else elsewhere()
    tls = {
        "the CA": pki.authority.replica_tls(pki.replica),
        "no verification": without_ca(pki, verify_server_cert=False),
        "its own host": without_ca(pki),
    }[remedy]
    host = "127.0.0.1" if remedy == "its own host" else ELSEWHERE
    with replicating(pair.replica, proxy.port, user="repl", host=host, tls=tls):
        pair.replica.wait_for_replication()


def test_a_plaintext_replica_that_may_not_ask_for_the_key_is_told_how_it_may(
    pair: Pair, replica_side: StartProxy
) -> None:
    pair.cool_down()
    event = left(pair.replica, replica_side(), get_source_public_key=False)
    assert "GET_SOURCE_PUBLIC_KEY=1" in event["detail"]


def test_while_the_cache_is_warm_it_need_not_ask(pair: Pair, replica_side: StartProxy) -> None:
    proxy = replica_side()
    pair.cool_down()
    with replicating(pair.replica, proxy.port, user="repl", get_source_public_key=True):
        pair.replica.wait_for_replication()
    with replicating(pair.replica, proxy.port, user="repl", get_source_public_key=False):
        pair.replica.wait_for_replication()


@on_mariadb_11_8
def test_directly_mariadbs_replica_fails_where_it_gets_through_binlock(pair: Pair, replica_side: StartProxy) -> None:
    """It sends caching_sha2_password's password in the clear over any leg, which only Binlock knows what to do with."""
    account = account_of(pair, "caching_sha2_password")
    pair.source.restart()  # for the RSA keys
    replica = pair.replica
    with replicating(replica, pair.source.port, user=account):
        replica.wait_until(lambda: replica.replica_status().last_io_errno == 1045, what="access denied")
    proxy = replica_side(replicas=[{"name": "local", "accounts": [account]}])
    with replicating(replica, proxy.port, user=account):
        replica.wait_for_replication()
