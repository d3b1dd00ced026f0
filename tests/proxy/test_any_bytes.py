"""Whatever a replica or a source sends, the session ends, and it ends as one of the known outcomes."""

import contextlib

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.configuration.config import LimitsTable
from proxy.outcomes import Reason
from tests.proxy.bench import EventLog, benched
from tests.proxy.fakes import OK, REPLICA_CAPABILITIES, FakeSource, PacketPeer, PeerGone
from wire.commands import BinlogDump
from wire.framing import encode_packet
from wire.login import HandshakeResponse41

ANY_BYTES = st.binary(max_size=200)
ANY_PACKETS = st.lists(st.tuples(ANY_BYTES, st.integers(0, 255)), max_size=5).map(
    lambda packets: b"".join(encode_packet(payload, number) for payload, number in packets)
)
# In order, so that more than the first is looked at.
PACKETS_IN_ORDER = st.lists(ANY_BYTES, max_size=5)
EXAMPLES = settings(max_examples=40)
LIMITS = LimitsTable(connection_phase_seconds=5)
NOT_A_DEFECT = {reason.value for reason in Reason} - {Reason.INTERNAL_ERROR.value}


@contextlib.contextmanager
def gathered_log():  # type: ignore[no-untyped-def]
    from proxy.reporting.logs import logger

    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    log = EventLog()
    logger.handlers[:], logger.propagate = [log], False
    logger.setLevel("DEBUG")
    try:
        yield log
    finally:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def assert_known_outcome(log: EventLog) -> None:
    [outcome] = [event for event in log.events() if event["event"] in {"session_ended", "session_refused"}]
    assert outcome["reason"] in NOT_A_DEFECT
    assert not log.events("defect")


def stream_of(packets: list[bytes], first: int) -> bytes:
    return b"".join(encode_packet(payload, number % 256) for number, payload in enumerate(packets, start=first))


async def replica_says(stage: str, data: bytes) -> None:
    with gathered_log() as log:
        async with benched(FakeSource(hangs_up_on_nonsense=True), log, policy="any", limits=LIMITS) as bench:
            replica = await bench.connect()
            with contextlib.suppress(PeerGone, trio.BrokenResourceError):
                if stage == "login":
                    await replica.receive_greeting()
                else:
                    assert await replica.log_in() == OK
                if stage == "stream":
                    await replica.send_command(BinlogDump(server_id=2).serialize())
                await replica.peer.send_bytes(data)
                await replica.peer.socket_stream.send_eof()
            await replica.peer.wait_closed()
            await bench.wait_served()
        assert_known_outcome(log)


@pytest.mark.parametrize("stage", ["login", "commands", "stream"])
@EXAMPLES
@given(data=st.one_of(ANY_BYTES, ANY_PACKETS, PACKETS_IN_ORDER.map(lambda packets: stream_of(packets, 1))))
def test_any_bytes_of_a_replica_end_its_session_in_a_known_way(stage: str, data: bytes) -> None:
    trio.run(replica_says, stage, data)


@EXAMPLES
@given(tail=ANY_BYTES, response=ANY_BYTES, capabilities=st.integers(0, 0xFFFFFFFF), plugin=st.binary(max_size=30))
def test_any_login_ends_in_a_known_way(tail: bytes, response: bytes, capabilities: int, plugin: bytes) -> None:
    login = HandshakeResponse41(REPLICA_CAPABILITIES, b"repl", response, plugin=plugin, tail=tail).serialize()
    edited = (capabilities & ~0x800 | 0x200).to_bytes(4, "little") + login[4:]
    trio.run(replica_says, "login", encode_packet(edited, 1) + encode_packet(b"answer", 3))


async def source_says(stage: str, data: bytes) -> None:
    async def speaks(source: FakeSource, peer: PacketPeer) -> None:
        if stage != "greeting":
            await source.greet(peer)
            await source.receive(peer)
        if stage in {"commands", "stream"}:
            await peer.send(OK)
        if stage == "stream":
            peer.next_sequence_id = 0
            await source.receive(peer)
        await peer.send_bytes(data)
        with contextlib.suppress(trio.BrokenResourceError):
            await peer.socket_stream.send_eof()
        await peer.wait_closed()

    with gathered_log() as log:
        async with benched(FakeSource(conversation=speaks), log, limits=LIMITS) as bench:
            replica = await bench.connect()
            with contextlib.suppress(PeerGone, trio.BrokenResourceError):
                greeting = await replica.peer.receive()
                if greeting[0] == 0x0A:
                    await replica.peer.send(replica.login(bytes(32), b"caching_sha2_password"))
                if stage in {"commands", "stream"}:
                    await replica.peer.receive()
                if stage == "stream":
                    await replica.send_command(BinlogDump(server_id=2).serialize())
                await replica.peer.socket_stream.send_eof()
            await replica.peer.wait_closed()
            await bench.wait_served()
        assert_known_outcome(log)


@pytest.mark.parametrize("stage", ["greeting", "login", "commands", "stream"])
@EXAMPLES
@given(data=st.one_of(ANY_BYTES, ANY_PACKETS, PACKETS_IN_ORDER.map(lambda packets: stream_of(packets, 2))))
def test_any_bytes_of_a_source_end_the_session_in_a_known_way(stage: str, data: bytes) -> None:
    trio.run(source_says, stage, data)
