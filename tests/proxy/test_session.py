"""One session from accept to close: the whole conversation, every refusal, and how it ends."""

import json
import logging
import socket
import ssl
import struct

import pytest
import trio
import trio.lowlevel

from proxy.addresses import TcpAddress
from proxy.authentication import SourceTls
from proxy.config import LimitsTable
from proxy.logs import _JsonFormatter, _TextFormatter
from proxy.openssl import Context, client_context
from proxy.outcomes import ERROR_NUMBERS, Ending, Reason, Stage, err_packet
from proxy.packets import CONNECTION_PHASE_LIMIT_BYTES
from tests.proxy.bench import EventLog, benched, entry
from tests.proxy.fakes import (
    ACCESS_DENIED,
    ACCOUNT,
    NONCE,
    OK,
    PASSWORD,
    REPLICA_CAPABILITIES,
    SOURCE_CAPABILITIES,
    FakeSource,
    PacketPeer,
    PeerGone,
    scramble,
)
from tests.proxy.pki import Pki
from wire.binlog import EventHeader, RotateEvent, SemiSyncAck, serialize_stream_packet
from wire.capabilities import Capability
from wire.commands import BinlogDump, BinlogDumpGtid, Query, RegisterReplica
from wire.framing import encode_packet
from wire.login import HandshakeResponse41, SSLRequest
from wire.results import ErrPacket

QUERY = Query(b"SELECT UNIX_TIMESTAMP()").serialize(REPLICA_CAPABILITIES)
FORBIDDEN = Query(b"SELECT * FROM mysql.user").serialize(REPLICA_CAPABILITIES)
REGISTER = RegisterReplica(server_id=2).serialize()
DUMP = BinlogDump(server_id=2, file=b"binlog.000001").serialize()
ACK = SemiSyncAck(position=4, file=b"binlog.000001").serialize()
QUIT = b"\x01"
SHUTTING_DOWN = Ending(Reason.DRAINED, "shutting down")
EVENTS = b"".join(
    encode_packet(
        serialize_stream_packet(RotateEvent(4, b"binlog.000001").serialize(server_id=1, with_checksum=True)), number
    )
    for number in range(1, 5)
)


def events_of(*bodies: bytes) -> bytes:
    packets = []
    for number, body in enumerate(bodies, start=1):
        header = EventHeader(0, 2, 1, 19 + len(body), 4, 0).serialize()
        packets.append(encode_packet(serialize_stream_packet(header + body), number))
    return b"".join(packets)


