"""A TCP port on the machine's own loopback that leads to a unix socket.

The proxies' admin endpoints are on hosts of the demonstration, which a browser cannot reach; a unix socket is
reached from everywhere.
"""

import contextlib
import select
import socket
import socketserver
import threading
from pathlib import Path
from typing import Self

# binlock-proxy's own, and those after it when that is taken.
PORTS = range(9307, 9327)
CHUNK_BYTES = 65536


class Forwarder:
    """A context manager: listens on entry, stops on exit.

    Attributes:
        address: "127.0.0.1:port", once it listens.
    """

    def __init__(self, path: Path) -> None:
        self.address = ""
        self._path = path
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self._server = _Server(self._path)
        self.address = "{}:{}".format(*self._server.server_address)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="demo forwarder", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        """Take the first port that is free."""
        for port in (*PORTS, 0):
            self.server_address = ("127.0.0.1", port)
            with contextlib.suppress(OSError):
                super().server_bind()
                return
        raise OSError("no TCP port is free on 127.0.0.1")


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Pass bytes in both directions until either side ends."""
        client: socket.socket = self.request
        path: Path = self.server.path  # type: ignore[attr-defined]
        # A browser or the proxy that goes away is nobody's error.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(path))
            while True:
                readable, _, _ = select.select([client, admin], [], [])
                for side in readable:
                    received = side.recv(CHUNK_BYTES)
                    if not received:
                        return
                    (admin if side is client else client).sendall(received)
