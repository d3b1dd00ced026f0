"""One session, from accept to close. Read `serve_replica` first: it is the whole proxy on one screen."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from proxy.configuration.config import LimitsTable
from proxy.legs.leg import Leg
from proxy.legs.packets import PacketStream
from proxy.openssl import Negotiated
from proxy.outcomes import Ending, LegClosed, Reason, SessionRefused, Stage, err_packet
from proxy.protocol.bridging import PasswordKey
from proxy.reporting.logs import log_defect, log_event
from proxy.reporting.metrics import Metrics
from proxy.reporting.refusals import Outcome, Refusals
from proxy.room import require_room
from proxy.sessions import SessionRegistry
from proxy.site import Route
from proxy.stages.authentication import AuthenticatedReplica, relay_authentication
from proxy.stages.command_phase import StartedDump, relay_commands
from proxy.stages.departures import left_when_accepted
from proxy.stages.greeting import relay_greeting
from proxy.stages.objections import Objections
from proxy.stages.policy import CommandJudge, name_of, shape_of
from proxy.stages.preamble import Caller, caller_at, preamble_for, read_preamble
from proxy.stages.relay import BinlogRelay
from proxy.stages.source import GreetingSource, connect_source
from proxy.stages.tls import encrypt_replica
from proxy.threads import GreetedThreads, Owner
from wire.commands import ParsedCommand, Query
from wire.errors import WireError
from wire.login import HandshakeResponse41
from wire.phases import Phase, Sender
from wire.results import ErrPacket

# How long a refused peer may take to read why.
_ANSWER_SECONDS = 2


@dataclass(slots=True)
class Runtime:
    """What all sessions share. A reload replaces the limits, which hold for what begins after it."""

    limits: LimitsTable
    metrics: Metrics
    registry: SessionRegistry
    password_key: PasswordKey
    threads: GreetedThreads = field(default_factory=GreetedThreads)
    refusals: Refusals = field(default_factory=Refusals)


async def serve_replica(sock: socket.socket, route: Route, runtime: Runtime) -> None:
    """Carries one replica's connection. Never raises but to be cancelled."""
    try:
        session = _Session(sock, route, runtime)
    except OSError:
        # The peer has reset the connection before it could be looked at.
        sock.close()
        return
    async with _session_scope(session):
        with trio.fail_after(runtime.limits.connection_phase_seconds):
            caller = await read_preamble(session.replica.leg, session.caller, route.load_balancers)
            session.note_caller(caller)
            peer = route.allowlist.admit(caller.address, caller.port)
            require_room(session.record, runtime.registry, runtime.limits)
            session.enter(Stage.SOURCE)
            source = await connect_source(
                peer,
                route.source,
                timeout_seconds=runtime.limits.source_connect_seconds,
                preamble=preamble_for(peer, route.send_proxy_protocol, session.local),
            )
            session.note_source(source)
            session.enter(Stage.GREETING)
            greeted = await relay_greeting(
                source,
                replica=session.replica,
                offers_tls=route.replica_context is not None,
                source_needs_tls=route.source_tls is not None,
            )
            session.enter(Stage.TLS)
            encrypted = await encrypt_replica(greeted, route.replica_context)
            session.note_tls("replica", encrypted.negotiated)
            session.enter(Stage.IDENTITY)
            verified = route.roster.verify_replica(encrypted, session.objections)
            session.record.identity = verified.identity
            session.enter(Stage.AUTHENTICATION)
            authenticated = await relay_authentication(
                verified,
                route=route.name if route.connection_attributes else None,
                source_tls=route.source_tls,
                password_key=runtime.password_key,
                objections=session.objections,
                account_seen=session.note_account,
            )
            session.note_authenticated(authenticated)
        session.enter(Stage.POLICY)
        judge = session.begin_commands(authenticated)
        started = await relay_commands(authenticated, judge, session.objections, session)
        if started is None:
            return
        session.enter(Stage.RELAY)
        await session.relay(started)


