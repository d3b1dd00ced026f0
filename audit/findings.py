"""What a check came to, and what mends it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from audit.catalogue import CHECKS, Benchmark, Check, benchmark_for
from audit.facts import Role
from audit.versions import ServerVersion


class Status(enum.StrEnum):
    """What a check came to."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


class When(enum.IntEnum):
    """When a fix is safe: what locks plaintext out comes after the replicas have learnt TLS."""

    FIRST = 1
    LAST = 3


@dataclass(frozen=True, kw_only=True)
class Fix:
    """What mends a finding.

    Attributes:
        statements: SQL, without the semicolon. One that has `<...>` in it needs a value that only a person has.
        settings: lines of the `[mysqld]` section, which take a restart.
        kept: lines of it that keep for later starts what `statements` do now, where the server cannot keep it itself.
        commands: for a shell on the server's host.
        channel: which channel `options` are of.
        options: of CHANGE REPLICATION SOURCE TO, names without SOURCE_ and values as SQL.
        is_channel_running: whether it is to run again afterwards.
        tls: variables of TLS, for a server that takes new ones while it runs.
        note: what a person has to do, or has to know before.
    """

    statements: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    channel: str = ""
    options: tuple[tuple[str, str], ...] = ()
    is_channel_running: bool = True
    tls: tuple[tuple[str, str], ...] = ()
    when: When = When.FIRST
    note: str = ""


NO_FIX = Fix()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a judge says; `judging` puts the server to it.

    Attributes:
        subject: the account, channel or connection; empty for the server itself.
    """

    check: str
    status: Status
    reason: str
    subject: str = ""
    fix: Fix = NO_FIX


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A verdict with all that a reader needs.

    Attributes:
        version: of the server; None for one that could not be read.
        holds_root_back: whether the server takes no writes from administrators either, as `super_read_only` has it.
    """

    check: Check
    server: str
    role: Role
    version: ServerVersion | None
    subject: str
    status: Status
    reason: str
    fix: Fix
    holds_root_back: bool = False

    @classmethod
    def of(
        cls,
        verdict: Verdict,
        *,
        server: str,
        role: Role,
        version: ServerVersion | None,
        holds_root_back: bool = False,
    ) -> Finding:
        """The verdict, on a server."""
        return cls(
            check=CHECKS[verdict.check],
            server=server,
            role=role,
            version=version,
            subject=verdict.subject,
            status=verdict.status,
            reason=verdict.reason,
            fix=verdict.fix,
            holds_root_back=holds_root_back,
        )

    @property
    def cis(self) -> tuple[Benchmark, str] | None:
        """The benchmark's identifier for this server's version."""
        benchmark = None if self.version is None else benchmark_for(self.version)
        return (benchmark, self.check.cis[benchmark]) if benchmark in self.check.cis and benchmark else None


def passed(check: str, reason: str, *, subject: str = "") -> Verdict:
    """All is well."""
    return Verdict(check=check, status=Status.PASS, reason=reason, subject=subject)


def warned(check: str, reason: str, fix: Fix = NO_FIX, *, subject: str = "") -> Verdict:
    """It could be better, or a person has to look."""
    return Verdict(check=check, status=Status.WARN, reason=reason, subject=subject, fix=fix)


def failed(check: str, reason: str, fix: Fix = NO_FIX, *, subject: str = "") -> Verdict:
    """A practice is not kept."""
    return Verdict(check=check, status=Status.FAIL, reason=reason, subject=subject, fix=fix)


def unknown(check: str, reason: str, remedy: str = "", *, subject: str = "") -> Verdict:
    """It cannot be seen; `remedy` is what would show it."""
    return Verdict(check=check, status=Status.UNKNOWN, reason=reason, subject=subject, fix=Fix(note=remedy))
