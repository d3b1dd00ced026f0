"""Reads one SQL statement as a source would, as far as it takes to know what is text and what is quoted.

How a source reads depends on its session, its version and its product. What could be read in two ways is refused, not
guessed at (MySQL `sql/sql_lex.cc` lex_one_token, get_text and consume_comment; MariaDB's are of the same descent):

* A backslash escapes, or under NO_BACKSLASH_ESCAPES does not. Both readings end a string at the same quote unless a
  backslash stands right before one. Whether `"` quotes a string or, under ANSI_QUOTES, a name matters as little.
* In sjis, cp932, big5, gbk and gb18030 a backslash or a backtick may be the second byte of a character.
* `/*!50003 ... */` is executed or skipped depending on version and product. The statement is returned with such parts
  marked, and has to be good with and without them (`Statement.readings`).
* What no backup program needs, and what one server reads differently from another, is refused outright: line
  comments, optimizer hints, `$` (which quotes in MySQL 9), brackets (which quote in MariaDB's mode MSSQL), non-ASCII
  bytes outside of quotes (some charsets have spaces among them), a number with a name right behind it (`1.5INTO` is
  two tokens).

One pass: every byte is looked at a bounded number of times.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple


class Unreadable(Exception):  # noqa: N818
    """The text is no single statement, or could be read in two ways. The message never quotes it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of how a session's source reads text.

    Attributes:
        is_ascii_transparent: no byte of ASCII is ever part of a longer character in its character set.
        has_backslash_escapes: its sql_mode lacks NO_BACKSLASH_ESCAPES for certain.
    """

    is_ascii_transparent: bool = False
    has_backslash_escapes: bool = False


class Kind(Enum):
    """What a token is."""

    WORD = auto()
    NUMBER = auto()
    STRING = auto()
    DOUBLE_QUOTED = auto()
    NAME = auto()
    SYMBOL = auto()


class Condition(NamedTuple):
    """When a part is executed: `!` (both products) or `M!` (MariaDB), from this version on; 0 for any."""

    marker: str
    version: int


class Token(NamedTuple):
    """One token.

    Attributes:
        text: of a quoted one what is between the quotes, as it came; of a word in capitals.
        condition: of the executable comment that it is in.
        is_adjacent: nothing, not even a space, is between it and the token before.
    """

    kind: Kind
    text: bytes
    condition: Condition | None
    is_adjacent: bool

    def is_symbol(self, symbol: bytes) -> bool:
        """Whether it is this symbol."""
        return self.kind is Kind.SYMBOL and self.text == symbol

    @property
    def word(self) -> str:
        """An unquoted word, in capitals; empty for anything else."""
        return self.text.decode("ascii") if self.kind is Kind.WORD else ""


# MySQL 5.6 and later execute up to this, and so does MariaDB, which skips 50700 to 99999.
_ALWAYS_EXECUTED_VERSION = 50599
# Of one statement. mariadb-dump has two.
_MOST_CONDITIONS = 3
# LOCK TABLES of sixteen thousand tables.
_MOST_TOKENS = 100_000


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, without the semicolon at its end."""

    tokens: tuple[Token, ...]

    def readings(self) -> Iterator[tuple[list[Token], bool]]:
        """Every way in which the executable comments may count.

        Yields:
            The tokens, and whether a supported source may read just these.
        """
        conditions = sorted({token.condition for token in self.tokens if token.condition is not None})
        for choice in itertools.product((True, False), repeat=len(conditions)):
            skipped = {condition for condition, is_in in zip(conditions, choice, strict=True) if not is_in}
            is_likely = not any(each.marker == "!" and each.version <= _ALWAYS_EXECUTED_VERSION for each in skipped)
            yield [token for token in self.tokens if token.condition not in skipped], is_likely


def read_statement(text: bytes, reading: Reading) -> Statement:
    """Reads the text of a COM_QUERY.

    Raises:
        Unreadable: see the module's text.
    """
    return _Lexer(text, reading).read()


_SPACES = b" \t\n\v\f\r"
_SYMBOLS = frozenset(b"()*,.=<>!+-/%&|^~@:")
# Each matches one run of one class of bytes from a place that the lexer has come to, and decides nothing.
_spaces_at = re.compile(rb"[ \t\n\v\f\r]*").match
_word_at = re.compile(rb"[0-9A-Za-z_]*").match
_number_at = re.compile(
    rb"0x[0-9A-Fa-f]+|0b[01]+|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?",
).match
_digits_at = re.compile(rb"[0-9]*").match
_high_backtick = re.compile(rb"[\x80-\xff]`").search


