"""The end of a stream: between two packets, with an ERR that fits there, soon or at a quiet moment. On a mock clock."""

import socket

import pytest
import trio
from trio.testing import MockClock

from proxy.legs.leg import Leg
from proxy.outcomes import Ending, LegClosed
from tests.proxy.stages.relaying import AGED, EXPIRED, REVOKED, WORN, Stage, ack, err, event, settled
from wire.binlog import EventHeader, serialize_stream_packet
from wire.errors import WireError
from wire.framing import MAX_FRAGMENT_BYTES, encode_packet

ACK = ack(2)
URGENT_SECONDS, PATIENT_SECONDS = 0.4, 60


# Where and with what a stream ends.


async def test_between_two_packets_it_ends_at_once_with_an_err_of_the_next_number(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1) + event(2))
    stage.relay.end(REVOKED)
    await settled()
    assert stage.ended == [REVOKED]
    assert stage.ended_at == 0
    assert stage.at_replica() == event(1) + event(2) + err(REVOKED, 3)
    assert stage.has_ended(stage.far)


async def test_the_err_is_one_that_a_replica_can_read(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1))
    stage.relay.end(REVOKED)
    await settled()
    message = b"Binlock: the replica's certificate no longer stands: certificate revoked"
    payload = b"\xff" + (1045).to_bytes(2, "little") + b"#28000" + message
    wanted = len(payload).to_bytes(3, "little") + b"\x02" + payload
    assert stage.at_replica() == event(1) + wanted


async def test_before_the_first_event_it_ends_with_number_one(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await settled()
    stage.relay.end(REVOKED)
    await settled()
    assert stage.at_replica() == err(REVOKED, 1)


async def test_the_number_after_255_is_zero(stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(b"".join(event(number) for number in range(1, 256)))
    stage.relay.end(REVOKED)
    await settled()
    assert stage.at_replica().endswith(event(255) + err(REVOKED, 0))


@pytest.mark.parametrize("ending", [REVOKED, WORN], ids=["urgent", "patient"])
@pytest.mark.parametrize("cut", [1, 3, 4, 5, 20, 40, -1])
async def test_in_the_middle_of_a_packet_it_waits_for_its_end(
    cut: int, ending: Ending, stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1) + event(2)[:cut])
    stage.relay.end(ending)
    await settled()
    assert stage.ended == []
    await stage.source_sends(event(2)[cut:])
    assert stage.ended == [ending]
    assert stage.at_replica() == event(1) + event(2) + err(ending, 3)


async def test_what_the_source_sends_behind_that_packet_is_cut_off_at_a_boundary(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1) + event(2)[:20])
    stage.relay.end(REVOKED)
    rest = event(2)[20:] + event(3) + event(4) + event(5)[:30]
    await stage.source_sends(rest)
    assert stage.ended == [REVOKED]
    came = stage.at_replica()
    assert came == event(1) + event(2) + event(3) + event(4) + err(REVOKED, 5)
    assert stage.to_replica == len(came) - len(err(REVOKED, 5))


