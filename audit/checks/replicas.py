"""Judges replicas: each channel's way to its source, and the replica itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from audit.checks.servers import weak_ciphers
from audit.checks.source import semi_sync
from audit.facts import Channel, ProxySession, ServerFacts, Topology, Unread, is_loopback, quoted
from audit.findings import NO_FIX, Fix, Verdict, When, failed, passed, unknown, warned
from audit.remedies import CIPHERS_TEXT, GOOD_CIPHERSUITES, Files, good_versions, own_files_note, set_variable

_OF_CHANNELS = (
    "replica-running",
    "replica-tls",
    "replica-ca",
    "replica-verify",
    "replica-crl",
    "replica-certificate",
    "replica-ciphers",
    "replica-tls-versions",
    "replica-public-key",
    "replica-account",
)


def judge_replica(server: ServerFacts, topology: Topology, files: Files) -> Iterator[Verdict]:
    """All checks of one replica."""
    if isinstance(server.channels, Unread):
        for check in _OF_CHANNELS:
            yield unknown(check, server.channels.reason, server.channels.remedy)
    elif not server.channels:
        yield failed("replica-running", "it replicates from nowhere", Fix(note="CHANGE REPLICATION SOURCE TO ..."))
    else:
        for channel in server.channels:
            yield from _judge_channel(channel, server, topology, files)
    yield _read_only(server, topology)
    yield _checksum(server)
    yield semi_sync(server, "replica-semi-sync", ("replica", "slave"))
    if (repository := server.variable("master_info_repository")) is not None:
        yield _repository(server, repository)


def _judge_channel(channel: Channel, server: ServerFacts, topology: Topology, files: Files) -> Iterator[Verdict]:
    subject = f"channel {channel.name!r} from {channel.host}:{channel.port}"
    yield _running(channel, subject)
    near = _binlock_beside(channel, topology)
    if near is not None:
        for check in ("replica-tls", "replica-ca", "replica-verify", "replica-crl", "replica-certificate"):
            reason = f"Binlock beside the replica, route {near.route}, goes on over {near.source_tls_version}"
            yield passed(check, f"{reason}; /sessions says so", subject=subject)
    else:
        yield _tls(channel, subject)
        yield from _trust(channel, server, files, subject)
        yield _ciphers(channel, server, subject)
        if channel.tls_versions is not None:
            yield _tls_versions(channel, server, subject)
    if channel.get_public_key is not None:
        yield _public_key(channel, is_near=near is not None, subject=subject)
    yield _account(channel, subject)


def _change(channel: Channel, **options: str) -> Fix:
    is_running = channel.io_running not in {"", "No"} or channel.sql_running == "Yes"
    return Fix(channel=channel.name, options=tuple(options.items()), is_channel_running=is_running)


def _binlock_beside(channel: Channel, topology: Topology) -> ProxySession | None:
    """The session of a Binlock on the replica's own host that encrypts what the channel does not."""
    if channel.has_tls or not is_loopback(channel.host):
        return None
    return next(
        (
            session
            for session in topology.sessions
            if session.account == channel.user and session.source_tls_version and is_loopback(session.peer_host)
        ),
        None,
    )


def _running(channel: Channel, subject: str) -> Verdict:
    if channel.io_running == channel.sql_running == "Yes":
        lag = "unknown" if channel.lag_seconds is None else f"{channel.lag_seconds} s"
        return passed("replica-running", f"both threads run, lag {lag}", subject=subject)
    threads = f"I/O {channel.io_running or '?'}, SQL {channel.sql_running or '?'}"
    error = f": {' '.join(channel.error.split())}" if channel.error else ""
    return failed(
        "replica-running", f"{threads}{error}", Fix(note="mend the error, then START REPLICA"), subject=subject
    )


def _tls(channel: Channel, subject: str) -> Verdict:
    if channel.has_tls:
        return passed("replica-tls", "encrypted", subject=subject)
    where = "; if Binlock is there, give its sessions: --binlock-sessions" if is_loopback(channel.host) else ""
    return failed("replica-tls", f"in the clear to {channel.host}{where}", _change(channel, SSL="1"), subject=subject)


