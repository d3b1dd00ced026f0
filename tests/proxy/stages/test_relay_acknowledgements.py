"""Acknowledgements: an end that can wait does so until none is outstanding, and each is told. On a mock clock."""

import pytest
import trio
from trio.testing import MockClock

from tests.proxy.stages.relaying import REVOKED, WORN, Stage, ack, err, event, settled

ACK = ack(2)
PATIENT_SECONDS, LINGER_SECONDS = 60, 0.5


async def test_a_patient_end_waits_for_the_outstanding_acknowledgement(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    sent = event(1, semi_sync=True) + event(2, semi_sync=True, ack_wanted=True)
    await stage.source_sends(sent)
    stage.relay.end(WORN)
    await trio.sleep(PATIENT_SECONDS / 2)
    assert stage.ended == []
    await stage.replica_sends(ACK)
    assert stage.at_replica() == sent
    assert stage.at_source() == ACK
    await trio.sleep(2 * LINGER_SECONDS)
    assert stage.at_replica() == err(WORN, 3)
    assert stage.ended == [WORN]


async def test_a_patient_end_goes_on_moving_events_while_it_waits(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1, semi_sync=True) + event(2, semi_sync=True, ack_wanted=True))
    stage.relay.end(WORN)
    await stage.source_sends(event(3, semi_sync=True))
    assert stage.ended == []
    assert stage.at_replica().endswith(event(3, semi_sync=True))
    await stage.replica_sends(ACK)
    await trio.sleep(2 * LINGER_SECONDS)
    assert stage.at_replica() == err(WORN, 4)
    nursery.cancel_scope.cancel()


async def test_a_patient_end_waits_for_an_acknowledgement_that_an_earlier_event_of_the_piece_asked_for(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    asks, asks_not = event(2, semi_sync=True, ack_wanted=True), event(3, semi_sync=True)
    await stage.source_sends(event(1, semi_sync=True) + asks + asks_not)
    stage.relay.end(WORN)
    await stage.source_sends(event(4, semi_sync=True))
    assert err(WORN, 5) not in stage.at_replica()
    await stage.replica_sends(ACK)
    await trio.sleep(2 * LINGER_SECONDS)
    assert stage.at_replica() == err(WORN, 5)
    nursery.cancel_scope.cancel()


async def test_a_patient_end_waits_until_every_piece_is_acknowledged(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1, semi_sync=True) + event(2, semi_sync=True, ack_wanted=True))
    await stage.source_sends(event(3, semi_sync=True, ack_wanted=True))
    stage.relay.end(WORN)
    stage.at_replica()
    await stage.replica_sends(ack(2))
    assert stage.at_replica() == b""
    await stage.replica_sends(ack(3))
    await trio.sleep(2 * LINGER_SECONDS)
    assert stage.at_replica() == err(WORN, 4)
    nursery.cancel_scope.cancel()


