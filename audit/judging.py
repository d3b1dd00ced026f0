"""Puts all judges to all servers, in the order of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

from audit.catalogue import CHECKS
from audit.checks.accounts import judge_accounts
from audit.checks.replicas import judge_replica
from audit.checks.servers import judge_server
from audit.checks.source import judge_source
from audit.facts import Role, ServerFacts, Topology
from audit.findings import Finding, Verdict, unknown
from audit.remedies import Files

_ORDER = {name: position for position, name in enumerate(CHECKS)}


def judge(topology: Topology, files: Files) -> list[Finding]:
    """Every finding of every server: the source's first, then each replica's.

    Args:
        topology: what was read.
        files: where fixes say that certificates are.
    """
    found: list[Finding] = []
    for server in topology.servers:
        verdicts = sorted(_verdicts(server, topology, files), key=lambda verdict: _ORDER[verdict.check])
        protected = server.is_on("super_read_only")
        found += [
            Finding.of(verdict, server=server.name, role=server.role, version=server.version, holds_root_back=protected)
            for verdict in verdicts
        ]
    for missing in topology.unreachable:
        verdict = unknown("audit-connection", missing.reason)
        found.append(Finding.of(verdict, server=missing.name, role=missing.role, version=None))
    return found


def _verdicts(server: ServerFacts, topology: Topology, files: Files) -> Iterator[Verdict]:
    yield from judge_server(server, topology, files)
    yield from judge_accounts(server, topology)
    if server.role is Role.SOURCE:
        yield from judge_source(server, topology)
    else:
        yield from judge_replica(server, topology, files)
