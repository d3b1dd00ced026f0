"""Stage 7, policy, at work: every command of the replica is read whole and judged; the source's answers pass as bytes.

A refused command is answered in place and never reaches the source; the session goes on. The stage ends with the dump
command. From there no command may come, see `proxy.relay`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import trio

from proxy.authentication import AuthenticatedReplica
from proxy.command_packets import CommandPacket, CommandReader
from proxy.compression import inflater_for
from proxy.legs import Leg
from proxy.objections import Objections
from proxy.outcomes import LegClosed, Reason, SessionRefused, err_packet
from proxy.policy import CommandDenied, Policy, authorise_server_id
from proxy.pump import Pump
from wire.commands import BinlogDump, BinlogDumpGtid, Command, OtherCommand, RegisterReplica, parse_command
from wire.errors import UnexpectedPacket, WireError
from wire.results import ErrPacket


class CommandObserver(Protocol):
    """Who wants to know what happens in the command phase: log, metrics, the list of sessions."""

    def command_denied(self, reason: str, *, is_refused: bool) -> None:
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
    authenticated: AuthenticatedReplica, policy: Policy, objections: Objections, observer: CommandObserver
) -> StartedDump | None:
    """Relays commands and their answers.

    Returns:
        The proof that the dump has begun, or None if the session ended without one.

    Raises:
        SessionRefused: the server id is not the identity's.
        WireError: a command cannot be parsed.
        LegClosed: a leg ended.
    """
    replica, source = authenticated.replica.leg, authenticated.source.leg
    answers = Pump(source, replica, count=observer.sent_to_replica)
    outcome: list[StartedDump | Exception] = []

    async def relay_answers() -> None:
        try:
            await answers.run()
        except LegClosed as error:
            outcome.append(error)
        nursery.cancel_scope.cancel()

    async def relay_questions() -> None:
        try:
            dump = await _relay_until_dump(authenticated, policy, objections, observer)
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
    authenticated: AuthenticatedReplica, policy: Policy, objections: Objections, observer: CommandObserver
) -> BinlogDump | BinlogDumpGtid | None:
    replica, source = authenticated.replica.leg, authenticated.source.leg
    commands = CommandReader(replica, policy.command_limit_bytes, inflater_for(authenticated.compression))
    registered: int | None = None
    while True:
        received = await commands.receive()
        command = parse_command(received.packet.payload, authenticated.capabilities)
        try:
            policy.judge(command)
        except CommandDenied as denial:
            observer.command_denied(str(denial), is_refused=objections.enforce or denial.is_final)
            if objections.enforce or denial.is_final:
                await _answer(replica, received, err_packet(Reason.COMMAND_REFUSED, str(denial)))
                continue
        if isinstance(command, RegisterReplica | BinlogDump | BinlogDumpGtid):
            observer.server_id_seen(command.server_id)
            try:
                authorise_server_id(
                    command.server_id, entry=authenticated.entry, registered=registered, objections=objections
                )
            except SessionRefused as refusal:
                if refusal.answer is not None:
                    await _answer(replica, received, refusal.answer)
                raise
            registered = command.server_id
        if commands.is_ahead and isinstance(command, BinlogDump | BinlogDumpGtid):
            raise UnexpectedPacket("a command behind the dump command")
        await source.send_all(received.sent)
        observer.sent_to_source(len(received.sent))
        if isinstance(command, BinlogDump | BinlogDumpGtid):
            return command
        if isinstance(command, OtherCommand) and command.command is Command.COM_QUIT:
            return None
        if isinstance(command, OtherCommand) and command.command is Command.COM_CLONE:
            # From here on it is the clone plugin's own conversation, and a large one (Phase.CLONE).
            await Pump(replica, source, count=observer.sent_to_source).run()
            return None


async def _answer(replica: Leg, command: CommandPacket, answer: ErrPacket) -> None:
    await replica.send_all(command.encode_answer(answer.serialize(with_sqlstate=True)))
