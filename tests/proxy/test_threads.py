"""Which threads of a source are whose."""

from __future__ import annotations

from proxy.configuration.addresses import TcpAddress, UnixAddress
from proxy.threads import GreetedThreads, Owner

SOURCE, OTHER = TcpAddress("127.0.0.1", 3306), UnixAddress("/run/mysqld.sock")
ME, SOMEBODY = Owner("orders", "replica-1"), Owner("orders", "replica-2")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_thread_is_its_owners_while_the_session_is_open_and_for_two_minutes() -> None:
    clock = Clock()
    threads = GreetedThreads(clock)
    assert not threads.is_own(SOURCE, 42, ME)
    threads.opened(SOURCE, 42, 1, ME)
    clock.now += 86400
    assert threads.is_own(SOURCE, 42, ME)
    threads.ended(SOURCE, 42, 1)
    clock.now += 120
    assert threads.is_own(SOURCE, 42, ME)
    clock.now += 1
    assert not threads.is_own(SOURCE, 42, ME)


def test_a_thread_is_nobody_elses() -> None:
    threads = GreetedThreads()
    threads.opened(SOURCE, 42, 1, ME)
    for ended in (False, True):
        if ended:
            threads.ended(SOURCE, 42, 1)
        assert not threads.is_own(SOURCE, 42, SOMEBODY)
        assert not threads.is_own(SOURCE, 42, Owner("invoices", "replica-1"))
        assert not threads.is_own(OTHER, 42, ME)
        assert not threads.is_own(SOURCE, 43, ME)


def test_an_id_that_is_given_again_is_the_new_ones() -> None:
    """After a restart of the source. The old session may end after the new one has begun."""
    threads = GreetedThreads()
    threads.opened(SOURCE, 42, 1, ME)
    threads.opened(SOURCE, 42, 2, SOMEBODY)
    threads.ended(SOURCE, 42, 1)
    assert threads.is_own(SOURCE, 42, SOMEBODY)
    assert not threads.is_own(SOURCE, 42, ME)
    threads.ended(SOURCE, 42, 2)
    threads.opened(SOURCE, 42, 3, ME)
    assert not threads.is_own(SOURCE, 42, SOMEBODY)


def test_what_never_logged_in_is_not_known_when_it_ends() -> None:
    threads = GreetedThreads()
    threads.ended(SOURCE, 42, 1)
    assert not threads.is_own(SOURCE, 42, ME)


def test_no_more_than_so_many_are_remembered() -> None:
    threads = GreetedThreads()
    for thread_id in range(10_001):
        threads.opened(SOURCE, thread_id, thread_id, ME)
        threads.ended(SOURCE, thread_id, thread_id)
    assert not threads.is_own(SOURCE, 0, ME)
    assert threads.is_own(SOURCE, 1, ME)
    assert threads.is_own(SOURCE, 10_000, ME)
