"""One function for each kind of panel."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from grafana import style
from grafana.drawing.answers import Series, Window, named
from grafana.drawing.canvas import EDGE, FAINT, TEXT, Box, Canvas, width_of
from grafana.drawing.tables import columns
from grafana.drawing.units import colour_of, formatted, mapped
from grafana.style import Json

_PALETTE = (style.SKY, style.ORANGE, style.GREEN, style.PURPLE, style.YELLOW, style.VERMILION, style.BLUE, style.GREY)
_LINE = 19
_Named = list[tuple[str, Series, str]]


def draw_stat(canvas: Canvas, box: Box, panel: Json, answered: Sequence[Sequence[Series]], window: Window) -> None:
    """One number in the middle, or a name."""
    defaults = panel["fieldConfig"]["defaults"]
    found = [(target, series) for target, each in zip(panel["targets"], answered, strict=True) for series in each]
    text, colour = defaults["noValue"], FAINT
    if found:
        target, series = found[0]
        value = series.last
        if panel["options"]["textMode"] == "name":
            text, colour = named(series, target["legendFormat"]), style.PLAIN
        else:
            shown = formatted(value, defaults["unit"], window.end, defaults.get("decimals"))
            text, colour = mapped(value, defaults["mappings"]) or (shown, colour_of(value, defaults["thresholds"]))
    size = min(34.0, 34.0 * (box.width - 24) / max(1.0, width_of(text, 34, is_bold=True)))
    canvas.text(
        box.x + box.width / 2, box.y + box.height / 2, text, size=size, colour=colour, is_bold=True, align="center"
    )


def draw_timeseries(
    canvas: Canvas, box: Box, panel: Json, answered: Sequence[Sequence[Series]], window: Window
) -> None:
    """Lines, areas or bars, and a legend with the last and the highest value below."""
    defaults = panel["fieldConfig"]["defaults"]
    shown = _named_series(panel, answered)
    rows = min(len(shown), max(1, int(box.height * 0.36 / _LINE) - 1))
    legend = _LINE * (rows + 1)
    axes = canvas.chart(box.inside(58, 6, 10, legend + 26))
    axes.set_xlim(window.start, window.end)
    parts = max(1, min(4, int(box.width / 110)))
    axes.set_xticks([window.start + (window.end - window.start) * part / parts for part in range(parts + 1)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: _clock(seconds)))
    # The outermost would stand out over the panel's edge.
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")
    if defaults["custom"]["stacking"]["mode"] == "normal":
        _stack(axes, shown, window, defaults["custom"])
    else:
        _lines(axes, shown, defaults["custom"])
    _scale(axes, panel, window)
    _legend(canvas, Box(box.x, box.y + box.height - legend, box.width, legend), panel, shown, window)


def draw_timeline(canvas: Canvas, box: Box, panel: Json, answered: Sequence[Sequence[Series]], window: Window) -> None:
    """A bar for each series, in the colours of its states."""
    defaults = panel["fieldConfig"]["defaults"]
    shown = _named_series(panel, answered)
    label = min(box.width * 0.45, 24 + max((width_of(name, 11.5) for name, _, _ in shown), default=0.0))
    area = box.inside(label, 4, 12, 26)
    height = min(44.0, area.height / max(1, len(shown)))
    scale = area.width / (window.end - window.start)
    for index, (name, series, _) in enumerate(shown):
        y = area.y + index * height
        canvas.text(area.x - 8, y + height / 2, name, size=11.5, align="right", room=label - 12)
        for begin, end, value in _stretches(series, window):
            text, colour = mapped(value, defaults["mappings"]) or (
                formatted(value, defaults["unit"], window.end),
                style.PLAIN,
            )
            width = max(1.0, (end - begin) * scale)
            place = Box(area.x + (begin - window.start) * scale, y + 3, width, height - 6)
            canvas.rectangle(place, colour, 0.85)
            if width > width_of(text, 11) + 10:
                canvas.text(place.x + 6, y + height / 2, text, size=11, colour="#000000")
    parts = max(1, min(4, int(area.width / 110)))
    for part in range(parts + 1):
        at = window.start + (window.end - window.start) * part / parts
        x = area.x + area.width * part / parts
        align = "right" if part == parts else "left" if part == 0 else "center"
        canvas.text(
            x,
            box.y + box.height - 12,
            _clock(at),
            size=10.5,
            colour=FAINT,
            align=align,
        )


def draw_table(canvas: Canvas, box: Box, panel: Json, answered: Sequence[Sequence[Series]], window: Window) -> None:
    """Rows as many as there is room for."""
    shown = columns(panel, answered, window.end)
    inner = box.inside(12, 0, 12, 8)
    free = inner.width - sum(column.width for column in shown)
    flexible = sum(1 for column in shown if not column.width)
    # As in Grafana, columns without a width of their own share what is left.
    shrink = 1.0 if free > 90 * flexible or not flexible else (inner.width - 90 * flexible) / (inner.width - free)
    rest = (inner.width - shrink * sum(column.width for column in shown)) / max(1, flexible)
    most = int((inner.height - _LINE) / 27)
    x = inner.x
    if not shown or not shown[0].cells:
        canvas.text(
            box.x + box.width / 2,
            box.y + box.height / 2,
            panel["fieldConfig"]["defaults"]["noValue"],
            colour=FAINT,
            align="center",
        )
        return
    for column in shown:
        width = column.width * shrink if column.width else rest
        canvas.text(x, inner.y + 10, column.title, size=11.5, colour=style.SKY, room=width - 6)
        for index, (text, colour) in enumerate(column.cells[:most]):
            y = inner.y + _LINE + 17 + index * 27
            canvas.text(x, y, text, size=12, colour=colour or TEXT, room=width - 6)
        x += width
    for index in range(min(most, len(shown[0].cells))):
        canvas.line(inner.x, inner.y + _LINE + 3 + index * 27, inner.width)


def _named_series(panel: Json, answered: Sequence[Sequence[Series]]) -> _Named:
    fixed = {
        override["matcher"]["options"]: each["value"]["fixedColor"]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "color"
    }
    found = sorted(
        (
            (named(series, target["legendFormat"]), series)
            for target, each in zip(panel["targets"], answered, strict=True)
            for series in each
        ),
        key=lambda pair: pair[0],
    )
    mode = panel["fieldConfig"]["defaults"]["color"]
    palette = (mode["fixedColor"], style.GREY) if mode["mode"] == "shades" else _PALETTE
    free = [colour for colour in palette if colour not in fixed.values()]
    return [(name, series, fixed.get(name, free[index % len(free)])) for index, (name, series) in enumerate(found)]


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"


def _lines(axes: Axes, shown: _Named, custom: Json) -> None:
    is_stepped = custom["lineInterpolation"] == "stepAfter"
    for _, series, colour in shown:
        times = [time for time, _ in series.points]
        values = [value for _, value in series.points]
        if custom["drawStyle"] == "bars":
            axes.bar(times, values, width=(times[1] - times[0]) * 0.8 if len(times) > 1 else 0.0001, color=colour)
            continue
        axes.plot(times, values, color=colour, linewidth=1.6, drawstyle="steps-post" if is_stepped else "default")
        axes.fill_between(times, values, color=colour, alpha=0.08, linewidth=0, step="post" if is_stepped else None)


def _stack(axes: Axes, shown: _Named, window: Window, custom: Json) -> None:
    count = round((window.end - window.start) / window.step) + 1
    times = [window.start + index * window.step for index in range(count)]
    base = [0.0] * count
    for _, series, colour in shown:
        at = {
            round((time - window.start) / window.step): value for time, value in series.points if not math.isnan(value)
        }
        top = [low + at.get(index, 0.0) for index, low in enumerate(base)]
        if custom["drawStyle"] == "bars":
            heights = [high - low for high, low in zip(top, base, strict=True)]
            axes.bar(times, heights, bottom=base, width=(times[1] - times[0]) * 0.9, color=colour, linewidth=0)
        else:
            axes.fill_between(times, base, top, color=colour, alpha=0.75, linewidth=0, step="post")
        base = top


def _scale(axes: Axes, panel: Json, window: Window) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    if "min" in defaults:
        high = max(axes.get_ylim()[1], 1e-9)
        axes.set_ylim(defaults["min"], defaults.get("max", high))
    low, high = axes.get_ylim()
    if defaults["custom"]["thresholdsStyle"]["mode"] != "off":
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is not None and low < step["value"] < high:
                axes.axhline(step["value"], color=step["color"], linewidth=1, linestyle=(0, (5, 4)))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: formatted(round(value, 9), defaults["unit"], window.end))
    )


def _legend(canvas: Canvas, box: Box, panel: Json, shown: _Named, window: Window) -> None:
    rows = round(box.height / _LINE) - 1
    last, most = box.x + box.width - 92, box.x + box.width - 12
    has_last = "lastNotNull" in panel["options"]["legend"]["calcs"]
    unit = panel["fieldConfig"]["defaults"]["unit"]
    canvas.text(box.x + 14, box.y + 8, "Name", size=10.5, colour=FAINT)
    canvas.text(most, box.y + 8, "Max", size=10.5, colour=FAINT, align="right")
    if has_last:
        canvas.text(last, box.y + 8, "Last", size=10.5, colour=FAINT, align="right")
    ranked = sorted(shown, key=lambda each: -_highest(each[1]))
    for index, (name, series, colour) in enumerate(ranked[:rows]):
        y = box.y + _LINE * (index + 1) + 6
        more = len(shown) - rows if index == rows - 1 else 0
        canvas.rectangle(Box(box.x + 14, y - 2, 14, 4), colour)
        canvas.text(box.x + 34, y, name + (f"  (+ {more} more)" if more else ""), size=11, room=last - box.x - 100)
        if has_last:
            canvas.text(last, y, formatted(series.last, unit, window.end), size=11, align="right")
        canvas.text(most, y, formatted(_highest(series), unit, window.end), size=11, align="right")
    if not shown:
        canvas.text(box.x + box.width / 2, box.y - 60, "no data", colour=EDGE, align="center")


def _highest(series: Series) -> float:
    return max((value for _, value in series.points if not math.isnan(value)), default=math.nan)


def _stretches(series: Series, window: Window) -> list[tuple[float, float, float]]:
    """Begin, end and value of each time in which the value stays the same."""
    found: list[tuple[float, float, float]] = []
    for time, value in series.points:
        if found and found[-1][2] == value and time - found[-1][1] <= window.step * 1.5:
            found[-1] = (found[-1][0], time, value)
        else:
            found.append((time, time, value))
    return [(begin, min(end + window.step, window.end), value) for begin, end, value in found]