async def receive_exactly(peer: PacketPeer, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        got += await peer.receive_some(count - len(got))
    return bytes(got)


# The whole conversation.


async def test_carries_a_replica_over_tls_from_greeting_to_goodbye(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    source = FakeSource(stream=EVENTS)
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        assert await replica.log_in() == OK
        for command in (QUERY, REGISTER):
            assert await replica.command(command) == OK
        await replica.send_command(DUMP)
        assert await receive_exactly(replica.peer, len(EVENTS)) == EVENTS
        await replica.send_command(ACK)
        await replica.send_command(QUIT)
        await replica.peer.wait_closed()
        await replica.peer.say_goodbye()
        await bench.wait_served()
    assert source.payloads[1:] == [QUERY, REGISTER, DUMP, ACK, QUIT]
    assert not log.events("session_refused")
    assert log.one("session_ended")["reason"] == "closed"


async def test_carries_a_replica_in_plaintext_to_a_source_over_tls(pki: Pki, log: EventLog) -> None:
    source = FakeSource(stream=EVENTS, tls=pki.server(pki.source, asks_for_certificate=True))
    source_tls = SourceTls(client_context(pki.material(pki.proxy, crls=(pki.crl,))), "localhost")
    async with benched(source, log, source_tls=source_tls) as bench:
        replica = await bench.connect()
        assert await replica.log_in() == OK
        assert await replica.command(REGISTER) == OK
        await replica.send_command(DUMP)
        assert await receive_exactly(replica.peer, len(EVENTS)) == EVENTS
        await replica.send_command(QUIT)
        await replica.peer.wait_closed()
        await replica.peer.say_goodbye()
    assert source.payloads[2:] == [REGISTER, DUMP, QUIT]


async def test_carries_a_replica_when_both_legs_are_tls(pki: Pki, replica_context: Context, log: EventLog) -> None:
    source = FakeSource(stream=EVENTS, tls=pki.server(pki.source))
    source_tls = SourceTls(client_context(pki.material()), "127.0.0.1")
    async with benched(source, log, replica_context=replica_context, source_tls=source_tls) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        assert await replica.log_in() == OK
        await replica.send_command(DUMP)
        assert await receive_exactly(replica.peer, len(EVENTS)) == EVENTS
        assert bench.metric(
            "tls_handshakes_total",
            route="test",
            leg="source",
            version="TLSv1.3",
            cipher="TLS_AES_256_GCM_SHA384",
            group="X25519",
        ) in {0.0, 1.0}
        [session] = [record.fields() for record in bench.runtime.registry]
        assert session["replica_tls_version"] == session["source_tls_version"] == "TLSv1.3"


async def test_the_greeting_differs_in_nothing_but_client_ssl(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    source = FakeSource()
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect()
        came = await replica.peer.receive()
    sent = source.greeting()
    differing = [(a ^ b) for a, b in zip(sent, came, strict=True) if a != b]
    assert differing == [Capability.CLIENT_SSL >> 8]


async def test_a_plaintext_leg_is_not_offered_the_tls_of_the_source(pki: Pki, log: EventLog) -> None:
    source = FakeSource(tls=pki.server(pki.source))
    async with benched(source, log) as bench:
        replica = await bench.connect()
        greeting = await replica.receive_greeting()
        assert not greeting.capabilities & Capability.CLIENT_SSL


async def test_the_login_reaches_a_plaintext_source_without_client_ssl_and_otherwise_unchanged(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    source = FakeSource()
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica), attributes={b"_pid": b"77", b"program_name": b"x"})
        await replica.log_in()
    wanted = replica.login(scramble(PASSWORD, NONCE), source.plugin)
    [came] = source.payloads[:1]
    assert not came[1] & 0x08
    assert came == wanted[:1] + bytes([wanted[1] & ~0x08]) + wanted[2:]


async def test_a_source_over_tls_gets_the_same_capabilities_in_request_and_login(pki: Pki, log: EventLog) -> None:
    source = FakeSource(tls=pki.server(pki.source))
    source_tls = SourceTls(client_context(pki.material()), "localhost")
    async with benched(source, log, source_tls=source_tls) as bench:
        replica = await bench.connect()
        await replica.log_in()
    request, login = source.payloads[:2]
    assert request == login[:32]
    assert request[1] & 0x08


async def test_shows_who_is_connected_while_the_stream_runs(pki: Pki, replica_context: Context, log: EventLog) -> None:
    source = FakeSource(stream=EVENTS)
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        await replica.log_in()
        await replica.command(REGISTER)
        await replica.send_command(DUMP)
        await receive_exactly(replica.peer, len(EVENTS))
        [shown] = [record.fields() for record in bench.runtime.registry]
        assert shown["stage"] == "relay"
        assert shown["replica"] == "replica-1"
        assert shown["identity"] == "replica-1.example"
        assert shown["account"] == "repl"
        assert shown["server_id"] == 2
        assert bench.metric("replica_connected", route="test", replica="replica-1") == 1
        assert bench.metric("sessions_active", route="test") == 1
    assert bench.metric("replica_connected", route="test", replica="replica-1") == 0
    assert bench.metric("relayed_bytes_total", route="test", direction="source_to_replica") == len(OK) + 4 + len(EVENTS)


async def test_a_dump_by_gtid_is_carried_too(log: EventLog) -> None:
    source = FakeSource(stream=EVENTS)
    dump = BinlogDumpGtid(server_id=2, gtid_set=bytes(8)).serialize()
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(dump)
        assert await receive_exactly(replica.peer, len(EVENTS)) == EVENTS
    assert source.payloads[1] == dump


# Refusals before the greeting.


async def test_refuses_an_address_outside_the_allowlist_before_the_source_is_dialled(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, allow=("10.0.0.0/8",)) as bench:
        replica = await bench.connect()
        payload = await replica.peer.receive()
        assert payload == b"\xff" + (1130).to_bytes(2, "little") + (
            b"Binlock: host 127.0.0.1 is not on the allowlist of this route"
        )
        refusal = await bench.assert_refused(Stage.ADMISSION, Reason.ADDRESS_NOT_ALLOWED)
        assert refusal["peer"].startswith("127.0.0.1:")
    assert not source.peers


async def test_an_err_before_the_greeting_has_no_sqlstate_and_sequence_id_zero(log: EventLog) -> None:
    async with benched(FakeSource(), log, allow=("10.0.0.0/8",)) as bench:
        replica = await bench.connect()
        packet = await replica.peer.receive_packet()
        assert packet.sequence_id == 0
        assert ErrPacket.parse(packet.payload).sqlstate is None
        assert await replica.peer.wait_closed() == b""


async def test_turns_the_next_away_when_too_many_are_not_logged_in(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, limits=LimitsTable(unauthenticated_sessions_per_address=2)) as bench:
        waiting = [await bench.connect(), await bench.connect()]
        greetings = [await replica.receive_greeting() for replica in waiting]
        late = await bench.connect()
        answer = ErrPacket.parse(await late.peer.receive())
        assert answer == ErrPacket(1040, None, b"Binlock: too many connections; try again")
        assert len(source.peers) == 2
        # A login makes room.
        assert await waiting[0].authenticate(greetings[0]) == OK
        await late.peer.wait_closed()
        await bench.served[2].wait()
        later = await bench.connect()
        await later.receive_greeting()


async def test_turns_the_next_away_when_too_many_sessions_are_open(log: EventLog) -> None:
    async with benched(FakeSource(), log, limits=LimitsTable(sessions=1)) as bench:
        first = await bench.connect()
        assert await first.log_in() == OK
        second = await bench.connect()
        assert ErrPacket.parse(await second.peer.receive()).code == 1040


async def test_says_that_the_source_is_down_without_saying_where_it_is(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log) as bench:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        object.__setattr__(bench.route, "source", TcpAddress("127.0.0.1", port))
        replica = await bench.connect()
        answer = ErrPacket.parse(await replica.peer.receive())
        assert answer.code == 2003
        assert b"127.0.0.1" not in answer.message
        refusal = await bench.assert_refused(Stage.SOURCE, Reason.SOURCE_UNREACHABLE)
        assert f"127.0.0.1:{port}" in refusal["detail"]


async def test_gives_a_silent_source_up(log: EventLog) -> None:
    async def stays_silent(_: FakeSource, peer: PacketPeer) -> None:
        await peer.wait_closed()

    source = FakeSource(conversation=stays_silent)
    async with benched(source, log, limits=LimitsTable(source_connect_seconds=0.05)) as bench:
        replica = await bench.connect()
        assert ErrPacket.parse(await replica.peer.receive()).code == 2003
        refusal = await bench.assert_refused(Stage.SOURCE, Reason.SOURCE_UNREACHABLE)
        assert "did not answer within 0.05 s" in refusal["detail"]


async def test_passes_on_the_err_that_the_source_sends_as_its_greeting(log: EventLog) -> None:
    said = ErrPacket(1040, None, b"Too many connections").serialize(with_sqlstate=False)

    async def is_full(_: FakeSource, peer: PacketPeer) -> None:
        await peer.send(said)

    async with benched(FakeSource(conversation=is_full), log) as bench:
        replica = await bench.connect()
        assert await replica.peer.receive() == said
        await bench.assert_refused(Stage.SOURCE, Reason.SOURCE_REFUSED)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        encode_packet(b"\x09old protocol\x00", 0),
        encode_packet(b"\x0a9.7.0\x00\x01", 0),
        encode_packet(b"\x0a9.7.0\x00\x01", 1),
        encode_packet(b"", 0),
        b"\xff\xff\xff\x00" + bytes(64),
    ],
    ids=["http", "ssh", "protocol 9", "cut short", "sequence id 1", "empty", "16 MiB"],
)
async def test_a_source_that_speaks_something_else_is_unreachable(said: bytes, log: EventLog) -> None:
    async def speaks(_: FakeSource, peer: PacketPeer) -> None:
        await peer.send_bytes(said)
        await peer.wait_closed()

    async with benched(FakeSource(conversation=speaks), log) as bench:
        replica = await bench.connect()
        assert ErrPacket.parse(await replica.peer.receive()).code == 2003
        await bench.assert_refused(Stage.SOURCE, Reason.SOURCE_UNREACHABLE)


