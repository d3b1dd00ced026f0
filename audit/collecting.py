"""Reads one server's facts. Each is read by itself: what one privilege does not allow, the others still show."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from audit.accounts import read_accounts
from audit.errors import ServerUnreadable
from audit.facts import (
    AccountName,
    Certificate,
    Channel,
    Dump,
    KeyFile,
    Role,
    ServerFacts,
    Transport,
    Unread,
    is_loopback,
)
from audit.mysql import Absent, Denied, Row, Session
from audit.versions import ServerVersion

_T = TypeVar("_T")

_DUMPS = """
    SELECT t.processlist_id AS id, t.processlist_user AS user, t.processlist_host AS host,
           t.connection_type AS transport,
           (SELECT s.variable_value FROM performance_schema.status_by_thread s
            WHERE s.thread_id = t.thread_id AND s.variable_name = 'Ssl_version') AS tls_version
    FROM performance_schema.threads t WHERE t.processlist_command LIKE 'Binlog Dump%'
"""
_ATTRIBUTES = """
    SELECT processlist_id AS id, attr_name AS name, attr_value AS value
    FROM performance_schema.session_connect_attrs WHERE attr_name LIKE '\\_binlock\\_%'
"""
_PROCESSES = "SELECT id, user, host FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
# Where backup programs write down what they did: MySQL Enterprise Backup, Percona XtraBackup, mariadb-backup --history.
_BACKUPS_MYSQL = ("mysql.backup_history", "PERCONA_SCHEMA.xtrabackup_history")
_BACKUPS_MARIADB = ("mysql.mariadb_backup_history", "PERCONA_SCHEMA.xtrabackup_history")
_BINLOCK_PREFIX = "_binlock_"


def read_server(session: Session, role: Role) -> ServerFacts:
    """Reads all of one server.

    Raises:
        ServerUnreadable: not even its version and variables can be had, or it answers as no known server does.
    """
    try:
        return _read_server(session, role)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ServerUnreadable(f"{session.target.name}: it answers as no server that is known here: {what}") from error


def _read_server(session: Session, role: Role) -> ServerFacts:
    identity = session.rows("SELECT VERSION() AS version, CURRENT_USER() AS account, UTC_TIMESTAMP() AS now")[0]
    version = ServerVersion.parse(str(identity["version"]))
    user, _, host = str(identity["account"]).rpartition("@")
    account = AccountName(user, host)
    variables = _pairs(session.rows("SHOW GLOBAL VARIABLES"))
    on_socket = session.transport is Transport.UNIX_SOCKET
    return ServerFacts(
        name=session.target.name,
        role=role,
        version=version,
        transport=session.transport,
        issued_name=_issued_name(session, variables),
        address=None if on_socket else session.target.host,
        account=account,
        now=identity["now"].replace(tzinfo=UTC),
        variables=variables,
        status=_pairs(session.rows("SHOW STATUS LIKE 'Ssl%'") + session.rows("SHOW STATUS LIKE 'Rpl_semi_sync%'")),
        plugins=_guarded(lambda: _plugins(session, version), ""),
        certificate=_certificate(session),
        key_file=_key_file(session, variables),
        accounts=read_accounts(session, version, account),
        dumps=_dumps(session, variables, account),
        channels=_guarded(lambda: _channels(session, version), _status_grant(version, account)),
        backup=_backup(session, version, account),
        keyring=_keyring(session, version, account),
    )


def _issued_name(session: Session, variables: Mapping[str, str]) -> str:
    """As the command line says, or as peers dial it, or as the server calls itself."""
    target = session.target
    dialled = "" if target.socket is not None or is_loopback(target.host) else target.host
    return target.issued_name or dialled or variables.get("report_host") or variables.get("hostname", "")


def _pairs(rows: list[Row]) -> dict[str, str]:
    """Of SHOW VARIABLES and SHOW STATUS."""
    return {str(row["variable_name"]).lower(): str(row["value"] or "") for row in rows}


def _guarded(read: Callable[[], _T], remedy: str) -> _T | Unread:
    """What `read` returns, or why it cannot."""
    try:
        return read()
    except Denied as error:
        return Unread(str(error), remedy)
    except Absent as error:
        return Unread(f"this server does not answer that: {error}")


def _grant(what: str, account: AccountName) -> str:
    return f"GRANT {what} TO {account.sql};"


def _status_grant(version: ServerVersion, account: AccountName) -> str:
    return _grant("SLAVE MONITOR ON *.*" if version.is_maria(10, 5) else "REPLICATION CLIENT ON *.*", account)


def _plugins(session: Session, version: ServerVersion) -> frozenset[str]:
    rows = session.rows("SELECT plugin_name AS name FROM information_schema.plugins WHERE plugin_status = 'ACTIVE'")
    found = {str(row["name"]).lower() for row in rows}
    if version.is_mysql(8):
        with contextlib.suppress(Denied, Absent):
            components = session.rows("SELECT component_urn AS name FROM mysql.component")
            found |= {str(row["name"]).rpartition("/")[2] for row in components}
    return frozenset(found)


def _certificate(session: Session) -> Certificate | Unread:
    if session.transport is Transport.PLAINTEXT:
        return Unread(
            "the audit came in without TLS and was shown no certificate", "without unsafe-plaintext it is shown"
        )
    return session.certificate() or Unread("the server shows no certificate")


def _key_file(session: Session, variables: Mapping[str, str]) -> KeyFile | Unread:
    if not session.is_on_this_host:
        return Unread("files are seen from the server's own host alone", "run binlock-audit there")
    if not variables.get("ssl_key"):
        return Unread("the server names no key file")
    path = Path(variables.get("datadir", ""), variables["ssl_key"])
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        # A loopback address may lead elsewhere: a tunnel, a container.
        return Unread(f"{path}: {error.strerror}", "run binlock-audit on the server's host, as root or its user")
    return KeyFile(path=str(path), mode=mode)


def _dumps(session: Session, variables: Mapping[str, str], account: AccountName) -> tuple[Dump, ...] | Unread:
    if variables.get("performance_schema", "").upper() == "ON":
        remedy = _grant("SELECT ON performance_schema.*", account)
        return _guarded(lambda: _dumps_of_performance_schema(session), remedy)
    # Without PROCESS it would show the audit's own connection and nothing else, without an error.
    if not any("PROCESS" in text or "ALL PRIVILEGES" in text for text in _own_global_grants(session)):
        return Unread(
            "without the performance schema, connections are seen with PROCESS alone",
            f"performance_schema = ON in [mysqld], or {_grant('PROCESS ON *.*', account)}",
        )
    return _guarded(lambda: _dumps_of_processlist(session), _grant("PROCESS ON *.*", account))


def _own_global_grants(session: Session) -> list[str]:
    with contextlib.suppress(Denied):
        texts = [str(next(iter(row.values()))) for row in session.rows("SHOW GRANTS")]
        return [text for text in texts if " ON *.* " in text]
    return []


def _dumps_of_performance_schema(session: Session) -> tuple[Dump, ...]:
    try:
        rows = session.rows(_DUMPS)
    except Absent:  # MariaDB has no status_by_thread before 10.5
        rows = session.rows(
            _DUMPS.replace(_DUMPS[_DUMPS.index(",\n           (SELECT") : _DUMPS.index("\n    FROM")], "")
        )
    said: dict[int, dict[str, str]] = {}
    with contextlib.suppress(Denied, Absent):
        for row in session.rows(_ATTRIBUTES):
            name = str(row["name"]).removeprefix(_BINLOCK_PREFIX)
            said.setdefault(int(row["id"]), {})[name] = str(row["value"] or "")
    return tuple(
        Dump(
            thread=int(row["id"]),
            user=str(row["user"]),
            host=str(row["host"] or ""),
            transport=str(row["transport"]) if row["transport"] else None,
            tls_version=str(row.get("tls_version") or ""),
            binlock=said.get(int(row["id"]), {}),
        )
        for row in rows
    )


def _dumps_of_processlist(session: Session) -> tuple[Dump, ...]:
    # What has a port is TCP; a socket's connection is plain "localhost".
    return tuple(
        Dump(
            thread=int(row["id"]),
            user=str(row["user"]),
            host=_without_port(str(row["host"])),
            transport=None if ":" in str(row["host"]) else "Socket",
        )
        for row in session.rows(_PROCESSES)
    )


def _without_port(host: str) -> str:
    return host.rpartition(":")[0] or host


def _channels(session: Session, version: ServerVersion) -> tuple[Channel, ...]:
    if version.is_mariadb:
        rows = session.rows("SHOW ALL SLAVES STATUS")
    else:
        rows = session.rows("SHOW REPLICA STATUS" if version.has_replica_words else "SHOW SLAVE STATUS")
    suites: dict[str, str | None] = {}
    if version.is_mysql(8, 0, 19):
        with contextlib.suppress(Denied, Absent):
            configured = session.rows(
                "SELECT channel_name AS name, tls_ciphersuites AS suites"
                " FROM performance_schema.replication_connection_configuration"
            )
            suites = {str(row["name"]): row["suites"] for row in configured}
    return tuple(_channel(row, suites) for row in rows)


def _channel(row: Row, suites: Mapping[str, str | None]) -> Channel:
    """A row of SHOW REPLICA STATUS in any of its dialects; what an old server lacks is empty."""
    said = {name.replace("master", "source").replace("slave", "replica"): value for name, value in row.items()}

    def text(name: str) -> str:
        return str(said.get(name) or "")

    name = text("channel_name") or text("connection_name")
    lag = said.get("seconds_behind_source")
    return Channel(
        name=name,
        host=text("source_host"),
        port=int(said.get("source_port") or 0),
        user=text("source_user"),
        io_running=text("replica_io_running"),
        sql_running=text("replica_sql_running"),
        error=text("last_io_error") or text("last_sql_error"),
        lag_seconds=None if lag is None else int(lag),
        has_tls=text("source_ssl_allowed").lower() == "yes",
        verifies=text("source_ssl_verify_server_cert").lower() == "yes",
        ca=text("source_ssl_ca_file") or text("source_ssl_ca_path"),
        crl=text("source_ssl_crl") or text("source_ssl_crlpath"),
        certificate=text("source_ssl_cert"),
        key=text("source_ssl_key"),
        ciphers=text("source_ssl_cipher"),
        ciphersuites=suites.get(name),
        tls_versions=text("source_tls_version") if "source_tls_version" in said else None,
        get_public_key=bool(int(said["get_source_public_key"])) if "get_source_public_key" in said else None,
    )


def _backup(session: Session, version: ServerVersion, account: AccountName) -> datetime | Unread | None:
    """The end of the last backup that any of the known programs wrote down."""
    ends: list[datetime] = []
    denied: list[str] = []
    for table in _BACKUPS_MARIADB if version.is_mariadb else _BACKUPS_MYSQL:
        try:
            rows = session.rows(f"SELECT MAX(end_time) AS ended FROM {table}")  # noqa: S608 - a constant
        except Absent:
            continue
        except Denied:  # also where there is no such table
            denied.append(table)
            continue
        if rows and isinstance(rows[0]["ended"], datetime):
            ends.append(rows[0]["ended"].replace(tzinfo=UTC))
    if ends:
        return max(ends)
    if denied:
        remedy = " ".join(_grant(f"SELECT ON {table}", account) for table in denied)
        return Unread("the audit may not look for records of backups, if there are any", remedy)
    return None


def _keyring(session: Session, version: ServerVersion, account: AccountName) -> bool | Unread:
    """Whether MySQL has where to keep the key of encrypted binary logs."""
    if not version.is_mysql(8, 0, 24):
        return False
    rows = _guarded(
        lambda: session.rows("SELECT status_key, status_value FROM performance_schema.keyring_component_status"),
        _grant("SELECT ON performance_schema.*", account),
    )
    if isinstance(rows, Unread):
        return rows
    return any(row["status_key"] == "Component_status" and row["status_value"] == "Active" for row in rows)
