"""Panels in Grafana's classic form, https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/.

A panel is made without a place: `frame` lays panels out in rows from left to right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana.style import COLOURS, LABEL_COLOURS, NEUTRAL, Json

DATA_SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
_TOOLTIP: Json = {"mode": "multi", "sort": "desc"}


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and what its series are called; `{{label}}` stands for a label's value."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """How a table shows one of its columns.

    Attributes:
        field: the name that Grafana gives it: a label, or `Value #A` for what the first query says.
        title: what stands above it.
        unit: of Grafana; none for text.
        mappings: texts in the place of values.
        thresholds: colours of the text; none for plain text.
        width: in pixels; 0 leaves it to Grafana.
    """

    field: str
    title: str
    unit: str = ""
    mappings: Sequence[Json] = ()
    thresholds: Json | None = None
    width: int = 0


def stat(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str = "short",
    thresholds: Json = NEUTRAL,
    mappings: Sequence[Json] = (),
    decimals: int | None = None,
    shows_name: bool = False,
    size: tuple[int, int] = (4, 4),
) -> Json:
    """One number, or a few, as they are now.

    Args:
        title: of the panel.
        description: what it says and where it is from.
        queries: one a number.
        unit: of Grafana.
        thresholds: from `style`.
        mappings: from `style`.
        decimals: how many; None leaves it to Grafana.
        shows_name: shows the legends and not the numbers.
        size: width and height; the page is 24 wide.
    """
    defaults: Json = {
        "unit": unit,
        "color": {"mode": "thresholds"},
        "thresholds": thresholds,
        "mappings": list(mappings),
        "noValue": "no data",
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    options: Json = {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "showPercentChange": False,
        "textMode": "name" if shows_name else "auto",
        "wideLayout": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    fields: Json = {"defaults": defaults, "overrides": []}
    return _panel("stat", title, description, queries, size=size, field_config=fields, options=options, instant=True)


def timeseries(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str = "short",
    least: float | None = 0,
    most: float | None = None,
    thresholds: Json = NEUTRAL,
    is_stacked: bool = False,
    draws_bars: bool = False,
    is_stepped: bool = False,
    shades_of: str = "",
    size: tuple[int, int] = (8, 8),
) -> Json:
    """Lines, or stacked areas or bars, over time, with a table of their last and highest values below.

    Args:
        title: of the panel.
        description: what it says and where it is from.
        queries: of the series.
        unit: of Grafana.
        least: where the axis begins.
        most: where it ends.
        thresholds: from `style`; drawn as lines if there is more than one.
        is_stacked: whether series stand upon each other.
        draws_bars: bars, for what happens now and then.
        is_stepped: for values that jump.
        shades_of: the one colour of all series; empty for a palette.
        size: width and height; the page is 24 wide.
    """
    custom: Json = {
        "drawStyle": "bars" if draws_bars else "line",
        "lineInterpolation": "stepAfter" if is_stepped else "linear",
        "lineWidth": 1 if draws_bars else 2,
        "fillOpacity": 60 if draws_bars or is_stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "axisPlacement": "auto",
        "scaleDistribution": {"type": "linear"},
        "stacking": {"mode": "normal" if is_stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if len(thresholds["steps"]) > 1 else "off"},
    }
    defaults: Json = {
        "unit": unit,
        "color": {"mode": "shades", "fixedColor": shades_of} if shades_of else {"mode": "palette-classic-by-name"},
        "thresholds": thresholds,
        "custom": custom,
        "noValue": "no data",
    }
    if least is not None:
        defaults["min"] = least
    if most is not None:
        defaults["max"] = most
    # The last bar of what happens now and then may be long ago.
    calculated = ["max"] if draws_bars else ["lastNotNull", "max"]
    options: Json = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": calculated},
        "tooltip": _TOOLTIP,
    }
    overrides = [_fixed_colour(name, colour) for name, colour in _colours(queries).items()]
    fields: Json = {"defaults": defaults, "overrides": overrides}
    return _panel("timeseries", title, description, queries, size=size, field_config=fields, options=options)


def timeline(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    mappings: Sequence[Json],
    unit: str = "short",
    size: tuple[int, int] = (12, 6),
) -> Json:
    """States over time, a line each."""
    defaults: Json = {
        "unit": unit,
        "color": {"mode": "thresholds"},
        "thresholds": NEUTRAL,
        "mappings": list(mappings),
        "custom": {"fillOpacity": 80, "lineWidth": 0},
        "noValue": "no data",
    }
    options: Json = {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    fields: Json = {"defaults": defaults, "overrides": []}
    return _panel("state-timeline", title, description, queries, size=size, field_config=fields, options=options)


def table(
    title: str,
    description: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    *,
    sort_by: str,
    descending: bool = False,
    hidden: Sequence[str] = (),
    size: tuple[int, int] = (12, 8),
) -> Json:
    """What is true now, a row for each set of labels; rows of several queries with the same labels are one.

    Args:
        title: of the panel.
        description: what it says and where it is from.
        queries: of the columns of values.
        columns: in order, from left to right.
        sort_by: the title of a column.
        descending: the largest first.
        hidden: fields of Grafana that are not shown, beside the time.
        size: width and height; the page is 24 wide.
    """
    defaults: Json = {
        "unit": "short",
        "color": {"mode": "thresholds"},
        "thresholds": NEUTRAL,
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": False},
        "noValue": "no data",
    }
    options: Json = {
        "cellHeight": "sm",
        "frameIndex": 0,
        "showHeader": True,
        "sortBy": [{"displayName": sort_by, "desc": descending}],
    }
    organized: Json = {
        "excludeByName": dict.fromkeys(["Time", *hidden], True),
        "indexByName": {column.field: index for index, column in enumerate(columns)},
        "renameByName": {column.field: column.title for column in columns},
    }
    fields: Json = {"defaults": defaults, "overrides": [_column(column) for column in columns if _is_special(column)]}
    panel = _panel("table", title, description, queries, size=size, field_config=fields, options=options, instant=True)
    panel["transformations"] = [{"id": "merge", "options": {}}, {"id": "organize", "options": organized}]
    return panel


def row(title: str) -> Json:
    """A heading; the panels below it can be folded away."""
    return {"type": "row", "title": title, "collapsed": False, "panels": []}


def _panel(
    kind: str,
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    size: tuple[int, int],
    field_config: Json,
    options: Json,
    instant: bool = False,
) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATA_SOURCE,
        "gridPos": {"w": size[0], "h": size[1]},
        "fieldConfig": field_config,
        "options": options,
        "targets": [_target(index, query, instant=instant, kind=kind) for index, query in enumerate(queries)],
    }


def _target(index: int, query: Query, *, instant: bool, kind: str) -> Json:
    return {
        "refId": chr(ord("A") + index),
        "datasource": DATA_SOURCE,
        "editorMode": "code",
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "format": "table" if kind == "table" else "time_series",
        "instant": instant,
        "range": not instant,
    }


def _colours(queries: Sequence[Query]) -> dict[str, str]:
    colours: dict[str, str] = {}
    for query in queries:
        colours |= LABEL_COLOURS.get(query.legend, {})
        if query.legend in COLOURS:
            colours[query.legend] = COLOURS[query.legend]
    return colours


def _fixed_colour(name: str, colour: str) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
    }


def _is_special(column: Column) -> bool:
    return bool(column.unit or column.mappings or column.thresholds or column.width)


def _column(column: Column) -> Json:
    properties: list[Mapping[str, object]] = []
    if column.unit:
        properties.append({"id": "unit", "value": column.unit})
    if column.mappings:
        properties.append({"id": "mappings", "value": list(column.mappings)})
    if column.thresholds is not None:
        properties.append({"id": "thresholds", "value": column.thresholds})
    if column.thresholds is not None or column.mappings:
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    if column.width:
        properties.append({"id": "custom.width", "value": column.width})
    return {"matcher": {"id": "byName", "options": column.title}, "properties": properties}