async def test_a_source_that_closes_at_once_is_unreachable(log: EventLog) -> None:
    async def closes(_: FakeSource, peer: PacketPeer) -> None:
        await peer.close()

    async with benched(FakeSource(conversation=closes), log) as bench:
        replica = await bench.connect()
        assert ErrPacket.parse(await replica.peer.receive()).code == 2003
        await bench.assert_refused(Stage.SOURCE, Reason.SOURCE_UNREACHABLE)


async def test_refuses_a_source_without_tls_where_the_leg_must_be_tls(pki: Pki, log: EventLog) -> None:
    source_tls = SourceTls(client_context(pki.material()), "localhost")
    async with benched(FakeSource(), log, source_tls=source_tls) as bench:
        replica = await bench.connect()
        answer = ErrPacket.parse(await replica.peer.receive())
        assert answer == ErrPacket(2026, None, b"Binlock: the source does not offer TLS, which this route requires")
        await bench.assert_refused(Stage.GREETING, Reason.SOURCE_WITHOUT_TLS)


# Refusals between greeting and login.


async def test_refuses_a_replica_that_stays_in_plaintext(pki: Pki, replica_context: Context, log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect()
        payload = await replica.log_in()
        assert payload.startswith(b"\xff" + (3159).to_bytes(2, "little") + b"#HY000Binlock: this route requires TLS")
        assert replica.peer.next_sequence_id == 3
        await bench.assert_refused(Stage.TLS, Reason.PLAINTEXT_REFUSED)
    assert not source.payloads


async def test_a_command_smuggled_in_behind_the_request_for_tls_fails_as_tls_and_never_reaches_the_source(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    source = FakeSource()
    request = SSLRequest(REPLICA_CAPABILITIES | Capability.CLIENT_SSL).serialize()
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect()
        await replica.receive_greeting()
        await replica.peer.send_bytes(encode_packet(request, 1) + encode_packet(QUERY, 0))
        await replica.peer.wait_closed()
        await bench.assert_refused(Stage.TLS, Reason.NOT_TLS)
    assert not source.payloads


async def test_a_login_smuggled_in_behind_the_request_for_tls_is_not_taken_for_the_one_over_tls(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    source = FakeSource()
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        greeting = await replica.receive_greeting()
        login = encode_packet(replica.login(scramble(PASSWORD, NONCE), greeting.plugin), 2)
        request = SSLRequest(REPLICA_CAPABILITIES | Capability.CLIENT_SSL).serialize()
        await replica.peer.send_bytes(encode_packet(request, 1) + login)
        with pytest.raises(PeerGone):
            await replica.peer.start_tls(pki.client(pki.replica), server_side=False)
        await bench.assert_refused(Stage.TLS, Reason.NOT_TLS)
    assert not source.payloads


async def test_a_client_hello_in_the_same_segment_as_the_request_is_heard(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    """As real replicas do: all that goes out before the handshake's first answer is sent as one piece."""
    async with benched(FakeSource(), log, replica_context=replica_context) as bench:
        replica = await bench.connect()
        await replica.receive_greeting()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        engine = pki.client(pki.replica).wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            engine.do_handshake()
        request = SSLRequest(REPLICA_CAPABILITIES | Capability.CLIENT_SSL).serialize()
        await replica.peer.send_bytes(encode_packet(request, 1) + outgoing.read())
        while True:
            try:
                engine.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(await replica.peer.receive_some(65536))
        await replica.peer.send_bytes(outgoing.read())
        assert engine.version() == "TLSv1.3"


async def test_refuses_a_request_for_tls_on_a_plaintext_route(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.receive_greeting()
        await replica.peer.send(SSLRequest(REPLICA_CAPABILITIES | Capability.CLIENT_SSL).serialize())
        await replica.peer.wait_closed()
        await bench.assert_refused(Stage.TLS, Reason.PROTOCOL_ERROR)
    assert not source.payloads


async def test_refuses_a_certificate_that_is_not_on_the_roster(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    source = FakeSource()
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.unlisted_replica))
        payload = await replica.log_in()
        assert payload.startswith(b"\xff" + (1045).to_bytes(2, "little") + b"#28000Binlock: ")
        assert b"unlisted.example is not on the roster" in payload
        assert replica.peer.next_sequence_id == 4
        await bench.assert_refused(Stage.IDENTITY, Reason.IDENTITY_NOT_ON_ROSTER)
    assert not source.payloads


async def test_refuses_another_account_than_the_identitys(pki: Pki, replica_context: Context, log: EventLog) -> None:
    source = FakeSource(account=b"root")
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica), account=b"root")
        answer = ErrPacket.parse(await replica.log_in())
        assert answer.code == 1045
        assert answer.message == b"Binlock: replica-1.example may not log in as 'root' on this route"
        refusal = await bench.assert_refused(Stage.AUTHENTICATION, Reason.ACCOUNT_NOT_ALLOWED)
        assert refusal["identity"] == "replica-1.example"
    assert not source.payloads


async def test_passes_on_the_sources_refusal_of_the_login_byte_for_byte(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    async with benched(FakeSource(), log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica), password=b"wrong")
        assert await replica.log_in() == ACCESS_DENIED.serialize(with_sqlstate=True)
        await bench.assert_refused(Stage.AUTHENTICATION, Reason.AUTHENTICATION_REJECTED)


async def test_refuses_compression_and_says_how_to_turn_it_off(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log) as bench:
        replica = await bench.connect(capabilities=REPLICA_CAPABILITIES | Capability.CLIENT_COMPRESS)
        answer = ErrPacket.parse(await replica.log_in())
        assert answer.code == 1235
        assert b"SOURCE_COMPRESSION_ALGORITHMS='uncompressed'" in answer.message
        await bench.assert_refused(Stage.AUTHENTICATION, Reason.COMPRESSION_NOT_SUPPORTED)


async def test_compression_that_the_source_does_not_offer_is_not_compression(log: EventLog) -> None:
    source = FakeSource(capabilities=SOURCE_CAPABILITIES & ~Capability.CLIENT_COMPRESS)
    async with benched(source, log) as bench:
        replica = await bench.connect(capabilities=REPLICA_CAPABILITIES | Capability.CLIENT_COMPRESS)
        assert await replica.log_in() == OK


async def test_refuses_a_source_whose_certificate_has_another_name(pki: Pki, log: EventLog) -> None:
    source = FakeSource(tls=pki.server(pki.source))
    source_tls = SourceTls(client_context(pki.material()), "db1.example")
    async with benched(source, log, source_tls=source_tls) as bench:
        replica = await bench.connect()
        answer = ErrPacket.parse(await replica.log_in())
        assert answer.code == 2026
        assert answer.message == b"Binlock: the source's certificate is not for db1.example"
        await bench.assert_refused(Stage.SOURCE, Reason.SOURCE_NAME_MISMATCH)
    assert len(source.payloads) == 1  # the request for TLS, and no login


async def test_refuses_a_source_of_another_authority(pki: Pki, log: EventLog) -> None:
    source = FakeSource(tls=pki.server(pki.source))
    context = client_context(pki.material(anchors=(pki.stranger.certificate,)))
    async with benched(source, log, source_tls=SourceTls(context, "localhost")) as bench:
        replica = await bench.connect()
        answer = ErrPacket.parse(await replica.log_in())
        assert answer.code == 2026
        await bench.assert_refused(Stage.SOURCE, Reason.SOURCE_TLS_FAILED)
    assert len(source.payloads) == 1


# Silence, garbage, and ends in the wrong place.


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


# The command phase.


async def test_a_refused_command_is_answered_in_place_and_the_session_goes_on(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        answer = await replica.command(FORBIDDEN)
        assert answer.startswith(b"\xff" + (1227).to_bytes(2, "little") + b"#42000Binlock: this route admits only")
        assert replica.peer.next_sequence_id == 2
        assert await replica.command(QUERY) == OK
        assert bench.metric("commands_refused_total", route="test") == 1
        assert log.one("command_refused")["account"] == "repl"
    assert source.payloads[1:] == [QUERY]


async def test_refuses_a_server_id_of_another_in_words_that_the_replica_hears(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, roster=(entry(identity=None, server_ids=(7,)),)) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(REGISTER)
        packet = await replica.peer.receive_packet(any_sequence_id=True)
        assert ErrPacket.parse(packet.payload) == ErrPacket(
            1227, b"42000", b"Binlock: replica-1 may not replicate as server id 2 on this route"
        )
        await bench.assert_refused(Stage.POLICY, Reason.SERVER_ID_NOT_ALLOWED)
    assert source.payloads[1:] == []


async def test_the_err_that_ends_the_command_phase_carries_the_sequence_id_after_the_command(log: EventLog) -> None:
    async with benched(FakeSource(), log, roster=(entry(identity=None, server_ids=(7,)),)) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(REGISTER)
        packet = await replica.peer.receive_packet(any_sequence_id=True)
        assert packet.sequence_id == 1


async def test_a_dump_as_another_server_id_never_reaches_the_source(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, roster=(entry(identity=None, server_ids=(7,)),)) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(DUMP)
        await replica.peer.wait_closed()
        await bench.assert_refused(Stage.POLICY, Reason.SERVER_ID_NOT_ALLOWED)
    assert source.payloads[1:] == []


async def test_an_unknown_command_is_a_protocol_error(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(b"\x99")
        await replica.peer.wait_closed()
        await bench.assert_refused(Stage.POLICY, Reason.PROTOCOL_ERROR)
    assert source.payloads[1:] == []


async def test_a_goodbye_in_the_command_phase_ends_the_session_in_order(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(QUIT)
        await bench.wait_served()
        assert log.one("session_ended")["reason"] == "closed"
        assert bench.metric("sessions_total", route="test", outcome="ended") == 1
    assert source.payloads[1:] == [QUIT]


async def test_a_replica_that_leaves_after_its_login_has_not_been_refused(log: EventLog) -> None:
    async with benched(FakeSource(), log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.peer.close()
        await bench.wait_served()
        assert log.one("session_ended")["reason"] == "disconnected"
        assert not log.events("session_refused")
        assert bench.metric("sessions_ended_total", route="test", reason="disconnected") == 1


async def test_an_answer_larger_than_any_buffer_comes_through_whole(log: EventLog) -> None:
    rows = bytes(range(256)) * 8192

    async def answers_at_length(source: FakeSource, peer: PacketPeer) -> None:
        await source.authenticate(peer)
        peer.next_sequence_id = 0
        await source.receive(peer)
        await peer.send(rows)
        await peer.wait_closed()

    async with benched(FakeSource(conversation=answers_at_length), log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        assert await replica.command(QUERY) == rows


async def test_clone_is_carried_under_the_policy_for_backups(log: EventLog) -> None:
    com_init = b"\x01" + bytes(7)  # the clone plugin's COM_INIT, which is not COM_QUIT

    async def clones(source: FakeSource, peer: PacketPeer) -> None:
        await source.authenticate(peer)
        for _ in range(3):
            peer.next_sequence_id = 0
            await source.receive(peer)
            await peer.send(OK)

    source = FakeSource(conversation=clones)
    async with benched(source, log, policy="backup") as bench:
        replica = await bench.connect()
        await replica.log_in()
        for command in (b"\x20", com_init, b"\x06"):
            assert await replica.command(command) == OK
    assert source.payloads[1:] == [b"\x20", com_init, b"\x06"]


# The stream.


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
        assert log.one("session_ended")["reason"] == "closed"


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


# Drain.


async def test_a_drain_ends_a_stream_after_all_that_was_read_has_been_sent(log: EventLog) -> None:
    source = FakeSource(stream=EVENTS)
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(DUMP)
        await receive_exactly(replica.peer, len(EVENTS))
        [record] = list(bench.runtime.registry)
        record.end(SHUTTING_DOWN)
        assert await replica.peer.wait_closed() == encode_packet(SHUTTING_DOWN.answer.serialize(with_sqlstate=True), 5)
        await bench.wait_served()
        assert log.one("session_ended")["reason"] == "drained"
        assert bench.metric("sessions_ended_total", route="test", reason="drained") == 1


async def test_a_drain_tells_a_replica_that_is_logging_in_to_come_back(log: EventLog) -> None:
    async with benched(FakeSource(), log) as bench:
        replica = await bench.connect()
        await replica.receive_greeting()
        [record] = list(bench.runtime.registry)
        record.end(SHUTTING_DOWN)
        answer = ErrPacket.parse(await replica.peer.receive())
        assert (answer.code, answer.sqlstate) == (1053, b"08S01")
        await bench.assert_refused(Stage.TLS, Reason.DRAINED)


# What the log must not have.


@pytest.mark.parametrize("formatter", [_JsonFormatter(), _TextFormatter()])
async def test_no_secret_is_ever_logged(
    formatter: logging.Formatter, pki: Pki, replica_context: Context, log: EventLog
) -> None:
    register = b"\x15\x02\x00\x00\x00" + b"\x04host" + b"\x04user" + b"\x07hunter2" + bytes(10)
    source = FakeSource(is_cached=False, stream=EVENTS)
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        await replica.log_in()
        await replica.command(register)
        await replica.command(Query(b"SELECT 'hunter2'").serialize(REPLICA_CAPABILITIES))
        await replica.send_command(b"\x15\x02\x00\x00\x00\x04host\x40hunter2")
        await replica.peer.wait_closed()
        await bench.wait_served()
    text = "\n".join(formatter.format(record) for record in log.records)
    assert "session_started" in text
    assert "session_refused" in text
    for secret in (PASSWORD, b"hunter2", scramble(PASSWORD, NONCE)):
        for shown in (
            secret.decode("latin-1"),
            secret.hex(),
            repr(secret)[2:-1],
            json.dumps(secret.decode("latin-1"))[1:-1],
        ):
            assert shown not in text


def test_every_reason_with_a_number_makes_a_packet_that_names_binlock() -> None:
    for reason in ERROR_NUMBERS:
        packet = err_packet(reason, "why")
        assert packet.message == b"Binlock: why"
        assert packet.sqlstate is not None
        assert len(packet.sqlstate) == 5
