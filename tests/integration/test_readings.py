"""Real servers read as `proxy.sql.statements` says: nothing is hidden from it, whatever the session is set to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pymysql
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pymysql.connections import Connection

from proxy.sql.statements import Reading, Unreadable, read_statement
from proxy.sql.vocabulary import EVERYWHERE, TRANSPARENT_COLLATIONS, UTF8MB4_0900_AI_CI
from testbed.flavours import Flavour
from tests.integration.conftest import MODERN, Pair

SQL_MODES = ("", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES,ANSI_QUOTES")
CHARSETS = ("utf8mb4", "latin1", "gbk", "sjis", "big5")
# What a hidden second statement would do.
HIT = b"; SET @hit = 1; "
# Each does it in some of the sessions, which shows that they could.
TRICKS = [
    b"SELECT 'a\\'" + HIT + b"-- '",
    b"SELECT 'a\\'' " + HIT + b"-- '",
    b"SELECT '\xbf\\'" + HIT + b"-- '",
    b"SELECT 1 AS `\x81`" + HIT + b"-- `",
    b'SELECT "a\\"' + HIT + b'-- "',
    b"SELECT 1 /*!99999 ' */" + HIT + b"-- '",
    b"SELECT 1 /*!99999 -- */" + HIT,
    b"SELECT 1 /*M!50000 ' */" + HIT + b"-- '",
]
# Between quotes, and between tokens.
INSIDE = st.lists(
    st.sampled_from([HIT, b"\\", b"''", b'""', b"``", b"\xbf", b"\x81", b"\xc3\xa9", b"a", b"*/", b"--  "]), max_size=4
)
PARTS = st.one_of(
    st.tuples(st.sampled_from([b"'", b'"', b"`"]), INSIDE).map(lambda part: part[0] + b"".join(part[1]) + part[0]),
    st.sampled_from(
        [b"/* ' */", b"/*!50000 , 'x' */", b"/*!99999 , `x` */", b"/*M!100100 , 2 */", b"/* ; */", b", 1.5", b"AS"]
    ),
)
TEXTS = st.tuples(st.lists(PARTS, max_size=5).map(b" ".join), st.sampled_from([b"", b";"])).map(
    lambda parts: b"SELECT 1 " + b"".join(parts)
)


@pytest.fixture(scope="module")
def sessions(start_pair: Callable[[Flavour], Pair]) -> Iterator[list[Connection[Any]]]:
    """A session of each kind, on a MySQL and a MariaDB, in which several statements may come at once."""
    opened: list[Connection[Any]] = []
    with ExitStack() as stack:
        for flavour, charset, sql_mode in itertools.product(MODERN, CHARSETS, SQL_MODES):
            connection = stack.enter_context(start_pair(flavour).source.connection(multi_statements=True))
            with connection.cursor() as cursor:
                cursor.execute(f"SET NAMES {charset}")
                cursor.execute("SET SESSION sql_mode = %s", (sql_mode,))
            connection.encoding = "latin1"  # what comes back need not be text, and this reads any bytes
            opened.append(connection)
        yield opened


@pytest.mark.parametrize("flavour", list(Flavour), ids=lambda flavour: flavour.value)
def test_every_source_has_the_collations_that_are_trusted(
    start_pair: Callable[[Flavour], Pair], flavour: Flavour
) -> None:
    """One that it did not have would give the session the source's own character set."""
    listed = start_pair(flavour).source.sql("SHOW COLLATION WHERE id IS NOT NULL")
    charsets = {row["Id"]: row["Charset"] for row in listed}
    trusted = TRANSPARENT_COLLATIONS | (set() if flavour.is_mariadb else {UTF8MB4_0900_AI_CI})
    assert {charsets.get(collation) for collation in trusted} <= EVERYWHERE | {"utf8mb3"}


def hits(connection: Connection[Any], text: bytes) -> bool:
    """Whether a text does what its quotes were to keep it from."""
    with connection.cursor() as cursor:
        cursor.execute("SET @hit = 0")
        try:
            cursor.execute(text)
            while cursor.nextset():
                pass
        except pymysql.err.Error:
            pass
        cursor.execute("SELECT @hit AS hit")
        row = cursor.fetchone()
        return row is not None and row["hit"] != 0


@pytest.mark.parametrize("text", TRICKS)
def test_each_trick_works_somewhere_and_is_refused(sessions: list[Connection[Any]], text: bytes) -> None:
    with pytest.raises(Unreadable):
        read_statement(text, Reading())
    assert any(hits(connection, text) for connection in sessions)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(text=TEXTS)
def test_what_is_read_hides_no_second_statement_from_any_session(sessions: list[Connection[Any]], text: bytes) -> None:
    try:
        read_statement(text, Reading())
    except Unreadable:
        event("refused")
        return
    event("read")
    assert not any(hits(connection, text) for connection in sessions)
