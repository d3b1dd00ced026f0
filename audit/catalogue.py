"""Every check: what it is called, how much it matters, and whose practice it answers.

Identifiers of the CIS benchmarks are given without their text, which is not free, and only where they are known: a
benchmark that is not here has none.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from audit.versions import ServerVersion


class Severity(enum.StrEnum):
    """How much a failed check matters."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Benchmark(enum.StrEnum):
    """The benchmarks whose identifiers are known."""

    MYSQL_9 = "CIS MySQL 9.7 v1.0.0"
    MYSQL_8 = "CIS MySQL 5.7, 8.0"
    MARIADB = "CIS MariaDB 10.6 v1.1.0"


def benchmark_for(version: ServerVersion) -> Benchmark | None:
    """The benchmark that is nearest to a server; None for none, as for MySQL 8.4."""
    if version.is_mariadb:
        return Benchmark.MARIADB
    if version.is_mysql(9):
        return Benchmark.MYSQL_9
    return Benchmark.MYSQL_8 if version.number[:2] in {(5, 7), (8, 0)} else None


class Practice(enum.StrEnum):
    """Where a practice is named: the manual's section 16.3.8, or "Security Considerations in MySQL Replication"."""

    SOURCE_TLS = "16.3.8: TLS on the source, with a certificate of one's own"
    REPLICA_TLS = "16.3.8: TLS on the replica, with CA, certificate and key"
    VERIFY = "16.3.8: the source's name is verified"
    CRL = "16.3.8: revocation lists are checked"
    CIPHERS = "16.3.8: ciphers and protocol versions are limited"
    REQUIRE = "16.3.8: the source requires encryption of the account"
    PRIVILEGE = "16.3.8: the account has REPLICATION SLAVE"
    STATUS = "16.3.8: SHOW REPLICA STATUS confirms the encryption"
    AUTHENTICATION = "Considerations: strong authentication, no default names or passwords"
    USER_TABLE = "Considerations: only root reads mysql.user"
    ROLES = "Considerations: roles, with no more privileges than needed"
    NETWORK = "Considerations: allowlists and port restriction"
    INTEGRITY = "Considerations: integrity of replicated data"
    CONFIDENTIALITY = "Considerations: confidentiality of replicated data"
    AVAILABILITY = "Considerations: availability and disaster recovery"
    BACKUP = "Considerations: regular backups"
    UPDATES = "Considerations: updates close vulnerabilities"


@dataclass(frozen=True)
class Check:
    """One question to a server, an account or a channel.

    Attributes:
        id: stable; it is in metrics, in SARIF and in the documents.
    """

    id: str
    severity: Severity
    title: str
    practice: Practice

    @property
    def cis(self) -> Mapping[Benchmark, str]:
        """The identifier in each benchmark that has one."""
        return _CIS.get(self.id, {})


