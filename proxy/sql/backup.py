"""The statements of the policy `backup`: reading rows and definitions, and holding still what is read.

Found by recording mysqldump and mariadb-dump at work with every option that asks the source for something, and in
their source (client/mysqldump.cc of both). A statement that is not of one of these forms is refused; so is one that
could be read in two ways, see `proxy.sql.statements`. The tables here are the documentation's, too (docs/policy.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from proxy.sql.statements import Kind, Reading, Statement, Token, Unreadable, read_statement
from proxy.sql.vocabulary import (
    EVERYWHERE,
    FUNCTIONS,
    RESERVED_WORDS,
    SESSION_VARIABLES,
    SQL_MODES,
    TRANSPARENT_CHARACTER_SETS,
)

# LOCK TABLES of more than ten thousand tables. mysqldump sends no rows, so nothing it sends is longer.
LONGEST_STATEMENT_BYTES = 1 << 20

# Words of a statement that reads which would make it lock rows, write files, change data or take from a sequence.
_NOT_IN_QUESTIONS = frozenset({"INTO", "INSERT", "UPDATE", "DELETE", "LOCK", "SHARE", "NEXTVAL", "NEXT", "SETVAL"})
# FOR SYSTEM_TIME, and USE INDEX FOR ...; not FOR UPDATE, FOR SHARE, NEXT VALUE FOR.
_AFTER_FOR = frozenset({"SYSTEM_TIME", "JOIN", "ORDER", "GROUP"})


class NotAdmitted(Exception):  # noqa: N818
    """The statement is none of a backup program's. The text says what it has that they have not, without quoting it."""


def judge_statement(text: bytes, reading: Reading) -> Reading:
    """Judges the text of a COM_QUERY.

    Returns:
        What is known of how the session's text is read after it.

    Raises:
        NotAdmitted: it is not of one of the forms, or could be read as something else.
    """
    if len(text) > LONGEST_STATEMENT_BYTES:
        raise NotAdmitted(f"a statement of more than {LONGEST_STATEMENT_BYTES} bytes")
    try:
        statement = read_statement(text, reading)
    except Unreadable as error:
        raise NotAdmitted(str(error)) from error
    return _judge_readings(statement, reading)


def _judge_readings(statement: Statement, reading: Reading) -> Reading:
    if not statement.tokens:
        raise NotAdmitted("an empty statement")
    after: list[Reading] = []
    for tokens, is_likely in statement.readings():
        cursor = _Cursor(tokens)
        result = reading
        if tokens:
            head = cursor.take_word()
            form = FORMS.get(head)
            if form is None:
                raise NotAdmitted("a statement that no backup program sends")
            result = form(cursor, reading)
            if not cursor.is_at_end:
                raise NotAdmitted(f"{head} with more than a backup program sends")
        if is_likely:
            after.append(result)
    return Reading(
        is_ascii_transparent=all(each.is_ascii_transparent for each in after),
        has_backslash_escapes=all(each.has_backslash_escapes for each in after),
    )


