"""The places where a proxy can stand, and what a replica is told in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from testbed.servers import Server
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import Proxy

StartProxy = Callable[..., Proxy]
DEPLOYMENTS = ("source-side-unix", "source-side-tcp", "source-side-tls", "replica-side", "tunnel")


def deploy(
    deployment: str, pair: Pair, pki: Pki, source_side: StartProxy, replica_side: StartProxy
) -> tuple[Proxy, dict[str, Any]]:
    """The proxy that the replica connects to, and the replica's own options."""
    tls = {"tls": pki.authority.replica_tls(pki.replica)}
    plain = {} if pair.flavour.is_mariadb else {"get_source_public_key": True}
    tcp = f"127.0.0.1:{pair.source.port}"
    if deployment == "source-side-unix":
        return source_side(), tls
    if deployment == "source-side-tcp":
        return source_side(source=tcp), tls
    if deployment == "source-side-tls":
        return source_side(source=tcp, source_tls=pki.source_tls()), tls
    if deployment == "replica-side":
        return replica_side(), plain
    return replica_side(source=f"127.0.0.1:{source_side().port}"), plain


def wait_for_place(proxy: Proxy, route: str, source: Server) -> dict[str, Any]:
    """The session of a route's only replica, once it stands where the source's log ends.

    A source may write more than what a replica executes: MariaDB its checkpoints.
    """

    def session() -> dict[str, Any]:
        [found] = [session for session in proxy.sessions() if session["route"] == route]
        return found

    source.wait_until(
        lambda: (session()["binlog_file"], session()["binlog_position"]) == source.binlog_position(),
        what="the proxy to show the place of the log's end",
    )
    return session()
