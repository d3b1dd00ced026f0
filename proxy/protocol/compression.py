"""The inflater that a session's compression needs. The one door to zstd, which the standard library has from 3.14 on.

Compression stays end to end: frames pass as they came. Binlock looks into them, because a command has to be judged and
a stream can end only between two packets; it never compresses anything.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from wire.compression import INFLATED_PIECE_BYTES, Algorithm, Inflater, ZlibInflater
from wire.errors import MalformedPacket

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class ZstdInflater:
    """A `wire.compression.Inflater` for zstd."""

    def __init__(self) -> None:
        self._stream = zstd.ZstdDecompressor()

    @property
    def is_finished(self) -> bool:
        """Whether the end of the compressed data has been seen, and nothing behind it."""
        return self._stream.eof and not self._stream.unused_data

    def inflate(self, data: bytes) -> Iterator[bytes]:
        """As in `wire.compression.Inflater`."""
        if self._stream.eof and data:
            raise MalformedPacket("a compressed frame goes on behind its end")
        try:
            while piece := self._stream.decompress(data, INFLATED_PIECE_BYTES):
                yield piece
                if self._stream.eof:
                    return
                data = b""
        except zstd.ZstdError as error:
            raise MalformedPacket(f"a compressed frame: {error}") from error


_INFLATERS: dict[Algorithm, Callable[[], Inflater]] = {Algorithm.ZLIB: ZlibInflater, Algorithm.ZSTD: ZstdInflater}


def inflater_for(algorithm: Algorithm | None) -> Callable[[], Inflater] | None:
    """What makes the inflater of each frame; None where nothing is compressed."""
    return None if algorithm is None else _INFLATERS[algorithm]


__all__ = ["ZstdInflater", "inflater_for", "zstd"]
