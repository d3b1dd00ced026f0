"""Trust is checked while the stream runs: what a session rests on goes, and the session goes; others never notice."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from testbed.servers import Server
from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.lab import (
    PROMPTLY_SECONDS,
    Authority,
    Forwarder,
    Leaf,
    Proxy,
    Table,
    replicating,
    seconds_between,
)

StartProxy = Callable[..., Proxy]
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)
_numbers = itertools.count(1)
_DIRECT, _FORWARDED = "127.0.0.1/32", "127.0.0.5/32"


@pytest.fixture(scope="session")
def bystander(pki: Pki) -> Leaf:
    """The second replica's certificate."""
    return pki.authority.issue("replica", "bystander.example")


@dataclass
class Two:
    """Two replicas behind one proxy: what happens to the first must not touch the second, which has another address."""

    pair: Pair
    second: Server
    proxy: Proxy
    leaf: Leaf
    name: str
    table: Table

    def __post_init__(self) -> None:
        self.first_session = int(self.proxy.stream_of(self.name)["session"])
        self.second_session = int(self.proxy.stream_of("bystander.example")["session"])
        self.log_size = self.pair.replica.log_path.stat().st_size

    def roster(self, **changes: Any) -> list[dict[str, Any]]:
        """The roster with the first replica's line changed."""
        first, *others = self.proxy.routes[0].replicas
        return [first | changes, *others]

    def assert_second_never_noticed(self) -> None:
        self.table.insert(20)
        self.table.assert_same_on(self.second)
        assert self.proxy.stream_of("bystander.example")["session"] == self.second_session
        assert [event["session"] for event in self.proxy.events("session_ended")] == [self.first_session]

    def wait_for_log(self, text: str) -> None:
        """Waits for a text in what the first replica's server has written since the beginning."""

        def written() -> bool:
            with self.pair.replica.log_path.open("rb") as log:
                log.seek(self.log_size)
                return text in log.read().decode(errors="replace")

        self.pair.replica.wait_until(written, what=f"{text!r} in the replica's error log")

    def assert_first_comes_back(self, *, by_itself: bool) -> None:
        """The first replica streams again, in another session, and has every row."""
        if not by_itself:
            self.pair.replica.stop_replication()
            self.pair.replica.start_replication()
        self.pair.replica.wait_for_replication()
        self.table.insert(20)
        self.table.assert_same_on(self.pair.replica)
        assert self.proxy.stream_of(self.name)["session"] > self.second_session


@pytest.fixture
def two(pair: Pair, second: Server, pki: Pki, bystander: Leaf, source_side: StartProxy) -> Iterator[Two]:
    name = f"subject-{next(_numbers)}.example"
    leaf = pki.authority.issue("replica", name)
    proxy = source_side(
        allow=[_DIRECT, _FORWARDED],
        replicas=[
            {"identity": name, "accounts": ["repl"], "server_ids": [2]},
            {"identity": "bystander.example", "accounts": ["repl"], "server_ids": [3]},
        ],
    )
    table = pair.table()
    tls = pki.authority.replica_tls
    with (
        Forwarder(proxy.port, address="127.0.0.5") as host,
        replicating(pair.replica, proxy.port, user="repl", tls=tls(leaf)),
        replicating(second, host.port, user="repl", tls=tls(bystander)),
    ):
        for replica in (pair.replica, second):
            replica.wait_for_replication()
        yield Two(pair, second, proxy, leaf, name, table)


def wait_for_io_error(replica: Server, *texts: str) -> None:
    """Waits until the replica's status shows one of the texts."""
    replica.wait_until(
        lambda: any(text in replica.replica_status().last_io_error for text in texts),
        what=f"one of {texts} in the replica's status",
    )


@modern
@pytest.mark.parametrize("noticed", ["file", "SIGHUP"])
def test_a_revoked_replica_is_gone_within_a_second_and_cannot_return(two: Two, pki: Pki, noticed: str) -> None:
    proxy, replica = two.proxy, two.pair.replica
    two.table.insert(100)
    mark = proxy.mark()
    pki.authority.revoke(two.name)
    if noticed == "SIGHUP":
        proxy.program.signal(signal.SIGHUP)
    reloaded = proxy.wait_for_event("reloaded", after=mark)
    ended = proxy.wait_for_end(two.first_session)
    assert [bool(proxy.events(name, after=mark)) for name in ("signal", "files_changed")].index(True) == (
        noticed == "file"
    )
    assert (ended["reason"], reloaded["sessions_ended"]) == ("revoked", 1)
    assert 0 <= seconds_between(reloaded, ended) < PROMPTLY_SECONDS
    two.wait_for_log("Binlock: the replica's certificate no longer stands: certificate revoked")

    proxy.wait_for_refusal("certificate_revoked", after=mark)
    wait_for_io_error(replica, "certificate revoked", "error", "Lost connection")
    assert not replica.replica_status().running
    assert proxy.metric("binlock_proxy_sessions_ended_total", reason="revoked") == 1
    two.assert_second_never_noticed()

    two.leaf.become(pki.authority.issue_again("replica", two.name))
    two.assert_first_comes_back(by_itself=False)
    assert proxy.stream_of("bystander.example")["session"] == two.second_session


