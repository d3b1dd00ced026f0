"""The rules that the dashboards keep.

The first group are those of Grafana's dashboard-linter, https://github.com/grafana/dashboard-linter/blob/main/docs/index.md,
under its names; where that one looks at some kinds of panels, these look at all. The second group are ours.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from grafana import style
from tests.grafana.known import EVERYWHERE
from tests.grafana.promql import Expression

Json = dict[str, Any]
Expressions = Mapping[str, Expression]
Rule = Callable[[Json, Expressions], Iterator[str]]

# Rules that a panel does not keep, and why: by rule and title.
EXCEPTIONS = {
    ("target_counter_agg_rule", "Handshakes since the start"): "a kind that came once has no growth to show",
    ("target_counter_agg_rule", "TLS since the start"): "a kind that came once has no growth to show",
    ("target_counter_agg_rule", "Let pass since the start"): "what came once has no growth to show, and matters",
}
# From Grafana's list of units, those in use here: a unit that it does not know is shown as a suffix, without a word.
UNITS = {
    "short", "none", "bytes", "Bps", "cps", "pps", "s", "percentunit", "dateTimeAsIso", "dateTimeFromNow",
}  # fmt: skip
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COUNTS_GROWTH = {"rate", "irate", "increase"}


def panels(board: Json) -> list[Json]:
    """The panels, without the headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def targets(board: Json) -> Iterator[tuple[Json, str]]:
    """Every expression, with its panel."""
    for panel in panels(board):
        for target in panel["targets"]:
            yield panel, target["expr"]


def variables(board: Json) -> dict[str, Json]:
    """The variables, by name."""
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def expressions(board: Json) -> Iterator[str]:
    """Every PromQL expression of a dashboard, those of variables and annotations among them."""
    yield from (expression for _, expression in targets(board))
    yield from (annotation["target"]["expr"] for annotation in board["annotations"]["list"])
    yield from (selector for selector, _ in labels_of_variables(board))


def labels_of_variables(board: Json) -> Iterator[tuple[str, str]]:
    """Selector and label of each variable that takes a label's values."""
    for variable in variables(board).values():
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            yield found.groups() if found else ("", "")  # type: ignore[misc]


def template_datasource_rule(board: Json, _: Expressions) -> Iterator[str]:
    """There is one variable for the data source, by the usual name."""
    found = [each for each in board["templating"]["list"] if each["type"] == "datasource"]
    if [(each["name"], each["label"], each["query"]) for each in found] != [
        ("datasource", "Data source", "prometheus")
    ]:
        yield "no variable datasource, labelled Data source, of Prometheus"


def _choice(board: Json, name: str) -> Iterator[str]:
    variable = variables(board).get(name)
    if variable is None:
        yield f"no variable {name}"
        return
    expected = {
        "type": "query",
        "label": name.capitalize(),
        "datasource": DATA_SOURCE,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
    }
    yield from (
        f"{name}: {key} is {variable.get(key)!r}" for key, value in expected.items() if variable.get(key) != value
    )


def template_job_rule(board: Json, _: Expressions) -> Iterator[str]:
    """One can choose jobs."""
    yield from _choice(board, "job")


def template_instance_rule(board: Json, _: Expressions) -> Iterator[str]:
    """One can choose instances."""
    yield from _choice(board, "instance")


def template_label_promql_rule(board: Json, found: Expressions) -> Iterator[str]:
    """Variables ask for a label's values, of a selector that can be parsed."""
    for selector, label in labels_of_variables(board):
        if not label or found[selector].errors:
            yield f"a variable asks for {selector!r}"


def template_on_time_change_reload_rule(board: Json, _: Expressions) -> Iterator[str]:
    """Variables are read again when the time changes."""
    for name, variable in variables(board).items():
        if variable["type"] == "query" and variable["refresh"] != 2:
            yield f"{name} is not read again"


def template_unused_rule(board: Json, _: Expressions) -> Iterator[str]:
    """Every variable is used."""
    text = " ".join(expression for _, expression in targets(board))
    for name, variable in variables(board).items():
        if variable["type"] == "query" and not re.search(rf"\${name}\b", text):
            yield f"{name} is used nowhere"


def uneditable_dashboard_rule(board: Json, _: Expressions) -> Iterator[str]:
    """What is changed by hand would be lost."""
    if board["editable"] is not False:
        yield "it can be edited"


