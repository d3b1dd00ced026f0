"""What the versions of MySQL and MariaDB call things, and which of them they have at all.

Sources: the release notes and reference manuals of MySQL 5.7 to 9.7 (CHANGE MASTER TO, CHANGE REPLICATION SOURCE
TO, server system variables, roles) and MariaDB's documentation of the same.
"""

import re
from dataclasses import dataclass

from certs.errors import CertsError

_TEXT = re.compile(r"(mysql|mariadb)-(\d+)\.(\d+)(?:\.(\d+))?")
_LATEST = 999  # stands for "whatever this series has come to"
_OLDEST = {"mysql": (5, 7), "mariadb": (10, 5)}


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """A product and its version; one without its last number counts as the latest of its series."""

    is_mariadb: bool
    version: tuple[int, int, int]

    def __str__(self) -> str:
        major, minor, patch = self.version
        name = "MariaDB" if self.is_mariadb else "MySQL"
        return f"{name} {major}.{minor}" + ("" if patch == _LATEST else f".{patch}")

    def since(self, *, mysql: tuple[int, int, int] | None, mariadb: tuple[int, int, int] | None) -> bool:
        """Whether it has what came with these versions; None for a product that never got it."""
        first = mariadb if self.is_mariadb else mysql
        return first is not None and self.version >= first

    @property
    def word(self) -> str:
        """What the other end is called in option names: `SOURCE` or `MASTER`."""
        return "SOURCE" if self.since(mysql=(8, 0, 23), mariadb=None) else "MASTER"

    @property
    def change_source(self) -> str:
        """The statement that points a replica at its source."""
        return "CHANGE REPLICATION SOURCE TO" if self.word == "SOURCE" else "CHANGE MASTER TO"

    @property
    def replica(self) -> str:
        """The word in `START REPLICA` and `STOP SLAVE`."""
        return "REPLICA" if self.since(mysql=(8, 0, 22), mariadb=None) else "SLAVE"

    @property
    def has_tls_1_3(self) -> bool:
        """Whether the server speaks TLS 1.3."""
        return self.since(mysql=(8, 0, 16), mariadb=(10, 5, 0))

    @property
    def has_server_ciphersuites(self) -> bool:
        """Whether `tls_ciphersuites` is there; MariaDB has no setting for them."""
        return self.since(mysql=(8, 0, 16), mariadb=None)

    @property
    def has_replica_ciphersuites(self) -> bool:
        """Whether `SOURCE_TLS_CIPHERSUITES` or `MASTER_TLS_CIPHERSUITES` is there."""
        return self.since(mysql=(8, 0, 19), mariadb=None)

    @property
    def has_replica_tls_version(self) -> bool:
        """Whether `SOURCE_TLS_VERSION` or `MASTER_TLS_VERSION` is there."""
        return self.since(mysql=(5, 7, 10), mariadb=None)

    @property
    def has_roles(self) -> bool:
        """Whether CREATE ROLE is there."""
        return self.since(mysql=(8, 0, 0), mariadb=(10, 0, 5))

    @property
    def has_finer_privileges(self) -> bool:
        """Whether REPLICATION_SLAVE_ADMIN, in MariaDB REPLICATION SLAVE ADMIN, stands apart from SUPER."""
        return self.since(mysql=(8, 0, 1), mariadb=(10, 5, 2))

    @property
    def verifies_common_name_alone(self) -> bool:
        """Whether a replica looks for its source's name in the common name and nowhere else."""
        return not self.since(mysql=(8, 0, 12), mariadb=(10, 0, 0))

    @property
    def reload_tls(self) -> str | None:
        """The statement that reads changed certificates; None where only a restart does."""
        if self.is_mariadb:
            return "FLUSH SSL"
        return "ALTER INSTANCE RELOAD TLS" if self.version >= (8, 0, 16) else None


def parse_server(text: str) -> ServerVersion:
    """`mysql-5.7`, `mysql-8.0.22`, `mariadb-10.11`."""
    match = _TEXT.fullmatch(text.strip().lower())
    if match is None:
        raise CertsError(f"{text!r} is no server: write mysql-5.7, mysql-8.0.22, mysql-9.7, mariadb-10.11 or the like")
    product, major, minor, patch = match.groups()
    version = (int(major), int(minor), _LATEST if patch is None else int(patch))
    oldest = _OLDEST[product]
    if version[:2] < oldest:
        raise CertsError(f"{text} is older than {product}-{oldest[0]}.{oldest[1]}, the oldest known here: upgrade it")
    return ServerVersion(product == "mariadb", version)
