"""The command line: what it refuses, what it writes, what it exits with."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import audit.command_line
from audit.command_line import main
from audit.errors import ServerUnreadable
from audit.facts import ServerFacts
from audit.sessions import OPTIONS
from tests.audit.facts_of import replica, source

SOURCE, REPLICA = "mysql://a@source/", "mysql://a@replica/"
Serve = Callable[..., None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Servers that answer with these facts; reading real ones is tests/integration's business."""

    def answer(**facts: ServerFacts) -> None:
        def read(target: Any, role: Any, ask: Any) -> ServerFacts:
            if target.host not in facts:
                raise ServerUnreadable(f"{target.name}: nobody answers")
            return facts[target.host]

        monkeypatch.setattr(audit.command_line, "_read", read)

    return answer


def test_help_is_enough_for_a_stranger(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for word in ("--source", "ssl-ca=", "password-file=", "unsafe-plaintext=1", "exit codes:", "examples:", *OPTIONS):
        assert word in text


@pytest.mark.parametrize(
    "words",
    [[], ["--source"], ["--source", "x"], ["--source", SOURCE, "--fail-on", "pass"],
     ["--source", SOURCE, "--json", "--sarif"],
     ["--source", "mysql://root:hunter2@db/"], ["--source", SOURCE, "--binlock-sessions", "/none"]],
)  # fmt: skip
def test_misuse_is_one_line_and_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("binlock-audit: ")
    assert errors.count("\n") == 1
    assert "hunter2" not in errors


def test_exit_codes_say_what_was_found(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(source=source(), replica=replica())
    assert main(["--source", SOURCE, "--replica", REPLICA, "--fail-on", "warn", "--fail-on", "unknown"]) == 0
    serve(source=source(backup=None), replica=replica())
    assert main(["--source", SOURCE, "--replica", REPLICA]) == 0
    assert main(["--source", SOURCE, "--replica", REPLICA, "--fail-on", "unknown"]) == 1
    serve(source=source(variables={"log_bin": "OFF"}))
    assert main(["--source", SOURCE]) == 1
    capsys.readouterr()
    # What could be read is reported all the same.
    assert main(["--source", SOURCE, "--replica", REPLICA]) == 2
    shown = capsys.readouterr()
    assert "source-retention" in shown.out
    assert shown.err == "binlock-audit: replica:3306: nobody answers\n"


def test_the_textfile_is_put_in_place_whole_and_readable(serve: Serve, tmp_path: Path) -> None:
    serve(source=source())
    target = tmp_path / "binlock_audit.prom"
    target.write_text("old")
    assert main(["--source", SOURCE, "--textfile", str(target)]) == 0
    assert 'binlock_audit_check{check="tls-enabled",status="pass"} 1' in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == [target.name]  # noqa: PTH208 - names are what is asked
    assert main(["--source", SOURCE, "--textfile", str(tmp_path / "none" / "f")]) == 2


def test_scripts_overwrite_nothing(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    serve(source=source(variables={"ssl_crl": ""}))
    words = ["--source", SOURCE, "--fix-script", str(tmp_path / "fixes"), "--fix-files", "/own"]
    assert main(words) == 0
    [script] = (tmp_path / "fixes").iterdir()
    assert "SET PERSIST ssl_crl = '/own/ca.crl';" in script.read_text()
    script.write_text("edited")
    capsys.readouterr()
    assert main(words) == 2
    assert "not empty" in capsys.readouterr().err
    assert script.read_text() == "edited"