class _Cursor:
    """A place in a list of tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._position = 0

    @property
    def is_at_end(self) -> bool:
        return self._position >= len(self._tokens)

    def peek(self) -> Token | None:
        return None if self.is_at_end else self._tokens[self._position]

    def take_word(self) -> str:
        """The word here; empty, and nothing taken, if here is none."""
        token = self.peek()
        word = "" if token is None else token.word
        self._position += bool(word)
        return word

    def accept(self, *words: str) -> bool:
        """Takes these words in a row, or nothing."""
        here = self._tokens[self._position : self._position + len(words)]
        if [token.word for token in here] != list(words):
            return False
        self._position += len(words)
        return True

    def accept_any(self, *words: str) -> bool:
        """Takes one of these words, or nothing."""
        return any(self.accept(word) for word in words)

    def accept_symbol(self, symbol: bytes) -> bool:
        token = self.peek()
        if token is None or not token.is_symbol(symbol):
            return False
        self._position += 1
        return True

    def accept_kind(self, *kinds: Kind) -> Token | None:
        token = self.peek()
        if token is None or token.kind not in kinds:
            return None
        self._position += 1
        return token

    def require(self, condition: object) -> None:
        """Raises NotAdmitted where a form does not go on as it must."""
        if not condition:
            raise NotAdmitted("a statement that no backup program sends in this form")

    def rest(self) -> list[Token]:
        taken, self._position = self._tokens[self._position :], len(self._tokens)
        return taken

    def rest_of_assignment(self) -> list[Token]:
        """Takes what comes before the next comma outside of parentheses."""
        depth, start = 0, self._position
        while (token := self.peek()) is not None and not (depth == 0 and token.is_symbol(b",")):
            depth += token.is_symbol(b"(") - token.is_symbol(b")")
            self.require(depth >= 0)
            self._position += 1
        self.require(depth == 0)
        return self._tokens[start : self._position]


def _judge_expression(tokens: list[Token], *, denied: frozenset[str], any_for: bool = False) -> None:
    if not tokens:
        raise NotAdmitted("a statement without its end")
    previous: Token | None = None
    before: Token | None = None
    for token in tokens:
        word = token.word
        if word in denied:
            raise NotAdmitted(f"{word} in a statement that should only read")
        if previous is not None and previous.word == "FOR" and word not in _AFTER_FOR and not any_for:
            raise NotAdmitted("FOR with what locks rows or takes from a sequence")
        if token.is_symbol(b"(") and previous is not None:
            _judge_call(before, previous, token)
        before, previous = previous, token
    if previous is not None and previous.word == "FOR":
        raise NotAdmitted("FOR with nothing behind it")


def _judge_call(before: Token | None, name: Token, parenthesis: Token) -> None:
    if name.kind in {Kind.SYMBOL, Kind.NUMBER} or name.word in RESERVED_WORDS:
        return
    # With a space in between, or behind a schema's name, it may be a stored function of the same name.
    is_own = parenthesis.is_adjacent and not (before is not None and before.is_symbol(b"."))
    if name.word not in FUNCTIONS or not is_own:
        raise NotAdmitted("a function that is not known to read only (docs/policy.md has the list)")


def _select(cursor: _Cursor, reading: Reading) -> Reading:
    _judge_expression(cursor.rest(), denied=_NOT_IN_QUESTIONS | {"PROCEDURE"})
    return reading


def _show(cursor: _Cursor, reading: Reading) -> Reading:
    _judge_expression(cursor.rest(), denied=_NOT_IN_QUESTIONS, any_for=True)
    return reading


def _use(cursor: _Cursor, reading: Reading) -> Reading:
    cursor.require(cursor.accept_kind(Kind.WORD, Kind.NAME, Kind.DOUBLE_QUOTED))
    return reading


def _start(cursor: _Cursor, reading: Reading) -> Reading:
    cursor.require(cursor.accept("TRANSACTION"))
    while not cursor.is_at_end:
        cursor.require(
            cursor.accept("WITH", "CONSISTENT", "SNAPSHOT")
            or cursor.accept("READ", "ONLY")
            or cursor.accept("READ", "WRITE")
        )
        cursor.require(cursor.accept_symbol(b",") or cursor.is_at_end)
    return reading


def _begin_or_commit(cursor: _Cursor, reading: Reading) -> Reading:
    cursor.accept("WORK")
    return reading


def _rollback(cursor: _Cursor, reading: Reading) -> Reading:
    cursor.accept("WORK")
    if cursor.accept("TO"):
        cursor.accept("SAVEPOINT")
        return _use(cursor, reading)
    return reading


def _release(cursor: _Cursor, reading: Reading) -> Reading:
    cursor.require(cursor.accept("SAVEPOINT"))
    return _use(cursor, reading)


def _table_name(cursor: _Cursor) -> None:
    cursor.require(cursor.accept_kind(Kind.WORD, Kind.NAME, Kind.DOUBLE_QUOTED))
    if cursor.accept_symbol(b"."):
        cursor.require(cursor.accept_kind(Kind.WORD, Kind.NAME, Kind.DOUBLE_QUOTED))


def _lock(cursor: _Cursor, reading: Reading) -> Reading:
    if cursor.accept("INSTANCE", "FOR", "BACKUP"):
        return reading
    cursor.require(cursor.accept_any("TABLES", "TABLE"))
    while True:
        _table_name(cursor)
        cursor.require(cursor.accept("READ"))
        cursor.accept("LOCAL")
        if not cursor.accept_symbol(b","):
            return reading


def _unlock(cursor: _Cursor, reading: Reading) -> Reading:
    cursor.require(cursor.accept_any("TABLES", "TABLE", "INSTANCE"))
    return reading


def _flush(cursor: _Cursor, reading: Reading) -> Reading:
    cursor.accept_any("LOCAL", "NO_WRITE_TO_BINLOG")
    if cursor.accept_any("TABLES", "TABLE"):
        token = cursor.peek()
        if token is not None and token.word != "WITH":
            _table_name(cursor)
            while cursor.accept_symbol(b","):
                _table_name(cursor)
        if not cursor.is_at_end:
            cursor.require(cursor.accept("WITH", "READ", "LOCK"))
        return reading
    cursor.accept_any("BINARY", "ENGINE", "ERROR", "GENERAL", "RELAY", "SLOW")
    cursor.require(cursor.accept("LOGS"))
    return reading


def _set(cursor: _Cursor, reading: Reading) -> Reading:
    if _accept_isolation(cursor):
        return reading
    after, count = reading, 0
    while True:
        after, count = _assignment(cursor, after), count + 1
        if not cursor.accept_symbol(b","):
            break
    cursor.require(cursor.is_at_end)
    if count == 1:
        return after
    # Where one assignment of several fails none is made: only what was so before and after is known.
    return Reading(
        is_ascii_transparent=reading.is_ascii_transparent and after.is_ascii_transparent,
        has_backslash_escapes=reading.has_backslash_escapes and after.has_backslash_escapes,
    )


def _accept_isolation(cursor: _Cursor) -> bool:
    for scope in (("SESSION", "TRANSACTION"), ("LOCAL", "TRANSACTION"), ("TRANSACTION",)):
        if cursor.accept(*scope):
            words = {token.word or "," * token.is_symbol(b",") for token in cursor.rest()}
            cursor.require(words <= _ISOLATION_WORDS)
            return True
    return False


_ISOLATION_WORDS = frozenset(
    {"ISOLATION", "LEVEL", "REPEATABLE", "READ", "COMMITTED", "UNCOMMITTED", "SERIALIZABLE", "ONLY", "WRITE", ","}
)


def _assignment(cursor: _Cursor, reading: Reading) -> Reading:
    if cursor.accept("NAMES") or cursor.accept("CHARACTER", "SET") or cursor.accept("CHARSET"):
        reading = _character_set(cursor, reading)
        if cursor.accept("COLLATE"):
            cursor.require(cursor.accept_kind(Kind.WORD, Kind.STRING))
            # One that does not fit fails, and nothing is set.
            return replace(reading, is_ascii_transparent=False)
        return reading
    if cursor.accept_symbol(b"@") and not cursor.accept_symbol(b"@"):
        cursor.require(cursor.accept_kind(Kind.WORD, Kind.NAME))
        _value(cursor)
        return reading
    if cursor.accept_any("SESSION", "LOCAL"):
        cursor.accept_symbol(b".")
    name = cursor.take_word().lower()
    if name not in SESSION_VARIABLES:
        raise NotAdmitted("SET of what is not on the list of session variables (docs/policy.md)")
    if name == "character_set_client":
        cursor.require(cursor.accept_symbol(b"="))
        return _character_set(cursor, reading)
    value = _value(cursor)
    return _after_sql_mode(value, reading) if name == "sql_mode" else reading


def _value(cursor: _Cursor) -> list[Token]:
    cursor.accept_symbol(b":")
    cursor.require(cursor.accept_symbol(b"="))
    value = cursor.rest_of_assignment()
    cursor.require(value)
    _judge_expression(value, denied=_NOT_IN_QUESTIONS | {"SELECT", "FOR"})
    return value


def _character_set(cursor: _Cursor, reading: Reading) -> Reading:
    token = cursor.accept_kind(Kind.WORD, Kind.STRING)
    name = "" if token is None else token.text.decode("ascii", "replace").lower()
    if name not in TRANSPARENT_CHARACTER_SETS:
        raise NotAdmitted("a character set in which a backslash may be part of a character, or one that is not known")
    return after_character_set(name, reading)


def after_character_set(name: str, reading: Reading) -> Reading:
    """What is known after SET NAMES. A character set that the source does not have is not set."""
    is_transparent = name in EVERYWHERE or (reading.is_ascii_transparent and name in TRANSPARENT_CHARACTER_SETS)
    return replace(reading, is_ascii_transparent=is_transparent)


def _after_sql_mode(value: list[Token], reading: Reading) -> Reading:
    if len(value) != 1 or value[0].kind is not Kind.STRING:
        return replace(reading, has_backslash_escapes=False)
    names = {name.strip().upper() for name in value[0].text.decode("ascii", "replace").split(",")} - {""}
    if not names <= SQL_MODES:
        raise NotAdmitted("a name in sql_mode that changes how statements are read, or one that is not known")
    # A name that this source does not have would fail, and the mode stay as it is.
    return replace(reading, has_backslash_escapes=reading.has_backslash_escapes or not names or names == {"ANSI"})


def _do(cursor: _Cursor, reading: Reading) -> Reading:
    _judge_expression(cursor.rest(), denied=_NOT_IN_QUESTIONS | {"FOR"})
    return reading


FORMS: dict[str, Callable[[_Cursor, Reading], Reading]] = {
    "SELECT": _select,
    "WITH": _select,
    "SHOW": _show,
    "USE": _use,
    "SET": _set,
    "START": _start,
    "BEGIN": _begin_or_commit,
    "COMMIT": _begin_or_commit,
    "ROLLBACK": _rollback,
    "SAVEPOINT": _use,
    "RELEASE": _release,
    "LOCK": _lock,
    "UNLOCK": _unlock,
    "FLUSH": _flush,
    "DO": _do,
}
