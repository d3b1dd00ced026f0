"""The event stream: packets around binlog events, the one event that is read, the acknowledgement.

Manual: page_protocol_com_binlog_dump, page_protocol_replication_binlog_event; class
mysql::binlog::event::Rotate_event for the rotate event. Semi-synchronous replication has no page:
plugin/semisync in the server's source.

A packet of the stream is 0x00 and an event; with semi-synchronous replication 0x00, 0xEF, a flag, and an
event. Events can be a gigabyte, so what is read here is read from a packet's first bytes:
`STREAM_PREFIX_BYTES` of them are enough.
"""

import zlib
from dataclasses import dataclass
from enum import IntEnum

from wire.datatypes import Payload, PayloadReader
from wire.errors import MalformedPacket
from wire.results import EOF_HEADER, ERR_HEADER, OK_HEADER, EofPacket, ErrPacket

EVENT_HEADER_BYTES = 19
SEMI_SYNC_MAGIC = 0xEF
STREAM_PREFIX_BYTES = 3 + EVENT_HEADER_BYTES

_CHECKSUM_BYTES = 4
_ROTATE_POSITION_BYTES = 8


class EventType(IntEnum):
    """Type codes, MySQL's and from 160 on MariaDB's. The list grows; an unknown code is no error."""

    UNKNOWN = 0
    START_V3 = 1
    QUERY = 2
    STOP = 3
    ROTATE = 4
    INTVAR = 5
    LOAD = 6
    SLAVE = 7
    CREATE_FILE = 8
    APPEND_BLOCK = 9
    EXEC_LOAD = 10
    DELETE_FILE = 11
    NEW_LOAD = 12
    RAND = 13
    USER_VAR = 14
    FORMAT_DESCRIPTION = 15
    XID = 16
    BEGIN_LOAD_QUERY = 17
    EXECUTE_LOAD_QUERY = 18
    TABLE_MAP = 19
    PRE_GA_WRITE_ROWS = 20
    PRE_GA_UPDATE_ROWS = 21
    PRE_GA_DELETE_ROWS = 22
    WRITE_ROWS_V1 = 23
    UPDATE_ROWS_V1 = 24
    DELETE_ROWS_V1 = 25
    INCIDENT = 26
    HEARTBEAT = 27
    IGNORABLE = 28
    ROWS_QUERY = 29
    WRITE_ROWS = 30
    UPDATE_ROWS = 31
    DELETE_ROWS = 32
    GTID = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    TRANSACTION_CONTEXT = 36
    VIEW_CHANGE = 37
    XA_PREPARE = 38
    PARTIAL_UPDATE_ROWS = 39
    TRANSACTION_PAYLOAD = 40
    HEARTBEAT_V2 = 41
    GTID_TAGGED = 42

    MARIADB_ANNOTATE_ROWS = 160
    MARIADB_BINLOG_CHECKPOINT = 161
    MARIADB_GTID = 162
    MARIADB_GTID_LIST = 163
    MARIADB_START_ENCRYPTION = 164
    MARIADB_QUERY_COMPRESSED = 165
    MARIADB_WRITE_ROWS_COMPRESSED_V1 = 166
    MARIADB_UPDATE_ROWS_COMPRESSED_V1 = 167
    MARIADB_DELETE_ROWS_COMPRESSED_V1 = 168
    MARIADB_WRITE_ROWS_COMPRESSED = 169
    MARIADB_UPDATE_ROWS_COMPRESSED = 170
    MARIADB_DELETE_ROWS_COMPRESSED = 171


def name_of_event_type(code: int) -> str:
    """The type's name, or its number where the name is not known."""
    try:
        return EventType(code).name
    except ValueError:
        return str(code)


@dataclass(frozen=True, slots=True)
class EventHeader:
    """The 19 bytes that begin every event. `event_size_bytes` counts them, and a checksum if there is one."""

    timestamp: int
    type_code: int
    server_id: int
    event_size_bytes: int
    log_position: int
    flags: int

    @classmethod
    def parse(cls, event: Payload) -> "EventHeader":
        """Read the header at the start of an event.

        Raises:
            MalformedPacket: The event claims to be smaller than its header.
            TruncatedPacket: The bytes end within the header.
        """
        reader = PayloadReader(event[:EVENT_HEADER_BYTES])
        header = cls(
            timestamp=reader.int4(),
            type_code=reader.int1(),
            server_id=reader.int4(),
            event_size_bytes=reader.int4(),
            log_position=reader.int4(),
            flags=reader.int2(),
        )
        if header.event_size_bytes < EVENT_HEADER_BYTES:
            raise MalformedPacket(f"an event of {header.event_size_bytes} bytes, less than its header")
        return header

    def serialize(self) -> bytes:
        """Write the header."""
        return (
            self.timestamp.to_bytes(4, "little")
            + self.type_code.to_bytes(1, "little")
            + self.server_id.to_bytes(4, "little")
            + self.event_size_bytes.to_bytes(4, "little")
            + self.log_position.to_bytes(4, "little")
            + self.flags.to_bytes(2, "little")
        )