class _Lexer:
    def __init__(self, text: bytes, reading: Reading) -> None:
        self._text = text
        self._reading = reading
        self._position = 0
        self._condition: Condition | None = None
        self._conditions: set[Condition] = set()
        self._tokens: list[Token] = []
        self._end_of_last = -1

    def read(self) -> Statement:
        if 0 in self._text:
            raise Unreadable("a NUL byte in a statement")
        while (self._skip_spaces()) < len(self._text):
            start = self._position
            byte = self._text[start : start + 1]
            pair = self._text[start : start + 2]
            if pair == b"/*":
                self._open_comment()
            elif pair == b"*/":
                self._close_comment()
            elif byte == b";":
                self._position += 1
                if self._skip_spaces() < len(self._text):
                    raise Unreadable("a second statement")
            else:
                self._read_token(start, byte, pair)
        # An executable comment may end with the text: mariadb-dump 10.11 sends one so, and it is read in no other way.
        return Statement(tuple(self._tokens))

    def _read_token(self, start: int, byte: bytes, pair: bytes) -> None:
        if byte.isalpha() or byte == b"_":
            self._add(Kind.WORD, self._run(_word_at).upper(), start)
        elif byte.isdigit():
            self._add(Kind.NUMBER, self._number(), start)
        elif byte in {b"'", b'"', b"`"}:
            self._add(_KINDS_BY_QUOTE[byte], self._quoted(byte), start)
        elif pair == b"--" or byte == b"#":
            raise Unreadable("a line comment, or two minus signs in a row")
        elif byte[0] in _SYMBOLS:
            self._position += 1
            self._add(Kind.SYMBOL, byte, start)
        elif byte[0] >= 0x80:
            raise Unreadable("a byte that is not ASCII outside of quotes; quote the name")
        else:
            raise Unreadable(f"the byte 0x{byte[0]:02X} outside of quotes")

    def _add(self, kind: Kind, text: bytes, start: int) -> None:
        self._tokens.append(Token(kind, text, self._condition, start == self._end_of_last))
        if len(self._tokens) > _MOST_TOKENS:
            raise Unreadable(f"a statement of more than {_MOST_TOKENS} words")
        self._end_of_last = self._position

    def _skip_spaces(self) -> int:
        self._run(_spaces_at)
        return self._position

    def _run(self, run_at: Callable[[bytes, int], re.Match[bytes] | None]) -> bytes:
        run = run_at(self._text, self._position)
        if run is None:
            return b""
        self._position = run.end()
        return run.group()

    def _number(self) -> bytes:
        number = self._run(_number_at)
        if self._run(_word_at):
            # MySQL takes 1.5INTO and 1e5INTO apart, but not 1INTO.
            raise Unreadable("a number with a name right behind it; quote the name")
        return number

    def _quoted(self, quote: bytes) -> bytes:
        text, start = self._text, self._position + 1
        position, end = start, -1
        while True:
            if end < position:
                end = text.find(quote, position)
            if end < 0:
                raise Unreadable("a quote without an end")
            backslash = -1 if quote == b"`" else text.find(b"\\", position, end)
            if backslash >= 0:
                self._require_unambiguous_backslash(quote, backslash, is_first=backslash == start)
                position = backslash + 2
            elif text[end + 1 : end + 2] == quote:
                position = end + 2
            else:
                break
        content = text[start:end]
        if quote == b"`" and not self._reading.is_ascii_transparent and _high_backtick(text, start, end + 1):
            raise Unreadable(_AMBIGUOUS_CHARACTER)
        if self._condition is not None and (b"*/" in content or b"/*" in content):
            raise Unreadable("the end or the beginning of a comment inside quotes inside an executable comment")
        self._position = end + 1
        return content

    def _require_unambiguous_backslash(self, quote: bytes, at: int, *, is_first: bool) -> None:
        if not is_first and self._text[at - 1] >= 0x80 and not self._reading.is_ascii_transparent:
            raise Unreadable(_AMBIGUOUS_CHARACTER)
        if self._text[at + 1 : at + 2] == quote and not (quote == b"'" and self._reading.has_backslash_escapes):
            raise Unreadable(
                "a backslash before a quote, which depends on sql_mode; double the quote, or SET sql_mode = '' first"
            )

    def _open_comment(self) -> None:
        text = self._text
        opening = next((each for each in _SPECIAL_COMMENTS if text.startswith(each, self._position)), b"")
        if self._condition is not None:
            raise Unreadable("a comment inside an executable comment")
        if opening == b"":
            end = text.find(b"*/", self._position + 2)
            if end < 0:
                raise Unreadable("a comment without an end")
            if text.find(b"/*", self._position + 2, end) >= 0:
                raise Unreadable("a comment inside a comment")
            self._position = end + 2
            return
        if opening not in {b"/*M!", b"/*!"}:
            raise Unreadable("an optimizer hint" if opening == b"/*+" else "a comment that begins with /*m!")
        self._position += len(opening)
        version = self._run(_digits_at)
        lengths = {0, 5} if opening == b"/*!" else {0, 5, 6}
        if len(version) not in lengths or text[self._position : self._position + 1] not in _SPACE_BYTES:
            raise Unreadable("an executable comment without a version of five digits and a space")
        self._condition = Condition(opening[2:].decode("ascii"), int(version or b"0"))
        self._conditions.add(self._condition)
        if len(self._conditions) > _MOST_CONDITIONS:
            raise Unreadable(f"executable comments of more than {_MOST_CONDITIONS} kinds")

    def _close_comment(self) -> None:
        if self._condition is None:
            raise Unreadable("the end of a comment without its beginning")
        self._position += 2
        self._condition = None


_KINDS_BY_QUOTE = {b"'": Kind.STRING, b'"': Kind.DOUBLE_QUOTED, b"`": Kind.NAME}
_SPECIAL_COMMENTS = (b"/*M!", b"/*m!", b"/*!", b"/*+")
_SPACE_BYTES = frozenset(_SPACES[index : index + 1] for index in range(len(_SPACES)))
_AMBIGUOUS_CHARACTER = (
    "a byte that is not ASCII before a backslash or a backtick, which may be one character in this session's character "
    "set; connect with utf8mb4"
)
