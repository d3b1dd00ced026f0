"""The command phase of a session: refused in place, relayed, ended in order."""

from dataclasses import replace

import pytest

from proxy.outcomes import Reason, Stage
from proxy.reporting.refusals import Outcome
from tests.proxy.bench import EventLog, benched, entry
from tests.proxy.conversations import DUMP, FORBIDDEN, QUERY, QUIT, REGISTER
from tests.proxy.fakes import (
    OK,
    REPLICA_CAPABILITIES,
    FakeSource,
    PacketPeer,
)
from wire.commands import Query
from wire.framing import encode_packet
from wire.greeting import HandshakeV10
from wire.results import ErrPacket


async def test_a_refused_command_is_answered_in_place_and_the_session_goes_on(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        answer = await replica.command(FORBIDDEN)
        assert answer.startswith(b"\xff" + (1227).to_bytes(2, "little") + b"#42000Binlock: this route admits only")
        assert replica.peer.next_sequence_id == 2
        assert await replica.command(QUERY) == OK
        counted = {"route": "test", "command": "COM_QUERY"}
        assert bench.metric("commands_total", **counted, decision="refused") == 1
        assert bench.metric("commands_total", **counted, decision="admitted") == 1
        refused = log.one("command_refused")
        [noted] = bench.runtime.refusals.recent()
        assert (noted.outcome, noted.reason) == (Outcome.COMMAND_REFUSED, "command_refused")
        assert "mysql.user" not in noted.detail
        assert (refused["account"], refused["command"], refused["query"]) == ("repl", "COM_QUERY", "SELECT")
        assert "mysql.user" not in repr(log.events())
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


async def test_what_a_source_does_not_clone_is_judged_as_commands(log: EventLog) -> None:
    """COM_REINIT of the clone plugin begins as COM_QUERY does."""

    async def refuses_to_clone(source: FakeSource, peer: PacketPeer) -> None:
        await source.authenticate(peer)
        peer.next_sequence_id = 0
        await source.receive(peer)
        await peer.send(ErrPacket(1235, b"42000", b"no clone here").serialize(with_sqlstate=True))
        await peer.wait_closed()

    source = FakeSource(conversation=refuses_to_clone)
    async with benched(source, log, policy="backup") as bench:
        replica = await bench.connect()
        await replica.log_in()
        assert (await replica.command(b"\x20")).startswith(b"\xff")
        answer = await replica.command(Query(b"DROP DATABASE x").serialize(REPLICA_CAPABILITIES))
        assert ErrPacket.parse(answer).code == 1227
    assert source.payloads[1:] == [b"\x20"]


async def test_no_query_passes_inside_a_clone(log: EventLog) -> None:
    async def clones(source: FakeSource, peer: PacketPeer) -> None:
        await source.authenticate(peer)
        for _ in range(2):
            peer.next_sequence_id = 0
            await source.receive(peer)
            await peer.send(OK)
        await peer.wait_closed()

    source = FakeSource(conversation=clones)
    async with benched(source, log, policy="backup") as bench:
        replica = await bench.connect()
        await replica.log_in()
        for command in (b"\x20", b"\x01" + bytes(7)):
            assert await replica.command(command) == OK
        await replica.send_command(Query(b"DROP DATABASE x").serialize(REPLICA_CAPABILITIES))
        await replica.peer.wait_closed()
        await bench.assert_refused(Stage.POLICY, Reason.PROTOCOL_ERROR)
    assert source.payloads[1:] == [b"\x20", b"\x01" + bytes(7)]


RESULT = [b"\x01", b"\x03def\x00\x00\x00\x01a", b"\x03one", b"\x03two", b"\xfe\x00\x00\x02\x00"]


@pytest.mark.parametrize("packets", range(len(RESULT)))
@pytest.mark.parametrize("more", [b"", b"\x04\x00\x00"])
async def test_no_answer_of_binlocks_lands_inside_an_answer_of_the_source(
    log: EventLog, packets: int, more: bytes
) -> None:
    """A replica that does not wait for an answer's end cannot be answered in place: its session ends."""
    part = b"".join(encode_packet(payload, number + 1) for number, payload in enumerate(RESULT[:packets])) + more

    async def answers_in_part(source: FakeSource, peer: PacketPeer) -> None:
        await source.authenticate(peer)
        peer.next_sequence_id = 0
        await source.receive(peer)
        await peer.send_bytes(part)
        await peer.wait_closed()

    source = FakeSource(conversation=answers_in_part)
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(QUERY)
        seen = b""
        while len(seen) < len(part):
            seen += await replica.peer.receive_some(len(part) - len(seen))
        await replica.send_command(FORBIDDEN)
        assert seen + await replica.peer.wait_closed() == part
        await bench.assert_refused(Stage.POLICY, Reason.PROTOCOL_ERROR)
    assert source.payloads[1:] == [QUERY]


async def test_a_refused_command_sent_along_with_two_others_ends_the_session(log: EventLog) -> None:
    """Whose answer an answer is, is not certain any more, even where each command has one by now."""
    source = FakeSource()
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.peer.send_bytes(encode_packet(QUERY, 0) * 50)
        for _ in range(50):
            replica.peer.next_sequence_id = 1
            assert await replica.peer.receive() == OK
        await replica.send_command(FORBIDDEN)
        assert await replica.peer.wait_closed() == b""
        await bench.assert_refused(Stage.POLICY, Reason.PROTOCOL_ERROR)
    assert FORBIDDEN not in source.payloads


async def test_admitted_commands_may_be_sent_ahead(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.peer.send_bytes(encode_packet(QUERY, 0) * 3)
        for _ in range(3):
            replica.peer.next_sequence_id = 1
            assert await replica.peer.receive() == OK
    assert source.payloads[1:] == [QUERY] * 3


@pytest.mark.parametrize("behind", [QUERY, FORBIDDEN, REGISTER, b"\x11root\x00"])
async def test_a_command_directly_behind_the_dump_never_reaches_the_source(log: EventLog, behind: bytes) -> None:
    source = FakeSource()
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.peer.send_bytes(encode_packet(DUMP, 0) + encode_packet(behind, 0))
        await replica.peer.wait_closed()
        await bench.assert_refused(Stage.RELAY, Reason.PROTOCOL_ERROR)
    assert source.payloads[1:] == [DUMP]


async def test_a_dump_before_the_answer_to_what_came_before_is_no_replicas(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.peer.send_bytes(encode_packet(QUERY, 0) + encode_packet(DUMP, 0))
        await replica.peer.wait_closed()
        await bench.assert_refused(Stage.POLICY, Reason.PROTOCOL_ERROR)
    assert DUMP not in source.payloads


def greeting_of(thread_id: int = 1, *, version: bytes = b"9.7.0-fake") -> bytes:
    greeting = HandshakeV10.parse(FakeSource().greeting())
    return replace(greeting, thread_id=thread_id, server_version=version).serialize()


def kill(thread_id: int) -> bytes:
    return Query(b"KILL %d" % thread_id).serialize(REPLICA_CAPABILITIES)


async def test_a_replica_may_kill_its_other_session_and_nobody_elses(log: EventLog) -> None:
    source = FakeSource()  # greets everybody as thread 4242
    roster = (entry(identity=None), entry("replica-2", identity=None, accounts=("other",)))
    async with benched(source, log, roster=roster) as bench:
        first = await bench.connect()
        await first.log_in()
        second = await bench.connect()
        await second.log_in()
        assert await second.command(kill(4242)) == OK
        assert ErrPacket.parse(await second.command(kill(4243))).code == 1227
    assert source.payloads.count(kill(4242)) == 1
    assert kill(4243) not in source.payloads


async def test_a_session_that_has_just_ended_may_still_be_killed(log: EventLog) -> None:
    """MariaDB closes its first connection before it kills it with a second one."""
    thread_ids = iter((7, 8))
    source = FakeSource()
    source.greeting = lambda: greeting_of(next(thread_ids))  # type: ignore[method-assign]
    async with benched(source, log) as bench:
        first = await bench.connect()
        await first.log_in()
        await first.peer.close()
        await bench.served[0].wait()
        second = await bench.connect()
        await second.log_in()
        assert await second.command(kill(7)) == OK


async def test_a_long_statement_is_read_beside_the_other_sessions(log: EventLog) -> None:
    tables = b",".join(b"`table_%d` READ" % number for number in range(3000))
    locks, writes = (
        Query(b"LOCK TABLES " + tables + end).serialize(REPLICA_CAPABILITIES) for end in (b"", b", t WRITE")
    )
    source = FakeSource()
    async with benched(source, log, policy="backup") as bench:
        replica = await bench.connect()
        await replica.log_in()
        assert await replica.command(locks) == OK
        assert ErrPacket.parse(await replica.command(writes)).code == 1227
    assert source.payloads[1:] == [locks]


@pytest.mark.parametrize(("version", "is_admitted"), [(b"9.7.4", True), (b"5.7.44", False), (b"11.8.9-MariaDB", False)])
async def test_the_character_set_of_the_login_counts_where_the_source_knows_it(
    log: EventLog, version: bytes, is_admitted: bool
) -> None:
    """The login names utf8mb4_0900_ai_ci; elsewhere the session has the source's own character set."""
    like = Query("SHOW TRIGGERS LIKE 'caf\u00e9\\_orders'".encode()).serialize(REPLICA_CAPABILITIES)
    source = FakeSource()
    source.greeting = lambda: greeting_of(version=version)  # type: ignore[method-assign]
    async with benched(source, log, policy="backup") as bench:
        replica = await bench.connect()
        await replica.log_in()
        assert (await replica.command(like) == OK) == is_admitted
