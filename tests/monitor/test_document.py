"""docs/monitor.md and the code agree: fields, events, metrics, verdicts, options."""

import ast
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from monitor.command_line import main
from monitor.reporting.masking import Masking
from monitor.reporting.metrics import InterfaceReading, Metrics, Reading
from monitor.reporting.report import flow_fields
from monitor.tracking.flows import Change
from monitor.verdicts import Flow, TlsFacts, Verdict

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "monitor.md").read_text()
# Fields that a line or an object has besides those of a flow.
ADDED = {"file", "former_verdict", "interface"}


def rows(title: str) -> list[list[str]]:
    """The cells of the table that has this title for its first column."""
    lines = iter(DOCUMENT.splitlines())
    for line in lines:
        if line.startswith(f"| {title} |"):
            next(lines)
            return [
                [cell.strip() for cell in row.strip("|").split("|")]
                for row in iter(lambda: next(lines, ""), "")
                if row.startswith("|")
            ]
    raise AssertionError(f"no table of {title}")


def names(title: str) -> list[str]:
    return [row[0].strip("`") for row in rows(title)]


def logged_events() -> Iterator[str]:
    """Every event that the code logs by a name that stands in it."""
    for path in (ROOT / "monitor").glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "log_event":
                event = node.args[1]
                choices = [event.body, event.orelse] if isinstance(event, ast.IfExp) else [event]
                yield from (str(choice.value) for choice in choices if isinstance(choice, ast.Constant))


def test_every_verdict_is_explained() -> None:
    assert names("verdict") == list(Verdict)


def test_fields_are_those_of_a_flow() -> None:
    full = Flow(
        1, "10.0.0.2:1", "10.0.0.1:1", tls=TlsFacts("TLSv1.2", "c", "g", certificate_not_after=datetime.now(UTC))
    )
    fields = flow_fields(full, Masking())
    assert sorted(names("field")) == sorted(fields.keys() | ADDED)
    [tls] = [row for row in rows("field") if row[0] == "`tls`"]
    assert all(f"`{name}`" in tls[2] for name in fields["tls"])


def test_events_are_those_that_are_logged() -> None:
    of_flows = {f"flow_{change}" for change in Change}
    assert sorted(names("event")) == sorted({*logged_events(), *of_flows, "defect"})


def test_metrics_are_those_that_are_served() -> None:
    reading = Reading(
        evicted={"idle": 1},
        interfaces=[InterfaceReading("lo", is_up=True, packets=1, dropped=0, is_dropping=False)],
    )
    metrics = Metrics("1", lambda: reading)
    metrics.certificates.note("10.0.0.1:1", TlsFacts(certificate_not_after=datetime.now(UTC)))
    metrics.note_endpoint_certificate(datetime.now(UTC))
    served = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        for sample in family.samples
        if sample.name.startswith("binlock_")
    }
    documented = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows("metric")}
    assert documented == served
    assert set(re.findall(r"binlock_monitor_\w+", DOCUMENT)) == served.keys()


@pytest.mark.parametrize("command", ["run", "read"])
def test_options_that_are_named_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    offered = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    for line in re.findall(rf"binlock-monitor {command}[^\n`#]*", DOCUMENT):
        assert set(re.findall(r"--[a-z-]+", line)) <= offered


def test_no_option_is_named_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    offered: set[str] = set()
    for command in ("run", "read"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        offered |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"`(--[a-z-]+)", DOCUMENT)) <= offered
