"""What a query says of who asks it: a replica, or somebody else.

A replica's set-up is a known list (rpl_replica.cc and semisync_replica_plugin.cc of MySQL, slave.cc and
semisync_slave.cc of MariaDB). Some of it only who reads the binlog says. The rest anybody may ask, and proves nothing.
"""

import re
from enum import Enum, auto

_VARIABLES = (
    rb"master_heartbeat_period|source_heartbeat_period|master_binlog_checksum|source_binlog_checksum|slave_uuid|"
    rb"replica_uuid|mariadb_slave_capability|slave_connect_state|slave_gtid_strict_mode|slave_gtid_ignore_duplicates|"
    rb"slave_until_gtid|slave_gtid_until_before_gtids|rpl_semi_sync_slave|rpl_semi_sync_replica"
)
_OF_REPLICATION = re.compile(
    rb"\s*(?:SET\s+@(?:" + _VARIABLES + rb")\s*=|SELECT\s+@(?:master|source)_binlog_checksum\b|"
    rb"SET\s+skip_replication\s*=|SELECT\s+@@global\.rpl_semi_sync_(?:master|source)_enabled|"
    rb"SHOW\s+VARIABLES\s+LIKE\s+'rpl_semi_sync_(?:master|source)_enabled')",
    re.IGNORECASE,
)
# What a replica asks too, and the quorum queries of asynchronous connection failover (rpl_io_monitor.cc).
_OF_A_SETUP = re.compile(
    rb"\s*(?:SELECT\s+UNIX_TIMESTAMP\(\)|SELECT\s+@@global\.(?:server_id|server_uuid|gtid_mode|gtid_domain_id|"
    rb"collation_server|time_zone|group_replication_group_name)\b|SHOW\s+VARIABLES\s+LIKE\s+'(?:server_id|server_uuid)'|"
    rb"SELECT\s+\*\s+FROM\s+\(\s*SELECT\s+CASE\s+WHEN|KILL\s|"
    # mariadb-dump asks for a position's GTID as well.
    rb"SELECT\s+binlog_gtid_pos\()",
    re.IGNORECASE,
)
# What programs ask of themselves when they connect, those that read the binlog among them.
_OF_ANYBODY = re.compile(
    rb"\s*(?:SET\s+NAMES\b|SET\s+(?:SESSION\s+|@@session\.|@@)?(?:autocommit|character_set_results|net_read_timeout|"
    rb"net_write_timeout|wait_timeout)\b|SELECT\s+@@|SELECT\s+VERSION\(\)|SHOW\s+(?:GLOBAL\s+)?VARIABLES\b|"
    rb"SHOW\s+(?:MASTER|BINARY\s+LOG|SLAVE|REPLICA|BINLOG)\b|SHOW\s+BINARY\s+LOGS|SELECT\s+CONNECTION_ID\(\)|"
    rb"SELECT\s+1\s*$|SELECT\s+\$\$)",
    re.IGNORECASE,
)
_VERB = re.compile(
    rb"\s*(?:/\*.*?\*/\s*|\(\s*)*(?:SELECT|INSERT|UPDATE|DELETE|REPLACE|SET|SHOW|USE|BEGIN|COMMIT|ROLLBACK|START|CREATE|"
    rb"DROP|ALTER|TRUNCATE|CALL|LOAD|LOCK|UNLOCK|FLUSH|GRANT|REVOKE|EXPLAIN|DESC|DESCRIBE|WITH|ANALYZE|OPTIMIZE|PREPARE|"
    rb"EXECUTE|DEALLOCATE|SAVEPOINT|RELEASE|XA|RENAME|KILL|DO|HANDLER|CHECK|PURGE|RESET|CHANGE|STOP|VALUES|TABLE|"
    rb"CHECKSUM|INSTALL|UNINSTALL)\b",
    re.IGNORECASE | re.DOTALL,
)
# In front of a text whose sender announces query attributes: none of them, in one set.
_NO_ATTRIBUTES = b"\x00\x01"


class Speaker(Enum):
    """Who asks so."""

    REPLICA = auto()
    SETUP = auto()
    """A replica does, and others may."""
    ANYBODY = auto()
    CLIENT = auto()
    """No replica does."""
    UNKNOWN = auto()
    """This is no SQL that is known."""


# What may yet turn out to be a replica's, where a text is cut off.
_AMBIGUOUS_VERB = re.compile(rb"\s*(?:SELECT|SET|SHOW|KILL)\b", re.IGNORECASE)


def speaker_of(text: bytes, *, is_whole: bool = True) -> Speaker:
    """Judge a query.

    Args:
        text: what follows the command byte, its beginning at least; query attributes may come first.
        is_whole: whether enough of it is there to tell; false where the capture cut it off.
    """
    text = text.removeprefix(_NO_ATTRIBUTES)
    if _OF_REPLICATION.match(text):
        return Speaker.REPLICA
    if _OF_A_SETUP.match(text):
        return Speaker.SETUP
    if _OF_ANYBODY.match(text):
        return Speaker.ANYBODY
    if not is_whole and _AMBIGUOUS_VERB.match(text):
        return Speaker.ANYBODY
    return Speaker.CLIENT if _VERB.match(text) else Speaker.UNKNOWN
