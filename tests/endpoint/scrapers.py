"""A scraper that asks and reads nothing, in the way of a real socket."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

# Of an endpoint that still reads, so many requests never come back.
MOST_REQUESTS = 20_000


@contextmanager
def clogged(address: tuple[str, int], path: str) -> Iterator[None]:
    """Holds a connection on which the endpoint has sent as much as fits, and waits for somebody to read."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Padding: {'x' * 8000}\r\n\r\n".encode()
    with socket.socket() as connection:
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            connection.setsockopt(socket.SOL_SOCKET, buffer, 4096)
        connection.settimeout(2)
        connection.connect(address)
        for _ in range(MOST_REQUESTS):
            try:
                connection.sendall(request)
            except TimeoutError:
                break
        else:
            raise AssertionError("the endpoint reads on, though nobody reads its answers")
        yield
