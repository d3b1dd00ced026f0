"""Asks an endpoint, for the commands that look at a running process."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

from endpoint.tls import ClientTls

_TIMEOUT_SECONDS = 5


class Unreachable(Exception):  # noqa: N818
    """Nobody answers there, or not as an endpoint does. The text is the reason."""


def ask(where: tuple[str, int] | Path, path: str, tls: ClientTls | None = None) -> tuple[int, str]:
    """Asks for one path.

    Args:
        where: host and port, or a unix socket.
        path: such as `/readyz`.
        tls: None for plaintext.

    Returns:
        The status and the body.

    Raises:
        Unreachable: there was no answer.
    """
    connection = _Connection(where, tls)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(str(error) or repr(error)) from error
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, where: tuple[str, int] | Path, tls: ClientTls | None) -> None:
        host, port = ("localhost", None) if isinstance(where, Path) else where
        super().__init__(host, port, timeout=_TIMEOUT_SECONDS)
        self._path = where if isinstance(where, Path) else None
        self._tls = tls

    def connect(self) -> None:
        if self._path is None:
            super().connect()
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(_TIMEOUT_SECONDS)
            self.sock.connect(str(self._path))
        if self._tls is not None:
            self.sock = self._tls.wrap(self.sock)
