"""A replica that hangs up in the middle of its login: what is said for it, once, and what it is not mistaken for."""

import logging

import pytest

from proxy.openssl import Context
from proxy.outcomes import Reason, Stage
from tests.proxy.bench import EventLog, benched
from tests.proxy.conversations import FORBIDDEN, QUERY, QUIT
from tests.proxy.fakes import NONCE, OK, SECOND_NONCE, FakeReplica, FakeSource, PacketPeer, scramble
from tests.proxy.pki import Pki
from wire.authentication import CACHING_SHA2_PASSWORD, ED25519, AuthMoreData, AuthNextFactor, AuthSwitchRequest


@pytest.fixture(params=["tls", "plain"])
def leg(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def begin(replica: FakeReplica) -> None:
    """As far as the login."""
    greeting = await replica.receive_greeting()
    if replica.tls is not None:
        await replica.begin_tls()
    await replica.peer.send(replica.login(scramble(replica.password, NONCE), greeting.plugin))


@pytest.mark.parametrize("farewell", ["a close_notify", "nothing"])
async def test_a_replica_that_leaves_when_it_is_accepted_is_told_of_over_tls(
    farewell: str, pki: Pki, replica_context: Context, log: EventLog
) -> None:
    async with benched(FakeSource(), log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        assert await replica.log_in() == OK
        await (replica.peer.close() if farewell == "nothing" else replica.peer.say_goodbye())
        await bench.wait_served()
        refusal = log.one("session_refused")
        assert (refusal["stage"], refusal["reason"]) == ("authentication", "replica_left_after_login")
        assert (refusal["account"], refusal["replica"]) == ("repl", "replica-1")
        assert "MASTER_SSL_CA" in refusal["detail"]
        assert not log.events("session_ended")
        labels = {"route": "test", "stage": "authentication", "reason": "replica_left_after_login"}
        assert bench.metric("refusals_total", **labels) == 1
        assert bench.metric("sessions_total", route="test", outcome="refused") == 1
        assert bench.metric("sessions_ended_total", route="test", reason="disconnected") == 0


async def test_a_plaintext_replica_that_leaves_then_has_no_certificate_to_object_to(log: EventLog) -> None:
    async with benched(FakeSource(), log) as bench:
        replica = await bench.connect()
        assert await replica.log_in() == OK
        await replica.peer.close()
        await bench.wait_served()
        assert log.one("session_ended")["reason"] == "disconnected"
        assert not log.events("session_refused")


@pytest.mark.parametrize("command", [QUERY, FORBIDDEN], ids=["admitted", "refused"])
async def test_one_that_leaves_after_a_command_has_simply_disconnected(
    command: bytes, pki: Pki, replica_context: Context, log: EventLog
) -> None:
    async with benched(FakeSource(), log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        assert await replica.log_in() == OK
        await replica.command(command)
        await replica.peer.close()
        await bench.wait_served()
        assert log.one("session_ended")["reason"] == "disconnected"
        assert not log.events("session_refused")


async def test_one_that_says_goodbye_has_simply_ended(pki: Pki, replica_context: Context, log: EventLog) -> None:
    async with benched(FakeSource(), log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        assert await replica.log_in() == OK
        await replica.send_command(QUIT)
        await bench.wait_served()
        assert log.one("session_ended")["reason"] == "closed"


async def test_a_replica_that_leaves_when_it_is_asked_for_another_plugin(
    leg: str, pki: Pki, replica_context: Context, log: EventLog
) -> None:
    source = FakeSource(plugin=CACHING_SHA2_PASSWORD, greeted_plugin=ED25519)
    async with benched(source, log, replica_context=replica_context if leg == "tls" else None) as bench:
        replica = await bench.connect(pki.client(pki.replica) if leg == "tls" else None)
        await begin(replica)
        await replica.peer.receive()
        await replica.peer.close()
        refusal = await bench.assert_refused(Stage.AUTHENTICATION, Reason.REPLICA_LEFT_AFTER_LOGIN)
        assert "asked for caching_sha2_password; a replica does so that does not have the plugin" in refusal["detail"]
        assert ("MASTER_SSL_CA" in refusal["detail"]) == (leg == "tls")
        assert refusal["account"] == "repl"
        [record] = [record for record in log.records if record.getMessage() == "session_refused"]
        assert record.levelno == logging.WARNING


async def test_a_replica_that_leaves_when_it_is_asked_for_a_second_factor(log: EventLog) -> None:
    async def wants_two(source: FakeSource, peer: PacketPeer) -> None:
        await source.greet(peer)
        await source.receive(peer)
        await peer.send(AuthNextFactor(b"a token", b"challenge").serialize())
        await peer.wait_closed()

    async with benched(FakeSource(conversation=wants_two), log) as bench:
        replica = await bench.connect()
        await begin(replica)
        await replica.peer.receive()
        await replica.peer.close()
        refusal = await bench.assert_refused(Stage.AUTHENTICATION, Reason.REPLICA_LEFT_AFTER_LOGIN)
        assert "asked for a token" in refusal["detail"]


@pytest.mark.parametrize("is_switched", [False, True])
async def test_a_plaintext_replica_that_may_not_ask_for_the_key_is_told_how_it_may(
    is_switched: bool, log: EventLog
) -> None:
    async def asks_for_the_password(source: FakeSource, peer: PacketPeer) -> None:
        await source.greet(peer)
        await source.receive(peer)
        if is_switched:
            await peer.send(AuthSwitchRequest(CACHING_SHA2_PASSWORD, SECOND_NONCE + b"\x00").serialize())
            await source.receive(peer)
        await peer.send(AuthMoreData(b"\x04").serialize())
        await peer.wait_closed()

    async with benched(FakeSource(conversation=asks_for_the_password), log) as bench:
        replica = await bench.connect()
        await begin(replica)
        if is_switched:
            await replica.peer.receive()
            await replica.peer.send(scramble(replica.password, SECOND_NONCE))
        assert await replica.peer.receive() == b"\x01\x04"
        await replica.peer.close()
        refusal = await bench.assert_refused(Stage.AUTHENTICATION, Reason.REPLICA_LEFT_AFTER_LOGIN)
        assert "GET_SOURCE_PUBLIC_KEY=1" in refusal["detail"]


async def test_a_replica_that_leaves_behind_the_tls_handshake_has_rejected_the_certificate(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    source = FakeSource()
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        await replica.receive_greeting()
        await replica.begin_tls()
        await replica.peer.close()
        refusal = await bench.assert_refused(Stage.TLS, Reason.REPLICA_REJECTED_CERTIFICATE)
        assert "without a login" in refusal["detail"]
    assert not source.payloads