@dataclass(frozen=True, slots=True)
class StreamPacket:
    """A packet of the stream with an event in it, which begins at `event_offset` of the payload."""

    header: EventHeader
    ack_wanted: bool
    event_offset: int

    @classmethod
    def parse(cls, payload: Payload, semi_sync: bool) -> "StreamPacket | EofPacket | ErrPacket":
        """Read a packet from the source after a dump command, from its first bytes or whole.

        Args:
            payload: The payload, or at least `STREAM_PREFIX_BYTES` of a longer one.
            semi_sync: Whether the replica has asked for semi-synchronous replication; the bytes do not say.

        Raises:
            MalformedPacket: Neither an event nor an end nor an error.
            TruncatedPacket: The payload ends within the event's header.
        """
        reader = PayloadReader(payload[:STREAM_PREFIX_BYTES])
        first = reader.int1()
        if first == ERR_HEADER:
            return ErrPacket.parse(payload)
        if first == EOF_HEADER:
            return EofPacket.parse(payload)
        if first != OK_HEADER:
            raise MalformedPacket(f"0x{first:02X} begins no packet of the event stream")
        ack_wanted = False
        if semi_sync:
            if reader.int1() != SEMI_SYNC_MAGIC:
                raise MalformedPacket("an event without the semi-synchronous header that was asked for")
            ack_wanted = bool(reader.int1() & 1)
        offset = reader.position
        return cls(EventHeader.parse(reader.rest()), ack_wanted, offset)


def serialize_stream_packet(event: bytes, *, semi_sync: bool = False, ack_wanted: bool = False) -> bytes:
    """Write the packet around an event."""
    return bytes([OK_HEADER, SEMI_SYNC_MAGIC, ack_wanted] if semi_sync else [OK_HEADER]) + event


@dataclass(frozen=True, slots=True)
class RotateEvent:
    """Where the stream goes on: the first event of every dump, and the last of each file."""

    position: int
    file: bytes

    @classmethod
    def parse(cls, event: Payload) -> "RotateEvent":
        """Read a whole rotate event, header included.

        Whether four bytes of checksum end it was agreed upon elsewhere, in a query. They are recognised by
        being right, which a file name's last four bytes are once in four thousand million times.

        Raises:
            MalformedPacket: It is another event.
            TruncatedPacket: The event ends within its header or its position.
        """
        content = bytes(event)
        header = EventHeader.parse(content)
        if header.type_code != EventType.ROTATE:
            raise MalformedPacket(f"an event of type {header.type_code} is no rotate event")
        body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
        has_checksum = zlib.crc32(body) == int.from_bytes(checksum, "little")
        reader = PayloadReader(body if has_checksum else content)
        reader.fixed(EVENT_HEADER_BYTES)
        return cls(position=reader.int8(), file=reader.rest())

    def serialize(self, *, server_id: int, with_checksum: bool) -> bytes:
        """Write the artificial rotate event that begins a dump: no timestamp, no log position."""
        size = EVENT_HEADER_BYTES + _ROTATE_POSITION_BYTES + len(self.file)
        size += _CHECKSUM_BYTES if with_checksum else 0
        header = EventHeader(
            timestamp=0,
            type_code=EventType.ROTATE,
            server_id=server_id,
            event_size_bytes=size,
            log_position=0,
            flags=0x20,  # LOG_EVENT_ARTIFICIAL_F
        )
        event = header.serialize() + self.position.to_bytes(_ROTATE_POSITION_BYTES, "little") + self.file
        return event + zlib.crc32(event).to_bytes(_CHECKSUM_BYTES, "little") if with_checksum else event


@dataclass(frozen=True, slots=True)
class SemiSyncAck:
    """The replica's acknowledgement, not a command.

    It travels with sequence id 0 every time, while the events in the other direction go on counting.
    """

    position: int
    file: bytes

    @classmethod
    def parse(cls, payload: Payload) -> "SemiSyncAck":
        """Read an acknowledgement.

        Raises:
            MalformedPacket: Another first byte.
            TruncatedPacket: The payload ends within the position.
        """
        reader = PayloadReader(payload)
        first = reader.int1()
        if first != SEMI_SYNC_MAGIC:
            raise MalformedPacket(f"0x{first:02X} begins no acknowledgement")
        return cls(position=reader.int8(), file=reader.rest())

    def serialize(self) -> bytes:
        """Write the acknowledgement."""
        return bytes([SEMI_SYNC_MAGIC]) + self.position.to_bytes(8, "little") + self.file
