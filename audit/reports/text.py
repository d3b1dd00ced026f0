"""The table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from audit.findings import Finding, Status
from audit.remedies import statements_of

ORDER = (Status.FAIL, Status.WARN, Status.UNKNOWN, Status.PASS)
_RESET = "\x1b[0m"
_COLOURS = {
    Status.FAIL: "\x1b[1;31m",
    Status.WARN: "\x1b[33m",
    Status.UNKNOWN: "\x1b[36m",
    Status.PASS: "\x1b[32m",
}


def table_lines(findings: Sequence[Finding], *, is_coloured: bool) -> Iterator[str]:
    """One line a finding, the worst first, and below it what mends it; then the counts."""
    width = max((len(finding.check.id) for finding in findings), default=0)
    # One that is a source and a replica is there in both roles.
    for role, server in dict.fromkeys((finding.role, finding.server) for finding in findings):
        own = [finding for finding in findings if (finding.role, finding.server) == (role, server)]
        version = own[0].version
        yield f"{role} {printable(server)}" + (f"  {version.product} {version.text}" if version else "")
        for status in ORDER:
            for finding in (finding for finding in own if finding.status is status):
                colour, reset = (_COLOURS[status], _RESET) if is_coloured else ("", "")
                subject = f"{finding.subject}: " if finding.subject else ""
                head = f"  {colour}{status:<8}{reset}{finding.check.id:<{width}}  "
                yield head + printable(f"{subject}{finding.reason}")
                if status is not Status.PASS:
                    yield from (f"            {line}" for line in _details(finding))
        yield ""
    if any(finding.fix.statements for finding in findings if finding.status is not Status.PASS):
        yield "SQL replicates unless SET SESSION sql_log_bin = 0 comes first, as in the files of --fix-script."
    counts = Counter(finding.status for finding in findings)
    yield ", ".join(f"{counts[status]} {status}" for status in ORDER)


def _details(finding: Finding) -> Iterator[str]:
    fix = finding.fix
    if finding.version is not None:
        yield from (f"SQL: {printable(statement)};" for statement in statements_of(fix, finding.version))
    yield from (f"[mysqld] {printable(line)}" for line in (*fix.settings, *fix.kept))
    yield from (f"shell: {printable(command)}" for command in fix.commands)
    if fix.note:
        yield f"note: {printable(fix.note)}"
    cis = f"{finding.cis[0]} {finding.cis[1]}; " if finding.cis else ""
    yield f"{finding.check.severity}; {cis}{finding.check.practice}"


def printable(text: str) -> str:
    """What a server says, without what would move a terminal's cursor or end a comment."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
