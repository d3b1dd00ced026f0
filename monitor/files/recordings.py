"""Capture files: pcap and pcapng, plain or compressed with gzip, from a file or from standard input.

scapy reads them too, but a packet takes its readers several times as long as it takes to pass one over, and importing
them takes as long as reading a hundred thousand packets. The formats are simple:
https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/ and draft-ietf-opsawg-pcapng.

A file is mapped into memory or read in large pieces, and no more than a few megabytes of it are there at a time.
"""

import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from monitor.files.mapping import Mapping
from monitor.files.pcap import PCAP_MAGICS, Pcap
from monitor.files.pcapng import SECTION_HEADER, Pcapng
from monitor.files.pieces import Damage, Packet, Pieces

_GZIP_MAGIC = b"\x1f\x8b"
_MAGIC_BYTES = 4
_COMPRESSED_BYTES = 1 << 16


class RecordingError(Exception):
    """A capture file cannot be used, or only in part; the text names it, and says why and what to do."""


class _Format(Protocol):
    def __iter__(self) -> Iterator[Packet]:
        """The packets."""


class Recording:
    """A capture file, open: iterate over it once.

    A context manager. Gives for each packet its link type by libpcap's numbers, the seconds since the epoch, the frame
    as far as it was captured, and how long it was.

    Attributes:
        name: of the file, for people.
        pcap: the file, if it is a classic pcap file, so that whole pieces of it can be taken.
        is_truncated: whether the file ends in the middle of a packet, as one does that is still being written. Known at
            the end.
    """

    def __init__(self, path: Path) -> None:
        """Opens a file, "-" being standard input, and reads its header.

        Raises:
            RecordingError: it cannot be read, or is no capture file.
        """
        self.name = "standard input" if str(path) == "-" else str(path)
        self.pcap: Pcap | None = None
        try:
            self._file = sys.stdin.buffer if str(path) == "-" else path.open("rb")
        except OSError as error:
            raise RecordingError(f"{self.name}: {error.strerror}") from None
        self._pieces = Pieces(self._file)
        try:
            self._pieces = _pieces_of(self._file)
            self._format = self._recognised()
        except RecordingError:
            self._close()
            raise
        except (Damage, OSError, EOFError, zlib.error) as error:
            self._close()
            raise RecordingError(f"{self.name}: {_reason(error)}; it is no capture file, or a damaged one") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        # The file stays open in what is mapped of it, and with it the lease.
        self._pieces.close()
        self._file.close()

    @property
    def is_truncated(self) -> bool:
        """See the class."""
        return self._pieces.is_truncated

    def __iter__(self) -> Iterator[Packet]:
        """The packets.

        Raises:
            RecordingError: the file is damaged from here on. What came before is sound.
        """
        try:
            yield from self._format
        except (Damage, OSError, EOFError, zlib.error) as error:
            raise RecordingError(
                f"{self.name}: damaged at byte {self._pieces.offset}: {_reason(error)}; what comes before was read, "
                "what comes behind was not: capture again, or repair the file"
            ) from None

    def _recognised(self) -> _Format:
        magic = self._pieces.peek(_MAGIC_BYTES)
        if magic in PCAP_MAGICS:
            self.pcap = Pcap(self._pieces)
            return self.pcap
        if magic == SECTION_HEADER:
            return Pcapng(self._pieces)
        if not magic:
            raise RecordingError(f"{self.name}: the file is empty")
        raise RecordingError(
            f"{self.name}: neither pcap nor pcapng: it begins with the bytes {magic.hex(' ')}; tcpdump -w and "
            "dumpcap write files that can be read, editcap converts others"
        )


class _Gunzip:
    """Reads what is compressed. Of a damaged file it gives all that comes before, which Python's own does not."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflate = self._member()

    @staticmethod
    def _member() -> "zlib._Decompress":
        return zlib.decompressobj(16 + zlib.MAX_WBITS)

    def seek(self, offset: int) -> int:
        """Not possible."""
        raise NotImplementedError(offset)

    def read(self, count: int) -> bytes:
        """Up to so many bytes; none at the end.

        Raises:
            EOFError: the file ends in the middle.
            zlib.error: it is damaged.
        """
        while True:
            if self._inflate.eof:
                compressed = self._inflate.unused_data or self._file.read(_COMPRESSED_BYTES)
                # Zeros may follow, as tapes have them.
                if not compressed.strip(b"\0"):
                    return b""
                self._inflate = self._member()
            else:
                compressed = self._inflate.unconsumed_tail or self._file.read(_COMPRESSED_BYTES)
                if not compressed:
                    raise EOFError("the compressed data end too early")
            data = self._inflate.decompress(compressed, count)
            if data:
                return data


def _pieces_of(file: BinaryIO) -> Pieces:
    # Both kinds of file are buffered, and can look ahead.
    if file.peek(2)[:2] == _GZIP_MAGIC:  # type: ignore[attr-defined]
        return Pieces(_Gunzip(file))
    if file is sys.stdin.buffer:
        return Pieces(file)
    try:
        return Pieces(file, Mapping(file))
    except OSError:
        # Somebody writes to it, or it is somebody else's, or the file system has no leases.
        return Pieces(file)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rstrip(".")
