"""Every rule holds for every dashboard, and is broken by a dashboard that breaks it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.grafana.conftest import BOARDS
from tests.grafana.known import metrics
from tests.grafana.promql import Expression, parsed
from tests.grafana.rules import EXCEPTIONS, LINTER_RULES, OWN_RULES, Rule, expressions, known_metrics, panels

Board = dict[str, Any]
RULES = {rule.__name__: rule for rule in (*LINTER_RULES, *OWN_RULES)}


def unexcepted(rule: Rule, board: Board, found: dict[str, Expression]) -> list[str]:
    excepted = tuple(f"{title}: " for name, title in EXCEPTIONS if name == rule.__name__)
    return [complaint for complaint in rule(board, found) if not (excepted and complaint.startswith(excepted))]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_kept(name: str, board: Board, found: dict[str, Expression]) -> None:
    assert unexcepted(RULES[name], board, found) == []


def test_every_exception_is_needed(found: dict[str, Expression]) -> None:
    for name, title in EXCEPTIONS:
        complaints = [complaint for board in BOARDS.values() for complaint in RULES[name](board, found)]
        assert any(complaint.startswith(f"{title}: ") for complaint in complaints), (name, title)


def test_every_metric_and_label_exists(board: Board, found: dict[str, Expression]) -> None:
    assert list(known_metrics(board, found, metrics())) == []


def first(board: Board, kind: str) -> Any:
    return next(panel for panel in board["panels"] if panel["type"] == kind)


def variable(board: Board, name: str) -> Any:
    return next(each for each in board["templating"]["list"] if each["name"] == name)


def asking(expression: str) -> Callable[[Board], None]:
    """Another question in the first panel."""
    return lambda board: first(board, "stat")["targets"][0].update(expr=expression)


MATCHED = 'job=~"$job", instance=~"$instance", route=~"$route"'
BREAKS: dict[str, Callable[[Board], object]] = {
    "template_datasource_rule": lambda board: variable(board, "datasource").update(name="source"),
    "template_job_rule": lambda board: variable(board, "job").update(allValue=".*"),
    "template_instance_rule": lambda board: variable(board, "instance").update(multi=False),
    "template_label_promql_rule": lambda board: variable(board, "job")["query"].update(query="label_values(a{, job)"),
    "template_on_time_change_reload_rule": lambda board: variable(board, "job").update(refresh=1),
    "template_unused_rule": lambda board: board["templating"]["list"].append(
        variable(board, "job") | {"name": "unused", "label": "Unused"}
    ),
    "uneditable_dashboard_rule": lambda board: board.update(editable=True),
    "panel_datasource_rule": lambda board: first(board, "table").update(datasource={"type": "prometheus", "uid": "x"}),
    "panel_title_description_rule": lambda board: first(board, "stat").update(description=""),
    "panel_units_rule": lambda board: first(board, "stat")["fieldConfig"]["defaults"].update(unit="apples"),
    "panel_no_targets_rule": lambda board: first(board, "stat").update(targets=[]),
    "target_promql_rule": asking("sum by (route (up)"),
    "target_rate_interval_rule": asking(f"rate(binlock_proxy_sessions_total{{{MATCHED}}}[5m])"),
    "target_job_rule": asking('up{job="proxy", instance=~"$instance"}'),
    "target_instance_rule": asking('up{job=~"$job"}'),
    "target_counter_agg_rule": asking(f"sum(binlock_proxy_sessions_total{{{MATCHED}}})"),
    "target_histogram_rule": asking(f"rate(binlock_proxy_tls_handshake_seconds_bucket{{{MATCHED}}}[$__rate_interval])"),
    "grid_rule": lambda board: first(board, "table")["gridPos"].update(y=0),
    "colour_rule": lambda board: first(board, "stat")["fieldConfig"]["defaults"]["thresholds"]["steps"].append(
        {"color": "green", "value": 5}
    ),
    "links_rule": lambda board: board.update(links=[]),
    "legend_rule": lambda board: first(board, "timeseries")["targets"][0].update(legendFormat="{{peer}}"),
    "column_rule": lambda board: first(board, "table")["targets"].pop(),
}


UNKNOWN = [
    f"sum(binlock_proxy_sesions_active{{{MATCHED}}})",
    f'sum(binlock_proxy_sessions_active{{{MATCHED}, peer="x"}})',
    f"sum by (peer) (binlock_proxy_sessions_active{{{MATCHED}}})",
    'sum(binlock_proxy_sessions_active{job=~"$job", instance=~"$instance"})',
]


def broken(by: Callable[[Board], object]) -> Board:
    board: Board = copy.deepcopy(BOARDS["binlock-proxy"])
    by(board)
    return board


@pytest.fixture(scope="module")
def found_in_broken() -> dict[str, Expression]:
    boards = map(broken, [*BREAKS.values(), *map(asking, UNKNOWN)])
    return parsed(expression for board in boards for expression in expressions(board))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_can_be_broken(name: str, found_in_broken: dict[str, Expression]) -> None:
    assert unexcepted(RULES[name], broken(BREAKS[name]), found_in_broken) != []


@pytest.mark.parametrize("expression", UNKNOWN)
def test_a_metric_or_label_that_does_not_exist_is_found(
    expression: str, found_in_broken: dict[str, Expression]
) -> None:
    assert list(known_metrics(broken(asking(expression)), found_in_broken, metrics())) != []


def test_every_metric_of_the_programs_is_on_a_dashboard_or_is_said_not_to_be(found: dict[str, Expression]) -> None:
    shown = {
        selector.metric
        for board in BOARDS.values()
        for text in expressions(board)
        for selector in found[text].selectors
    }
    ours = {name for name in metrics() if name.startswith("binlock_")}
    assert ours - shown == {"binlock_proxy_tls_handshake_seconds_count"} | {
        f"binlock_proxy_{name}_sum" for name in ("tls_handshake_seconds", "semisync_ack_seconds")
    }


def test_every_dashboard_has_panels_of_each_kind_of_question() -> None:
    assert {uid: len(panels(board)) >= 10 for uid, board in BOARDS.items()} == dict.fromkeys(BOARDS, True)
