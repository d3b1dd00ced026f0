"""Serves a table of paths over HTTP/1.1: any number of connections up to a limit, none of which waits for another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from socket import socket

import h11
import trio

from endpoint.answers import Answer, Page, Request, text_answer

# A scraper asks every few seconds; whoever is slower than this holds a connection for nothing.
_REQUEST_SECONDS = 10
_RECEIVE_BYTES = 4096
_MOST_CONNECTIONS = 64
_METHODS = frozenset({b"GET", b"HEAD"})


class Endpoint:
    """Answers what a table of paths says."""

    def __init__(self, pages: Mapping[str, Page], *, on_defect: Callable[[Exception], None]) -> None:
        """Nothing is listened on yet.

        Args:
            pages: what answers each path, in the order in which whoever asks for another is told of them.
            on_defect: is told what a page raised; it costs that one answer.
        """
        self._pages = pages
        self._on_defect = on_defect
        self._open = 0

    async def run(self, listening: Iterable[socket]) -> None:
        """Serves whoever connects, until it is cancelled; closes the sockets then."""
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in listening]
        await trio.serve_listeners(self.serve, listeners)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serves requests on one connection, until it is closed or slow."""
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
        except Exception as error:  # noqa: BLE001 - whoever asks for metrics must not be able to end what they are of
            self._on_defect(error)
        finally:
            self._open -= 1

    async def _serve_request(self, stream: trio.abc.Stream, connection: h11.Connection) -> bool:
        """Serves one, and says whether another may follow."""
        try:
            request = await _next_request(stream, connection)
        except h11.RemoteProtocolError as error:
            await _respond(stream, connection, text_answer(str(error), HTTPStatus(error.error_status_hint)))
            return False
        if request is None:
            return False
        await _respond(stream, connection, self._answer(request), is_head=request.method == b"HEAD")
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    def _answer(self, request: h11.Request) -> Answer:
        if request.method not in _METHODS:
            return Answer(
                body=b"only GET is answered here\n",
                status=HTTPStatus.METHOD_NOT_ALLOWED,
                headers=(("allow", "GET, HEAD"),),
            )
        path, _, query = request.target.decode("latin-1").partition("?")
        page = self._pages.get(path)
        if page is None:
            # Those with a dot are files of the status page.
            *others, last = (known for known in self._pages if "." not in known)
            return text_answer(f"try {', '.join(others)} or {last}", HTTPStatus.NOT_FOUND)
        return page(Request(path, query, dict(request.headers).get(b"accept", b"").decode("latin-1")))


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
    stream: trio.abc.Stream, connection: h11.Connection, answer: Answer, *, is_head: bool = False
) -> None:
    headers = [("content-type", answer.content_type), ("cache-control", "no-store"), *answer.headers]
    if isinstance(answer.body, bytes):
        # Otherwise the answer is chunked, or ends with the connection where the client is of HTTP/1.0.
        headers.append(("content-length", str(len(answer.body))))

    async def send(*events: h11.Event) -> None:
        await stream.send_all(b"".join(connection.send(event) or b"" for event in events))

    response = h11.Response(status_code=answer.status.value, headers=headers, reason=answer.status.phrase.encode())
    if isinstance(answer.body, bytes):
        await send(response, h11.Data(data=b"" if is_head else answer.body), h11.EndOfMessage())
        return
    await send(response)
    if not is_head:
        # Each piece that is sent lets others have a turn.
        for piece in answer.body:
            await send(h11.Data(data=piece))
    await send(h11.EndOfMessage())
