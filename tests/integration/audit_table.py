"""What the audit says of the sloppy pair, as docs/audit.md has it and tests/integration/test_audit.py proves it."""

from __future__ import annotations

from testbed.flavours import Flavour

COLUMNS = (Flavour.MYSQL_9_7, Flavour.MARIADB_10_11, Flavour.MARIADB_11_8)
# By check: its worst status on the pair; "-" where the question does not arise.
EXPECTED = {
    "audit-connection": ("pass", "pass", "pass"),
    "server-version": ("pass", "pass", "pass"),
    "tls-enabled": ("pass", "fail", "pass"),
    "tls-versions": ("pass", "-", "fail"),
    "tls-ciphers": ("pass", "-", "fail"),
    "tls-certificate": ("fail", "-", "fail"),
    "tls-certificate-shared": ("fail", "-", "pass"),
    "tls-certificate-expiry": ("pass", "-", "unknown"),
    "tls-crl": ("warn", "-", "warn"),
    "tls-key-file": ("fail", "unknown", "unknown"),
    "transport-required": ("fail", "fail", "fail"),
    "network-bind-address": ("fail", "fail", "fail"),
    "network-ports": ("warn", "warn", "warn"),
    "binlog-encryption": ("warn", "warn", "warn"),
    "binlog-checksum": ("fail", "fail", "fail"),
    "accounts-root": ("fail", "fail", "fail"),
    "accounts-anonymous": ("fail", "fail", "fail"),
    "accounts-user-table": ("fail", "fail", "fail"),
    "accounts-password-policy": ("warn", "warn", "warn"),
    "account-password": ("fail", "fail", "fail"),
    "account-plugin": ("pass", "warn", "warn"),
    "account-super": ("fail", "fail", "fail"),
    "account-privileges": ("fail", "fail", "fail"),
    "account-role": ("warn", "warn", "warn"),
    "account-require": ("fail", "fail", "fail"),
    "account-certificate": ("warn", "warn", "warn"),
    "account-unused": ("warn", "warn", "warn"),
    "account-host": ("fail", "fail", "fail"),
    "source-dumps": ("fail", "fail", "fail"),
    "source-checksum-verified": ("warn", "warn", "warn"),
    "source-retention": ("warn", "warn", "warn"),
    "source-semi-sync": ("warn", "warn", "warn"),
    "source-backup": ("unknown", "unknown", "unknown"),
    "replica-running": ("fail", "fail", "fail"),
    "replica-tls": ("fail", "fail", "fail"),
    "replica-ca": ("fail", "fail", "fail"),
    "replica-verify": ("fail", "fail", "fail"),
    "replica-crl": ("warn", "warn", "warn"),
    "replica-certificate": ("warn", "warn", "warn"),
    "replica-ciphers": ("warn", "warn", "warn"),
    "replica-tls-versions": ("pass", "-", "-"),
    "replica-public-key": ("fail", "-", "-"),
    "replica-account": ("fail", "fail", "fail"),
    "replica-read-only": ("fail", "fail", "fail"),
    "replica-checksum": ("warn", "warn", "warn"),
    "replica-semi-sync": ("warn", "warn", "warn"),
    "replica-repository": ("-", "-", "-"),
}


def expected(flavour: Flavour) -> dict[str, str]:
    column = COLUMNS.index(flavour)
    return {check: row[column] for check, row in EXPECTED.items() if row[column] != "-"}


def table() -> list[str]:
    titles = ["MySQL 9.7", "MariaDB 10.11", "MariaDB 11.8"]
    lines = [f"| check | {' | '.join(titles)} |", "|---|---|---|---|"]
    return lines + [f"| `{check}` | {' | '.join(row)} |" for check, row in EXPECTED.items()]
