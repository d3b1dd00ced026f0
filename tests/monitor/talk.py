"""What MySQL's two sides say to one another, as bytes; invented, and laid out as servers do."""

from __future__ import annotations

import zlib

from tests.monitor.segmenting import CLIENT, SERVER, Said, packet
from tests.wire.vectors import MYSQL_8_GREETING
from wire.binlog import EVENT_HEADER_BYTES, EventHeader, EventType, SemiSyncAck, serialize_stream_packet
from wire.capabilities import Capability
from wire.commands import BinlogDump, BinlogDumpGtid, RegisterReplica
from wire.login import HandshakeResponse41
from wire.results import OkPacket

CAPABILITIES = (
    Capability.CLIENT_PROTOCOL_41
    | Capability.CLIENT_LONG_PASSWORD
    | Capability.CLIENT_SECURE_CONNECTION
    | Capability.CLIENT_PLUGIN_AUTH
    | Capability.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
    | Capability.CLIENT_CONNECT_ATTRS
)
SECRETS = (b"a-secret-password", b"a-secret-row", b"a_secret_table")
OK = OkPacket().serialize()
GREETING = packet(MYSQL_8_GREETING)
ACK_NAME = b"binlog.000042"
FIRST_POSITION = 4


def login(capabilities: Capability = CAPABILITIES, **attributes: str) -> bytes:
    return HandshakeResponse41(
        capabilities=capabilities,
        user=b"repl",
        auth_response=SECRETS[0],
        plugin=b"mysql_clear_password",
        attributes={name.encode(): value.encode() for name, value in attributes.items()},
    ).serialize()


def ssl_request(capabilities: Capability = CAPABILITIES) -> bytes:
    return packet((login(capabilities | Capability.CLIENT_SSL))[:32], 1)


def logged_in(capabilities: Capability = CAPABILITIES, **attributes: str) -> list[Said]:
    return [(SERVER, GREETING), (CLIENT, packet(login(capabilities, **attributes), 1)), (SERVER, packet(OK, 2))]


def query(text: str) -> bytes:
    return packet(b"\x03" + text.encode())


def column(schema: bytes, table: bytes, name: bytes) -> bytes:
    strings = b"".join(bytes([len(part)]) + part for part in (b"def", schema, table, table, name, name))
    return strings + b"\x0c\x21\x00\xff\x00\x00\x00\xfd\x00\x00\x00\x00\x00"


def result(schema: bytes = b"", table: bytes = b"", name: bytes = b"x", row: bytes = b"1") -> bytes:
    payloads = (b"\x01", column(schema, table, name), bytes([len(row)]) + row, b"\xfe\x00\x00\x02\x00\x00\x00")
    return b"".join(packet(payload, number) for number, payload in enumerate(payloads, 1))


def event(
    code: int = EventType.QUERY,
    body: bytes = SECRETS[1] * 3,
    *,
    position: int = 1000,
    with_checksum: bool = True,
    timestamp: int = 1_700_000_000,
    server_id: int = 7,
) -> bytes:
    size = EVENT_HEADER_BYTES + len(body) + (4 if with_checksum else 0)
    header = EventHeader(timestamp, code, server_id, size, max(position, size), 0).serialize()
    checksum = zlib.crc32(header + body).to_bytes(4, "little") if with_checksum else b""
    return header + body + checksum


def stream(*events: bytes, first_id: int = 1, semi_sync: bool = False) -> bytes:
    return b"".join(
        packet(serialize_stream_packet(one, semi_sync=semi_sync), first_id + number)
        for number, one in enumerate(events)
    )


def acknowledgement() -> bytes:
    return packet(SemiSyncAck(1234, ACK_NAME).serialize())


def register() -> bytes:
    return packet(RegisterReplica(2, host=b"replica", user=b"repl").serialize())


def dump() -> bytes:
    return packet(BinlogDump(2, file=ACK_NAME).serialize())


def dump_gtid() -> bytes:
    return packet(BinlogDumpGtid(2, gtid_set=bytes(8)).serialize())


SETUP_QUERIES = (
    "SET @master_heartbeat_period = 30000000000, @source_heartbeat_period = 30000000000",
    "SET @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum",
    "SET @master_binlog_checksum= @@global.binlog_checksum",
    "SELECT @source_binlog_checksum",
    "SELECT @master_binlog_checksum",
    "SET @slave_uuid = '1', @replica_uuid = '1'",
    "SET @slave_uuid= '1'",
    "SET @mariadb_slave_capability=4",
    "SET @slave_connect_state='0-1-42'",
    "SET @slave_gtid_strict_mode=1",
    "SET @slave_gtid_ignore_duplicates=0",
    "SET @slave_until_gtid='0-1-50'",
    "SET skip_replication=1",
    "SET @rpl_semi_sync_replica = 1, @rpl_semi_sync_slave = 1",
    "SET @rpl_semi_sync_slave= 1",
    "SELECT @@global.rpl_semi_sync_source_enabled",
    "SHOW VARIABLES LIKE 'rpl_semi_sync_master_enabled'",
)
OPEN_QUERIES = (
    "SELECT UNIX_TIMESTAMP()",
    "SELECT @@GLOBAL.SERVER_ID",
    "SHOW VARIABLES LIKE 'SERVER_ID'",
    "SELECT @@GLOBAL.GTID_MODE",
    "SELECT @@GLOBAL.SERVER_UUID",
    "SELECT @@GLOBAL.gtid_domain_id",
    "SET NAMES utf8mb4",
    "SELECT VERSION()",
    "select @@version_comment limit 1",
    "SELECT binlog_gtid_pos('binlog.000001',4)",
    "SELECT 1",
    "KILL 42",
    "SHOW MASTER STATUS",
)
CLIENT_QUERIES = (
    "INSERT INTO a_secret_table VALUES ('SET @slave_uuid = 1')",
    "select a_secret_row from a_secret_table",
    "/* by an application */ UPDATE t SET a = 1",
    "BEGIN",
    "(SELECT 2)",
    "SET GLOBAL x = 1",
    "SHOW TABLES",
)


def replication() -> list[Said]:
    """A whole connection of a replica, up to some events."""
    said = logged_in(_client_role="binary_log_listener")
    for text in (OPEN_QUERIES[0], OPEN_QUERIES[1], SETUP_QUERIES[0], SETUP_QUERIES[1]):
        said += [(CLIENT, query(text)), (SERVER, result() if text.startswith("SELECT") else packet(OK, 1))]
    said += [(CLIENT, register()), (SERVER, packet(OK, 1)), (CLIENT, dump())]
    return [*said, (SERVER, stream(*(event(position=1000 * number) for number in range(1, 9))))]


def client() -> list[Said]:
    """A whole connection of an application."""
    said = [*logged_in(), (CLIENT, query(CLIENT_QUERIES[1])), (SERVER, result(b"shop", b"a_secret_table", b"c"))]
    return [*said, (CLIENT, query(CLIENT_QUERIES[0])), (SERVER, packet(OK, 1)), (CLIENT, packet(b"\x01"))]
