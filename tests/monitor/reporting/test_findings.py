"""What becomes of a finding: its line in the log, at its level, within the bound, and its series."""

import io
import json
import logging
from typing import Any

import pytest
from prometheus_client import generate_latest

from monitor.reporting.findings import Findings
from monitor.reporting.logs import logger, set_up_logging
from monitor.reporting.masking import Masking
from monitor.reporting.metrics import Metrics, Reading
from monitor.tracking.flows import Change
from monitor.verdicts import Flow, TlsFacts, Verdict
from tests.monitor.reporting.test_metrics import pairs, samples


class Recorded:
    """Findings, and the log lines that they came to."""

    def __init__(self, level: str = "info", masking: Masking | None = None) -> None:
        set_up_logging(level, "json")
        self._written = io.StringIO()
        [handler] = logger.handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(self._written)
        self.metrics = Metrics("1", Reading)
        self.findings = Findings(masking or Masking(), self.metrics)

    def lines(self) -> list[dict[str, Any]]:
        """Those that were not returned before."""
        lines = [json.loads(line) for line in self._written.getvalue().splitlines()]
        self._written.seek(0)
        self._written.truncate()
        return lines


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    monkeypatch.setattr("monitor.reporting.findings.time.time", lambda: 1000.0)
    return Recorded()


def flow(verdict: Verdict, number: int = 1, **more: Any) -> Flow:
    return Flow(number, "10.0.0.2:40000", "10.0.0.1:3306", verdict, ["seen"], **more)


def test_replication_in_the_clear_is_a_warning_and_a_series_until_it_ends(recorded: Recorded) -> None:
    recorded.findings.interface = "eth0"
    recorded.findings.take(Change.FOUND, flow(Verdict.PLAINTEXT_REPLICATION))
    recorded.findings.interface = ""
    assert pairs(recorded.metrics)["10.0.0.1", "10.0.0.2"] == 1
    recorded.findings.take(Change.ENDED, flow(Verdict.PLAINTEXT_REPLICATION))
    assert pairs(recorded.metrics)["10.0.0.1", "10.0.0.2"] == 0
    found, ended = recorded.lines()
    assert (found["level"], found["event"], found["interface"]) == ("warning", "flow_found", "eth0")
    assert (found["client"], found["server"], found["evidence"]) == ("10.0.0.2:40000", "10.0.0.1:3306", ["seen"])
    assert (ended["level"], ended["event"], ended["interface"]) == ("info", "flow_ended", "eth0")


def test_a_change_says_what_the_verdict_was(recorded: Recorded) -> None:
    recorded.findings.take(Change.FOUND, flow(Verdict.PLAINTEXT_CLIENT))
    recorded.findings.take(Change.CHANGED, flow(Verdict.PLAINTEXT_REPLICATION))
    found, changed = recorded.lines()
    assert (found["level"], found["event"]) == ("info", "flow_found")
    assert (changed["level"], changed["event"]) == ("warning", "flow_changed")
    assert (changed["former_verdict"], changed["verdict"]) == ("plaintext-client", "plaintext-replication")
    assert pairs(recorded.metrics)["10.0.0.1", "10.0.0.2"] == 1


def test_a_flow_that_is_tls_after_all_leaves_the_alarm(recorded: Recorded) -> None:
    recorded.findings.take(Change.FOUND, flow(Verdict.PLAINTEXT_REPLICATION))
    recorded.findings.take(Change.CHANGED, flow(Verdict.TLS))
    assert pairs(recorded.metrics)["10.0.0.1", "10.0.0.2"] == 0


def test_tls_is_counted_by_version_and_cipher_once(recorded: Recorded) -> None:
    tls = flow(Verdict.TLS, tls=TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384"))
    other = flow(Verdict.TLS, 2, tls=tls.tls)

    def seen(name: str) -> list[float]:
        return [
            value
            for (family, labels), value in samples(recorded.metrics).items()
            if family == f"binlock_monitor_tls_flows_{name}" and "TLSv1.3" in labels
        ]

    recorded.findings.take(Change.FOUND, tls)
    recorded.findings.take(Change.FOUND, other)
    assert (seen("total"), seen("active")) == ([2], [2])
    recorded.findings.take(Change.ENDED, tls)
    assert (seen("total"), seen("active")) == ([2], [1])
    recorded.findings.take(Change.CHANGED, flow(Verdict.PLAINTEXT_CLIENT, 2))
    assert (seen("total"), seen("active")) == ([2], [0])


@pytest.mark.parametrize("verdict", [Verdict.UNDECIDED, Verdict.NOT_MYSQL])
def test_what_matters_to_nobody_is_for_debug(verdict: Verdict) -> None:
    for level, expected in (("info", []), ("debug", ["debug"])):
        recorded = Recorded(level)
        recorded.findings.take(Change.ENDED, flow(verdict))
        assert [line["level"] for line in recorded.lines()] == expected


def test_churn_is_bounded_and_what_is_kept_back_is_counted_and_alarms_are_not_kept_back(recorded: Recorded) -> None:
    for number in range(100):
        recorded.findings.take(Change.FOUND, flow(Verdict.PLAINTEXT_CLIENT, number))
    recorded.findings.take(Change.FOUND, flow(Verdict.PLAINTEXT_REPLICATION, 100))
    recorded.findings.settle(1000.0)
    lines = recorded.lines()
    assert len(lines) == 22
    assert lines[20]["verdict"] == "plaintext-replication"
    assert (lines[21]["event"], lines[21]["flow_found"]) == ("lines_suppressed", 80)
    assert recorded.findings.lines_suppressed == 80
    recorded.findings.settle(1001.0)
    assert recorded.lines() == []


def test_quiet_flows_take_nothing_of_the_bound(recorded: Recorded) -> None:
    for number in range(100):
        recorded.findings.take(Change.ENDED, flow(Verdict.NOT_MYSQL, number))
    recorded.findings.take(Change.FOUND, flow(Verdict.TLS, 100))
    assert len(recorded.lines()) == 1


def test_alarms_have_a_bound_too(recorded: Recorded) -> None:
    for number in range(700):
        recorded.findings.take(Change.FOUND, flow(Verdict.PLAINTEXT_REPLICATION, number))
    assert len(recorded.lines()) == 500


def test_masking_reaches_log_and_series() -> None:
    recorded = Recorded(masking=Masking.fresh())
    recorded.findings.take(Change.FOUND, flow(Verdict.PLAINTEXT_REPLICATION))
    said = json.dumps(recorded.lines()) + generate_latest(recorded.metrics.registry).decode()
    assert "host-" in said
    assert "10.0.0" not in said


def test_flows_that_are_over_are_forgotten(recorded: Recorded) -> None:
    for number in range(10):
        recorded.findings.take(Change.FOUND, flow(Verdict.TLS, number))
        recorded.findings.take(Change.ENDED, flow(Verdict.TLS, number))
    assert recorded.findings._known == {}
