"""Whose turn it is in the command phase, as far as the answers tell.

A refused command is answered by Binlock, and that answer must come where the client looks for it: behind the whole
answer to the command before, never inside it. Clients wait for an answer before they ask again (some of MariaDB's
connectors can be told not to, and so can whoever means harm), and then it does. One that does not wait is carried as
long as the source answers everything itself; a refusal ends its session.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from wire.commands import Command
from wire.compression import FrameEnd, FrameReader, Inflater
from wire.errors import UnexpectedPacket
from wire.framing import HEADER_BYTES, MAX_FRAGMENT_BYTES
from wire.results import EOF_HEADER, ERR_HEADER, OK_HEADER

_HEAD_BYTES = HEADER_BYTES + 1
_word_at = struct.Struct("<I").unpack_from
_WITHOUT_ANSWER = frozenset({Command.COM_QUIT, Command.COM_STMT_SEND_LONG_DATA, Command.COM_STMT_CLOSE})


class Turns:
    """The commands that went to the source, and the packets of its answers, by their headers alone.

    Attributes:
        first_byte: of the first packet of the answer to the last command; None until it has come.
    """

    def __init__(self) -> None:
        self.first_byte: int | None = None
        self._command = Command.COM_SLEEP
        self._is_waiting = False
        self._has_overtaken = False
        # A header and the first byte behind it, while they are incomplete; then how much of the payload is to come.
        self._head = bytearray()
        self._left = 0
        self._last_byte = self._last_length = 0

    def asked(self, command: Command) -> None:
        """A command has been sent to the source."""
        if command in _WITHOUT_ANSWER:
            return
        self._has_overtaken |= not self._is_answered
        self._command, self._is_waiting, self.first_byte = command, True, None

    def watch(self, piece: memoryview) -> memoryview:
        """Follows a piece of the source's answers, which it returns as it is."""
        size, position = len(piece), 0
        while self._head and position < size:
            self._head.append(piece[position])
            position += 1
            self._end_head()
        if self._head:
            return piece
        position += self._left
        while position + _HEAD_BYTES <= size:
            length = _word_at(piece, position)[0] & MAX_FRAGMENT_BYTES
            if length:
                self._begin(length, piece[position + HEADER_BYTES])
            else:
                self._begin(0, 0)
            position += HEADER_BYTES + length
        self._left = max(0, position - size)
        if position < size:
            self._head += piece[position:]
            self._end_head()
        return piece

    def require_answered(self, *, is_quiet: bool) -> None:
        """Makes sure that an answer of Binlock's own would be where the client looks for it.

        Args:
            is_quiet: whether everything that the source has sent has gone to the client.

        Raises:
            UnexpectedPacket: the client has not waited for the answer to an earlier command.
        """
        if self._has_overtaken or not is_quiet or not self._is_answered:
            raise UnexpectedPacket("a refused command came before the end of the answer to the one before it")

    @property
    def _is_answered(self) -> bool:
        if not self._is_waiting:
            return True
        if self.first_byte is None or self._left or self._head or self._last_length == MAX_FRAGMENT_BYTES:
            return False
        # Of a result set at least its end looks like an end. Not every answer has one that does.
        return self._command is not Command.COM_QUERY or self._last_byte in {OK_HEADER, EOF_HEADER, ERR_HEADER}

    def _end_head(self) -> None:
        if len(self._head) < HEADER_BYTES:
            return
        length = _word_at(self._head, 0)[0] & MAX_FRAGMENT_BYTES
        if length == 0:
            self._begin(0, 0)
        elif len(self._head) == _HEAD_BYTES:
            self._begin(length, self._head[HEADER_BYTES])
            self._left = length - 1
        else:
            return
        self._head.clear()

    def _begin(self, length: int, byte: int) -> None:
        self._last_length, self._last_byte = length, byte
        if self.first_byte is None:
            self.first_byte = byte


class CompressedTurns(Turns):
    """As `Turns`, where the source's answers come in compressed frames."""

    def __init__(self, new_inflater: Callable[[], Inflater]) -> None:
        super().__init__()
        self._frames = FrameReader(new_inflater)

    def watch(self, piece: memoryview) -> memoryview:
        """Follows a piece of the source's answers, which it returns as it is.

        Raises:
            MalformedPacket: it is no compressed frame.
        """
        for part in self._frames.advance(piece):
            if not isinstance(part, FrameEnd):
                super().watch(memoryview(part))
        return piece
