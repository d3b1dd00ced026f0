"""What a check came to, one line of `verify` each."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"


class Check(StrEnum):
    """What is looked at, in the order in which it is reported; docs/certificates.md has the table."""

    TLS = "tls"
    KEY = "key"
    CHAIN = "chain"
    VALIDITY = "validity"
    AUTHORITIES = "authorities"
    PURPOSE = "purpose"
    ALGORITHMS = "algorithms"
    STRICT = "strict"
    REVOCATION = "revocation"
    NAME = "name"
    DAYS_LEFT = "days-left"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result: what was seen, and, unless it passed, what to do about it."""

    check: Check
    verdict: Verdict
    detail: str


def passed(check: Check, detail: str) -> Finding:
    """The check passed."""
    return Finding(check, Verdict.PASS, detail)


def warned(check: Check, detail: str) -> Finding:
    """It works, and somebody ought to look at it."""
    return Finding(check, Verdict.WARN, detail)


def failed(check: Check, detail: str) -> Finding:
    """Peers refuse it."""
    return Finding(check, Verdict.FAIL, detail)


def all_or(check: Check, faults: list[str], detail: str) -> list[Finding]:
    """One failure for each fault; the detail where there is none."""
    return [failed(check, fault) for fault in faults] or [passed(check, detail)]


def is_good(findings: Iterable[Finding]) -> bool:
    """Whether nothing failed."""
    return all(finding.verdict is not Verdict.FAIL for finding in findings)
