"""Other people's clients that ask for compression get it through Binlock."""

from __future__ import annotations

import pytest

from testbed.flavours import Flavour
from tests.integration.clients.facts import COMPRESSION, QUERY_CLIENTS, Client
from tests.integration.clients.programs import ClientPrograms
from tests.integration.clients.stand import Stand

for_each_deployment = pytest.mark.parametrize("deployment", ["source-side-unix", "source-side-tls", "tunnel"])
CASES = [
    (flavour, client, algorithm)
    for flavour in Flavour
    for client in QUERY_CLIENTS
    for algorithm in COMPRESSION.get(client, ())
    if not (flavour.is_mariadb and algorithm == "zstd")  # MariaDB does not offer it
]


@for_each_deployment
@pytest.mark.parametrize(
    ("client_stand", "client", "algorithm"),
    CASES,
    indirect=["client_stand"],
    ids=[f"{flavour.value}-{client.name}-{algorithm}" for flavour, client, algorithm in CASES],
)
def test_a_client_asks_in_compressed_packets(
    client_stand: Stand, clients: ClientPrograms, client: Client, algorithm: str, deployment: str
) -> None:
    target, rows = client_stand.target(deployment), client_stand.rows
    query = f"SET NAMES utf8mb4; {rows.query}" if client is Client.MYSQL else rows.query
    clients.query(Client.MYSQL2, client_stand.target("source-side-unix"), "SELECT 1")  # warms the source's cache
    rows.assert_are(clients.query(client, target, query, compress=algorithm))
    status = clients.query(client, target, "SHOW SESSION STATUS LIKE 'Compression%'", compress=algorithm)
    shown = {row["Variable_name"]: row["Value"] for row in status}
    assert shown["Compression"] == "ON"
    assert shown.get("Compression_algorithm", algorithm) == algorithm


@for_each_deployment
@pytest.mark.parametrize("mode", ["gtid", "file"])
@pytest.mark.parametrize("client_stand", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
def test_zongji_reads_compressed_packets(
    client_stand: Stand, clients: ClientPrograms, deployment: str, mode: str
) -> None:
    table = client_stand.table()
    target = client_stand.reader_target(Client.ZONGJI, deployment)
    options = client_stand.from_here(Client.ZONGJI, mode)
    with clients.reading(Client.ZONGJI, target, table.schema, rows=3, compress=True, **options) as stream:
        table.insert()
        table.assert_are(stream.rows(3))
