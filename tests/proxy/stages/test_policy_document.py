"""docs/policy.md stays true: its lists are the code's, and what it says is admitted is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from proxy.sql.backup import FORMS
from proxy.sql.queries import CustomQueries
from proxy.sql.vocabulary import FUNCTIONS, SESSION_VARIABLES
from proxy.stages.policy import CommandDenied, Policy
from tests.proxy.sql.test_backup import CHANGES, DUMPS
from wire.commands import Command, OtherCommand, Query

TEXT = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()


def section(title: str) -> str:
    """What stands under a heading, up to the next of any level."""
    _, _, rest = TEXT.partition(f"\n{title}\n")
    assert rest, title
    return re.split(r"\n#+ ", rest)[0]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_session_variables_are_those_of_the_code() -> None:
    assert set(quoted(section("### Session variables"))) == SESSION_VARIABLES


def test_the_functions_are_those_of_the_code() -> None:
    assert set(quoted(section("### Functions"))) == FUNCTIONS


def test_the_forms_are_those_of_the_code() -> None:
    assert {form for row in rows(section("## `backup`")) for form in quoted(row[0])} == set(FORMS)


def replication_queries() -> list[str]:
    return [
        query for row in rows(section("## `replication`")) for query in quoted(row[0]) if query != "rpl_io_monitor.cc"
    ]


@pytest.mark.parametrize("text", replication_queries())
def test_every_query_that_is_named_is_admitted(text: str) -> None:
    Policy("replication").begin(may_kill=lambda _: True).judge(Query(text.encode()))


@pytest.mark.parametrize("command", [command for command in Command if command is not Command.COM_QUERY])
def test_the_table_of_commands(command: Command) -> None:
    table = {
        name: row[1:] for row in rows(TEXT.partition("\n| command |")[2]) for name in re.findall(r"COM_\w+", row[0])
    }
    table |= {name: ["yes"] * 3 for name in ("COM_REGISTER_SLAVE", "COM_BINLOG_DUMP", "COM_BINLOG_DUMP_GTID")}
    said = table.get(command.name, ["no", "no", "yes"])
    if said[0] == "yes" and command.name not in {"COM_PING", "COM_QUIT"}:
        return
    for policy, answer in zip(("replication", "backup", "any"), said, strict=True):
        judge = Policy(policy).begin()  # type: ignore[arg-type]
        if answer == "no" or (command is Command.COM_REFRESH and policy == "backup"):
            with pytest.raises(CommandDenied):
                judge.judge(OtherCommand(command))
        else:
            judge.judge(OtherCommand(command))
    if command is Command.COM_REFRESH:
        Policy("backup").begin().judge(OtherCommand(command, b"\x02"))


def test_what_is_to_be_added_can_be_added() -> None:
    [snippet] = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    [route] = tomllib.loads(snippet)["route"]
    queries = CustomQueries(route["queries"])
    judge = Policy(route["policy"], queries).begin(charset=45)
    for text in ("SELECT VERSION()", "SHOW VARIABLES LIKE 'log_bin'", "SHOW MASTER STATUS", "SHOW BINARY LOGS"):
        judge.judge(Query(text.encode()))


def test_every_form_has_its_examples() -> None:
    """So that what the tests admit and refuse covers what the document lists."""
    heads = {re.sub(r"^/\*M?!\d+ ", "", text).split()[0].upper() for text in DUMPS}
    assert heads == set(FORMS)
    assert {text.split()[0].upper() for text in CHANGES if text.strip()} >= set(FORMS) - {"BEGIN"}
