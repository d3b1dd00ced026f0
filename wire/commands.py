"""What a replica sends in the command phase.

Manual: page_protocol_command_phase; COM_QUERY: page_protocol_com_query; COM_BINLOG_DUMP:
page_protocol_com_binlog_dump; COM_BINLOG_DUMP_GTID: page_protocol_com_binlog_dump_gtid; COM_REGISTER_SLAVE
has no page of its own. MariaDB uses the same layouts, and COM_BINLOG_DUMP with GTIDs as well.

Passwords travel here in the clear: as a field of COM_REGISTER_SLAVE, inside SQL, in COM_CHANGE_USER. The
first is read over and never kept; the others are kept out of `repr`.
"""

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

from wire.capabilities import Capability
from wire.datatypes import Payload, PayloadReader, lenenc_bytes, lenenc_int
from wire.errors import MalformedPacket, UnexpectedPacket


class Command(IntEnum):
    """The first byte of a command, by the manual's name."""

    COM_SLEEP = 0x00
    COM_QUIT = 0x01
    COM_INIT_DB = 0x02
    COM_QUERY = 0x03
    COM_FIELD_LIST = 0x04
    COM_CREATE_DB = 0x05
    COM_DROP_DB = 0x06
    COM_REFRESH = 0x07
    COM_SHUTDOWN = 0x08
    COM_STATISTICS = 0x09
    COM_PROCESS_INFO = 0x0A
    COM_CONNECT = 0x0B
    COM_PROCESS_KILL = 0x0C
    COM_DEBUG = 0x0D
    COM_PING = 0x0E
    COM_TIME = 0x0F
    COM_DELAYED_INSERT = 0x10
    COM_CHANGE_USER = 0x11
    COM_BINLOG_DUMP = 0x12
    COM_TABLE_DUMP = 0x13
    COM_CONNECT_OUT = 0x14
    COM_REGISTER_SLAVE = 0x15
    COM_STMT_PREPARE = 0x16
    COM_STMT_EXECUTE = 0x17
    COM_STMT_SEND_LONG_DATA = 0x18
    COM_STMT_CLOSE = 0x19
    COM_STMT_RESET = 0x1A
    COM_SET_OPTION = 0x1B
    COM_STMT_FETCH = 0x1C
    COM_DAEMON = 0x1D
    COM_BINLOG_DUMP_GTID = 0x1E
    COM_RESET_CONNECTION = 0x1F
    COM_CLONE = 0x20
    COM_SUBSCRIBE_GROUP_REPLICATION_STREAM = 0x21
    COM_STMT_BULK_EXECUTE = 0xFA  # MariaDB alone


class DumpFlag(IntFlag):
    """Flags of the dump commands; bits without a name here are kept."""

    NON_BLOCK = 0x01  # end at the end of the log instead of waiting for more
    SEND_ANNOTATE_ROWS = 0x02  # MariaDB
    USE_HEARTBEAT_EVENT_V2 = 0x02  # MySQL, from 8.0.26: the same bit


NO_DUMP_FLAGS = DumpFlag(0)


