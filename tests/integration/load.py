"""What tests put upon a stream: writers side by side, a server that stands still, a gate in the way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import pymysql

from testbed.servers import Server

if TYPE_CHECKING:
    from pymysql.cursors import Cursor

# One turn of one writer: its cursor, its number, the number of the turn.
Turn = Callable[["Cursor", int, int], Any]
_RETRY_SECONDS = 0.1
_WINDOW_BYTES = 256 * 1024


@contextmanager
def writing(
    source: Server, turn: Turn, *, writers: int, survives_restarts: bool = False
) -> Iterator[Callable[[], int]]:
    """Each writer takes one turn after the other for the duration; gives a way to ask how many have ended well."""
    stop = threading.Event()
    failures: list[BaseException] = []
    turns = [0] * writers

    def write(number: int) -> None:
        with source.connection() as connection, connection.cursor() as cursor:
            while not stop.is_set():
                turn(cursor, number, turns[number])
                turns[number] += 1

    def write_on(number: int) -> None:
        while not stop.is_set():
            try:
                write(number)
            except (OSError, pymysql.err.OperationalError, pymysql.err.InterfaceError) as error:
                if not survives_restarts:
                    failures.append(error)
                    return
                stop.wait(_RETRY_SECONDS)
            except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
                failures.append(error)
                return

    threads = [threading.Thread(target=write_on, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(turns)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    if failures:
        raise failures[0]


def at_least(ask: Callable[[], int], wanted: int) -> Callable[[], bool]:
    """A condition to wait for."""
    return lambda: ask() >= wanted


@contextmanager
def standing_still(server: Server) -> Iterator[None]:
    """The server's process is stopped for the duration; whoever kills it within need not let it go on."""
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if server.running:
            os.kill(pid, signal.SIGCONT)


class Gate:
    """Stands before a port; of each connection it passes so many bytes from there, and the rest when it is open."""

    def __init__(self, port: int, *, hold_after_bytes: int) -> None:
        self._target = ("127.0.0.1", port)
        self._hold_after_bytes = hold_after_bytes
        self._held, self._opened = threading.Event(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def open(self) -> None:
        self._opened.set()

    def wait_until_held(self, timeout: float = 60) -> None:
        assert self._held.wait(timeout), f"{self._hold_after_bytes} bytes did not come"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, far = self._listener.accept()[0], socket.socket()
                self._sockets += [near, far]
                # The kernel would take tens of megabytes that nobody reads.
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW_BYTES)
                far.connect(self._target)
                threading.Thread(target=self._move, args=(near, far, 1 << 62), daemon=True).start()
                threading.Thread(target=self._move, args=(far, near, self._hold_after_bytes), daemon=True).start()

    def _move(self, origin: socket.socket, sink: socket.socket, left: int) -> None:
        with contextlib.suppress(OSError):
            while piece := origin.recv(65536):
                left -= len(piece)
                if left < 0:
                    self._held.set()
                    self._opened.wait()
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.set()
        for sock in self._sockets:
            # Closing alone would not wake whoever waits on it.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
