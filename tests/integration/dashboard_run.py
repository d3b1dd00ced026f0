"""A site on which everything happens that a dashboard shows, and what two versions of Prometheus say of it.

`python -m tests.integration.dashboard_run` draws the pictures of docs/pictures anew from such a run of two minutes.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grafana.__main__ import FOLDER
from grafana.drawing.answers import Answers, Window, answers
from grafana.drawing.pictures import draw
from testbed.servers import Server
from tests.integration.conftest import Pair
from tests.integration.lab import PASSWORD, Leaf, RouteConfig
from tests.integration.observed import ACCOUNT, PROXY_PORT, ObservedSite
from tests.integration.semi_sync import semi_synchronous

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
# Of the second route, which observes and refuses nothing that it only has to observe.
OBSERVING_PORT = 3308
OBSERVING = "reports"
# Scrapes are a second apart here; Grafana would take four of them at least.
RATE_SECONDS = 10
MOST_POINTS = 240


class DashboardSite(ObservedSite):
    """An observed site with a second route, that observes, and clients that do what they should not."""

    def routes(self) -> list[RouteConfig]:
        [orders] = super().routes()
        # A socket's path would be this machine's, and stand in the pictures.
        orders.source = f"127.0.0.1:{self.source.port}"
        observing = RouteConfig(
            name=OBSERVING,
            source=orders.source,
            listen=f"{self.source_host.address}:{OBSERVING_PORT}",
            allow=orders.allow,
            replicas=[{"identity": "replica-9.example", "accounts": [ACCOUNT], "server_ids": [9]}],
            replica_tls=orders.replica_tls,
            more={"enforce": False},
        )
        return [orders, observing]

    @property
    def leaves(self) -> dict[str, Leaf]:
        """What the replicas show, by name without the domain."""
        return self._leaves

    def client(self, port: int, *words: str, statement: str = "SELECT CURRENT_USER()") -> None:
        """The command-line client on the replicas' host, let in or not."""
        base = [*self.flavour.client("mysql"), "--no-defaults", "--protocol=tcp", f"--host={self.source_host.address}"]
        login = [f"--port={port}", f"--user={ACCOUNT}", f"--password={PASSWORD}", "--connect-timeout=10"]
        with self.replica_host.popen(
            [*base, *login, *words, f"--execute={statement}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            process.wait(30)

    def tls_words(self, version: str) -> list[str]:
        """What a client is told that has the certificate of a replica."""
        leaf = self.leaves["replica-2"]
        files = [f"--ssl-ca={self.authority.ca}", f"--ssl-cert={leaf.certificate}", f"--ssl-key={leaf.key}"]
        return ["--ssl-mode=VERIFY_CA", f"--tls-version={version}", *files]

    @contextmanager
    def being_written(self) -> Iterator[None]:
        """Commits of changing size, some a second, for the duration."""
        done = threading.Event()

        def write() -> None:
            number = 0
            while not done.wait(0.08):
                number += 1
                self.table.insert(1 + number // 40 % 5, 200 + 900 * (number % 7))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            done.set()
            writer.join()


def misbehave(site: DashboardSite) -> None:
    """Clients that are refused, at several stages, and let pass where it is only observed; and one in the clear."""
    in_the_clear = ["--ssl-mode=DISABLED", "--get-server-public-key"]
    site.client(PROXY_PORT, *in_the_clear)
    site.client(PROXY_PORT, "--ssl-mode=REQUIRED")
    site.client(PROXY_PORT, "--user=root", *site.tls_words("TLSv1.3"))
    # Refused as commands, over TLS 1.2, whose certificates the monitor sees.
    site.client(PROXY_PORT, *site.tls_words("TLSv1.2"), statement="SELECT 1 FROM mysql.user")
    site.client(OBSERVING_PORT, *site.tls_words("TLSv1.2"))
    site.client(site.source.port, *in_the_clear, statement="SELECT SLEEP(2)")


def live(site: DashboardSite, seconds: float) -> Window:
    """Lets everything happen: replication in the clear and its end, refusals, reloads, semi-synchronous commits.

    Args:
        site: as it starts.
        seconds: how long it takes about, in addition to what the servers take.

    Returns:
        The time in which it happened.
    """
    started = time.time()
    with site.being_written(), semi_synchronous(Pair(site.source, site.settled), timeout_seconds=1) as semi_sync:
        semi_sync.enable_replica()
        time.sleep(seconds / 5)
        site.replicate_in_the_clear(site.moving)
        time.sleep(seconds / 10)
        misbehave(site)
        site.moving.reset_replication()
        site.replicate_through_proxy(site.moving)
        reload_badly_and_well(site, seconds / 10)
        misbehave(site)
        time.sleep(seconds / 5)
        revoke_and_renew(site, "replica-1", seconds / 10)
        restart_replication(site.settled, seconds / 10)
        site.moving.wait_for_replication()
        site.settled.wait_for_replication()
        time.sleep(max(4.0, seconds / 5))
        ended = time.time() - 1
    return Window(started, ended, max(1.0, round((ended - started) / MOST_POINTS)), RATE_SECONDS)


def reload_badly_and_well(site: DashboardSite, seconds: float) -> None:
    """A configuration that cannot be used is on disk for a while; then one that can."""
    mark = site.proxy.mark()
    site.proxy.config.write_text("[[route]]\nname = 1\n")
    site.proxy.wait_for_event("reload_failed", after=mark)
    time.sleep(max(2.0, seconds))
    mark = site.proxy.mark()
    site.proxy.write_config()
    site.proxy.wait_for_event("reloaded", after=mark)


def revoke_and_renew(site: DashboardSite, name: str, seconds: float) -> None:
    """A replica's certificate is revoked under its stream, and it gets another one."""
    mark = site.proxy.mark()
    site.authority.revoke(f"{name}.example")
    site.proxy.wait_for_event("session_ended", matches=lambda event: event["reason"] == "revoked", after=mark)
    time.sleep(seconds)
    site.leaves[name].become(site.authority.issue_again("replica", f"{name}.example"))


def restart_replication(replica: Server, seconds: float) -> None:
    """The replica is gone for a while."""
    replica.stop_replication()
    time.sleep(max(2.0, seconds))
    replica.start_replication()


def asked(site: DashboardSite, version: str, window: Window) -> dict[str, Answers]:
    """What one version of Prometheus answers to every dashboard, by its uid."""
    prometheus = site.watchers[version].prometheus
    return {uid: answers(board, window, prometheus.query, prometheus.query_range) for uid, board in BOARDS.items()}


def draw_one(uid: str, answered: dict[str, Answers], window: Window, folder: Path) -> Path:
    """A picture of a dashboard; the file."""
    path = folder / f"dashboard-{uid.removeprefix('binlock-')}.png"
    draw(BOARDS[uid], answered[uid], window, path)
    return path


def main() -> None:
    """Runs for two minutes and draws."""
    with (
        tempfile.TemporaryDirectory() as folder,
        DashboardSite(Path(folder) / "site") as site,
    ):
        window = live(site, 100)
        PICTURES.mkdir(exist_ok=True)
        answered = asked(site, "-sid", window)
        for uid in BOARDS:
            draw_one(uid, answered, window, PICTURES)


if __name__ == "__main__":
    main()