@dataclass(frozen=True, slots=True)
class Query:
    """COM_QUERY. `attributes` are query attributes as they were sent, None where NULL."""

    text: bytes = field(repr=False)
    attributes: dict[bytes, bytes | None] = field(default_factory=dict, repr=False)

    def serialize(self, capabilities: Capability) -> bytes:
        """Write the command; attributes only where they were agreed upon, and as strings."""
        header = bytes([Command.COM_QUERY])
        if not capabilities & Capability.CLIENT_QUERY_ATTRIBUTES:
            return header + self.text
        prefix = lenenc_int(len(self.attributes)) + lenenc_int(1)
        if self.attributes:
            nulls = sum(1 << index for index, value in enumerate(self.attributes.values()) if value is None)
            prefix += nulls.to_bytes((len(self.attributes) + 7) // 8, "little") + b"\x01"
            prefix += b"".join(_TYPE_STRING + lenenc_bytes(name) for name in self.attributes)
            prefix += b"".join(lenenc_bytes(value) for value in self.attributes.values() if value is not None)
        return header + prefix + self.text


@dataclass(frozen=True, slots=True)
class RegisterReplica:
    """COM_REGISTER_SLAVE, without the password that it carries in the clear."""

    server_id: int
    host: bytes = b""
    user: bytes = b""
    port: int = 3306
    source_id: int = 0

    def serialize(self) -> bytes:
        """Write the command, with an empty password."""
        return (
            bytes([Command.COM_REGISTER_SLAVE])
            + self.server_id.to_bytes(4, "little")
            + bytes([len(self.host)])
            + self.host
            + bytes([len(self.user)])
            + self.user
            + b"\x00"
            + self.port.to_bytes(2, "little")
            + bytes(4)  # replication rank, which no server reads
            + self.source_id.to_bytes(4, "little")
        )


@dataclass(frozen=True, slots=True)
class BinlogDump:
    """COM_BINLOG_DUMP. A MariaDB replica that uses GTIDs has set them as user variables before."""

    server_id: int
    file: bytes = b""
    position: int = 4
    flags: DumpFlag = NO_DUMP_FLAGS

    def serialize(self) -> bytes:
        """Write the command."""
        return (
            bytes([Command.COM_BINLOG_DUMP])
            + self.position.to_bytes(4, "little")
            + self.flags.to_bytes(2, "little")
            + self.server_id.to_bytes(4, "little")
            + self.file
        )


@dataclass(frozen=True, slots=True)
class BinlogDumpGtid:
    """COM_BINLOG_DUMP_GTID, MySQL alone. With auto-position `file` is empty and `position` is 4."""

    server_id: int
    gtid_set: bytes = b""
    file: bytes = b""
    position: int = 4
    flags: DumpFlag = NO_DUMP_FLAGS

    def serialize(self) -> bytes:
        """Write the command."""
        return (
            bytes([Command.COM_BINLOG_DUMP_GTID])
            + self.flags.to_bytes(2, "little")
            + self.server_id.to_bytes(4, "little")
            + len(self.file).to_bytes(4, "little")
            + self.file
            + self.position.to_bytes(8, "little")
            + len(self.gtid_set).to_bytes(4, "little")
            + self.gtid_set
        )


@dataclass(frozen=True, slots=True)
class OtherCommand:
    """Any other known command. `argument` is what follows its byte, a password in COM_CHANGE_USER for one."""

    command: Command
    argument: bytes = field(default=b"", repr=False)

    def serialize(self) -> bytes:
        """Write the command."""
        return bytes([self.command]) + self.argument


ParsedCommand = Query | RegisterReplica | BinlogDump | BinlogDumpGtid | OtherCommand


def parse_command(payload: Payload, capabilities: Capability) -> ParsedCommand:
    """Read one command.

    Args:
        payload: A whole payload from the replica, in the command phase.
        capabilities: Those of its login: CLIENT_QUERY_ATTRIBUTES changes the layout of COM_QUERY.

    Raises:
        UnexpectedPacket: No command begins with this byte.
        MalformedPacket: Query attributes that no server would read.
        TruncatedPacket: The payload is empty, or ends before a field does.
    """
    reader = PayloadReader(payload)
    command = command_of(payload)
    reader.int1()
    match command:
        case Command.COM_QUERY:
            return _read_query(reader, capabilities)
        case Command.COM_REGISTER_SLAVE:
            return _read_register_replica(reader)
        case Command.COM_BINLOG_DUMP:
            position = reader.int4()
            flags = DumpFlag(reader.int2())
            return BinlogDump(reader.int4(), _file_name(reader.rest()), position, flags)
        case Command.COM_BINLOG_DUMP_GTID:
            return _read_dump_gtid(reader)
        case _:
            return OtherCommand(command, reader.rest())


def command_of(payload: Payload) -> Command:
    """Say which command this is, by its first byte alone.

    Raises:
        UnexpectedPacket: No command begins with this byte.
        TruncatedPacket: The payload is empty.
    """
    code = PayloadReader(payload[:1]).int1()
    try:
        return Command(code)
    except ValueError:
        raise UnexpectedPacket(f"waiting for a command, and 0x{code:02X} begins none") from None


_TYPE_STRING = b"\xfe\x00"  # MYSQL_TYPE_STRING, and no flags

# Width of a value in the binary protocol (page_protocol_binary_resultset) by MYSQL_TYPE_*: fixed, behind a
# length of one byte, or length-encoded.
_FIXED_WIDTHS = {0x01: 1, 0x02: 2, 0x03: 4, 0x04: 4, 0x05: 8, 0x06: 0, 0x08: 8, 0x09: 4, 0x0D: 2}
_BEHIND_ONE_BYTE = frozenset({0x07, 0x0A, 0x0B, 0x0C})
_LENGTH_ENCODED = frozenset({0x00, 0x0F, 0x10, *range(0xF2, 0x100)})


def _read_query(reader: PayloadReader, capabilities: Capability) -> Query:
    if not capabilities & Capability.CLIENT_QUERY_ATTRIBUTES:
        return Query(reader.rest())
    count = reader.lenenc_int()
    reader.lenenc_int()  # number of parameter sets, always one
    if not count:
        return Query(reader.rest())
    null_bitmap = reader.fixed((count + 7) // 8)
    if reader.int1() != 1:
        raise MalformedPacket("query attributes without their types")
    declared = [(reader.int2() & 0xFF, reader.lenenc_bytes()) for _ in range(count)]
    attributes: dict[bytes, bytes | None] = {}
    for index, (type_code, name) in enumerate(declared):
        is_null = null_bitmap[index // 8] >> index % 8 & 1
        attributes[name] = None if is_null else _read_value(reader, type_code)
    return Query(reader.rest(), attributes)


def _read_value(reader: PayloadReader, type_code: int) -> bytes:
    if type_code in _FIXED_WIDTHS:
        return reader.fixed(_FIXED_WIDTHS[type_code])
    if type_code in _BEHIND_ONE_BYTE:
        return reader.fixed(reader.int1())
    if type_code in _LENGTH_ENCODED:
        return reader.lenenc_bytes()
    raise MalformedPacket(f"a query attribute of unknown type 0x{type_code:02X}")


def _read_register_replica(reader: PayloadReader) -> RegisterReplica:
    server_id = reader.int4()
    host = reader.fixed(reader.int1())
    user = reader.fixed(reader.int1())
    reader.fixed(reader.int1())  # the password
    port = reader.int2()
    reader.int4()  # replication rank
    return RegisterReplica(server_id, host, user, port, source_id=reader.int4())


def _read_dump_gtid(reader: PayloadReader) -> BinlogDumpGtid:
    flags = DumpFlag(reader.int2())
    server_id = reader.int4()
    file = _file_name(reader.fixed(reader.int4()))
    position = reader.int8()
    gtid_set = reader.fixed(reader.int4())
    return BinlogDumpGtid(server_id, gtid_set, file, position, flags)


def _file_name(sent: bytes) -> bytes:
    # A server reads a C string here, whatever follows the NUL.
    return sent.partition(b"\x00")[0]
