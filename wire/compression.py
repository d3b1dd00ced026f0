"""Compressed frames: what protocol compression puts around packets once the login has succeeded.

Manual: page_protocol_basic_compression and page_protocol_basic_compression_packet. From the packet behind the OK that
ends authentication on, either side wraps what it would have sent, packet headers included, into frames: int<3> length
of the body, int<1> sequence id of the frame, int<3> length of the content, body. Content of length 0 means that the
body is the content, as it is. Packets begin and end anywhere in frames. Frames count their own sequence ids.

zlib is the standard library's. zstd is not before Python 3.14, so whoever does the I/O brings an `Inflater` for it.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from wire.capabilities import Capability
from wire.datatypes import Payload
from wire.errors import MalformedPacket
from wire.framing import MAX_FRAGMENT_BYTES

FRAME_HEADER_BYTES = 7
# What an inflater gives at a time, however well it was compressed.
INFLATED_PIECE_BYTES = 64 * 1024
_GROWTH_BYTES = 16 * 1024


class Algorithm(StrEnum):
    """By the names of MySQL's `protocol_compression_algorithms`."""

    ZLIB = "zlib"
    ZSTD = "zstd"


def agreed_algorithm(capabilities: Capability) -> Algorithm | None:
    """Which algorithm greeting and login have in common; with both, servers and replicas take zlib."""
    if capabilities & Capability.CLIENT_COMPRESS:
        return Algorithm.ZLIB
    if capabilities & Capability.CLIENT_ZSTD_COMPRESSION_ALGORITHM:
        return Algorithm.ZSTD
    return None


class Inflater(Protocol):
    """Decompresses the body of one frame."""

    @property
    def is_finished(self) -> bool:
        """Whether the end of the compressed data has been seen, and nothing behind it."""

    def inflate(self, data: bytes) -> Iterator[bytes]:
        """Takes the next part of the body; yields what it holds in pieces of at most INFLATED_PIECE_BYTES.

        Raises:
            MalformedPacket: This is no data of the algorithm.
        """


class ZlibInflater:
    """An `Inflater` for zlib."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()

    @property
    def is_finished(self) -> bool:
        """Whether the end of the compressed data has been seen, and nothing behind it."""
        return self._stream.eof and not self._stream.unused_data

    def inflate(self, data: bytes) -> Iterator[bytes]:
        """As in `Inflater`."""
        try:
            while piece := self._stream.decompress(data, INFLATED_PIECE_BYTES):
                yield piece
                data = self._stream.unconsumed_tail
        except zlib.error as error:
            raise MalformedPacket(f"a compressed frame: {error}") from error


@dataclass(frozen=True, slots=True)
class FrameEnd:
    """A frame is complete.

    Attributes:
        offset: where in the data that was just given it ends.
        sequence_id: its own.
    """

    offset: int
    sequence_id: int


class FrameReader:
    """Follows the frames of one direction, however its bytes were cut, and gives their content as it comes.

    It keeps no more than a header, so a frame of 16 MiB costs it nothing.

    Args:
        new_inflater: makes an `Inflater`, one for each frame.
        max_content_bytes: the largest content of one frame that is borne.
    """

    __slots__ = ("_body_left", "_content_left", "_header", "_inflater", "_max_content_bytes", "_new_inflater")

    def __init__(self, new_inflater: Callable[[], Inflater], *, max_content_bytes: int = MAX_FRAGMENT_BYTES) -> None:
        self._new_inflater = new_inflater
        self._max_content_bytes = max_content_bytes
        self._header = b""  # complete while a frame is being read
        self._body_left = 0
        self._content_left = 0
        self._inflater: Inflater | None = None  # None for a body that is its own content

    @property
    def is_between_frames(self) -> bool:
        """Whether the last byte ended a frame."""
        return not self._header

    def bytes_needed(self) -> int:
        """How many bytes must still come for the rest of a header, or of a body: who reads no more stays in it."""
        return self._body_left or FRAME_HEADER_BYTES - len(self._header)

    def advance(self, data: Payload) -> Iterator[bytes | FrameEnd]:
        """Takes the next piece; yields content, and the end of each frame.

        Raises:
            MalformedPacket: A frame is empty, larger than is borne, or does not hold what its header says.
        """
        view, position = memoryview(data), 0
        while position < len(view):
            if len(self._header) < FRAME_HEADER_BYTES:
                taken = bytes(view[position : position + FRAME_HEADER_BYTES - len(self._header)])
                self._header += taken
                position += len(taken)
                if len(self._header) < FRAME_HEADER_BYTES:
                    return
                self._begin_body()
            body = bytes(view[position : position + self._body_left])
            self._body_left -= len(body)
            position += len(body)
            yield from self._content_of(body)
            if not self._body_left:
                yield self._end(position)

    def _begin_body(self) -> None:
        self._body_left = int.from_bytes(self._header[:3], "little")
        content_bytes = int.from_bytes(self._header[4:7], "little")
        self._inflater = self._new_inflater() if content_bytes else None
        self._content_left = content_bytes or self._body_left
        if not self._content_left:
            raise MalformedPacket("an empty compressed frame")
        # What does not shrink may grow a little, where a driver compresses it all the same.
        if self._content_left > self._max_content_bytes or self._body_left > self._max_content_bytes + _GROWTH_BYTES:
            raise MalformedPacket(
                f"a compressed frame of {self._content_left} bytes in {self._body_left}, where "
                f"{self._max_content_bytes} are allowed"
            )

    def _content_of(self, body: bytes) -> Iterator[bytes]:
        pieces = self._inflater.inflate(body) if self._inflater is not None else (body,) if body else ()
        for piece in pieces:
            self._content_left -= len(piece)
            if self._content_left < 0:
                raise MalformedPacket("a compressed frame holds more than its header says")
            yield piece

    def _end(self, position: int) -> FrameEnd:
        if self._content_left or (self._inflater is not None and not self._inflater.is_finished):
            raise MalformedPacket("a compressed frame does not hold what its header says")
        end = FrameEnd(position, self._header[3])
        self._header, self._inflater = b"", None
        return end


def encode_stored_frames(data: Payload, sequence_id: int) -> bytes:
    """Write packets into frames as they are: what is short is not worth compressing, and any peer reads it."""
    view = memoryview(data)
    frames: list[Payload] = []
    for number, start in enumerate(range(0, len(view), MAX_FRAGMENT_BYTES)):
        body = view[start : start + MAX_FRAGMENT_BYTES]
        frames += [len(body).to_bytes(3, "little"), bytes([(sequence_id + number) % 256]), bytes(3), body]
    return b"".join(frames)
