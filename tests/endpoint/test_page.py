"""The page as HTML: whole without scripts, bounded, and whatever a cell says, it is text."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.page import Cell, Column, Document, Notice, Table, Tile, Tone, status_pages
from endpoint.page.rendering import ASSETS, render
from endpoint.page.wording import shown, shown_age, shown_bytes, shown_count, shown_duration, shown_number
from tests.endpoint.client import serving

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOSTILE = (
    "</bdi></table><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "$title ${tables} $$",
    "&lt;b&gt; &amp; <!-- ]]>",
    "javascript:alert(1)",
)
VOID = {"meta", "link"}


def document(*texts: str, **changes: Any) -> Document:
    """Every place that text can come to has it."""
    rows = tuple((Cell(text, (text,), "warn", moment=NOW), Cell(text, is_code=True)) for text in texts)
    columns = (Column("A"), Column("B", is_amount=True))
    table = Table(key="one", title="One", caption="Those.", columns=columns, rows=rows)
    settings: dict[str, Any] = {
        "program": "binlock-test",
        "host": texts[0] if texts else "here",
        "subtitle": texts,
        "as_of": NOW,
        "notices": tuple(Notice(text) for text in texts),
        "tiles": tuple(Tile("Figure", text, text) for text in texts),
        "tables": (table, Table(key="two", title="Two", caption="", columns=(Column("A"),), rows=())),
    }
    return Document(**settings | changes)


class Reader(HTMLParser):
    """What a parser makes of a page; tags must be closed in their order."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_cell_says_is_text_wherever_it_stands(text: str) -> None:
    page, harmless = Reader(render(document(text))), Reader(render(document("harmless")))
    assert page.texts.count(text) == harmless.texts.count("harmless") == 8
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]


@given(st.text(min_size=1, max_size=300))
def test_no_text_changes_the_page(text: str) -> None:
    page = Reader(render(document(text)))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in Reader(render(document("harmless"))).tags]
    assert all(each.isprintable() or each in "\n\u202f" for each in "".join(page.texts))


def test_nothing_of_the_page_needs_what_its_policy_forbids() -> None:
    page = Reader(render(document("x")))
    for tag, attributes in page.tags:
        forbidden = [name for name in attributes if name.startswith("on") or name == "style"]
        assert (tag, forbidden) == (tag, [])
    assert page.all("script") == [{"src": "status.js", "defer": None}]
    assert not page.all("style")
    written = b"".join(ASSETS.values()).decode().replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"https?:|url\(|@import|innerHTML|\beval\b", written)


def test_tables_are_marked_up_for_whoever_cannot_see_them() -> None:
    page = Reader(render(document("x", "y")))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("table")) == len(page.all("caption")) == 1
    scopes = [attributes["scope"] for attributes in page.all("th")]
    assert scopes == ["col", "col", "row", "row"]
    assert [cell["data-label"] for cell in page.all("td")] == ["B", "B"]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {(attributes["href"] or "").removeprefix("#") for attributes in page.all("a")}
    assert {"main", "one", "two"} <= targets & {*ids, "main"}
    assert [section["aria-labelledby"] for section in page.all("section")] == ["one-title", "two-title"]
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in page.tags}


def test_a_table_says_what_it_leaves_out_and_an_empty_one_that_it_is() -> None:
    column = (Column("A"),)
    tables = (
        Table(key="one", title="One", caption="", columns=column, rows=((Cell("x"),),) * 3, left_out=1200),
        Table(key="two", title="Two", caption="", columns=column, rows=(), when_empty="Nobody."),
        Table(key="three", title="Three", caption="", columns=column, rows=(), left_out=7, when_empty="Nobody."),
    )
    texts = Reader(render(document("x", tables=tables))).texts
    assert "… and 1\u202f200 more" in texts
    assert "1203" in texts
    assert "… and 7 more" in texts
    assert texts.count("Nobody.") == 1


@pytest.mark.parametrize(
    ("notices", "tiles", "worst"), [((), (), ""), ((), ("good", "quiet"), "good"), (("warn",), ("bad",), "bad")]
)
def test_a_page_has_the_tone_of_the_worst_that_it_says(
    notices: tuple[Tone, ...], tiles: tuple[Tone, ...], worst: Tone
) -> None:
    made = document(
        notices=tuple(Notice("x", tone) for tone in notices), tiles=tuple(Tile("x", "y", tone=tone) for tone in tiles)
    )
    assert made.tone == worst
    assert Reader(render(made)).all("main")[0]["data-tone"] == worst


async def test_page_facts_and_files_are_served_with_what_a_browser_is_forbidden() -> None:
    gathered: list[dict[str, int]] = []

    def gather() -> dict[str, int]:
        gathered.append({"number": len(gathered)})
        return gathered[-1]

    pages = status_pages(gather, lambda facts: document(f"number {facts['number']}"))
    async with serving(pages) as client:
        types = {
            "/": "text/html; charset=utf-8",
            "/status": "application/json; charset=utf-8",
            "/status.css": "text/css; charset=utf-8",
            "/status.js": "text/javascript; charset=utf-8",
            "/status.svg": "image/svg+xml",
        }
        for path, content_type in types.items():
            status, headers, body = await client.get(path)
            assert (status, headers["content-type"], bool(body)) == (200, content_type, True)
            policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
            assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-store"
        status, _, body = await client.get("/nothing")
        assert (status, body) == (404, b"try / or /status\n")
    assert gathered == [{"number": 0}], "many who look at once do not make it gather as often"


async def test_facts_are_gathered_anew_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("endpoint.page.serving.time.monotonic", lambda: clock[0])
    numbers = iter(range(9))
    pages = status_pages(lambda: {"number": next(numbers)}, lambda _: document())
    async with serving(pages) as client:
        assert [json.loads((await client.get("/status"))[2])["number"] for _ in range(2)] == [0, 0]
        clock[0] += 0.6
        assert json.loads((await client.get("/status"))[2]) == {"number": 1}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("repl", "repl"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\x00\n\x1b[31mb", "a\\x00\\n\\x1b[31mb"),
        ("\ud800", "\\ud800"),
        ("שלום", "שלום"),
        ("w" * 161, "w" * 159 + "…"),
    ],
)
def test_names_are_shown_whole_unless_they_deceive_or_flood(text: str, seen: str) -> None:
    assert shown(text) == seen


def test_amounts_are_shown_for_people() -> None:
    assert [shown_bytes(count) for count in (0, 999, 1000, 12_345_678, 5e12)] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "5.0 TB",
    ]  # fmt: skip
    assert [shown_duration(seconds) for seconds in (-3, 59, 60, 3600, 93_784)] == [
        "0 s", "59 s", "1 min", "1 h 0 min", "1 d 2 h",
    ]  # fmt: skip
    assert shown_age(NOW - timedelta(seconds=61), NOW) == "1 min ago"
    assert (shown_count(1, "flow"), shown_count(2, "flow")) == ("1 flow", "2 flows")
    assert shown_number(12_345_678) == "12\u202f345\u202f678"
