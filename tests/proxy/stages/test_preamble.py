"""Who connects, as a load balancer says it and as the source is told it, over a whole session."""

import pytest
import trio

from proxy.configuration.config import LimitsTable, ProxyProtocolVersion
from proxy.outcomes import Reason, Stage
from proxy.protocol.proxy_protocol import PreambleDecoder
from tests.proxy.bench import EventLog, benched, entry
from tests.proxy.fakes import OK, FakeSource, PacketPeer
from wire.results import ErrPacket

BALANCER = ("127.0.0.1",)
HEADER = b"PROXY TCP4 10.20.0.7 10.20.0.1 40000 3307\r\n"
HEADER_V2 = bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c 0a140007 0a140001 9c40 0ceb")
LOCAL = bytes.fromhex("0d0a0d0a000d0a515549540a 20 00 0000")


@pytest.mark.parametrize("header", [HEADER, HEADER_V2], ids=["v1", "v2"])
async def test_a_load_balancers_header_names_the_replica_and_via_names_the_load_balancer(
    header: bytes, log: EventLog
) -> None:
    async with benched(FakeSource(), log, load_balancers=BALANCER, allow=("10.20.0.0/16",)) as bench:
        replica = await bench.connect()
        port = replica.peer.socket_stream.socket.getsockname()[1]
        await replica.peer.send_bytes(header)
        assert await replica.log_in() == OK
        [record] = bench.runtime.registry
        assert record.fields()["peer"] == "10.20.0.7:40000"
        assert record.fields()["via"] == "127.0.0.1"
        assert log.one("session_started")["via"] == "127.0.0.1"
        assert str(port) not in record.fields()["peer"]


async def test_a_header_that_comes_byte_by_byte_is_read(log: EventLog) -> None:
    async with benched(FakeSource(), log, load_balancers=BALANCER, allow=("10.20.0.0/16",)) as bench:
        replica = await bench.connect()
        for byte in HEADER:
            await replica.peer.send_bytes(bytes([byte]))
            await trio.lowlevel.checkpoint()
        assert await replica.log_in() == OK


async def test_the_allowlist_judges_the_address_that_the_load_balancer_names(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, load_balancers=BALANCER, allow=("127.0.0.0/8",)) as bench:
        replica = await bench.connect()
        await replica.peer.send_bytes(HEADER)
        answer = ErrPacket.parse(await replica.peer.receive())
        assert (answer.code, answer.message) == (
            1130,
            b"Binlock: host 10.20.0.7 is not on the allowlist of this route",
        )
        refusal = await bench.assert_refused(Stage.ADMISSION, Reason.ADDRESS_NOT_ALLOWED)
        assert (refusal["peer"], refusal["via"]) == ("10.20.0.7:40000", "127.0.0.1")
    assert not source.peers


async def test_the_roster_judges_the_address_that_the_load_balancer_names(log: EventLog) -> None:
    roster = (entry(identity=None, addresses=("10.20.0.8",)),)
    async with benched(FakeSource(), log, load_balancers=BALANCER, allow=("10.20.0.0/16",), roster=roster) as bench:
        replica = await bench.connect()
        await replica.peer.send_bytes(HEADER)
        assert ErrPacket.parse(await replica.log_in()).code == 1045
        await bench.assert_refused(Stage.IDENTITY, Reason.ADDRESS_NOT_ON_ROSTER)


async def test_a_mapped_address_in_the_header_is_its_ipv4_address(log: EventLog) -> None:
    async with benched(FakeSource(), log, load_balancers=BALANCER, allow=("10.20.0.0/16",)) as bench:
        replica = await bench.connect()
        await replica.peer.send_bytes(b"PROXY TCP6 ::ffff:10.20.0.7 ::ffff:10.20.0.1 40000 3307\r\n")
        assert await replica.log_in() == OK
        assert [record.fields()["peer"] for record in bench.runtime.registry] == ["10.20.0.7:40000"]


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"], ids=["v2 LOCAL", "v1 UNKNOWN"])
async def test_a_load_balancer_that_speaks_for_itself_is_judged_by_its_own_address(
    header: bytes, log: EventLog
) -> None:
    async with benched(FakeSource(), log, load_balancers=BALANCER) as bench:
        replica = await bench.connect()
        await replica.peer.send_bytes(header)
        assert await replica.log_in() == OK
        [record] = bench.runtime.registry
        assert record.fields()["peer"].startswith("127.0.0.1:")
        assert "via" not in record.fields()
    log.records.clear()
    async with benched(FakeSource(), log, load_balancers=BALANCER, allow=("10.20.0.0/16",)) as bench:
        replica = await bench.connect()
        await replica.peer.send_bytes(header)
        assert ErrPacket.parse(await replica.peer.receive()).code == 1130


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PROXY TCP4 10.20.0.7\r\n", bytes(32)])
async def test_a_load_balancer_must_send_a_header(said: bytes, log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, load_balancers=BALANCER) as bench:
        replica = await bench.connect()
        await replica.peer.send_bytes(said)
        answer = ErrPacket.parse(await replica.peer.receive())
        assert (answer.code, answer.sqlstate) == (1043, None)
        await bench.assert_refused(Stage.ADMISSION, Reason.PROTOCOL_ERROR)
    assert not source.peers


