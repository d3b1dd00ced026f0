"""What Prometheus' own grammar, as its editor has it, finds in an expression of a dashboard."""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.node import NODE, packages

CHECKING = Path(__file__).parent / "checking"
# Grafana puts durations in the place of these; here they become ones that nobody would write, to be known again.
DURATIONS = {"$__rate_interval": "11m11s", "$__range": "22m22s"}


@dataclass(frozen=True)
class Selector:
    """One selector of an expression.

    Attributes:
        metric: its name; None where a matcher has it.
        matchers: by label: operator and value.
        range: the duration, with Grafana's variable in its place again; empty for an instant.
        functions: around it, the innermost first.
    """

    metric: str | None
    matchers: dict[str, tuple[str, str]]
    range: str
    functions: tuple[str, ...]


@dataclass(frozen=True)
class Expression:
    """What is found in an expression.

    Attributes:
        errors: places in the text at which it cannot be parsed.
        selectors: in order.
        grouped: labels of `by`, `on` and their like.
        made: labels that the expression makes itself.
    """

    errors: tuple[int, ...]
    selectors: tuple[Selector, ...]
    grouped: frozenset[str]
    made: frozenset[str]


def parsed(texts: Iterable[str]) -> dict[str, Expression]:
    """What is found in each expression, by its text."""
    wanted = sorted(set(texts))
    done = subprocess.run(
        [NODE, CHECKING / "promql.mjs", packages(CHECKING)],
        input=json.dumps([_with_durations(text) for text in wanted]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {text: _expression(found) for text, found in zip(wanted, json.loads(done.stdout), strict=True)}


def _with_durations(text: str) -> str:
    for variable, duration in DURATIONS.items():
        text = text.replace(variable, duration)
    return text


def _expression(found: dict[str, Any]) -> Expression:
    variables = {duration: variable for variable, duration in DURATIONS.items()}
    return Expression(
        errors=tuple(found["errors"]),
        selectors=tuple(
            Selector(
                metric=selector["metric"],
                matchers={each["label"]: (each["operator"], each["value"]) for each in selector["matchers"]},
                range=variables.get(selector["range"], selector["range"] or ""),
                functions=tuple(selector["functions"]),
            )
            for selector in found["selectors"]
        ),
        grouped=frozenset(found["grouped"]),
        made=frozenset(found["made"]),
    )
