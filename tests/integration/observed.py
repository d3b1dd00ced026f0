"""A site that is watched: source, replicas, Binlock and its monitor, scraped by Prometheus, which alerts to a webhook.

Two hosts with a wire between them. On the source's: mysqld, the proxy beside it, the monitor on the wire's interface,
and of each version one Prometheus with the repository's rules, one Alertmanager with the repository's configuration,
and one webhook. On the replicas': two mysqld. Every scrape and every query stays on the source's loopback.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from testbed.flavours import Flavour
from testbed.hosts import Host, Network
from testbed.observability import Alertmanager, HttpClient, Prometheus, Webhook
from testbed.programs import Program
from testbed.replication import ReplicaTls
from testbed.servers import Server, free_port
from tests.integration.lab import BIN, PASSWORD, Authority, Proxy, RouteConfig, Table

ROOT = Path(__file__).parents[2]
RULES = ROOT / "grafana" / "rules"
ALERTMANAGER = ROOT / "grafana" / "alertmanager.yml"
# Where grafana/alertmanager.yml sends to.
WEBHOOK_ADDRESS = "127.0.0.1:9095"
# What `make test` runs: Debian 12's, and the newest.
VERSIONS = ("", "-sid")
ACCOUNT = "repl"
PROXY_PORT = 3307
ROUTE = "orders"


class ObservedProxy(Proxy):
    """A proxy on a host, whose admin endpoint is asked there."""

    def __init__(self, folder: Path, *routes: RouteConfig, host: Host, limits: str = "") -> None:
        super().__init__(folder, *routes, host=host, limits=limits)
        self._http = HttpClient(self.admin_port, host)

    def __exit__(self, *_: object) -> None:
        self._http.close()
        super().__exit__()

    def get(self, path: str) -> str:
        status, body = self._http.get(path)
        assert status == 200, body
        return body


class Watchers:
    """One Prometheus, one Alertmanager and one webhook, which belong together.

    Attributes:
        version: what the names of the bundles end in.
    """

    def __init__(self, folder: Path, version: str, host: Host, targets: dict[str, list[int]]) -> None:
        """Nothing is started yet.

        Args:
            folder: for all that they write; it is made.
            version: one of `VERSIONS`.
            host: where they run.
            targets: ports on loopback, by the name of the job.
        """
        self.version = version
        folder.mkdir(parents=True)
        self.webhook = Webhook(folder, host=host)
        shipped = ALERTMANAGER.read_text()
        assert WEBHOOK_ADDRESS in shipped
        configuration = folder / "alertmanager.yml"
        configuration.write_text(shipped.replace(WEBHOOK_ADDRESS, f"127.0.0.1:{self.webhook.port}"))
        self.alertmanager = Alertmanager(
            folder / "alertmanager", configuration, bundle_name=f"alertmanager{version}", host=host
        )
        self.prometheus = Prometheus(
            folder / "prometheus",
            self._configuration(targets),
            bundle_name=f"prometheus{version}",
            host=host,
        )

    def _configuration(self, targets: dict[str, list[int]]) -> dict[str, Any]:
        return {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES / "*.yaml")],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [self.alertmanager.address]}]}]},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
                for job, ports in targets.items()
            ],
        }

    @contextmanager
    def running(self) -> Iterator[Self]:
        """They run for the duration."""
        with self.webhook, self.alertmanager, self.prometheus:
            yield self


class ObservedSite:
    """All of it. A context manager.

    Attributes:
        source: with binary logs, reached over the wire at its port, and by the proxy through its unix socket.
        moving: a replica that replicates from nowhere yet; server id 2, on the roster as replica-1.example.
        settled: a replica that replicates through the proxy; server id 3, on the roster as replica-2.example.
        proxy: with the route `orders`.
        monitor: `binlock-monitor run` on the wire's interface of the source's host.
        watchers: by what the names of their bundles end in.
        table: of rows that are replicated.
    """

    def __init__(self, folder: Path, flavour: Flavour = Flavour.MYSQL_9_7) -> None:
        self.folder = folder
        self.flavour = flavour
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        network = self._stack.enter_context(Network())
        self.source_host, self.replica_host = network.add_host("source"), network.add_host("replica")
        self.authority = Authority(self.folder / "pki")
        self._leaves = {name: self.authority.issue("replica", f"{name}.example") for name in ("replica-1", "replica-2")}
        self.source = Server(self.folder / "source", self.flavour, server_id=1, host=self.source_host)
        self.moving, self.settled = (
            Server(self.folder / name, self.flavour, server_id=number, host=self.replica_host, bind_address="127.0.0.1")
            for number, name in enumerate(self._leaves, start=2)
        )
        self._enter(self.source, self.moving, self.settled)
        self.source.create_replication_account(ACCOUNT, PASSWORD)
        self.proxy = self._stack.enter_context(
            ObservedProxy(self.folder / "proxy", *self.routes(), host=self.source_host)
        )
        self.monitor_port = free_port()
        self.monitor = self.start_monitor("eth0", self.monitor_port)
        self.replicate_through_proxy(self.settled)
        targets = {"binlock-proxy": [self.proxy.admin_port], "binlock-monitor": self.monitor_ports()}
        self.watchers = {
            version: Watchers(self.folder / f"watchers{version}", version, self.source_host, targets)
            for version in VERSIONS
        }
        self._enter(*(watchers.running() for watchers in self.watchers.values()))
        self.table = Table(self.source, "shop")
        self.settled.wait_for_replication()

    def _enter(self, *contexts: AbstractContextManager[Any]) -> None:
        """Enters them all at once, as each waits for a program to start; what has been entered is left at the end."""
        with ThreadPoolExecutor() as pool:
            futures = [pool.submit(self._stack.enter_context, context) for context in contexts]
        for future in futures:
            future.result()

    def routes(self) -> list[RouteConfig]:
        """The proxy's routes; the first is that of both replicas."""
        leaf = self.authority.issue("proxy", "proxy.example", "--ip", self.source_host.address)
        return [
            RouteConfig(
                name=ROUTE,
                source=f"unix:{self.source.socket_path}",
                listen=f"{self.source_host.address}:{PROXY_PORT}",
                allow=["10.77.0.0/24"],
                replicas=[
                    {"identity": "replica-1.example", "accounts": [ACCOUNT], "server_ids": [2]},
                    {"identity": "replica-2.example", "accounts": [ACCOUNT], "server_ids": [3]},
                ],
                replica_tls={
                    "certificate": leaf.certificate,
                    "key": leaf.key,
                    "ca": self.authority.ca,
                    "crl": [self.authority.crl],
                },
            )
        ]

    def replicate_in_the_clear(self, replica: Server) -> None:
        """Points a replica at the source itself, without TLS; returns at once."""
        more = {} if self.flavour.is_mariadb else {"get_source_public_key": True}
        self._replicate(replica, self.source.port, **more)

    def replicate_through_proxy(self, replica: Server) -> None:
        """Points a replica at the proxy, with its certificate; returns at once."""
        leaf = self._leaves[f"replica-{replica.server_id - 1}"]
        tls = ReplicaTls(ca=self.authority.ca, cert=leaf.certificate, key=leaf.key)
        self._replicate(replica, PROXY_PORT, tls=tls)

    def _replicate(self, replica: Server, port: int, **options: Any) -> None:
        replica.replicate_from(
            host=self.source_host.address,
            port=port,
            user=ACCOUNT,
            password=PASSWORD,
            heartbeat_period=2,
            **options,
        )

    def monitor_ports(self) -> list[int]:
        """Where monitors answer."""
        return [self.monitor_port]

    def start_monitor(self, interface: str, port: int) -> Program:
        """A monitor on the source's host that answers at the port, until the end of the site."""
        program = Program(
            [
                BIN / "binlock-monitor", "run", "--interface", interface, "--port", str(self.source.port),
                "--port", str(PROXY_PORT), "--listen", f"127.0.0.1:{port}",
                # Where nobody is root, there is no other user to become.
                "--user", "",
            ],
            log=self.folder / f"monitor-{interface}.log",
            host=self.source_host,
        )  # fmt: skip
        self._stack.enter_context(program)
        program.wait_for_log('"event": "started"')
        return program
