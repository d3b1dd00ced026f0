"""The exchange between login and the first OK.

Manual: page_protocol_connection_phase, page_caching_sha2_authentication_exchanges,
Protocol::AuthSwitchRequest, Protocol::AuthMoreData, Protocol::AuthNextFactor.

The source reads the login's response for its own default plugin. An account with another plugin is asked
again by an AuthSwitchRequest, which brings a new nonce: the latest nonce is the one that counts.
"""

import hashlib
from dataclasses import dataclass

from wire.capabilities import Capability
from wire.datatypes import Payload, PayloadReader
from wire.errors import MalformedPacket
from wire.results import ERR_HEADER, OK_HEADER, ErrPacket, OkPacket

MYSQL_NATIVE_PASSWORD = b"mysql_native_password"
CACHING_SHA2_PASSWORD = b"caching_sha2_password"
SHA256_PASSWORD = b"sha256_password"
MYSQL_CLEAR_PASSWORD = b"mysql_clear_password"
ED25519 = b"client_ed25519"
PARSEC = b"parsec"

# What follows 0x01 in an AuthMoreData of caching_sha2_password. After "fast" the OK comes without the
# replica speaking.
CACHING_SHA2_FAST_OK = 0x03
CACHING_SHA2_FULL = 0x04

# What a replica sends to be given the public key, the same question in two plugins. Where the source
# considers the transport secure it takes this byte for the password itself.
CACHING_SHA2_REQUEST_PUBLIC_KEY = 0x02
SHA256_REQUEST_PUBLIC_KEY = 0x01

AUTH_MORE_DATA_HEADER = 0x01
AUTH_NEXT_FACTOR_HEADER = 0x02
AUTH_SWITCH_HEADER = 0xFE


@dataclass(frozen=True, slots=True)
class AuthSwitchRequest:
    """The source asks for another plugin's response (Protocol::AuthSwitchRequest)."""

    plugin: bytes
    data: bytes

    @property
    def nonce(self) -> bytes:
        """The plugin's data without the NUL that ends it."""
        return self.data.removesuffix(b"\x00")

    @classmethod
    def parse(cls, payload: Payload) -> "AuthSwitchRequest":
        """Read the request.

        Raises:
            MalformedPacket: Another header.
            TruncatedPacket: There is no plugin name with its end.
        """
        reader = _reader_behind(AUTH_SWITCH_HEADER, payload)
        return cls(plugin=reader.nul_terminated(), data=reader.rest())

    def serialize(self) -> bytes:
        """Write the request."""
        return bytes([AUTH_SWITCH_HEADER]) + self.plugin + b"\x00" + self.data


@dataclass(frozen=True, slots=True)
class OldAuthSwitchRequest:
    """0xFE alone: the source asks for the password hash from before 4.1 (Protocol::OldAuthSwitchRequest)."""

    def serialize(self) -> bytes:
        """Write the request."""
        return bytes([AUTH_SWITCH_HEADER])


@dataclass(frozen=True, slots=True)
class AuthMoreData:
    """Data of the plugin in use (Protocol::AuthMoreData).

    MySQL puts 0x01 before all of it. MariaDB does so only for data that begins with 0x01, 0xFE or 0xFF;
    `is_escaped` tells the two apart, so that the packet can be written again as it was.
    """

    data: bytes
    is_escaped: bool = True

    @classmethod
    def parse(cls, payload: Payload) -> "AuthMoreData":
        """Read the data, escaped or not.

        Raises:
            TruncatedPacket: The payload is empty.
        """
        first = PayloadReader(payload).int1()
        if first == AUTH_MORE_DATA_HEADER:
            return cls(bytes(payload[1:]))
        return cls(bytes(payload), is_escaped=False)

    def serialize(self) -> bytes:
        """Write the data."""
        return bytes([AUTH_MORE_DATA_HEADER]) + self.data if self.is_escaped else self.data


@dataclass(frozen=True, slots=True)
class AuthNextFactor:
    """The source asks for one more factor, after one was accepted (Protocol::AuthNextFactor)."""

    plugin: bytes
    data: bytes

    @classmethod
    def parse(cls, payload: Payload) -> "AuthNextFactor":
        """Read the request.

        Raises:
            MalformedPacket: Another header.
            TruncatedPacket: There is no plugin name with its end.
        """
        reader = _reader_behind(AUTH_NEXT_FACTOR_HEADER, payload)
        return cls(plugin=reader.nul_terminated(), data=reader.rest())

    def serialize(self) -> bytes:
        """Write the request."""
        return bytes([AUTH_NEXT_FACTOR_HEADER]) + self.plugin + b"\x00" + self.data


AuthReply = OkPacket | ErrPacket | AuthSwitchRequest | AuthMoreData | AuthNextFactor | OldAuthSwitchRequest


def classify_auth_reply(payload: Payload, capabilities: Capability = Capability.CLIENT_PROTOCOL_41) -> AuthReply:
    """Read what the source answers while it authenticates a replica.

    Raises:
        WireError: The packet cannot be read as what its first byte says it is.
    """
    first = PayloadReader(payload).int1()
    if first == OK_HEADER:
        return OkPacket.parse(payload, capabilities)
    if first == ERR_HEADER:
        return ErrPacket.parse(payload)
    if first == AUTH_SWITCH_HEADER:
        return OldAuthSwitchRequest() if len(payload) == 1 else AuthSwitchRequest.parse(payload)
    # MariaDB's dialog plugin begins a question with 0x02 as well, and ends it without a NUL.
    if first == AUTH_NEXT_FACTOR_HEADER and b"\x00" in bytes(payload):
        return AuthNextFactor.parse(payload)
    return AuthMoreData.parse(payload)


def xor_with_nonce(data: Payload, nonce: bytes) -> bytearray:
    """Combine a password and its NUL with the repeated nonce, as RSA ciphertexts hold it; also the inverse.

    Returns:
        A bytearray, so that the caller can overwrite it.

    Raises:
        MalformedPacket: The source gave an empty nonce.
    """
    if not nonce:
        raise MalformedPacket("an empty nonce")
    combined = bytearray(data)
    for position, value in enumerate(nonce[index % len(nonce)] for index in range(len(combined))):
        combined[position] ^= value
    return combined


def caching_sha2_scramble(password: bytes, nonce: bytes) -> bytes:
    """Answer a nonce for caching_sha2_password; an empty password is answered by nothing."""
    if not password:
        return b""
    once = hashlib.sha256(password).digest()
    twice = hashlib.sha256(once).digest()
    return _xor(once, hashlib.sha256(twice + nonce).digest())


def native_scramble(password: bytes, nonce: bytes) -> bytes:
    """Answer a nonce for mysql_native_password; an empty password is answered by nothing."""
    if not password:
        return b""
    once = hashlib.sha1(password, usedforsecurity=False).digest()
    twice = hashlib.sha1(once, usedforsecurity=False).digest()
    return _xor(once, hashlib.sha1(nonce + twice, usedforsecurity=False).digest())


def _reader_behind(header: int, payload: Payload) -> PayloadReader:
    reader = PayloadReader(payload)
    first = reader.int1()
    if first != header:
        raise MalformedPacket(f"the packet begins with 0x{first:02X}, not 0x{header:02X}")
    return reader


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(left, right, strict=True))
