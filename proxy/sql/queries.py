"""What replicas ask before the dump: the list of the policy `replication`, and what a site adds to it.

Each pattern is matched against the whole text, so that nothing can follow. Strings in it are printable ASCII without
quotes, backslashes and semicolons, so that neither character set nor sql_mode can change what they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from proxy.sql.statements import Reading, Unreadable, read_statement

_NUMBER = r"\d+"
_STRING = r"'[ !#-&(-:<-\[\]-~]*'"

# `SET @name = value` by what sends it; `replica` and `source` are MySQL's names from 8.0.26 on.
_REPLICA_VARIABLES = (
    "master_heartbeat_period", "source_heartbeat_period",  # rpl_replica.cc get_master_version_and_clock; slave.cc
    "master_binlog_checksum", "source_binlog_checksum",  # the same; mysqlbinlog.cc says 'NONE'
    "slave_uuid", "replica_uuid",  # rpl_replica.cc io_thread_init_commands
    "mariadb_slave_capability",  # slave.cc; mysqlbinlog.cc of MariaDB
    "slave_connect_state", "slave_gtid_strict_mode", "slave_gtid_ignore_duplicates", "slave_until_gtid",  # slave.cc
    "slave_gtid_until_before_gtids",  # slave.cc from 11.3 on: START SLAVE UNTIL SQL_BEFORE_GTIDS
    "rpl_semi_sync_slave", "rpl_semi_sync_replica",  # semisync_replica_plugin.cc; semisync_slave.cc
)  # fmt: skip
_VALUE = rf"(?:{_NUMBER}|{_STRING}|@@global\.binlog_checksum|NULL)"
_ASSIGNMENT = rf"@(?:{'|'.join(_REPLICA_VARIABLES)})\s*=\s*{_VALUE}"

# The quorum queries of asynchronous connection failover, word by word (rpl_io_monitor.cc SQL_QUERIES, 8.0.23 to 9.7):
# the monitor's own, the I/O thread's, the members, the members of a 5.7 source.
_QUORUM = """
SELECT * FROM ( SELECT CASE WHEN ((SELECT count(*) from information_schema.plugins WHERE PLUGIN_NAME LIKE
'group_replication') <> 1) THEN (SELECT 2) WHEN ((SELECT IF({state} AND ((SELECT COUNT(*) FROM
performance_schema.replication_group_members WHERE MEMBER_STATE != 'ONLINE' AND MEMBER_STATE != 'RECOVERING') >=
((SELECT COUNT(*) FROM performance_schema.replication_group_members)/2)=0),1,0) FROM
performance_schema.replication_group_members WHERE member_id=@@global.server_uuid) = 1) THEN (SELECT 1) ELSE (SELECT 2)
END AS QUORUM ) Q
"""
_MEMBERS = """
SELECT @@global.group_replication_group_name, PRGM.MEMBER_HOST, PRGM.MEMBER_PORT, PRGM.MEMBER_STATE, {role}
FROM performance_schema.replication_group_members PRGM
"""
_ROLE_IN_5_7 = """
(SELECT IF(GR_SINGLE_PRIMARY_MODE.VARIABLE_VALUE = 'OFF', 'PRIMARY', IF(PRGM.MEMBER_ID =
GR_PRIMARY_MEMBER.VARIABLE_VALUE, 'PRIMARY', 'SECONDARY')) FROM (SELECT VARIABLE_VALUE FROM
performance_schema.global_status WHERE VARIABLE_NAME = 'group_replication_primary_member') GR_PRIMARY_MEMBER,
(SELECT VARIABLE_VALUE FROM performance_schema.global_variables WHERE
VARIABLE_NAME='group_replication_single_primary_mode') GR_SINGLE_PRIMARY_MODE ) MEMBER_ROLE
"""
_FAILOVER_QUERIES = (
    _QUORUM.format(state="((MEMBER_STATE='ONLINE') OR (MEMBER_STATE='RECOVERING'))"),
    _QUORUM.format(state="MEMBER_STATE='ONLINE'"),
    _MEMBERS.format(role="PRGM.MEMBER_ROLE"),
    _MEMBERS.format(role=_ROLE_IN_5_7),
)


def _verbatim(query: str) -> str:
    # The servers write them with runs of spaces of their own.
    return r"\s+".join(re.escape(word) for word in query.split())


# Beside each: which versions, and the file of their source.
REPLICATION_QUERIES = (
    r"SELECT UNIX_TIMESTAMP\(\)",  # all: rpl_slave.cc, rpl_replica.cc, slave.cc
    r"SELECT @@GLOBAL\.(?:SERVER_ID|SERVER_UUID|GTID_MODE)",  # MySQL 5.6 and later: rpl_slave.cc, rpl_replica.cc
    r"SHOW VARIABLES LIKE '(?:SERVER_ID|SERVER_UUID)'",  # MySQL 5.6, 5.7 rpl_slave.cc; MariaDB slave.cc
    r"SELECT @(?:master|source)_binlog_checksum",  # all
    rf"SET {_ASSIGNMENT}(?:\s*,\s*{_ASSIGNMENT})*",  # all, see above
    r"SET skip_replication\s*=\s*1",  # MariaDB slave.cc, replicate_events_marked_for_skip = FILTER_ON_MASTER
    r"SELECT @@GLOBAL\.GTID_DOMAIN_ID",  # MariaDB slave.cc, with GTIDs
    rf"SELECT BINLOG_GTID_POS\({_STRING},{_NUMBER}\)",  # MariaDB slave.cc, by position
    r"SELECT @@GLOBAL\.RPL_SEMI_SYNC_(?:MASTER|SOURCE)_ENABLED",  # MySQL semisync_replica_plugin.cc
    r"SHOW VARIABLES LIKE 'RPL_SEMI_SYNC_MASTER_ENABLED'",  # MySQL 5.6 semisync_slave_plugin.cc; semisync_slave.cc
    r"SELECT 1",  # MySQL 8.0.23 and later: rpl_io_monitor.cc, is a single source there?
    *map(_verbatim, _FAILOVER_QUERIES),  # the same, members of a group
    r"SET NAMES (?!DEFAULT\b)[0-9A-Za-z_]+",  # all: client.c mysql_reconnect, when a connection is made again
)  # fmt: skip
_REPLICATION_QUERY = re.compile(
    rf"\s*(?:{'|'.join(f'(?:{query})' for query in REPLICATION_QUERIES)})\s*".encode(), re.IGNORECASE
)
# MariaDB semisync_slave.cc kill_connection; MySQL clone_protocol_service.cc mysql_clone_kill.
_KILL = re.compile(rb"\s*KILL\s+(?:CONNECTION\s+)?([0-9]{1,20})\s*", re.IGNORECASE)


def is_replication_query(text: bytes) -> bool:
    """Whether a replica's I/O thread, or the monitor of its connection failover, asks this."""
    return _REPLICATION_QUERY.fullmatch(text) is not None


