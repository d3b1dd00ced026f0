"""Statements are read as every source would read them, or not at all."""

from __future__ import annotations

import contextlib
import itertools
import re

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from proxy.sql.statements import Condition, Kind, Reading, Statement, Unreadable, read_statement
from tests.proxy.sql.reference_lexer import Broken, Mode, read_as

UNKNOWN = Reading()
UTF8 = Reading(is_ascii_transparent=True)
ESCAPES = Reading(is_ascii_transparent=True, has_backslash_escapes=True)


def shown(text: str | bytes, reading: Reading = UTF8) -> list[str]:
    statement = read_statement(text.encode() if isinstance(text, str) else text, reading)
    return [token.text.decode("latin1") for token in statement.tokens]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" \t\n\v\f\r", []),
        ("select 1", ["SELECT", "1"]),
        ("SELECT 1;", ["SELECT", "1"]),
        ("SELECT 1 ; \n", ["SELECT", "1"]),
        ("SELECT 'a;b', \"c;d\", `e;f`", ["SELECT", "a;b", ",", "c;d", ",", "e;f"]),
        ("SELECT 'it''s', \"say \"\"x\"\"\", `a``b`", ["SELECT", "it''s", ",", 'say ""x""', ",", "a``b"]),
        ("SELECT 'a\\_b\\\\', 1", ["SELECT", "a\\_b\\\\", ",", "1"]),
        ("SELECT '--', '#', '/*', `*/`", ["SELECT", "--", ",", "#", ",", "/*", ",", "*/"]),
        ("SELECT/* a plain 'comment' */1", ["SELECT", "1"]),
        ("SELECT/**/1", ["SELECT", "1"]),
        ("SELECT /*!40001 SQL_NO_CACHE */ * FROM `t`", ["SELECT", "SQL_NO_CACHE", "*", "FROM", "t"]),
        ("/*!40103 SET TIME_ZONE='+00:00' */", ["SET", "TIME_ZONE", "=", "+00:00"]),
        ("/*!40101 SET NAMES binary*/", ["SET", "NAMES", "BINARY"]),
        ("/*M!100100 SET WAIT_TIMEOUT=DEFAULT */", ["SET", "WAIT_TIMEOUT", "=", "DEFAULT"]),
        ("/*M!100100 SET @@MAX_STATEMENT_TIME=1.5", ["SET", "@", "@", "MAX_STATEMENT_TIME", "=", "1.5"]),
        ("SELECT 1.5, .5, 1e5, 1.5E-3, 0x4f, 0b01, 5.", ["SELECT", "1.5", ",", ".", "5", ",", "1e5", ",", "1.5E-3", ",",
                                                        "0x4f", ",", "0b01", ",", "5."]),
        ("SELECT '\u00e9\\_'", ["SELECT", "\u00c3\u00a9\\_"]),
        ("SELECT a-b, a - -b", ["SELECT", "A", "-", "B", ",", "A", "-", "-", "B"]),
    ],
)  # fmt: skip
def test_reads(text: str, tokens: list[str]) -> None:
    assert shown(text) == tokens


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SELECT 1; SELECT 2", "second statement"),
        ("SELECT 1;;", "second statement"),
        ("; SELECT 1", "second statement"),
        ("SELECT 1; -- x", "second statement"),
        ("SELECT 1; /* x */", "second statement"),
        ("/*!50000 SELECT 1; DROP DATABASE x */", "second statement"),
        ("/*!50000 SELECT 1; */", "second statement"),
        ("SELECT 1\x00", "NUL"),
        ("SELECT 'a\x00b'", "NUL"),
        ("SELECT 1 -- x", "line comment"),
        ("SELECT 1 --\x01x", "line comment"),
        ("SELECT 5--1", "line comment"),
        ("SELECT 1 # x", "line comment"),
        ("SELECT 'a", "quote without an end"),
        ("SELECT 'a''", "quote without an end"),
        ("SELECT `a", "quote without an end"),
        ("SELECT 'a\\", "quote without an end"),
        ("SELECT 'a\\'", "backslash before a quote"),
        ("SELECT 'a\\' INTO OUTFILE \\'b'", "backslash before a quote"),
        ('SELECT "a\\" INTO OUTFILE "', "backslash before a quote"),
        ("SELECT 'a\\\\\\'", "backslash before a quote"),
        ("SELECT /* a", "comment without an end"),
        ("SELECT /* a /* b */", "comment inside a comment"),
        ("SELECT /*! a /* b */ */", "comment inside an executable comment"),
        ("SELECT /*!50000 a /*! b */ */", "comment inside an executable comment"),
        ("/*!50000 SELECT 1 -- */ DROP DATABASE x", "line comment"),
        ("/*!99999 SELECT '*/ DROP DATABASE x -- '", "inside quotes inside an executable comment"),
        ("/*!99999 SELECT `/*` */", "inside quotes inside an executable comment"),
        ("SELECT 1 */", "end of a comment"),
        ("SELECT /*+ SET_VAR(sql_mode='') */ 1", "hint"),
        ("SELECT /*m!100100 1 */", "/*m!"),
        ("SELECT /*!5000 1 */", "version of five digits"),
        ("SELECT /*!500001 1 */", "version of five digits"),
        ("SELECT /*!50000SELECT */", "version of five digits"),
        ("SELECT /*!!50000 1 */", "version of five digits"),
        ("SELECT /*M!1000001 1 */", "version of five digits"),
        ("/*!40001 a *//*!40002 b *//*!40003 c *//*!40004 d */", "more than 3 kinds"),
        ("SELECT $$ ' $$ INTO OUTFILE '", "0x24"),
        ("SELECT [a]", "0x5B"),
        ("SELECT {d '2020-01-01'}", "0x7B"),
        ("SELECT \\N", "0x5C"),
        ("SELECT a\x01b", "0x01"),
        ("SELECT a?b", "0x3F"),
        ("SELECT INTO\u00a0OUTFILE", "not ASCII outside"),
        ("SELECT caf\u00e9", "not ASCII outside"),
        ("SELECT 1INTO", "number with a name"),
        ("SELECT 1.5INTO", "number with a name"),
        ("SELECT .5INTO", "number with a name"),
        ("SELECT 1.INTO", "number with a name"),
        ("SELECT 1.e5INTO", "number with a name"),
        ("SELECT 1e5INTO", "number with a name"),
        ("SELECT 1e+5INTO", "number with a name"),
        ("SELECT 0x4fINTO", "number with a name"),
        ("SELECT @1.e5INTO", "number with a name"),
    ],
)
def test_refuses_what_is_no_single_statement_or_has_two_readings(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(why)):
        read_statement(text.encode(), UTF8)


