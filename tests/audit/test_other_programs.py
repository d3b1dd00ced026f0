"""What others read, by their own judges: SARIF by the schema of the standard, the textfile by Prometheus' promtool."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.catalogue import CHECKS
from audit.facts import Role, Topology, Unreachable
from audit.findings import Finding
from audit.judging import judge
from audit.reports.structured import sarif_document, textfile_lines
from testbed.fetch import bundle
from testbed.node import NODE, packages
from tests.audit.facts_of import CHANNEL, DUMP, FILES, findings, replica, source

FOLDER = Path(__file__).parent / "sarif"


def everything() -> list[Finding]:
    """Findings of every status, with fixes of every kind, about servers whose names are no URIs."""
    bad = source(
        name="/run/my sql/böse%.sock",
        dumps=(replace(DUMP, transport="TCP/IP", host="[2001:db8::1]"),),
        variables={"ssl_crl": "", "require_secure_transport": "OFF", "bind_address": "*", "log_bin": "OFF"},
        backup=None,
    )
    plain = replace(CHANNEL, has_tls=False, ca="", name="it's\x1b", error="\x00")
    unread = judge(Topology((), (Unreachable("[::1]:3306", Role.SOURCE, "nobody answers"),)), FILES)
    return [*findings(bad, replica(channels=(plain,))), *unread]


def errors_by_the_schema(document: dict[str, Any]) -> list[dict[str, Any]]:
    command = [str(NODE), str(FOLDER / "validate.mjs"), str(packages(FOLDER))]
    done = subprocess.run(command, input=json.dumps(document), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    errors: list[dict[str, Any]] = json.loads(done.stdout)
    return errors


def test_sarif_is_valid_by_the_schema_of_the_standard() -> None:
    document = sarif_document(everything(), "1.0")
    assert errors_by_the_schema(document) == []
    # The judge does find faults.
    document["runs"][0]["results"][0]["level"] = "fatal"
    del document["runs"][0]["tool"]["driver"]["name"]
    assert {error["keyword"] for error in errors_by_the_schema(document)} == {"enum", "required"}


def check_metrics(text: str) -> str:
    command = [*bundle("prometheus").command("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("found", [everything(), []], ids=["everything", "nothing"])
def test_the_textfile_is_without_fault_for_promtool(found: list[Finding]) -> None:
    lines = list(textfile_lines(found, 1.5e9))
    assert check_metrics("\n".join(lines) + "\n") == ""
    # The judge does find faults.
    wrong = [line for line in lines if not line.startswith("# HELP binlock_audit_check")]
    assert f'binlock_audit_check{{check="{next(iter(CHECKS))}"' in "\n".join(wrong)
    assert "binlock_audit_check" in check_metrics("\n".join(wrong) + "\n")
