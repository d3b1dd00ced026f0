"""One session, from accept to close. Read `serve_replica` first: it is the whole proxy on one screen."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from proxy.addresses import TcpAddress
from proxy.authentication import AuthenticatedReplica, relay_authentication
from proxy.bridging import PasswordKey
from proxy.command_phase import StartedDump, relay_commands
from proxy.config import LimitsTable
from proxy.greeting import relay_greeting
from proxy.legs import Leg
from proxy.logs import log_defect, log_event
from proxy.metrics import Metrics
from proxy.openssl import Negotiated
from proxy.outcomes import LegClosed, Reason, SessionRefused, Stage, err_packet
from proxy.packets import PacketStream
from proxy.pump import PumpEnd
from proxy.relay import BinlogRelay
from proxy.sessions import SessionRecord, SessionRegistry
from proxy.site import Route
from proxy.source import connect_source
from proxy.tls import encrypt_replica
from wire.errors import WireError
from wire.phases import Phase, Sender
from wire.results import ErrPacket

# How long a refused peer may take to read why.
_ANSWER_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Runtime:
    """What all sessions share and no reload replaces."""

    limits: LimitsTable
    metrics: Metrics
    registry: SessionRegistry
    password_key: PasswordKey


async def serve_replica(sock: socket.socket, route: Route, runtime: Runtime) -> None:
    """Carries one replica's connection. Never raises but to be cancelled."""
    async with _session_scope(sock, route, runtime) as session:
        with trio.fail_after(runtime.limits.connection_phase_seconds):
            peer = route.allowlist.admit(session.host, session.port)
            session.require_room()
            session.enter(Stage.SOURCE)
            source = await connect_source(peer, route.source, timeout_seconds=runtime.limits.source_connect_seconds)
            session.owns(source.stream)
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
            verified = route.roster.verify_replica(encrypted)
            session.record.identity = verified.identity or ""
            session.enter(Stage.AUTHENTICATION)
            authenticated = await relay_authentication(
                verified, source_tls=route.source_tls, password_key=runtime.password_key
            )
            session.note_authenticated(authenticated)
        session.enter(Stage.POLICY)
        started = await relay_commands(authenticated, route.policy, session)
        if started is None:
            return
        session.enter(Stage.RELAY)
        await session.relay(started)


class _Session:
    """A session in progress: its two legs, its record, its counters."""

    def __init__(self, sock: socket.socket, route: Route, runtime: Runtime) -> None:
        self.host, self.port = sock.getpeername()[:2]
        self.replica = PacketStream(Leg(sock, "replica"), peer=Sender.REPLICA)
        self.source: PacketStream | None = None
        self.route = route
        self.runtime = runtime
        self.record = runtime.registry.open(route=route.name, peer=str(TcpAddress(self.host, self.port)))
        self.ended_by: Reason = Reason.CLOSED
        metrics = runtime.metrics
        self._to_replica = metrics.relayed_bytes.labels(route.name, "source_to_replica")
        self._to_source = metrics.relayed_bytes.labels(route.name, "replica_to_source")

    def require_room(self) -> None:
        limits, registry = self.runtime.limits, self.runtime.registry
        if len(registry) > limits.sessions or registry.unauthenticated > limits.unauthenticated_sessions:
            raise SessionRefused(
                Stage.ADMISSION,
                Reason.TOO_MANY_SESSIONS,
                f"{len(registry)} sessions are open, {registry.unauthenticated} of them not logged in",
                told="too many connections; try again",
            )

    def enter(self, stage: Stage) -> None:
        self.record.stage = stage

    def owns(self, source: PacketStream) -> None:
        self.source = source

    def note_tls(self, leg: str, negotiated: Negotiated | None) -> None:
        if negotiated is None:
            return
        if leg == "replica":
            self.record.replica_tls = negotiated
        else:
            self.record.source_tls = negotiated
        self.runtime.metrics.count_handshake(self.route.name, leg, negotiated)

    def note_authenticated(self, authenticated: AuthenticatedReplica) -> None:
        self.note_tls("source", authenticated.source_negotiated)
        self.record.replica = authenticated.entry.name
        self.record.account = authenticated.account
        self.record.is_authenticated = True
        log_event(logging.INFO, "session_authenticated", **self.record.fields())

    async def relay(self, started: StartedDump) -> None:
        relay = BinlogRelay(started, self)
        self.record.end = relay.end_when_quiet
        connected = self.runtime.metrics.replica_connected.labels(self.route.name, self.record.replica)
        log_event(logging.INFO, "stream_started", **self.record.fields())
        with connected.track_inprogress():
            if await relay.run() is PumpEnd.PAUSED:
                self.ended_by = Reason.DRAINED

    def command_denied(self, reason: str) -> None:
        self.runtime.metrics.commands_refused.labels(self.route.name).inc()
        log_event(logging.WARNING, "command_refused", detail=reason, **self.record.fields())

    def server_id_seen(self, server_id: int) -> None:
        self.record.server_id = server_id

    def sent_to_replica(self, count: int) -> None:
        self.record.bytes_to_replica += count
        self._to_replica.inc(count)

    def sent_to_source(self, count: int) -> None:
        self.record.bytes_to_source += count
        self._to_source.inc(count)

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


