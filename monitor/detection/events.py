"""What a packet from the source's side says: whether it holds a binlog event, or a column of a result.

The rule that works in the middle of a stream: an event says how large it is, and so does the packet around it.
"""

import struct
import zlib
from dataclasses import dataclass

from wire.binlog import EVENT_HEADER_BYTES, SEMI_SYNC_MAGIC, EventType
from wire.datatypes import PayloadReader
from wire.errors import WireError
from wire.results import OK_HEADER

_header_at = struct.Struct("<IBIIIH").unpack_from
_PLAIN_OFFSET = 1
_SEMI_SYNC_OFFSET = 3
_CHECKSUM_BYTES = 4
# Years 2000 to 2054: what lies beyond is no clock of a source.
_EARLIEST_TIMESTAMP, _LATEST_TIMESTAMP = 946_684_800, 2_650_000_000
# log_event.h: the flags of both servers.
_FLAGS = 0xC3FF
_TYPES = frozenset(int(code) for code in EventType) - {EventType.UNKNOWN}
_ACK_FLAGS = (0, 1)
# A checksum is looked at where the event is not large.
CHECKSUM_LIMIT_BYTES = 16 * 1024

_COLUMN_START = b"\x03def"
_FIXED_FIELDS_BYTES = 0x0C
# What replicas ask is answered from these, or from no table.
_SYSTEM_SCHEMAS = frozenset({b"", b"information_schema", b"performance_schema"})


@dataclass(frozen=True, slots=True)
class EventSeen:
    """An event's outside.

    Attributes:
        server_id: of the server that made it.
        is_semi_sync: whether the semi-synchronous header stands before it.
        is_checked: whether its checksum is right.
    """

    server_id: int
    is_semi_sync: bool
    is_checked: bool


def see_event(head: bytes, length: int) -> EventSeen | None:
    """Tell whether a packet holds an event.

    Args:
        head: its payload, or the first part of a long one.
        length: of the whole payload, as its header says; of 16 MiB or more that of the first fragment.
    """
    if len(head) < _PLAIN_OFFSET + EVENT_HEADER_BYTES or head[0] != OK_HEADER:
        return None
    # A timestamp may begin with the semi-synchronous magic as well: the size tells.
    seen = _see_at(_PLAIN_OFFSET, head, length)
    is_semi_sync = len(head) >= _SEMI_SYNC_OFFSET + EVENT_HEADER_BYTES and head[1] == SEMI_SYNC_MAGIC
    if seen is None and is_semi_sync and head[2] in _ACK_FLAGS:
        seen = _see_at(_SEMI_SYNC_OFFSET, head, length)
    return seen


def _see_at(offset: int, head: bytes, length: int) -> EventSeen | None:
    timestamp, type_code, server_id, size, position, flags = _header_at(head, offset)
    if size != length - offset and not (length == 0xFFFFFF and size > length - offset):
        return None
    if type_code not in _TYPES or flags & ~_FLAGS or not server_id:
        return None
    if timestamp and not _EARLIEST_TIMESTAMP <= timestamp <= _LATEST_TIMESTAMP:
        return None
    if size < EVENT_HEADER_BYTES or (position and position < size):
        return None
    is_checked = len(head) == length <= CHECKSUM_LIMIT_BYTES and _is_checksum_right(memoryview(head)[offset:])
    return EventSeen(server_id, offset == _SEMI_SYNC_OFFSET, is_checked)


def _is_checksum_right(event: memoryview) -> bool:
    end = len(event) - _CHECKSUM_BYTES
    if end < EVENT_HEADER_BYTES:
        return False
    return zlib.crc32(event[:end]) == int.from_bytes(event[end:], "little")


def schema_of_column(payload: bytes) -> bytes | None:
    """The schema that a column of a result comes from, empty for an expression; None if this is no column.

    Manual: page_protocol_com_query_response_text_resultset_column_definition, ColumnDefinition41.
    """
    if not payload.startswith(_COLUMN_START):
        return None
    reader = PayloadReader(payload)
    try:
        reader.lenenc_bytes()
        schema = reader.lenenc_bytes()
        for _ in ("table", "original table", "name", "original name"):
            reader.lenenc_bytes()
        # MariaDB's extended metadata may come between.
        if reader.remaining > _FIXED_FIELDS_BYTES + 1:
            reader.lenenc_bytes()
        if reader.int1() != _FIXED_FIELDS_BYTES or reader.remaining < _FIXED_FIELDS_BYTES:
            return None
    except WireError:
        return None
    return schema


def is_of_a_system_schema(schema: bytes) -> bool:
    """Whether a replica's set-up may be answered with a column of this schema."""
    return schema.lower() in _SYSTEM_SCHEMAS
