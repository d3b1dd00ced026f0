"""docs/reference-logs.md has every event that proxy and monitor log, at its levels, with its fields."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from monitor.tracking.flows import Change
from proxy.outcomes import Stage
from tests.documents.markdown import DOCS, ROOT, rows, section

PAGE = DOCS / "reference-logs.md"
TITLES = {"proxy": "## The proxy", "monitor": "## The monitor"}
# Fields that are put together elsewhere in the function that logs them.
BESIDES = {
    "command_refused": {"command", "query"},
    "would_refuse": {"stage", "command", "query"},
    "session_refused": {"stage"},
    "session_ended": {"reason", "detail"},
    "flow_changed": {"former_verdict"},
    "defect": {"traceback"},
}
# Levels that a variable holds.
HELD = {
    "session_refused": {"debug", "warning"},
    "flow_found": {"debug", "info", "warning"},
    "flow_changed": {"debug", "info", "warning"},
    "flow_ended": {"debug", "info"},
}


@dataclass
class Logged:
    """What the code says of one event."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    has_more: bool = False


def branches(node: ast.expr) -> tuple[ast.expr, ...]:
    return (node.body, node.orelse) if isinstance(node, ast.IfExp) else (node,)


def calls(package: str) -> Iterator[ast.Call]:
    for path in sorted((ROOT / package).glob("**/*.py")):
        if path.name == "logs.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield node


def logged(package: str) -> dict[str, Logged]:
    found: dict[str, Logged] = defaultdict(Logged)
    for call in calls(package):
        assert isinstance(call.func, ast.Name)
        if call.func.id == "log_defect":
            names, levels = ["defect"], {"error"}
        elif call.func.id == "log_event":
            level, event = call.args[:2]
            levels = {part.attr.lower() for part in branches(level) if isinstance(part, ast.Attribute)}
            names = [str(part.value) for part in branches(event) if isinstance(part, ast.Constant)]
            # `f"flow_{change}"`, the one name that is put together.
            names = names or [f"flow_{change}" for change in Change]
        else:
            continue
        for name in names:
            it = found[name]
            it.levels |= levels or HELD[name]
            it.fields |= {keyword.arg for keyword in call.keywords if keyword.arg} | BESIDES.get(name, set())
            it.has_more |= any(keyword.arg is None for keyword in call.keywords)
    return found


def documented(package: str) -> dict[str, list[str]]:
    found = {row[0].strip("`"): row[1:] for row in rows(section(PAGE, TITLES[package]))}
    assert len(found) > 10
    return found


@pytest.mark.parametrize("package", TITLES)
def test_every_event_is_there_and_no_other(package: str) -> None:
    assert documented(package).keys() == logged(package).keys()


@pytest.mark.parametrize("package", TITLES)
def test_levels_and_fields_are_those_of_the_code(package: str) -> None:
    in_code = logged(package)
    for event, (levels, fields, _) in documented(package).items():
        # One call may log either of two events at either of two levels; the page says which.
        assert set(levels.split(", ")) <= in_code[event].levels, event
        assert {*re.findall(r"`(\w+)`", fields)} - {"route_", "handed_over"} == in_code[event].fields, event
        assert ("*" in fields or "one field for each" in fields) == in_code[event].has_more, event


def test_the_stages_are_those_of_the_code() -> None:
    [line] = [line for line in PAGE.read_text().splitlines() if line.startswith("`stage` is one of")]
    assert re.findall(r"`(\w+)`", line)[1:] == [stage.value for stage in Stage]
