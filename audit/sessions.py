"""Binlock's own list of sessions, `/sessions` of its admin endpoint: what explains connections on loopback."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

from audit.errors import AuditError
from audit.facts import ProxySession, is_loopback

_TIMEOUT_SECONDS = 10
_LONGEST_ANSWER_BYTES = 64 << 20
_UNIX = "unix:"


def read_sessions(where: str) -> list[ProxySession]:
    """The streams that one Binlock carries.

    Args:
        where: a file with what `binlock-proxy sessions --json` prints, or the endpoint: `http://127.0.0.1:9307`,
            `unix:/run/binlock/admin.sock`.

    Raises:
        AuditError: it cannot be read, or is something else.
    """
    try:
        content = _content(where)
        decoded = json.loads(content)
    except (OSError, http.client.HTTPException) as error:
        raise AuditError(f"{where}: {getattr(error, 'strerror', None) or error}") from error
    except (ValueError, RecursionError) as error:
        raise AuditError(f"{where}: not the JSON that `binlock-proxy sessions --json` prints") from error
    if not isinstance(decoded, list) or not all(isinstance(item, dict) for item in decoded):
        raise AuditError(f"{where}: not a list of sessions")
    return [_session(item) for item in decoded if item.get("stage") == "relay"]


def _content(where: str) -> bytes:
    if where.startswith(_UNIX):
        connection: http.client.HTTPConnection = _UnixConnection(where.removeprefix(_UNIX))
        return _fetched(connection, where)
    if "://" not in where:
        with Path(where).open("rb") as file:
            return file.read(_LONGEST_ANSWER_BYTES)
    parts = urlsplit(where)
    if parts.scheme != "http" or not parts.hostname:
        raise AuditError(f"{where}: http://HOST:PORT, unix:PATH or a file")
    if not is_loopback(parts.hostname):
        # It excuses plaintext connections, so nobody on the way may have written it.
        raise AuditError(f"{where}: read it on its own host, and give the file: binlock-proxy sessions --json > FILE")
    return _fetched(http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS), where)


def _fetched(connection: http.client.HTTPConnection, where: str) -> bytes:
    try:
        connection.request("GET", "/sessions")
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise AuditError(f"{where}: answers {response.status}")
        return response.read(_LONGEST_ANSWER_BYTES)
    finally:
        connection.close()


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
