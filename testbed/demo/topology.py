"""What the demonstration runs: four hosts, four MySQL servers, three proxies, an authority.

host      address     runs                                                    certificate
source    10.77.0.2   mysqld, port 3306: plaintext on the unix socket only,   mysqld.source.example
                      TLS and a client certificate from the network
                      binlock-proxy, port 3307                                binlock.source.example
direct    10.77.0.3   mysqld; speaks TLS to the proxy of the source           replica-direct.example
sidecar   10.77.0.4   mysqld; plaintext to a proxy on its own loopback,       replica-sidecar.example
                      which speaks TLS to the source's mysqld
tunnel    10.77.0.5   mysqld; plaintext to a proxy on its own loopback,       replica-tunnel.example
                      which speaks TLS to the proxy of the source
"""

import concurrent.futures
import contextlib
import dataclasses
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from testbed.demo.links import PASSWORD, SCHEMA, TABLE, Deployment, Link
from testbed.demo.sidecars import Authority, Sidecar, quoted
from testbed.flavours import Flavour
from testbed.hosts import Host, Network
from testbed.replication import ReplicaTls
from testbed.servers import Server

Report = Callable[[str], None]

MYSQL_PORT = 3306
PROXY_PORT = 3307
ACCOUNT_PREFIX = "binlock_"
CREATE_TABLE = f"""
CREATE TABLE {TABLE} (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    body TEXT NOT NULL,
    changed TIMESTAMP(6) NOT NULL DEFAULT NOW(6) ON UPDATE NOW(6)
)"""


@dataclasses.dataclass(frozen=True)
class Topology:
    """What runs.

    Attributes:
        source_sidecar: the proxy beside the source.
    """

    network: Network
    source_host: Host
    source: Server
    source_sidecar: Sidecar
    sidecars: tuple[Sidecar, ...]
    links: tuple[Link, ...]

    @property
    def replica_side(self) -> Link:
        """The link whose replica speaks plaintext to a proxy on its own host, and that proxy TLS to mysqld."""
        return next(link for link in self.links if link.deployment is Deployment.REPLICA_SIDE)


@contextlib.contextmanager
def running_topology(folder: Path, report: Report) -> Iterator[Topology]:
    """Everything runs, and no replica has been told to replicate; gone on exit, but for logs and certificates.

    Args:
        folder: gets `certificates`, `servers` and `proxies`; none of them is there yet.
        report: is told each step, a line of text at a time.

    Raises:
        HostError: no network namespaces here.
        ProgramError: something did not start; the text has its log's tail.
    """
    with contextlib.ExitStack() as stack:
        report("hosts: four network namespaces on one bridge")
        network = stack.enter_context(Network())
        hosts = {name: network.add_host(name) for name in ("source", "direct", "sidecar", "tunnel")}
        report("certificates: an authority, and one certificate for each end of a leg")
        authority = Authority(folder / "certificates")
        source = _source_server(folder / "servers" / "source", hosts["source"], authority)
        replicas = {
            name: Server(
                folder / "servers" / name,
                Flavour.MYSQL_9_7,
                server_id=server_id,
                port=MYSQL_PORT,
                bind_address="127.0.0.1",
                host=hosts[name],
            )
            for server_id, name in enumerate(("direct", "sidecar", "tunnel"), start=2)
        }
        report("servers: a MySQL 9.7 source and three replicas; the very first time takes longer")
        stack.callback(_remove_data, folder / "servers")
        _start_servers([source, *replicas.values()], stack)
        _prepare_source(source, hosts["sidecar"])
        report("proxies: one beside the source, one beside each replica that speaks plaintext")
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="binlock-demo-")))
        plan = _Plan(folder / "proxies", sockets, hosts, authority)
        sidecars = (plan.beside_source(source), plan.beside_sidecar_replica(), plan.beside_tunnel_replica())
        for sidecar in sidecars:
            stack.enter_context(sidecar)
        links = _links(hosts, source, replicas, authority, sidecars)
        yield Topology(network, hosts["source"], source, sidecars[0], sidecars, links)


def _source_server(folder: Path, host: Host, authority: Authority) -> Server:
    leaf = authority.issue("source", "mysqld.source.example")
    options: dict[str, str | Path] = {
        # The one plaintext way in is the unix socket.
        "require-secure-transport": "ON",
        "ssl-ca": authority.ca,
        "ssl-crl": authority.crl,
        "ssl-cert": leaf.certificate,
        "ssl-key": leaf.key,
        # The SQL goes into the binary log beside the rows, so that there is more to look for in the packets.
        "binlog-rows-query-log-events": "ON",
    }
    addresses = f"127.0.0.1,{host.address}"
    return Server(
        folder, Flavour.MYSQL_9_7, server_id=1, port=MYSQL_PORT, bind_address=addresses, host=host, options=options
    )


def _start_servers(servers: Sequence[Server], stack: contextlib.ExitStack) -> None:
    """Start all at the same time."""
    # Before the first is started: whatever interrupts, the stack ends those that run.
    for server in servers:
        stack.push(server)
    starts = _Starts()
    try:
        with concurrent.futures.ThreadPoolExecutor(len(servers)) as threads:
            for started in [threads.submit(starts.run, server) for server in servers]:
                started.result()
    finally:
        starts.finish()


