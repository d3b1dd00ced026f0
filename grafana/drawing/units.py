"""Numbers with their units, as short as Grafana writes them."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from grafana.style import Json

_SPANS = ((1, "s"), (60, "min"), (3600, "h"), (86_400, "days"), (604_800, "weeks"), (31_536_000, "years"))
_SMALL = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"))
_SUFFIXES = {"cps": " c/s", "pps": " p/s", "short": ""}


def formatted(value: float, unit: str, now_seconds: float, decimals: int | None = None) -> str:
    """A value with its unit.

    Args:
        value: as Prometheus gave it.
        unit: by Grafana's name.
        now_seconds: since the epoch, for units that tell how long ago something was.
        decimals: how many; None for as many as make sense.
    """
    if math.isnan(value):
        return "-"
    if unit in _WRITERS:
        return _WRITERS[unit](value)
    if unit == "dateTimeFromNow":
        return f"{_span(now_seconds - value / 1000)} ago"
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return _scaled(value, 1000, ("", "K", "Mil", "Bil")) + _SUFFIXES.get(unit, f" {unit}")


def mapped(value: float | str, mappings: Sequence[Json]) -> tuple[str, str] | None:
    """Text and colour that stand in the place of a value; None if none do."""
    key = value if isinstance(value, str) else f"{value:g}"
    for mapping in mappings:
        options = mapping["options"]
        if mapping["type"] == "value" and key in options:
            return options[key]["text"], options[key]["color"]
        if mapping["type"] == "range" and not isinstance(value, str) and value >= options["from"]:
            return options["result"]["text"], options["result"]["color"]
    return None


def colour_of(value: float, thresholds: Json) -> str:
    """The colour of the highest threshold that a value reaches."""
    reached = [step for step in thresholds["steps"] if step["value"] is None or value >= step["value"]]
    return str(reached[-1]["color"])


def _short(value: float) -> str:
    if value == int(value):
        return f"{value:.0f}"
    magnitude = abs(value)
    text = f"{value:.{0 if magnitude >= 100 else 1 if magnitude >= 10 else 2 if magnitude >= 0.1 else 4}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scaled(value: float, base: int, names: Sequence[str]) -> str:
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value, power = value / base, power + 1
    return f"{_short(round(value, 2))} {names[power]}".rstrip()


def _span(seconds: float) -> str:
    size = abs(seconds)
    if size == 0:
        return "0 s"
    if size < 1:
        scale, name = next((each for each in reversed(_SMALL) if size >= each[0]), _SMALL[0])
    else:
        scale, name = next(each for each in reversed(_SPANS) if size >= each[0])
    shown = f"{seconds / scale:.3g}"
    return f"{shown} {name[:-1] if shown == '1' and len(name) > 3 else name}"


_WRITERS: dict[str, Callable[[float], str]] = {
    "s": _span,
    "bytes": lambda value: _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB")),
    "Bps": lambda value: _scaled(value, 1000, ("B/s", "kB/s", "MB/s", "GB/s", "TB/s")),
    "percentunit": lambda value: f"{_short(value * 100)} %",
    "dateTimeAsIso": lambda value: datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"),
    "none": lambda value: f"{value:.0f}",
}
