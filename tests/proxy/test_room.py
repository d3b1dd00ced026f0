"""Room for one more session: who is sent away when there is none, and who is not."""

import ipaddress

import pytest

from proxy.configuration.config import LimitsTable
from proxy.outcomes import Ending, Reason, SessionRefused, Stage
from proxy.room import require_room
from proxy.sessions import SessionRecord, SessionRegistry
from tests.proxy.bench import EventLog, benched, make_route
from tests.proxy.fakes import OK, FakeSource
from wire.results import ErrPacket

ROUTE = make_route()


class Room:
    """A registry with sessions in it, and what each was ended with."""

    def __init__(self, **limits: int) -> None:
        self.registry = SessionRegistry()
        self.limits = LimitsTable(**limits)
        self.ended: list[tuple[int, Ending]] = []

    def open(self, host: str, *, is_authenticated: bool = False) -> SessionRecord:
        record = self.registry.open(route=ROUTE, peer=(ipaddress.ip_address(host), 1))
        record.is_authenticated = is_authenticated
        record.end = lambda ending: self.ended.append((record.number, ending))
        return record

    def enter(self, host: str) -> SessionRecord:
        record = self.open(host)
        require_room(record, self.registry, self.limits)
        return record


def assert_no_room(room: Room, host: str) -> SessionRefused:
    with pytest.raises(SessionRefused) as refused:
        room.enter(host)
    assert (refused.value.stage, refused.value.reason) == (Stage.ADMISSION, Reason.TOO_MANY_SESSIONS)
    assert refused.value.answer is not None
    assert refused.value.answer.code == 1040
    assert not room.ended
    return refused.value


def test_one_address_may_have_so_many_that_are_not_logged_in_and_no_more() -> None:
    room = Room(unauthenticated_sessions_per_address=2)
    room.enter("10.0.0.1")
    room.enter("10.0.0.1")
    assert "10.0.0.1 has 3 sessions that are not logged in" in assert_no_room(room, "10.0.0.1").detail


def test_the_limit_of_one_address_is_not_another_ones() -> None:
    room = Room(unauthenticated_sessions_per_address=1)
    for host in ("10.0.0.1", "10.0.0.2", "2001:db8::1"):
        room.enter(host)
    assert not room.ended


def test_a_session_that_is_logged_in_does_not_count_against_its_address() -> None:
    room = Room(unauthenticated_sessions_per_address=1)
    for _ in range(5):
        room.open("10.0.0.1", is_authenticated=True)
    room.enter("10.0.0.1")


def test_when_all_are_too_many_the_oldest_of_the_heaviest_address_goes_and_the_newcomer_stays() -> None:
    room = Room(unauthenticated_sessions=4)
    room.enter("10.0.0.1")
    oldest_of_heaviest = room.enter("10.0.0.66")
    room.enter("10.0.0.66")
    room.enter("10.0.0.66")
    room.enter("10.0.0.2")
    [(number, ending)] = room.ended
    assert number == oldest_of_heaviest.number
    assert ending.reason is Reason.TOO_MANY_SESSIONS
    assert ending.is_urgent


def test_a_flood_of_one_address_sends_away_its_own_and_nobody_elses() -> None:
    room = Room(unauthenticated_sessions=10, unauthenticated_sessions_per_address=1000)
    others = {room.enter(f"10.0.1.{number}").number for number in range(5)}
    for _ in range(100):
        flooder = room.enter("10.0.0.66")
        for number, _ in room.ended:
            assert number not in others
            assert number != flooder.number
        for record in room.registry:
            if record.number in {number for number, _ in room.ended}:
                room.registry.close(record)
    assert len(room.registry) == 10


def test_sessions_that_are_logged_in_are_never_sent_away_for_others() -> None:
    room = Room(unauthenticated_sessions=1)
    logged_in = [room.open("10.0.0.1", is_authenticated=True) for _ in range(5)]
    room.enter("10.0.0.1")
    room.enter("10.0.0.2")
    assert not {record.number for record in logged_in} & {number for number, _ in room.ended}


def test_all_sessions_together_are_bounded_too() -> None:
    room = Room(sessions=3)
    for number in range(3):
        room.open(f"10.0.0.{number}", is_authenticated=True)
    assert "4 sessions are open" in assert_no_room(room, "10.0.1.1").detail


async def test_the_one_that_is_sent_away_is_told_to_try_again(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, limits=LimitsTable(unauthenticated_sessions=2)) as bench:
        oldest, other = await bench.connect(), await bench.connect()
        for replica in (oldest, other):
            await replica.receive_greeting()
        newcomer = await bench.connect()
        answer = ErrPacket.parse(await oldest.peer.receive())
        assert (answer.code, answer.sqlstate) == (1040, b"08004")
        assert answer.message == b"Binlock: too many connections that are not logged in; try again"
        await bench.served[0].wait()
        assert await newcomer.log_in() == OK
        refusal = log.one("session_refused")
        assert (refusal["stage"], refusal["reason"]) == ("tls", "too_many_sessions")
        assert bench.metric("refusals_total", route="test", stage="tls", reason="too_many_sessions") == 1
        assert other.greeting is not None
        assert await other.authenticate(other.greeting) == OK


def test_newcomers_at_one_moment_each_send_another_away() -> None:
    room = Room(unauthenticated_sessions=3)
    for number in range(8):
        room.enter(f"10.0.0.{number}")
    assert [number for number, _ in room.ended] == [1, 2, 3, 4, 5]
    assert len(room.registry.half_open()) == 3


def test_two_newcomers_in_one_turn_each_send_another_one_away() -> None:
    room = Room(unauthenticated_sessions=2)
    waiting = [room.enter("10.0.0.66"), room.enter("10.0.0.66")]
    room.enter("10.0.0.1")
    room.enter("10.0.0.2")
    assert [number for number, _ in room.ended] == [record.number for record in waiting]
