"""The command phase of a session: refused in place, relayed, ended in order."""

from proxy.outcomes import Reason, Stage
from tests.proxy.bench import EventLog, benched, entry
from tests.proxy.conversations import DUMP, FORBIDDEN, QUERY, QUIT, REGISTER
from tests.proxy.fakes import (
    OK,
    FakeSource,
    PacketPeer,
)
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
