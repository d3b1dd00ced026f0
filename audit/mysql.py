"""The one door to PyMySQL: a session with one server, over verified TLS unless an option says otherwise.

PyMySQL by itself takes TLS without looking at the certificate, and before 1.2 goes on in plaintext where a server, or
somebody in between, does not offer TLS: the login is sent all the same. So the context is made here, and a greeting
without TLS ends the connection before anything is sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import pymysql
import pymysql.cursors
from pymysql.connections import Connection
from pymysql.constants import CLIENT

from audit.dsn import Target
from audit.errors import AuditError, ServerUnreadable
from audit.facts import Certificate, Transport, is_loopback
from audit.tls import client_context, tls_reason
from wire.capabilities import Capability
from wire.errors import WireError
from wire.framing import PacketDecoder, encode_packet
from wire.greeting import HandshakeV10
from wire.login import SSLRequest

CONNECT_SECONDS = 10
READ_SECONDS = 60
_GREETING_LIMIT_BYTES = 4096

# Manual, "Server Error Message Reference": table, column and procedure access, database access, a privilege is missing,
# an option of the server (skip_grant_tables) stands against it.
_DENIED = frozenset({1044, 1142, 1143, 1227, 1290, 1370})
# Syntax, no such table, column, variable, information_schema table, storage engine or database.
_ABSENT = frozenset({1064, 1146, 1054, 1193, 1109, 1286, 1049})
# What PyMySQL raises, besides errors of its own, over packets that are not what the protocol has.
_MALFORMED = (
    RuntimeError,
    AssertionError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    struct.error,
)
_NO_PROTOCOL = "it answers against the protocol"

Row = dict[str, Any]

if TYPE_CHECKING:  # generic in its stubs alone
    _Connection = Connection[pymysql.cursors.DictCursor]
else:
    _Connection = Connection


class Denied(AuditError):  # noqa: N818 - named for what it is about
    """The account lacks a privilege."""


class Absent(AuditError):  # noqa: N818 - named for what it is about
    """The server has no such thing."""


class _TlsConnection(_Connection):
    """A connection that says nothing to a server that offers no TLS."""

    def _request_authentication(self) -> None:
        capabilities: int = self.server_capabilities  # type: ignore[attr-defined]
        if not capabilities & CLIENT.SSL:
            raise ServerUnreadable("it offers no TLS, or somebody in between says so")
        super()._request_authentication()  # type: ignore[misc]


class Session:
    """Asks one server; a context manager. Every statement that it sends only reads."""

    def __init__(self, target: Target, password: str) -> None:
        """Connects and logs in.

        Raises:
            ServerUnreadable: it cannot be reached or trusted, or refuses the login.
        """
        self.target = target
        self.transport = _transport(target)
        try:
            self._connection = _connect(target, self.transport, password)
        except ServerUnreadable as error:
            raise ServerUnreadable(f"{target.name}: {error}; {_HINTS['tls']}") from None
        except ssl.SSLError as error:
            raise ServerUnreadable(f"{target.name}: {tls_reason(error)}; {_HINTS['tls']}") from error
        except OSError as error:
            raise ServerUnreadable(f"{target.name}: {error.strerror or error}") from error
        except pymysql.err.MySQLError as error:
            raise ServerUnreadable(f"{target.name}: {_reason(error)}{_hint(error)}") from error
        except _MALFORMED as error:
            raise ServerUnreadable(f"{target.name}: {_NO_PROTOCOL}: {_reason(error)}") from error

    def rows(self, statement: str, *arguments: object) -> list[Row]:
        """Runs one statement; `%s` stands for each argument. Column names are in lower case.

        Raises:
            Denied: a privilege is missing.
            Absent: the server knows no such table, column or statement.
            ServerUnreadable: the connection is gone, or the statement failed for another reason.
        """
        try:
            with self._connection.cursor() as cursor:
                # Without arguments PyMySQL leaves a per cent sign alone.
                cursor.execute(statement, arguments or None)
                return [{name.lower(): value for name, value in row.items()} for row in cursor.fetchall()]
        except pymysql.err.MySQLError as error:
            number = error.args[0] if error.args else 0
            if number in _DENIED:
                raise Denied(_reason(error)) from error
            if number in _ABSENT:
                raise Absent(_reason(error)) from error
            raise ServerUnreadable(f"{self.target.name}: {_reason(error)}") from error
        except (*_MALFORMED, OSError) as error:
            raise ServerUnreadable(f"{self.target.name}: {_NO_PROTOCOL}: {_reason(error)}") from error

    def certificate(self) -> Certificate | None:
        """The certificate that the server shows; None where it shows none."""
        if self.target.socket is not None:
            with contextlib.suppress(OSError, WireError):
                return _certificate(_shown_over(self.target.socket))
            return None
        connected = getattr(self._connection, "_sock", None)
        return _certificate(connected.getpeercert(binary_form=True)) if isinstance(connected, ssl.SSLSocket) else None

    @property
    def is_on_this_host(self) -> bool:
        """Whether the server's files may be looked at from here."""
        return self.target.socket is not None or is_loopback(self.target.host)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(pymysql.err.MySQLError, OSError, *_MALFORMED):
            self._connection.close()


