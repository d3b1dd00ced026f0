"""A file in large pieces, and how far it was read."""

from mmap import mmap
from typing import Protocol

from monitor.files.mapping import Mapping

# Fits a core's cache, and is large beside the part of a packet that is carried over.
PIECE_BYTES = 1 << 18

# Link type, seconds since the epoch, what was captured of the frame, how long it was.
Packet = tuple[int, float, bytes, int]


class Readable(Protocol):
    """A file, or what stands in for one."""

    def read(self, count: int, /) -> bytes:
        """Up to so many bytes; none at the end."""

    def seek(self, offset: int, /) -> int:
        """Goes on from there. Only what is mapped is asked to."""


class Damage(Exception):  # noqa: N818 - it happens to a file, and is no defect of the program
    """Bytes that cannot be what the format says they are."""


class Pieces:
    """What was read of a file and not taken yet.

    Attributes:
        data: all of it; whoever takes from it moves `position`. Slices of it are bytes.
        position: of the first byte that was not taken.
        is_truncated: whether the file has ended in the middle of something.
    """

    def __init__(self, file: Readable, mapping: Mapping | None = None) -> None:
        """Begins at the start of a file.

        Args:
            file: where to read.
            mapping: of the same file, if it may be mapped.
        """
        self.data: bytes | mmap = b""
        self.position = 0
        self.is_truncated = False
        self._file = file
        self._mapping = mapping
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
            if not self._read(count):
                return False
        return True

    def _read(self, count: int) -> bool:
        """Gets more of the file behind what is left; whether there was more."""
        if self._mapping is not None and self._mapping.is_wanted():
            self._read_from_now_on(self._mapping)
        if self._mapping is not None:
            end = self._offset + len(self.data)
            found = self._mapping.window(self.offset, count)
            if found is None or found[1] + len(found[0]) <= end:
                return False
            start = self.offset
            self.data, self._offset = found
            self.position = start - self._offset
            return True
        piece = self._file.read(PIECE_BYTES)
        self._offset += self.position
        self.data = self.data[self.position :] + piece
        self.position = 0
        return bool(piece)

    def _read_from_now_on(self, mapping: Mapping) -> None:
        self._offset = self.offset
        self.data, self.position = b"", 0
        mapping.give_back()
        self._mapping = None
        self._file.seek(self._offset)

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

    def close(self) -> None:
        """Lets go of the file."""
        if self._mapping is not None:
            self.data, self.position = b"", 0
            self._mapping.give_back()
            self._mapping = None

    def end(self) -> None:
        """Notes that nothing more can be taken."""
        self.is_truncated = self.position < len(self.data)
