"""A file in large pieces, and how far it was read."""

from typing import Protocol

# Fits a core's cache, and is large beside the part of a packet that is carried over.
PIECE_BYTES = 1 << 18

# Link type, seconds since the epoch, what was captured of the frame, how long it was.
Packet = tuple[int, float, bytes, int]


class Readable(Protocol):
    """A file, or what stands in for one."""

    def read(self, count: int, /) -> bytes:
        """Up to so many bytes; none at the end."""


class Damage(Exception):  # noqa: N818 - it happens to a file, and is no defect of the program
    """Bytes that cannot be what the format says they are."""


class Pieces:
    """What was read of a file and not taken yet.

    Attributes:
        data: all of it; whoever takes from it moves `position`.
        position: of the first byte that was not taken.
        is_truncated: whether the file has ended in the middle of something.
    """

    def __init__(self, file: Readable) -> None:
        self.data = b""
        self.position = 0
        self.is_truncated = False
        self._file = file
        self._offset = 0

    @property
    def offset(self) -> int:
        """Of the first byte that was not taken, in the file as it is uncompressed."""
        return self._offset + self.position

    def peek(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        self.has(count)
        return self.data[self.position : self.position + count]

    def has(self, count: int) -> bool:
        """Whether there are so many bytes more; reads them if need be."""
        while len(self.data) - self.position < count:
            if not self.read():
                return False
        return True

    def read(self) -> bool:
        """Reads another piece behind what is left; whether there was one."""
        piece = self._file.read(PIECE_BYTES)
        self._offset += self.position
        self.data = self.data[self.position :] + piece
        self.position = 0
        return bool(piece)

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            Damage: there are not so many.
        """
        if not self.has(count):
            raise Damage("it ends too early")
        start = self.position
        self.position += count
        return self.data[start : self.position]

    def end(self) -> None:
        """Notes that nothing more can be taken."""
        self.is_truncated = self.position < len(self.data)
