"""Stage 7, policy: what may be asked of the source before the dump begins, command by command."""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.config import PolicyName
from proxy.identity import RosterEntry
from proxy.objections import Objections
from proxy.outcomes import Reason, SessionRefused, Stage
from wire.commands import (
    BinlogDump,
    BinlogDumpGtid,
    Command,
    OtherCommand,
    ParsedCommand,
    Query,
    RegisterReplica,
)

_NUMBER = r"\d+"
_STRING = r"'[^'\\;]*'"
_VALUE = rf"(?:{_NUMBER}|{_STRING}|@@global\.binlog_checksum|NULL)"
_REPLICA_VARIABLES = (
    "master_heartbeat_period", "source_heartbeat_period", "master_binlog_checksum", "source_binlog_checksum",
    "slave_uuid", "replica_uuid", "mariadb_slave_capability", "slave_connect_state", "slave_gtid_strict_mode",
    "slave_gtid_ignore_duplicates", "slave_until_gtid", "rpl_semi_sync_slave", "rpl_semi_sync_replica",
)  # fmt: skip
_ASSIGNMENT = rf"@(?:{'|'.join(_REPLICA_VARIABLES)})\s*=\s*{_VALUE}"

# What the I/O threads of MySQL 5.6 to 9.x and MariaDB 10.3 to 11.x send between login and dump. Matched against the
# whole text, so that nothing can follow; none of it can carry a comment or a second statement.
_SETUP_QUERIES = (
    r"SELECT UNIX_TIMESTAMP\(\)",
    r"SELECT @@GLOBAL\.(?:SERVER_ID|SERVER_UUID|GTID_MODE|COLLATION_SERVER|TIME_ZONE|GTID_DOMAIN_ID)",
    r"SELECT @@GLOBAL\.RPL_SEMI_SYNC_(?:MASTER|SOURCE)_ENABLED",
    r"SELECT @(?:master|source)_binlog_checksum",
    rf"SELECT BINLOG_GTID_POS\({_STRING}\s*,\s*{_NUMBER}\)",
    r"SHOW (?:GLOBAL )?VARIABLES LIKE '(?:SERVER_ID|SERVER_UUID|RPL_SEMI_SYNC_MASTER_ENABLED)'",
    rf"SET {_ASSIGNMENT}(?:\s*,\s*{_ASSIGNMENT})*",
    rf"SET (?:SESSION )?(?:skip_replication|net_read_timeout|net_write_timeout|wait_timeout)\s*=\s*{_NUMBER}",
    r"SET NAMES [A-Za-z0-9_]+",
    rf"KILL (?:CONNECTION )?{_NUMBER}",
)
_SETUP_QUERY = re.compile(rf"\s*(?:{'|'.join(f'(?:{query})' for query in _SETUP_QUERIES)})\s*".encode(), re.IGNORECASE)

_REPLICATION_COMMANDS = frozenset({Command.COM_PING, Command.COM_QUIT})
_BACKUP_COMMANDS = _REPLICATION_COMMANDS | {
    Command.COM_INIT_DB, Command.COM_FIELD_LIST, Command.COM_STATISTICS, Command.COM_CLONE, Command.COM_SET_OPTION,
}  # fmt: skip


class CommandDenied(Exception):  # noqa: N818
    """One command is refused; the session may go on. The text is for the replica and for the log.

    Attributes:
        is_final: whether it is refused in observe mode as well.
    """

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class Policy:
    """What one route admits in the command phase."""

    name: PolicyName

    @property
    def command_limit_bytes(self) -> int:
        """The largest command. `SET @slave_connect_state` grows with the number of GTID domains."""
        return 1 << 20 if self.name == "replication" else 1 << 26

    def judge(self, command: ParsedCommand) -> None:
        """Judges one command of a replica; its server id is the roster's affair, see `authorise_server_id`.

        Raises:
            CommandDenied: the policy does not have it.
        """
        if isinstance(command, RegisterReplica | BinlogDump | BinlogDumpGtid):
            return
        if isinstance(command, Query):
            if self.name == "replication" and not _SETUP_QUERY.fullmatch(command.text):
                raise CommandDenied(
                    "this route admits only what a replica's I/O thread asks; policy = 'backup' or 'any' admits more"
                )
        elif command.command is Command.COM_CHANGE_USER:
            raise CommandDenied(
                "COM_CHANGE_USER is refused on every route: it would change the account behind the certificate",
                is_final=True,
            )
        elif not self._admits(command):
            raise CommandDenied(f"{command.command.name} is not part of the policy {self.name!r} of this route")

    def _admits(self, command: OtherCommand) -> bool:
        if self.name == "any":
            return True
        return command.command in (_BACKUP_COMMANDS if self.name == "backup" else _REPLICATION_COMMANDS)


def authorise_server_id(server_id: int, *, entry: RosterEntry, registered: int | None, objections: Objections) -> None:
    """Judges the server id of a COM_REGISTER_SLAVE or a dump command.

    Args:
        server_id: as the command has it. mysqlbinlog without --stop-never dumps as 0.
        entry: the roster's line.
        registered: what COM_REGISTER_SLAVE said before, if it did.
        objections: where one that does not agree is brought.

    Raises:
        SessionRefused: it is not the identity's, or not the one that was registered.
    """
    if registered is not None and registered != server_id:
        objections.raise_or_note(
            SessionRefused(
                Stage.POLICY,
                Reason.SERVER_ID_NOT_ALLOWED,
                f"{entry.name} registered as server id {registered} and asks for the dump as {server_id}",
                told=f"{entry.name} registered as server id {registered} and may not dump as {server_id}",
            )
        )
    elif entry.server_ids and server_id not in entry.server_ids:
        known = ", ".join(map(str, sorted(entry.server_ids)))
        refusal = SessionRefused(
            Stage.POLICY,
            Reason.SERVER_ID_NOT_ALLOWED,
            f"the roster gives {entry.name} the server ids {known}, not {server_id}",
            told=f"{entry.name} may not replicate as server id {server_id} on this route",
        )
        objections.raise_or_note(refusal)
