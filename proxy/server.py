"""The server: listeners, sessions, signals, and an orderly end."""

from __future__ import annotations

import errno
import logging
import signal
import socket
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import trio

from proxy.addresses import TcpAddress
from proxy.admin import AdminEndpoint, open_admin_listeners
from proxy.bridging import PasswordKey
from proxy.logs import log_event
from proxy.metrics import Metrics
from proxy.session import Runtime, serve_replica
from proxy.sessions import SessionRegistry
from proxy.site import Route, Site

# A burst of replicas that reconnect together must not meet a full queue; the kernel caps it at net.core.somaxconn.
_BACKLOG = 4096
# Out of file descriptors: give sessions time to end instead of spinning.
_ACCEPT_PAUSE_SECONDS = 0.1
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class ListenError(Exception):
    """An address cannot be listened on. The text says which, and why."""


@dataclass(slots=True)
class Server:
    """Serves one site until it is told to stop."""

    site: Site
    registry: SessionRegistry = field(default_factory=SessionRegistry)
    is_draining: bool = False
    _is_listening: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether replicas are being accepted."""
        return self._is_listening and not self.is_draining

    async def run(self) -> None:
        """Listens, serves, and returns after SIGTERM or SIGINT and the drain.

        Raises:
            ListenError: an address is taken, or not ours.
        """
        metrics = Metrics(_version())
        metrics.describe_site(self.site)
        limits = self.site.config.limits
        runtime = Runtime(limits, metrics, self.registry, PasswordKey())
        listeners = [(route, _listen(route)) for route in self.site.routes]
        admin = AdminEndpoint(metrics, self.registry, self)
        admin_listeners = await open_admin_listeners(self.site.config.admin.listen)
        async with trio.open_nursery() as everything:
            everything.start_soon(trio.serve_listeners, admin.serve, admin_listeners)
            async with trio.open_nursery() as sessions:
                with trio.CancelScope() as accepting:
                    async with trio.open_nursery() as acceptors:
                        for route, listener in listeners:
                            acceptors.start_soon(_accept, listener, route, runtime, sessions)
                        acceptors.start_soon(_wait_for_signal, accepting)
                        self._is_listening = True
                        log_event(logging.INFO, "listening", **_addresses(listeners))
                self.is_draining = True
                for _, listener in listeners:
                    listener.close()
                log_event(logging.INFO, "draining", sessions=len(self.registry), seconds=limits.drain_seconds)
                sessions.cancel_scope.deadline = trio.current_time() + limits.drain_seconds
                for record in self.registry:
                    if record.end is not None:
                        record.end()
            log_event(logging.INFO, "stopped", sessions_cut=len(self.registry))
            everything.cancel_scope.cancel()


def _listen(route: Route) -> socket.socket:
    family = socket.AF_INET6 if ":" in route.listen.host else socket.AF_INET
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
        raise ListenError(f"route {route.name!r}: cannot listen on {route.listen}: {error}") from error
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


async def _accept(listener: socket.socket, route: Route, runtime: Runtime, sessions: trio.Nursery) -> None:
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            continue
        except OSError as error:
            # The others (accept(2), "Error handling") are about the one connection that was to be accepted.
            if error.errno in _OUT_OF_RESOURCES:
                log_event(logging.ERROR, "accept_failed", route=route.name, detail=str(error))
                await trio.sleep(_ACCEPT_PAUSE_SECONDS)
            continue
        sessions.start_soon(serve_replica, sock, route, runtime)


async def _wait_for_signal(accepting: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log_event(logging.INFO, "signal", name=signal.Signals(number).name)
            accepting.cancel()
            return


def _addresses(listeners: list[tuple[Route, socket.socket]]) -> dict[str, str]:
    return {f"route_{route.name}": str(TcpAddress(*listener.getsockname()[:2])) for route, listener in listeners}


def _version() -> str:
    try:
        return version("binlock")
    except PackageNotFoundError:
        return "unknown"
