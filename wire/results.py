"""How a source answers: OK, ERR and EOF.

Manual: page_protocol_basic_ok_packet, page_protocol_basic_err_packet, page_protocol_basic_eof_packet.
"""

from dataclasses import dataclass

from wire.capabilities import Capability
from wire.datatypes import Payload, PayloadReader, lenenc_int
from wire.errors import MalformedPacket

OK_HEADER = 0x00
EOF_HEADER = 0xFE
ERR_HEADER = 0xFF

_OK_LEAST_BYTES = 7
_EOF_BELOW_BYTES = 9  # 0xFE also begins a length of eight bytes, and a row that begins so is longer
_SQLSTATE_BYTES = 5
_GENERAL_ERROR = b"HY000"


@dataclass(frozen=True, slots=True)
class OkPacket:
    """Success. `info` is what follows the counters, as it came.

    MariaDB 11.4 and later put a signature over the certificate into the `info` of the OK that ends
    authentication, so an OK is passed on and never written anew.
    """

    affected_rows: int = 0
    last_insert_id: int = 0
    status: int = 0x0002
    warnings: int = 0
    info: bytes = b""

    @classmethod
    def parse(cls, payload: Payload, capabilities: Capability = Capability.CLIENT_PROTOCOL_41) -> "OkPacket":
        """Read an OK, also the one with header 0xFE that ends a result set under CLIENT_DEPRECATE_EOF.

        Raises:
            MalformedPacket: Another header.
            TruncatedPacket: The payload ends too early.
        """
        reader = PayloadReader(payload)
        header = reader.int1()
        if header not in {OK_HEADER, EOF_HEADER}:
            raise MalformedPacket(f"0x{header:02X} begins no OK packet")
        affected_rows = reader.lenenc_int()
        last_insert_id = reader.lenenc_int()
        status = warnings = 0
        if capabilities & (Capability.CLIENT_PROTOCOL_41 | Capability.CLIENT_TRANSACTIONS):
            status = reader.int2()
        if capabilities & Capability.CLIENT_PROTOCOL_41:
            warnings = reader.int2()
        return cls(affected_rows, last_insert_id, status, warnings, reader.rest())

    def serialize(self) -> bytes:
        """Write the form of protocol 4.1."""
        return (
            bytes([OK_HEADER])
            + lenenc_int(self.affected_rows)
            + lenenc_int(self.last_insert_id)
            + self.status.to_bytes(2, "little")
            + self.warnings.to_bytes(2, "little")
            + self.info
        )


@dataclass(frozen=True, slots=True)
class ErrPacket:
    """Failure. `sqlstate` is None where none was sent, as before the login."""

    code: int
    sqlstate: bytes | None = None
    message: bytes = b""

    @classmethod
    def parse(cls, payload: Payload) -> "ErrPacket":
        """Read an ERR with or without SQLSTATE.

        Raises:
            MalformedPacket: Another header.
            TruncatedPacket: There is no whole error code.
        """
        reader = PayloadReader(payload)
        header = reader.int1()
        if header != ERR_HEADER:
            raise MalformedPacket(f"0x{header:02X} begins no ERR packet")
        code = reader.int2()
        text = reader.rest()
        if text.startswith(b"#") and len(text) > _SQLSTATE_BYTES:
            return cls(code, text[1 : 1 + _SQLSTATE_BYTES], text[1 + _SQLSTATE_BYTES :])
        return cls(code, None, text)

    def serialize(self, with_sqlstate: bool) -> bytes:
        """Write the ERR.

        Args:
            with_sqlstate: False before the replica's login has been read: until then it does not look for
                one, and would show it as part of the message.
        """
        state = b"#" + (self.sqlstate or _GENERAL_ERROR) if with_sqlstate else b""
        return bytes([ERR_HEADER]) + self.code.to_bytes(2, "little") + state + self.message


@dataclass(frozen=True, slots=True)
class EofPacket:
    """The end of a result set, or of an event stream that was asked not to wait."""

    warnings: int = 0
    status: int = 0

    @classmethod
    def parse(cls, payload: Payload) -> "EofPacket":
        """Read an EOF; one that is its header alone is complete, as before 4.1.

        Raises:
            MalformedPacket: Another header, or more bytes than an EOF may have.
            TruncatedPacket: The payload ends too early.
        """
        reader = PayloadReader(payload)
        header = reader.int1()
        if header != EOF_HEADER or len(payload) >= _EOF_BELOW_BYTES:
            raise MalformedPacket(f"0x{header:02X} and {reader.remaining} bytes are no EOF packet")
        if not reader.remaining:
            return cls()
        return cls(warnings=reader.int2(), status=reader.int2())

    def serialize(self) -> bytes:
        """Write the form of protocol 4.1."""
        return bytes([EOF_HEADER]) + self.warnings.to_bytes(2, "little") + self.status.to_bytes(2, "little")


def is_ok(payload: Payload) -> bool:
    """Whether this is an OK by header and length; ask where one may come, rows and events begin so too."""
    return len(payload) >= _OK_LEAST_BYTES and payload[0] == OK_HEADER


def is_err(payload: Payload) -> bool:
    """Whether this is an ERR by its header."""
    return len(payload) > 0 and payload[0] == ERR_HEADER


def is_eof(payload: Payload) -> bool:
    """Whether this is an EOF by header and length."""
    return 0 < len(payload) < _EOF_BELOW_BYTES and payload[0] == EOF_HEADER
