"""Serves a table of paths over HTTP/1.1: any number of connections up to a limit, none of which waits for another.

With TLS, whoever has not finished the handshake has a place among others like it, and not among those who were let in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from socket import socket

import h11
import trio

from endpoint.answers import Answer, Page, Request, text_answer
from endpoint.naming import is_loopback, may_be_called
from endpoint.tls import ServerTls, TlsRefused, say_why

# A scraper asks every few seconds; whoever is slower than this holds a connection for nothing.
_REQUEST_SECONDS = 10
_RECEIVE_BYTES = 4096
_MOST_CONNECTIONS = 64
_MOST_HANDSHAKES = 64
_CLOSE_SECONDS = 1
_SECONDS_A_LINE = 1
_METHODS = frozenset({b"GET", b"HEAD"})


_MISLED = text_answer(
    "this endpoint is on loopback: ask for localhost or for its address", HTTPStatus.MISDIRECTED_REQUEST
)

# Told: whose TLS handshake failed, why, and whether to log it, which is once a second at most.
OnRefusal = Callable[[str, str, bool], None]


class Endpoint:
    """Answers what a table of paths says.

    Attributes:
        tls: None for plaintext. Another one may be put in its place; connections made under the former end then.
    """

    def __init__(
        self,
        pages: Mapping[str, Page],
        *,
        on_defect: Callable[[Exception], None],
        on_refusal: OnRefusal = lambda _peer, _why, _may_log: None,
    ) -> None:
        """Nothing is listened on yet.

        Args:
            pages: what answers each path, in the order in which whoever asks for another is told of them.
            on_defect: is told what a page raised; it costs that one answer.
            on_refusal: is told of each TLS handshake that failed.
        """
        self.tls: ServerTls | None = None
        self._pages = pages
        self._on_defect = on_defect
        self._on_refusal = on_refusal
        self._open = 0
        # In the order in which they began.
        self._handshakes: dict[trio.CancelScope, None] = {}
        self._refusal_logged_seconds = float("-inf")

    async def run(self, listening: Iterable[socket]) -> None:
        """Serves whoever connects, until it is cancelled; closes the sockets then."""
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in listening]
        await trio.serve_listeners(self.serve, listeners)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serves requests on one connection, until it is closed or slow."""
        try:
            await self._serve(stream)
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
            return
        except Exception as error:  # noqa: BLE001 - whoever asks for metrics must not be able to end what they are of
            self._on_defect(error)
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.abc.Stream) -> None:
        tls = self.tls
        if tls is None:
            await self._serve_requests(stream, lambda: True)
            return
        accepted = await self._accept(stream, tls)
        if accepted is not None:
            encrypted, not_after_seconds = accepted
            await self._serve_requests(encrypted, lambda: self.tls is tls and time.time() < not_after_seconds)

    async def _accept(
        self, stream: trio.abc.Stream, tls: ServerTls
    ) -> tuple[trio.SSLStream[trio.abc.Stream], float] | None:
        """Makes a TLS handshake. Where too many are being made, the one that has taken longest makes room."""
        if len(self._handshakes) >= _MOST_HANDSHAKES:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
        with trio.move_on_after(_REQUEST_SECONDS) as scope:
            self._handshakes[scope] = None
            try:
                return await tls.accept(stream)
            except TlsRefused as refused:
                self._note_refusal(stream, str(refused))
                await say_why(stream, refused)
            finally:
                self._handshakes.pop(scope, None)
        return None

    def _note_refusal(self, stream: trio.abc.Stream, why: str) -> None:
        now_seconds = time.monotonic()
        may_log = now_seconds - self._refusal_logged_seconds >= _SECONDS_A_LINE
        if may_log:
            self._refusal_logged_seconds = now_seconds
        self._on_refusal(_peer_of(stream), why, may_log)

    async def _serve_requests(self, stream: trio.abc.Stream, still_stands: Callable[[], bool]) -> None:
        connection = h11.Connection(h11.SERVER)
        self._open += 1
        try:
            while self._open <= _MOST_CONNECTIONS:
                with trio.fail_after(_REQUEST_SECONDS):
                    if not await self._serve_request(stream, connection, still_stands):
                        break
                connection.start_next_cycle()
            # TLS says goodbye, and whoever reads nothing must not be waited for.
            with trio.move_on_after(_CLOSE_SECONDS):
                await stream.aclose()
        finally:
            self._open -= 1

    async def _serve_request(
        self, stream: trio.abc.Stream, connection: h11.Connection, still_stands: Callable[[], bool]
    ) -> bool:
        """Serves one, and says whether another may follow."""
        try:
            request = await _next_request(stream, connection)
        except h11.RemoteProtocolError as error:
            await _respond(stream, connection, text_answer(str(error), HTTPStatus(error.error_status_hint)))
            return False
        if request is None or not still_stands():
            return False
        host = dict(request.headers).get(b"host", b"").decode("latin-1")
        is_misled = _is_on_loopback(stream) and not may_be_called(host)
        answer = _MISLED if is_misled else self._answer(request)
        await _respond(stream, connection, answer, is_head=request.method == b"HEAD")
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


def _is_on_loopback(stream: trio.abc.Stream) -> bool:
    """Whether a plaintext connection was made to a loopback address."""
    try:
        return isinstance(stream, trio.SocketStream) and is_loopback(stream.socket.getsockname())
    except OSError:
        return False


def _peer_of(stream: trio.abc.Stream) -> str:
    """The address and port of the other end, an IPv6 address in brackets; empty if it has none, or is gone."""
    try:
        name = stream.socket.getpeername() if isinstance(stream, trio.SocketStream) else None
    except OSError:
        return ""
    if not isinstance(name, tuple):
        return ""
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


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