_ALL = (
    # Every server.
    Check(
        "audit-connection",
        Severity.MEDIUM,
        "the audit reads over verified TLS or a unix socket",
        Practice.CONFIDENTIALITY,
    ),
    Check("server-version", Severity.HIGH, "the server's series gets security fixes", Practice.UPDATES),
    Check("tls-enabled", Severity.HIGH, "the server offers TLS", Practice.SOURCE_TLS),
    Check("tls-versions", Severity.HIGH, "only TLS 1.2 and 1.3", Practice.CIPHERS),
    Check("tls-ciphers", Severity.MEDIUM, "only ciphers with forward secrecy and authentication", Practice.CIPHERS),
    Check(
        "tls-certificate",
        Severity.HIGH,
        "the certificate is not one that the server made for itself",
        Practice.SOURCE_TLS,
    ),
    Check("tls-certificate-shared", Severity.HIGH, "no two servers show the same certificate", Practice.SOURCE_TLS),
    Check("tls-certificate-expiry", Severity.HIGH, "the certificate is valid for 30 days more", Practice.SOURCE_TLS),
    Check("tls-crl", Severity.MEDIUM, "the server checks a revocation list", Practice.CRL),
    Check("tls-key-file", Severity.HIGH, "only the server's user reads the key file", Practice.SOURCE_TLS),
    Check("transport-required", Severity.HIGH, "plaintext connections are refused", Practice.REQUIRE),
    Check("network-bind-address", Severity.MEDIUM, "the server listens on chosen addresses", Practice.NETWORK),
    Check("network-ports", Severity.LOW, "no further port is open to the network", Practice.NETWORK),
    Check(
        "binlog-encryption", Severity.MEDIUM, "binary and relay logs are encrypted on disk", Practice.CONFIDENTIALITY
    ),
    Check("binlog-checksum", Severity.MEDIUM, "events carry checksums", Practice.INTEGRITY),
    Check("accounts-root", Severity.HIGH, "root cannot log in from the network", Practice.AUTHENTICATION),
    Check("accounts-anonymous", Severity.HIGH, "there are no anonymous accounts", Practice.AUTHENTICATION),
    Check("accounts-user-table", Severity.HIGH, "only root reads mysql.user", Practice.USER_TABLE),
    Check("accounts-password-policy", Severity.LOW, "the server judges new passwords", Practice.AUTHENTICATION),
    # Each replication account, on the source.
    Check("account-password", Severity.HIGH, "it has a password that is not a common one", Practice.AUTHENTICATION),
    Check("account-plugin", Severity.MEDIUM, "its authentication plugin is a strong one", Practice.AUTHENTICATION),
    Check("account-super", Severity.HIGH, "it has no SUPER", Practice.PRIVILEGE),
    Check("account-privileges", Severity.HIGH, "it has nothing beyond replication", Practice.PRIVILEGE),
    Check("account-role", Severity.LOW, "its privilege comes from a role", Practice.ROLES),
    Check("account-require", Severity.HIGH, "encryption is required of it", Practice.REQUIRE),
    Check("account-certificate", Severity.MEDIUM, "a client certificate is required of it", Practice.REQUIRE),
    Check("account-unused", Severity.MEDIUM, "a replica uses it", Practice.ROLES),
    Check("account-host", Severity.HIGH, "it can log in from certain hosts only", Practice.NETWORK),
    # The source.
    Check("source-dumps", Severity.HIGH, "no replica reads in the clear, as the source sees it", Practice.STATUS),
    Check(
        "source-checksum-verified", Severity.LOW, "the source verifies checksums before it sends", Practice.INTEGRITY
    ),
    Check("source-retention", Severity.MEDIUM, "binary logs outlive the replicas' lag", Practice.AVAILABILITY),
    Check("source-semi-sync", Severity.LOW, "commits wait for a replica", Practice.AVAILABILITY),
    Check("source-backup", Severity.MEDIUM, "the server remembers a recent backup", Practice.BACKUP),
    # Each channel of each replica.
    Check("replica-running", Severity.HIGH, "both replication threads run", Practice.STATUS),
    Check("replica-tls", Severity.HIGH, "the channel is encrypted", Practice.REPLICA_TLS),
    Check("replica-ca", Severity.HIGH, "the channel trusts a certain authority", Practice.REPLICA_TLS),
    Check("replica-verify", Severity.HIGH, "the channel verifies the source's name", Practice.VERIFY),
    Check("replica-crl", Severity.MEDIUM, "the channel checks a revocation list", Practice.CRL),
    Check("replica-certificate", Severity.MEDIUM, "the channel shows a certificate of its own", Practice.REPLICA_TLS),
    Check("replica-ciphers", Severity.LOW, "the channel's ciphers are limited", Practice.CIPHERS),
    Check("replica-tls-versions", Severity.MEDIUM, "the channel takes only TLS 1.2 and 1.3", Practice.CIPHERS),
    Check("replica-public-key", Severity.MEDIUM, "the channel asks nobody for an RSA key", Practice.AUTHENTICATION),
    Check("replica-account", Severity.HIGH, "the channel does not use root", Practice.AUTHENTICATION),
    # Each replica.
    Check("replica-read-only", Severity.MEDIUM, "nobody else writes to the replica", Practice.INTEGRITY),
    Check("replica-checksum", Severity.LOW, "the replica verifies checksums of its relay log", Practice.INTEGRITY),
    Check("replica-semi-sync", Severity.LOW, "the replica acknowledges commits", Practice.AVAILABILITY),
    Check(
        "replica-repository", Severity.MEDIUM, "connection data is in a table, not in a file", Practice.CONFIDENTIALITY
    ),
)

CHECKS: Mapping[str, Check] = {check.id: check for check in _ALL}


def _ids(mysql_9: str, mysql_8: str, mariadb: str) -> Mapping[Benchmark, str]:
    known = {Benchmark.MYSQL_9: mysql_9, Benchmark.MYSQL_8: mysql_8, Benchmark.MARIADB: mariadb}
    return {benchmark: cis for benchmark, cis in known.items() if cis}


_CIS: Mapping[str, Mapping[Benchmark, str]] = {
    "server-version": _ids("", "", "4.1"),
    "tls-enabled": _ids("", "", "8.1"),
    "tls-versions": _ids("2.15", "", "2.10"),
    "tls-ciphers": _ids("2.17", "", "2.12"),
    "tls-certificate": _ids("2.6", "", "2.5"),
    "tls-certificate-shared": _ids("2.6", "", "2.5"),
    "tls-key-file": _ids("3.7", "", "3.7"),
    "transport-required": _ids("8.1", "", "8.1"),
    "network-bind-address": _ids("2.14", "", "2.9"),
    "binlog-encryption": _ids("2.2.1", "", "6.6"),
    "accounts-anonymous": _ids("", "", "7.6"),
    "accounts-user-table": _ids("", "", "5.1"),
    "accounts-password-policy": _ids("", "", "7.4"),
    "account-plugin": _ids("", "", "7.3"),
    "account-super": _ids("9.3", "9.4", "9.3"),
    "account-privileges": _ids("5.8", "", "5.8"),
    "account-require": _ids("8.2", "8.2", "8.2"),
    "account-certificate": _ids("2.16", "", "2.11"),
    "account-unused": _ids("", "", "2.7"),
    "account-host": _ids("7.6", "9.5", "7.5"),
    "source-dumps": _ids("9.1", "9.1", "9.1"),
    "source-retention": _ids("", "", "2.1.5"),
    "source-backup": _ids("", "", "2.1.1"),
    "replica-tls": _ids("9.1", "9.1", "9.1"),
    "replica-verify": _ids("9.2", "9.2", "9.2"),
    "replica-certificate": _ids("", "", "9.5"),
    "replica-ciphers": _ids("", "", "9.4"),
    "replica-repository": _ids("", "9.3", ""),
}
