"""What is known of other people's clients, in one place: the tests try all of it, and docs/clients.md says it."""

from __future__ import annotations

from enum import Enum
from typing import Any

from testbed.flavours import Flavour

DEPLOYMENTS = ("source-side-unix", "source-side-tcp", "source-side-tls", "replica-side", "tunnel")
PLAINTEXT = ("replica-side", "tunnel")  # the client speaks plaintext, to the Binlock beside it


class Client(Enum):
    """A client by the name that docs/clients.md has for it."""

    PYTHON_MYSQL_REPLICATION = "python-mysql-replication"
    ZONGJI = "@vlasky/zongji"
    MYSQL2 = "mysql2"
    MARIADB_NPM = "mariadb (npm)"
    PYMYSQL = "PyMySQL"
    CONNECTOR = "mysql-connector-python"
    CONNECTOR_PURE = "mysql-connector-python, pure"
    MYSQL = "mysql 9.7"
    MARIADB_10_11 = "mariadb 10.11"
    MARIADB_11_8 = "mariadb 11.8"


READERS = {Client.PYTHON_MYSQL_REPLICATION: 21, Client.ZONGJI: 22}  # and the server id that each has here
COMMAND_LINES = {
    Client.MYSQL: Flavour.MYSQL_9_7,
    Client.MARIADB_10_11: Flavour.MARIADB_10_11,
    Client.MARIADB_11_8: Flavour.MARIADB_11_8,
}
QUERY_CLIENTS = tuple(client for client in Client if client not in READERS)
# The library that a reader logs in with.
LIBRARIES = {Client.PYTHON_MYSQL_REPLICATION: Client.PYMYSQL, Client.ZONGJI: Client.MYSQL2}

# By the algorithm, where a client can ask for compression.
COMPRESSION = {
    Client.ZONGJI: ("zlib",),
    Client.MYSQL2: ("zlib",),
    Client.MARIADB_NPM: ("zlib",),
    Client.CONNECTOR: ("zlib",),
    Client.CONNECTOR_PURE: ("zlib",),
    Client.MYSQL: ("zlib", "zstd"),
    Client.MARIADB_10_11: ("zlib",),
    Client.MARIADB_11_8: ("zlib",),
}

# The plugin of an account that is made without naming one, and those that are tried beside it.
DEFAULT_PLUGIN = {
    Flavour.MYSQL_9_7: "caching_sha2_password",
    Flavour.MARIADB_10_11: "mysql_native_password",
    Flavour.MARIADB_11_8: "mysql_native_password",
}
PLUGINS = {
    Flavour.MYSQL_9_7: ("sha256_password",),
    Flavour.MARIADB_10_11: ("ed25519",),
    Flavour.MARIADB_11_8: ("ed25519", "parsec", "caching_sha2_password"),
}

_NO_ED25519 = {
    Client.MYSQL2: "unknown plugin client_ed25519",
    Client.CONNECTOR: "plugin 'client_ed25519' cannot be loaded",
    Client.CONNECTOR_PURE: "plugin 'client_ed25519' is not supported",
    Client.MYSQL: "plugin 'client_ed25519' cannot be loaded",
}
_NO_PARSEC = {
    Client.MYSQL2: "unknown plugin parsec",
    Client.PYMYSQL: "plugin .*parsec.* not configured",
    Client.CONNECTOR: "plugin 'parsec' cannot be loaded",
    Client.CONNECTOR_PURE: "plugin 'parsec' is not supported",
    Client.MYSQL: "plugin 'parsec' cannot be loaded",
    Client.MARIADB_10_11: "Plugin parsec could not be loaded",
}
# Who cannot log in, and what it shows (a regular expression), by plugin and by whether the client's leg is encrypted.
# In plaintext caching_sha2_password fails only while the source's cache is cold: neither connector asks for a key.
CANNOT_LOG_IN: dict[tuple[str, bool], dict[Client, str]] = {
    ("caching_sha2_password", False): {
        Client.CONNECTOR: "Authentication requires secure connection",
    },
    ("sha256_password", False): {Client.CONNECTOR_PURE: "sha256_password requires SSL"},
    ("ed25519", True): _NO_ED25519,
    ("ed25519", False): _NO_ED25519,
    ("parsec", True): _NO_PARSEC,
    ("parsec", False): _NO_PARSEC,
}

