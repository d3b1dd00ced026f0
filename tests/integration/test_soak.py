"""Hundreds of reloads under load: no row is lost, no session dropped, and the process does not grow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.lab import Proxy, replicating

StartProxy = Callable[..., Proxy]
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)
# Threads that read the files and their share of the heap are there after some reloads, and are not more later.
_WARM_UP_RELOADS = 15
_MEBIBYTE = 1 << 20


def reload_under_load(pair: Pair, pki: Pki, proxy: Proxy, *, reloads: int, growth_bytes: int) -> None:
    table = pair.table()
    route = proxy.routes[0]
    leaves = [pki.proxy, pki.authority.issue_again("proxy", "proxy.example", "--ip", "127.0.0.1")]
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        session = proxy.stream_of("replica-1.example")["session"]
        warm = 0
        with table.under_load(rows=5):
            for number in range(reloads + _WARM_UP_RELOADS):
                if number == _WARM_UP_RELOADS:
                    warm = proxy.resident_bytes()
                leaf = leaves[number % 2]
                route.allow = ["127.0.0.0/8", f"10.0.{number % 256}.0/24"]
                reloaded = proxy.change(replica_tls=pki.replica_tls(certificate=leaf.certificate, key=leaf.key))
                assert (reloaded["event"], reloaded["sessions_ended"]) == ("reloaded", 0), number
        grown = proxy.resident_bytes() - warm
        table.assert_same_on(pair.replica)
        assert proxy.stream_of("replica-1.example")["session"] == session
        assert grown < growth_bytes, f"{grown / _MEBIBYTE:.1f} MiB more after {reloads} reloads"


@modern
def test_forty_reloads_under_load(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    reload_under_load(pair, pki, source_side(), reloads=40, growth_bytes=6 * _MEBIBYTE)


@pytest.mark.soak
@modern
def test_five_hundred_reloads_under_load(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    reload_under_load(pair, pki, source_side(), reloads=500, growth_bytes=8 * _MEBIBYTE)
