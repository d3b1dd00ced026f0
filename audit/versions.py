"""Which server it is, and the words that its dialect uses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

# The end of support, by series: the vendors' pages "Oracle Lifetime Support Policy" and "MariaDB Server maintenance
# policy". A series that is not here is unknown, which is said and is not an error.
_END_OF_SUPPORT = {
    ("MySQL", 5, 7): datetime(2023, 10, 31, tzinfo=UTC),
    ("MySQL", 8, 0): datetime(2026, 4, 30, tzinfo=UTC),
    ("MySQL", 8, 4): datetime(2032, 4, 30, tzinfo=UTC),
    ("MySQL", 9, 7): datetime(2034, 4, 30, tzinfo=UTC),
    ("MariaDB", 10, 4): datetime(2024, 6, 18, tzinfo=UTC),
    ("MariaDB", 10, 5): datetime(2025, 6, 24, tzinfo=UTC),
    ("MariaDB", 10, 6): datetime(2026, 7, 6, tzinfo=UTC),
    ("MariaDB", 10, 11): datetime(2028, 2, 16, tzinfo=UTC),
    ("MariaDB", 11, 4): datetime(2029, 5, 29, tzinfo=UTC),
    ("MariaDB", 11, 8): datetime(2028, 6, 4, tzinfo=UTC),
    ("MariaDB", 12, 3): datetime(2029, 6, 30, tzinfo=UTC),
}
# Between these, statements and columns are those that this package was written for.
_KNOWN_MYSQL = ((5, 7), (9, 99))
_KNOWN_MARIADB = ((10, 3), (12, 99))


@dataclass(frozen=True)
class ServerVersion:
    """A server's product and release.

    Attributes:
        text: as the server gives it.
        number: major, minor, patch; zeros where the text has none.
    """

    text: str
    is_mariadb: bool
    number: tuple[int, int, int]

    @classmethod
    def parse(cls, text: str) -> ServerVersion:
        """Reads `@@version`; any text will do, for one that has no number is a version that is not known."""
        # MariaDB 10 calls itself 5.5.5-10... in its greeting, and in @@version where a proxy repeats that.
        found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text.removeprefix("5.5.5-"))
        major, minor, patch = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
        return cls(text, "mariadb" in text.lower(), (major, minor, patch))

    @property
    def product(self) -> str:
        """MySQL or MariaDB; relatives such as Percona Server count as MySQL."""
        return "MariaDB" if self.is_mariadb else "MySQL"

    @property
    def is_known(self) -> bool:
        """Whether this package was written for it."""
        first, last = _KNOWN_MARIADB if self.is_mariadb else _KNOWN_MYSQL
        return first <= self.number[:2] <= last

    @property
    def end_of_support(self) -> datetime | None:
        """When its series ends; None where that is not known here."""
        return _END_OF_SUPPORT.get((self.product, *self.number[:2]))

    def is_mysql(self, *at_least: int) -> bool:
        """Whether it is MySQL, of this release or a later one."""
        return not self.is_mariadb and self.number >= at_least

    def is_maria(self, *at_least: int) -> bool:
        """Whether it is MariaDB, of this release or a later one."""
        return self.is_mariadb and self.number >= at_least

    @property
    def has_source_words(self) -> bool:
        """CHANGE REPLICATION SOURCE TO and SOURCE_...: MySQL 8.0.23."""
        return self.is_mysql(8, 0, 23)

    @property
    def has_replica_words(self) -> bool:
        """START REPLICA and SHOW REPLICA STATUS: MySQL 8.0.22. MariaDB keeps the others throughout."""
        return self.is_mysql(8, 0, 22)

    @property
    def has_persist(self) -> bool:
        """SET PERSIST: MySQL 8.0."""
        return self.is_mysql(8)

    @property
    def has_tls_reload(self) -> bool:
        """TLS variables that change while the server runs: MySQL 8.0.16."""
        return self.is_mysql(8, 0, 16)

    @property
    def has_tls_1_3(self) -> bool:
        """TLS 1.3: MySQL 8.0.16, all of MariaDB that has tls_version."""
        return self.is_mariadb or self.is_mysql(8, 0, 16)

    @property
    def has_roles(self) -> bool:
        """Roles: MySQL 8.0, all of MariaDB that is known here."""
        return self.is_mariadb or self.is_mysql(8)

    @property
    def has_account_lock(self) -> bool:
        """ACCOUNT LOCK: MySQL 5.7, MariaDB 10.4.2."""
        return self.is_mysql(5, 7) or self.is_maria(10, 4, 2)
