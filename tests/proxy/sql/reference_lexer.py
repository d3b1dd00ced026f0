"""A source's lexer in one of its modes, byte by byte and as plainly as possible, beside `proxy.sql.statements`.

After MySQL's `sql/sql_lex.cc` (lex_one_token, get_text, consume_comment): it knows exactly what its session is set to,
so it never has to refuse.
"""

from __future__ import annotations

from dataclasses import dataclass

SPACES = b" \t\n\v\f\r"


@dataclass(frozen=True)
class Mode:
    """What decides how a text is read.

    Attributes:
        escapes: sql_mode lacks NO_BACKSLASH_ESCAPES.
        ansi: sql_mode has ANSI_QUOTES.
        is_gbk: two bytes may be one character, as in gbk and sjis.
        is_latin1: 0xA0 is a space.
        version: of a MySQL, which executes comments up to it; a MariaDB executes `M!`, too.
    """

    escapes: bool = True
    ansi: bool = False
    is_gbk: bool = False
    is_latin1: bool = False
    version: int = 80000
    is_mariadb: bool = False


class Broken(Exception):  # noqa: N818
    """The source would answer with a syntax error."""


def read_as(text: bytes, mode: Mode) -> list[list[bytes]]:
    """The statements of a text, each as its words and symbols outside of quotes, `''` standing for what is quoted."""
    statements: list[list[bytes]] = [[]]
    position, in_comment = 0, False
    while position < len(text):
        byte = text[position : position + 1]
        here = text[position:]
        if byte in set(map(bytes, zip(SPACES))) or (mode.is_latin1 and byte == b"\xa0"):
            position += 1
        elif here.startswith(b"/*") and (opened := _executed(here, mode)):
            position, in_comment = position + opened, True
        elif here.startswith(b"/*"):
            position += _skipped(here)
        elif here.startswith(b"*/") and in_comment:
            position, in_comment = position + 2, False
        elif byte == b"#" or (here.startswith(b"--") and (len(here) == 2 or here[2] <= 0x20)):
            end = here.find(b"\n")
            position = len(text) if end < 0 else position + end + 1
        elif byte in {b"'", b'"', b"`"}:
            position = _end_of_quoted(text, position, mode)
            statements[-1].append(b"''")
        elif here.startswith(b"$$"):
            end = here.find(b"$$", 2)
            if end < 0:
                raise Broken
            position += end + 2
            statements[-1].append(b"''")
        elif byte == b";":
            position += 1
            statements.append([])
        else:
            size = _size_of_word(here, mode)
            statements[-1].append(here[:size].upper())
            position += size
    return [statement for statement in statements if statement] or [[]]


def _executed(here: bytes, mode: Mode) -> int:
    """How long the opening of a comment is that this source executes; 0 for one that it skips."""
    marker = 4 if here.startswith(b"/*M!") else 3 if here.startswith(b"/*!") else 0
    if not marker or (marker == 4 and not mode.is_mariadb):
        return 0
    digits = here[marker : marker + 6]
    count = 6 if digits.isdigit() and len(digits) == 6 else 5 if digits[:5].isdigit() and len(digits) >= 5 else 0
    if count == 6 and not mode.is_mariadb and here[marker + 6 : marker + 7] not in set(map(bytes, zip(SPACES))):
        count = 5
    version = int(digits[:count] or b"0")
    if mode.is_mariadb and marker == 3 and 50700 <= version <= 99999:
        return 0
    return marker + count if version <= mode.version else 0


def _skipped(here: bytes) -> int:
    # A comment that is not executed may hold others, one level deep; a plain one may not.
    nests = here.startswith((b"/*!", b"/*M!"))
    position = 2
    while position < len(here):
        if here.startswith(b"*/", position):
            return position + 2
        if nests and here.startswith(b"/*", position):
            end = here.find(b"*/", position + 2)
            position = len(here) if end < 0 else end + 2
        else:
            position += 1
    return len(here)


def _end_of_quoted(text: bytes, start: int, mode: Mode) -> int:
    quote = text[start : start + 1]
    is_name = quote == b"`" or (quote == b'"' and mode.ansi)
    position = start + 1
    while position < len(text):
        byte = text[position : position + 1]
        is_first_half = mode.is_gbk and 0x81 <= byte[0] <= 0xFE and _is_second_byte(text[position + 1 : position + 2])
        if is_first_half or (byte == b"\\" and mode.escapes and not is_name):
            position += 2
        elif byte == quote:
            if text[position + 1 : position + 2] != quote:
                return position + 1
            position += 2
        else:
            position += 1
    raise Broken


def _is_second_byte(byte: bytes) -> bool:
    return bool(byte) and (0x40 <= byte[0] <= 0x7E or 0x80 <= byte[0] <= 0xFE)


def _size_of_word(here: bytes, mode: Mode) -> int:
    if not _is_word_byte(here[0], mode):
        return 1
    if here[:1].isdigit() or (here[:1] == b"." and here[1:2].isdigit()):
        return _size_of_number(here, mode)
    return _run(here, 0, mode)


def _size_of_number(here: bytes, mode: Mode) -> int:
    whole = _digits(here, 0)
    if here[whole : whole + 1] == b".":
        return _exponent(here, _digits(here, whole + 1))
    if not _is_word_byte(here[whole] if whole < len(here) else 0, mode):
        return whole
    # A number with an exponent ends there, whatever follows; anything else with a letter is a name.
    with_exponent = _exponent(here, whole)
    return with_exponent if with_exponent > whole else _run(here, 0, mode)


def _exponent(here: bytes, position: int) -> int:
    if here[position : position + 1].lower() != b"e":
        return position
    sign = position + 1 + (here[position + 1 : position + 2] in {b"+", b"-"})
    end = _digits(here, sign)
    return end if end > sign else position


def _digits(here: bytes, position: int) -> int:
    while here[position : position + 1].isdigit():
        position += 1
    return position


def _run(here: bytes, position: int, mode: Mode) -> int:
    while position < len(here) and _is_word_byte(here[position], mode):
        position += 1
    return position


def _is_word_byte(byte: int, mode: Mode) -> bool:
    return bytes([byte]).isalnum() or byte in b"_$" or (byte >= 0x80 and not (mode.is_latin1 and byte == 0xA0))
