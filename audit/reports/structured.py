"""Findings for programs: JSON, SARIF 2.1.0 (OASIS), and a textfile for Prometheus' node_exporter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from audit.catalogue import CHECKS, Severity
from audit.findings import Finding, Status
from audit.remedies import statements_of

_SARIF_KINDS = {
    Status.PASS: ("pass", "none"),
    Status.WARN: ("fail", "warning"),
    Status.FAIL: ("fail", "error"),
    Status.UNKNOWN: ("open", "none"),
}
# GitHub's scale, from 0 to 10.
_SECURITY_SEVERITY = {Severity.LOW: "3.0", Severity.MEDIUM: "5.0", Severity.HIGH: "8.0"}


def finding_fields(finding: Finding) -> dict[str, Any]:
    """One finding under the names of docs/audit.md."""
    fix = finding.fix
    return {
        "check": finding.check.id,
        "title": finding.check.title,
        "severity": finding.check.severity.value,
        "status": finding.status.value,
        "server": finding.server,
        "role": finding.role.value,
        "version": finding.version.text if finding.version else None,
        "subject": finding.subject,
        "reason": finding.reason,
        "fix": {
            "sql": statements_of(fix, finding.version) if finding.version else [],
            "settings": [*fix.settings, *fix.kept],
            "commands": list(fix.commands),
            "note": fix.note,
        },
        "cis": {"benchmark": finding.cis[0].value, "id": finding.cis[1]} if finding.cis else None,
        "practice": finding.check.practice.value,
    }


def json_document(findings: Sequence[Finding]) -> dict[str, Any]:
    """All findings, and how many there are of each status."""
    return {"summary": _counts(findings), "findings": [finding_fields(finding) for finding in findings]}


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    counts = Counter(finding.status for finding in findings)
    return {status.value: counts[status] for status in Status}


def sarif_document(findings: Sequence[Finding], version: str) -> dict[str, Any]:
    """One run; a rule for each check, a result for each finding, located at the server that it is about."""
    rules = [
        {
            "id": check.id,
            "shortDescription": {"text": check.title},
            "properties": {
                "security-severity": _SECURITY_SEVERITY[check.severity],
                "practice": check.practice.value,
                "cis": {benchmark.value: cis for benchmark, cis in check.cis.items()},
            },
        }
        for check in CHECKS.values()
    ]
    driver = {"name": "binlock-audit", "version": version, "rules": rules}
    results = [_sarif_result(finding) for finding in findings]
    return {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def _sarif_result(finding: Finding) -> dict[str, Any]:
    kind, level = _SARIF_KINDS[finding.status]
    fields = finding_fields(finding)
    subject = f"{finding.subject}: " if finding.subject else ""
    qualified = f"{finding.role}/{finding.server}" + (f"/{finding.subject}" if finding.subject else "")
    return {
        "ruleId": finding.check.id,
        "ruleIndex": list(CHECKS).index(finding.check.id),
        "kind": kind,
        "level": level,
        "message": {"text": f"{finding.server}: {subject}{finding.reason}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": f"mysql/{quote(finding.server.lstrip('/'), safe='/.')}"}
                },
                "logicalLocations": [{"fullyQualifiedName": qualified, "kind": "resource"}],
            }
        ],
        "properties": {"fix": fields["fix"], "cis": fields["cis"], "status": finding.status.value},
    }


def textfile_lines(findings: Sequence[Finding], now_seconds: float) -> Iterator[str]:
    """The Prometheus text format: how many findings each check has of each status, none left out."""
    counts = Counter((finding.check.id, finding.status) for finding in findings)
    yield "# HELP binlock_audit_check Findings of the last audit, by check and status."
    yield "# TYPE binlock_audit_check gauge"
    for check in CHECKS:
        for status in Status:
            yield f'binlock_audit_check{{check="{check}",status="{status}"}} {counts[check, status]}'
    yield "# HELP binlock_audit_last_run_timestamp_seconds When the last audit ended."
    yield "# TYPE binlock_audit_last_run_timestamp_seconds gauge"
    yield f"binlock_audit_last_run_timestamp_seconds {now_seconds:.0f}"
    unread = sum(finding.version is None for finding in findings)
    yield "# HELP binlock_audit_servers_unreadable Servers that the last audit could not read."
    yield "# TYPE binlock_audit_servers_unreadable gauge"
    yield f"binlock_audit_servers_unreadable {unread}"
