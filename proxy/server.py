"""The server: listeners, sessions, signals, reloads, and an orderly end."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import trio

from endpoint.page import status_pages
from endpoint.serving import Endpoint
from endpoint.watch import signature_of
from proxy.configuration.config import ConfigError
from proxy.listeners import Listeners
from proxy.outcomes import Ending, ListenError, Reason
from proxy.protocol.bridging import PasswordKey
from proxy.reporting.admin import admin_pages, open_admin_sockets
from proxy.reporting.logs import log_defect, log_event, set_up_logging
from proxy.reporting.metrics import Metrics
from proxy.reporting.status import Standing, proxy_status
from proxy.reporting.status_page import proxy_page
from proxy.session import Runtime, serve_replica
from proxy.sessions import SessionRecord, SessionRegistry
from proxy.site import Route, Site, load_site
from proxy.standing import fallen, worn_out
from supervision.liveness import Pulse, keep_telling
from supervision.notifier import Notifier
from supervision.sockets import address_text

# What the service manager calls the socket of the endpoint; the others have the names of routes.
ADMIN_SOCKET = "admin"
# How often sessions are looked at; a session must be gone within a second of the cause.
_SUPERVISION_SECONDS = 0.25
# How often files are looked at, and for how long they must have been left alone before they are read: half-written
# files and a certificate without its new key settle in that time.
_WATCH_SECONDS = 0.5
# After the drain, until the process has ended.
_END_SECONDS = 5


class Server:
    """Serves the site that a configuration file comes to, until it is told to stop.

    Attributes:
        registry: the sessions that are open.
        is_draining: whether it has been told to stop.
    """

    def __init__(
        self,
        path: Path,
        site: Site,
        *,
        notifier: Notifier | None = None,
        handed_over: Mapping[str, socket.socket] | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            path: of the configuration.
            site: what it comes to.
            notifier: the way to the service manager, if there is one.
            handed_over: the listening sockets of the service manager, by the names of their routes; `admin` is the
                endpoint's.
        """
        self._path = path
        self._site = site
        self.registry = SessionRegistry()
        self.is_draining = False
        self._reload_error = ""
        self._started = self._in_force_since = datetime.now(UTC)
        self._metrics = Metrics(_version())
        self._runtime = Runtime(site.config.limits, self._metrics, self.registry, PasswordKey())
        self._notifier = notifier or Notifier()
        self._pulse = Pulse()
        self._handed_over = dict(handed_over or {})
        self._admin_socket = self._handed_over.pop(ADMIN_SOCKET, None)
        self._listeners = Listeners(self._current_route, self._handed_over)
        self._seen = signature_of(site.files)
        self._reloading = trio.Lock()
        self._admin = Endpoint(
            admin_pages(self._metrics, self.registry, self) | status_pages(self.status, proxy_page),
            on_defect=_log_endpoint_defect,
            on_refusal=self._note_admin_refusal,
        )
        self._admin.tls = None if site.admin is None else site.admin.server

    @property
    def is_ready(self) -> bool:
        """Whether replicas are being accepted."""
        return self._listeners.is_open and not self.is_draining

    @property
    def reload_error(self) -> str:
        """Why the configuration on disk is not the one that runs; empty if it is."""
        return self._reload_error

    def status(self) -> dict[str, Any]:
        """The facts of the status page."""
        standing = Standing(
            version=_version(),
            started=self._started,
            state="serving" if self.is_ready else "draining" if self.is_draining else "starting",
            in_force_since=self._in_force_since,
            reload_error=self._reload_error,
        )
        return proxy_status(standing, self._site, self.registry, self._runtime.refusals)

    async def run(self) -> None:
        """Listens, serves, and returns after SIGTERM or SIGINT and the drain.

        Raises:
            ListenError: an address is taken, or not ours, or what the service manager hands over is nobody's.
        """
        self._comes_into_force(self._site)
        self._refuse_strangers()
        prepared = self._listeners.prepare(self._site.routes)
        admin_sockets = open_admin_sockets(self._site.config.admin.listen, self._admin_socket)
        async with trio.open_nursery() as everything:
            everything.start_soon(self._admin.run, admin_sockets)
            everything.start_soon(self._supervise)
            everything.start_soon(keep_telling, self._notifier, self._pulse, self._status, _log_silence)
            async with trio.open_nursery() as sessions:
                async with trio.open_nursery() as acceptors:
                    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                        self._listeners.serve(prepared, acceptors, sessions, self._serve_one)
                        admin = [*map(address_text, admin_sockets)]
                        said = {**self._listeners.addresses(), **self._given()}
                        log_event(logging.INFO, "listening", admin=admin, **said)
                        self._notifier.ready(self._status())
                        acceptors.start_soon(self._watch_files)
                        async for number in signals:
                            log_event(logging.INFO, "signal", name=signal.Signals(number).name)
                            if number != signal.SIGHUP:
                                break
                            await self.reload()
                    acceptors.cancel_scope.cancel()
                self._drain(sessions)
            log_event(logging.INFO, "stopped", sessions_cut=self.registry.cut)
            everything.cancel_scope.cancel()

    async def reload(self) -> None:
        """Reads the configuration and all it names, and puts it into force: all of it, or nothing."""
        # One after the other: what was read first must not come into force last.
        async with self._reloading:
            # Looked at before it is read, so that what changes meanwhile is read again. So is all of it, once, if the
            # new site has other files.
            self._seen = await trio.to_thread.run_sync(signature_of, self._site.files)
            self._notifier.reloading()
            await self._reload()
            self._notifier.ready(self._status())

    async def _reload(self) -> None:
        try:
            site = await trio.to_thread.run_sync(load_site, self._path)
            prepared = self._listeners.prepare(site.routes)
        except (ConfigError, ListenError) as error:
            self._keeps_running(str(error))
            return
        except Exception as error:  # noqa: BLE001 - no file that somebody puts there may end the sessions
            log_defect(error)
            self._keeps_running(repr(error))
            return
        if _restart_marks(site) != _restart_marks(self._site):
            log_event(logging.WARNING, "restart_needed", detail="admin: a change takes effect at the next start")
        if site.admin is not None and self._admin.tls is not None:
            # Never from TLS to none or back: the address that is listened on was judged together with it.
            self._admin.tls = site.admin.server
        self._site = site
        self._listeners.commit(prepared)
        for name in self._listeners.idle():
            log_event(
                logging.WARNING, "socket_without_route", name=name, detail="stop its socket unit, or name a route so"
            )
        self._comes_into_force(site)
        ended = self._look_after_sessions()
        log_event(logging.INFO, "reloaded", routes=len(site.routes), sessions=len(self.registry), sessions_ended=ended)

    def _keeps_running(self, why: str) -> None:
        self._reload_error = why
        self._metrics.note_reload(is_success=False)
        log_event(logging.ERROR, "reload_failed", detail=why, kept="the configuration that runs")

    def _comes_into_force(self, site: Site) -> None:
        self._reload_error = ""
        set_up_logging(site.config.log.level, site.config.log.format)
        self._runtime.limits = site.config.limits
        self._metrics.describe_site(site)
        self._metrics.note_reload(is_success=True)
        self._in_force_since = datetime.now(UTC)

    def _note_admin_refusal(self, peer: str, why: str, may_log: bool) -> None:
        self._metrics.admin_tls_refusals.inc()
        if may_log:
            log_event(logging.WARNING, "admin_refused", peer=peer, detail=why)

    def _current_route(self, name: str) -> Route | None:
        return self._site.route(name)

    async def _serve_one(self, sock: socket.socket, route: Route) -> None:
        if self.is_draining:
            # Accepted in the turn in which the drain began, which has not seen it.
            sock.close()
            return
        await serve_replica(sock, route, self._runtime)

    async def _supervise(self) -> None:
        while True:
            await trio.sleep(_SUPERVISION_SECONDS)
            self._look_after_sessions()
            self._pulse.beat("sessions")

    def _look_after_sessions(self) -> int:
        """Ends the sessions that no longer stand; one that logged in across a reload is judged under both routes."""
        ended = 0
        now = datetime.now(UTC)
        for record in self.registry:
            if not record.is_authenticated:
                continue
            ending = self._judged(record, now)
            if ending is not None:
                record.end(ending)
                ended += 1
            self._metrics.replicas.note_stream(record)
        return ended

    def _judged(self, record: SessionRecord, now: datetime) -> Ending | None:
        route = self._site.route(record.route)
        try:
            ending = worn_out(record, self._runtime.limits, now)
            if ending is None and route is not record.judged_under:
                ending = fallen(record, route)
                record.judged_under = route
        except Exception as error:  # noqa: BLE001 - a defect here ends the session that cannot be judged, and no other
            log_defect(error, **record.fields())
            # It is ended, which may take longer than until the next look.
            record.judged_under = route
            return Ending(Reason.UNTRUSTED, "the session cannot be judged again; see Binlock's log")
        return ending

    async def _watch_files(self) -> None:
        candidate = self._seen
        while True:
            await trio.sleep(_WATCH_SECONDS)
            now = await trio.to_thread.run_sync(signature_of, self._site.files)
            if now == candidate and now != self._seen:
                log_event(logging.INFO, "files_changed")
                await self.reload()
            candidate = now

    def _refuse_strangers(self) -> None:
        """Refuses sockets that were handed over under a name that nobody here has."""
        routes = [route.name for route in self._site.routes]
        if self._admin_socket is not None and ADMIN_SOCKET in routes:
            raise ListenError(f"socket {ADMIN_SOCKET!r} is the endpoint's; rename the route {ADMIN_SOCKET!r}")
        for name in self._handed_over:
            if name not in routes:
                raise ListenError(
                    f"the service manager hands over a socket named {name!r}, and there is no such route: "
                    f"FileDescriptorName= must be one of {', '.join([*routes, ADMIN_SOCKET])}"
                )

    def _given(self) -> dict[str, list[str]]:
        names = [*self._handed_over, *([ADMIN_SOCKET] if self._admin_socket is not None else [])]
        return {"handed_over": names} if names else {}

    def _status(self) -> str:
        """One line for people."""
        if self.is_draining:
            return f"draining: {_counted(len(self.registry), 'session')} left"
        line = f"{_counted(len(self._site.routes), 'route')}, {_counted(len(self.registry), 'session')}"
        return f"{line}; the last reload failed: {self._reload_error}" if self._reload_error else line

    def _drain(self, sessions: trio.Nursery) -> None:
        self.is_draining = True
        self._listeners.close()
        seconds = self._runtime.limits.drain_seconds
        log_event(logging.INFO, "draining", sessions=len(self.registry), seconds=seconds)
        self._notifier.stopping(self._status(), seconds + _END_SECONDS)
        sessions.cancel_scope.deadline = trio.current_time() + seconds
        for record in self.registry:
            record.end(Ending(Reason.DRAINED, "shutting down"))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _log_silence(parts: list[str]) -> None:
    log_event(logging.ERROR, "watchdog_withheld", parts=parts)


def _restart_marks(site: Site) -> tuple[str, bool]:
    """What of `[admin]` cannot change while it runs."""
    return site.config.admin.listen, site.admin is not None


def _log_endpoint_defect(error: Exception) -> None:
    log_defect(error, endpoint="admin")


def _version() -> str:
    try:
        return version("binlock")
    except PackageNotFoundError:
        return "unknown"