async def test_a_big_piece_is_cut_inside(stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    nursery.start_soon(stage.run)
    big = [event(number, 30_000) for number in range(2, 6)]
    await stage.source_sends(event(1) + big[0][:10])
    stage.relay.end(REVOKED)
    await stage.source_sends(big[0][10:] + big[1] + big[2] + big[3][:-1])
    assert stage.ended == [REVOKED]
    assert stage.at_replica() == event(1) + b"".join(big[:3]) + err(REVOKED, 5)


async def test_no_err_comes_between_the_packets_of_one_large_payload(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    got = bytearray()

    async def read() -> None:
        while stage.ended == []:
            got.extend(stage.at_replica())
            await trio.lowlevel.checkpoint()

    header = EventHeader(0, 30, 1, MAX_FRAGMENT_BYTES + 99, 9, 0).serialize()
    large = encode_packet(serialize_stream_packet(header + bytes(MAX_FRAGMENT_BYTES + 80)), 2)
    nursery.start_soon(stage.run)
    nursery.start_soon(read)
    first = 4 + MAX_FRAGMENT_BYTES
    await Leg(stage.origin, "test").send_all(event(1) + large[:first])
    while len(got) < len(event(1)) + first:
        await trio.lowlevel.checkpoint()
    stage.relay.end(REVOKED)
    for _ in range(10):
        await trio.lowlevel.checkpoint()
    assert stage.ended == []
    await Leg(stage.origin, "test").send_all(large[first:])
    while stage.ended == []:
        await trio.lowlevel.checkpoint()
    got.extend(stage.at_replica())
    assert bytes(got) == event(1) + large + err(REVOKED, 4)


# How long it may take.


async def test_an_urgent_end_does_not_wait_for_a_packet_that_is_stuck(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1) + event(2)[:20])
    stage.relay.end(REVOKED)
    await trio.sleep(URGENT_SECONDS + 0.1)
    assert stage.ended == [REVOKED]
    assert stage.ended_at == pytest.approx(URGENT_SECONDS)
    assert stage.at_replica() == event(1) + event(2)[:20]


async def test_an_urgent_end_does_not_wait_for_a_replica_that_reads_nothing(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def fill() -> None:
        await Leg(stage.origin, "test").send_all(event(1) + event(2, 8 << 20))

    nursery.start_soon(stage.run)
    with trio.CancelScope() as filling:
        nursery.start_soon(fill)
        await settled()
        stage.relay.end(REVOKED)
        await trio.sleep(URGENT_SECONDS + 0.1)
    assert not filling.cancelled_caught
    assert stage.ended == [REVOKED]
    assert stage.ended_at == pytest.approx(URGENT_SECONDS)
    nursery.cancel_scope.cancel()


async def test_an_urgent_end_overtakes_a_patient_one(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1, semi_sync=True) + event(2, semi_sync=True, ack_wanted=True))
    stage.relay.end(WORN)
    await settled()
    stage.relay.end(REVOKED)
    await settled()
    assert stage.ended == [REVOKED]


@pytest.mark.parametrize(("first", "second"), [(REVOKED, EXPIRED), (REVOKED, WORN), (WORN, AGED)])
async def test_the_first_reason_of_the_same_or_greater_urgency_stands(
    first: Ending, second: Ending, stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1) + event(2)[:20])
    stage.relay.end(first)
    stage.relay.end(second)
    await stage.source_sends(event(2)[20:])
    assert stage.ended == [first]


async def test_an_end_that_is_asked_for_again_and_again_is_not_put_off(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """As the supervisor does: it asks again each time it looks and finds the session still there."""
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1) + event(2)[:20])
    for _ in range(4):
        stage.relay.end(REVOKED)
        await trio.sleep(URGENT_SECONDS / 3)
    assert stage.ended == [REVOKED]
    assert stage.ended_at == pytest.approx(URGENT_SECONDS)


# What is counted.


async def test_bytes_are_counted_in_each_direction(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1) + event(2))
    await stage.replica_sends(ACK)
    assert (stage.to_replica, stage.to_source) == (len(event(1) + event(2)), len(ACK))
    nursery.cancel_scope.cancel()


# Ends that nobody asked for.


async def test_the_end_of_both_directions_is_nobodys_ending(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1))
    stage.origin.shutdown(socket.SHUT_WR)
    stage.far.shutdown(socket.SHUT_WR)
    await trio.sleep(10)
    assert stage.ended == [None]


async def test_after_one_direction_has_ended_the_other_has_five_seconds(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1))
    stage.origin.shutdown(socket.SHUT_WR)
    await trio.sleep(10)
    assert stage.ended == [None]
    assert stage.ended_at == pytest.approx(5)


async def test_an_end_after_the_source_has_closed_writes_no_err(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1))
    stage.origin.shutdown(socket.SHUT_WR)
    await settled()
    stage.relay.end(REVOKED)
    await trio.sleep(1)
    assert stage.ended == [REVOKED]
    assert stage.at_replica() == event(1)


async def test_something_else_than_an_acknowledgement_is_raised(stage: Stage, autojump_clock: MockClock) -> None:
    stage.far.send(encode_packet(b"\x03SELECT 1", 0))
    with pytest.raises(WireError):
        await stage.relay.run()
    assert stage.at_source() == b""


async def test_a_leg_that_breaks_is_raised(stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    stage.far.shutdown(socket.SHUT_RD)
    stage.origin.send(event(1))
    with pytest.raises(LegClosed) as closed:
        await stage.relay.run()
    assert closed.value.leg == "replica"
