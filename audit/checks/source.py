"""Judges the source: who reads its binary log, and whether that log is whole, kept and backed up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from audit.facts import Dump, ProxySession, Role, ServerFacts, Topology, Unread, is_loopback
from audit.findings import Fix, Verdict, When, failed, passed, unknown, warned
from audit.remedies import set_variable

_LEAST_RETENTION = timedelta(days=1)
_GOOD_RETENTION = timedelta(days=7)
# A replica this near to the end of what is kept may lose it in one bad night.
_LAG_SHARE = 0.5
_BACKUP_AGE = timedelta(days=7)


def judge_source(server: ServerFacts, topology: Topology) -> Iterator[Verdict]:
    """All checks of the source alone."""
    yield from _dumps(server, topology)
    yield _checksum_verified(server)
    yield _retention(server, topology)
    yield semi_sync(server, "source-semi-sync", ("source", "master"))
    yield _backup(server)


def _dumps(server: ServerFacts, topology: Topology) -> Iterator[Verdict]:
    check = "source-dumps"
    if isinstance(server.dumps, Unread):
        yield unknown(check, server.dumps.reason, server.dumps.remedy)
        return
    if not server.dumps:
        yield unknown(check, "no replica is connected now", "audit while replicas are connected")
    unclaimed = list(topology.sessions)
    for dump in server.dumps:
        yield _dump(dump, server, _claim(dump, unclaimed))


def _claim(dump: Dump, unclaimed: list[ProxySession]) -> ProxySession | None:
    """The session of Binlock that this connection is; each session explains one connection.

    Where the source has Binlock's attributes, the peer's address and port decide. Otherwise, as where they are turned
    off or MariaDB's performance schema is, the account does.
    """
    if not dump.is_local:
        return None
    peer = dump.binlock.get("peer")
    for session in unclaimed:
        if session.account == dump.user and peer in {None, session.peer}:
            unclaimed.remove(session)
            return session
    return None


def _dump(dump: Dump, server: ServerFacts, session: ProxySession | None) -> Verdict:
    check, subject = "source-dumps", f"{dump.user} from {dump.host or 'localhost'} (thread {dump.thread})"
    if dump.transport == "SSL/TLS":
        return passed(check, f"encrypted, {dump.tls_version or 'TLS'}", subject=subject)
    if dump.is_local:
        return _local_dump(dump, session, subject)
    fix = Fix(
        note=f"on {dump.host}: CHANGE REPLICATION SOURCE TO SOURCE_SSL = 1; REQUIRE SSL alone ends no stream that runs"
    )
    if dump.transport is not None:
        return failed(check, "in the clear over the network", fix, subject=subject)
    if not isinstance(server.accounts, Unread):
        hosts = [account for account in server.accounts if account.name.user == dump.user]
        if hosts and all(account.ssl_type for account in hosts):
            return passed(check, "encrypted, as every account of that name REQUIREs it", subject=subject)
    return unknown(check, "the server does not say whether it is encrypted", "performance_schema = ON", subject=subject)


def _local_dump(dump: Dump, session: ProxySession | None, subject: str) -> Verdict:
    """A connection that stays on the source's host: Binlock's, or somebody's."""
    check = "source-dumps"
    if session is None and not dump.binlock:
        reason = "from this host, and nothing says that it is Binlock: a replica here, a tunnel, or Binlock unheard"
        return warned(
            check, reason, Fix(note="give the list of Binlock's sessions: --binlock-sessions"), subject=subject
        )
    replica = session.replica if session is not None else dump.binlock.get("replica", "?")
    route = session.route if session is not None else dump.binlock.get("route", "?")
    peer = session.peer if session is not None else dump.binlock.get("peer", "")
    version = session.tls_version if session is not None else dump.binlock.get("tls_version", "")
    who = f"Binlock, route {route}, for {replica or 'a replica'} at {peer}"
    witness = "/sessions says so" if session is not None else "its connection attributes say so"
    if version:
        return passed(check, f"{who} over {version}; {witness}", subject=subject)
    if is_loopback(peer.rpartition(":")[0].strip("[]")):
        return passed(check, f"{who}, all on this host; {witness}", subject=subject)
    fix = Fix(note="give the route a [route.replica_tls]")
    return failed(check, f"{who} in the clear; {witness}", fix, subject=subject)


