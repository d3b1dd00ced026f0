"""One session from accept to close: the whole conversation, its drain, and what its log must not have."""

import json
import logging
import time
from datetime import datetime

import pytest

from proxy.openssl import Context, client_context
from proxy.outcomes import ERROR_NUMBERS, Reason, Stage, err_packet
from proxy.stages.authentication import SourceTls
from supervision.logs import JsonFormatter, TextFormatter
from tests.proxy.bench import EventLog, benched
from tests.proxy.conversations import (
    ACK,
    DUMP,
    EVENTS,
    QUERY,
    QUIT,
    REGISTER,
    SHUTTING_DOWN,
    receive_exactly,
)
from tests.proxy.fakes import (
    NONCE,
    OK,
    PASSWORD,
    REPLICA_CAPABILITIES,
    FakeSource,
    scramble,
)
from tests.proxy.pki import Pki
from wire.capabilities import Capability
from wire.commands import BinlogDumpGtid, Query
from wire.framing import encode_packet
from wire.results import ErrPacket


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
    async with benched(source, log, replica_context=replica_context, connection_attributes=False) as bench:
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
        assert bench.metric("replica_streams_total", route="test", replica="replica-1") == 1
        assert bench.metric("sessions_active", route="test") == 1
        assert shown["replica_tls_version"] == "TLSv1.3"
        protected = {
            "version": "TLSv1.3",
            "cipher": shown["replica_tls_cipher"],
            "group": shown["replica_tls_group"],
        }
        legs = [("replica", protected), ("source", {"version": "plaintext", "cipher": "", "group": ""})]
        for leg, labels in legs:
            assert bench.metric("replica_legs", route="test", replica="replica-1", leg=leg, **labels) == 1
        not_after = bench.metric(
            "peer_certificate_not_after_timestamp_seconds", route="test", replica="replica-1", leg="replica"
        )
        assert not_after == datetime.fromisoformat(shown["replica_certificate_not_after"]).timestamp()
        not_before = bench.metric(
            "peer_certificate_not_before_timestamp_seconds", route="test", replica="replica-1", leg="replica"
        )
        assert not_before < time.time() < not_after
    for leg, labels in legs:
        assert bench.metric("replica_legs", route="test", replica="replica-1", leg=leg, **labels) == 0
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


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
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