async def test_a_patient_end_waits_for_the_last_that_a_piece_asked_for(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    asking = event(2, semi_sync=True, ack_wanted=True) + event(3, semi_sync=True, ack_wanted=True)
    await stage.source_sends(event(1, semi_sync=True) + asking)
    stage.relay.end(WORN)
    stage.at_replica()
    await stage.replica_sends(ack(2))
    assert stage.at_replica() == b""
    await stage.replica_sends(ack(3))
    await trio.sleep(2 * LINGER_SECONDS)
    assert stage.at_replica() == err(WORN, 4)
    nursery.cancel_scope.cancel()


async def test_a_patient_end_is_put_off_by_what_comes_with_the_end_of_a_packet(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    large, asks = event(2, 500, semi_sync=True), event(3, semi_sync=True, ack_wanted=True)
    await stage.source_sends(event(1, semi_sync=True) + large[:100])
    stage.relay.end(WORN)
    await stage.source_sends(large[100:] + asks + event(4, semi_sync=True))
    assert stage.at_replica() == event(1, semi_sync=True) + large + asks + event(4, semi_sync=True)
    await stage.replica_sends(ack(3))
    await trio.sleep(2 * LINGER_SECONDS)
    assert stage.at_replica() == err(WORN, 5)
    nursery.cancel_scope.cancel()


async def test_the_source_has_time_to_read_the_last_acknowledgement(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    sent = event(1, semi_sync=True) + event(2, semi_sync=True, ack_wanted=True)
    await stage.source_sends(sent)
    await stage.replica_sends(ACK)
    stage.relay.end(WORN)
    await trio.sleep(LINGER_SECONDS / 2)
    await stage.source_sends(event(3, semi_sync=True, ack_wanted=True))
    assert stage.ended == []
    # Who is told comes back at once, and then the source ends the connection that it may not have read.
    assert stage.at_replica() == sent
    await trio.sleep(LINGER_SECONDS)
    assert stage.at_replica() == err(WORN, 3)
    assert stage.ended == [WORN]
    assert stage.ended_at == pytest.approx(LINGER_SECONDS)


async def test_a_source_that_leaves_is_not_waited_for(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1, semi_sync=True) + event(2, semi_sync=True, ack_wanted=True))
    await stage.replica_sends(ACK)
    stage.relay.end(WORN)
    await settled()
    assert stage.ended == []
    stage.origin.close()
    await settled()
    assert stage.ended == [WORN]


async def test_a_patient_end_without_acknowledgements_comes_at_once(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    sent = event(1) + event(2)
    await stage.source_sends(sent)
    stage.relay.end(WORN)
    await settled()
    assert stage.at_replica() == sent + err(WORN, 3)
    assert stage.ended == [WORN]


async def test_an_urgent_end_tells_the_replica_at_once(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    sent = event(1, semi_sync=True) + event(2, semi_sync=True, ack_wanted=True)
    await stage.source_sends(sent)
    await stage.replica_sends(ACK)
    stage.relay.end(REVOKED)
    await settled()
    assert stage.at_replica() == sent + err(REVOKED, 3)
    nursery.cancel_scope.cancel()


async def test_a_patient_end_does_not_wait_for_ever(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1, semi_sync=True) + event(2, semi_sync=True, ack_wanted=True))
    stage.relay.end(WORN)
    await trio.sleep(PATIENT_SECONDS + 1)
    assert stage.ended == [WORN]
    assert stage.ended_at == pytest.approx(PATIENT_SECONDS)


async def test_an_urgent_end_does_not_wait_for_an_acknowledgement(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    sent = event(1, semi_sync=True) + event(2, semi_sync=True, ack_wanted=True)
    await stage.source_sends(sent)
    stage.relay.end(REVOKED)
    await settled()
    assert stage.ended == [REVOKED]
    assert stage.at_replica() == sent + err(REVOKED, 3)


async def test_the_time_to_an_acknowledgement_is_told(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1, semi_sync=True) + event(2, semi_sync=True, ack_wanted=True))
    await trio.sleep(1.5)
    await stage.replica_sends(ACK)
    await stage.source_sends(event(3, semi_sync=True, ack_wanted=True))
    await trio.sleep(0.25)
    await stage.replica_sends(ack(3))
    assert stage.acknowledged_after == pytest.approx([1.5, 0.25])
    nursery.cancel_scope.cancel()


async def test_of_several_acknowledgements_each_is_told(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    asking = event(2, semi_sync=True, ack_wanted=True) + event(3, semi_sync=True, ack_wanted=True)
    await stage.source_sends(event(1, semi_sync=True) + asking)
    await trio.sleep(1)
    await stage.source_sends(event(4, semi_sync=True, ack_wanted=True))
    await trio.sleep(1)
    await stage.replica_sends(ack(2) + ack(3) + ack(4))
    assert stage.acknowledged_after == pytest.approx([2, 2, 1])
    nursery.cancel_scope.cancel()


async def test_an_acknowledgement_that_comes_in_pieces_is_told_when_it_is_whole(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1, semi_sync=True) + event(2, semi_sync=True, ack_wanted=True))
    await stage.replica_sends(ACK[:7])
    assert stage.acknowledged_after == []
    await trio.sleep(1)
    await stage.replica_sends(ACK[7:])
    assert stage.acknowledged_after == pytest.approx([1])
    assert stage.at_source() == ACK
    nursery.cancel_scope.cancel()


async def test_an_acknowledgement_that_nobody_asked_for_is_not_told(
    stage: Stage, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(stage.run)
    await stage.source_sends(event(1, semi_sync=True) + event(2, semi_sync=True))
    await stage.replica_sends(ACK)
    assert stage.acknowledged_after == []
    assert stage.at_source() == ACK
    nursery.cancel_scope.cancel()
