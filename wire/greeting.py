"""The greeting: the first packet of a connection, sent by the source.

Manual: Protocol::HandshakeV10, page_protocol_connection_phase_packets_protocol_handshake_v10.

A proxy forwards the source's own greeting and changes one bit. Thread id, nonce and plugin must stay: a
MariaDB replica ends its semi-synchronous connection with a KILL of that very thread id from a second
connection, and every authentication plugin answers to that very nonce.
"""

from dataclasses import dataclass

from wire.capabilities import NO_CAPABILITIES, Capability
from wire.datatypes import Payload, PayloadReader
from wire.errors import MalformedPacket, UnexpectedPacket

PROTOCOL_VERSION = 0x0A
NONCE_BYTES = 20

_ERR_HEADER = 0xFF
_NONCE_PART_1_BYTES = 8
_NONCE_PART_2_LEAST_BYTES = 13  # twelve that count and a NUL
_TLS_BIT_IN_SECOND_BYTE = Capability.CLIENT_SSL >> 8


@dataclass(frozen=True, slots=True)
class HandshakeV10:
    """The source's greeting.

    `capabilities` holds the 32 bits that every server has, `extended_capabilities` MariaDB's further ones as
    bits 32 and up. `nonce` is without its trailing NUL, 20 bytes from every known server. `plugin` is None
    where the source does not name one.
    """

    server_version: bytes
    thread_id: int
    capabilities: Capability
    nonce: bytes
    charset: int = 0xFF
    status: int = 0x0002
    plugin: bytes | None = None
    extended_capabilities: Capability = NO_CAPABILITIES

    @property
    def is_mariadb(self) -> bool:
        """Whether a MariaDB speaks: bit 0 is clear since 10.2, and the version says so where it is not."""
        return not self.capabilities & Capability.CLIENT_MYSQL or b"mariadb" in self.server_version.lower()

    @property
    def major_version(self) -> int:
        """The number before the first dot; 0 if there is none. MariaDB up to 10.11 says 5 here."""
        number = self.server_version.partition(b".")[0]
        return int(number) if number.isdigit() and len(number) < 4 else 0

    @classmethod
    def parse(cls, payload: Payload) -> "HandshakeV10":
        """Read a greeting.

        Raises:
            UnexpectedPacket: An ERR packet stands in its place, without SQLSTATE: the source refuses to talk.
            MalformedPacket: Another protocol version.
            TruncatedPacket: The payload ends too early.
        """
        reader = PayloadReader(payload)
        _read_protocol_version(reader)
        server_version = reader.nul_terminated()
        thread_id = reader.int4()
        nonce = reader.fixed(_NONCE_PART_1_BYTES)
        reader.int1()
        low_half = reader.int2()
        charset = reader.int1()
        status = reader.int2()
        capabilities = Capability(low_half | reader.int2() << 16)
        nonce_length = reader.int1()
        reader.int6()
        # The same four bytes are reserved in MySQL's greeting.
        extended_half = reader.int4()
        is_extended = not capabilities & Capability.CLIENT_MYSQL
        nonce += reader.fixed(max(_NONCE_PART_2_LEAST_BYTES, nonce_length - _NONCE_PART_1_BYTES))
        return cls(
            server_version=server_version,
            thread_id=thread_id,
            capabilities=capabilities,
            extended_capabilities=Capability(extended_half << 32) if is_extended else NO_CAPABILITIES,
            charset=charset,
            status=status,
            nonce=nonce.removesuffix(b"\x00"),
            # Some early 5.5 and 5.6 servers leave out the NUL.
            plugin=reader.nul_terminated_or_rest() if capabilities & Capability.CLIENT_PLUGIN_AUTH else None,
        )

    def serialize(self) -> bytes:
        """Write the greeting.

        Raises:
            ValueError: The nonce is shorter than any server's, so that its end could not be told.
        """
        if len(self.nonce) < NONCE_BYTES:
            raise ValueError(f"a nonce of {len(self.nonce)} bytes, where {NONCE_BYTES} are the least")
        has_plugin = bool(self.capabilities & Capability.CLIENT_PLUGIN_AUTH)
        pieces = [
            bytes([PROTOCOL_VERSION]),
            self.server_version + b"\x00",
            self.thread_id.to_bytes(4, "little"),
            self.nonce[:_NONCE_PART_1_BYTES] + b"\x00",
            (self.capabilities & 0xFFFF).to_bytes(2, "little"),
            self.charset.to_bytes(1, "little"),
            self.status.to_bytes(2, "little"),
            (self.capabilities >> 16 & 0xFFFF).to_bytes(2, "little"),
            bytes([len(self.nonce) + 1 if has_plugin or len(self.nonce) > NONCE_BYTES else 0]),
            bytes(6),
            (self.extended_capabilities >> 32).to_bytes(4, "little"),
            self.nonce[_NONCE_PART_1_BYTES:] + b"\x00",
        ]
        if has_plugin:
            pieces.append((self.plugin or b"") + b"\x00")
        return b"".join(pieces)


def with_tls_offered(payload: Payload, offered: bool) -> bytes:
    """Set or clear CLIENT_SSL in a greeting, and leave every other bit of it as it came.

    Raises:
        UnexpectedPacket: An ERR packet stands in the greeting's place.
        MalformedPacket: Another protocol version.
        TruncatedPacket: The payload ends before its capabilities do.
    """
    reader = PayloadReader(payload)
    _read_protocol_version(reader)
    reader.nul_terminated()
    reader.fixed(4 + _NONCE_PART_1_BYTES + 1)
    edited = bytearray(payload)
    second_byte = reader.position + 1
    reader.int2()
    if offered:
        edited[second_byte] |= _TLS_BIT_IN_SECOND_BYTE
    else:
        edited[second_byte] &= ~_TLS_BIT_IN_SECOND_BYTE
    return bytes(edited)


def _read_protocol_version(reader: PayloadReader) -> None:
    version = reader.int1()
    if version == _ERR_HEADER:
        raise UnexpectedPacket("waiting for the greeting, and an ERR packet came")
    if version != PROTOCOL_VERSION:
        raise MalformedPacket(f"a greeting of protocol version {version}; only {PROTOCOL_VERSION} is known")
