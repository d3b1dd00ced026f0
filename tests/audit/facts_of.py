"""Facts by hand: a source and a replica that keep every practice, to be spoilt one by one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from audit.facts import (
    Account,
    AccountName,
    Certificate,
    Channel,
    Dump,
    KeyFile,
    Role,
    ServerFacts,
    Topology,
    Transport,
)
from audit.findings import Finding, Status
from audit.judging import judge
from audit.remedies import Files
from audit.versions import ServerVersion

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FILES = Files(PurePosixPath("/tls"))
GOOD_VARIABLES = {
    "port": "3306",
    "tls_version": "TLSv1.2,TLSv1.3",
    "ssl_ca": "/tls/ca.crt",
    "ssl_cert": "/tls/source.example.crt",
    "ssl_key": "/tls/source.example.key",
    "ssl_crl": "/tls/ca.crl",
    "require_secure_transport": "ON",
    "bind_address": "10.0.0.1",
    "binlog_encryption": "ON",
    "binlog_checksum": "CRC32",
    "log_bin": "ON",
    "binlog_expire_logs_seconds": "604800",
    "source_verify_checksum": "ON",
    "replica_sql_verify_checksum": "ON",
    "rpl_semi_sync_source_enabled": "ON",
    "rpl_semi_sync_replica_enabled": "ON",
    "super_read_only": "ON",
}
ROLE = Account(
    name=AccountName("replication_replica", "%"),
    is_role=True,
    is_locked=True,
    privileges=frozenset({"REPLICATION SLAVE"}),
)
REPL = Account(
    name=AccountName("repl", "10.0.0.2"),
    plugin="caching_sha2_password",
    ssl_type="X509",
    has_password=True,
    guessed="",
    is_locked=False,
    roles=(ROLE.name,),
)
ROOT = Account(
    name=AccountName("root", "localhost"),
    plugin="caching_sha2_password",
    has_password=True,
    privileges=frozenset({"SUPER", "CREATE USER", "SELECT", "REPLICATION SLAVE"}),
    grantable=True,
)
DUMP = Dump(thread=7, user="repl", host="10.0.0.2", transport="SSL/TLS", tls_version="TLSv1.3")
CHANNEL = Channel(
    name="",
    host="10.0.0.1",
    port=3306,
    user="repl",
    io_running="Yes",
    sql_running="Yes",
    error="",
    lag_seconds=0,
    has_tls=True,
    verifies=True,
    ca="/tls/ca.crt",
    crl="/tls/ca.crl",
    certificate="/tls/replica.example.crt",
    key="/tls/replica.example.key",
    ciphers="ECDHE-ECDSA-AES256-GCM-SHA384",
    tls_versions="TLSv1.3",
    get_public_key=False,
)


def server(role: Role = Role.SOURCE, *, version: str = "9.7.4", **changes: Any) -> ServerFacts:
    """A good server; `variables` are added to the good ones, and None takes one away."""
    variables = GOOD_VARIABLES | changes.pop("variables", {})
    facts = ServerFacts(
        name=f"{role}:3306",
        role=role,
        version=ServerVersion.parse(version),
        transport=Transport.VERIFIED_TLS,
        issued_name=f"{role}.example",
        address="10.0.0.1",
        account=AccountName("auditor", "10.0.0.9"),
        now=NOW,
        variables={name: value for name, value in variables.items() if value is not None},
        status={"ssl_server_not_after": "Nov 25 07:15:32 2026 GMT", "ssl_cipher_list": "TLS_AES_256_GCM_SHA384"},
        plugins=frozenset({"component_validate_password"}),
        certificate=Certificate(sha256=f"{role}" * 8, is_auto_generated=False),
        key_file=KeyFile(path="/tls/server.key", mode=0o400),
        accounts=(ROOT, ROLE, REPL),
        dumps=(DUMP,) if role is Role.SOURCE else (),
        channels=() if role is Role.SOURCE else (CHANNEL,),
        backup=NOW,
        keyring=True,
    )
    return replace(facts, **changes)


def findings(*servers: ServerFacts, **more: Any) -> list[Finding]:
    return judge(Topology(servers, **more), FILES)


def judged(check: str, *servers: ServerFacts, **more: Any) -> Finding:
    """The worst finding of a check."""
    order = [Status.PASS, Status.UNKNOWN, Status.WARN, Status.FAIL]
    found = [finding for finding in findings(*servers, **more) if finding.check.id == check]
    return max(found, key=lambda finding: order.index(finding.status))


def source(**changes: Any) -> ServerFacts:
    return server(Role.SOURCE, **changes)


def replica(**changes: Any) -> ServerFacts:
    return server(Role.REPLICA, **changes)
