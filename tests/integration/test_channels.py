"""A replica of several sources: each channel is a session of its own, through two routes of one proxy or one route."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed.replication import change_source
from testbed.servers import Server
from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.deployments import StartProxy, wait_for_place
from tests.integration.lab import PASSWORD, Proxy, RouteConfig, Table

modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)


@modern
def test_two_channels_to_two_sources_are_two_sessions_of_two_routes(pair: Pair, pki: Pki, tmp_path: Path) -> None:
    with Server(tmp_path / "source", pair.flavour, server_id=4) as other:
        other.create_replication_account("repl", PASSWORD)
        if pair.flavour.is_mariadb:
            other.sql("SET GLOBAL gtid_domain_id = 7")
        sources = {"east": pair.source, "west": other}
        routes = [
            RouteConfig(
                name=name,
                source=f"unix:{source.socket_path}",
                replicas=[{"identity": "replica-1.example", "accounts": ["repl"], "server_ids": [2]}],
                replica_tls=pki.replica_tls(),
            )
            for name, source in sources.items()
        ]
        with Proxy(tmp_path / "proxy", *routes) as proxy:
            ports = {route.name: int(route.listen.rpartition(":")[2]) for route in routes}
            with channels(pair.replica, pki, ports):
                tables = [Table(source, f"channel_{name}") for name, source in sources.items()]
                for table in tables:
                    table.insert(1000)
                for table in tables:
                    table.assert_same_on(pair.replica)
                for name, source in sources.items():
                    session = wait_for_place(proxy, name, source)
                    assert (session["server_id"], session["stage"]) == (2, "relay")


def test_of_two_channels_through_one_route_the_source_keeps_the_later(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    """It knows a replica by its UUID. MariaDB refuses the second CHANGE MASTER: host and port are the same."""
    proxy = source_side()
    table = pair.table()
    with channels(pair.replica, pki, {"former": proxy.port, "latter": proxy.port}):
        table.insert(10)
        table.assert_same_on(pair.replica)
        pair.replica.wait_until(lambda: last_error(pair.replica, "former"), what="the source to end the first channel")
        assert "A replica with the same server_uuid/server_id" in last_error(pair.replica, "former")
        assert last_error(pair.replica, "latter") == ""
        ended = proxy.wait_for_event("session_ended")
        # The source refuses the former dump, and the replica hangs up on that: either may be the first to close.
        assert ended["reason"] in {"closed", "source_disconnected", "disconnected"}
        [session] = proxy.sessions()
        assert session["session"] > ended["session"]
        assert len(proxy.events("session_ended")) == 1


def last_error(replica: Server, channel: str) -> str:
    table = "performance_schema.replication_connection_status"
    return str(replica.scalar(f"SELECT LAST_ERROR_MESSAGE FROM {table} WHERE CHANNEL_NAME = %s", channel))


@contextmanager
def channels(replica: Server, pki: Pki, ports: dict[str, int]) -> Iterator[None]:
    """One channel for each port, named for its key."""
    words = {True: "{verb} SLAVE '{name}'{all}", False: "{verb} REPLICA{all} FOR CHANNEL '{name}'"}[
        replica.flavour.is_mariadb
    ]
    for name, port in ports.items():
        statement, values = change_source(
            replica.flavour, host="127.0.0.1", port=port, user="repl", password=PASSWORD, auto_position=True,
            position=None, tls=pki.authority.replica_tls(pki.replica), get_source_public_key=False,
            connect_retry_seconds=1, retry_count=None, bind=None, heartbeat_period=None,
        )  # fmt: skip
        if replica.flavour.is_mariadb:
            statement = statement.replace("CHANGE MASTER TO", f"CHANGE MASTER '{name}' TO")
        else:
            statement += f" FOR CHANNEL '{name}'"
        replica.sql(statement, *values)
        replica.sql(words.format(verb="START", name=name, all=""))
    try:
        yield
    finally:
        for name in ports:
            replica.sql(words.format(verb="STOP", name=name, all=""))
            replica.sql(words.format(verb="RESET", name=name, all=" ALL"))