@asynccontextmanager
async def _session_scope(sock: socket.socket, route: Route, runtime: Runtime) -> AsyncIterator[_Session]:
    """Opens and closes a session; turns every failure into one log line, one count and at most one ERR."""
    try:
        session = _Session(sock, route, runtime)
    except OSError:
        # The peer was gone before it could be looked at.
        sock.close()
        return
    metrics, record = runtime.metrics, session.record
    refuse = partial(_refuse, session)
    cancel_scope = trio.CancelScope()
    record.end = partial(cancel_scope.cancel, "drain")
    metrics.sessions_active.labels(route.name).inc()
    try:
        with cancel_scope:
            try:
                yield session
            except SessionRefused as refusal:
                await refuse(refusal.stage, refusal.reason, refusal.detail, refusal.answer)
            except WireError as error:
                answer = err_packet(Reason.PROTOCOL_ERROR, f"{error}")
                await refuse(record.stage, Reason.PROTOCOL_ERROR, str(error), answer)
            except trio.TooSlowError:
                detail = f"not logged in after {runtime.limits.connection_phase_seconds:g} s"
                await refuse(record.stage, Reason.TIMEOUT, detail, err_packet(Reason.TIMEOUT, detail))
            except LegClosed as error:
                reason = Reason.SOURCE_DISCONNECTED if error.leg == "source" else Reason.DISCONNECTED
                await refuse(record.stage, reason, str(error), None)
            except Exception as error:  # noqa: BLE001 - a defect here must not end the other sessions
                log_defect(error, **record.fields())
                await refuse(record.stage, Reason.INTERNAL_ERROR, repr(error), None)
            else:
                _end(session)
        if cancel_scope.cancelled_caught:
            await refuse(
                record.stage,
                Reason.DRAINED,
                "Binlock is shutting down",
                err_packet(Reason.DRAINED, "shutting down"),
            )
    finally:
        session.close()
        runtime.registry.close(record)
        metrics.sessions_active.labels(route.name).dec()


async def _refuse(session: _Session, stage: Stage, reason: Reason, detail: str, answer: ErrPacket | None) -> None:
    record, metrics, route = session.record, session.runtime.metrics, session.route.name
    if record.is_authenticated and reason in _ORDINARY_ENDS:
        session.ended_by = reason
        _end(session, detail=detail)
        return
    level = logging.DEBUG if reason is Reason.DISCONNECTED else logging.WARNING
    log_event(
        level,
        "session_refused",
        **{**record.fields(), "stage": stage.value},
        reason=reason.value,
        detail=detail,
    )
    metrics.refusals.labels(route, stage.value, reason.value).inc()
    metrics.sessions.labels(route, "refused").inc()
    if answer is not None:
        await session.answer(answer)


# After login these are how a session ends, not refusals: a replica that stops closes its socket without a word.
_ORDINARY_ENDS = frozenset({Reason.DISCONNECTED, Reason.SOURCE_DISCONNECTED, Reason.DRAINED})


def _end(session: _Session, **more: str) -> None:
    metrics, route = session.runtime.metrics, session.route.name
    log_event(logging.INFO, "session_ended", **session.record.fields(), reason=session.ended_by.value, **more)
    metrics.sessions_ended.labels(route, session.ended_by.value).inc()
    metrics.sessions.labels(route, "ended").inc()


__all__ = ["Runtime", "SessionRecord", "serve_replica"]
