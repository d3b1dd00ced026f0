"""Judges what every server is asked: TLS, network, files, versions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from audit.facts import Role, ServerFacts, Topology, Transport, Unread, is_loopback
from audit.findings import Fix, Verdict, When, failed, passed, unknown, warned
from audit.remedies import (
    CIPHERS_TEXT,
    GOOD_CIPHERSUITES,
    Files,
    good_versions,
    own_files_note,
    set_at_start,
    set_tls,
    set_variable,
)

_EXPIRY_WARNING = timedelta(days=30)
_WILDCARD_ADDRESSES = frozenset({"*", "0.0.0.0", "::", ""})  # noqa: S104 - compared
_OLD_VERSIONS = re.compile(r"TLSv1(\.1)?$|SSLv[23]$")
# Forward secrecy and an AEAD; every suite of TLS 1.3 has both.
_GOOD_CIPHER = re.compile(r"TLS_|(ECDHE|DHE)-(RSA|ECDSA)-.*(GCM|CHACHA20|CCM)")
_KEY_READERS = 0o077
_DEFAULT_CERTIFICATE = "server-cert.pem"


def judge_server(server: ServerFacts, topology: Topology, files: Files) -> Iterator[Verdict]:
    """All checks of one server that need neither accounts nor channels."""
    yield _connection(server)
    yield _version(server)
    yield _enabled(server, files)
    if has_tls(server):
        yield _versions(server)
        yield _ciphers(server)
        yield _certificate(server, files)
        yield _shared(server, topology, files)
        yield _expiry(server)
        yield _crl(server, files)
    yield _key_file(server)
    yield _transport_required(server)
    yield _bind_address(server, topology)
    yield _ports(server)
    yield _log_encryption(server, files)
    yield _checksum(server)


def has_tls(server: ServerFacts) -> bool:
    """Whether the server can do TLS at all."""
    said = server.variable("have_ssl")
    if said is not None:
        return said.upper() == "YES"
    # MySQL 9 has have_ssl no more; with no version left, TLS is off.
    return bool(server.variable("tls_version")) and bool(server.variable("ssl_cert"))


def weak_ciphers(names: str) -> list[str]:
    """Those of a list that lack forward secrecy or authentication."""
    return [name for name in names.split(":") if name and not name.startswith("!") and not _GOOD_CIPHER.match(name)]


def _connection(server: ServerFacts) -> Verdict:
    how = f"as {server.account} over {server.transport}"
    if server.transport in {Transport.VERIFIED_TLS, Transport.UNIX_SOCKET}:
        return passed("audit-connection", how)
    note = Fix(note="name the authority with ssl-ca= and leave the unsafe- option out")
    if server.transport is Transport.PLAINTEXT:
        return failed("audit-connection", f"{how}: what it read could be read and changed on the way", note)
    return warned("audit-connection", f"{how}: somebody in between could have answered", note)


def _version(server: ServerFacts) -> Verdict:
    version, end = server.version, server.version.end_of_support
    name = f"{version.product} {version.text}"
    if not version.is_known:
        return unknown("server-version", f"{name} is not known to this audit: some checks may not fit it")
    if end is None:
        return unknown("server-version", f"this audit does not know how long the series of {name} is supported")
    if server.now >= end:
        return failed("server-version", f"{name}: its series had its last fixes on {end:%Y-%m-%d}", Fix(note="upgrade"))
    return passed("server-version", f"{name}, supported until {end:%Y-%m-%d}")


def _enabled(server: ServerFacts, files: Files) -> Verdict:
    if has_tls(server):
        return passed("tls-enabled", "the server offers TLS")
    # All at once, so that it does not begin with what the other checks of TLS would find.
    more = {"ssl_crl": files.path("ca.crl"), "ssl_cipher": CIPHERS_TEXT, "tls_version": good_versions(server.version)}
    # One that is not among its variables would keep an old server from starting.
    known = {name: value for name, value in more.items() if name in server.variables or server.version.is_known}
    fix = set_tls(server.version, _own_files(server, files) | known, note=own_files_note(server))
    return failed("tls-enabled", "the server offers no TLS: every connection is in the clear", fix)


def _own_files(server: ServerFacts, files: Files) -> dict[str, str]:
    own = {"ssl_cert": files.own(server, ".crt"), "ssl_key": files.own(server, ".key")}
    return {"ssl_ca": files.path("ca.crt"), **own}


def _versions(server: ServerFacts) -> Verdict:
    text = server.variable("tls_version") or ""
    old = [name for name in text.split(",") if _OLD_VERSIONS.match(name.strip())]
    if old:
        return failed(
            "tls-versions",
            f"{', '.join(old)} allowed",
            set_tls(server.version, {"tls_version": good_versions(server.version)}),
        )
    return passed("tls-versions", text)


def _ciphers(server: ServerFacts) -> Verdict:
    # The session's list is what the server would really take; it is there when the audit came in over TLS.
    effective = server.status.get("ssl_cipher_list") or server.variable("ssl_cipher") or ""
    weak = weak_ciphers(effective)
    values = {"ssl_cipher": CIPHERS_TEXT}
    if server.version.is_mysql(8, 0, 16):
        values["tls_ciphersuites"] = ":".join(GOOD_CIPHERSUITES)
    fix = set_tls(server.version, values)
    if weak:
        return failed("tls-ciphers", f"{len(weak)} weak ones, such as {weak[0]}", fix)
    if effective:
        return passed("tls-ciphers", f"{len(effective.split(':'))} ciphers, each with forward secrecy and an AEAD")
    if server.version.is_mysql(8, 4):
        return passed("tls-ciphers", "the server's own list, which since MySQL 8.4 has none that are weak")
    return failed("tls-ciphers", "ssl_cipher is not set: the library's own list has weak ones", fix)


def _certificate(server: ServerFacts, files: Files) -> Verdict:
    fix = set_tls(server.version, _own_files(server, files), note=own_files_note(server))
    shown, path = server.certificate, server.variable("ssl_cert") or ""
    if not path:
        return failed(
            "tls-certificate", "no ssl_cert: the server makes a certificate at each start, for nobody to verify", fix
        )
    if not isinstance(shown, Unread) and shown.is_auto_generated:
        return failed("tls-certificate", f"{path} was made by the server for itself, without a name to verify", fix)
    if isinstance(shown, Unread) and path == _DEFAULT_CERTIFICATE:
        return warned(
            "tls-certificate", f"{path} is where the server keeps what it makes for itself; {shown.reason}", fix
        )
    return passed("tls-certificate", path)


def _shared(server: ServerFacts, topology: Topology, files: Files) -> Verdict:
    own = server.certificate
    if isinstance(own, Unread):
        return unknown("tls-certificate-shared", own.reason, own.remedy)
    twins = [
        other.name
        for other in topology.servers
        if other.name != server.name
        and not isinstance(other.certificate, Unread)
        and other.certificate.sha256 == own.sha256
    ]
    if twins:
        reason = f"the same certificate as {', '.join(twins)}: whoever has the key of one is the other"
        fix = set_tls(server.version, _own_files(server, files), note=own_files_note(server))
        return failed("tls-certificate-shared", reason, fix)
    return passed("tls-certificate-shared", f"SHA-256 {own.sha256[:16]}..., shown by no other server that was read")


def _expiry(server: ServerFacts) -> Verdict:
    text = server.status.get("ssl_server_not_after", "")
    try:
        end = datetime.strptime(text, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    except ValueError:
        return unknown("tls-certificate-expiry", "the server does not say; it does over TLS", "let the audit use TLS")
    fix = Fix(note="binlock-certs renew, then ALTER INSTANCE RELOAD TLS (MariaDB: FLUSH SSL)")
    if end <= server.now:
        return failed("tls-certificate-expiry", f"expired on {end:%Y-%m-%d}", fix)
    if end - server.now < _EXPIRY_WARNING:
        return warned("tls-certificate-expiry", f"expires on {end:%Y-%m-%d}", fix)
    return passed("tls-certificate-expiry", f"valid until {end:%Y-%m-%d}")


def _crl(server: ServerFacts, files: Files) -> Verdict:
    named = server.variable("ssl_crl") or server.variable("ssl_crlpath")
    if named:
        return passed("tls-crl", named)
    fix = set_tls(
        server.version, {"ssl_crl": files.path("ca.crl")}, note="keep it fresh: one that lapsed locks all out"
    )
    return warned("tls-crl", "no ssl_crl: a revoked client certificate is taken", fix)


def _key_file(server: ServerFacts) -> Verdict:
    seen = server.key_file
    if isinstance(seen, Unread):
        return unknown("tls-key-file", seen.reason, seen.remedy)
    if seen.mode & _KEY_READERS:
        fix = Fix(commands=(f"chmod 0600 {shlex.quote(seen.path)}",))
        return failed("tls-key-file", f"{seen.path} has mode {seen.mode:04o}", fix)
    return passed("tls-key-file", f"{seen.path} has mode {seen.mode:04o}")


def _transport_required(server: ServerFacts) -> Verdict:
    if server.variable("require_secure_transport") is None:
        reason = "the server has no require_secure_transport (MySQL 5.7.8, MariaDB 10.5): REQUIRE it of each account"
        return warned("transport-required", reason)
    if server.is_on("require_secure_transport"):
        return passed("transport-required", "require_secure_transport is on")
    fix = set_variable(server.version, "require_secure_transport", "ON", when=When.LAST)
    if server.role is Role.SOURCE and _binlock_legs_in_plaintext(server):
        reason = (
            "off, and Binlock's leg on loopback needs it off: each account must REQUIRE SSL; or give the route "
            "address = unix:... or [route.source.tls], and then turn it on"
        )
        return warned("transport-required", reason)
    return failed("transport-required", "require_secure_transport is off: a client may stay in the clear", fix)


def _binlock_legs_in_plaintext(server: ServerFacts) -> bool:
    if isinstance(server.dumps, Unread):
        return False
    return any(dump.binlock and dump.is_local and dump.transport == "TCP/IP" for dump in server.dumps)


def _bind_address(server: ServerFacts, topology: Topology) -> Verdict:
    if server.is_on("skip_networking"):
        return passed("network-bind-address", "skip_networking: no port at all")
    bound = [part.strip() for part in (server.variable("bind_address") or "").split(",")]
    if not _WILDCARD_ADDRESSES & set(bound):
        return passed("network-bind-address", ", ".join(bound))
    address = _address_in_use(server, topology)
    fix = set_at_start("bind_address", address, note="where replicas and clients are seen to connect")
    return failed("network-bind-address", f"bind_address = {', '.join(bound) or 'every address'}", fix)


def _address_in_use(server: ServerFacts, topology: Topology) -> str:
    """The addresses that the server is reached at, as far as anybody was seen to use one."""
    used = {server.variable("report_host") or "", server.address or ""}
    if server.role is Role.SOURCE:
        port = server.variable("port")
        used |= {channel.host for channel in topology.channels() if str(channel.port) == port}
    addresses = sorted(host for host in used if _is_address(host))
    outer = [address for address in addresses if not is_loopback(address)]
    remote = not isinstance(server.dumps, Unread) and any(not dump.is_local for dump in server.dumps)
    if not outer:
        return "127.0.0.1" if addresses and not remote else "<address that replicas use>"
    takes_several = server.version.is_mysql(8, 0, 13) or server.version.is_maria(10, 11)
    return ",".join([*outer, "127.0.0.1"]) if takes_several else outer[0]


def _is_address(host: str) -> bool:
    return re.fullmatch(r"[0-9.]+|[0-9a-fA-F:]*:[0-9a-fA-F:.]*", host) is not None


def _ports(server: ServerFacts) -> Verdict:
    further = {
        "mysqlx_port": server.variable("mysqlx_bind_address"),
        "admin_port": server.variable("admin_address") or None,
        "extra_port": server.variable("bind_address") if (server.variable("extra_port") or "0") != "0" else None,
    }
    open_ones = [name for name, address in further.items() if address is not None and address in _WILDCARD_ADDRESSES]
    if not open_ones:
        return passed("network-ports", f"port {server.variable('port')} alone; firewalls cannot be seen from here")
    settings = {
        "mysqlx_port": "mysqlx = OFF",
        "admin_port": "admin_address = 127.0.0.1",
        "extra_port": "extra_port = 0",
    }
    fix = Fix(settings=tuple(settings[name] for name in open_ones))
    ports = ", ".join(f"{name} {server.variable(name)}" for name in open_ones)
    return warned("network-ports", f"open to every address besides port {server.variable('port')}: {ports}", fix)


def _log_encryption(server: ServerFacts, files: Files) -> Verdict:
    if server.variable("binlog_encryption", "encrypt_binlog") is None:
        return warned("binlog-encryption", "this server cannot encrypt its logs: encrypt the file system")
    if server.is_on("binlog_encryption", "encrypt_binlog"):
        return passed("binlog-encryption", "on")
    if not server.version.is_mariadb:
        if server.keyring is True:
            fix = set_variable(server.version, "binlog_encryption", "ON")
        else:
            fix = Fix(note="install a keyring component, then SET PERSIST binlog_encryption = ON")
        return warned("binlog-encryption", "binlog_encryption is off", fix)
    settings = ["encrypt_binlog = ON"]
    plugins = server.plugins if not isinstance(server.plugins, Unread) else frozenset()
    note = ""
    if not any("key_management" in name for name in plugins):
        settings = [
            "plugin_load_add = file_key_management",
            f"file_key_management_filename = {files.path('keys')}",
            *settings,
        ]
        note = "the key file is MariaDB's: lines of KEY-ID;HEXADECIMAL-KEY, in place before the restart"
    return warned("binlog-encryption", "encrypt_binlog is off", Fix(settings=tuple(settings), note=note))


def _checksum(server: ServerFacts) -> Verdict:
    value = server.variable("binlog_checksum") or "NONE"
    if value.upper() != "NONE":
        return passed("binlog-checksum", value)
    # A replica first, whose relay log has this checksum too: MariaDB 11.8 takes a relay log for damaged that was begun
    # without one and goes on with the source's.
    when = When.LAST if server.role is Role.SOURCE else When.FIRST
    fix = set_variable(server.version, "binlog_checksum", "CRC32", when=when, note="on replicas before the source")
    return failed("binlog-checksum", "binlog_checksum is NONE: a damaged event is applied", fix)
