"""A TLS connection over a non-blocking socket that never waits: it says what it waits for."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from cryptography import x509
from OpenSSL import SSL

from proxy.openssl.binding import FFI, LIB, reasons_of, take_reasons
from proxy.openssl.contexts import TlsSettingsError

# The TLS record's largest plaintext, RFC 8446 section 5.1. SSL_read returns at most one record.
RECORD_BYTES = 16_384


class TlsFailed(Exception):  # noqa: N818 - named for what it is about
    """The handshake or the stream broke.

    Attributes:
        reasons: OpenSSL's own words, such as `wrong version number`.
        verify_code: the X509_V_ERR_* of the peer's chain, 0 if there was no complaint about it.
    """

    def __init__(self, reasons: Sequence[str], verify_code: int) -> None:
        super().__init__("; ".join(reasons) or "the peer closed the connection")
        self.reasons = tuple(reasons)
        self.verify_code = verify_code


class Want(IntEnum):
    """What an operation waits for. Negative, so that it never reads as a count of bytes."""

    READ = -1
    WRITE = -2


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What a handshake agreed on, in OpenSSL's names.

    Attributes:
        seconds: how long it took.
        peer_chain: what was verified, the peer's leaf first, its trust anchor last.
    """

    seconds: float
    version: str
    cipher: str
    group: str
    peer_chain: tuple[x509.Certificate, ...]

    @property
    def peer_leaf(self) -> x509.Certificate | None:
        """The peer's own certificate."""
        return self.peer_chain[0] if self.peer_chain else None

    @property
    def peer_not_after(self) -> datetime | None:
        """When the chain stops being valid: the earliest expiry in it."""
        return min((certificate.not_valid_after_utc for certificate in self.peer_chain), default=None)


class TlsEngine:
    """One TLS connection over a non-blocking socket. Never waits: it says what it waits for.

    Attributes:
        records_read, records_written: how many records each of the two keys has protected.

    The engine does not own the socket. It must never be used by two threads at once.
    """

    __slots__ = ("_connection", "_ssl", "records_read", "records_written")

    def __init__(self, connection: SSL.Connection) -> None:
        self.records_read = 0
        self.records_written = 0
        self._connection = connection
        self._ssl = connection._ssl

    @classmethod
    def accepting(cls, context: SSL.Context, sock: socket.socket) -> TlsEngine:
        """The server's end of a connection that is about to start its handshake."""
        connection = SSL.Connection(context, sock)
        connection.set_accept_state()
        return cls(connection)

    @classmethod
    def connecting(cls, context: SSL.Context, sock: socket.socket, server_name: str) -> TlsEngine:
        """The client's end; the handshake fails unless the peer's SAN has `server_name` (RFC 9525 section 6.3)."""
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        engine = cls(connection)
        engine._expect_name(server_name)
        return engine

    def _expect_name(self, server_name: str) -> None:
        parameters = LIB.SSL_get0_param(self._ssl)
        # X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT (X509_check_host(3)).
        LIB.X509_VERIFY_PARAM_set_hostflags(parameters, 0x4 | 0x20)
        try:
            packed = ipaddress.ip_address(server_name).packed
        except ValueError:
            try:
                name = server_name.rstrip(".").encode("ascii" if server_name.isascii() else "idna")
            except UnicodeError as error:
                raise TlsSettingsError(f"server_name: {server_name!r} is not a DNS name") from error
            self._connection.set_tlsext_host_name(name)
            accepted = LIB.X509_VERIFY_PARAM_set1_host(parameters, name, len(name))
        else:
            accepted = LIB.X509_VERIFY_PARAM_set1_ip(parameters, packed, len(packed))
        if accepted != 1:
            LIB.ERR_clear_error()
            raise TlsSettingsError(f"server_name: {server_name!r} is not a name that a certificate could have")

    def shake_hands(self) -> Want | None:
        """Takes the handshake as far as it goes; None when it is complete.

        Raises:
            TlsFailed: either side refused. The alert is on its way to the peer.
        """
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return Want.READ
        except SSL.WantWriteError:
            return Want.WRITE
        except (SSL.Error, OSError) as error:
            raise TlsFailed(reasons_of(error), LIB.SSL_get_verify_result(self._ssl)) from error
        return None

    def read_into(self, view: memoryview) -> int:
        """Fills `view` with what has arrived, many records at once.

        Returns:
            How many bytes came; 0 after the peer's close_notify; `Want.READ` or `Want.WRITE` (a KeyUpdate that
            must be answered first) if none could.

        Raises:
            TlsFailed: the stream broke, or ended without a close_notify.
        """
        size = len(view)
        total = 0
        count: int = 0
        # Released before anything is raised: a traceback that kept it alive, with the export it holds on `view`, would
        # crash the garbage collector of CPython 3.11 if the exception were part of a cycle.
        with FFI.from_buffer(view) as buffer:
            while total < size:
                count = LIB.SSL_read(self._ssl, buffer + total, size - total)
                if count <= 0:
                    break
                total += count
                self.records_read += 1
                # A record shorter than the largest is the sender's last for now, mostly; asking again costs a call.
                if count < RECORD_BYTES or size - total < RECORD_BYTES:
                    return total
        return self._stopped(total, count)

    def write(self, view: memoryview) -> int:
        """Encrypts and sends all of `view`, as many records as it takes.

        After `Want.WRITE` some of them may have left; the next call must be with the same bytes (SSL_write(3)).

        Returns:
            How many bytes left: all; `Want.WRITE` or `Want.READ` if not all could.

        Raises:
            TlsFailed: the stream is broken.
        """
        with FFI.from_buffer(view) as buffer:
            count = LIB.SSL_write(self._ssl, buffer, len(view))
        if count <= 0:
            return self._complaint(count)
        self.records_written += -(-count // RECORD_BYTES)
        return int(count)

    def say_goodbye(self) -> None:
        """Sends close_notify if it fits; never waits for the peer's."""
        try:
            self._connection.shutdown()
        except (SSL.Error, OSError):
            LIB.ERR_clear_error()

    def negotiated(self, seconds: float) -> Negotiated:
        """What the finished handshake agreed on, after so many seconds."""
        return Negotiated(
            seconds=seconds,
            version=self._connection.get_protocol_version_name(),
            cipher=self._connection.get_cipher_name() or "",
            group=self._connection.get_group_name() or "",
            peer_chain=tuple(self._connection.get_verified_chain(as_cryptography=True) or ()),
        )

    def _stopped(self, total: int, returned: int) -> int:
        if total == 0:
            return self._complaint(returned)
        # A fatal error comes back at the next call; left in this thread's queue it would be taken for another's.
        LIB.ERR_clear_error()
        return total

    def _complaint(self, returned: int) -> int:
        code = LIB.SSL_get_error(self._ssl, returned)
        if code == LIB.SSL_ERROR_WANT_READ:
            return Want.READ
        if code == LIB.SSL_ERROR_WANT_WRITE:
            return Want.WRITE
        if code == LIB.SSL_ERROR_ZERO_RETURN:
            return 0
        raise TlsFailed(take_reasons(), 0)


def require_verifiable(server_name: str) -> None:
    """Tries a name that a source's certificate is to have, so that the first replica need not find out.

    Raises:
        TlsSettingsError: no certificate can have it.
    """
    TlsEngine(SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None))._expect_name(server_name)