@modern
def test_a_session_ends_when_its_certificate_expires(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    name = f"brief-{next(_numbers)}.example"
    proxy = source_side(replicas=[{"identity": name, "accounts": ["repl"]}])
    table = pair.table()
    leaf = pki.authority.issue("replica", name, "--seconds", "15")
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(leaf)):
        table.insert(10)
        table.assert_same_on(pair.replica)
        session = proxy.stream_of(name)
        assert datetime.fromisoformat(session["replica_certificate_not_after"]) == leaf.not_after
        ended = proxy.wait_for_end(session["session"])
        assert ended["reason"] == "expired"
        assert 0 <= (datetime.fromisoformat(ended["time"]) - leaf.not_after).total_seconds() < PROMPTLY_SECONDS
        table.insert(10)
        proxy.wait_for_refusal("certificate_expired")
        wait_for_io_error(pair.replica, "certificate expired", "error", "Lost connection")
        leaf.become(pki.authority.issue_again("replica", name))
        pair.replica.stop_replication()
        pair.replica.start_replication()
        pair.replica.wait_for_replication()
        table.assert_same_on(pair.replica)


FALLS: dict[str, tuple[Callable[[Two], dict[str, Any]], str, str, str]] = {
    # What changes, how the session ends, why it cannot return, what the replica is told then.
    "entry": (
        lambda two: {"replicas": two.roster(identity="another.example")},
        "not_on_roster", "identity_not_on_roster", "is not on the roster of this route",
    ),
    "account": (
        lambda two: {"replicas": two.roster(accounts=["another"])},
        "not_on_roster", "account_not_allowed", "may not log in as 'repl' on this route",
    ),
    "server id": (
        lambda two: {"replicas": two.roster(server_ids=[77])},
        "not_on_roster", "server_id_not_allowed", "may not replicate as server id 2 on this route",
    ),
    "address": (
        lambda two: {"replicas": two.roster(addresses=["127.0.0.9"])},
        "not_on_roster", "address_not_on_roster", "may not connect from 127.0.0.1 on this route",
    ),
    "allowlist": (
        lambda _: {"allow": [_FORWARDED]},
        "not_allowed", "address_not_allowed", "host 127.0.0.1 is not on the allowlist of this route",
    ),
}  # fmt: skip


@modern
@pytest.mark.parametrize("fallen", FALLS)
def test_what_a_reload_drops_ends_and_what_it_brings_back_returns(two: Two, fallen: str) -> None:
    proxy, route = two.proxy, two.proxy.routes[0]
    change, reason, refusal, told = FALLS[fallen]
    former = {"replicas": route.replicas, "allow": route.allow}
    mark = proxy.mark()
    reloaded = proxy.change(**change(two))
    ended = proxy.wait_for_end(two.first_session)
    assert (reloaded["event"], reloaded["sessions_ended"], ended["reason"]) == ("reloaded", 1, reason)
    assert seconds_between(reloaded, ended) < PROMPTLY_SECONDS
    two.wait_for_log("Binlock: " + ended["detail"][:40])
    proxy.wait_for_refusal(refusal, after=mark)
    wait_for_io_error(two.pair.replica, told)
    two.assert_second_never_noticed()
    assert proxy.change(**former)["event"] == "reloaded"
    two.assert_first_comes_back(by_itself=True)


_WORDS = {"expired": "has expired", "revoked": "revoked"}


@contextmanager
def source_presents(pair: Pair, pki: Pki, leaf: Leaf) -> Iterator[None]:
    """The source's own TLS has another certificate for the duration."""
    former = pki.source.copy_to(pair.source.folder / f"former-{next(_numbers)}")
    reload_tls = "FLUSH SSL" if pair.flavour.is_mariadb else "ALTER INSTANCE RELOAD TLS"
    pki.source.become(leaf)
    pair.source.sql(reload_tls)
    try:
        yield
    finally:
        pki.source.become(former)
        pair.source.sql(reload_tls)


