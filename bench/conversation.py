"""The MySQL conversation of the bench: greeting, login, dump command and stream, over blocking sockets.

Both fake ends speak through here. What the replica wants measured travels as the dump command's file name, so that
one source serves every measure through every proxy, and a proxy that relays bytes blindly sees the same conversation
as one that reads it.
"""

import socket
import ssl
from dataclasses import dataclass

from wire.binlog import EventHeader, EventType, RotateEvent, SemiSyncAck, serialize_stream_packet
from wire.capabilities import Capability
from wire.commands import BinlogDump, OtherCommand, RegisterReplica, parse_command
from wire.errors import WireError
from wire.framing import Packet, PacketDecoder, encode_packet
from wire.greeting import HandshakeV10
from wire.login import HandshakeResponse41, SSLRequest
from wire.results import OkPacket, is_ok

ACCOUNT = "repl"
SERVER_ID = 2
PING_PACKET_BYTES = 60
BINLOG_FILE = b"binlog.000001"
# As a replica sends it on every commit, always with sequence id 0.
ACKNOWLEDGEMENT = encode_packet(SemiSyncAck(position=4711, file=BINLOG_FILE).serialize(), 0)

_SOURCE_ID = 1
_PLUGIN = b"mysql_native_password"
_CAPABILITIES = (
    Capability.CLIENT_LONG_PASSWORD
    | Capability.CLIENT_PROTOCOL_41
    | Capability.CLIENT_TRANSACTIONS
    | Capability.CLIENT_SECURE_CONNECTION
    | Capability.CLIENT_PLUGIN_AUTH
)
# Every packet before the stream is far smaller.
_LIMIT_BYTES = 1 << 16
# A chunk is sent with one call; larger ones were no faster.
_CHUNK_BYTES = 1 << 20
_STREAM_HEADER_BYTES = 4 + 1
_EVENT_HEADER_BYTES = 19


class ConversationError(Exception):
    """The other end said something that has no place there."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the replica asks the fake source to do: `bulk` with events of so many bytes, `ping`, or `idle`."""

    kind: str
    event_bytes: int = 0

    def to_file_name(self) -> bytes:
        """The order as the file name of a dump command."""
        return f"{self.kind}.{self.event_bytes}".encode()

    @classmethod
    def from_file_name(cls, name: bytes) -> "Order":
        """The order in a dump command's file name.

        Raises:
            ConversationError: there is none.
        """
        kind, _, event_bytes = name.decode(errors="replace").partition(".")
        if kind not in {"bulk", "ping", "idle"} or not event_bytes.isdigit():
            raise ConversationError(f"no order in the dump of {name!r}")
        return cls(kind, int(event_bytes))


@dataclass(frozen=True, slots=True)
class InBandTls:
    """TLS as MySQL does it: asked for after the greeting."""

    context: ssl.SSLContext
    server_name: str