# What each sends between its login and its first query or its dump, as regular expressions; a reader's two connections
# together. Anything else that it sends is the query, the dump, or COM_QUIT.
SENDS: dict[Client, tuple[str, ...]] = {
    Client.PYTHON_MYSQL_REPLICATION: (
        r"SET NAMES utf8",
        r"SET AUTOCOMMIT = 0",
        r"SHOW GLOBAL VARIABLES LIKE 'BINLOG_CHECKSUM'",
        r"SET @master_binlog_checksum= @@global\.binlog_checksum",
        r"SET @mariadb_slave_capability=4",
        r"SHOW VARIABLES LIKE 'BINLOG_ROW_METADATA';",
        r"SET @slave_connect_state = '[0-9,-]*'",
        r"SET @slave_gtid_strict_mode=1",
        r"SET @slave_gtid_ignore_duplicates=0",
        r"SHOW BINARY LOG STATUS",
        r"SHOW MASTER STATUS",
        r"SET @slave_uuid = '[0-9a-f-]+', @replica_uuid = '[0-9a-f-]+'",
        r"SET @master_heartbeat_period = \d+",
        r"COM_REGISTER_SLAVE",
    ),
    Client.ZONGJI: (
        r"SELECT VERSION\(\) AS version",
        r"select @@GLOBAL\.binlog_checksum as checksum",
        r"set @master_binlog_checksum=@@global\.binlog_checksum",
        r"SET @mariadb_slave_capability=4",
        r"SET @slave_connect_state='[0-9,-]*'",
        r"SHOW BINARY LOGS",
        r"SELECT @@GLOBAL\.gtid_executed AS gtidExecuted",
        r"SELECT @@GLOBAL\.gtid_current_pos AS gtidPos",
        r"KILL \d+",
    ),
    Client.MYSQL2: (),
    Client.MARIADB_NPM: (r"SET NAMES utf8mb4",),
    Client.PYMYSQL: (r"SET NAMES utf8mb4", r"SET AUTOCOMMIT = 0"),
    Client.CONNECTOR: (r"SET NAMES 'utf8mb4' COLLATE '\w+'", r"set autocommit=0", r"COM_PING"),
    Client.CONNECTOR_PURE: (
        r"SET NAMES 'utf8mb4' COLLATE '\w+'",
        r"SET @@session\.autocommit = OFF",
        r"COM_PING",
    ),
    Client.MYSQL: (r"select @@version_comment limit 1", r"select \$\$"),
    Client.MARIADB_10_11: (),
    Client.MARIADB_11_8: (),
}

# What a reader needs of that beside what the policy `replication` admits anyway: the key `queries` of its route.
QUERIES: dict[Client, tuple[str, ...]] = {
    Client.PYTHON_MYSQL_REPLICATION: (
        r"SET AUTOCOMMIT = 0",
        r"SHOW GLOBAL VARIABLES LIKE 'BINLOG_CHECKSUM'",
        r"SHOW VARIABLES LIKE 'BINLOG_ROW_METADATA';",
        r"SHOW BINARY LOG STATUS",
        r"SHOW MASTER STATUS",
    ),
    Client.ZONGJI: (
        r"SELECT VERSION\(\) AS version",
        r"SELECT @@GLOBAL\.binlog_checksum AS checksum",
        r"SHOW BINARY LOGS",
        r"SELECT @@GLOBAL\.gtid_executed AS gtidExecuted",
        r"SELECT @@GLOBAL\.gtid_current_pos AS gtidPos",
    ),
}


def reader_policy(reader: Client) -> dict[str, Any]:
    """The keys of a reader's route that say what it may send."""
    return {"queries": list(QUERIES[reader])}


def login_failure(client: Client, plugin: str, *, encrypted: bool) -> str | None:
    """What the client shows when it cannot log in with that plugin over such a leg; None where it can."""
    return CANNOT_LOG_IN.get((plugin, encrypted), {}).get(LIBRARIES.get(client, client))
