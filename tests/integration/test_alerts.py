"""A replica in the clear is told to whoever is on call, and so is the end of it: real servers, real Prometheus.

Both versions of Prometheus and Alertmanager watch one site, so that each minute is waited for once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from testbed.servers import free_port
from tests.integration.observed import ObservedSite, Watchers

# The product's contract: from the replica's connection to the webhook.
TOLD_WITHIN_SECONDS = 30
PLAINTEXT = "BinlockPlaintextReplication"


class AlertedSite(ObservedSite):
    """With a second monitor, which may be stopped while the first one is needed."""

    def monitor_ports(self) -> list[int]:
        self.spare_port = free_port()
        self.spare_monitor = self.start_monitor("lo", self.spare_port)
        return [*super().monitor_ports(), self.spare_port]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlertedSite]:
    with AlertedSite(tmp_path_factory.mktemp("observed") / "site") as made:
        yield made


def firing(watchers: Watchers) -> set[str]:
    """The alerts that Prometheus has sent on."""
    return {alert["labels"]["alertname"] for alert in watchers.prometheus.alerts() if alert["state"] == "firing"}


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.2)


def told(watchers: Watchers) -> set[str]:
    """Every alert that the webhook has heard of."""
    return {
        alert["labels"]["alertname"]
        for notification in watchers.webhook.notifications()
        for alert in notification["alerts"]
    }


def assert_healthy(watchers: Watchers) -> None:
    """Every target is scraped, every rule has been evaluated without an error, and none of them cries wolf."""
    prometheus = watchers.prometheus
    wait_until(lambda: [target["health"] for target in prometheus.targets()] == ["up"] * 3, "three targets")
    wait_until(lambda: all(rule["health"] != "unknown" for rule in prometheus.rules()), "every rule's first evaluation")
    assert [(rule["name"], rule.get("lastError")) for rule in prometheus.rules() if rule["health"] != "ok"] == []
    assert len(prometheus.rules()) > 40
    assert firing(watchers) == set()


def test_alerts_reach_the_webhook_and_so_does_their_end(site: AlertedSite) -> None:
    everybody = list(site.watchers.values())
    for watchers in everybody:
        assert_healthy(watchers)
    # These two take a minute: they begin first.
    configuration = site.proxy.config.read_text()
    site.proxy.config.write_text(configuration.replace("[[route]]", "[[rout]]"))
    site.proxy.wait_for_event("reload_failed")
    assert site.spare_monitor.terminate() == 0

    connected_seconds = time.time()
    site.replicate_in_the_clear(site.moving)
    for watchers in everybody:
        alert = watchers.webhook.wait_for(PLAINTEXT, timeout=60)
        assert alert["received_seconds"] - connected_seconds < TOLD_WITHIN_SECONDS
        assert alert["path"] == "/on-call"
        assert alert["labels"]["source"] == site.source_host.address
        assert alert["labels"]["replica"] == site.replica_host.address
        assert alert["annotations"]["runbook_url"] == f"grafana/runbooks/{PLAINTEXT}.md"
    site.moving.wait_for_replication()

    site.moving.reset_replication()
    site.replicate_through_proxy(site.moving)
    for watchers in everybody:
        resolved = watchers.webhook.wait_for(PLAINTEXT, "resolved", timeout=60)
        assert resolved["labels"]["source"] == site.source_host.address
    site.table.insert(10)
    for replica in (site.moving, site.settled):
        site.table.assert_same_on(replica)

    for watchers in everybody:
        down = watchers.webhook.wait_for("BinlockMonitorDown", timeout=120)
        assert down["labels"]["instance"] == f"127.0.0.1:{site.spare_port}"
        assert down["path"] == "/on-call"
        wait_until(lambda watchers=watchers: "BinlockReloadFailed" in firing(watchers), "the alert of the reload")  # type: ignore[misc]
    site.proxy.config.write_text(configuration)
    site.proxy.wait_for_event("reloaded")
    for watchers in everybody:
        wait_until(lambda watchers=watchers: firing(watchers) == {"BinlockMonitorDown"}, "all but one to resolve")  # type: ignore[misc]
        assert told(watchers) <= {PLAINTEXT, "BinlockMonitorDown", "BinlockReloadFailed"}
