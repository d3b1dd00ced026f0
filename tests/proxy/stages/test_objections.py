"""Observe mode: what would be refused is let through, logged, counted, shown; encryption and address still refuse."""

import pytest

from proxy.openssl import Context
from proxy.outcomes import Reason, SessionRefused, Stage
from proxy.reporting.refusals import Outcome
from proxy.stages.objections import Objections
from proxy.stages.policy import authorise_server_id
from tests.proxy.bench import Bench, EventLog, benched, enforced, entry
from tests.proxy.fakes import OK, REPLICA_CAPABILITIES, FakeReplica, FakeSource
from tests.proxy.pki import Pki
from wire.commands import BinlogDump, BinlogDumpGtid, Query, RegisterReplica
from wire.results import ErrPacket

FORBIDDEN = Query(b"SELECT * FROM mysql.user").serialize(REPLICA_CAPABILITIES)
CHANGE_USER = b"\x11root\x00\x00\x00\x00"
REFUSAL = SessionRefused(Stage.IDENTITY, Reason.IDENTITY_NOT_ON_ROSTER, "the detail", told="the answer")


def register(server_id: int) -> bytes:
    return RegisterReplica(server_id=server_id).serialize()


def dump(server_id: int) -> bytes:
    return BinlogDump(server_id=server_id, file=b"binlog.000001").serialize()


def test_an_objection_refuses_where_the_route_enforces() -> None:
    with pytest.raises(SessionRefused) as refused:
        enforced().raise_or_note(REFUSAL)
    assert refused.value is REFUSAL


def test_an_objection_is_noted_where_it_does_not() -> None:
    noted: list[SessionRefused] = []
    Objections(enforce=False, note=noted.append).raise_or_note(REFUSAL)
    assert noted == [REFUSAL]


def assert_noted(bench: Bench, stage: Stage, reason: Reason) -> dict[str, object]:
    """Let through, and said in the log, in the metrics and in the record; counted as no refusal."""
    noted = bench.log.one("would_refuse")
    assert (noted["stage"], noted["reason"]) == (stage.value, reason.value)
    assert noted["detail"]
    assert bench.metric("would_refuse_total", route="test", stage=stage.value, reason=reason.value) == 1
    assert bench.runtime.refusals.counts[Outcome.WOULD_REFUSE, "test", stage.value, reason.value] == 1
    assert bench.metric("refusals_total", route="test", stage=stage.value, reason=reason.value) == 0
    assert not bench.log.events("session_refused")
    [record] = bench.runtime.registry
    assert record.fields()["would_refuse"] == [reason.value]
    return noted


