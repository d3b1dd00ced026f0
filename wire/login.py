"""The replica's login, and the request for TLS that may come before it.

Manual: Protocol::SSLRequest, page_protocol_connection_phase_packets_protocol_ssl_request, and
Protocol::HandshakeResponse41, page_protocol_connection_phase_packets_protocol_handshake_response.

Both begin with the same 32 bytes: int<4> capabilities, int<4> largest packet, int<1> character set, 23 bytes
of filler of which the last 4 are MariaDB's extended capabilities when bit 0 is clear.

A server tells the two apart by the bit CLIENT_SSL, never by length. So a login forwarded in the clear with
that bit still set hangs both sides: the source waits for a ClientHello. And a server takes the capabilities
from the request, which travels unencrypted, and reads the second copy for its length only: whoever plays the
replica sends both the same.

The functions at the end change a login's bytes where they stand. Writing a login anew from its parsed fields
would lose what a later version appends; changing it in place does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from wire.capabilities import NO_CAPABILITIES, Capability
from wire.datatypes import Payload, PayloadReader, lenenc_bytes
from wire.errors import MalformedPacket, TruncatedPacket

SSL_REQUEST_BYTES = 32
# More than this is a bad handshake to a server (read_client_connect_attrs in sql_authentication.cc; seen on MySQL 9.7
# and MariaDB 10.11 and 11.8). Of these bytes it keeps performance_schema_session_connect_attrs_size, from the first on.
ATTRIBUTES_LIMIT_BYTES = 65_535

_SHORT_SSL_REQUEST_BYTES = 4  # old Connector/J sends the capabilities and nothing else
_PLAIN_FILLER_BYTES = 19
_TLS_BIT_IN_SECOND_BYTE = Capability.CLIENT_SSL >> 8


@dataclass(frozen=True, slots=True)
class SSLRequest:
    """The request for TLS. The replica's ClientHello comes right behind it, without waiting for an answer."""

    capabilities: Capability
    max_packet_bytes: int = 0
    charset: int = 0
    extended_capabilities: Capability = NO_CAPABILITIES

    @classmethod
    def parse(cls, payload: Payload) -> "SSLRequest":
        """Read a request as mysqld does: the bit decides, and what follows 32 bytes is not looked at.

        Raises:
            MalformedPacket: CLIENT_SSL is not set, or the peer speaks the protocol from before 4.1.
            TruncatedPacket: Neither the short form of 4 bytes nor at least 32.
        """
        if not is_ssl_request(payload):
            raise MalformedPacket("a request for TLS without CLIENT_SSL")
        reader = PayloadReader(payload)
        if len(payload) == _SHORT_SSL_REQUEST_BYTES:
            return cls(capabilities=Capability(reader.int4()))
        header = _read_header(reader)
        return cls(header.capabilities, header.max_packet_bytes, header.charset, header.extended_capabilities)

    def serialize(self) -> bytes:
        """Write the form of 32 bytes."""
        return _serialize_header(self.capabilities, self.max_packet_bytes, self.charset, self.extended_capabilities)

    @staticmethod
    def for_login(login_payload: Payload) -> bytes:
        """Make the request that goes before this login: its first 32 bytes, with CLIENT_SSL set.

        The login itself must then carry the bit too (`with_tls_flag`).

        Raises:
            TruncatedPacket: The login is shorter than that.
        """
        return with_tls_flag(PayloadReader(login_payload).fixed(SSL_REQUEST_BYTES), wanted=True)


def is_ssl_request(payload: Payload) -> bool:
    """Whether a replica's first packet asks for TLS. Of its later packets this says nothing."""
    return len(payload) >= 2 and bool(payload[1] & _TLS_BIT_IN_SECOND_BYTE)


