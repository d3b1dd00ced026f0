"""The admin endpoint: `/metrics`, `/healthz`, `/readyz` and `/sessions` over HTTP/1.1, read-only."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import h11
import trio

from proxy.addresses import UnixAddress, parse_address
from proxy.logs import log_defect
from proxy.metrics import Metrics
from proxy.sessions import SessionRegistry
from supervision.sockets import require_address, require_path

# A scraper asks every few seconds; whoever is slower than this holds a connection for nothing.
_REQUEST_SECONDS = 10
_RECEIVE_BYTES = 4096
_JSON = "application/json; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"


class Readiness(Protocol):
    """Who knows whether replicas are being accepted."""

    @property
    def is_ready(self) -> bool:
        """Whether they are."""

    @property
    def reload_error(self) -> str:
        """Why the configuration on disk is not the one that runs; empty if it is."""


class AdminEndpoint:
    """Answers one connection at a time each, until it is closed or slow."""

    def __init__(self, metrics: Metrics, registry: SessionRegistry, readiness: Readiness) -> None:
        self._metrics = metrics
        self._registry = registry
        self._readiness = readiness

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serves requests on one connection."""
        connection = h11.Connection(h11.SERVER)
        try:
            async with stream:
                while True:
                    with trio.fail_after(_REQUEST_SECONDS):
                        if not await self._serve_request(stream, connection):
                            return
                    connection.start_next_cycle()
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
            return
        except Exception as error:  # noqa: BLE001 - whoever asks for metrics must not be able to end the sessions
            log_defect(error, endpoint="admin")

    async def _serve_request(self, stream: trio.abc.Stream, connection: h11.Connection) -> bool:
        try:
            request = await _next_request(stream, connection)
        except h11.RemoteProtocolError as error:
            await _respond(stream, connection, HTTPStatus(error.error_status_hint), f"{error}\n".encode(), _TEXT)
            return False
        if request is None:
            return False
        status, body, content_type = self._answer(request)
        await _respond(stream, connection, status, body, content_type, is_head=request.method == b"HEAD")
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    def _answer(self, request: h11.Request) -> tuple[HTTPStatus, bytes, str]:  # noqa: PLR0911 - one a path
        if request.method not in {b"GET", b"HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, b"only GET is answered here\n", _TEXT
        headers = dict(request.headers)
        match request.target.partition(b"?")[0]:
            case b"/metrics":
                return HTTPStatus.OK, *self._metrics.exposition(headers.get(b"accept", b"").decode("latin-1"))
            case b"/healthz":
                return HTTPStatus.OK, b"ok\n", _TEXT
            case b"/readyz" if self._readiness.is_ready:
                # A reload that failed keeps what runs, so replicas are served; to say 503 would take that away.
                error = self._readiness.reload_error
                return (
                    HTTPStatus.OK,
                    (f"ready; the last reload failed: {error}\n" if error else "ready\n").encode(),
                    _TEXT,
                )
            case b"/readyz":
                return HTTPStatus.SERVICE_UNAVAILABLE, b"not accepting replicas\n", _TEXT
            case b"/sessions":
                return HTTPStatus.OK, json.dumps([record.fields() for record in self._registry]).encode(), _JSON
            case _:
                return HTTPStatus.NOT_FOUND, b"try /metrics, /healthz, /readyz or /sessions\n", _TEXT


async def open_admin_listeners(
    address_text: str, handed_over: socket.socket | None = None
) -> list[trio.SocketListener]:
    """Listens where the configuration says; a unix socket can be used by this user and group only.

    Args:
        address_text: as in the configuration.
        handed_over: a socket that the service manager has opened there already.

    Raises:
        OSError: the address is taken, or not ours.
        SupervisionError: what was handed over listens elsewhere.
    """
    address = parse_address(address_text)
    if handed_over is not None:
        if isinstance(address, UnixAddress):
            require_path(handed_over, "admin", address.path)
        else:
            require_address(handed_over, "admin", address.host, address.port)
        return [trio.SocketListener(trio.socket.from_stdlib_socket(handed_over))]
    if not isinstance(address, UnixAddress):
        return await trio.open_tcp_listeners(address.port, host=address.host)
    _remove_stale_socket(Path(address.path))
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        await sock.bind(address.path)
        sock.listen()
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return [trio.SocketListener(sock)]


def _remove_stale_socket(path: Path) -> None:
    """Removes what a process that was killed has left; a socket that somebody answers on stays, and so does a file."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError(errno.EADDRINUSE, "already in use by another process", str(path))


async def _next_request(stream: trio.abc.Stream, connection: h11.Connection) -> h11.Request | None:
    request = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif isinstance(event, h11.ConnectionClosed):
            return None


async def _respond(
    stream: trio.abc.Stream,
    connection: h11.Connection,
    status: HTTPStatus,
    body: bytes,
    content_type: str,
    *,
    is_head: bool = False,
) -> None:
    headers = [("content-type", content_type), ("content-length", str(len(body))), ("cache-control", "no-store")]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("allow", "GET, HEAD"))
    response = h11.Response(status_code=status.value, headers=headers, reason=status.phrase.encode())
    content = h11.Data(data=b"" if is_head else body)
    pieces = [connection.send(event) for event in (response, content, h11.EndOfMessage())]
    await stream.send_all(b"".join(piece for piece in pieces if piece))
