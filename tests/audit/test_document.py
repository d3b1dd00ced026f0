"""docs/audit.md and the code agree: checks, fields, metrics, options, GRANTs, the table of the sloppy pair."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from audit.command_line import main
from audit.dsn import _OPTIONS
from audit.findings import Status
from audit.reports.structured import finding_fields, textfile_lines
from audit.sessions import OPTIONS
from testbed.flavours import Flavour
from tests.audit.document import table_of_checks
from tests.audit.facts_of import findings, source
from tests.integration.audit_stand import STRONG, least_privilege
from tests.integration.audit_table import EXPECTED, table

DOCUMENT = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
LINES = DOCUMENT.splitlines()


def names(title: str) -> list[str]:
    start = next(number for number, line in enumerate(LINES) if line.startswith(f"| {title} |")) + 2
    rows = []
    for line in LINES[start:]:
        if not line.startswith("|"):
            break
        rows += re.findall(r"`([\w-]+)[^`]*`", line.split("|")[1])
    return rows


@pytest.mark.parametrize("rows", [table_of_checks(), table()], ids=["checks", "the sloppy pair"])
def test_tables_are_those_of_the_code(rows: list[str]) -> None:
    assert "\n".join(rows) + "\n" in DOCUMENT


def test_the_sloppy_pair_is_asked_everything() -> None:
    assert list(EXPECTED) == [line.split("`")[1] for line in table_of_checks()[2:]]


def test_fields_are_those_of_json() -> None:
    assert names("field") == list(finding_fields(findings(source())[0]))


def test_metrics_are_those_of_the_textfile() -> None:
    assert names("metric") == [line.split()[2] for line in textfile_lines([], 0) if line.startswith("# TYPE")]


def test_options_of_a_dsn_are_those_that_there_are() -> None:
    start = LINES.index(
        "| `ssl-ca` | a file of authorities that the server's certificate must lead to; without it, the system's |"
    )
    table_text = "\n".join(LINES[start : LINES.index("", start)])
    assert sorted(
        re.findall(r"`([a-z-]+)`", "\n".join(row.split("|")[1] for row in table_text.splitlines()))
    ) == sorted(_OPTIONS)


def test_options_of_a_url_are_those_that_there_are() -> None:
    assert names("option of the URL") == list(OPTIONS)


def test_options_are_those_that_are_offered(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    offered = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    own = "\n".join(line for line in LINES if not line.startswith("binlock-certs "))
    assert set(re.findall(r"--[a-z][a-z-]+", own)) - {"--json"} == offered - {"--json"}


def test_every_status_is_explained() -> None:
    assert all(f"`{status}`" in DOCUMENT for status in Status)


@pytest.mark.parametrize("flavour", [Flavour.MYSQL_9_7, Flavour.MARIADB_11_8])
def test_grants_are_those_that_are_tried(flavour: Flavour) -> None:
    statements = [statement.replace(STRONG, "...") for statement in least_privilege(flavour, "auditor@'10.20.0.%'")]
    assert ";\n".join(statements) + ";" in DOCUMENT