@dataclass(frozen=True, slots=True)
class HandshakeResponse41:
    """The replica's login.

    `database` and `plugin` are None, `attributes` is empty, where the capabilities announce none.
    `zstd_level` is None where none was sent. `tail` is what follows the last field known here.
    `auth_response` may be as good as a password and is kept out of `repr`.
    """

    capabilities: Capability
    user: bytes
    auth_response: bytes = field(default=b"", repr=False)
    max_packet_bytes: int = 0x0100_0000
    charset: int = 0xFF
    extended_capabilities: Capability = NO_CAPABILITIES
    database: bytes | None = None
    plugin: bytes | None = None
    attributes: dict[bytes, bytes] = field(default_factory=dict)
    zstd_level: int | None = None
    tail: bytes = field(default=b"", repr=False)

    @classmethod
    def parse(cls, payload: Payload) -> "HandshakeResponse41":
        """Read a login.

        Raises:
            MalformedPacket: The peer speaks the protocol from before 4.1, or the attributes overrun their
                own length or are more than a server takes.
            TruncatedPacket: A field is longer than what is left of the payload.
        """
        return _locate(payload).login

    def serialize(self) -> bytes:
        """Write the login with the fields that its capabilities announce.

        Raises:
            ValueError: The authentication response does not fit the form that the capabilities choose.
        """
        pieces = [
            _serialize_header(self.capabilities, self.max_packet_bytes, self.charset, self.extended_capabilities),
            self.user + b"\x00",
            _serialize_auth_response(self.capabilities, self.auth_response),
        ]
        if self.capabilities & Capability.CLIENT_CONNECT_WITH_DB:
            pieces.append((self.database or b"") + b"\x00")
        if self.capabilities & Capability.CLIENT_PLUGIN_AUTH:
            pieces.append((self.plugin or b"") + b"\x00")
        if self.capabilities & Capability.CLIENT_CONNECT_ATTRS:
            pairs = [lenenc_bytes(name) + lenenc_bytes(value) for name, value in self.attributes.items()]
            pieces.append(lenenc_bytes(b"".join(pairs)))
        if self.zstd_level is not None:
            pieces.append(bytes([self.zstd_level]))
        pieces.append(self.tail)
        return b"".join(pieces)


def with_tls_flag(payload: Payload, wanted: bool) -> bytes:
    """Set or clear CLIENT_SSL in a login or a request for TLS, and leave everything else as it came.

    Raises:
        TruncatedPacket: The payload has no whole capabilities.
    """
    PayloadReader(payload).int4()
    edited = bytearray(payload)
    if wanted:
        edited[1] |= _TLS_BIT_IN_SECOND_BYTE
    else:
        edited[1] &= ~_TLS_BIT_IN_SECOND_BYTE
    return bytes(edited)


def with_attributes_added(payload: Payload, extra: Mapping[bytes, bytes], *, reserved: bytes) -> bytes:
    """Put connection attributes before a login's own; without CLIENT_CONNECT_ATTRS it stays as it is.

    They stand first because a server that has no room for all drops the last ones.

    Args:
        payload: The login.
        extra: The names all begin with `reserved`.
        reserved: What the replica itself sent under a name that begins so, in any case, is dropped: what a
            proxy says of a connection would otherwise be forged by whoever says it first. So are the last of
            its own that would make the whole longer than `ATTRIBUTES_LIMIT_BYTES`.

    Raises:
        MalformedPacket, TruncatedPacket: As `HandshakeResponse41.parse`.
    """
    located = _locate(payload)
    if not located.login.capabilities & Capability.CLIENT_CONNECT_ATTRS:
        return bytes(payload)
    added = b"".join(lenenc_bytes(name) + lenenc_bytes(value) for name, value in extra.items())
    kept = [pair for name, pair in located.attribute_pairs if not name.lower().startswith(reserved.lower())]
    if not added and len(kept) == len(located.attribute_pairs):
        return bytes(payload)
    ends = accumulate(map(len, kept), initial=len(added))
    fitting = [pair for pair, start in zip(kept, ends, strict=False) if start + len(pair) <= ATTRIBUTES_LIMIT_BYTES]
    block = lenenc_bytes(b"".join([added, *fitting]))
    return bytes(payload[: located.attributes_start]) + block + payload[located.attributes_end :]


def with_auth_response(payload: Payload, new: bytes) -> bytes:
    """Put another authentication response into a login, in the form that its capabilities choose.

    Raises:
        MalformedPacket, TruncatedPacket: As `HandshakeResponse41.parse`.
        ValueError: The response does not fit that form.
    """
    located = _locate(payload)
    field_bytes = _serialize_auth_response(located.login.capabilities, new)
    return bytes(payload[: located.auth_start]) + field_bytes + payload[located.auth_end :]


@dataclass(frozen=True, slots=True)
class _Header:
    """The 32 bytes that request and login have in common."""

    capabilities: Capability
    max_packet_bytes: int
    charset: int
    extended_capabilities: Capability


@dataclass(frozen=True, slots=True)
class _LocatedLogin:
    """A parsed login, and where in its payload the fields stand that may be edited."""

    login: HandshakeResponse41
    auth_start: int
    auth_end: int
    attributes_start: int
    attributes_end: int
    attribute_pairs: list[tuple[bytes, bytes]]  # name, and the pair as it was sent


