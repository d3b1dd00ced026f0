"""Log lines: one a line whatever is in them."""

from __future__ import annotations

import json
import logging
from typing import Literal

import pytest

from supervision.logs import EventLog


def test_json_lines_have_time_level_event_and_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log = EventLog("binlock.test")
    log.set_up("info", "json")
    log.event(logging.DEBUG, "unseen")
    log.event(logging.WARNING, "flow_found", evidence=["one\ntwo"], tls={"version": "TLSv1.3"})
    [text] = capsys.readouterr().err.splitlines()
    line = json.loads(text)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "event": "flow_found",
        "evidence": ["one\ntwo"],
        "tls": {"version": "TLSv1.3"},
    }


def test_text_lines_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    log = EventLog("binlock.test")
    log.set_up("info", "text")
    log.event(
        logging.INFO, "flow_found", client="10.0.0.1:4", evidence=["a b", "c"], mid_stream=True, tls={"version": "x\ny"}
    )
    [line] = capsys.readouterr().err.splitlines()
    assert line[24:].endswith(
        r'info    flow_found client=10.0.0.1:4 evidence="a b; c" mid_stream=true tls.version="x\ny"'
    )


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_defect_comes_with_its_traceback(style: Literal["json", "text"], capsys: pytest.CaptureFixture[str]) -> None:
    log = EventLog("binlock.test")
    log.set_up("info", style)
    log.defect(KeyError("x"), interface="lo")
    said = capsys.readouterr().err
    assert "defect" in said
    assert "KeyError: 'x'" in said
