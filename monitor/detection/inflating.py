"""Protocol compression, looked into: which algorithm a frame uses is told by its first bytes.

The one door to zstd here, which the standard library has from 3.14 on.
"""

import sys
import zlib
from collections.abc import Iterator

from wire.compression import INFLATED_PIECE_BYTES, ZlibInflater
from wire.errors import MalformedPacket

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, section 3.1.1
_SAMPLE_BYTES = 4096


class SniffingInflater:
    """A `wire.compression.Inflater` that takes whichever algorithm the data is of."""

    def __init__(self) -> None:
        self._stream: ZlibInflater | _ZstdInflater | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the end of the compressed data has been seen, and nothing behind it."""
        return self._stream is not None and self._stream.is_finished

    def inflate(self, data: bytes) -> Iterator[bytes]:
        """As in `Inflater`."""
        if not data:
            return
        if self._stream is None:
            self._stream = _ZstdInflater() if data[0] == ZSTD_MAGIC[0] else ZlibInflater()
        yield from self._stream.inflate(data)


class _ZstdInflater:
    def __init__(self) -> None:
        self._stream = zstd.ZstdDecompressor()

    @property
    def is_finished(self) -> bool:
        return self._stream.eof and not self._stream.unused_data

    def inflate(self, data: bytes) -> Iterator[bytes]:
        if self._has_ended():
            raise MalformedPacket("a compressed frame goes on behind its end")
        try:
            while piece := self._stream.decompress(data, INFLATED_PIECE_BYTES):
                yield piece
                if self._has_ended():
                    return
                data = b""
        except zstd.ZstdError as error:
            raise MalformedPacket(f"a compressed frame: {error}") from error

    def _has_ended(self) -> bool:
        return self._stream.eof


def inflates_so_far(body: bytes, *, is_whole: bool, content_bytes: int) -> bool:
    """Whether bytes are the beginning of compressed data, or all of it.

    Args:
        body: the first bytes of a frame's body.
        is_whole: whether they are the whole body.
        content_bytes: what the frame's header says it holds.
    """
    try:
        if body.startswith(ZSTD_MAGIC):
            stream = zstd.ZstdDecompressor()
            content = stream.decompress(body, content_bytes + 1 if is_whole else _SAMPLE_BYTES)
            is_finished = stream.eof
        else:
            inflater = zlib.decompressobj()
            content = inflater.decompress(body, content_bytes + 1 if is_whole else _SAMPLE_BYTES)
            is_finished = inflater.eof
    except (zlib.error, zstd.ZstdError):
        return False
    return is_finished and len(content) == content_bytes if is_whole else not is_finished