class _Session:
    """A session in progress: its two legs, its record, its counters."""

    def __init__(self, sock: socket.socket, route: Route, runtime: Runtime) -> None:
        self.caller = caller_at(*sock.getpeername()[:2])
        self.local = caller_at(*sock.getsockname()[:2])
        self.replica = PacketStream(Leg(sock, "replica"), peer=Sender.REPLICA)
        self.source: PacketStream | None = None
        self.route = route
        self.runtime = runtime
        self.objections = Objections(route.enforce, self._note_objection)
        self.record = runtime.registry.open(route=route, peer=(self.caller.address, self.caller.port))
        self.ending: Ending | None = None
        self.is_concluded = False
        self._is_heard = False
        self._thread_id: int | None = None
        metrics = runtime.metrics
        self._to_replica = metrics.relayed_bytes.labels(route.name, "source_to_replica")
        self._to_source = metrics.relayed_bytes.labels(route.name, "replica_to_source")
        self._acknowledgement = metrics.semisync_ack_seconds.labels(route.name)

    def enter(self, stage: Stage) -> None:
        self.record.stage = stage

    def note_caller(self, caller: Caller) -> None:
        self.record.peer = (caller.address, caller.port)
        self.record.via = caller.via or ""

    def note_source(self, source: GreetingSource) -> None:
        self.source = source.stream

    def note_tls(self, leg: str, negotiated: Negotiated | None) -> None:
        if negotiated is None:
            return
        if leg == "replica":
            self.record.replica_tls = negotiated
        else:
            self.record.source_tls = negotiated
        self.runtime.metrics.count_handshake(self.route.name, leg, negotiated)

    def note_account(self, account: str) -> None:
        self.record.account = account

    def note_authenticated(self, authenticated: AuthenticatedReplica) -> None:
        self.note_tls("source", authenticated.source_negotiated)
        record = self.record
        record.entry, record.identity = authenticated.entry, authenticated.identity
        record.account, record.is_authenticated = authenticated.account, True
        record.compression = authenticated.compression or ""
        record.legs = [authenticated.replica.leg, authenticated.source.leg]
        log_event(logging.INFO, "session_started", **record.fields())

    def departure(self, error: LegClosed) -> SessionRefused:
        """What the end of a leg is called."""
        record = self.record
        if error.leg == "source":
            return SessionRefused(record.stage, Reason.SOURCE_DISCONNECTED, str(error))
        has_spoken = self._is_heard or record.bytes_to_source
        if record.is_authenticated and not has_spoken and record.replica_tls is not None:
            return left_when_accepted()
        return SessionRefused(record.stage, Reason.DISCONNECTED, str(error))

    async def relay(self, started: StartedDump) -> None:
        relay = BinlogRelay(started, self)
        self.record.tracker = relay.tracker
        self.record.end = relay.end
        metrics, record = self.runtime.metrics, self.record
        log_event(logging.INFO, "stream_started", **record.fields())
        with metrics.replicas.streaming(record):
            try:
                self.ending = await relay.run()
            finally:
                metrics.replicas.note_stream(record)
        if self.ending is None and relay.ended_by:
            self.ending = Ending(Reason.CLOSED, f"the {relay.ended_by} closed the connection")

    def begin_commands(self, authenticated: AuthenticatedReplica) -> CommandJudge:
        """The judge of this session's commands, who knows which threads are its owner's."""
        route, threads = self.route, self.runtime.threads
        owner = Owner(route.name, authenticated.entry.name)
        encrypted = authenticated.verified.encrypted
        greeting = encrypted.greeted.source.greeting
        self._thread_id = greeting.thread_id
        threads.opened(route.source, self._thread_id, self.record.number, owner)
        return route.policy.begin(
            charset=HandshakeResponse41.parse(encrypted.login).charset,
            is_mysql_8=greeting.major_version >= 8 and not greeting.is_mariadb,
            may_kill=lambda thread_id: threads.is_own(route.source, thread_id, owner),
        )

    def command_admitted(self, command: ParsedCommand) -> None:
        self._count_command(command, "admitted")

    def command_denied(self, command: ParsedCommand, reason: str, *, is_refused: bool) -> None:
        self._is_heard = True
        self._count_command(command, "refused" if is_refused else "would_refuse")
        shown = {"command": name_of(command)}
        if isinstance(command, Query):
            shown["query"] = shape_of(command.text)
        if not is_refused:
            self._note_objection(SessionRefused(Stage.POLICY, Reason.COMMAND_REFUSED, reason), **shown)
            return
        log_event(logging.WARNING, "command_refused", **self.record.fields(), **shown, detail=reason)
        said = " ".join((*shown.values(), f"({reason})"))
        self.runtime.refusals.note(self.record, Outcome.COMMAND_REFUSED, Stage.POLICY, Reason.COMMAND_REFUSED, said)

    def _count_command(self, command: ParsedCommand, decision: str) -> None:
        self.runtime.metrics.commands.labels(self.route.name, name_of(command), decision).inc()

    def server_id_seen(self, server_id: int) -> None:
        self.record.server_id = server_id

    def sent_to_replica(self, count: int) -> None:
        self.record.bytes_to_replica += count
        self._to_replica.inc(count)

    def sent_to_source(self, count: int) -> None:
        self.record.bytes_to_source += count
        self._to_source.inc(count)

    def acknowledged(self, seconds: float) -> None:
        self._acknowledgement.observe(seconds)

    async def answer(self, packet: ErrPacket) -> None:
        """Tells the replica why, if it can hear it: not inside a TLS handshake.

        After the login the stage that refuses has answered already, in place of the command's own answer.
        """
        if self.record.is_authenticated:
            return
        # Before the greeting the replica does not know the 4.1 protocol yet, and would show the SQLSTATE as text.
        payload = packet.serialize(with_sqlstate=self.replica.phases.phase is not Phase.GREETING)
        with trio.move_on_after(_ANSWER_SECONDS, shield=True):
            try:
                await self.replica.send(payload)
            except (WireError, LegClosed):
                return
            self.replica.leg.end_sending()

    def close(self) -> None:
        self.replica.leg.close()
        if self.source is not None:
            self.source.leg.close()
        if self._thread_id is not None:
            self.runtime.threads.ended(self.route.source, self._thread_id, self.record.number)

    def _note_objection(self, refusal: SessionRefused, **shown: str) -> None:
        record, stage, reason = self.record, refusal.stage.value, refusal.reason.value
        if reason not in record.would_refuse:
            record.would_refuse.append(reason)
        self.runtime.metrics.would_refuse.labels(self.route.name, stage, reason).inc()
        self.runtime.refusals.note(record, Outcome.WOULD_REFUSE, refusal.stage, refusal.reason, refusal.detail)
        fields = {**record.fields(), "stage": stage}
        log_event(logging.WARNING, "would_refuse", **fields, **shown, reason=reason, detail=refusal.detail)


