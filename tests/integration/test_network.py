"""Hosts with their own addresses and a wire between them: what crosses it is TLS, and can be seen to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.flavours import Flavour
from testbed.hosts import Host, Network
from testbed.pcap import clear_text_hits, tcp_streams
from testbed.programs import Program
from testbed.servers import Server
from tests.integration.conftest import Pki
from tests.integration.lab import BIN, PASSWORD, RouteConfig, Table, replicating

MARKER = b"a sentence that must not be read on the wire"


def proxy_on(host: Host, folder: Path, route: RouteConfig) -> Program:
    folder.mkdir()
    admin = f'[admin]\nlisten = "unix:{folder}/a.sock"\n'
    (folder / "proxy.toml").write_text(admin + "\n".join(route.lines()) + "\n")
    return Program([BIN / "binlock-proxy", "run", "--config", folder / "proxy.toml"], log=folder / "log", host=host)


@pytest.mark.parametrize("flavour", [Flavour.MYSQL_9_7, Flavour.MARIADB_11_8], ids=lambda flavour: flavour.value)
def test_through_the_tunnel_nothing_is_readable_between_the_hosts(flavour: Flavour, pki: Pki, tmp_path: Path) -> None:
    with Network(ipv6="fd77::/64") as network:
        source_host, replica_host = network.add_host("source"), network.add_host("replica")
        leaf = pki.authority.issue("proxy", f"p-{flavour.value}.example", "--ip", source_host.address6 or "")
        source_side = RouteConfig(
            source=f"unix:{tmp_path}/source/mysqld.sock",
            listen=f"[{source_host.address6}]:3307",
            allow=["fd77::/64"],
            replicas=[{"identity": "replica-1.example", "accounts": ["repl"], "server_ids": [2]}],
            replica_tls=pki.replica_tls(certificate=leaf.certificate, key=leaf.key),
        )
        replica_side = RouteConfig(
            source=f"[{source_host.address6}]:3307",
            listen="127.0.0.1:3307",
            replicas=[{"name": "local", "accounts": ["repl"]}],
            source_tls=pki.source_tls(certificate=pki.replica.certificate, key=pki.replica.key),
        )
        source = Server(tmp_path / "source", flavour, server_id=1, host=source_host)
        replica = Server(tmp_path / "replica", flavour, server_id=2, host=replica_host)
        with source, replica:
            source_side.source = f"unix:{source.socket_path}"
            source.create_replication_account("repl", PASSWORD)
            near = network.open_capture(tmp_path / "wire.pcap")
            far = replica_host.open_capture(tmp_path / "lo.pcap", interface="lo")
            with (
                proxy_on(source_host, tmp_path / "s", source_side) as near_source,
                proxy_on(replica_host, tmp_path / "r", replica_side) as near_replica,
            ):
                for proxy in (near_source, near_replica):
                    proxy.wait_for_log('"event": "listening"')
                table = Table(source, "secret_schema")
                options = {} if flavour.is_mariadb else {"get_source_public_key": True}
                with replicating(replica, 3307, user="repl", **options):
                    replica.wait_for_replication()
                    source.sql("INSERT INTO secret_schema.orders (body) VALUES (%s)", MARKER * 100)
                    table.assert_same_on(replica)
            wire, loopback = near.stop(), far.stop()
    needles = [MARKER, b"secret_schema", b"repl\x00", b"INSERT", b"binlog"]
    assert clear_text_hits(wire, needles) == []
    assert sum(stream.size for stream in tcp_streams(wire)) > len(MARKER) * 100
    # The look can fail: on the replica's own loopback, where the plaintext leg runs, the same needle is found.
    assert clear_text_hits(loopback, [MARKER])
