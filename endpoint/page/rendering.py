"""A document as HTML. Elements are built, never written as text: what comes from a peer stays text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.resources import files
from string import Template
from xml.etree.ElementTree import Element, SubElement, tostring

from endpoint.page.document import NOTHING, Cell, Document, Notice, Table, Tile
from endpoint.page.wording import shown, shown_count, shown_moment

# Read at once: the monitor has no right to read them any more when it is first asked for its page.
ASSETS = {
    name: files("endpoint.page").joinpath("static", name).read_bytes()
    for name in ("status.html", "status.css", "status.js", "status.svg")
}
# A cipher suite's name is shorter.
_LONGEST_WORD = 28
_TEMPLATE = Template(ASSETS["status.html"].decode())


def render(document: Document) -> bytes:
    """The whole page, complete without scripts."""
    return _TEMPLATE.substitute(
        title=_as_text(f"{document.program} on {document.host}"),
        tone=document.tone,
        heading=_html(_heading(document)),
        as_of=_html([_time_element(document)]),
        navigation=_html(_navigation(document.tables)),
        notices=_html(_notices(document.notices)),
        tiles=_html([_tiles(document.tiles)]),
        tables=_html(map(_section, document.tables)),
        paths=_html(_paths(document.paths)),
    ).encode()


def _html(elements: Iterable[Element]) -> str:
    return "\n".join(tostring(element, encoding="unicode", method="html") for element in elements)


def _as_text(text: str) -> str:
    """Text for the inside of an element of the template."""
    holder = Element("i")
    holder.text = shown(text)
    return tostring(holder, encoding="unicode", method="html").removeprefix("<i>").removesuffix("</i>")


def _element(tag: str, text: str = "", **attributes: str) -> Element:
    """An element; `class_` stands for the attribute `class`, and an underscore for a hyphen."""
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value}
    made = Element(tag, named)
    made.text = text
    return made


def _heading(document: Document) -> Iterator[Element]:
    heading = _element("h1")
    heading.append(_element("span", document.program, class_="program"))
    heading[-1].tail = " "
    heading.append(_element("span", shown(document.host), class_="host"))
    yield heading
    about = _element("ul", class_="about")
    about.extend(_element("li", shown(text)) for text in document.subtitle)
    yield about


def _time_element(document: Document) -> Element:
    return _element("time", f"{document.as_of:%H:%M:%S} UTC", datetime=document.as_of.isoformat(timespec="seconds"))


def _navigation(tables: tuple[Table, ...]) -> Iterator[Element]:
    for table in tables:
        item = _element("li")
        item.append(_element("a", table.title, href=f"#{table.key}"))
        yield item


def _notices(notices: tuple[Notice, ...]) -> Iterator[Element]:
    for notice in notices:
        yield _element("p", shown(notice.text), class_=f"notice {notice.tone}")


def _tiles(tiles: tuple[Tile, ...]) -> Element:
    listed = _element("dl", class_="tiles")
    for tile in tiles:
        box = SubElement(listed, "div", {"class": f"tile {tile.tone}".strip()})
        box.append(_element("dt", tile.title))
        box.append(_element("dd", shown(tile.value), class_="value"))
        if tile.note:
            box.append(_element("dd", shown(tile.note), class_="note"))
    return listed


def _section(table: Table) -> Element:
    section = _element("section", id=table.key, aria_labelledby=f"{table.key}-title", class_="loud" * table.is_loud)
    title = _element("h2", table.title, id=f"{table.key}-title")
    count = len(table.rows) + table.left_out
    if count:
        title.append(_element("span", f"{count}", class_="count"))
    section.append(title)
    if table.rows:
        section.append(_table(table))
    elif not table.left_out:
        section.append(_element("p", table.when_empty, class_="empty"))
    if table.left_out:
        section.append(_element("p", f"… and {shown_count(table.left_out, 'more', 'more')}", class_="more"))
    return section


def _table(table: Table) -> Element:
    # The roles are those that the elements have of themselves; on a phone they are laid out as blocks, and some
    # browsers then forget.
    made = _element("table", role="table")
    made.append(_element("caption", table.caption))
    head = SubElement(SubElement(made, "thead", {"role": "rowgroup"}), "tr", {"role": "row"})
    for column in table.columns:
        kind = "amount" if column.is_amount else ""
        head.append(_element("th", column.title, scope="col", role="columnheader", class_=kind))
    body = SubElement(made, "tbody", {"role": "rowgroup"})
    for cells in table.rows:
        row = SubElement(body, "tr", {"role": "row"})
        for index, (cell, column) in enumerate(zip(cells, table.columns, strict=True)):
            row.append(_cell(cell, column.title, is_amount=column.is_amount, is_header=index == 0))
    return made


def _cell(cell: Cell, title: str, *, is_amount: bool, is_header: bool) -> Element:
    classes = ["amount" * is_amount, "nothing" * (cell is NOTHING)]
    made = _element("th" if is_header else "td", data_label=title, class_=_joined(classes))
    made.set("role", "rowheader" if is_header else "cell")
    if is_header:
        made.set("scope", "row")
    # What stands in it may be written from right to left, which must not reach the cells beside it.
    text = _element("bdi", shown(cell.text), class_=_joined(["code" * cell.is_code, cell.tone, _length(cell.text)]))
    if cell.moment is not None:
        moment = _element("time", datetime=cell.moment.isoformat(timespec="seconds"), title=shown_moment(cell.moment))
        moment.append(text)
        text = moment
    box = SubElement(made, "div")
    box.append(text)
    for note in cell.notes:
        if note:
            box.append(_element("bdi", shown(note), class_=_joined(["note", _length(note)])))
    return made


def _length(text: str) -> str:
    """The class of what may be broken anywhere; shorter words are not, so that no column shrinks to a letter."""
    return "long" if any(len(word) > _LONGEST_WORD for word in text.split()) else ""


def _joined(classes: Iterable[str]) -> str:
    return " ".join(filter(None, classes))


def _paths(paths: tuple[str, ...]) -> Iterator[Element]:
    for path in paths:
        item = _element("li")
        item.append(_element("a", f"/{path}", href=path))
        yield item
