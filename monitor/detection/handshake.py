"""What a TLS handshake shows: version, suite, group, and in TLS 1.2 the server's certificate.

RFC 8446 sections 4.1.3 and 4.2.8, RFC 5246 section 7.4, RFC 8422 section 5.4. A HelloRetryRequest is a ServerHello with
a random value of its own; what counts is the ServerHello that follows it.
"""

from collections.abc import Callable
from datetime import datetime

from monitor.detection.registry import CIPHERS, GROUPS, VERSIONS, name_of
from monitor.verdicts import TlsFacts
from wire.errors import MalformedPacket, TruncatedPacket, WireError

CLIENT_HELLO, SERVER_HELLO, CERTIFICATE, SERVER_KEY_EXCHANGE = 1, 2, 11, 12
_MESSAGE_HEADER_BYTES = 4
# A chain of certificates; post-quantum ones are the largest.
_LONGEST_MESSAGE_BYTES = 64 * 1024
_RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
_SUPPORTED_VERSIONS, _KEY_SHARE = 43, 51
_NAMED_CURVE = 3

CertificateReader = Callable[[bytes], datetime | None]


class HandshakeReader:
    """Puts the handshake messages of one direction together until its records are encrypted.

    Attributes:
        cipher: the suite's number, once a ServerHello has told.
        is_client: whether a ClientHello was seen here.
        is_server: whether a ServerHello was.
    """

    __slots__ = ("_buffer", "_facts", "_is_over", "_not_after_of", "cipher", "is_client", "is_server")

    def __init__(self, facts: TlsFacts, not_after_of: CertificateReader) -> None:
        """Begins.

        Args:
            facts: what is found goes there.
            not_after_of: reads when a DER certificate expires; None where it cannot.
        """
        self.cipher: int | None = None
        self.is_client = False
        self.is_server = False
        self._facts = facts
        self._not_after_of = not_after_of
        self._buffer = bytearray()
        self._is_over = False

    def feed(self, fragment: bytes) -> None:
        """Takes the content of one handshake record."""
        if self._is_over:
            return
        self._buffer += fragment
        while len(self._buffer) >= _MESSAGE_HEADER_BYTES:
            end = _MESSAGE_HEADER_BYTES + int.from_bytes(self._buffer[1:4])
            if end > _LONGEST_MESSAGE_BYTES:
                self.end()
                return
            if len(self._buffer) < end:
                return
            message_type, body = self._buffer[0], bytes(self._buffer[_MESSAGE_HEADER_BYTES:end])
            del self._buffer[:end]
            try:
                self._read(message_type, body)
            except WireError:
                self.end()

    def end(self) -> None:
        """What follows is encrypted, or cannot be read."""
        self._is_over = True
        self._buffer.clear()

    def _read(self, message_type: int, body: bytes) -> None:
        if message_type == CLIENT_HELLO:
            self.is_client = True
        elif message_type == SERVER_HELLO:
            self._read_server_hello(_Reader(body))
            self.is_server = True
        elif message_type == CERTIFICATE and not self._facts.certificate_not_after:
            chain = _Reader(_Reader(body).vector(3))
            self._facts.certificate_not_after = self._not_after_of(chain.vector(3))
        elif message_type == SERVER_KEY_EXCHANGE and body[:1] == bytes([_NAMED_CURVE]):
            reader = _Reader(body[1:])
            self._facts.group = name_of(GROUPS, reader.integer(2))

    def _read_server_hello(self, reader: "_Reader") -> None:
        version = reader.integer(2)
        random = reader.fixed(32)
        reader.vector(1)  # the session id
        cipher = reader.integer(2)
        reader.integer(1)  # the compression method
        group = ""
        extensions = _Reader(reader.vector(2)) if reader.remaining else _Reader(b"")
        while extensions.remaining:
            kind, content = extensions.integer(2), _Reader(extensions.vector(2))
            if kind == _SUPPORTED_VERSIONS:
                version = content.integer(2)
            elif kind == _KEY_SHARE:
                group = name_of(GROUPS, content.integer(2))
        if random == _RETRY_RANDOM:
            return
        self.cipher = cipher
        self._facts.version = name_of(VERSIONS, version)
        self._facts.cipher = name_of(CIPHERS, cipher)
        self._facts.group = group


class _Reader:
    """TLS presentation language (RFC 8446 section 3): integers in network order, vectors behind their length."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def remaining(self) -> int:
        return len(self._data) - self._position

    def fixed(self, length: int) -> bytes:
        if length > self.remaining:
            raise TruncatedPacket(f"{length} bytes wanted of a handshake message that has {self.remaining} left")
        start, self._position = self._position, self._position + length
        return self._data[start : self._position]

    def integer(self, width: int) -> int:
        return int.from_bytes(self.fixed(width))

    def vector(self, width: int) -> bytes:
        length = self.integer(width)
        if length > self.remaining:
            raise MalformedPacket("a vector of a handshake message is longer than the message")
        return self.fixed(length)
