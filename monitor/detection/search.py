"""The search for a place to begin, in the middle of a stream: after a late start, or a hole.

Each candidate is found by a few bytes that a compiled expression finds fast, and then held against what must be true
of it. What is found is a place to read on from, and is not yet proof of anything.
"""

import re
import struct
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import NamedTuple

from monitor.detection.commands import judge_command
from monitor.detection.events import schema_of_column, see_event
from monitor.detection.inflating import ZSTD_MAGIC, inflates_so_far
from monitor.detection.opening import is_record_header
from monitor.detection.records import RECORD_HEADER_BYTES
from wire.binlog import STREAM_PREFIX_BYTES
from wire.compression import FRAME_HEADER_BYTES
from wire.framing import HEADER_BYTES, MAX_FRAGMENT_BYTES

# How far back the search looks again when more has come: longer commands are not found by it.
WINDOW_BYTES = 8 * 1024
_SHORTEST_ENCRYPTED_BYTES = 17

_EVENT = re.compile(
    rb"\x00(?=(?:\xef[\x00\x01])?.{4}[\x01-\x2a\xa0-\xab].{7}\x00.{5}[\x00-\x03\x40\x80\xc0-\xc3])", re.DOTALL
)
_COMMAND = re.compile(rb"\x00\x00(?=[\x03\x12\x15\x16\x17\x1e\xef])")
_COLUMN = re.compile(rb"\x03def")
_RECORD = re.compile(rb"\x17\x03(?=[\x01-\x03])")
_FRAME = re.compile(rb"\x78(?=[\x01\x5e\x9c\xda])|" + re.escape(ZSTD_MAGIC))
# So much of a frame's body says whether it is one.
_FRAME_SAMPLE_BYTES = 48
_length_at = struct.Struct("<I").unpack_from


class Layer(Enum):
    """What a stream is made of from some place on."""

    PACKETS = auto()
    FRAMES = auto()
    RECORDS = auto()


class Found(NamedTuple):
    """A place to read on from."""

    layer: Layer
    offset: int


class Search(NamedTuple):
    """What came of a search: a place, or from where on it must be searched again when there is more."""

    found: Found | None
    keep_from: int


class _Incomplete(Exception):  # noqa: N818
    """Too little is there to judge a candidate."""


def search(data: bytes, *, in_frames: bool) -> Search:
    """Find the first place in a run of bytes from which it can be read.

    Args:
        data: bytes without a hole.
        in_frames: whether they came out of compressed frames: then they hold neither frames nor records.
    """
    keep_from = len(data)
    best: Found | None = None
    for layer, candidates in _KINDS:
        if in_frames and layer is not Layer.PACKETS:
            continue
        end = len(data) if best is None else best.offset
        for start, judge in candidates(data):
            if start >= end:
                break
            if start < 0:
                continue
            try:
                if judge(data, start):
                    best = Found(layer, start)
                    break
            except _Incomplete:
                keep_from = min(keep_from, start)
    if best is not None:
        return Search(best, best.offset)
    # A candidate may begin in the bytes that end the run.
    return Search(None, max(0, min(keep_from, len(data) - _TAIL_BYTES), len(data) - WINDOW_BYTES))


_TAIL_BYTES = 32
_Judge = Callable[[bytes, int], bool]


def _events(data: bytes) -> Iterator[tuple[int, _Judge]]:
    for match in _EVENT.finditer(data):
        yield match.start() - HEADER_BYTES, _is_event


def _commands(data: bytes) -> Iterator[tuple[int, _Judge]]:
    for match in _COMMAND.finditer(data):
        yield match.start() - 2, _is_command


def _columns(data: bytes) -> Iterator[tuple[int, _Judge]]:
    for match in _COLUMN.finditer(data):
        yield match.start() - HEADER_BYTES, _is_column


def _frames(data: bytes) -> Iterator[tuple[int, _Judge]]:
    for match in _FRAME.finditer(data):
        yield match.start() - FRAME_HEADER_BYTES, _is_frame


def _records(data: bytes) -> Iterator[tuple[int, _Judge]]:
    for match in _RECORD.finditer(data):
        yield match.start(), _is_record


_KINDS: tuple[tuple[Layer, Callable[[bytes], Iterator[tuple[int, _Judge]]]], ...] = (
    (Layer.PACKETS, _events),
    (Layer.PACKETS, _commands),
    (Layer.PACKETS, _columns),
    (Layer.FRAMES, _frames),
    (Layer.RECORDS, _records),
)


def _length(data: bytes, start: int) -> int:
    length: int = _length_at(data, start)[0] & MAX_FRAGMENT_BYTES
    return length


def _is_event(data: bytes, start: int) -> bool:
    body = start + HEADER_BYTES
    return see_event(data[body : body + STREAM_PREFIX_BYTES], _length(data, start)) is not None


def _is_command(data: bytes, start: int) -> bool:
    body, length = start + HEADER_BYTES, _length(data, start)
    payload = data[body : body + length]
    if len(payload) < length:
        if length <= WINDOW_BYTES // 2:
            raise _Incomplete
        return False
    return judge_command(payload, length).is_strict


def _is_column(data: bytes, start: int) -> bool:
    body, length = start + HEADER_BYTES, _length(data, start)
    payload = data[body : body + length]
    if len(payload) < length <= 1024:
        raise _Incomplete
    return schema_of_column(payload) is not None


def _is_frame(data: bytes, start: int) -> bool:
    body_bytes = int.from_bytes(data[start : start + 3], "little")
    content_bytes = int.from_bytes(data[start + 4 : start + FRAME_HEADER_BYTES], "little")
    if not body_bytes or not content_bytes or body_bytes > content_bytes + 64:
        return False
    body = data[start + FRAME_HEADER_BYTES : start + FRAME_HEADER_BYTES + body_bytes]
    if len(body) < min(body_bytes, _FRAME_SAMPLE_BYTES):
        raise _Incomplete
    return inflates_so_far(body, is_whole=len(body) == body_bytes, content_bytes=content_bytes)


def _is_record(data: bytes, start: int) -> bool:
    header = data[start : start + RECORD_HEADER_BYTES]
    if len(header) < RECORD_HEADER_BYTES:
        raise _Incomplete
    length = header[3] << 8 | header[4]
    if not is_record_header(header) or length < _SHORTEST_ENCRYPTED_BYTES:
        return False
    following = data[start + RECORD_HEADER_BYTES + length :][:RECORD_HEADER_BYTES]
    return len(following) < RECORD_HEADER_BYTES or is_record_header(following)