def _checksum_verified(server: ServerFacts) -> Verdict:
    names = ("source_verify_checksum", "master_verify_checksum")
    if server.is_on(*names):
        return passed("source-checksum-verified", "on")
    name = next((name for name in names if name in server.variables), names[1])
    return warned("source-checksum-verified", f"{name} is off", set_variable(server.version, name, "ON"))


def _retention(server: ServerFacts, topology: Topology) -> Verdict:
    check = "source-retention"
    if not server.is_on("log_bin"):
        return failed(
            check, "log_bin is off: there is nothing to replicate or to recover from", Fix(settings=("log_bin",))
        )
    kept = _kept(server)
    if kept is None:
        return passed(check, "binary logs are kept until somebody purges them")
    if "binlog_expire_logs_seconds" in server.variables:
        fix = set_variable(server.version, "binlog_expire_logs_seconds", str(int(_GOOD_RETENTION.total_seconds())))
    else:
        fix = set_variable(server.version, "expire_logs_days", str(_GOOD_RETENTION.days))
    lags = [channel.lag_seconds for channel in topology.channels() if channel.lag_seconds is not None]
    worst = timedelta(seconds=max(lags, default=0))
    if worst > kept * _LAG_SHARE:
        return failed(check, f"kept for {kept}, and a replica is {worst} behind", fix)
    if kept < _LEAST_RETENTION:
        return warned(check, f"kept for {kept}: a replica that is away longer must be made anew", fix)
    return passed(check, f"kept for {kept}; the replicas that were read are {worst} behind at most")


def _kept(server: ServerFacts) -> timedelta | None:
    """How long binary logs are kept; None for ever. Of the two variables the seconds win, in both products."""
    if server.variable("binlog_expire_logs_auto_purge") == "OFF":
        return None
    seconds = _number(server.variable("binlog_expire_logs_seconds"))
    seconds = seconds or _number(server.variable("expire_logs_days")) * 86_400
    return timedelta(seconds=seconds) if seconds else None


def _number(text: str | None) -> float:
    """A variable's number, within what a timedelta holds; 0 for what is none."""
    try:
        number = float(text or 0)
    except ValueError:
        return 0
    return 0 if math.isnan(number) else min(max(number, 0), 1e8)


def semi_sync(server: ServerFacts, check: str, words: tuple[str, str]) -> Verdict:
    """Semi-synchronous replication on one side.

    Args:
        server: either side.
        check: its check.
        words: what that side is called, in new plugins and in old ones.
    """
    names = tuple(f"rpl_semi_sync_{word}_enabled" for word in words)
    if server.is_on(*names):
        return passed(check, "semi-synchronous")
    is_source = server.role is Role.SOURCE
    # Before a replica can answer, each commit on the source would wait for the timeout once.
    when = When.LAST if is_source else When.FIRST
    note = "once a replica acknowledges" if is_source else "in force once the replication threads start again"
    present = next((name for name in names if name in server.variables), None)
    if present is not None:
        fix = set_variable(server.version, present, "ON", when=when, note=note)
    else:
        word = words[0] if server.version.is_mysql(8, 0, 26) else words[1]
        install = f"INSTALL PLUGIN rpl_semi_sync_{word} SONAME 'semisync_{word}.so'"
        on = set_variable(server.version, f"rpl_semi_sync_{word}_enabled", "ON", when=when, note=note)
        fix = replace(on, statements=(install, *on.statements))
    channels = () if isinstance(server.channels, Unread) else server.channels
    if not is_source and len(channels) > 1 and not server.version.is_mariadb:
        # One state for all channels: when one ends, the others misread what their sources send.
        fix = Fix(note="not with several channels: MySQL keeps one state for all of them, and events are misread")
    return warned(check, "off: what was committed may be lost with the source", fix)


def _backup(server: ServerFacts) -> Verdict:
    check, ended = "source-backup", server.backup
    if isinstance(ended, Unread):
        return unknown(check, ended.reason, ended.remedy)
    if ended is None:
        reason = "the server remembers none; mysqldump and snapshots leave no trace, so this proves nothing"
        return unknown(check, reason, "mysqlbackup and mariadb-backup --history leave one")
    age = server.now - ended
    if age > _BACKUP_AGE:
        return warned(check, f"the last one ended on {ended:%Y-%m-%d}, {age.days} days ago", Fix(note="back up"))
    return passed(check, f"the last one ended on {ended:%Y-%m-%d %H:%M} UTC")
