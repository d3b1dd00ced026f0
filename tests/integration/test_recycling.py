"""Sessions that end to begin again, of age or before their TLS keys wear out: no row is lost, no commit waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.lab import Proxy, replicating

StartProxy = Callable[..., Proxy]
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)


def ended(proxy: Proxy, reason: str) -> int:
    return sum(event["reason"] == reason for event in proxy.events("session_ended"))


@modern
def test_a_session_of_age_begins_again_and_no_row_is_lost(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(limits="[limits]\nsession_max_age_seconds = 1")
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        with table.under_load():
            pair.replica.wait_until(lambda: ended(proxy, "max_age") >= 3, what="three sessions to be of age")
        table.assert_same_on(pair.replica)
        assert proxy.metric("binlock_proxy_sessions_ended_total", reason="max_age") >= 3
        assert all(0.9 < event["age_seconds"] < 2.5 for event in proxy.events("session_ended"))


@contextmanager
def semi_synchronous(pair: Pair, *, timeout_seconds: int) -> Iterator[Callable[[str], int]]:
    """Commits wait for the replica; gives a way to ask the source's semi-synchronous counters."""
    ends = ((pair.source, "source"), (pair.replica, "replica"))
    if pair.flavour.is_mariadb:
        names = {"source": "rpl_semi_sync_master", "replica": "rpl_semi_sync_slave"}
    else:
        names = {end: f"rpl_semi_sync_{end}" for _, end in ends}
        # It stays, disabled, for it cannot be uninstalled while a connection lingers.
        for server, end in ends:
            if not server.sql("SELECT 1 FROM information_schema.plugins WHERE plugin_name = %s", names[end]):
                server.sql(f"INSTALL PLUGIN {names[end]} SONAME 'semisync_{end}.so'")
    pair.source.sql(f"SET GLOBAL {names['source']}_timeout = {timeout_seconds * 1000}")
    for server, end in ends:
        server.sql(f"SET GLOBAL {names[end]}_enabled = 1")

    def count(what: str) -> int:
        [row] = pair.source.sql(f"SHOW GLOBAL STATUS LIKE '{names['source']}_{what}'")
        return int(row["Value"])

    try:
        yield count
    finally:
        for server, end in ends:
            server.sql(f"SET GLOBAL {names[end]}_enabled = 0")


@modern
def test_keys_are_renewed_under_semi_synchronous_load_and_no_commit_waits_for_it(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    proxy = source_side(limits="[limits]\ntls_key_records = 1000")
    table = pair.table()
    with (
        semi_synchronous(pair, timeout_seconds=10) as count,
        replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)),
    ):
        pair.replica.wait_for_replication()
        pair.replica.wait_until(lambda: count("clients") == 1, what="the source to know its semi-synchronous replica")
        without, acknowledged = count("no_tx"), count("yes_tx")
        with table.under_load(body_bytes=20_000):
            pair.replica.wait_until(
                lambda: ended(proxy, "key_limit") >= 5,
                timeout=60,
                what="five sessions to reach the limit of their keys",
            )
        table.assert_same_on(pair.replica)
        assert count("no_tx") == without
        assert count("yes_tx") > acknowledged + 50
        assert {event["reason"] for event in proxy.events("session_ended")} == {"key_limit"}
        assert proxy.metric("binlock_proxy_sessions_ended_total", reason="key_limit") >= 5
        seen = proxy.metric("binlock_proxy_semisync_ack_seconds_count")
        assert seen >= count("yes_tx") - acknowledged - 10
