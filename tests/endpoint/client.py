"""A client of HTTP/1.1 that sends exactly what a test says, and an endpoint for it to ask."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import h11
import trio

from endpoint.answers import Page
from endpoint.serving import Endpoint

GIVE_UP_SECONDS = 60


@dataclass
class Client:
    """Each request is made on a connection of its own, to where a socket of Python's says that it listens."""

    address: Any

    async def dial(self) -> trio.SocketStream:
        if isinstance(self.address, str):
            return await trio.open_unix_socket(self.address)
        return await trio.open_tcp_stream(*self.address[:2])

    async def exchange(self, sent: bytes) -> bytes:
        """Sends bytes, half-closes, and returns all that comes back."""
        async with await self.dial() as stream:
            await stream.send_all(sent)
            try:
                await stream.send_eof()
                return b"".join([piece async for piece in stream])
            except trio.BrokenResourceError:
                # Closed with what was sent still unread: a reset.
                return b""

    async def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body, as a client of HTTP/1.1 understands them."""
        lines = "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: x", *headers))
        answer = await self.exchange(f"{lines}\r\n".encode("latin-1"))
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target=path, headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(answer)
        response = client.next_event()
        assert isinstance(response, h11.Response)
        body = b""
        while isinstance(event := client.next_event(), h11.Data):
            body += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage)
        return response.status_code, {name.decode(): value.decode() for name, value in response.headers}, body


def no_defect(error: Exception) -> None:
    """For tests in which no page may raise."""
    raise error


@asynccontextmanager
async def serving(pages: Mapping[str, Page], defects: list[Exception] | None = None) -> AsyncIterator[Client]:
    """An endpoint on loopback."""
    endpoint = Endpoint(pages, on_defect=no_defect if defects is None else defects.append)
    with trio.fail_after(GIVE_UP_SECONDS):
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, endpoint.serve, [listener])
            yield Client(listener.socket.getsockname())
            nursery.cancel_scope.cancel()