class _Packets:
    """Packets one at a time over a blocking socket, never reading beyond one."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._last_sequence_id = 255

    def receive(self) -> bytes:
        decoder = PacketDecoder(_LIMIT_BYTES)
        packet: Packet | None = None
        while packet is None:
            data = self.sock.recv(decoder.bytes_needed())
            if not data:
                raise ConversationError("the other end closed the connection")
            decoder.feed(data)
            packet = decoder.next_packet()
        self._last_sequence_id = packet.sequence_id
        return packet.payload

    def answer(self, payload: bytes) -> None:
        self._last_sequence_id += 1
        self.sock.sendall(encode_packet(payload, self._last_sequence_id))

    def command(self, payload: bytes) -> None:
        self._last_sequence_id = -1
        self.answer(payload)

    def expect_ok(self, after: str) -> None:
        payload = self.receive()
        if not is_ok(payload):
            raise ConversationError(f"no OK after {after}, but {payload[:200]!r}")


def serve_until_dump(sock: socket.socket) -> Order:
    """Plays the source: greets, accepts any login and command, announces the file, and returns the dump's order.

    Raises:
        ConversationError: the replica does not dump.
        WireError: it does not speak MySQL.
        OSError: the connection broke.
    """
    packets = _Packets(sock)
    greeting = HandshakeV10(
        server_version=b"9.7.0-bench",
        thread_id=7,
        capabilities=_CAPABILITIES,
        nonce=bytes(range(1, 21)),
        plugin=_PLUGIN,
    )
    packets.answer(greeting.serialize())
    login = HandshakeResponse41.parse(packets.receive())
    if login.user != ACCOUNT.encode():
        raise ConversationError(f"a login of {login.user!r}")
    packets.answer(OkPacket().serialize())
    while True:
        command = parse_command(packets.receive(), _CAPABILITIES)
        if isinstance(command, BinlogDump):
            break
        if isinstance(command, OtherCommand):
            raise ConversationError(f"{command.command.name} where a dump was due")
        packets.answer(OkPacket().serialize())
    rotate = RotateEvent(position=4, file=BINLOG_FILE).serialize(server_id=_SOURCE_ID, with_checksum=False)
    packets.answer(serialize_stream_packet(rotate))
    return Order.from_file_name(command.file)


def dump(sock: socket.socket, order: Order, tls: InBandTls | None = None) -> socket.socket:
    """Plays the replica: logs in, registers, asks for the dump, and reads the event that announces the file.

    Args:
        sock: connected to the source, or to a proxy before it.
        order: what the source is to do then.
        tls: None for a replica that asks for no TLS.

    Returns:
        The socket to go on with; another one once TLS has begun on it.

    Raises:
        ConversationError: the source says no.
        WireError: it does not speak MySQL.
        OSError: the connection or the TLS handshake broke.
    """
    packets = _Packets(sock)
    greeting = HandshakeV10.parse(packets.receive())
    capabilities = greeting.capabilities & _CAPABILITIES
    if tls is not None:
        if not greeting.capabilities & Capability.CLIENT_SSL:
            raise ConversationError("TLS is wanted, and the greeting does not offer it")
        capabilities |= Capability.CLIENT_SSL
        packets.answer(SSLRequest(capabilities, max_packet_bytes=1 << 24, charset=0xFF).serialize())
        packets.sock = tls.context.wrap_socket(sock, server_hostname=tls.server_name)
    login = HandshakeResponse41(capabilities, ACCOUNT.encode(), auth_response=bytes(20), plugin=_PLUGIN)
    packets.answer(login.serialize())
    packets.expect_ok("the login")
    packets.command(RegisterReplica(SERVER_ID).serialize())
    packets.expect_ok("the registration")
    packets.command(BinlogDump(SERVER_ID, order.to_file_name()).serialize())
    rotate = RotateEvent.parse(packets.receive()[1:])
    if rotate.file != BINLOG_FILE:
        raise ConversationError(f"the dump begins with {rotate.file!r}")
    return packets.sock


def events_chunk(event_bytes: int) -> bytes:
    """Whole packets with one event each, to be sent again and again: their sequence ids go round within it."""
    packets = b"".join(
        encode_packet(serialize_stream_packet(_event(event_bytes)), sequence_id) for sequence_id in range(256)
    )
    return packets * max(1, _CHUNK_BYTES // len(packets))


def ping_packet() -> bytes:
    """The packet of one small event that wants an acknowledgement."""
    event = _event(PING_PACKET_BYTES - _STREAM_HEADER_BYTES - 2)
    return encode_packet(serialize_stream_packet(event, semi_sync=True, ack_wanted=True), 0)


def _event(size: int) -> bytes:
    header = EventHeader(
        timestamp=1_800_000_000,
        type_code=EventType.WRITE_ROWS,
        server_id=_SOURCE_ID,
        event_size_bytes=size,
        log_position=4711,
        flags=0,
    )
    return header.serialize() + bytes(size - _EVENT_HEADER_BYTES)


__all__ = [
    "ACCOUNT",
    "ACKNOWLEDGEMENT",
    "PING_PACKET_BYTES",
    "SERVER_ID",
    "ConversationError",
    "InBandTls",
    "Order",
    "WireError",
    "dump",
    "events_chunk",
    "ping_packet",
    "serve_until_dump",
]
