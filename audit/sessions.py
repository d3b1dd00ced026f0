"""Binlock's own list of sessions, `/sessions` of its admin endpoint: what explains connections on loopback."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from audit.dsn import path_of, refuse_unknown
from audit.errors import AuditError
from audit.facts import ProxySession, is_loopback
from audit.tls import client_context, tls_reason

# Of an https URL, in its query.
OPTIONS = ("ssl-ca", "ssl-cert", "ssl-key", "name")
_TLS_HINT = (
    "name its authority with ssl-ca=, the name that its certificate has with name=, and a certificate that it lets in "
    "with ssl-cert= and ssl-key="
)
_TIMEOUT_SECONDS = 10
_LONGEST_ANSWER_BYTES = 64 << 20
_UNIX = "unix:"


def read_sessions(where: str) -> list[ProxySession]:
    """The streams that one Binlock carries.

    Args:
        where: a file with what `binlock-proxy sessions --json` prints, or the endpoint: `http://127.0.0.1:9307`,
            `https://db1.example:9307/?ssl-ca=...`, `unix:/run/binlock/admin.sock`.

    Raises:
        AuditError: it cannot be read, or is something else.
    """
    named = where.partition("?")[0] if "://" in where else where
    try:
        decoded = json.loads(_content(where, named))
    except ssl.SSLError as error:
        raise AuditError(f"{named}: {tls_reason(error).rstrip('.')}; {_TLS_HINT}") from error
    except http.client.HTTPException as error:
        hint = "; with [admin.tls] it is https://" if where.startswith("http:") else ""
        raise AuditError(f"{named}: what answers there speaks no HTTP{hint}") from error
    except OSError as error:
        raise AuditError(f"{named}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise AuditError(f"{named}: not the JSON that `binlock-proxy sessions --json` prints") from error
    if not isinstance(decoded, list) or not all(isinstance(item, dict) for item in decoded):
        raise AuditError(f"{named}: not a list of sessions")
    return [_session(item) for item in decoded if item.get("stage") == "relay"]


def _content(where: str, named: str) -> bytes:
    if where.startswith(_UNIX):
        return _fetched(_UnixConnection(where.removeprefix(_UNIX)), named)
    if "://" in where:
        return _fetched(_connection(where, named), named)
    with Path(where).open("rb") as file:
        return file.read(_LONGEST_ANSWER_BYTES)


def _connection(where: str, named: str) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(where)
        host, port = parts.hostname, parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise AuditError(f"{named}: cannot be read: look at its port, its brackets and its options") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise AuditError(f"{named}: http://HOST:PORT, https://HOST:PORT/?OPTION=VALUE, unix:PATH or a file")
    if parts.scheme == "https":
        refuse_unknown(options, OPTIONS, "https://")
        return _TlsConnection(host, port, options)
    if options:
        raise AuditError(f"{named}: only https:// has options")
    if not is_loopback(host):
        # It excuses plaintext connections, so nobody on the way may have written it.
        raise AuditError(
            f"{named}: over a network say https://, or read it on its own host, and give the file: "
            "binlock-proxy sessions --json > FILE"
        )
    return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)


def _fetched(connection: http.client.HTTPConnection, named: str) -> bytes:
    try:
        connection.request("GET", "/sessions")
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise AuditError(f"{named}: answers {response.status}")
        return response.read(_LONGEST_ANSWER_BYTES)
    finally:
        connection.close()


class _TlsConnection(http.client.HTTPConnection):
    """HTTP over TLS, always verified; the name that is expected may be another than the one that is dialled."""

    default_port = http.client.HTTPS_PORT

    def __init__(self, host: str, port: int | None, options: Mapping[str, str]) -> None:
        super().__init__(host, port, timeout=_TIMEOUT_SECONDS)
        self._name = options.get("name") or host
        self._context = client_context(
            ca=path_of(options, "ssl-ca"), certificate=path_of(options, "ssl-cert"), key=path_of(options, "ssl-key")
        )

    def connect(self) -> None:
        """Connects, and makes the handshake."""
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connects to the socket instead of a port."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_SECONDS)
        self.sock.connect(self._path)


def _session(item: dict[str, object]) -> ProxySession:
    def text(name: str) -> str:
        return str(item.get(name) or "")

    return ProxySession(
        route=text("route"),
        replica=text("replica"),
        peer=text("peer"),
        account=text("account"),
        tls_version=text("replica_tls_version"),
        source_tls_version=text("source_tls_version"),
    )