async def test_a_load_balancer_that_says_nothing_is_given_up_and_costs_the_source_nothing(log: EventLog) -> None:
    source = FakeSource()
    limits = LimitsTable(connection_phase_seconds=0.1)
    async with benched(source, log, load_balancers=BALANCER, limits=limits) as bench:
        replica = await bench.connect()
        assert ErrPacket.parse(await replica.peer.receive()).code == 1159
        await bench.assert_refused(Stage.ADMISSION, Reason.TIMEOUT)
    assert not source.peers


async def test_a_load_balancer_that_only_looks_whether_the_port_is_open_is_a_matter_of_debug(log: EventLog) -> None:
    async with benched(FakeSource(), log, load_balancers=BALANCER) as bench:
        replica = await bench.connect()
        await replica.peer.close()
        await bench.assert_refused(Stage.ADMISSION, Reason.DISCONNECTED)


@pytest.mark.parametrize("load_balancers", [None, ("10.0.0.1", "127.0.0.2")], ids=["none named", "others named"])
@pytest.mark.parametrize("header", [HEADER, HEADER_V2], ids=["v1", "v2"])
async def test_a_header_of_anybody_else_is_a_protocol_error_and_changes_no_address(
    load_balancers: tuple[str, ...] | None, header: bytes, log: EventLog
) -> None:
    source = FakeSource()
    async with benched(source, log, load_balancers=load_balancers) as bench:
        replica = await bench.connect()
        await replica.receive_greeting()
        await replica.peer.send_bytes(header)
        await replica.peer.wait_closed()
        refusal = await bench.assert_refused(Stage.TLS, Reason.PROTOCOL_ERROR)
        assert refusal["peer"].startswith("127.0.0.1:")
        assert "via" not in refusal
    assert not source.payloads


async def test_a_stranger_cannot_claim_an_address_of_the_allowlist(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, load_balancers=("10.0.0.1",), allow=("10.20.0.0/16",)) as bench:
        replica = await bench.connect()
        await replica.peer.send_bytes(HEADER)
        assert ErrPacket.parse(await replica.peer.receive()).code == 1130
        await bench.wait_served()
        assert log.one("session_refused")["reason"] == "address_not_allowed"
    assert not source.peers


async def receive_header(peer: PacketPeer) -> PreambleDecoder:
    decoder = PreambleDecoder()
    while needed := decoder.bytes_needed():
        decoder.feed(await peer.receive_some(needed))
    return decoder


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_the_source_is_told_who_connects_before_it_greets(version: ProxyProtocolVersion, log: EventLog) -> None:
    told: list[PreambleDecoder] = []

    async def waits_for_header(source: FakeSource, peer: PacketPeer) -> None:
        told.append(await receive_header(peer))
        await source.converse(peer)

    source = FakeSource(conversation=waits_for_header)
    async with benched(source, log, send_proxy_protocol=version) as bench:
        replica = await bench.connect()
        name, peer_name = (
            replica.peer.socket_stream.socket.getsockname(),
            replica.peer.socket_stream.socket.getpeername(),
        )
        assert await replica.log_in() == OK
    [decoder] = told
    assert decoder.endpoints is not None
    assert (str(decoder.endpoints.source[0]), decoder.endpoints.source[1]) == name
    assert (str(decoder.endpoints.destination[0]), decoder.endpoints.destination[1]) == peer_name


async def test_the_source_is_told_the_replica_behind_the_load_balancer(log: EventLog) -> None:
    told: list[PreambleDecoder] = []

    async def waits_for_header(source: FakeSource, peer: PacketPeer) -> None:
        told.append(await receive_header(peer))
        await source.converse(peer)

    async with benched(
        FakeSource(conversation=waits_for_header),
        log,
        load_balancers=BALANCER,
        allow=("10.20.0.0/16",),
        send_proxy_protocol="v2",
    ) as bench:
        replica = await bench.connect()
        await replica.peer.send_bytes(HEADER)
        assert await replica.log_in() == OK
    assert told[0].endpoints is not None
    assert (str(told[0].endpoints.source[0]), told[0].endpoints.source[1]) == ("10.20.0.7", 40000)


async def test_a_source_that_is_to_be_told_nothing_gets_nothing_before_the_login(log: EventLog) -> None:
    first: list[bytes] = []

    async def listens(source: FakeSource, peer: PacketPeer) -> None:
        with trio.move_on_after(0.05):
            first.append(await peer.receive_some(1))
        await source.converse(peer)

    async with benched(FakeSource(conversation=listens), log) as bench:
        replica = await bench.connect()
        assert await replica.log_in() == OK
    assert not first