@modern
@pytest.mark.parametrize("cause", ["expired", "revoked"])
def test_the_sources_certificate_is_judged_while_the_stream_runs_too(
    pair: Pair, pki: Pki, replica_side: StartProxy, cause: str
) -> None:
    name = f"source-{next(_numbers)}.example"
    lifetime = ("--seconds", "15") if cause == "expired" else ()
    table = pair.table()
    proxy = replica_side()
    options = {} if pair.flavour.is_mariadb else {"get_source_public_key": True}
    with replicating(pair.replica, proxy.port, user="repl", **options):
        table.insert(10)
        table.assert_same_on(pair.replica)
        leaf = pki.authority.issue("source", name, "--ip", "127.0.0.1", *lifetime)
        with source_presents(pair, pki, leaf):
            pair.replica.stop_replication()
            pair.replica.start_replication()
            table.insert(10)
            table.assert_same_on(pair.replica)
            session = proxy.stream_of("local")
            assert datetime.fromisoformat(session["source_certificate_not_after"]) == leaf.not_after
            if cause == "revoked":
                pki.authority.revoke(name)
                begun = proxy.reload()
                ended = proxy.wait_for_end(session["session"])
                assert seconds_between(begun, ended) < PROMPTLY_SECONDS
            else:
                ended = proxy.wait_for_end(session["session"])
                late = (datetime.fromisoformat(ended["time"]) - leaf.not_after).total_seconds()
                assert 0 <= late < PROMPTLY_SECONDS
            assert ended["reason"] == f"source_{cause}"
            proxy.wait_for_refusal("source_tls_failed")
            why = f"certificate verify failed (certificate {_WORDS[cause]})"
            wait_for_io_error(pair.replica, f"Binlock: TLS towards the source failed: {why}")
            table.insert(10)
        pair.replica.wait_for_replication()
        table.assert_same_on(pair.replica)


@modern
def test_an_authority_that_is_trusted_no_more_takes_its_sessions_along(two: Two, pki: Pki, foreign: Authority) -> None:
    trusting = pki.replica_tls()
    assert two.proxy.change(replica_tls=trusting | {"ca": foreign.ca, "crl": [foreign.crl]})["sessions_ended"] == 2
    for session in (two.first_session, two.second_session):
        assert two.proxy.wait_for_end(session)["reason"] == "untrusted"
    two.proxy.wait_for_refusal("certificate_untrusted")
    two.proxy.change(replica_tls=trusting)
    two.assert_first_comes_back(by_itself=True)
    two.second.wait_for_replication()
    two.table.assert_same_on(two.second)


@modern
def test_the_sources_authority_that_is_trusted_no_more_takes_its_session_along(
    pair: Pair, foreign: Authority, replica_side: StartProxy
) -> None:
    proxy = replica_side()
    trusting = proxy.routes[0].source_tls
    assert trusting is not None
    options = {} if pair.flavour.is_mariadb else {"get_source_public_key": True}
    with replicating(pair.replica, proxy.port, user="repl", **options):
        pair.replica.wait_for_replication()
        session = proxy.stream_of("local")["session"]
        assert proxy.change(source_tls=trusting | {"ca": foreign.ca, "crl": [foreign.crl]})["sessions_ended"] == 1
        assert proxy.wait_for_end(session)["reason"] == "source_untrusted"
        wait_for_io_error(pair.replica, "Binlock: TLS towards the source failed")
        proxy.change(source_tls=trusting)
        pair.replica.wait_for_replication()


@modern
def test_a_route_that_changes_its_encryption_ends_its_sessions_and_they_come_back(two: Two, pki: Pki) -> None:
    # The source leg becomes TLS; what was dialled before is not.
    proxy = two.proxy
    reloaded = proxy.change(source=f"127.0.0.1:{two.pair.source.port}", source_tls=pki.source_tls())
    assert reloaded["sessions_ended"] == 2
    for session in (two.first_session, two.second_session):
        assert proxy.wait_for_end(session)["reason"] == "route_changed"
    two.assert_first_comes_back(by_itself=True)
    two.second.wait_for_replication()
    assert "source_tls_version" in proxy.stream_of("bystander.example")


@modern
def test_in_observe_mode_a_stranger_replicates_and_is_counted(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    roster = [{"identity": "another.example", "accounts": ["another"]}]
    proxy = source_side(replicas=roster, more={"enforce": False})
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        table.insert(10)
        table.assert_same_on(pair.replica)
        session = proxy.stream_of("unlisted")
        assert session["identity"] == "replica-1.example"
        assert session["would_refuse"] == ["identity_not_on_roster"]
        event = proxy.wait_for_event("would_refuse")
        assert (event["stage"], event["reason"]) == ("identity", "identity_not_on_roster")
        assert proxy.metric("binlock_proxy_would_refuse_total", reason="identity_not_on_roster") == 1
        # What would be refused shows on the session too; then the mode ends, and so does it.
        proxy.change(replicas=[{"identity": "replica-1.example", "accounts": ["another"], "server_ids": [77]}])
        assert proxy.stream_of("unlisted")["session"] == session["session"]
        proxy.change(more={"enforce": True})
        assert proxy.wait_for_end(session["session"])["reason"] == "not_on_roster"
        proxy.change(more={"enforce": False})
        pair.replica.wait_for_replication()
        again = proxy.stream_of("replica-1.example")
        assert again["would_refuse"] == ["account_not_allowed", "server_id_not_allowed"]
        table.insert(10)
        table.assert_same_on(pair.replica)
