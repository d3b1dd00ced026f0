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
from wire.binlog import SEMI_SYNC_MAGIC, STREAM_PREFIX_BYTES, EventType
from wire.commands import Command
from wire.compression import FRAME_HEADER_BYTES
from wire.framing import HEADER_BYTES, MAX_FRAGMENT_BYTES

# How far back the search looks again when more has come: a record and the header behind it, or a command.
WINDOW_BYTES = 20 * 1024
_LONGEST_COMMAND_BYTES = 8 * 1024
_SHORTEST_ENCRYPTED_BYTES = 17

# An event with a timestamp, from the timestamp's last byte on: the type, the size's last byte, the flags' last byte.
# Before it stands the status byte, or the semi-synchronous header.
_EVENT = re.compile(
    rb"[\x38-\x9e](?=[\x01-\x2a\xa0-\xab].{7}[\x00-\x40].{5}[\x00-\x03\x40\x80\xc0-\xc3])"
    rb"(?:(?<=\x00.{4})|(?<=\x00\xef[\x00\x01].{4}))",
    re.DOTALL,
)
_BEHIND_PLAIN_TIMESTAMP, _BEHIND_SEMI_SYNC_TIMESTAMP = HEADER_BYTES + 4, HEADER_BYTES + 6
# An event without one is artificial, or a heartbeat: status or flag byte, timestamp, type.
_TIMELESS = tuple(
    bytes([0, 0, 0, 0, 0, code])
    for code in (
        EventType.ROTATE,
        EventType.FORMAT_DESCRIPTION,
        EventType.HEARTBEAT,
        EventType.HEARTBEAT_V2,
        EventType.MARIADB_GTID_LIST,
    )
)
# The length's last byte, the sequence id, the command.
_COMMANDS = tuple(
    bytes([0, 0, code])
    for code in (
        Command.COM_QUERY,
        Command.COM_BINLOG_DUMP,
        Command.COM_REGISTER_SLAVE,
        Command.COM_STMT_PREPARE,
        Command.COM_STMT_EXECUTE,
        Command.COM_BINLOG_DUMP_GTID,
        SEMI_SYNC_MAGIC,
    )
)
_COLUMN = (b"\x03def",)
_RECORDS = (b"\x17\x03\x03", b"\x17\x03\x02", b"\x17\x03\x01")
# What zlib begins with at each of its levels (RFC 1950, section 2.2).
_COMPRESSED = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", ZSTD_MAGIC)
# A candidate may begin in the last bytes of a run.
_TAIL_BYTES = 32
# A frame of up to so many bytes is looked at whole: other things hold compressed data too. Of a larger one a part.
_FRAME_WHOLE_BYTES = 8 * 1024
_FRAME_SAMPLE_BYTES = 4096
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


def search(data: bytes, *, in_frames: bool, is_anchored: bool, packets_from: int = 0) -> Search:
    """Find the first place in a run of bytes from which it can be read.

    Args:
        data: bytes without a hole.
        in_frames: whether they came out of compressed frames: then they hold neither frames nor records.
        is_anchored: whether they are all of their run that was seen.
        packets_from: where the first packet may begin.
    """
    keep_from = len(data)
    best: Found | None = None
    for layer, places, judge in _KINDS:
        if in_frames and layer is not Layer.PACKETS:
            continue
        first = packets_from if layer is Layer.PACKETS else 0
        for start in places(data):
            if start < first or (best is not None and start >= best.offset):
                continue
            try:
                if judge(data, start):
                    best = Found(layer, start)
            except _Incomplete:
                keep_from = min(keep_from, start)
    if best is None and is_anchored and not in_frames and _is_one_record(data):
        best = Found(Layer.RECORDS, 0)
    if best is not None:
        return Search(best, best.offset)
    return Search(None, max(0, min(keep_from, len(data) - _TAIL_BYTES), len(data) - WINDOW_BYTES))


def _places(data: bytes, needles: tuple[bytes, ...], back: int) -> Iterator[int]:
    """Where any of some beginnings stands, less `back`; finding bytes is several times faster than any expression."""
    for needle in needles:
        place = data.find(needle)
        while place >= 0:
            yield place - back
            place = data.find(needle, place + 1)


def _events(data: bytes) -> Iterator[int]:
    for match in _EVENT.finditer(data):
        yield match.start() - _BEHIND_PLAIN_TIMESTAMP
        yield match.start() - _BEHIND_SEMI_SYNC_TIMESTAMP
    for place in _places(data, _TIMELESS, HEADER_BYTES):
        yield place
        yield place - 2


def _commands(data: bytes) -> Iterator[int]:
    return _places(data, _COMMANDS, 2)


def _columns(data: bytes) -> Iterator[int]:
    return _places(data, _COLUMN, HEADER_BYTES)


def _frames(data: bytes) -> Iterator[int]:
    return _places(data, _COMPRESSED, FRAME_HEADER_BYTES)


def _records(data: bytes) -> Iterator[int]:
    return _places(data, _RECORDS, 0)


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
        if length <= _LONGEST_COMMAND_BYTES:
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
    if len(body) < (body_bytes if body_bytes <= _FRAME_WHOLE_BYTES else _FRAME_SAMPLE_BYTES):
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
    if len(following) < RECORD_HEADER_BYTES:
        raise _Incomplete
    return is_record_header(following)


def _is_one_record(data: bytes) -> bool:
    """Whether these are an encrypted record, no more and no less."""
    if not data.startswith(_RECORDS) or len(data) < RECORD_HEADER_BYTES + _SHORTEST_ENCRYPTED_BYTES:
        return False
    return len(data) == RECORD_HEADER_BYTES + (data[3] << 8 | data[4])


_KINDS: tuple[tuple[Layer, Callable[[bytes], Iterator[int]], Callable[[bytes, int], bool]], ...] = (
    (Layer.PACKETS, _events, _is_event),
    (Layer.PACKETS, _commands, _is_command),
    (Layer.PACKETS, _columns, _is_column),
    (Layer.FRAMES, _frames, _is_frame),
    (Layer.RECORDS, _records, _is_record),
)
