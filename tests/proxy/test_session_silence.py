"""Silence, garbage, and ends in the wrong place."""

import logging
import socket
import struct

import pytest
import trio
import trio.lowlevel

from proxy.configuration.config import LimitsTable
from proxy.legs.packets import CONNECTION_PHASE_LIMIT_BYTES
from proxy.openssl import Context
from proxy.outcomes import Reason, Stage
from proxy.session import serve_replica
from tests.proxy.bench import EventLog, benched
from tests.proxy.conversations import QUERY
from tests.proxy.fakes import (
    ACCOUNT,
    OK,
    REPLICA_CAPABILITIES,
    FakeSource,
    PacketPeer,
    PeerGone,
)
from tests.proxy.pki import Pki
from wire.capabilities import Capability
from wire.framing import encode_packet
from wire.login import HandshakeResponse41, SSLRequest
from wire.results import ErrPacket


@pytest.mark.parametrize("spoken", [b"", b"\x20", b"\x20\x00\x00\x01\x00"], ids=["nothing", "a byte", "five bytes"])
async def test_gives_a_replica_up_that_does_not_log_in(spoken: bytes, log: EventLog) -> None:
    async with benched(FakeSource(), log, limits=LimitsTable(connection_phase_seconds=0.1)) as bench:
        replica = await bench.connect()
        await replica.receive_greeting()
        await replica.peer.send_bytes(spoken)
        answer = ErrPacket.parse(await replica.peer.receive())
        assert answer.code == 1159
        await bench.assert_refused(Stage.TLS, Reason.TIMEOUT)


async def test_gives_a_replica_up_that_falls_silent_in_the_tls_handshake(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    limits = LimitsTable(connection_phase_seconds=0.1)
    async with benched(FakeSource(), log, replica_context=replica_context, limits=limits) as bench:
        replica = await bench.connect()
        await replica.receive_greeting()
        await replica.peer.send(SSLRequest(REPLICA_CAPABILITIES | Capability.CLIENT_SSL).serialize())
        assert await replica.peer.wait_closed() == b""
        await bench.assert_refused(Stage.TLS, Reason.TIMEOUT)


async def test_gives_a_replica_up_that_falls_silent_after_the_tls_handshake(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    limits = LimitsTable(connection_phase_seconds=0.5)
    async with benched(FakeSource(), log, replica_context=replica_context, limits=limits) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        await replica.receive_greeting()
        await replica.begin_tls()
        assert ErrPacket.parse(await replica.peer.receive()).code == 1159
        await bench.assert_refused(Stage.TLS, Reason.TIMEOUT)


async def test_a_session_that_is_logged_in_has_no_such_limit(log: EventLog) -> None:
    async with benched(FakeSource(), log, limits=LimitsTable(connection_phase_seconds=0.1)) as bench:
        replica = await bench.connect()
        assert await replica.log_in() == OK
        await trio.sleep(0.3)
        assert await replica.command(QUERY) == OK


async def test_a_source_that_falls_silent_in_the_login_times_out(log: EventLog) -> None:
    async def falls_silent(source: FakeSource, peer: PacketPeer) -> None:
        await source.greet(peer)
        await peer.wait_closed()

    source = FakeSource(conversation=falls_silent)
    async with benched(source, log, limits=LimitsTable(connection_phase_seconds=0.1)) as bench:
        replica = await bench.connect()
        assert ErrPacket.parse(await replica.log_in()).code == 1159
        await bench.assert_refused(Stage.AUTHENTICATION, Reason.TIMEOUT)


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "an empty packet": encode_packet(b"", 1),
    "a packet of 16 MiB": b"\xff\xff\xff\x01",
    "one byte over the limit": (CONNECTION_PHASE_LIMIT_BYTES + 1).to_bytes(3, "little") + b"\x01",
    "the wrong sequence id": encode_packet(bytes(64), 9),
    "protocol 320": encode_packet(b"\x05\x00\x00\x00\x01repl\x00pw\x00", 1),
    "a login cut short": encode_packet(
        HandshakeResponse41(REPLICA_CAPABILITIES, ACCOUNT, bytes(32)).serialize()[:40], 1
    ),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_in_place_of_the_login_is_a_protocol_error(garbage: bytes, log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.receive_greeting()
        await replica.peer.send_bytes(garbage)
        await replica.peer.wait_closed()
        await bench.wait_served()
        assert log.one("session_refused")["reason"] == "protocol_error"
        assert log.one("session_refused")["stage"] in {"tls", "authentication"}
    assert not source.payloads


async def test_garbage_in_place_of_the_login_over_tls_is_a_protocol_error(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    source = FakeSource()
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        await replica.receive_greeting()
        await replica.begin_tls()
        await replica.peer.send(b"\x07" * 50)
        answer = ErrPacket.parse(await replica.peer.receive())
        assert answer.code == 1043
        await bench.assert_refused(Stage.AUTHENTICATION, Reason.PROTOCOL_ERROR)
    assert not source.payloads


async def test_a_replica_that_connects_and_leaves_is_a_matter_of_debug(log: EventLog) -> None:
    async with benched(FakeSource(), log) as bench:
        replica = await bench.connect()
        await replica.receive_greeting()
        await replica.peer.close()
        await bench.assert_refused(Stage.TLS, Reason.DISCONNECTED)
        [record] = [record for record in log.records if record.getMessage() == "session_refused"]
        assert record.levelno == logging.DEBUG


async def test_a_source_that_hangs_up_during_the_login_is_named_as_the_one(log: EventLog) -> None:
    async def hangs_up(source: FakeSource, peer: PacketPeer) -> None:
        await source.greet(peer)
        await source.receive(peer)

    async with benched(FakeSource(conversation=hangs_up), log) as bench:
        replica = await bench.connect()
        with pytest.raises(PeerGone):
            await replica.log_in()
        await bench.assert_refused(Stage.AUTHENTICATION, Reason.SOURCE_DISCONNECTED)


async def test_a_peer_that_has_reset_before_it_could_be_looked_at_ends_nothing(log: EventLog) -> None:
    async with benched(FakeSource(), log) as bench:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            accepted, _ = listener.accept()
            with pytest.raises(OSError, match="not connected"):
                accepted.getpeername()
            await serve_replica(accepted, bench.route, bench.runtime)
            assert accepted.fileno() == -1
        assert len(bench.runtime.registry) == 0
        assert log.events("defect") == []


async def test_a_session_that_the_drain_cuts_is_counted_and_logged(log: EventLog) -> None:
    async with benched(FakeSource(), log) as bench:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with trio.move_on_after(1):
                await serve_replica(accepted, bench.route, bench.runtime)
        assert bench.runtime.registry.cut == 1
        assert log.one("session_ended")["detail"] == "cut at the end of the drain"
