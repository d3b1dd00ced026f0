"""`binlock-monitor run` beside a real source and its replica: found at once, also late, and told apart from TLS."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from testbed.fetch import bundle
from testbed.flavours import Flavour
from testbed.hosts import Host, Network
from testbed.programs import Program
from tests.endpoint.promtool import complaints
from tests.integration.conftest import MODERN, Pki
from tests.integration.lab import BIN, PASSWORD, PROMPTLY_SECONDS, WAIT_SECONDS
from tests.monitor.matrix.stand import SCHEMA, Stand

LISTEN_PORT = 9308
# Where nobody is root, there is no other user to become.
USER = "nobody" if os.geteuid() == 0 else ""
# What no output may have: the password, a statement, a schema, a row. Rows are x, many times.
NEEDLES = (PASSWORD, "INSERT", "CREATE", SCHEMA, "xxxxxxxx", "@master", "@source")


class MonitorProgram:
    """A running `binlock-monitor run` on a stand's loopback interface."""

    def __init__(self, host: Host, port: int, log: Path, *options: str) -> None:
        self._host = host
        self.served = ""
        self.program = Program(
            [
                BIN / "binlock-monitor", "run", "--interface", "lo", "--port", str(port), "--user", USER,
                "--listen", f"127.0.0.1:{LISTEN_PORT}", *options,
            ],
            log=log,
            host=host,
        )  # fmt: skip

    def __enter__(self) -> MonitorProgram:
        self.program.start()
        self.program.wait_for_log('"event": "started"')
        return self

    def __exit__(self, *_: object) -> None:
        if self.program.running:
            self.program.kill()

    def events(self, *names: str) -> list[dict[str, Any]]:
        whole = self.program.log().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if line["event"] in names]

    def wait_for(
        self, *names: str, matches: Callable[[dict[str, Any]], bool] = lambda _: True, count: int = 1
    ) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            found = [event for event in self.events(*names) if matches(event)]
            if len(found) >= count:
                return found[count - 1]
            time.sleep(0.02)
        raise AssertionError(f"no {names} in the log:\n{self.program.log()[-4000:]}")

    def wait_for_verdict(self, verdict: str) -> dict[str, Any]:
        return self.wait_for("flow_found", "flow_changed", matches=lambda event: event["verdict"] == verdict)

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", LISTEN_PORT)
        connection.sock = self._host.open_connection("127.0.0.1", LISTEN_PORT)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        assert response.status == http.client.OK
        self.served += body
        return body

    def flows(self) -> list[dict[str, Any]]:
        return list(json.loads(self.get("/flows")))

    def metric(self, name: str, **labels: str) -> float | None:
        """The sum over what has these labels; None where there is no such series."""
        values = [
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics"))
            for sample in family.samples
            if sample.name == name and sample.labels.items() >= labels.items()
        ]
        return sum(values) if values else None

    def wait_for_metric(self, name: str, value: float, **labels: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while (seen := self.metric(name, **labels)) != value:
            assert time.monotonic() < deadline, f"{name}{labels} is {seen}"
            time.sleep(0.05)

    def stop(self) -> list[dict[str, Any]]:
        """Ends it in order; returns the log, after a look for what must not be in any output."""
        assert self.program.terminate() == 0
        assert [needle for needle in NEEDLES if needle in self.served + self.program.log()] == []
        assert self.events("defect") == []
        return [json.loads(line) for line in self.program.log().splitlines()]


@pytest.fixture(scope="module", params=MODERN, ids=lambda flavour: flavour.value)
def stand(request: pytest.FixtureRequest, pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    flavour: Flavour = request.param
    with (
        Network() as network,
        Stand(flavour, network.add_host("host"), tmp_path_factory.mktemp("monitored"), pki.authority) as made,
    ):
        yield made


@pytest.fixture
def start(stand: Stand, tmp_path: Path) -> Iterator[Callable[..., MonitorProgram]]:
    # The former replica's would be sent what happens now, in the clear, until the source notices that it is gone.
    stand.pair.end_dumps()
    started: list[MonitorProgram] = []

    def begin(*options: str) -> MonitorProgram:
        monitor = MonitorProgram(stand.host, stand.source.port, tmp_path / f"monitor-{len(started)}.log", *options)
        started.append(monitor)
        return monitor.__enter__()

    yield begin
    for monitor in started:
        monitor.__exit__()


def run_ip(host: Host, state: str) -> None:
    host.run([*bundle("iproute2").command("ip"), "link", "set", "lo", state])


def seconds_late(found: dict[str, Any]) -> float:
    """From the packet that proved it to the line in the log, by one clock."""
    written, seen = (datetime.fromisoformat(found[name]) for name in ("time", "last_seen"))
    return (written - seen).total_seconds()


def test_a_replica_in_the_clear_is_found_within_a_second_and_the_alert_resolves(
    stand: Stand, start: Callable[..., MonitorProgram]
) -> None:
    monitor = start()
    pair = {"source": "127.0.0.1", "replica": "127.0.0.1"}
    active, total = "binlock_monitor_plaintext_replication_active", "binlock_monitor_flows_total"
    assert monitor.metric(active, **pair) is None
    assert monitor.metric(total, verdict="plaintext-replication") == 0
    with stand.replicating():
        stand.work()
        found = monitor.wait_for_verdict("plaintext-replication")
        assert found["level"] == "warning"
        assert found["server"] == f"127.0.0.1:{stand.source.port}"
        assert found["interface"] == "lo"
        assert found["mid_stream"] is False
        assert found["evidence"]
        assert seconds_late(found) < PROMPTLY_SECONDS
        monitor.wait_for_metric(active, 1, **pair)
        shown = next(flow for flow in monitor.flows() if flow["client"] == found["client"])
        assert (shown["verdict"], shown["incomplete"]) == ("plaintext-replication", False)
    # The source notices that its replica has left when it next sends something.
    stand.work()
    ended = monitor.wait_for("flow_ended", matches=lambda event: event["client"] == found["client"])
    assert ended["verdict"] == "plaintext-replication"
    assert ended["bytes"] > 1000
    monitor.wait_for_metric(active, 0, **pair)
    assert monitor.metric("binlock_monitor_packets_dropped_total", interface="lo") == 0
    assert complaints(monitor.get("/metrics")) == []
    assert monitor.stop()[-1]["event"] == "stopped"


def test_a_monitor_that_starts_later_finds_it_with_the_next_event(
    stand: Stand, start: Callable[..., MonitorProgram]
) -> None:
    with stand.replicating():
        stand.work()
        monitor = start()
        stand.work()
        found = monitor.wait_for_verdict("plaintext-replication")
        assert found["mid_stream"] is True
        assert found["server"] == f"127.0.0.1:{stand.source.port}"
        assert seconds_late(found) < PROMPTLY_SECONDS
        monitor.stop()


def test_a_replica_over_tls_is_tls(pki: Pki, stand: Stand, start: Callable[..., MonitorProgram]) -> None:
    monitor = start()
    with stand.replicating(tls=pki.authority.replica_tls(None)):
        stand.work()
        found = monitor.wait_for_verdict("tls")
        assert found["level"] == "info"
        assert found["tls"]["version"] == "TLSv1.3"
        monitor.wait_for_metric("binlock_monitor_flows_active", 0, verdict="plaintext-replication")
        tls = {"version": found["tls"]["version"], "cipher": found["tls"]["cipher"]}
        assert (monitor.metric("binlock_monitor_tls_flows_total", **tls) or 0) >= 1
    assert not [line for line in monitor.stop() if line.get("verdict") == "plaintext-replication"]


def test_it_runs_without_privileges_and_masked_it_shows_no_address(
    stand: Stand, start: Callable[..., MonitorProgram]
) -> None:
    monitor = start("--mask", "--log-level", "debug")
    if USER:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{monitor.program.pid}/status").read_text().splitlines()
        )
        assert "0" not in status["Uid"].split()
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert status["NoNewPrivs"].strip() == "1"
    with stand.replicating():
        stand.work()
        found = monitor.wait_for_verdict("plaintext-replication")
        assert found["server"].startswith("host-")
        source = found["server"].split(":")[0]
        monitor.wait_for_metric("binlock_monitor_plaintext_replication_active", 1, source=source)
        assert found["client"] in {flow["client"] for flow in monitor.flows()}
    log = monitor.stop()
    for line in log:
        line.pop("listen", None)
    assert "127.0.0.1" not in json.dumps(log)
    assert "127.0.0.1" not in monitor.served


def test_sigint_ends_it_in_order(start: Callable[..., MonitorProgram]) -> None:
    monitor = start()
    monitor.program.signal(signal.SIGINT)
    assert monitor.program.wait() == 0
    assert monitor.events("stopped")


def test_an_interface_that_was_down_is_picked_up_again(stand: Stand, start: Callable[..., MonitorProgram]) -> None:
    monitor = start()
    monitor.wait_for("capture_up")
    run_ip(stand.host, "down")
    try:
        monitor.wait_for("capture_down")
    finally:
        run_ip(stand.host, "up")
    monitor.wait_for("capture_up", count=2)
    assert monitor.metric("binlock_monitor_capture_up", interface="lo") == 1
    with stand.replicating():
        stand.work()
        monitor.wait_for_verdict("plaintext-replication")
    monitor.stop()
