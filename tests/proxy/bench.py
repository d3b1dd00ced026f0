"""`serve_replica` between a fake source and fake replicas, over loopback sockets, with its log and metrics at hand."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from proxy.configuration.addresses import Address, TcpAddress
from proxy.configuration.config import LimitsTable, PolicyName, ProxyProtocolVersion
from proxy.configuration.material import TlsMaterial
from proxy.openssl import Context
from proxy.outcomes import Reason, SessionRefused, Stage
from proxy.protocol.bridging import PasswordKey
from proxy.reporting.metrics import Metrics
from proxy.reporting.refusals import Outcome
from proxy.session import Runtime, serve_replica
from proxy.sessions import SessionRegistry
from proxy.site import Route
from proxy.stages.admission import Allowlist
from proxy.stages.authentication import SourceTls
from proxy.stages.identity import Roster, RosterEntry
from proxy.stages.objections import Objections
from proxy.stages.policy import Policy
from tests.proxy.fakes import FakeReplica, FakeSource, PacketPeer

# Nothing here takes long; a test that hangs ends with the stack of where it hung.
GIVE_UP_SECONDS = 60
# Every test makes keys for itself no more often than this.
PASSWORD_KEY = PasswordKey()


class EventLog(logging.Handler):
    """The structured log, as a list of events with their fields."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        return [
            {"event": record.getMessage(), **getattr(record, "fields", {})}
            for record in self.records
            if name is None or record.getMessage() == name
        ]

    def one(self, name: str) -> dict[str, Any]:
        events = self.events(name)
        assert len(events) == 1, (name, self.events())
        return events[0]


def entry(
    name: str = "replica-1",
    *,
    identity: str | None = "replica-1.example",
    accounts: tuple[str, ...] = ("repl",),
    server_ids: tuple[int, ...] = (),
    addresses: tuple[str, ...] | None = None,
) -> RosterEntry:
    return RosterEntry(
        name=name,
        identity=identity,
        accounts=frozenset(accounts),
        server_ids=frozenset(server_ids),
        addresses=None if addresses is None else Allowlist(addresses),
    )


def enforced() -> Objections:
    """Objections that refuse, as outside observe mode."""

    def note(refusal: SessionRefused) -> None:
        raise AssertionError(f"noted instead of raised: {refusal}")

    return Objections(enforce=True, note=note)


def make_route(
    *,
    name: str = "test",
    listen: TcpAddress | None = None,
    allow: tuple[str, ...] = ("127.0.0.0/8",),
    roster: tuple[RosterEntry, ...] = (),
    policy: PolicyName = "replication",
    enforce: bool = True,
    connection_attributes: bool = True,
    load_balancers: tuple[str, ...] | None = None,
    send_proxy_protocol: ProxyProtocolVersion | None = None,
    replica_context: Context | None = None,
    source: Address | None = None,
    source_tls: SourceTls | None = None,
    materials: dict[str, TlsMaterial] | None = None,
) -> Route:
    """A route as a configuration would make it, without the files."""
    return Route(
        name=name,
        listen=listen or TcpAddress("127.0.0.1", 0),
        allowlist=Allowlist(allow),
        roster=Roster(roster),
        policy=Policy(policy),
        enforce=enforce,
        connection_attributes=connection_attributes,
        load_balancers=None if load_balancers is None else Allowlist(load_balancers),
        send_proxy_protocol=send_proxy_protocol,
        replica_context=replica_context,
        source=source or TcpAddress("127.0.0.1", 1),
        source_tls=source_tls,
        materials=materials or {},
    )


@dataclass
class Bench:
    """A route that is served, and who connects to it."""

    source: FakeSource
    route: Route
    runtime: Runtime
    log: EventLog
    nursery: trio.Nursery
    listener: trio.SocketListener
    served: list[trio.Event] = field(default_factory=list)
    replicas: list[PacketPeer] = field(default_factory=list)

    async def connect(self, tls: ssl.SSLContext | None = None, **options: Any) -> FakeReplica:
        host, port = self.listener.socket.getsockname()[:2]
        stream = await trio.open_tcp_stream(host, port)
        accepted = await self.listener.accept()
        done = trio.Event()
        self.served.append(done)

        async def serve() -> None:
            await serve_replica(accepted_socket(accepted), self.route, self.runtime)
            done.set()

        self.nursery.start_soon(serve)
        peer = PacketPeer(stream)
        self.replicas.append(peer)
        return FakeReplica(peer, tls=tls, **options)

    async def wait_served(self) -> None:
        """Until every session is over."""
        for done in self.served:
            await done.wait()

    def metric(self, name: str, **labels: str) -> float:
        value = self.runtime.metrics.registry.get_sample_value(f"binlock_proxy_{name}", labels)
        return 0.0 if value is None else value

    async def assert_refused(self, stage: Stage, reason: Reason) -> dict[str, Any]:
        """The one session so far is over: one line in the log, one count, nothing left open."""
        await self.wait_served()
        refusal = self.log.one("session_refused")
        assert (refusal["stage"], refusal["reason"]) == (stage.value, reason.value), refusal
        assert self.metric("refusals_total", route="test", stage=stage.value, reason=reason.value) == 1
        assert self.metric("sessions_total", route="test", outcome="refused") == 1
        assert self.runtime.refusals.counts[Outcome.REFUSED, "test", stage.value, reason.value] == 1
        assert not self.log.events("session_ended")
        self.assert_nothing_is_open()
        return refusal

    def assert_nothing_is_open(self) -> None:
        assert len(self.runtime.registry) == 0
        assert self.metric("sessions_active", route="test") == 0
        assert not self.log.events("defect"), [record.exc_info for record in self.log.records if record.exc_info]


def accepted_socket(stream: trio.SocketStream) -> socket.socket:
    return socket.socket(fileno=stream.socket.detach())


@asynccontextmanager
async def benched(
    source: FakeSource,
    log: EventLog,
    *,
    replica_context: Context | None = None,
    source_tls: SourceTls | None = None,
    allow: tuple[str, ...] = ("127.0.0.0/8",),
    roster: tuple[RosterEntry, ...] | None = None,
    policy: PolicyName = "replication",
    limits: LimitsTable | None = None,
    enforce: bool = True,
    connection_attributes: bool = True,
    load_balancers: tuple[str, ...] | None = None,
    send_proxy_protocol: ProxyProtocolVersion | None = None,
    materials: dict[str, TlsMaterial] | None = None,
) -> AsyncIterator[Bench]:
    """Serves a route in front of `source`; at the end every session must be over and no defect logged."""
    if roster is None:
        roster = (entry(identity=None) if replica_context is None else entry(),)
    with trio.fail_after(GIVE_UP_SECONDS):
        async with source.listening(), trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            async with listener:
                route = make_route(
                    listen=TcpAddress(*listener.socket.getsockname()[:2]),
                    allow=allow,
                    roster=roster,
                    policy=policy,
                    enforce=enforce,
                    connection_attributes=connection_attributes,
                    load_balancers=load_balancers,
                    send_proxy_protocol=send_proxy_protocol,
                    replica_context=replica_context,
                    source=source.address,
                    source_tls=source_tls,
                    materials=materials,
                )
                runtime = Runtime(limits or LimitsTable(), Metrics("test"), SessionRegistry(), PASSWORD_KEY)
                bench = Bench(source, route, runtime, log, nursery, listener)
                try:
                    yield bench
                finally:
                    for peer in bench.replicas:
                        await peer.close()
                await bench.wait_served()
                bench.assert_nothing_is_open()
