"""The alert and recording rules, their tests, their runbooks, and the metrics that they may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from audit.reports.structured import textfile_lines
from tests.grafana.known import EVERYWHERE, metrics

GRAFANA = Path(__file__).parents[2] / "grafana"
RULE_FILES = sorted((GRAFANA / "rules").glob("*.yaml"))
TEST_FILES = sorted((Path(__file__).parent / "alerts").glob("*.yaml"))
RUNBOOKS = GRAFANA / "runbooks"
# Labels of a pod's target, which rules leave out where it is there.
OF_PODS = {"pod"}


@dataclass(frozen=True)
class Alert:
    """One alerting rule; several of one name differ in severity."""

    name: str
    severity: str
    expression: str
    pending: str
    rule: dict[str, Any]


def _rules() -> list[dict[str, Any]]:
    return [
        rule for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
    ]


ALERTS = [
    Alert(rule["alert"], rule["labels"]["severity"], rule["expr"], rule.get("for", "0s"), rule)
    for rule in _rules()
    if "alert" in rule
]
RECORDED = {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}
CASES = [
    {**case, "file": path.stem, "when": test["name"]}
    for path in TEST_FILES
    for test in yaml.safe_load(path.read_text())["tests"]
    for case in test["alert_rule_test"]
]


def known_metrics() -> dict[str, set[str]]:
    """Labels of what programs, Prometheus and the recording rules have, by name."""
    textfile = "\n".join(textfile_lines([], 0)) + "\n"
    of_audit = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(textfile)
        for sample in family.samples
    }
    known = metrics() | of_audit
    every_label = set().union(*known.values())
    return {
        name: labels | EVERYWHERE | OF_PODS for name, labels in (known | dict.fromkeys(RECORDED, every_label)).items()
    }