class _Starts:
    """Starts side by side, of which none goes on behind `finish`.

    The pool waits for threads that it knows; one that was just begun when an interruption came it may not know.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._is_over = False

    def run(self, server: Server) -> None:
        """Start one, unless it is too late."""
        with self._changed:
            if self._is_over:
                return
            self._running += 1
        try:
            server.start()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def finish(self) -> None:
        """Wait for those that have begun; no other begins any more."""
        with self._changed:
            self._is_over = True
            self._changed.wait_for(lambda: not self._running)


def _prepare_source(source: Server, sidecar_host: Host) -> None:
    """One account for each replica, usable in its own way only, and the table."""
    plugin = "caching_sha2_password"
    # Over the unix socket, which is to say through the proxy and never from the network.
    for name in ("direct", "tunnel"):
        source.create_replication_account(ACCOUNT_PREFIX + name, PASSWORD, host="localhost", plugin=plugin)
    source.create_replication_account(
        f"{ACCOUNT_PREFIX}sidecar",
        PASSWORD,
        host=sidecar_host.address,
        plugin=plugin,
        require="SUBJECT '/CN=replica-sidecar.example'",
    )
    source.sql(f"CREATE DATABASE {SCHEMA}")
    source.sql(CREATE_TABLE)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """How each proxy is configured."""

    folder: Path
    sockets: Path
    hosts: dict[str, Host]
    authority: Authority

    def beside_source(self, source: Server) -> Sidecar:
        """Takes TLS with a client certificate from the network, and goes on over the unix socket."""
        host = self.hosts["source"]
        leaf = self.authority.issue("source", "binlock.source.example", "--ip", host.address)
        allowed = ", ".join(quoted(self.hosts[name].address) for name in ("direct", "tunnel"))
        roster = "\n".join(_roster_entry(name, server_id, True) for name, server_id in (("direct", 2), ("tunnel", 4)))
        return self._sidecar(
            "source",
            f"""[[route]]
name = "orders"
listen = {quoted(f"{host.address}:{PROXY_PORT}")}
allow = [{allowed}]

[route.replica_tls]
{self.authority.tls_lines(leaf)}

[route.source]
address = {quoted(f"unix:{source.socket_path}")}

{roster}""",
        )

    def beside_sidecar_replica(self) -> Sidecar:
        """Takes plaintext from its own loopback, and goes on in TLS to mysqld itself."""
        return self._beside_replica("sidecar", 3, MYSQL_PORT, "mysqld.source.example")

    def beside_tunnel_replica(self) -> Sidecar:
        """Takes plaintext from its own loopback, and goes on in TLS to the proxy of the source."""
        return self._beside_replica("tunnel", 4, PROXY_PORT, "binlock.source.example")

    def _beside_replica(self, name: str, server_id: int, port: int, server_name: str) -> Sidecar:
        leaf = self.authority.issue("replica", f"replica-{name}.example")
        return self._sidecar(
            name,
            f"""[[route]]
name = "orders"
listen = "127.0.0.1:{PROXY_PORT}"
allow = ["127.0.0.1"]

[route.source]
address = {quoted(f"{self.hosts['source'].address}:{port}")}

[route.source.tls]
server_name = {quoted(server_name)}
{self.authority.tls_lines(leaf)}

{_roster_entry(name, server_id, False)}""",
        )

    def _sidecar(self, name: str, routes: str) -> Sidecar:
        return Sidecar(name, self.folder, host=self.hosts[name], sockets=self.sockets, routes=routes)


def _roster_entry(name: str, server_id: int, has_identity: bool) -> str:
    """A roster entry; without TLS there is no identity to verify."""
    identity = f'identity = "replica-{name}.example"\n' if has_identity else ""
    return (
        f'[[route.replica]]\nname = "replica-{name}"\n{identity}'
        f'accounts = ["{ACCOUNT_PREFIX}{name}"]\nserver_ids = [{server_id}]\n'
    )


def _links(
    hosts: dict[str, Host],
    source: Server,
    replicas: dict[str, Server],
    authority: Authority,
    sidecars: Sequence[Sidecar],
) -> tuple[Link, ...]:
    beside_source, beside_sidecar_replica, _ = sidecars
    own = authority.issue("replica", "replica-direct.example")
    tls = ReplicaTls(ca=authority.ca, crl=authority.crl, cert=own.certificate, key=own.key)
    network_leg = (hosts["source"].address, PROXY_PORT)
    loopback_leg = ("127.0.0.1", PROXY_PORT)
    ways = {
        "direct": (Deployment.SOURCE_SIDE, network_leg, tls, beside_source, "replica"),
        "sidecar": (Deployment.REPLICA_SIDE, loopback_leg, None, beside_sidecar_replica, "source"),
        "tunnel": (Deployment.TUNNEL, loopback_leg, None, beside_source, "replica"),
    }
    return tuple(
        Link(
            name=f"replica-{name}",
            deployment=deployment,
            host=hosts[name],
            replica=replicas[name],
            account=ACCOUNT_PREFIX + name,
            identity=f"replica-{name}.example",
            connect_to=connect_to,
            tls=own_tls,
            sidecar=sidecar,
            leg=leg,
            source=source,
        )
        for name, (deployment, connect_to, own_tls, sidecar, leg) in ways.items()
    )


def _remove_data(servers: Path) -> None:
    """Delete what the servers stored; their logs stay."""
    for data in servers.glob("*/data"):
        shutil.rmtree(data, ignore_errors=True)
