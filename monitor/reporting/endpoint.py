"""The HTTP endpoint: `/metrics`, `/healthz`, `/readyz` and `/flows`, read-only, over HTTP/1.1."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Protocol

import h11
import trio

from monitor.reporting.logs import log_defect

# A scraper asks every few seconds; whoever is slower than this holds a connection for nothing.
_REQUEST_SECONDS = 10
_RECEIVE_BYTES = 4096
_MOST_CONNECTIONS = 64
# Packets are looked at between two pieces of a long answer.
_FLOWS_A_PIECE = 50
_JSON = "application/json; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"


class Facts(Protocol):
    """Who knows what is asked for here."""

    @property
    def is_ready(self) -> bool:
        """Whether any interface is being watched."""

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics: body and content type."""

    def flows(self) -> Iterator[dict[str, Any]]:
        """What is said of each flow that is being watched; as it is now, also if it is consumed later."""


class Endpoint:
    """Serves any number of connections up to a limit; none waits for another."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._open = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serves requests on one connection."""
        connection = h11.Connection(h11.SERVER)
        self._open += 1
        try:
            async with stream:
                while self._open <= _MOST_CONNECTIONS:
                    with trio.fail_after(_REQUEST_SECONDS):
                        if not await self._serve_request(stream, connection):
                            return
                    connection.start_next_cycle()
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
            return
        except Exception as error:  # noqa: BLE001 - whoever asks for metrics must not be able to end the watch
            log_defect(error, endpoint="http")
        finally:
            self._open -= 1

    async def _serve_request(self, stream: trio.abc.Stream, connection: h11.Connection) -> bool:
        try:
            request = await _next_request(stream, connection)
        except h11.RemoteProtocolError as error:
            status = HTTPStatus(error.error_status_hint)
            await _respond(stream, connection, status, _TEXT, f"{error}\n".encode())
            return False
        if request is None:
            return False
        status, content_type, body = self._answer(request)
        await _respond(stream, connection, status, content_type, body, is_head=request.method == b"HEAD")
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    def _answer(self, request: h11.Request) -> tuple[HTTPStatus, str, bytes | Iterator[bytes]]:  # noqa: PLR0911 - one a path
        if request.method not in {b"GET", b"HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"only GET is answered here\n"
        match request.target.partition(b"?")[0]:
            case b"/metrics":
                accept = dict(request.headers).get(b"accept", b"").decode("latin-1")
                body, content_type = self._facts.exposition(accept)
                return HTTPStatus.OK, content_type, body
            case b"/healthz":
                return HTTPStatus.OK, _TEXT, b"ok\n"
            case b"/readyz" if self._facts.is_ready:
                return HTTPStatus.OK, _TEXT, b"ready\n"
            case b"/readyz":
                return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"no interface is up\n"
            case b"/flows":
                return HTTPStatus.OK, _JSON, _json_list(self._facts.flows())
            case _:
                return HTTPStatus.NOT_FOUND, _TEXT, b"try /metrics, /healthz, /readyz or /flows\n"


def _json_list(objects: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    lead = "["
    while piece := list(itertools.islice(objects, _FLOWS_A_PIECE)):
        yield (lead + ",".join(map(json.dumps, piece))).encode()
        lead = ","
    yield b"[]" if lead == "[" else b"]"


def open_listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Listens on each address that a host has.

    Raises:
        OSError: there is no such host, or an address is taken, or not ours.
    """
    opened: list[socket.socket] = []
    try:
        for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            listening = socket.socket(family, kind)
            opened.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listening.bind(address)
            listening.listen()
    except OSError:
        for listening in opened:
            listening.close()
        raise
    return opened


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
    content_type: str,
    body: bytes | Iterator[bytes],
    *,
    is_head: bool = False,
) -> None:
    headers = [("content-type", content_type), ("cache-control", "no-store")]
    if isinstance(body, bytes):
        # Otherwise the answer is chunked, or ends with the connection where the client is of HTTP/1.0.
        headers.append(("content-length", str(len(body))))
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("allow", "GET, HEAD"))

    async def send(event: h11.Event) -> None:
        await stream.send_all(connection.send(event) or b"")

    await send(h11.Response(status_code=status.value, headers=headers, reason=status.phrase.encode()))
    if isinstance(body, bytes):
        await send(h11.Data(data=b"" if is_head else body))
    elif not is_head:
        # Each piece that is sent lets others have a turn.
        for piece in body:
            await send(h11.Data(data=piece))
    await send(h11.EndOfMessage())
