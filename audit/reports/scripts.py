"""Scripts that mend what was found: written for a person to read and run, never run from here.

Three steps, each file named for its own: 1, the source learns TLS; 2, the replicas use it; 3, what would have locked
them out before. In a step, `.cnf` files go to the server's configuration, `.sh` to a shell on its host, `.sql` to the
server itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from audit.facts import Role
from audit.findings import Finding, Status, When
from audit.remedies import change_source, tls_statements
from audit.reports.text import printable
from audit.versions import ServerVersion

_REPLICAS_STEP = 2
_LONGEST_STEM_CHARACTERS = 150
_PLACEHOLDER = re.compile(r"<[^<>]+>")
# Changes of accounts that a replica cannot make would stop it; changes of its own would be errant transactions.
_WRITABLE = "SET GLOBAL super_read_only = {}"
_HEAD = "SET SESSION sql_log_bin = 0"
# Under NO_BACKSLASH_ESCAPES the names in the statements would be others.
_BACKSLASHES = "SET SESSION sql_mode = ''"


def fix_scripts(findings: Sequence[Finding]) -> dict[str, str]:
    """The scripts, by file name, in the order in which they are to be used."""
    groups: dict[tuple[int, str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.version is not None and finding.status is not Status.PASS:
            groups[_step(finding), finding.role.value, finding.server].append(finding)
    stems = _stems(server for _, _, server in groups)
    scripts: dict[str, str] = {}
    done: dict[str, set[str]] = defaultdict(set)
    for (step, role, server), own in sorted(groups.items()):
        stem = f"{step}-{role}-{stems[server]}"
        for suffix, text in (("cnf", _settings(own)), ("sh", _commands(own)), ("sql", _sql(own, done[server]))):
            if text:
                scripts[f"{stem}.{suffix}"] = text
    return scripts


def _stems(servers: Iterable[str]) -> dict[str, str]:
    """What the files of each server are called; the same for no two of them, however alike they are."""
    stems: dict[str, str] = {}
    for server in sorted(set(servers)):
        stem = re.sub(r"[^A-Za-z0-9.-]+", "_", server).strip("_")[-_LONGEST_STEM_CHARACTERS:]
        stems[server] = f"{stem}-{len(stems) + 1}" if stem in stems.values() else stem
    return stems


def _step(finding: Finding) -> int:
    if finding.fix.when is When.LAST:
        return int(When.LAST)
    return _REPLICAS_STEP if finding.role is Role.REPLICA else int(When.FIRST)


def _about(finding: Finding) -> str:
    subject = f"{finding.subject}: " if finding.subject else ""
    return printable(f"{finding.check.id}: {subject}{finding.reason}")


def _settings(findings: Sequence[Finding]) -> str:
    parts = (
        ("# These take a restart.", [(finding, finding.fix.settings) for finding in findings]),
        ("# The .sql file sets these at once; here they are for later starts.", [(f, f.fix.kept) for f in findings]),
    )
    lines: list[str] = []
    for title, group in parts:
        filled = [(finding, settings) for finding, settings in group if settings]
        lines += [title] if filled else []
        for finding, settings in filled:
            lines.append(f"# {_about(finding)}")
            lines += [f"# {printable(finding.fix.note)}"] if finding.fix.note else []
            # A later line of the same name would win unseen.
            lines += [_commented(line, "# ") for line in settings if line not in lines]
    return "\n".join(["[mysqld]", *lines, ""]) if lines else ""


def _commands(findings: Iterable[Finding]) -> str:
    lines = [
        line for finding in findings for command in finding.fix.commands for line in (f"# {_about(finding)}", command)
    ]
    return "\n".join(["set -eu", *lines, ""]) if lines else ""


def _sql(findings: Sequence[Finding], done: set[str]) -> str:
    """The statements, but for those that were `done` on this server by a script before, in whatever role."""
    lines: list[str] = []
    for finding in findings:
        statements = [statement for statement in finding.fix.statements if statement not in done]
        done.update(statements)
        if statements:
            lines += _comment(finding)
            lines += [_commented(f"{statement};", "-- fill in: ") for statement in statements]
    if lines and any(finding.holds_root_back for finding in findings):
        lines = [f"{_WRITABLE.format('OFF')};", *lines, f"{_WRITABLE.format('ON')};"]
    lines += _tls(findings)
    lines += _changes(findings)
    head = [_HEAD, _BACKSLASHES] if any("\\" in line for line in lines) else [_HEAD]
    return "\n".join([*(f"{line};" for line in head), *lines, ""]) if lines else ""


def _tls(findings: Sequence[Finding]) -> list[str]:
    """All variables of TLS at once: the client stops where the server cannot use them, before they are kept."""
    values = {name: value for finding in findings for name, value in finding.fix.tls}
    statements = tls_statements(values)
    mark = "-- fill in: " if any(map(_PLACEHOLDER.search, statements)) else ""
    about = [comment for finding in findings if finding.fix.tls for comment in _comment(finding)]
    return [*about, *(f"{mark}{statement};" for statement in statements)]


def _changes(findings: Sequence[Finding]) -> list[str]:
    """One CHANGE for each channel, with what all its findings ask for."""
    channels: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.fix.options:
            channels[finding.fix.channel].append(finding)
    lines: list[str] = []
    for channel, own in channels.items():
        version = own[0].version
        if isinstance(version, ServerVersion):
            is_running = own[0].fix.is_channel_running
            options = {name: value for finding in own for name, value in finding.fix.options}
            lines += [comment for finding in own for comment in _comment(finding)]
            statements = change_source(version, channel, options, is_running=is_running)
            # All or none of them: a STOP without its START would be worse than what it is to mend.
            mark = "-- fill in: " if any(map(_PLACEHOLDER.search, statements)) else ""
            lines += [f"{mark}{statement};" for statement in statements]
    return lines


def _comment(finding: Finding) -> list[str]:
    note = [f"-- {printable(finding.fix.note)}"] if finding.fix.note else []
    return [f"-- {_about(finding)}", *note]


def _commented(line: str, mark: str) -> str:
    """A line that needs a value from a person waits for it as a comment."""
    if not line.isprintable():
        return f"{mark}by hand, for it has what cannot be printed: {printable(line)}"
    return f"{mark}{line}" if _PLACEHOLDER.search(line) else line
