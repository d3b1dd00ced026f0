"""Log lines: one a line whatever is in them, and no more than the bound."""

import json
import logging

import pytest

from monitor.reporting.logs import Allowance, log_defect, log_event, set_up_logging


def test_json_lines_have_time_level_event_and_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", "json")
    log_event(logging.DEBUG, "unseen")
    log_event(logging.WARNING, "flow_found", evidence=["one\ntwo"], tls={"version": "TLSv1.3"})
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
    set_up_logging("info", "text")
    log_event(
        logging.INFO, "flow_found", client="10.0.0.1:4", evidence=["a b", "c"], mid_stream=True, tls={"version": "x\ny"}
    )
    [line] = capsys.readouterr().err.splitlines()
    assert line[24:].endswith(
        r'info    flow_found client=10.0.0.1:4 evidence="a b; c" mid_stream=true tls.version="x\ny"'
    )


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_defect_comes_with_its_traceback(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", style)  # type: ignore[arg-type]
    log_defect(KeyError("x"), interface="lo")
    said = capsys.readouterr().err
    assert "defect" in said
    assert "KeyError: 'x'" in said


def test_an_allowance_is_for_a_second_and_counts_what_is_over() -> None:
    allowance = Allowance(2)
    assert [allowance.admits("flow_found", now) for now in (5.0, 5.1, 5.2, 5.9, 6.0)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert allowance.settle() == {"flow_found": 2}
    assert allowance.settle() == {}
    assert allowance.suppressed_total == 2
