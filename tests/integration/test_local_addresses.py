"""A replica that chooses where it connects from: the proxy sees that address, and no other of the host. MySQL only."""

from __future__ import annotations

from pathlib import Path

from testbed.flavours import Flavour
from testbed.hosts import Network
from testbed.servers import Server
from tests.integration.conftest import Pair, Pki
from tests.integration.deployments import StartProxy
from tests.integration.lab import PASSWORD, Proxy, RouteConfig, Table, replicating


def test_the_allowlist_judges_the_address_that_source_bind_names(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(allow=["127.0.0.5/32"])
    tls = pki.authority.replica_tls(pki.replica)
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", tls=tls, bind="127.0.0.6"):
        refused = proxy.wait_for_refusal("address_not_allowed")
        assert refused["peer"].startswith("127.0.0.6:")
    with replicating(pair.replica, proxy.port, user="repl", tls=tls, bind="127.0.0.5"):
        table.insert(10)
        table.assert_same_on(pair.replica)
        assert proxy.stream_of("replica-1.example")["peer"].startswith("127.0.0.5:")


def test_a_replica_connects_from_the_network_namespace_that_it_names(pki: Pki, tmp_path: Path) -> None:
    with Network() as network:
        source_host, replica_host, way_out = (network.add_host(name) for name in ("source", "replica", "blue"))
        leaf = pki.authority.issue("proxy", "namespaces.example", "--ip", source_host.address)
        source = Server(tmp_path / "source", Flavour.MYSQL_9_7, server_id=1)
        replica = Server(tmp_path / "replica", Flavour.MYSQL_9_7, server_id=2, host=replica_host.naming(way_out))
        route = RouteConfig(
            source=f"unix:{source.socket_path}",
            listen=f"{source_host.address}:3307",
            allow=[way_out.address],
            replicas=[{"identity": "replica-1.example", "accounts": ["repl"], "server_ids": [2]}],
            replica_tls=pki.replica_tls(certificate=leaf.certificate, key=leaf.key),
        )
        with source, replica, Proxy(tmp_path / "proxy", route, host=source_host) as proxy:
            source.create_replication_account("repl", PASSWORD)
            table = Table(source, "namespaces")
            options = {"host": source_host.address, "tls": pki.authority.replica_tls(pki.replica)}
            with replicating(replica, 3307, user="repl", **options):
                refused = proxy.wait_for_refusal("address_not_allowed")
                assert refused["peer"].startswith(f"{replica_host.address}:")
                replica.stop_replication()
                replica.sql("CHANGE REPLICATION SOURCE TO NETWORK_NAMESPACE = 'blue'")
                replica.start_replication()
                table.insert(10)
                table.assert_same_on(replica)
                assert proxy.wait_for_event("stream_started")["peer"].startswith(f"{way_out.address}:")
