"""Stands between Binlock and a source, in plaintext, and keeps what passes: what a client sends, to the byte."""

from __future__ import annotations

import contextlib
import socket
import threading

from wire.commands import ParsedCommand, parse_command
from wire.framing import PacketDecoder
from wire.greeting import HandshakeV10
from wire.login import HandshakeResponse41

_LIMIT_BYTES = 1 << 26
_END_SECONDS = 20


class Recorder:
    """Accepts, connects to `port` on loopback, moves the bytes and keeps them."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[_Connection] = []
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def commands(self) -> list[ParsedCommand]:
        """The commands of all connections so far, which have ended, in order of connection; forgets them."""
        connections, self._connections = self._connections, []
        return [command for connection in connections for command in connection.commands()]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._connections.append(_Connection(near, socket.create_connection(self._target)))

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would not wake the thread that waits on it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for connection in self._connections:
            connection.close()


class _Connection:
    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._ends = (near, far)
        self._sent, self._answered = bytearray(), bytearray()
        self._threads = [
            threading.Thread(target=_move, args=ends, daemon=True)
            for ends in ((near, far, self._sent), (far, near, self._answered))
        ]
        for thread in self._threads:
            thread.start()

    def commands(self) -> list[ParsedCommand]:
        # Once the client's half has ended: a source that is sending a binlog does not look whether it has.
        self._threads[0].join(_END_SECONDS)
        assert not self._threads[0].is_alive(), "the connection is still open"
        self.close()
        greeting, sent = PacketDecoder(_LIMIT_BYTES), PacketDecoder(_LIMIT_BYTES)
        greeting.feed(self._answered)
        sent.feed(self._sent)
        first, login = greeting.next_packet(), sent.next_packet()
        assert first is not None
        assert login is not None
        agreed = HandshakeV10.parse(first.payload).capabilities
        agreed &= HandshakeResponse41.parse(login.payload).capabilities
        commands = []
        while (packet := sent.next_packet()) is not None:
            if packet.sequence_id == 0:  # the rest belongs to the login
                commands.append(parse_command(packet.payload, agreed))
        return commands

    def close(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()


def _move(origin: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while piece := origin.recv(65536):
            kept += piece
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
