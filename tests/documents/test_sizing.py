"""docs/sizing.md reckons with the figures that docs/performance.md has."""

from __future__ import annotations

import pytest

from tests.documents.markdown import DOCS, rows

SIZING = (DOCS / "sizing.md").read_text()
# The tables of performance.md, by what stands in their first cell.
TUNNEL, SOURCE_SIDE = "tunnel: two proxies, TLS between them", "source-side: one proxy"


def table(head: str) -> str:
    """The table that has this in its first cell."""
    [found] = [part for part in (DOCS / "performance.md").read_text().split("\n\n") if part.startswith(f"| {head} |")]
    return found


# What sizing.md says, and the table and the row of performance.md that have it.
FIGURES = [
    ("1020 MB/s", SOURCE_SIDE, "bulk binlog, MB/s"),
    ("0.78 s of CPU for a GB", SOURCE_SIDE, "CPU, s/GB"),
    ("871 MB/s", TUNNEL, "bulk binlog, MB/s"),
    ("1.57 s of CPU for a GB", TUNNEL, "CPU of both ends, s/GB"),
    ("115 us of CPU", SOURCE_SIDE, "CPU per round trip, us"),
    ("198 us instead of", SOURCE_SIDE, "semi-synchronous round trip, p50, us"),
    ("3 ms of CPU", SOURCE_SIDE, "CPU to set a session up, ms"),
    ("56 KiB", SOURCE_SIDE, "memory per idle session, KiB"),
]


@pytest.mark.parametrize(("said", "head", "title"), FIGURES, ids=[said for said, *_ in FIGURES])
def test_a_figure_is_the_one_that_was_measured(said: str, head: str, title: str) -> None:
    assert said in SIZING
    [measured] = [row[1] for row in rows(table(head)) if row[0] == title]
    number = said.split(maxsplit=1)[0]
    digits = len(number.partition(".")[2])
    assert round(float(measured), digits) == float(number)
