"""The alert rules: right for two versions of Prometheus, about metrics that exist, each seen to fire and not to."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable

import pytest

from audit.findings import Status
from monitor.verdicts import Verdict
from proxy.outcomes import Reason, Stage
from testbed.observability import amtool, promtool
from tests.grafana.alert_rules import ALERTS, CASES, GRAFANA, RECORDED, RULE_FILES, RUNBOOKS, TEST_FILES, known_metrics
from tests.grafana.promql import Expression, parsed

# By label: every value that a program gives it, where these are an enumeration.
VALUES: dict[str, set[str]] = {
    "verdict": set(Verdict),
    "stage": set(Stage),
    "reason": {*Reason, "idle"},
    "status": set(Status),
    "version": {"SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"},
}
RUNBOOK_URL = '{{{{ or $externalLabels.binlock_runbooks "grafana/runbooks" }}}}/{}.md'
BUNDLES = ("prometheus", "prometheus-sid")


def run(command: Iterable[str]) -> str:
    done = subprocess.run(list(command), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def expressions() -> dict[str, Expression]:
    return parsed([*(alert.expression for alert in ALERTS), *RECORDED.values()])


@pytest.mark.parametrize("bundle", BUNDLES)
def test_promtool_finds_nothing_to_say(bundle: str) -> None:
    said = run(promtool(bundle, "check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES))
    assert said.count("SUCCESS") == len(RULE_FILES)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_each_case_ends_as_it_says(bundle: str) -> None:
    assert run(promtool(bundle, "test", "rules", *TEST_FILES)).count("SUCCESS") == len(TEST_FILES)


@pytest.mark.parametrize("bundle", ["alertmanager", "alertmanager-sid"])
def test_amtool_takes_the_example_of_alertmanagers_configuration(bundle: str) -> None:
    assert "SUCCESS" in run(amtool(bundle, "check-config", GRAFANA / "alertmanager.yml"))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name}-{alert.severity}")
def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_nothing_does(alert) -> None:  # type: ignore[no-untyped-def]
    fired = [
        {expected["exp_labels"]["severity"] for expected in case["exp_alerts"]}
        for case in CASES
        if case["alertname"] == alert.name
    ]
    assert any(alert.severity in severities for severities in fired)
    assert set() in fired


def test_no_case_is_about_an_alert_that_does_not_exist() -> None:
    assert {case["alertname"] for case in CASES} == {alert.name for alert in ALERTS}


def test_no_description_has_a_template_that_failed() -> None:
    texts = [text for case in CASES for alert in case["exp_alerts"] for text in alert["exp_annotations"].values()]
    assert texts
    assert not [text for text in texts if re.search(r"<no value>|error expanding|\{\{|%!", text)]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name}-{alert.severity}")
def test_each_alert_says_what_it_is_and_has_a_runbook(alert) -> None:  # type: ignore[no-untyped-def]
    labels, annotations = alert.rule["labels"], alert.rule["annotations"]
    assert re.fullmatch(r"Binlock([A-Z][a-z]*\d*)+", alert.name)
    assert labels["severity"] in {"critical", "warning", "info"}
    assert labels["component"] in {"proxy", "monitor", "audit"}
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["description"].endswith(".")
    assert annotations["runbook_url"] == RUNBOOK_URL.format(alert.name)
    assert (RUNBOOKS / f"{alert.name}.md").is_file()


def test_severities_of_one_alert_differ() -> None:
    seen = [(alert.name, alert.severity) for alert in ALERTS]
    assert len(seen) == len(set(seen))


def test_every_expression_asks_for_metrics_and_labels_that_exist(expressions: dict[str, Expression]) -> None:
    known = known_metrics()
    assert mistakes(expressions, known) == []


def test_every_value_that_is_asked_for_can_occur(expressions: dict[str, Expression]) -> None:
    assert unknown_values(expressions) == []


def test_a_mistake_is_found() -> None:
    wrong = parsed(
        [
            "binlock_monitor_captures_up == 0",
            'binlock_proxy_refusals_total{cause="x"}',
            'binlock_proxy_refusals_total{reason=~"key_limit|key_limits"}',
            "sum by (instance, rout) (binlock_proxy_replica_connected)",
            "binlock_proxy_replica_connected >",
        ]
    )
    assert len(mistakes(wrong, known_metrics())) == 4
    assert unknown_values(wrong) == ["reason=key_limits"]


def mistakes(expressions: dict[str, Expression], known: dict[str, set[str]]) -> list[str]:
    """What does not parse, and metrics and labels that nobody has."""
    found = []
    for text, expression in expressions.items():
        if expression.errors:
            found.append(f"cannot be parsed: {text}")
            continue
        for selector in expression.selectors:
            if selector.metric not in known:
                found.append(f"no metric {selector.metric}: {text}")
            elif not selector.matchers.keys() <= known[selector.metric]:
                found.append(f"{selector.metric} has no {selector.matchers.keys() - known[selector.metric]}: {text}")
        labels = set().union(*(known.get(selector.metric or "", set()) for selector in expression.selectors))
        if labels and not expression.grouped <= labels | expression.made:
            found.append(f"no label {expression.grouped - labels}: {text}")
    return found


def unknown_values(expressions: dict[str, Expression]) -> list[str]:
    """Values of enumerated labels that no program gives."""
    return [
        f"{label}={value}"
        for expression in expressions.values()
        for selector in expression.selectors
        for label, (_, values) in selector.matchers.items()
        for value in values.split("|")
        if label in VALUES and value not in VALUES[label]
    ]