async def test_a_certificate_that_is_not_on_the_roster_is_let_through(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    async with benched(FakeSource(), log, replica_context=replica_context, enforce=False) as bench:
        replica = await bench.connect(pki.client(pki.unlisted_replica))
        assert await replica.log_in() == OK
        [record] = bench.runtime.registry
        assert (record.identity, record.replica, record.account) == ("unlisted.example", "unlisted", "repl")
        assert record.fields()["would_refuse"] == ["identity_not_on_roster"]
        assert [event["reason"] for event in log.events("would_refuse")] == ["identity_not_on_roster"]
        noted = {"route": "test", "stage": "identity", "reason": "identity_not_on_roster"}
        assert bench.metric("would_refuse_total", **noted) == 1


async def test_an_identity_from_another_address_is_let_through(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    roster = (entry(addresses=("10.20.0.0/16",)),)
    async with benched(FakeSource(), log, replica_context=replica_context, roster=roster, enforce=False) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        assert await replica.log_in() == OK
        noted = assert_noted(bench, Stage.IDENTITY, Reason.ADDRESS_NOT_ON_ROSTER)
        assert "127.0.0.1" in str(noted["detail"])
        assert log.one("session_started")["replica"] == "replica-1"


async def test_another_account_is_let_through(pki: Pki, replica_context: Context, log: EventLog) -> None:
    source = FakeSource(account=b"root")
    async with benched(source, log, replica_context=replica_context, enforce=False) as bench:
        replica = await bench.connect(pki.client(pki.replica), account=b"root")
        assert await replica.log_in() == OK
        assert_noted(bench, Stage.AUTHENTICATION, Reason.ACCOUNT_NOT_ALLOWED)
        assert log.one("session_started")["account"] == "root"


@pytest.mark.parametrize("command", [register(2), dump(2), BinlogDumpGtid(server_id=2).serialize()])
async def test_another_server_id_is_let_through(command: bytes, log: EventLog) -> None:
    source = FakeSource(stream=b"x")
    roster = (entry(identity=None, server_ids=(7,)),)
    async with benched(source, log, roster=roster, enforce=False) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.send_command(command)
        await replica.peer.receive_some(1)
        assert_noted(bench, Stage.POLICY, Reason.SERVER_ID_NOT_ALLOWED)
        [record] = bench.runtime.registry
        assert record.server_id == 2
    assert source.payloads[1:2] == [command]


async def test_a_command_outside_the_policy_is_let_through(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, enforce=False) as bench:
        replica = await bench.connect()
        await replica.log_in()
        assert await replica.command(FORBIDDEN) == OK
        assert_noted(bench, Stage.POLICY, Reason.COMMAND_REFUSED)
        assert bench.metric("commands_total", route="test", command="COM_QUERY", decision="would_refuse") == 1
        noted = log.one("would_refuse")
        assert (noted["command"], noted["query"]) == ("COM_QUERY", "SELECT")
        assert not log.events("command_refused")
    assert source.payloads[1:] == [FORBIDDEN]


async def test_each_violation_is_counted_and_its_reason_shown_once(log: EventLog) -> None:
    async with benched(FakeSource(), log, enforce=False) as bench:
        replica = await bench.connect()
        await replica.log_in()
        for _ in range(3):
            assert await replica.command(FORBIDDEN) == OK
        assert bench.metric("would_refuse_total", route="test", stage="policy", reason="command_refused") == 3
        [record] = bench.runtime.registry
        assert record.would_refuse == ["command_refused"]


async def test_what_would_be_refused_stands_in_the_audit_line_at_the_end(log: EventLog) -> None:
    async with benched(FakeSource(), log, enforce=False) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.command(FORBIDDEN)
        await replica.send_command(b"\x01")
        await replica.peer.wait_closed()
        await bench.wait_served()
    assert log.one("session_ended")["would_refuse"] == ["command_refused"]


async def test_what_would_be_refused_is_logged_without_the_sql(log: EventLog) -> None:
    async with benched(FakeSource(), log, enforce=False) as bench:
        replica = await bench.connect()
        await replica.log_in()
        await replica.command(FORBIDDEN)
    assert "mysql.user" not in str(log.events())


async def test_a_replica_that_breaks_no_rule_leaves_no_note(pki: Pki, replica_context: Context, log: EventLog) -> None:
    async with benched(FakeSource(), log, replica_context=replica_context, enforce=False) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        assert await replica.log_in() == OK
        assert await replica.command(register(2)) == OK
    assert not log.events("would_refuse")
    assert "would_refuse" not in log.one("session_started")


# What observe mode does not let through.


async def test_the_allowlist_refuses_in_observe_mode(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, allow=("10.0.0.0/8",), enforce=False) as bench:
        replica = await bench.connect()
        assert ErrPacket.parse(await replica.peer.receive()).code == 1130
        await bench.assert_refused(Stage.ADMISSION, Reason.ADDRESS_NOT_ALLOWED)
    assert not source.peers


async def test_plaintext_is_refused_in_observe_mode(replica_context: Context, log: EventLog) -> None:
    async with benched(FakeSource(), log, replica_context=replica_context, enforce=False) as bench:
        replica = await bench.connect()
        assert ErrPacket.parse(await replica.log_in()).code == 3159
        await bench.assert_refused(Stage.TLS, Reason.PLAINTEXT_REFUSED)


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        ("expired_replica", Reason.CERTIFICATE_EXPIRED),
        ("revoked_replica", Reason.CERTIFICATE_REVOKED),
        ("foreign_replica", Reason.CERTIFICATE_UNTRUSTED),
    ],
)
async def test_a_certificate_that_does_not_stand_is_refused_in_observe_mode(
    leaf: str, reason: Reason, pki: Pki, replica_context: Context, log: EventLog
) -> None:
    source = FakeSource()
    async with benched(source, log, replica_context=replica_context, enforce=False) as bench:
        replica = await bench.connect(pki.client(getattr(pki, leaf)))
        await replica.receive_greeting()
        await replica.begin_tls()
        await replica.peer.wait_closed()
        await bench.assert_refused(Stage.TLS, reason)
    assert not source.payloads