@asynccontextmanager
async def _session_scope(session: _Session) -> AsyncIterator[None]:
    """Closes a session; turns every failure into one log line, one count and at most one ERR."""
    route, runtime = session.route, session.runtime
    metrics, record = runtime.metrics, session.record
    refuse = partial(_refuse, session)
    cancel_scope = trio.CancelScope()

    def end(ending: Ending) -> None:
        session.ending = session.ending or ending
        cancel_scope.cancel(reason=ending.detail)

    record.end = end
    metrics.sessions_active.labels(route.name).inc()
    try:
        with cancel_scope:
            try:
                yield
            except SessionRefused as refusal:
                await refuse(refusal.stage, refusal.reason, refusal.detail, refusal.answer)
            except WireError as error:
                await refuse(
                    record.stage, Reason.PROTOCOL_ERROR, str(error), err_packet(Reason.PROTOCOL_ERROR, str(error))
                )
            except trio.TooSlowError:
                detail = f"not logged in after {runtime.limits.connection_phase_seconds:g} s"
                await refuse(record.stage, Reason.TIMEOUT, detail, err_packet(Reason.TIMEOUT, detail))
            except LegClosed as error:
                departure = session.departure(error)
                await refuse(departure.stage, departure.reason, departure.detail, None)
            except Exception as error:  # noqa: BLE001 - a defect here must not end the other sessions
                log_defect(error, **record.fields())
                await refuse(record.stage, Reason.INTERNAL_ERROR, repr(error), None)
            else:
                _end(session, session.ending)
        if cancel_scope.cancelled_caught and session.ending is not None:
            await refuse(record.stage, session.ending.reason, session.ending.detail, session.ending.answer)
    finally:
        if not session.is_concluded:
            # Cancelled from outside: the time for the drain is over.
            runtime.registry.cut += 1
            _end(session, Ending(Reason.DRAINED, "cut at the end of the drain"))
        session.close()
        runtime.registry.close(record)
        metrics.sessions_active.labels(route.name).dec()


# After login these are how a session ends, not refusals: a replica that stops closes its socket without a word.
_REFUSALS_AFTER_LOGIN = frozenset(
    {
        Reason.REPLICA_LEFT_AFTER_LOGIN,
        Reason.SERVER_ID_NOT_ALLOWED,
        Reason.PROTOCOL_ERROR,
        Reason.INTERNAL_ERROR,
    }
)


async def _refuse(session: _Session, stage: Stage, reason: Reason, detail: str, answer: ErrPacket | None) -> None:
    session.is_concluded = True
    record, metrics, route = session.record, session.runtime.metrics, session.route.name
    if record.is_authenticated and reason not in _REFUSALS_AFTER_LOGIN:
        _end(session, Ending(reason, detail))
        return
    level = logging.DEBUG if reason is Reason.DISCONNECTED else logging.WARNING
    log_event(level, "session_refused", **{**record.fields(), "stage": stage.value}, reason=reason.value, detail=detail)
    session.runtime.refusals.note(record, Outcome.REFUSED, stage, reason, detail)
    metrics.refusals.labels(route, stage.value, reason.value).inc()
    metrics.sessions.labels(route, "refused").inc()
    if answer is not None:
        await session.answer(answer)


def _end(session: _Session, ending: Ending | None) -> None:
    session.is_concluded = True
    metrics, route = session.runtime.metrics, session.route.name
    ending = ending or Ending(Reason.CLOSED, "")
    fields = {"reason": ending.reason.value, "detail": ending.detail} if ending.detail else {"reason": "closed"}
    log_event(logging.INFO, "session_ended", **session.record.fields(), **fields)
    session.runtime.refusals.note(session.record, Outcome.ENDED, session.record.stage, ending.reason, ending.detail)
    metrics.sessions_ended.labels(route, ending.reason.value).inc()
    metrics.sessions.labels(route, "ended").inc()


__all__ = ["Runtime", "serve_replica"]
