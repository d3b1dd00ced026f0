"""The runbooks: one for each alert, and all that one tells a person on call to type exists."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from audit.command_line import main as audit_main
from certs.command_line import main as certs_main
from monitor.command_line import main as monitor_main
from proxy.command_line import main as proxy_main
from proxy.outcomes import Reason
from tests.grafana.alert_rules import ALERTS, GRAFANA, RUNBOOKS, known_metrics
from tests.grafana.promql import parsed
from tests.grafana.test_alert_rules import mistakes, unknown_values

ROOT = GRAFANA.parent
PATHS = sorted(RUNBOOKS.glob("*.md"))
MAINS = {
    "binlock-proxy": proxy_main,
    "binlock-monitor": monitor_main,
    "binlock-certs": certs_main,
    "binlock-audit": audit_main,
}
SOURCES = [path.read_text() for package in ("proxy", "monitor") for path in (ROOT / package).glob("**/*.py")]
SETTINGS = (ROOT / "docs" / "configuration.md").read_text()


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a runbook."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [text for word, text in fenced if word == language]


def queries(path: Path) -> list[str]:
    """PromQL: a line of a block each, and what stands in a sentence and begins with a metric or a function of one."""
    inline = re.findall(r"`((?:\w+\()?(?:\w+ by \(\w+\) \()?binlock_[^`]*)`", path.read_text())
    return [line for block in blocks(path, "promql") for line in block.splitlines()] + inline


def commands(path: Path) -> list[str]:
    """Every command line of Binlock's programs, in blocks and in sentences."""
    fenced = r"^```\w*\n.*?^```$"
    text = re.sub(fenced, "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]*)`", text)]
    lines = [line for block in blocks(path, "") for line in block.splitlines()]
    return [line.partition("|")[0] for line in [*inline, *lines] if re.match(rf"({'|'.join(MAINS)}) ", line)]


def offered(program: str, command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The options of a command, from its help."""
    words = [] if program == "binlock-audit" else [command]
    try:
        status: object = MAINS[program]([*words, "--help"])
    except SystemExit as ended:
        status = ended.code
    assert status == 0, f"{program} has no command {command}"
    return set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


def test_each_alert_has_one_and_each_belongs_to_an_alert() -> None:
    assert {path.stem for path in PATHS} == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_each_says_what_it_means_where_to_look_what_to_do_and_when_it_is_over(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {path.stem}\n\n")
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == ["Look", "Do", "Over"]
    look, _, rest = text.partition("## Do")
    assert "```" in look
    assert "```promql" in rest.partition("## Over")[2]


def test_every_query_parses_and_asks_for_what_exists() -> None:
    asked = parsed(query for path in PATHS for query in queries(path))
    assert len(asked) > len(PATHS)
    assert mistakes(asked, known_metrics()) == []
    assert unknown_values(asked) == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_command_and_option_exists(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in commands(path):
        program, command, *_ = line.split()
        missing = set(re.findall(r"--[a-z-]+", line)) - offered(program, command, capsys)
        assert not missing, f"{line}: no option {missing}"


class Understood(BaseException):
    """A command line was parsed: nothing of it is to be run."""


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_command_of_a_block_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def only_parse(parser: argparse.ArgumentParser, words: list[str]) -> None:
        parse(parser, words)
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    for line in (line for block in blocks(path, "") for line in block.splitlines() if line.startswith(tuple(MAINS))):
        program, *words = line.partition("|")[0].split()
        with pytest.raises(Understood):
            MAINS[program](words)


def test_there_are_commands_to_judge_and_a_wrong_one_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert len([line for path in PATHS for line in commands(path)]) > 20
    with pytest.raises(AssertionError, match="no command renews"):
        offered("binlock-certs", "renews", capsys)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_what_is_named_exists(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([\w.]+)\)", text):
        assert (RUNBOOKS / target).is_file(), target
    for target in re.findall(r"\bdocs/\w+\.md", text):
        assert (ROOT / target).is_file(), target
    for event in re.findall(r'\.event == "(\w+)"', text):
        assert any(f'"{event}"' in source for source in SOURCES) or event.startswith("flow_"), event
    for reason in re.findall(r'\.reason == "(\w+)"', text):
        assert reason in set(Reason), reason
    for key in re.findall(r"\blimits\.\w+|\badmin\.\w+", text):
        assert f"`{key}`" in SETTINGS, key


@pytest.mark.parametrize("name", ["BinlockHandshakeFailures", "BinlockReplicaRefused"])
def test_reasons_of_a_table_are_reasons(name: str) -> None:
    table = re.findall(r"^\| (`.*?) \|", (RUNBOOKS / f"{name}.md").read_text(), flags=re.MULTILINE)
    reasons = {reason for cell in table for reason in re.findall(r"`(\w+)`", cell)}
    assert len(reasons) > 8
    assert reasons <= set(Reason)