async def test_a_change_of_user_is_refused_in_observe_mode(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, policy="any", enforce=False) as bench:
        replica = await bench.connect()
        await replica.log_in()
        answer = ErrPacket.parse(await replica.command(CHANGE_USER))
        assert answer.code == 1227
        assert b"COM_CHANGE_USER is refused on every route" in answer.message
        assert bench.metric("commands_total", route="test", command="COM_CHANGE_USER", decision="refused") == 1
        assert not log.events("would_refuse")
    assert source.payloads[1:] == []


# Register and dump must agree.


async def registered_then(bench: Bench, command: bytes, *, registered: int = 2) -> FakeReplica:
    replica = await bench.connect()
    await replica.log_in()
    assert await replica.command(register(registered)) == OK
    await replica.send_command(command)
    return replica


@pytest.mark.parametrize("command", [dump(3), BinlogDumpGtid(server_id=3).serialize(), dump(0), register(3)])
async def test_a_dump_as_another_than_was_registered_is_refused_even_without_a_list(
    command: bytes, log: EventLog
) -> None:
    source = FakeSource()
    async with benched(source, log) as bench:
        replica = await registered_then(bench, command)
        packet = await replica.peer.receive_packet(any_sequence_id=True)
        answer = ErrPacket.parse(packet.payload)
        assert answer.code == 1227
        assert answer.message.startswith(b"Binlock: replica-1 registered as server id 2 and may not dump as ")
        await bench.assert_refused(Stage.POLICY, Reason.SERVER_ID_NOT_ALLOWED)
    assert source.payloads[1:] == [register(2)]


async def test_both_of_the_roster_but_not_the_same_is_refused(log: EventLog) -> None:
    roster = (entry(identity=None, server_ids=(2, 3)),)
    async with benched(FakeSource(), log, roster=roster) as bench:
        replica = await registered_then(bench, dump(3))
        await replica.peer.wait_closed()
        await bench.assert_refused(Stage.POLICY, Reason.SERVER_ID_NOT_ALLOWED)


async def test_the_same_server_id_twice_is_admitted(log: EventLog) -> None:
    source = FakeSource(stream=b"x")
    async with benched(source, log) as bench:
        replica = await registered_then(bench, dump(2))
        assert await replica.peer.receive_some(1) == b"x"
    assert source.payloads[1:3] == [register(2), dump(2)]


async def test_in_observe_mode_a_dump_as_another_than_was_registered_is_noted(log: EventLog) -> None:
    source = FakeSource(stream=b"x")
    async with benched(source, log, enforce=False) as bench:
        replica = await registered_then(bench, dump(3))
        assert await replica.peer.receive_some(1) == b"x"
        noted = assert_noted(bench, Stage.POLICY, Reason.SERVER_ID_NOT_ALLOWED)
        assert "registered as server id 2 and asks for the dump as 3" in str(noted["detail"])


@pytest.mark.parametrize("registered", [None, 2])
def test_a_server_id_that_agrees_is_admitted(registered: int | None) -> None:
    authorise_server_id(2, entry=entry(server_ids=(2,)), registered=registered, objections=enforced())
