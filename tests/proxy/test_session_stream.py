"""The stream of a session: what passes after the dump, and how it ends."""

import socket
import struct

import pytest
import trio
import trio.lowlevel

from proxy.openssl import Context
from tests.proxy.bench import EventLog, benched
from tests.proxy.conversations import ACK, DUMP, EVENTS, QUERY, QUIT, REGISTER, events_of, receive_exactly
from tests.proxy.fakes import (
    FakeSource,
    PacketPeer,
)
from tests.proxy.pki import Pki
from wire.framing import encode_packet


@pytest.mark.parametrize("command", [QUERY, REGISTER, DUMP, b"\x0e", b"\x11" + b"root\x00", b"\x99"])
async def test_after_the_dump_nothing_but_acknowledgements_and_goodbye_reaches_the_source(
    command: bytes, log: EventLog
) -> None:
    source = FakeSource(stream=EVENTS)
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(DUMP)
        await receive_exactly(replica.peer, len(EVENTS))
        await replica.send_command(ACK)
        await replica.send_command(command)
        await replica.peer.wait_closed()
        await bench.wait_served()
        refusal = log.one("session_refused")
        assert (refusal["stage"], refusal["reason"]) == ("relay", "protocol_error")
    assert source.payloads[2:] in ([], [ACK])


async def test_an_acknowledgement_that_comes_in_pieces_reaches_the_source_whole(log: EventLog) -> None:
    source = FakeSource(stream=EVENTS)
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(DUMP)
        await receive_exactly(replica.peer, len(EVENTS))
        for byte in encode_packet(ACK, 0):
            await replica.peer.send_bytes(bytes([byte]))
            await trio.lowlevel.checkpoint()
        await replica.send_command(QUIT)
        await source.finished.wait()
    assert source.payloads[2:] == [ACK, QUIT]


async def test_an_acknowledgement_longer_than_any_file_name_ends_the_session(log: EventLog) -> None:
    source = FakeSource(stream=EVENTS)
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(DUMP)
        await replica.send_command(b"\xef" + bytes(8) + b"x" * 600)
        await replica.peer.wait_closed()
        await bench.wait_served()
        assert log.one("session_refused")["reason"] == "protocol_error"
    assert source.payloads[2:] == []


async def test_no_err_is_written_into_the_middle_of_the_stream(log: EventLog) -> None:
    source = FakeSource(stream=EVENTS)
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(DUMP)
        await receive_exactly(replica.peer, len(EVENTS))
        await replica.send_command(QUERY)
        assert await replica.peer.wait_closed() == b""


async def test_what_the_source_said_before_it_closed_reaches_the_replica(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    large = events_of(*(bytes([number]) * 100_000 for number in range(20)))

    async def says_and_closes(source: FakeSource, peer: PacketPeer) -> None:
        await source.authenticate(peer)
        peer.next_sequence_id = 0
        await source.receive(peer)
        await peer.send_bytes(large)
        await peer.socket_stream.send_eof()
        await peer.wait_closed()

    source = FakeSource(conversation=says_and_closes)
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        await replica.log_in()
        await replica.send_command(DUMP)
        assert await replica.peer.wait_closed() == large


async def test_what_the_replica_said_before_it_closed_reaches_the_source(log: EventLog) -> None:
    source = FakeSource(stream=EVENTS)
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(DUMP)
        await receive_exactly(replica.peer, len(EVENTS))
        for _ in range(100):
            await replica.send_command(ACK)
        await replica.peer.socket_stream.send_eof()
        await source.finished.wait()
    assert source.payloads[2:] == [ACK] * 100


async def test_a_replica_that_half_closes_may_still_read_to_the_end(log: EventLog) -> None:
    late = trio.Event()

    async def goes_on(source: FakeSource, peer: PacketPeer) -> None:
        await source.authenticate(peer)
        peer.next_sequence_id = 0
        await source.receive(peer)
        await peer.wait_closed()
        await late.wait()
        await peer.send_bytes(EVENTS)

    source = FakeSource(conversation=goes_on)
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(DUMP)
        await replica.peer.socket_stream.send_eof()
        late.set()
        assert await replica.peer.wait_closed() == EVENTS
        await bench.wait_served()
        ended = log.one("session_ended")
        assert (ended["reason"], ended["detail"]) == ("closed", "the replica closed the connection")


def reset(peer: PacketPeer) -> None:
    peer.socket_stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket_stream.socket.close()


async def test_a_replica_that_resets_the_stream_ends_its_session_and_no_other(log: EventLog) -> None:
    source = FakeSource(stream=EVENTS)
    async with benched(source, log) as bench:
        broken, sound = await bench.connect(), await bench.connect()
        for replica in (broken, sound):
            await replica.log_in()
            await replica.send_command(DUMP)
            await receive_exactly(replica.peer, len(EVENTS))
        reset(broken.peer)
        await bench.served[0].wait()
        assert log.one("session_ended")["reason"] == "disconnected"
        await sound.send_command(ACK)
        await sound.send_command(QUIT)
        await sound.peer.wait_closed()
        await sound.peer.say_goodbye()
        await bench.wait_served()
    assert ACK in source.payloads


async def test_a_source_that_resets_the_stream_is_named_as_the_one(log: EventLog) -> None:
    source = FakeSource(stream=EVENTS)
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(DUMP)
        await receive_exactly(replica.peer, len(EVENTS))
        reset(source.peers[0])
        await replica.peer.wait_closed()
        await bench.wait_served()
        assert log.one("session_ended")["reason"] == "source_disconnected"


async def test_a_tls_stream_that_ends_without_close_notify_is_a_disconnection(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    source = FakeSource(stream=EVENTS)
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        await replica.log_in()
        await replica.send_command(DUMP)
        await receive_exactly(replica.peer, len(EVENTS))
        await replica.peer.socket_stream.send_eof()
        await bench.wait_served()
        assert log.one("session_ended")["reason"] == "disconnected"
