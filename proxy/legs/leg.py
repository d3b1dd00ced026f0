"""A leg: one of the two connections of a session, plaintext or TLS, over a non-blocking socket.

The relay calls `try_receive` and `try_send` and waits only when they say so, because a stream abstraction that
checkpoints at every call costs as much as the encryption. The connection phase uses `receive_exactly` and `send_all`.
A leg never reads further than it was asked: what follows an SSLRequest stays in the kernel until the TLS engine
takes it, so plaintext injected behind it can only ever fail there.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

import trio

from proxy.openssl import TlsEngine, TlsFailed, Want
from proxy.outcomes import LegClosed

# Dead peers are noticed after about 60 + 6 * 10 s of silence, near to a replica's own replica_net_timeout.
_KEEPALIVE_IDLE_SECONDS = 60
_KEEPALIVE_INTERVAL_SECONDS = 10
_KEEPALIVE_PROBES = 6
_USER_TIMEOUT_MILLISECONDS = 120_000
_SHARED_WAIT_SECONDS = 0.001


class Leg:
    """A plaintext connection.

    Attributes:
        name: `replica` or `source`, for messages.
        is_encrypted: whether it is TLS.
        is_secure_transport: whether MySQL calls this transport secure: TLS or a unix socket.
    """

    __slots__ = ("_sock", "is_encrypted", "is_secure_transport", "name")

    def __init__(self, sock: socket.socket, name: str) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            _tune(sock)
        self._sock = sock
        self.name = name
        self.is_encrypted = False
        self.is_secure_transport = sock.family == socket.AF_UNIX

    def try_receive(self, view: memoryview) -> int:
        """Reads what has arrived.

        Returns:
            The number of bytes, 0 at the end of the stream, or a `Want`.

        Raises:
            LegClosed: the connection broke.
        """
        try:
            return self._sock.recv_into(view)
        except BlockingIOError:
            return Want.READ
        except OSError as error:
            raise LegClosed(self.name, str(error)) from error

    def try_send(self, view: memoryview) -> int:
        """Sends what fits.

        Returns:
            The number of bytes, at least one, or a `Want`.

        Raises:
            LegClosed: the connection broke.
        """
        try:
            return self._sock.send(view)
        except BlockingIOError:
            return Want.WRITE
        except OSError as error:
            raise LegClosed(self.name, str(error)) from error

    async def wait(self, want: int) -> None:
        """Waits until the operation that returned `want` is worth trying again."""
        if want == Want.WRITE:
            try:
                await trio.lowlevel.wait_writable(self._sock)
            except trio.BusyResourceError:
                # The other direction waits for the same thing: a reader must answer a KeyUpdate while a writer's
                # records fill the socket. It is drained by then, or soon after.
                await trio.sleep(_SHARED_WAIT_SECONDS)
        else:
            await trio.lowlevel.wait_readable(self._sock)

    async def receive_exactly(self, count: int) -> bytes:
        """Reads `count` bytes and not one more.

        Raises:
            LegClosed: the stream ended or broke before.
        """
        buffer = bytearray(count)
        view = memoryview(buffer)
        filled = 0
        while filled < count:
            received = self.try_receive(view[filled:])
            if received < 0:
                await self.wait(received)
            elif received == 0:
                raise LegClosed(self.name, "closed the connection")
            else:
                filled += received
        return bytes(buffer)

    async def send_all(self, data: bytes | memoryview) -> None:
        """Sends everything.

        Raises:
            LegClosed: the connection broke.
        """
        view = memoryview(data)
        while view:
            sent = self.try_send(view)
            if sent < 0:
                await self.wait(sent)
            else:
                view = view[sent:]

    @property
    def key_records(self) -> int:
        """How many records the busier of this leg's two TLS keys has protected; 0 in plaintext."""
        return 0

    def end_sending(self) -> None:
        """Half-closes: the peer sees the end of the stream and may still send."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        """Closes the connection; a second call does nothing."""
        if self._sock.fileno() != -1:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    def detach(self) -> socket.socket:
        """Gives the socket away, for the TLS that begins on it. This leg is of no use afterwards."""
        sock = self._sock
        self._sock = socket.socket(sock.family, sock.type)
        self._sock.close()
        return sock

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class TlsLeg(Leg):
    """A connection whose TLS handshake is complete."""

    __slots__ = ("_engine",)

    def __init__(self, sock: socket.socket, name: str, engine: TlsEngine) -> None:
        super().__init__(sock, name)
        self._engine = engine
        self.is_encrypted = True
        self.is_secure_transport = True

    def try_receive(self, view: memoryview) -> int:
        """As `Leg.try_receive`; the end of the stream needs the peer's close_notify."""
        try:
            return self._engine.read_into(view)
        except TlsFailed as error:
            raise LegClosed(self.name, str(error)) from error

    def try_send(self, view: memoryview) -> int:
        """As `Leg.try_send`; after `Want.WRITE` the same bytes must come again."""
        try:
            return self._engine.write(view)
        except TlsFailed as error:
            raise LegClosed(self.name, str(error)) from error

    @property
    def key_records(self) -> int:
        """How many records the busier of this leg's two TLS keys has protected."""
        return max(self._engine.records_read, self._engine.records_written)

    def end_sending(self) -> None:
        """Sends close_notify and half-closes."""
        self._engine.say_goodbye()
        super().end_sending()

    def close(self) -> None:
        """Sends close_notify if it fits and closes."""
        if self._sock.fileno() != -1:
            self._engine.say_goodbye()
        super().close()


def _tune(sock: socket.socket) -> None:
    # A semi-synchronous commit waits for a packet of some 30 bytes: Nagle's algorithm must not hold it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MILLISECONDS)
