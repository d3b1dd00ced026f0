"""The rows of a table panel: what Grafana's transformations `merge` and `organize` make of the answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from grafana.drawing.answers import Series
from grafana.drawing.units import colour_of, formatted, mapped
from grafana.style import Json

Cell = str | float


@dataclass(frozen=True, slots=True)
class Column:
    """A column as it is drawn.

    Attributes:
        title: above it.
        width: in pixels; 0 if it takes what is left.
        cells: text and colour; an empty colour is that of plain text.
    """

    title: str
    width: int
    cells: Sequence[tuple[str, str]]


def columns(panel: Json, answered: Sequence[Sequence[Series]], now_seconds: float) -> list[Column]:
    """The columns of a table, from left to right, sorted as the panel says."""
    organized = panel["transformations"][-1]["options"]
    rows = _merged(_rows(answered))
    fields = sorted(organized["renameByName"], key=lambda field: organized["indexByName"][field])
    titles = organized["renameByName"]
    overrides = {
        override["matcher"]["options"]: {each["id"]: each["value"] for each in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }
    [order] = panel["options"]["sortBy"]
    by = next(field for field in fields if titles[field] == order["displayName"])
    rows.sort(key=lambda row: _key(row.get(by)), reverse=order["desc"])
    default_unit = panel["fieldConfig"]["defaults"]["unit"]
    return [
        Column(
            titles[field],
            overrides.get(titles[field], {}).get("custom.width", 0),
            [_cell(row.get(field), overrides.get(titles[field], {}), default_unit, now_seconds) for row in rows],
        )
        for field in fields
    ]


def _rows(answered: Sequence[Sequence[Series]]) -> list[dict[str, Cell]]:
    is_alone = len(answered) == 1
    return [
        {**series.labels, "Value" if is_alone else f"Value #{chr(ord('A') + index)}": series.last}
        for index, found in enumerate(answered)
        for series in found
    ]


def _merged(rows: Sequence[dict[str, Cell]]) -> list[dict[str, Cell]]:
    """Rows that contradict each other nowhere, and share something, are one."""
    whole: list[dict[str, Cell]] = []
    for row in rows:
        for other in whole:
            shared = row.keys() & other.keys()
            if shared and all(row[field] == other[field] for field in shared):
                other.update(row)
                break
        else:
            whole.append(dict(row))
    return whole


def _key(cell: Cell | None) -> tuple[int, float, str]:
    if cell is None:
        return 2, 0.0, ""
    return (1, 0.0, cell) if isinstance(cell, str) else (0, -math.inf if math.isnan(cell) else cell, "")


def _cell(cell: Cell | None, properties: Json, default_unit: str, now_seconds: float) -> tuple[str, str]:
    if cell is None:
        return "", ""
    found = mapped(cell, properties.get("mappings", []))
    if found is not None:
        return found
    if isinstance(cell, str):
        return cell, ""
    text = formatted(cell, properties.get("unit", default_unit), now_seconds)
    return text, colour_of(cell, properties["thresholds"]) if "thresholds" in properties else ""
