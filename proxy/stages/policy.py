"""Stage 7, policy: what may be asked of the source before the dump begins, command by command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from proxy.configuration.config import PolicyName
from proxy.outcomes import Reason, SessionRefused, Stage
from proxy.sql.backup import LONGEST_STATEMENT_BYTES, NotAdmitted, after_character_set, judge_statement
from proxy.sql.queries import CustomQueries, is_replication_query, killed_thread
from proxy.sql.statements import Reading
from proxy.sql.vocabulary import KNOWN_WORDS, TRANSPARENT_COLLATIONS, UTF8MB4_0900_AI_CI
from proxy.stages.identity import RosterEntry
from proxy.stages.objections import Objections
from wire.commands import (
    BinlogDump,
    BinlogDumpGtid,
    Command,
    OtherCommand,
    ParsedCommand,
    Query,
    RegisterReplica,
)

REPLICATION_COMMANDS = frozenset({Command.COM_PING, Command.COM_QUIT})
# COM_REFRESH is how mariadb-dump and old mysqldumps flush the logs; COM_RESET_CONNECTION ends a clone.
BACKUP_COMMANDS = REPLICATION_COMMANDS | {
    Command.COM_INIT_DB, Command.COM_FIELD_LIST, Command.COM_STATISTICS, Command.COM_CLONE, Command.COM_REFRESH,
    Command.COM_RESET_CONNECTION,
}  # fmt: skip
_REFRESH_LOG = b"\x02"  # mysql_com.h
# Longer statements are read in a thread, so that the other sessions do not wait for it.
_LONG_STATEMENT_BYTES = 1 << 14


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
    """What one route admits in the command phase.

    Attributes:
        queries: what the site adds.
    """

    name: PolicyName
    queries: CustomQueries = field(default_factory=CustomQueries)

    def begin(
        self, *, charset: int = 0, is_mysql_8: bool = False, may_kill: Callable[[int], bool] = lambda _: False
    ) -> CommandJudge:
        """Who judges the commands of one session.

        Args:
            charset: the collation that its login names.
            is_mysql_8: whether the source is a MySQL from 8.0 on.
            may_kill: whether a thread id is that of a session of the same roster entry.
        """
        is_transparent = charset in TRANSPARENT_COLLATIONS or (is_mysql_8 and charset == UTF8MB4_0900_AI_CI)
        return CommandJudge(self, may_kill, Reading(is_ascii_transparent=is_transparent))


@dataclass(slots=True)
class CommandJudge:
    """Judges the commands of one session, one after the other: earlier ones change how later ones are read."""

    policy: Policy
    _may_kill: Callable[[int], bool]
    _reading: Reading

    @property
    def command_limit_bytes(self) -> int:
        """The largest command. `SET @slave_connect_state` grows with the number of GTID domains."""
        return {"replication": 1 << 20, "backup": 2 * LONGEST_STATEMENT_BYTES, "any": 1 << 26}[self.policy.name]

    async def decide(self, command: ParsedCommand) -> None:
        """As `judge`, without keeping other sessions waiting for a long one."""
        if isinstance(command, Query) and len(command.text) > _LONG_STATEMENT_BYTES:
            await trio.to_thread.run_sync(self.judge, command)
        else:
            self.judge(command)

    def judge(self, command: ParsedCommand) -> None:
        """Judges one command of a replica; its server id is the roster's affair, see `authorise_server_id`.

        Raises:
            CommandDenied: the policy does not have it.
        """
        if isinstance(command, RegisterReplica | BinlogDump | BinlogDumpGtid):
            return
        if isinstance(command, Query):
            if self.policy.name != "any":
                self._judge_query(command.text)
        elif command.command is Command.COM_CHANGE_USER:
            raise CommandDenied(
                "COM_CHANGE_USER is refused on every route: it would change the account behind the certificate",
                is_final=True,
            )
        elif not self._admits(command):
            raise CommandDenied(f"{command.command.name} is not part of the policy {self.policy.name!r} of this route")
        elif command.command is Command.COM_RESET_CONNECTION:
            self._reading = Reading()

    def _judge_query(self, text: bytes) -> None:
        if is_replication_query(text):
            self._note_character_set(text)
        elif (thread_id := killed_thread(text)) is not None:
            if not self._may_kill(thread_id):
                raise CommandDenied("KILL is for the threads of the same roster entry's own sessions on this route")
        elif self.policy.queries.admit(text, self._reading):
            if not text.lstrip()[:6].upper().startswith((b"SELECT", b"SHOW")):
                self._reading = Reading()
        elif self.policy.name == "replication":
            raise CommandDenied(
                "this route admits only what a replica's I/O thread asks; policy = 'backup' or 'any' admits more"
            )
        else:
            try:
                self._reading = judge_statement(text, self._reading)
            except NotAdmitted as error:
                raise CommandDenied(f"the policy 'backup' of this route does not admit {error}") from error

    def _note_character_set(self, text: bytes) -> None:
        # A replica's own may be any; under `replication` nothing depends on it.
        words = text.decode("ascii").lower().split()
        if words[:2] == ["set", "names"]:
            self._reading = after_character_set(words[2], self._reading)

    def _admits(self, command: OtherCommand) -> bool:
        if self.policy.name == "any":
            return True
        if command.command is Command.COM_REFRESH and command.argument != _REFRESH_LOG:
            return False
        return command.command in (BACKUP_COMMANDS if self.policy.name == "backup" else REPLICATION_COMMANDS)


_NAMES = {
    Query: Command.COM_QUERY,
    RegisterReplica: Command.COM_REGISTER_SLAVE,
    BinlogDump: Command.COM_BINLOG_DUMP,
    BinlogDumpGtid: Command.COM_BINLOG_DUMP_GTID,
}


def name_of(command: ParsedCommand) -> str:
    """The command by the manual's name, as in the metrics."""
    return command.command.name if isinstance(command, OtherCommand) else _NAMES[type(command)].name


def shape_of(text: bytes) -> str:
    """What a log may say of a query: its first words, as far as they are SQL's, and three at most."""
    shown: list[str] = []
    for word in text[:80].decode("ascii", "replace").upper().split()[:3]:
        if word not in KNOWN_WORDS:
            break
        shown.append(word)
    return " ".join(shown) or "other"


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
