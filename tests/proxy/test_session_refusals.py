"""What a session refuses before and during the login: the ERR, its number, its sequence id, the log line."""

import socket
import ssl

import pytest

from proxy.configuration.addresses import TcpAddress
from proxy.configuration.config import LimitsTable
from proxy.openssl import Context, client_context
from proxy.outcomes import Reason, Stage
from proxy.stages.authentication import SourceTls
from tests.proxy.bench import EventLog, benched
from tests.proxy.conversations import QUERY
from tests.proxy.fakes import (
    ACCESS_DENIED,
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
from wire.capabilities import Capability
from wire.framing import encode_packet
from wire.login import SSLRequest
from wire.results import ErrPacket


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