def test_a_backslash_may_escape_a_quote_once_sql_mode_is_known() -> None:
    assert shown("SELECT 'it\\'s', 1", ESCAPES) == ["SELECT", "it\\'s", ",", "1"]
    with pytest.raises(Unreadable):  # whether this is a name is not known
        read_statement(b'SELECT "a\\"b"', ESCAPES)


@pytest.mark.parametrize("byte", range(0x80, 0x100))
@pytest.mark.parametrize("text", [b"'%c\\'", b"'%c\\\\'", b"'%c\\_'", b'"%c\\n"', b"`%c`", b"`%c``x`", b"'a%c\\''"])
def test_a_byte_that_could_be_half_a_character_is_refused_unless_the_charset_is_known(text: bytes, byte: int) -> None:
    with pytest.raises(Unreadable, match=r"may be one character|backslash before a quote"):
        read_statement(b"SELECT " + text % byte, UNKNOWN)


def test_bytes_that_are_not_ascii_are_content_in_every_charset_elsewhere() -> None:
    for byte in range(0x80, 0x100):
        assert len(shown(b"SELECT '%ca', \"%c\", `%cb`, '\\\\%c'" % (byte, byte, byte, byte), UNKNOWN)) == 8


def test_executable_comments_count_with_and_without() -> None:
    statement = read_statement(b"SELECT 1 /*!40100 FROM t */ /*M!100100 LIMIT 1 */ /*!40100 , 2 */", UTF8)
    assert [token.condition for token in statement.tokens if token.text == b"LIMIT"] == [Condition("M!", 100100)]
    readings = {" ".join(token.text.decode() for token in tokens): likely for tokens, likely in statement.readings()}
    assert readings == {
        "SELECT 1 FROM T LIMIT 1 , 2": True,
        "SELECT 1 FROM T , 2": True,
        "SELECT 1 LIMIT 1": False,  # no source that is supported is older than 4.1
        "SELECT 1": False,
    }


def test_kinds_and_neighbours() -> None:
    statement = read_statement(b"f (g('a'), \"b\", `c`, 1)", UTF8)
    kinds = [token.kind for token in statement.tokens if token.kind is not Kind.SYMBOL]
    assert kinds == [Kind.WORD, Kind.WORD, Kind.STRING, Kind.DOUBLE_QUOTED, Kind.NAME, Kind.NUMBER]
    assert [token.is_adjacent for token in statement.tokens if token.text == b"("] == [False, True]