def _locate(payload: Payload) -> _LocatedLogin:
    reader = PayloadReader(payload)
    header = _read_header(reader)
    capabilities = header.capabilities
    user = reader.nul_terminated()
    auth_start = reader.position
    auth_response = _read_auth_response(reader, capabilities)
    auth_end = reader.position
    database = reader.nul_terminated() if capabilities & Capability.CLIENT_CONNECT_WITH_DB else None
    # Servers accept a plugin name without its NUL, and none at all, so both are accepted here.
    plugin = reader.nul_terminated_or_rest() if capabilities & Capability.CLIENT_PLUGIN_AUTH else None
    attributes_start = reader.position
    attributes: dict[bytes, bytes] = {}
    attribute_pairs: list[tuple[bytes, bytes]] = []
    if capabilities & Capability.CLIENT_CONNECT_ATTRS:
        for name, value, pair in _split_attributes(reader.lenenc_bytes()):
            attributes.setdefault(name, value)
            attribute_pairs.append((name, pair))
    attributes_end = reader.position
    # MySQL reads one byte of level, Connector/C writes four: the other three are tail. With both algorithms
    # chosen zlib wins, and no level is sent.
    compression = capabilities & (Capability.CLIENT_COMPRESS | Capability.CLIENT_ZSTD_COMPRESSION_ALGORITHM)
    wants_zstd = compression == Capability.CLIENT_ZSTD_COMPRESSION_ALGORITHM
    zstd_level = reader.int1() if wants_zstd and reader.remaining else None
    login = HandshakeResponse41(
        capabilities=capabilities,
        max_packet_bytes=header.max_packet_bytes,
        charset=header.charset,
        extended_capabilities=header.extended_capabilities,
        user=user,
        auth_response=auth_response,
        database=database,
        plugin=plugin,
        attributes=attributes,
        zstd_level=zstd_level,
        tail=reader.rest(),
    )
    return _LocatedLogin(login, auth_start, auth_end, attributes_start, attributes_end, attribute_pairs)


def _read_header(reader: PayloadReader) -> _Header:
    capabilities = Capability(reader.int4())
    if not capabilities & Capability.CLIENT_PROTOCOL_41:
        raise MalformedPacket("a login from before protocol 4.1")
    max_packet_bytes = reader.int4()
    charset = reader.int1()
    reader.fixed(_PLAIN_FILLER_BYTES)
    extended_half = reader.int4()
    # A peer with bit 0 set means filler by these bytes, whatever they hold.
    is_extended = not capabilities & Capability.CLIENT_MYSQL
    extended = Capability(extended_half << 32) if is_extended else NO_CAPABILITIES
    return _Header(capabilities, max_packet_bytes, charset, extended)


def _serialize_header(
    capabilities: Capability, max_packet_bytes: int, charset: int, extended_capabilities: Capability
) -> bytes:
    return (
        capabilities.to_bytes(4, "little")
        + max_packet_bytes.to_bytes(4, "little")
        + charset.to_bytes(1, "little")
        + bytes(_PLAIN_FILLER_BYTES)
        + (extended_capabilities >> 32).to_bytes(4, "little")
    )


def _read_auth_response(reader: PayloadReader, capabilities: Capability) -> bytes:
    if capabilities & Capability.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA:
        return reader.lenenc_bytes()
    if capabilities & Capability.CLIENT_SECURE_CONNECTION:
        return reader.fixed(reader.int1())
    return reader.nul_terminated()


def _serialize_auth_response(capabilities: Capability, response: bytes) -> bytes:
    if capabilities & Capability.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA:
        return lenenc_bytes(response)
    if capabilities & Capability.CLIENT_SECURE_CONNECTION:
        if len(response) > 0xFF:
            raise ValueError(f"an authentication response of {len(response)} bytes behind a length of one byte")
        return bytes([len(response)]) + response
    if b"\x00" in response:
        raise ValueError("an authentication response with a NUL in it, where a NUL ends it")
    return response + b"\x00"


def _split_attributes(block: bytes) -> list[tuple[bytes, bytes, bytes]]:
    if len(block) > ATTRIBUTES_LIMIT_BYTES:
        raise MalformedPacket(f"{len(block)} bytes of connection attributes, where a server takes 65535")
    reader = PayloadReader(block)
    pairs = []
    while reader.remaining:
        start = reader.position
        try:
            name = reader.lenenc_bytes()
            value = reader.lenenc_bytes()
        except TruncatedPacket as error:
            raise MalformedPacket("the connection attributes overrun their own length") from error
        pairs.append((name, value, block[start : reader.position]))
    return pairs
