"""The routes' listening sockets: opened before a configuration comes into force, kept across reloads that keep them."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

import trio

from proxy.configuration.addresses import TcpAddress
from proxy.outcomes import ListenError
from proxy.reporting.logs import log_event
from proxy.site import Route
from supervision.notifier import SupervisionError
from supervision.sockets import require_address

# A burst of replicas that reconnect together must not meet a full queue; the kernel caps it at net.core.somaxconn.
_BACKLOG = 4096
# Out of file descriptors: give sessions time to end instead of spinning.
_ACCEPT_PAUSE_SECONDS = 0.1
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

ServeOne = Callable[[socket.socket, Route], Awaitable[None]]


@dataclass(slots=True)
class _Listener:
    address: TcpAddress
    sock: socket.socket
    route: str
    scope: trio.CancelScope


class Listeners:
    """One listening socket for each route, by address."""

    def __init__(
        self, current_route: Callable[[str], Route | None], handed_over: Mapping[str, socket.socket] | None = None
    ) -> None:
        """Nothing is opened yet.

        Args:
            current_route: a route by its name, as the configuration in force has it.
            handed_over: listening sockets of the service manager, by the names of routes.
        """
        self._current_route = current_route
        self._handed_over = dict(handed_over or {})
        self._open: dict[TcpAddress, _Listener] = {}
        self._serving: tuple[trio.Nursery, trio.Nursery, ServeOne] | None = None

    @property
    def is_open(self) -> bool:
        """Whether anything is listened on."""
        return bool(self._open)

    def addresses(self) -> dict[str, str]:
        """Where each route listens in fact, for the log."""
        return {f"route_{one.route}": str(TcpAddress(*one.sock.getsockname()[:2])) for one in self._open.values()}

    def idle(self) -> list[str]:
        """The sockets of the service manager that no route uses: who connects there waits for nothing."""
        used = {one.sock for one in self._open.values()}
        return [name for name, sock in self._handed_over.items() if sock not in used]

    def prepare(self, routes: Iterable[Route]) -> dict[TcpAddress, _Listener]:
        """Opens what these routes need and is not open; nothing is accepted there before `commit` or `serve`.

        Raises:
            ListenError: an address is taken, or not ours, or a socket that was handed over is not the route's; what was
                opened here is closed again.
        """
        prepared: dict[TcpAddress, _Listener] = {}
        opened: list[socket.socket] = []
        try:
            for route in routes:
                kept = self._open.get(route.listen)
                if kept is None:
                    sock = self._taken_over(route)
                    if sock is None:
                        sock = _listen(route)
                        opened.append(sock)
                    kept = _Listener(route.listen, sock, route.name, trio.CancelScope())
                prepared[route.listen] = _Listener(route.listen, kept.sock, route.name, kept.scope)
        except ListenError:
            for sock in opened:
                sock.close()
            raise
        return prepared

    def serve(
        self,
        prepared: dict[TcpAddress, _Listener],
        acceptors: trio.Nursery,
        sessions: trio.Nursery,
        serve_one: ServeOne,
    ) -> None:
        """Begins to accept: acceptors run in one nursery, sessions in the other."""
        self._serving = (acceptors, sessions, serve_one)
        self.commit(prepared)

    def commit(self, prepared: dict[TcpAddress, _Listener]) -> None:
        """Puts prepared listeners into force, and closes those that they leave out."""
        if self._serving is None:
            return
        acceptors, sessions, serve_one = self._serving
        for address in self._open.keys() - prepared.keys():
            self._end(self._open[address])
        new = prepared.keys() - self._open.keys()
        self._open = dict(prepared)
        for address in new:
            acceptors.start_soon(self._accept, prepared[address], sessions, serve_one)

    def close(self) -> None:
        """Closes every one."""
        for listener in self._open.values():
            listener.scope.cancel()
            listener.sock.close()
        for sock in self._handed_over.values():
            sock.close()
        self._open.clear()

    def _taken_over(self, route: Route) -> socket.socket | None:
        sock = self._handed_over.get(route.name)
        if sock is None or any(sock is one.sock for one in self._open.values()):
            return None
        try:
            require_address(sock, route.name, route.listen.host, route.listen.port)
        except (OSError, SupervisionError) as error:
            raise ListenError(f"route {route.name!r}: {error}") from error
        return sock

    def _end(self, listener: _Listener) -> None:
        listener.scope.cancel()
        # One that was handed over cannot be opened again, should a later configuration have its route once more.
        if listener.sock not in self._handed_over.values():
            listener.sock.close()

    async def _accept(self, mine: _Listener, sessions: trio.Nursery, serve_one: ServeOne) -> None:
        with mine.scope:
            while not _has_ended(mine):
                await trio.lowlevel.wait_readable(mine.sock)
                if _has_ended(mine):
                    # A reload closed it in the moment in which a replica came.
                    return
                try:
                    sock, _ = mine.sock.accept()
                except BlockingIOError:
                    continue
                except OSError as error:
                    # The others (accept(2), "Error handling") are about the one connection that was to be accepted.
                    if error.errno in _OUT_OF_RESOURCES:
                        log_event(logging.ERROR, "accept_failed", listen=str(mine.address), detail=str(error))
                        await trio.sleep(_ACCEPT_PAUSE_SECONDS)
                    continue
                route = self._current_route(self._open[mine.address].route)
                if route is None:
                    sock.close()
                    continue
                sessions.start_soon(serve_one, sock, route)


def _has_ended(listener: _Listener) -> bool:
    return listener.scope.cancel_called


def _listen(route: Route) -> socket.socket:
    listener = None
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            route.listen.host, route.listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ListenError(f"route {route.name!r}: cannot listen on {route.listen}: {error}") from error
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener
