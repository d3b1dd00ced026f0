"""What a site adds to a policy: patterns for whole texts, and the ones that are refused at start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from proxy.sql.queries import BadPattern, CustomQueries, killed_thread
from proxy.sql.statements import Reading
from proxy.stages.policy import CommandDenied, Policy
from wire.commands import Query

UTF8 = Reading(is_ascii_transparent=True)
TYPICAL = (
    r"SELECT VERSION\(\)",
    r"SHOW VARIABLES LIKE '[a-z_]+'",
    r"SELECT @@version_comment limit 1",
    r"SHOW (?:MASTER|BINARY LOG) STATUS",
    r"SELECT \* FROM `caf\u00e9`",
)


@pytest.mark.parametrize("policy", ["replication", "backup"])
@pytest.mark.parametrize(
    "text",
    ["SELECT VERSION()", "select version()", "  SELECT VERSION()\n", "SHOW VARIABLES LIKE 'log_bin'",
     "show master status", "SELECT * FROM `caf\u00e9`"],
)  # fmt: skip
def test_a_site_admits_more(policy: str, text: str) -> None:
    Policy(policy, CustomQueries(TYPICAL)).begin(charset=45).judge(Query(text.encode()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["SELECT VERSION(), user()", "SELECT VERSION(); SELECT VERSION()", "SELECT VERSION();", "SELECT VERSION() -- x",
     "SELECT VERSION() /* x */", "/* x */ SELECT VERSION()", "SELECT/**/VERSION()", "SELECT VERSION()\x00",
     "XSELECT VERSION()",
     "SHOW VARIABLES LIKE 'a' OR 1", "\u017fELECT VERSION()", "SELECT\u00a0VERSION()", "SHOW BINARY LOGS"],
)  # fmt: skip
def test_a_pattern_is_for_the_whole_text_of_one_statement_without_comments(text: str) -> None:
    with pytest.raises(CommandDenied):
        Policy("replication", CustomQueries(TYPICAL)).begin(charset=45).judge(Query(text.encode()))


@pytest.mark.parametrize(
    "text",
    [b"SELECT 1; DROP DATABASE x", b"SELECT 1 /*!50000 INTO OUTFILE 'x' */", b"SELECT 1 -- ", b"SELECT 'a\\' OR \\'b'",
     b"SELECT '\xbf\\' OR '", b"SELECT 1\x00", b"\xff", b"SELECT '" + b"a" * 4096 + b"'"],
)  # fmt: skip
def test_even_a_pattern_that_matches_everything_admits_no_second_statement_and_no_second_reading(text: bytes) -> None:
    everything = CustomQueries(unsafe_patterns=[".*"])
    assert everything.admit(b"DROP DATABASE x", Reading())
    assert not everything.admit(text, Reading())


def test_what_a_pattern_admits_may_have_changed_how_the_session_is_read() -> None:
    judge = Policy("backup", CustomQueries([r"SET sql_mode = 'NO_BACKSLASH_ESCAPES'"])).begin(charset=45)
    escaped = Query(b"SELECT 'it\\'s'")
    judge.judge(Query(b"SET sql_mode = ''"))
    judge.judge(escaped)
    judge.judge(Query(b"SET sql_mode = 'NO_BACKSLASH_ESCAPES'"))
    with pytest.raises(CommandDenied, match="backslash before a quote"):
        judge.judge(escaped)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("SELECT (", "is no regular expression"),
        ("SELECT a{99999999999}", "is no regular expression"),
        (".*", "matches ''"),
        ("", "matches ''"),
        ("(?s:.+)", "matches 'x'"),
        (r"SELECT .*|.*", "matches ''"),
        (r"(?:DROP|SHOW) .*", "matches 'DROP DATABASE x'"),
        (r"SET .*", "matches 'SET GLOBAL x=1'"),
        (r"SELECT .*", r"matches 'SELECT \* FROM mysql.user'"),
        (r"[^;]+", "matches 'x'"),
        (r"\w+ \d+", "matches 'KILL 1'"),
        (r"SELECT (?:a+)+", "repeats without bound"),
        (r"SELECT (a|aa)*", "repeats without bound"),
        (r"SELECT (?:x(?:a*)y){2,}", "repeats without bound"),
    ],
)
def test_a_pattern_that_is_wrong_or_too_wide_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(BadPattern, match=why):
        CustomQueries([r"SELECT VERSION\(\)", pattern])


@pytest.mark.parametrize(
    "pattern", [r"SELECT \*+", r"SELECT [*+]{1,3}", r"SELECT a+b*", r"SELECT (?:a|b)?", r"SELECT [)(*]+"]
)
def test_a_pattern_that_repeats_within_reason_is_not(pattern: str) -> None:
    CustomQueries([pattern])


@pytest.mark.parametrize("pattern", ["SELECT (", r"(?:a+)+"])
def test_unsafe_patterns_may_be_wide_but_not_wrong(pattern: str) -> None:
    CustomQueries(unsafe_patterns=[".*", "SET GLOBAL .*"])
    with pytest.raises(BadPattern):
        CustomQueries(unsafe_patterns=[pattern])


@pytest.mark.parametrize(
    ("text", "thread_id"),
    [("KILL 42", 42), ("kill connection 4294967296", 4294967296), ("KILL\n\t42 ", 42), ("KILL QUERY 42", None),
     ("KILL 42;", None), ("KILL 42, 43", None), ("KILL -1", None), ("KILL 0x2a", None), ("KILL '42'", None),
     ("KILL @x", None), ("KILL/**/42", None), ("KILL HARD 42", None), ("KILL CONNECTION_ID()", None),
     ("KILL " + "1" * 21, None), ("KILL42", None)],
)  # fmt: skip
def test_which_thread_a_query_kills(text: str, thread_id: int | None) -> None:
    assert killed_thread(text.encode()) == thread_id


def test_a_hostile_text_costs_bounded_work() -> None:
    """CPU time, not the clock: polynomial in the longest text that patterns see, whatever the text."""
    program = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
from proxy.sql.queries import CustomQueries
from proxy.sql.statements import Reading
queries = CustomQueries(["SELECT .*a.*b", "SELECT '[^']*' '[^']*'"])
for size in (4000, 1 << 20):
    for text in (b"SELECT " + b"a" * size, b"SELECT '" + b"a" * size, b"SELECT " + b"a " * (size // 2)):
        assert not queries.admit(text, Reading())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