def panel_datasource_rule(board: Json, _: Expressions) -> Iterator[str]:
    """Panels and queries take the data source that was chosen."""
    for panel in panels(board):
        for each in (panel, *panel["targets"]):
            if each.get("datasource") != DATA_SOURCE:
                yield f"{panel['title']}: data source {each.get('datasource')}"


def panel_title_description_rule(board: Json, _: Expressions) -> Iterator[str]:
    """Panels say what they are, in whole sentences."""
    for panel in panels(board):
        if not panel.get("title") or not panel.get("description", "").endswith("."):
            yield f"panel {panel['id']}: no title or no description"


def panel_units_rule(board: Json, _: Expressions) -> Iterator[str]:
    """Every panel, and every column that has its own, has a unit that Grafana knows."""
    for panel in panels(board):
        units = [panel["fieldConfig"]["defaults"].get("unit")]
        units += [
            each["value"]
            for override in panel["fieldConfig"]["overrides"]
            for each in override["properties"]
            if each["id"] == "unit"
        ]
        yield from (f"{panel['title']}: unit {unit}" for unit in units if unit not in UNITS)


def panel_no_targets_rule(board: Json, _: Expressions) -> Iterator[str]:
    """Every panel asks something."""
    yield from (f"{panel['title']} asks nothing" for panel in panels(board) if not panel.get("targets"))


def target_promql_rule(board: Json, found: Expressions) -> Iterator[str]:
    """Every expression can be parsed."""
    yield from (f"cannot be parsed: {each}" for each in expressions(board) if found[each].errors)


def target_rate_interval_rule(board: Json, found: Expressions) -> Iterator[str]:
    """Rates are over the interval that fits the scrapes; other ranges are the interval, or all that is shown."""
    for panel, expression in targets(board):
        for selector in found[expression].selectors:
            rate = bool({"rate", "irate"} & set(selector.functions[:1]))
            allowed = {"$__rate_interval"} if rate else {"", "$__rate_interval", "$__range"}
            if selector.range not in allowed:
                yield f"{panel['title']}: range {selector.range} in {expression}"


def _matcher(board: Json, found: Expressions, label: str) -> Iterator[str]:
    for panel, expression in targets(board):
        for selector in found[expression].selectors:
            if selector.matchers.get(label) != ("=~", f"${label}"):
                yield f"{panel['title']}: {selector.metric} without {label}"


def target_job_rule(board: Json, found: Expressions) -> Iterator[str]:
    """Every selector has the job that was chosen."""
    yield from _matcher(board, found, "job")


def target_instance_rule(board: Json, found: Expressions) -> Iterator[str]:
    """Every selector has the instance that was chosen."""
    yield from _matcher(board, found, "instance")


def target_counter_agg_rule(board: Json, found: Expressions) -> Iterator[str]:
    """A counter is shown by its growth."""
    for panel, expression in targets(board):
        for selector in found[expression].selectors:
            is_counter = (selector.metric or "").endswith(("_total", "_count", "_sum"))
            if is_counter and not COUNTS_GROWTH & set(selector.functions[:1]):
                yield f"{panel['title']}: {selector.metric} grows for ever"


def target_histogram_rule(board: Json, found: Expressions) -> Iterator[str]:
    """Buckets of a histogram are shown as quantiles."""
    for panel, expression in targets(board):
        for selector in found[expression].selectors:
            if (selector.metric or "").endswith("_bucket") and "histogram_quantile" not in selector.functions:
                yield f"{panel['title']}: buckets of {selector.metric}"


LINTER_RULES: tuple[Rule, ...] = (
    template_datasource_rule,
    template_job_rule,
    template_instance_rule,
    template_label_promql_rule,
    template_on_time_change_reload_rule,
    template_unused_rule,
    uneditable_dashboard_rule,
    panel_datasource_rule,
    panel_title_description_rule,
    panel_units_rule,
    panel_no_targets_rule,
    target_promql_rule,
    target_rate_interval_rule,
    target_job_rule,
    target_instance_rule,
    target_counter_agg_rule,
    target_histogram_rule,
)