def test_every_byte_is_looked_at_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: how much of the text each step of the lexer is given to look at."""
    looked_at = [0]

    class Text(bytes):
        def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
            found = bytes.find(self, sub, start, len(self) if end is None else end)
            looked_at[0] += (found if found >= 0 else len(self) if end is None else end) - start + 1
            return found

    size = 20_000
    for piece in (b"'a\\a", b"\\\\", b"''", b"'' ", b"`a` ", b"/**/", b"/*! a */", b"a ", b"1,", b'"" ', b"'\\_' "):
        for text in (b"SELECT " + piece * (size // len(piece)), b"SELECT '" + piece * (size // len(piece)) + b"'"):
            looked_at[0] = 0
            with contextlib.suppress(Unreadable):
                read_statement(Text(text), ESCAPES)
            assert looked_at[0] <= 4 * len(text), (piece, looked_at[0])


PIECES = st.sampled_from(
    [b"SELECT", b"INTO", b"DROP", b"a", b"1", b"1.5", b"e5", b" ", b"\n", b"'", b"''", b'"', b'""', b"`", b"``", b"\\",
     b"\\\\", b";", b"/*", b"*/", b"/*!", b"/*!50000 ", b"/*!99999 ", b"/*M!100100 ", b"/*!80000 ", b"--", b"-- ", b"#",
     b"\xbf", b"\xc3\xa9", b"\xa0", b"\x81", b"\x00", b"$$", b"*", b"/", b"!", b"(", b")", b",", b".", b"@", b"="]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=14).map(b"".join)
# Mostly well formed, so that much of it is admitted.
INSIDE_QUOTES = (b"a", b"\\_", b"\\\\", b"''", b"``", b";", b"/*", b"*/", b"-- ", b"\xc3\xa9", b"\xbf", b'"')
QUOTED = st.lists(st.sampled_from(INSIDE_QUOTES)).map(b"".join)
PARTS = st.one_of(
    st.sampled_from([b"INTO", b"a", b"1", b"1.5", b",", b"(", b")", b"@", b"="]),
    st.sampled_from([b"/* x */", b"/*!50000 b */", b"/*!99999 c */", b"/*M!100100 'd' */"]),
    QUOTED.map(lambda inside: b"'" + inside + b"'"),
    QUOTED.map(lambda inside: b"`" + inside.replace(b"\\", b"") + b"`"),
    QUOTED.map(lambda inside: b'"' + inside.replace(b'"', b'""') + b'"'),
)  # fmt: skip
STATEMENTS = st.tuples(st.lists(PARTS, max_size=8).map(b" ".join), st.sampled_from([b"", b";", b" ; "])).map(b"".join)
MODES = [
    Mode(escapes, ansi, is_gbk, is_latin1, version, is_mariadb)
    for escapes, ansi, is_gbk, is_latin1, (version, is_mariadb) in itertools.product(
        (True, False), (True, False), (True, False), (True, False), ((50500, False), (90700, False), (101100, True))
    )
]


def outside_of_quotes(tokens: list[bytes]) -> list[bytes]:
    return [token for token in tokens if token != b"''"]


def as_reference_shows(statement: Statement) -> list[list[bytes]]:
    return [
        [
            token.text.upper()
            for token in tokens
            if token.kind not in {Kind.STRING, Kind.DOUBLE_QUOTED, Kind.NAME}
        ]
        for tokens, _ in statement.readings()
    ]  # fmt: skip


@given(st.one_of(TEXTS, STATEMENTS, st.binary(max_size=40)))
@example(b"SELECT '\xbf\\' INTO OUTFILE '")
@example(b"SELECT 1 /*!99999 ' */ INTO OUTFILE 'x' -- '")
@example(b"SELECT `\xbf` INTO OUTFILE `x`")
@example(b'SELECT "\\" INTO OUTFILE "')
@example(b"SELECT 'a' 'b' \"c\"\"d\" /*M!100100 INTO */ x;")
@example(b"SELECT /*!50000 'a' */, 1.5 INTO")
def test_what_is_read_every_source_reads_so(text: bytes) -> None:
    """Of one statement, and with the same words outside of quotes, in every mode, charset and version."""
    try:
        statement = read_statement(text, UNKNOWN)
    except Unreadable:
        event("refused")
        return
    event("read")
    readings = as_reference_shows(statement)
    for mode in MODES:
        try:
            statements = read_as(text, mode)
        except Broken:
            raise AssertionError(f"{mode} finds a quote without an end") from None
        assert len(statements) == 1, mode
        assert outside_of_quotes(statements[0]) in readings, mode


@given(st.one_of(TEXTS, STATEMENTS))
def test_with_a_known_session_it_reads_more_and_still_as_such_a_session_does(text: bytes) -> None:
    try:
        statement = read_statement(text, ESCAPES)
    except Unreadable:
        return
    readings = as_reference_shows(statement)
    for mode in (mode for mode in MODES if mode.escapes and not mode.is_gbk):
        statements = read_as(text, mode)
        assert len(statements) == 1
        assert outside_of_quotes(statements[0]) in readings


@pytest.mark.parametrize(
    "text",
    [b"SELECT 'a\\' INTO b -- '", b"SELECT 1.5INTO", b"SELECT 1 /*!99999 ' */ INTO c -- '", b"SELECT a INTO\xa0e",
     b"SELECT '\xbf\\' INTO d -- '", b"SELECT $$ ' $$ INTO f -- '", b"/*!99999 SELECT 1 -- */ INTO"],
)  # fmt: skip
def test_the_reference_sees_what_the_tricks_hide(text: bytes) -> None:
    """Each is read with INTO as a word by some source and without it by another: that is why it is refused."""
    seen = set()
    for mode in MODES:
        try:
            seen.add(any(b"INTO" in statement for statement in read_as(text, mode)))
        except Broken:
            continue
    assert True in seen
    with pytest.raises(Unreadable):
        read_statement(text, UTF8 if b"\xbf" not in text else UNKNOWN)