_HINTS = {
    "tls": "name its authority with ssl-ca=, come in through socket=, or accept the risk with unsafe-unverified-tls=1 "
    "or unsafe-plaintext=1",
}


def _connect(target: Target, transport: Transport, password: str) -> _Connection:
    kind: type[_Connection] = _Connection
    options: dict[str, Any] = {}
    if transport is Transport.UNIX_SOCKET:
        options = {"unix_socket": str(target.socket), "ssl_disabled": True}
    elif transport is Transport.PLAINTEXT:
        options = {"host": target.host, "port": target.port, "ssl_disabled": True}
    else:
        kind = _TlsConnection
        options = {"host": target.host, "port": target.port, "ssl": _context(target)}
    return kind(
        user=target.user,
        password=password,
        charset="utf8mb4",
        cursorclass=pymysql.cursors.DictCursor,
        autocommit=True,
        # The server's own could change what a backslash means.
        sql_mode="",
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        program_name="binlock-audit",
        **options,
    )


def _context(target: Target) -> ssl.SSLContext:
    context = client_context(ca=target.ca, certificate=target.certificate, key=target.key)
    # mysql_ssl_rsa_setup's authorities, among others, do not meet it.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if target.is_unverified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _transport(target: Target) -> Transport:
    if target.socket is not None:
        return Transport.UNIX_SOCKET
    if target.is_plaintext:
        return Transport.PLAINTEXT
    return Transport.UNVERIFIED_TLS if target.is_unverified else Transport.VERIFIED_TLS


def _certificate(der: bytes | None) -> Certificate | None:
    if not der:
        return None
    # The issuer's name that mysqld gives to what it makes (sql_authentication.cc); MariaDB's has no name of its own.
    return Certificate(sha256=hashlib.sha256(der).hexdigest(), is_auto_generated=b"_Auto_Generated_" in der)


def _shown_over(path: Path) -> bytes | None:
    """The certificate behind a unix socket: TLS is begun and left before any login, as nothing local is encrypted."""
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(CONNECT_SECONDS)
        plain.connect(str(path))
        decoder = PacketDecoder(_GREETING_LIMIT_BYTES)
        while (packet := decoder.next_packet()) is None:
            received = plain.recv(decoder.bytes_needed())
            if not received:
                return None
            decoder.feed(received)
        greeting = HandshakeV10.parse(packet.payload)
        if not greeting.capabilities & Capability.CLIENT_SSL:
            return None
        wanted = Capability.CLIENT_SSL | Capability.CLIENT_PROTOCOL_41 | Capability.CLIENT_SECURE_CONNECTION
        plain.sendall(encode_packet(SSLRequest(wanted).serialize(), packet.last_sequence_id + 1))
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(plain) as encrypted:
            return encrypted.getpeercert(binary_form=True)


def _reason(error: Exception) -> str:
    text = str(error.args[-1]) if error.args else type(error).__name__
    return " ".join(text.split())


def _hint(error: Exception) -> str:
    """What to do about a refused connection; PyMySQL hides the cause of a failed handshake in its text."""
    cause = cast("Exception | None", getattr(error, "original_exception", None)) or error.__cause__
    if isinstance(cause, ssl.SSLError):
        return f"; {_HINTS['tls']}"
    return ""