def grid_rule(board: Json, _: Expressions) -> Iterator[str]:
    """Panels neither overlap nor leave the page, and each has its own number and title."""
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            yield f"{panel['title']} leaves the page"
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if taken.setdefault((x, y), panel["title"]) != panel["title"]:
                    yield f"{panel['title']} overlaps {taken[x, y]}"
                    return
    for key in ("id", "title"):
        values = [panel[key] for panel in board["panels"]]
        yield from (f"two panels have {key} {value}" for value in sorted(set(values)) if values.count(value) > 1)


def colour_rule(board: Json, _: Expressions) -> Iterator[str]:
    """Colours are those that people with colour deficiencies tell apart."""
    known = {value for name, value in vars(style).items() if name.isupper() and str(value).startswith("#")}

    def colours(value: object) -> Iterator[object]:
        if isinstance(value, dict):
            for key, each in value.items():
                if key in {"color", "fixedColor", "iconColor"} and isinstance(each, str):
                    yield each
                yield from colours(each)
        elif isinstance(value, list):
            for each in value:
                yield from colours(each)

    yield from (f"colour {colour}" for colour in set(colours(board)) - known)


def links_rule(board: Json, _: Expressions) -> Iterator[str]:
    """One comes from each dashboard to the others, with time and variables."""
    for link in board["links"]:
        if link["type"] == "dashboards" and set(link["tags"]) <= set(board["tags"]) and link["includeVars"]:
            return
    yield "no way to the other dashboards"


def legend_rule(board: Json, found: Expressions) -> Iterator[str]:
    """Series over time have names, made of labels that the query keeps."""
    for panel in panels(board):
        for target in panel["targets"]:
            legend, expression = target["legendFormat"], found[target["expr"]]
            if panel["type"] in {"timeseries", "state-timeline"} and legend == "__auto":
                yield f"{panel['title']}: series without a name"
            for label in re.findall(r"\{\{(\w+)\}\}", legend):
                if label not in expression.grouped | EVERYWHERE:
                    yield f"{panel['title']}: {label} is lost"


def column_rule(board: Json, found: Expressions) -> Iterator[str]:
    """A table's columns are what its queries have: labels that are kept, and values."""
    for panel in panels(board):
        if panel["type"] != "table":
            continue
        asked = panel["targets"]
        fields = {"Time", *(label for each in asked for label in found[each["expr"]].grouped)}
        fields |= {"Value"} if len(asked) == 1 else {f"Value #{each['refId']}" for each in asked}
        organized = panel["transformations"][-1]["options"]
        shown, hidden = set(organized["renameByName"]), set(organized["excludeByName"])
        yield from (f"{panel['title']}: there is no {field}" for field in (shown | hidden) - fields)
        yield from (f"{panel['title']}: {field} has no title" for field in fields - shown - hidden)
        titles = set(organized["renameByName"].values())
        named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        named |= {each["displayName"] for each in panel["options"]["sortBy"]}
        yield from (f"{panel['title']}: no column {title}" for title in named - titles)


OWN_RULES: tuple[Rule, ...] = (grid_rule, colour_rule, links_rule, legend_rule, column_rule)


def known_metrics(board: Json, found: Expressions, known: Mapping[str, set[str]]) -> Iterator[str]:
    """Every metric and label exists; one that has a route is narrowed by the route that was chosen."""
    for text in expressions(board):
        expression = found[text]
        labels = set(EVERYWHERE) | expression.made
        for selector in expression.selectors:
            names = _named(selector.metric, selector.matchers, known)
            if not names or names - known.keys():
                yield f"there is no {selector.metric or selector.matchers}"
                continue
            of_all = {label for name in names for label in known[name]} | EVERYWHERE | {"__name__"}
            labels |= of_all
            yield from (f"{selector.metric} has no {label}" for label in selector.matchers.keys() - of_all)
            has_to_be_narrowed = "route" in of_all and "route" in variables(board) and text not in _of_variables(board)
            if has_to_be_narrowed and selector.matchers.get("route") != ("=~", "$route"):
                yield f"{selector.metric} without the route that was chosen"
        yield from (f"nothing in {text} has {label}" for label in expression.grouped - labels)


def _of_variables(board: Json) -> set[str]:
    return {selector for selector, _ in labels_of_variables(board)}


def _named(metric: str | None, matchers: Mapping[str, tuple[str, str]], known: Mapping[str, set[str]]) -> set[str]:
    if metric is not None:
        return {metric}
    _, pattern = matchers["__name__"]
    return {name for name in known if re.fullmatch(pattern, name)}
