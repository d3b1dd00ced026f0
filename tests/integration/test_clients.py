"""Other people's clients through Binlock, in every deployment: they log in and ask, and they read the binlog."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from testbed.flavours import Flavour
from tests.integration.clients.facts import (
    DEFAULT_PLUGIN,
    DEPLOYMENTS,
    PLAINTEXT,
    QUERY_CLIENTS,
    READERS,
    Client,
    login_failure,
)
from tests.integration.clients.programs import ClientError, ClientPrograms, Target
from tests.integration.clients.stand import ACCOUNT, READER_ACCOUNT, Stand
from tests.integration.conftest import Pair
from tests.integration.lab import Proxy

for_each_flavour = pytest.mark.parametrize(
    "client_stand", list(Flavour), indirect=True, ids=lambda flavour: flavour.value
)
for_each_reader = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)


def assert_encrypted(session: dict[str, Any], deployment: str) -> None:
    """What the log or `/sessions` says of the encryption of a session agrees with its deployment."""
    shown = {name: session.get(name) for name in ("identity", "replica_tls_version", "source_tls_version")}
    assert shown == {
        "identity": None if deployment in PLAINTEXT else "replica-1.example",
        "replica_tls_version": None if deployment in PLAINTEXT else "TLSv1.3",
        "source_tls_version": "TLSv1.3" if deployment in {"source-side-tls", *PLAINTEXT} else None,
    }


def of_route(route: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: bool(event["route"] == route)


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
@pytest.mark.parametrize("client", QUERY_CLIENTS, ids=lambda client: client.name)
@for_each_flavour
def test_a_client_logs_in_and_asks(
    client_stand: Stand, clients: ClientPrograms, client: Client, deployment: str
) -> None:
    target, rows = client_stand.target(deployment), client_stand.rows
    # MariaDB 10.11 does not know the collation that mysql 9.7 logs in with, and takes latin1.
    query = f"SET NAMES utf8mb4; {rows.query}" if client is Client.MYSQL else rows.query
    client_stand.cool_down()
    plugin = DEFAULT_PLUGIN[client_stand.flavour]
    if failure := login_failure(client, plugin, encrypted=deployment not in PLAINTEXT):
        with pytest.raises(ClientError, match=failure):
            clients.query(client, target, query)
        # Another client warms the source's cache: then no password has to be carried, and this one comes in.
        clients.query(Client.MYSQL2, client_stand.target("source-side-unix"), "SELECT 1")
    mark = client_stand.proxy.mark()
    rows.assert_are(clients.query(client, target, query))
    session = client_stand.end_of(deployment, mark)
    assert session["account"] == ACCOUNT
    assert_encrypted(session, deployment)
    if deployment == "tunnel":
        assert_encrypted(client_stand.end_of("source-side-unix", mark), "source-side-unix")


@pytest.mark.parametrize("mode", ["gtid", "file"])
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
@for_each_reader
@for_each_flavour
def test_a_reader_brings_the_rows_that_were_written(
    client_stand: Stand, clients: ClientPrograms, reader: Client, deployment: str, mode: str
) -> None:
    table = client_stand.table()
    target, options = client_stand.reader_target(reader, deployment), client_stand.from_here(reader, mode)
    client_stand.cool_down()
    mark = client_stand.proxy.mark()
    with clients.reading(reader, target, table.schema, rows=3, **options) as stream:
        table.insert()
        table.assert_are(stream.rows(3))
        for leg in (deployment, *(["source-side-unix"] if deployment == "tunnel" else [])):
            route = f"{leg}-{reader.name}"
            started = client_stand.proxy.wait_for_event("stream_started", matches=of_route(route), after=mark)
            [session] = [one for one in client_stand.proxy.sessions() if one["session"] == started["session"]]
            assert (session["stage"], session["account"]) == ("relay", READER_ACCOUNT)
            assert session["server_id"] == READERS[reader]
            assert_encrypted(session, leg)
    assert not client_stand.proxy.events("session_refused", "command_refused", after=mark)


@for_each_flavour
def test_a_reader_that_does_not_wait_leaves_at_the_end_of_the_binlog(
    client_stand: Stand, clients: ClientPrograms
) -> None:
    reader = Client.PYTHON_MYSQL_REPLICATION
    table = client_stand.table()
    options = client_stand.from_here(reader, "file") | {"blocking": False}
    table.insert()
    mark = client_stand.proxy.mark()
    target = client_stand.reader_target(reader, "source-side-unix")
    with clients.reading(reader, target, table.schema, rows=4, **options) as stream:
        table.assert_are(stream.rows(3))
        stream.wait()
        assert client_stand.end_of(f"source-side-unix-{reader.name}", mark)["event"] == "session_ended"


@for_each_reader
@for_each_flavour
def test_a_reader_with_another_server_id_is_told_so(
    client_stand: Stand, clients: ClientPrograms, reader: Client
) -> None:
    target, options = client_stand.reader_target(reader, "source-side-unix"), client_stand.from_here(reader, "file")
    with clients.reading(reader, target, "none", rows=1, server_id=99, **options) as stream:
        with pytest.raises(
            ClientError, match=r"Binlock: replica-1\.example may not replicate as server id 99"
        ) as raised:
            stream.rows(1)
        assert raised.value.code == 1227


@for_each_reader
def test_a_reader_is_told_why_its_stream_ends(
    start_stand: Callable[[Flavour], Stand],
    clients: ClientPrograms,
    pair: Pair,
    source_side: Callable[..., Proxy],
    reader: Client,
) -> None:
    stand = start_stand(pair.flavour)
    table, options = stand.table(), stand.from_here(reader, "gtid")
    replicas = [{"identity": "replica-1.example", "accounts": [READER_ACCOUNT]}]
    proxy = source_side(replicas=replicas, more={"policy": "any"})
    target = Target(proxy.port, READER_ACCOUNT, stand.target("strict").tls)
    with clients.reading(reader, target, table.schema, rows=4, **options) as stream:
        table.insert()
        table.assert_are(stream.rows(3))
        assert proxy.stop() == 0
        with pytest.raises(ClientError, match="Binlock: shutting down") as raised:
            stream.rows(1)
        assert raised.value.code == 1053
