"""The facts of the proxy's page are true and bounded, and the page says them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certs.profiles import Role
from endpoint.page import Cell, Document, Table
from endpoint.page.rendering import render
from proxy.configuration.addresses import TcpAddress, UnixAddress
from proxy.outcomes import Reason, Stage
from proxy.reporting.refusals import Outcome, Refusals
from proxy.reporting.status import Standing, proxy_status
from proxy.reporting.status_page import proxy_page
from proxy.sessions import SessionRecord, SessionRegistry
from proxy.site import Route, Site
from proxy.stages.identity import RosterEntry
from tests.proxy.bench import entry, make_route
from tests.proxy.pki import Pki
from wire.binlog import EventType
from wire.stream import StreamTracker

NOW = datetime.now(UTC)
MANY = 700
Change = Callable[[SessionRecord], None]


def standing(state: str = "serving", reload_error: str = "") -> Standing:
    return Standing(
        version="1.2.3", started=NOW - timedelta(hours=5), state=state, in_force_since=NOW, reload_error=reload_error
    )


class World:
    """A site, its sessions, and what was refused."""

    def __init__(self, *routes: Route) -> None:
        self.routes = routes or (make_route(name="orders", roster=(entry(),)),)
        self.registry = SessionRegistry()
        self.refusals = Refusals()

    def session(self, number: int = 1, route: Route | None = None, **fields: Any) -> SessionRecord:
        peer = (ipaddress.ip_address("10.0.0.0") + number, 40_000)
        record = self.registry.open(route=route or self.routes[0], peer=peer)
        for name, value in fields.items():
            setattr(record, name, value)
        return record

    def stream(self, replica: RosterEntry, number: int = 1, **fields: Any) -> SessionRecord:
        tracker = StreamTracker()
        tracker.packets = 9
        tracker.file, tracker.log_position, tracker.event_type = b"binlog.000042", 12_345_678, EventType.XID
        tracker.timestamp_seconds = int(NOW.timestamp()) - 2
        return self.session(
            number, stage=Stage.RELAY, entry=replica, identity=replica.identity, account="repl", server_id=2,
            tracker=tracker, is_authenticated=True, **fields,
        )  # fmt: skip

    def facts(self, **state: str) -> dict[str, Any]:
        site = Site(None, self.routes, ())  # type: ignore[arg-type]  # nothing of the file itself is shown
        facts = proxy_status(standing(**state), site, self.registry, self.refusals)
        assert json.loads(json.dumps(facts)) == facts
        return facts

    def page(self, **state: str) -> Document:
        return proxy_page(self.facts(**state))


def table(page: Document, key: str) -> Table:
    return next(table for table in page.tables if table.key == key)


def texts(cells: tuple[Cell, ...]) -> list[str]:
    return [text for cell in cells for text in (cell.text, *cell.notes) if text]


def tile(page: Document, title: str) -> tuple[str, str, str]:
    return next((tile.value, tile.note, tile.tone) for tile in page.tiles if tile.title == title)


def test_a_stream_is_shown_with_who_it_is_and_how_far_it_is() -> None:
    world = World()
    record = world.stream(entry(), bytes_to_replica=2_000_000)
    assert record.tracker is not None
    record.pace.look(record.tracker)
    page = world.page()
    [row] = table(page, "sessions").rows
    shown = texts(row)
    for text in ("replica-1", "replica-1.example", "repl, server id 2", "10.0.0.1:40000", "streaming", "2.0 MB"):
        assert text in shown
    assert {"binlog.000042", "at 12\u202f345\u202f678", "XID"} <= set(shown)
    assert tile(page, "Replicas that stream") == ("1 of 1", "all of the roster", "good")
    assert texts(table(page, "routes").rows[0])[-2:] == ["1 of 1", "1 session"]


def test_a_replica_that_is_absent_is_named_and_one_that_logs_in_does_not_stream_yet() -> None:
    world = World(make_route(name="orders", roster=(entry("one"), entry("two"), entry("two"))))
    world.session(entry=entry("one"), stage=Stage.POLICY)
    page = world.page()
    assert tile(page, "Replicas that stream") == ("0 of 2", "absent: one, two", "warn")
    assert texts(table(page, "sessions").rows[0])[2:5] == ["route orders", "policy", "\u2013"]


def test_what_observe_mode_lets_pass_stands_first_and_the_page_says_that_it_only_observes() -> None:
    world = World(make_route(name="orders", roster=(entry("one"), entry("two")), enforce=False))
    world.stream(entry("one"), 1)
    world.stream(entry("two"), 2, would_refuse=["server_id_not_allowed"])
    page = world.page()
    first = table(page, "sessions").rows[0]
    assert "observed: server id not allowed" in texts(first)
    assert first[2].tone == "warn"
    assert [notice.text.split(":")[0] for notice in page.notices] == ["orders"]
    assert "observe only" in texts(table(page, "routes").rows[0])


@pytest.mark.parametrize(
    ("source", "text", "tone"),
    [
        (UnixAddress("/run/mysqld.sock"), "unix socket", "good"),
        (TcpAddress("127.0.0.1", 3306), "plaintext on loopback", ""),
        (TcpAddress("10.0.0.1", 3306), "unsafe: plaintext", "bad"),
    ],
)
def test_a_leg_is_shown_as_protected_as_it_is(source: TcpAddress | UnixAddress, text: str, tone: str) -> None:
    cell = table(World(make_route(source=source)).page(), "routes").rows[0][4]
    assert (cell.text, cell.tone) == (text, tone)


@pytest.mark.parametrize(
    ("source", "shown"),
    [(TcpAddress("127.0.0.1", 3306), "plaintext on loopback"), (TcpAddress("10.0.0.1", 3306), "unsafe: plaintext")],
)
def test_a_sessions_leg_without_tls_is_called_what_it_is(source: TcpAddress, shown: str) -> None:
    world = World(make_route(name="orders", source=source))
    world.stream(entry())
    world.stream(entry(), 2, route=make_route(name="gone"))
    assert [row[4].text for row in table(world.page(), "sessions").rows] == ["plaintext", shown]


def test_a_leg_in_tls_says_whether_it_has_crls(pki: Pki) -> None:
    for crls in ((), (pki.authority.crl(),)):
        route = make_route(
            replica_context=object(),  # type: ignore[arg-type]
            materials={"replica": pki.material(pki.proxy, crls=crls)},
        )
        assert texts((table(World(route).page(), "routes").rows[0][2],)) == [
            "mutual TLS", "with CRLs" if crls else "without CRLs",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("days", "left", "tone"),
    [(400, "400 days", "good"), (29.5, "29 days", "warn"), (6.9, "6 days", "bad"), (0.5, "12 h", "bad")],
)
def test_certificates_are_warned_of_when_the_alerts_are(pki: Pki, days: float, left: str, tone: str) -> None:
    leaf = pki.authority.issue(Role.PROXY, "soon.example", end=timedelta(days=days, minutes=5))
    page = World(make_route(materials={"replica": pki.material(leaf)})).page()
    row = next(row for row in table(page, "certificates").rows if row[0].text == "soon.example")
    assert (row[1].text, row[4].text, row[4].tone) == ("own certificate", left, tone)


def test_what_legs_share_is_one_line_and_the_first_to_expire_is_first(pki: Pki) -> None:
    material = pki.material(pki.proxy, crls=(pki.authority.crl(end=timedelta(days=3)),))
    routes = [make_route(name=name, materials={"replica": material}) for name in ("a", "b")]
    page = World(*routes).page()
    rows = table(page, "certificates").rows
    assert [row[1].text for row in rows] == ["own certificate", "authority", "CRL"]
    assert texts((rows[2][2],)) == ["a, replica leg", "b, replica leg"]
    assert (rows[2][4].text, rows[2][4].tone) == ("3 days", "warn")
    assert tile(page, "Next expiry")[1] == "own certificate proxy.example"


def test_a_reload_that_failed_and_a_drain_are_said_loudly() -> None:
    page = World().page(state="draining", reload_error="proxy.toml: no")
    assert [(notice.tone, notice.text.rpartition(": ")[2]) for notice in page.notices] == [
        ("warn", "the proxy is draining."),
        ("bad", "no"),
    ]
    assert tile(page, "Configuration")[::2] == ("reload failed", "bad")


def test_refusals_are_told_by_kind_and_the_latest_first() -> None:
    world = World()
    for number in (1, 2, 2, 2):
        record = world.session(number, account="root")
        world.refusals.note(record, Outcome.REFUSED, Stage.AUTHENTICATION, Reason.ACCOUNT_NOT_ALLOWED, f"no {number}")
    for refusal in world.refusals.recent():
        refusal.last -= timedelta(seconds=90)
    page = world.page()
    # What stands first in a row is the time.
    assert [texts(row)[2:] for row in table(page, "last-refusals").rows] == [
        [peer, "route orders", "root", "refused", "account not allowed", "authentication", detail, times]
        for peer, detail, times in (("10.0.0.2:40000", "no 2", "3"), ("10.0.0.1:40000", "no 1", "1"))
    ]
    assert [texts(row) for row in table(page, "refusals").rows] == [
        ["account not allowed", "authentication", "orders", "refused", "4"]
    ]
    assert tile(page, "Refused since the start") == ("4", "last 1 min ago", "warn")


def test_what_is_ordinary_is_not_remembered_and_what_is_hostile_is_bounded() -> None:
    world = World()
    ordinary = world.session()
    world.refusals.note(ordinary, Outcome.ENDED, Stage.RELAY, Reason.CLOSED, "the replica closed the connection")
    world.refusals.note(ordinary, Outcome.REFUSED, Stage.GREETING, Reason.DISCONNECTED, "a probe")
    assert world.refusals.recent() == []
    assert list(world.refusals.counts.values()) == [1]
    for number in range(MANY):
        record = world.session(number, identity="w" * 9000, account="<b>")
        world.refusals.note(record, Outcome.REFUSED, Stage.IDENTITY, Reason.IDENTITY_NOT_ON_ROSTER, "x" * 9000)
        world.registry.close(record)
    recent = world.refusals.recent()
    assert len(recent) == 50
    assert recent[0].peer == f"10.0.{(MANY - 1) // 256}.{(MANY - 1) % 256}:40000"
    assert max(len(text) for refusal in recent for text in (refusal.identity, refusal.detail)) == 300
    assert len(json.dumps(world.facts())) < 60_000


def test_hundreds_of_sessions_make_neither_page_nor_facts_heavy() -> None:
    world = World(make_route(name="orders", roster=tuple(entry(f"replica-{number}") for number in range(MANY))))
    for number in range(MANY):
        world.stream(entry(f"replica-{number}"), number)
    facts = world.facts()
    assert (len(facts["sessions"]), facts["sessions_left_out"]) == (100, MANY - 100)
    assert len(json.dumps(facts)) < 80_000
    page = proxy_page(facts)
    assert table(page, "sessions").left_out == MANY - 100
    assert tile(page, "Open sessions")[0] == "700"
    assert tile(page, "Replicas that stream")[0] == "700 of 700"
    assert len(render(page)) < 250_000
