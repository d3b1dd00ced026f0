"""The facts of the monitor's page are bounded and masked, and the page says what is worst first."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from endpoint.page import Cell, Document, Table
from endpoint.page.rendering import render
from monitor.reporting.masking import Masking
from monitor.reporting.metrics import InterfaceReading, Reading
from monitor.reporting.status import MOST_FLOWS, GonePlaintext, Standing, foremost_first, monitor_status
from monitor.reporting.status_page import monitor_page
from monitor.verdicts import Flow, TlsFacts, Verdict

MANY = 700


def make_flow(number: int = 1, verdict: Verdict = Verdict.PLAINTEXT_REPLICATION, **changes: Any) -> Flow:
    last = time.time() - 90
    settings: dict[str, Any] = {
        "evidence": ["MySQL's greeting", "COM_BINLOG_DUMP", "the event stream"],
        "first_seconds": last - 60,
        "last_seconds": last,
    }
    client = f"10.0.{number // 250}.{number % 250}:40000"
    return Flow(number, client, "10.9.9.9:3306", verdict=verdict, **settings | changes)


def facts(*flows: Flow, masking: Masking | None = None, gone: GonePlaintext | None = None, **reading: Any) -> Any:
    masking = masking or Masking()
    active = {verdict: sum(flow.verdict is verdict for flow in flows) for verdict in Verdict}
    interfaces = [InterfaceReading("eth0", is_up=True, packets=10, dropped=0, is_dropping=False)]
    counted = Reading(**{"active": active, "flows": active, "interfaces": interfaces} | reading)
    foremost = sorted(flows, key=foremost_first)[:MOST_FLOWS]
    standing = Standing(version="1.2.3", started=datetime.now(UTC) - timedelta(days=2), ports=frozenset({3306}))
    made = monitor_status(standing, counted, foremost, gone or GonePlaintext(masking))
    assert json.loads(json.dumps(made)) == made
    return made


def table(page: Document, key: str) -> Table:
    return next(table for table in page.tables if table.key == key)


def texts(cells: tuple[Cell, ...]) -> list[str]:
    return [text for cell in cells for text in (cell.text, *cell.notes) if text]


def test_replication_in_the_clear_comes_first_and_is_loud() -> None:
    tls = TlsFacts(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", group="X25519MLKEM768")
    page = monitor_page(facts(make_flow(1, Verdict.TLS, tls=tls), make_flow(2), make_flow(3, Verdict.UNDECIDED)))
    assert [(notice.tone, notice.text) for notice in page.notices] == [
        ("bad", "Replication in the clear: 10.0.0.2:40000 reads from 10.9.9.9:3306, unencrypted.")
    ]
    assert page.tables[0].key == "in-the-clear"
    assert page.tables[0].is_loud
    [row] = page.tables[0].rows
    assert texts(row)[3:7] == ["10.9.9.9:3306", "the event stream", "COM_BINLOG_DUMP", "MySQL's greeting"]
    others = table(page, "flows").rows
    assert [row[0].text for row in others] == ["undecided", "tls"]
    assert {"TLSv1.3", "X25519MLKEM768", "AES_256_GCM_SHA384"} <= set(texts(others[1]))
    tile = page.tiles[0]
    assert (tile.value, tile.note, tile.tone) == ("1", "now", "bad")


def test_without_it_the_page_is_quiet_and_says_when_it_was_seen_last() -> None:
    gone = GonePlaintext(Masking())
    assert monitor_page(facts()).tiles[0].tone == "good"
    for number in (1, 1, 2):
        gone.note(make_flow(number))
    page = monitor_page(facts(gone=gone))
    assert (page.notices, page.tables[0].is_loud, page.tables[0].rows) == ((), False, ())
    assert (page.tiles[0].value, page.tiles[0].note, page.tiles[0].tone) == ("0", "none now; last 1 min ago", "warn")
    assert [(row[0].text, row[5].text) for row in table(page, "gone").rows] == [
        ("10.0.0.2:40000", "1"),
        ("10.0.0.1:40000", "2"),
    ]


def test_an_interface_that_is_blind_is_said_loudly() -> None:
    interfaces = [
        InterfaceReading("eth0", is_up=False, packets=1, dropped=0, is_dropping=False),
        InterfaceReading("eth1", is_up=True, packets=1, dropped=7, is_dropping=True),
    ]
    page = monitor_page(facts(interfaces=interfaces, is_flooded=True))
    assert [notice.text.split(" ")[:3] for notice in page.notices] == [
        ["Interface", "eth0", "is"],
        ["Packets", "of", "eth1"],
        ["A", "flood", "of"],
    ]
    assert [(tile.value, tile.tone) for tile in page.tiles[-2:]] == [("1 of 2 up", "bad"), ("7", "warn")]


def test_addresses_are_masked_wherever_they_are_shown() -> None:
    masking = Masking(b"k" * 16)
    gone = GonePlaintext(masking)
    gone.note(make_flow(3))
    shown = facts(make_flow(1), make_flow(2, Verdict.TLS), masking=masking, gone=gone)
    for said in (json.dumps(shown), render(monitor_page(shown)).decode()):
        assert not re.search(r"\b10\.\d+\.\d", said)


def test_however_many_there_are_page_and_facts_stay_small() -> None:
    gone = GonePlaintext(Masking())
    for number in range(MANY):
        gone.note(make_flow(number))
    shown = facts(
        *(make_flow(number) for number in range(MANY)),
        *(make_flow(MANY + number, Verdict.TLS) for number in range(MANY)),
        gone=gone,
    )
    assert (len(shown["flows"]), shown["flows_left_out"], len(shown["plaintext_gone"])) == (100, 2 * MANY - 100, 50)
    assert len(json.dumps(shown)) < 100_000
    page = monitor_page(shown)
    assert (len(page.tables[0].rows), page.tables[0].left_out) == (100, MANY - 100)
    assert (table(page, "flows").rows, table(page, "flows").left_out) == ((), MANY)
    assert [notice.text for notice in page.notices][3:] == ["697 more replicas read in the clear."]
    assert len(render(page)) < 200_000
