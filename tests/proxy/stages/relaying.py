"""A relay between two socket pairs, and the events and endings that its tests send through it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing

from proxy.legs.leg import Leg
from proxy.outcomes import Ending, Reason
from proxy.stages.relay import BinlogRelay
from wire.binlog import EventHeader, RotateEvent, SemiSyncAck, serialize_stream_packet
from wire.compression import Algorithm
from wire.framing import encode_packet

REVOKED = Ending(Reason.REVOKED, "the replica's certificate no longer stands: certificate revoked")
EXPIRED = Ending(Reason.EXPIRED, "the replica's certificate has expired")
WORN = Ending(Reason.KEY_LIMIT, "the TLS key is worn", is_urgent=False)
AGED = Ending(Reason.MAX_AGE, "the session is old", is_urgent=False)


def event(number: int, size: int = 50, *, semi_sync: bool = False, ack_wanted: bool = False) -> bytes:
    """One packet with one event; its first packet is the artificial rotate event of a real stream."""
    if number == 1:
        rotate = RotateEvent(4, b"binlog.000001").serialize(server_id=1, with_checksum=True)
        return encode_packet(serialize_stream_packet(rotate, semi_sync=semi_sync), 1)
    header = EventHeader(1_700_000_000, 30, 1, 19 + size, 1000 + number, 0).serialize()
    payload = serialize_stream_packet(header + bytes(size), semi_sync=semi_sync, ack_wanted=ack_wanted)
    return encode_packet(payload, number % 256)


def ack(number: int) -> bytes:
    """The acknowledgement of the event of that number."""
    return encode_packet(SemiSyncAck(position=1000 + number, file=b"binlog.000001").serialize(), 0)


def err(ending: Ending, sequence_id: int) -> bytes:
    return encode_packet(ending.answer.serialize(with_sqlstate=True), sequence_id)


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


@dataclass
class Stage:
    """A relay between two socket pairs; `origin` is the source's own end, `far` the replica's."""

    compression: Algorithm | None = None
    acknowledged_after: list[float] = field(default_factory=list)
    ended: list[Ending | None] = field(default_factory=list)
    ended_at: float | None = None

    def __post_init__(self) -> None:
        (self.origin, source), (self.far, replica) = socket.socketpair(), socket.socketpair()
        for sock in (self.origin, self.far):
            sock.setblocking(False)
        self.legs = Leg(replica, "replica"), Leg(source, "source")
        started = SimpleNamespace(
            authenticated=SimpleNamespace(
                replica=SimpleNamespace(leg=self.legs[0]),
                source=SimpleNamespace(leg=self.legs[1]),
                compression=self.compression,
            )
        )
        self.relay = BinlogRelay(cast("Any", started), self)
        self.to_replica = self.to_source = 0

    def sent_to_replica(self, count: int) -> None:
        self.to_replica += count

    def sent_to_source(self, count: int) -> None:
        self.to_source += count

    def acknowledged(self, seconds: float) -> None:
        self.acknowledged_after.append(seconds)

    async def run(self) -> None:
        began = trio.current_time()
        self.ended.append(await self.relay.run())
        self.ended_at = trio.current_time() - began

    async def source_sends(self, data: bytes) -> None:
        await Leg(self.origin, "test").send_all(data)
        await settled()

    async def replica_sends(self, data: bytes) -> None:
        await Leg(self.far, "test").send_all(data)
        await settled()

    def came(self, sock: socket.socket) -> bytes:
        """What has arrived, the end of the stream not told apart."""
        data = bytearray()
        while True:
            try:
                piece = sock.recv(1 << 20)
            except BlockingIOError:
                return bytes(data)
            if not piece:
                return bytes(data)
            data += piece

    def at_replica(self) -> bytes:
        return self.came(self.far)

    def at_source(self) -> bytes:
        return self.came(self.origin)

    def has_ended(self, sock: socket.socket) -> bool:
        try:
            return sock.recv(1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        for sock in (self.origin, self.far):
            sock.close()
        for leg in self.legs:
            leg._sock.close()  # outside of trio
