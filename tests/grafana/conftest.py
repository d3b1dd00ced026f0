"""The dashboards as they are committed, and what their expressions are made of."""

import json
from typing import Any

import pytest

from grafana.__main__ import FOLDER
from tests.grafana.promql import Expression, parsed
from tests.grafana.rules import expressions

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(BOARDS[request.param])


@pytest.fixture(scope="session")
def found() -> dict[str, Expression]:
    return parsed(expression for each in BOARDS.values() for expression in expressions(each))