def killed_thread(text: bytes) -> int | None:
    """The thread id of a KILL of a connection; None for any other text."""
    kill = _KILL.fullmatch(text)
    return None if kill is None else int(kill.group(1))


# A pattern of a site may take time that grows with a power of the length.
_LONGEST_CUSTOM_QUERY_BYTES = 4096
# What a pattern that is meant for questions does not match.
_PROBES = (
    "", "x", "DROP DATABASE x", "DROP TABLE x.y", "SET GLOBAL x=1", "SET @@GLOBAL.x=1",
    "SET PERSIST x=1", "SET PASSWORD='x'", "DELETE FROM x", "DELETE FROM x.y", "UPDATE x SET y=1",
    "INSERT INTO x VALUES (1)", "CREATE DATABASE x", "ALTER TABLE x ADD y INT", "GRANT ALL ON *.* TO x", "SHUTDOWN",
    "LOAD DATA LOCAL INFILE 'x' INTO TABLE y", "SELECT * FROM mysql.user", "SELECT x INTO OUTFILE 'y'",
    "SELECT authentication_string FROM mysql.user", "CALL x()", "KILL 1", "TRUNCATE TABLE x", "RESET MASTER",
)  # fmt: skip


class BadPattern(Exception):  # noqa: N818
    """A pattern of a site cannot be used. The text says why."""


class CustomQueries:
    """What a site admits beyond its policy: regular expressions, each for a whole text."""

    def __init__(self, patterns: Sequence[str] = (), *, unsafe_patterns: Sequence[str] = ()) -> None:
        """Compiles them.

        Args:
            patterns: Python's syntax, read without case.
            unsafe_patterns: those that may match everything.

        Raises:
            BadPattern: no regular expression, or too wide for the kind.
        """
        self._patterns = [_compiled(pattern) for pattern in (*patterns, *unsafe_patterns)]
        for pattern, compiled in zip(patterns, self._patterns, strict=False):
            probe = next((probe for probe in _PROBES if compiled.fullmatch(probe)), None)
            if probe is not None:
                raise BadPattern(f"{pattern!r} matches {probe!r}; make it narrower, or put it under unsafe_queries")

    def admit(self, text: bytes, reading: Reading) -> bool:
        """Whether one of them matches a text that is one statement without comments."""
        if not self._patterns or len(text) > _LONGEST_CUSTOM_QUERY_BYTES or b"/*" in text:
            return False
        try:
            read_statement(text, reading)
            decoded = text.decode().strip()
        except (Unreadable, UnicodeDecodeError):
            return False
        return any(pattern.fullmatch(decoded) for pattern in self._patterns)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern, re.IGNORECASE | re.ASCII | re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadPattern(f"{pattern!r} is no regular expression: {error}") from error
    if _nests_repetitions(pattern):
        raise BadPattern(f"{pattern!r} repeats without bound what repeats or chooses itself, which could take for ever")
    return compiled


def _nests_repetitions(pattern: str) -> bool:
    """Whether a group that is repeated without bound has a repetition without bound, or a choice, in it."""
    without_classes = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", pattern, flags=re.DOTALL)
    has_repetition = [False]
    for piece in re.finditer(r"(\()|(\)?)([*+]|\{\d*,\})|(\))|(\|)", without_classes):
        opened, closed, repeated, closed_alone, choice = piece.groups()
        if opened:
            has_repetition.append(False)
        elif closed or closed_alone:
            inner = has_repetition.pop() if len(has_repetition) > 1 else False
            if closed and inner:
                return True
            has_repetition[-1] |= inner or bool(repeated)
        elif repeated or choice:
            has_repetition[-1] = True
    return False