def _trust(channel: Channel, server: ServerFacts, files: Files, subject: str) -> Iterator[Verdict]:
    ca = _change(channel, SSL_CA=quoted(files.path("ca.crt")))
    if channel.ca:
        yield passed("replica-ca", channel.ca, subject=subject)
    elif channel.verifies and server.version.is_maria(11, 3):
        # MDEV-31855: without an authority, the certificate is bound to the password.
        yield warned(
            "replica-ca", "none: the system's authorities, or the password, vouch for the source", ca, subject=subject
        )
    else:
        yield failed("replica-ca", "none: whoever answers is taken for the source", ca, subject=subject)
    if channel.verifies:
        yield passed("replica-verify", "on", subject=subject)
    else:
        fix = _change(channel, SSL_VERIFY_SERVER_CERT="1")
        yield failed(
            "replica-verify", "any certificate of the authority is taken for the source's", fix, subject=subject
        )
    if channel.crl:
        yield passed("replica-crl", channel.crl, subject=subject)
    else:
        fix = _change(channel, SSL_CRL=quoted(files.path("ca.crl")))
        yield warned("replica-crl", "none: a source's revoked certificate is taken", fix, subject=subject)
    if channel.certificate and channel.key:
        yield passed("replica-certificate", channel.certificate, subject=subject)
    else:
        pair = {"SSL_CERT": quoted(files.own(server, ".crt")), "SSL_KEY": quoted(files.own(server, ".key"))}
        reason = "none: only the password tells the source who this is"
        fix = replace(_change(channel, **pair), note=own_files_note(server))
        yield warned("replica-certificate", reason, fix, subject=subject)


def _ciphers(channel: Channel, server: ServerFacts, subject: str) -> Verdict:
    options = {"SSL_CIPHER": quoted(CIPHERS_TEXT)}
    if server.version.is_mysql(8, 0, 19):
        options["TLS_CIPHERSUITES"] = quoted(":".join(GOOD_CIPHERSUITES))
    fix = _change(channel, **options)
    weak = weak_ciphers(channel.ciphers)
    if weak:
        return failed("replica-ciphers", f"weak ones, such as {weak[0]}", fix, subject=subject)
    if not channel.ciphers:
        return warned("replica-ciphers", "the library's own list", fix, subject=subject)
    return passed("replica-ciphers", channel.ciphers, subject=subject)


def _tls_versions(channel: Channel, server: ServerFacts, subject: str) -> Verdict:
    fix = _change(channel, TLS_VERSION=quoted(good_versions(server.version)))
    old = [name for name in (channel.tls_versions or "").split(",") if name.strip() in {"TLSv1", "TLSv1.1"}]
    if old:
        return failed("replica-tls-versions", f"{', '.join(old)} allowed", fix, subject=subject)
    if not channel.tls_versions and not server.version.is_mysql(8, 0, 28):
        return warned("replica-tls-versions", "all that the server knows, TLS 1.0 among them", fix, subject=subject)
    return passed("replica-tls-versions", channel.tls_versions or "1.2 and 1.3, all that it knows", subject=subject)


def _public_key(channel: Channel, *, is_near: bool, subject: str) -> Verdict:
    check = "replica-public-key"
    if not channel.get_public_key:
        return passed(check, "off", subject=subject)
    if is_near:
        return passed(check, "on, and Binlock beside the replica gives it", subject=subject)
    fix = _change(channel, GET_PUBLIC_KEY="0")
    if channel.has_tls:
        return warned(check, "GET_SOURCE_PUBLIC_KEY is on, which TLS makes needless", fix, subject=subject)
    return failed(check, "the key is taken from whoever answers, who can then read the password", fix, subject=subject)


def _account(channel: Channel, subject: str) -> Verdict:
    if channel.user != "root":
        return passed("replica-account", channel.user, subject=subject)
    note = "make an account of its own with REPLICATION SLAVE, and CHANGE ... SOURCE_USER"
    return failed("replica-account", "replicates as root", Fix(note=note), subject=subject)


def _read_only(server: ServerFacts, topology: Topology) -> Verdict:
    if server.is_on("super_read_only"):
        return passed("replica-read-only", "super_read_only is on")
    if topology.is_source(server):
        return warned("replica-read-only", "it is the source as well, which has to be written to")
    has_super = server.variable("super_read_only") is not None
    # Last, as it may hold back what other fixes install here.
    fix = set_variable(server.version, "super_read_only" if has_super else "read_only", "ON", when=When.LAST)
    if not server.is_on("read_only"):
        return failed("replica-read-only", "anybody with a privilege to write writes here", fix)
    if has_super:
        return warned("replica-read-only", "read_only is on, and does not hold administrators", fix)
    return passed("replica-read-only", f"read_only is {server.variable('read_only')}")


def _checksum(server: ServerFacts) -> Verdict:
    names = ("replica_sql_verify_checksum", "slave_sql_verify_checksum")
    if server.is_on(*names):
        return passed("replica-checksum", "on")
    name = next((name for name in names if name in server.variables), names[1])
    return warned("replica-checksum", f"{name} is off", set_variable(server.version, name, "ON"))


def _repository(server: ServerFacts, value: str) -> Verdict:
    if value.upper() == "TABLE":
        return passed("replica-repository", "a table")
    fix = set_variable(server.version, "master_info_repository", "TABLE", note="with replication stopped")
    return warned("replica-repository", "a file, with the password in it", fix if server.version.is_known else NO_FIX)
