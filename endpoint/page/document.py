"""What a status page shows, without how: notices, tiles, and tables of cells. Proxy and monitor each make one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Tone = Literal["", "good", "warn", "bad", "quiet"]
_WORST_LAST: tuple[Tone, ...] = ("quiet", "", "good", "warn", "bad")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table. The words say what the tone says: nobody needs to see the colour.

    Attributes:
        text: may come from a peer, as may the notes; it is escaped where it is shown.
        notes: smaller lines below.
        tone: how it is to be taken.
        is_code: whether it is a name or a number that a person compares letter by letter.
        moment: the instant that the text speaks of.
    """

    text: str
    notes: tuple[str, ...] = ()
    tone: Tone = ""
    is_code: bool = False
    moment: datetime | None = None


NOTHING = Cell("\N{EN DASH}")


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title, and whether its cells are amounts."""

    title: str
    is_amount: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One section of the page.

    Attributes:
        key: the section's anchor; lower-case letters and hyphens.
        caption: says what the table holds and in which order; for whoever cannot see it at a glance.
        rows: each as long as `columns`; the first cell names the row.
        left_out: how many more there are than `rows` has.
        when_empty: what is said in place of a table without rows.
        is_loud: whether the section stands out.
    """

    key: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int = 0
    when_empty: str = "None."
    is_loud: bool = False


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure at the top of the page."""

    title: str
    value: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence that must not be missed."""

    text: str
    tone: Tone = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The page of one process at one moment.

    Attributes:
        program: whose page it is, such as `binlock-proxy`.
        subtitle: where it runs, its version, since when.
        paths: what else the endpoint answers.
        as_of: when the facts were taken.
    """

    program: str
    host: str
    subtitle: tuple[str, ...]
    as_of: datetime
    notices: tuple[Notice, ...] = ()
    tiles: tuple[Tile, ...] = ()
    tables: tuple[Table, ...] = ()
    paths: tuple[str, ...] = field(default=("metrics", "status"))

    @property
    def tone(self) -> Tone:
        """The worst that it has to say."""
        tones = [notice.tone for notice in self.notices] + [tile.tone for tile in self.tiles]
        return max(tones, key=_WORST_LAST.index, default="")
