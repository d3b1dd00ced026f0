"""Stage 7, policy, at work: every command of the replica is read whole and judged; the source's answers pass as bytes.

A refused command is answered in place and never reaches the source; the session goes on. The stage ends with the dump
command. From there no command may come, see `proxy.stages.relay`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import trio

from proxy.legs.command_packets import CommandPacket, CommandReader
from proxy.legs.leg import Leg
from proxy.legs.pump import Pump
from proxy.outcomes import LegClosed, Reason, SessionRefused, err_packet
from proxy.protocol.cloning import CloneConversation
from proxy.protocol.compression import inflater_for
from proxy.protocol.turns import CompressedTurns, Turns
from proxy.stages.authentication import AuthenticatedReplica
from proxy.stages.objections import Objections
from proxy.stages.policy import CommandDenied, CommandJudge, authorise_server_id
from wire.commands import (
    BinlogDump,
    BinlogDumpGtid,
    Command,
    OtherCommand,
    ParsedCommand,
    RegisterReplica,
    command_of,
    parse_command,
)
from wire.errors import UnexpectedPacket, WireError
from wire.results import ErrPacket


class CommandObserver(Protocol):
    """Who wants to know what happens in the command phase: log, metrics, the list of sessions."""

    def command_admitted(self, command: ParsedCommand) -> None:
        """A command is in the policy."""

    def command_denied(self, command: ParsedCommand, reason: str, *, is_refused: bool) -> None:
        """A command is not in the policy: refused and answered, or in observe mode only noted."""

    def server_id_seen(self, server_id: int) -> None:
        """The replica registered, or asked for the dump, with this id."""

    def sent_to_replica(self, count: int) -> None:
        """So many bytes went to the replica."""

    def sent_to_source(self, count: int) -> None:
        """So many bytes went to the source."""


@dataclass(frozen=True, slots=True)
class StartedDump:
    """Proof that an authorised dump command has gone to the source. Only `relay_commands` makes one."""

    authenticated: AuthenticatedReplica
    dump: BinlogDump | BinlogDumpGtid


async def relay_commands(
    authenticated: AuthenticatedReplica, judge: CommandJudge, objections: Objections, observer: CommandObserver
) -> StartedDump | None:
    """Relays commands and their answers.

    Returns:
        The proof that the dump has begun, or None if the session ended without one.

    Raises:
        SessionRefused: the server id is not the identity's.
        WireError: a command cannot be parsed, or is refused while the answer to an earlier one is still to come.
        LegClosed: a leg ended.
    """
    replica, source = authenticated.replica.leg, authenticated.source.leg
    new_inflater = inflater_for(authenticated.compression)
    turns = Turns() if new_inflater is None else CompressedTurns(new_inflater)
    answers = Pump(source, replica, count=observer.sent_to_replica, admit=turns.watch)
    replies = _Replies(replica, answers, turns)
    outcome: list[StartedDump | Exception] = []

    async def relay_answers() -> None:
        try:
            await answers.run()
        except (LegClosed, WireError) as error:
            outcome.append(error)
        nursery.cancel_scope.cancel()

    async def relay_questions() -> None:
        try:
            dump = await _relay_until_dump(authenticated, judge, objections, observer, replies)
        except (LegClosed, WireError, Exception) as error:  # noqa: BLE001 - raised again below, outside the nursery
            outcome.append(error)
            nursery.cancel_scope.cancel()
            return
        if dump is None:
            nursery.cancel_scope.cancel()
            return
        outcome.append(StartedDump(authenticated, dump))
        answers.pause()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay_answers)
        nursery.start_soon(relay_questions)
    for result in outcome:
        if isinstance(result, Exception):
            raise result
        return result
    return None


async def _relay_until_dump(
    authenticated: AuthenticatedReplica,
    judge: CommandJudge,
    objections: Objections,
    observer: CommandObserver,
    replies: _Replies,
) -> BinlogDump | BinlogDumpGtid | None:
    replica, source = authenticated.replica.leg, authenticated.source.leg
    commands = CommandReader(replica, judge.command_limit_bytes, inflater_for(authenticated.compression))
    clone = CloneConversation()
    registered: int | None = None
    while True:
        # One that sends without waiting must not keep the other sessions waiting.
        await trio.lowlevel.checkpoint()
        received = await commands.receive()
        payload = received.packet.payload
        if clone.takes(payload, replies.turns.first_byte):
            await source.send_all(received.sent)
            observer.sent_to_source(len(received.sent))
            continue
        command = parse_command(payload, authenticated.capabilities)
        denial = await _denial_of(command, judge, objections, observer)
        if denial is not None:
            replies.refuse(received, denial)
            continue
        if isinstance(command, RegisterReplica | BinlogDump | BinlogDumpGtid):
            observer.server_id_seen(command.server_id)
            try:
                authorise_server_id(
                    command.server_id, entry=authenticated.entry, registered=registered, objections=objections
                )
            except SessionRefused as refusal:
                if refusal.answer is not None:
                    replies.refuse(received, refusal.answer)
                raise
            registered = command.server_id
        if isinstance(command, BinlogDump | BinlogDumpGtid):
            replies.require_answered()
            if commands.is_ahead:
                raise UnexpectedPacket("a command behind the dump command")
        replies.turns.asked(command_of(payload))
        await source.send_all(received.sent)
        observer.sent_to_source(len(received.sent))
        if isinstance(command, BinlogDump | BinlogDumpGtid):
            return command
        if isinstance(command, OtherCommand) and command.command is Command.COM_QUIT:
            return None
        if isinstance(command, OtherCommand) and command.command is Command.COM_CLONE:
            clone.begin()


async def _denial_of(
    command: ParsedCommand, judge: CommandJudge, objections: Objections, observer: CommandObserver
) -> ErrPacket | None:
    try:
        await judge.decide(command)
    except CommandDenied as denial:
        is_refused = objections.enforce or denial.is_final
        observer.command_denied(command, str(denial), is_refused=is_refused)
        return err_packet(Reason.COMMAND_REFUSED, str(denial)) if is_refused else None
    observer.command_admitted(command)
    return None


@dataclass(frozen=True, slots=True)
class _Replies:
    """Binlock's own answers, beside those of the source."""

    replica: Leg
    answers: Pump
    turns: Turns

    def require_answered(self) -> None:
        """Raises UnexpectedPacket unless the answers to all commands before have passed."""
        self.turns.require_answered(is_quiet=self.answers.is_quiet)

    def refuse(self, command: CommandPacket, answer: ErrPacket) -> None:
        """Answers in the source's place, all at once: while this runs the source's answers have to wait.

        Raises:
            UnexpectedPacket: it is not the place for it, or the replica does not read.
        """
        self.require_answered()
        data = command.encode_answer(answer.serialize(with_sqlstate=True))
        if self.replica.try_send(memoryview(data)) != len(data):
            raise UnexpectedPacket("a command of a replica that does not read its answers")
