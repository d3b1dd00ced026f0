"""`binlock-monitor run`: opens interfaces, gives up privileges, and watches until it is told to stop."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import trio

from endpoint.answers import Answer
from endpoint.exposition import exposition
from endpoint.tls import TlsFiles
from monitor.capture.flood import FloodGate
from monitor.frames.decoding import Intake
from monitor.interfaces import Capture, Watched, busiest
from monitor.reporting.findings import Findings
from monitor.reporting.logs import log_defect, log_event, log_packet_defect
from monitor.reporting.masking import Masking
from monitor.reporting.metrics import InterfaceReading, Metrics, Reading
from monitor.reporting.pages import monitor_pages
from monitor.reporting.report import flow_fields
from monitor.reporting.status import MOST_FLOWS, Standing, foremost_first, monitor_status
from monitor.scapy import certificate_not_after
from monitor.serving import MonitorEndpoint
from monitor.tracking.flows import FlowTable
from monitor.verdicts import Verdict
from supervision.liveness import Pulse, keep_telling
from supervision.notifier import Notifier

# Others have their turn after so many packets.
_PACKETS_A_TURN = 128
# Packets gather for so long before they are fetched: waking up for each would cost more than looking at it.
_GATHER_SECONDS = 0.005
_TICK_SECONDS = 0.25
_TICKS_A_LOOK = 4
_MOST_KERNEL_KEYS = 500
_AFTER_DEFECT_SECONDS = 1
# An interface on which nothing comes is looked after so often all the same.
_IDLE_SECONDS = 0.5
_END_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says.

    Attributes:
        ports: of servers; None for every TCP flow.
        listen: host and port of the HTTP endpoint.
        user: whose rights remain; empty to keep one's own.
        masking: of addresses, wherever they are shown.
        tls: of the endpoint; None for plaintext.
    """

    ports: frozenset[int] | None
    listen: tuple[str, int]
    user: str
    masking: Masking
    tls: TlsFiles | None = None


class Monitor:
    """Watches interfaces, and answers at the endpoint, until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        captures: Iterable[Capture],
        *,
        notifier: Notifier | None = None,
        handed_over: Mapping[str, socket.socket] | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            settings: what the command line says.
            captures: the interfaces.
            notifier: the way to the service manager, if there is one.
            handed_over: the listening socket of the service manager, named `endpoint`.
        """
        self._settings = settings
        self._standing = Standing(version=installed_version(), ports=settings.ports)
        self._notifier = notifier or Notifier()
        self._pulse = Pulse()
        self._watched = [Watched(capture) for capture in captures]
        self._metrics = Metrics(installed_version(), self._read)
        self._findings = Findings(settings.masking, self._metrics)
        self._table = FlowTable(ports=settings.ports, notify=self._findings.take, not_after_of=certificate_not_after)
        self._intake = Intake(self._table, ports=settings.ports, on_error=log_packet_defect)
        # What is found while time passes, and not while packets are taken, can be of any of them.
        self._likely_interface = self._watched[0].capture.name if len(self._watched) == 1 else ""
        self._findings.interface = self._likely_interface
        self._gate = FloodGate()
        self._endpoint = MonitorEndpoint(
            monitor_pages(self),
            listen=settings.listen,
            tls=settings.tls,
            masking=settings.masking,
            metrics=self._metrics,
            handed_over=handed_over or {},
        )
        self._filter_updates = 0
        self._triaged: tuple[int, bool] = (self._table.settled.generation, False)

    @property
    def is_ready(self) -> bool:
        """Whether any interface is being watched."""
        return any(watched.capture.is_up for watched in self._watched)

    def exposition(self, accept: str) -> Answer:
        """The metrics."""
        return exposition(self._metrics.registry, accept)

    def flows(self) -> Iterator[dict[str, Any]]:
        """What is said of each flow that is being watched."""
        return (flow_fields(flow, self._settings.masking) for flow in list(self._table.flows()))

    def status(self) -> dict[str, Any]:
        """The facts of the status page."""
        foremost = self._table.foremost(MOST_FLOWS, foremost_first)
        return monitor_status(self._standing, self._read(), foremost, self._findings.gone)

    def open(self, give_up_privileges: Callable[[str], None]) -> None:
        """Opens everything that needs a privilege, and gives up privileges.

        Not within trio, whose threads would keep theirs.

        Args:
            give_up_privileges: called with the user.

        Raises:
            CaptureError: an interface cannot be opened.
            PrivilegeError: privileges cannot be given up.
            TlsFileError: a file of the endpoint's TLS cannot be used.
            OSError: the endpoint's address is taken, or not ours.
            SupervisionError: what the service manager hands over is not the endpoint's.
        """
        self._endpoint.open()
        for watched in self._watched:
            watched.capture.open()
        if self._settings.user:
            give_up_privileges(self._settings.user)

    async def run(self) -> None:
        """Watches until SIGTERM or SIGINT."""
        # SIGHUP is what a terminal sends that goes away, too: without TLS there is nothing to reload.
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                self._log_start()
                nursery.start_soon(self._endpoint.run)
                nursery.start_soon(self._endpoint.watch_files)
                nursery.start_soon(self._tick_on)
                nursery.start_soon(keep_telling, self._notifier, self._pulse, self._status, _log_silence)
                for watched in self._watched:
                    nursery.start_soon(self._watch, watched.capture)
                self._notifier.ready(self._status())
                async for number in signals:
                    log_event(logging.INFO, "signal", name=signal.Signals(number).name)
                    if number != signal.SIGHUP:
                        break
                    self._notifier.reloading()
                    self._endpoint.reload()
                    self._notifier.ready(self._status())
                self._notifier.stopping("stopping", _END_SECONDS)
                nursery.cancel_scope.cancel()
        self._stop()

    def _status(self) -> str:
        """One line for people."""
        active = self._table.active()
        interfaces = ", ".join(
            f"{watched.capture.name}{'' if watched.capture.is_up else ' (down)'}" for watched in self._watched
        )
        plain = active[Verdict.PLAINTEXT_REPLICATION]
        return f"watching {interfaces}: {plain} of {sum(active.values())} flows replicate in the clear"

    def _log_start(self) -> None:
        ports = self._settings.ports
        log_event(
            logging.INFO,
            "started",
            version=installed_version(),
            interfaces=[watched.capture.name for watched in self._watched],
            ports="any" if ports is None else sorted(ports),
            listen=self._endpoint.listens_at,
        )

    def _stop(self) -> None:
        self._table.finish()
        self._findings.settle(time.time())
        for watched in self._watched:
            watched.capture.close()
        log_event(logging.INFO, "stopped")

    async def _watch(self, capture: Capture) -> None:
        part = f"capture on {capture.name}"
        self._pulse.beat(part)
        while True:
            with trio.move_on_after(_IDLE_SECONDS):
                await trio.lowlevel.wait_readable(capture.fileno())
            try:
                while self._drain(capture) == _PACKETS_A_TURN:
                    self._pulse.beat(part)
                    await trio.lowlevel.checkpoint()
                self._pulse.beat(part)
            except Exception as error:  # noqa: BLE001 - what one interface brings must not end the watch of the others
                log_defect(error, interface=capture.name)
                await trio.sleep(_AFTER_DEFECT_SECONDS)
            await trio.sleep(_GATHER_SECONDS)

    def _drain(self, capture: Capture) -> int:
        self._findings.interface = capture.name
        try:
            return capture.drain(self._intake.take, _PACKETS_A_TURN)
        finally:
            self._findings.interface = self._likely_interface

    async def _tick_on(self) -> None:
        ticks = 0
        self._pulse.beat("looks at flows and interfaces")
        while True:
            try:
                self._tick(time.time(), has_second_passed=ticks % _TICKS_A_LOOK == 0)
                self._pulse.beat("looks at flows and interfaces")
            except Exception as error:  # noqa: BLE001 - the watch goes on
                log_defect(error)
                await trio.sleep(_AFTER_DEFECT_SECONDS)
            ticks += 1
            await trio.sleep(_TICK_SECONDS)

    def _tick(self, now_seconds: float, *, has_second_passed: bool) -> None:
        self._table.tick(now_seconds)
        if has_second_passed:
            for watched in self._watched:
                watched.look(now_seconds)
            self._findings.settle(now_seconds)
            self._judge_flood(now_seconds)
        else:
            self._retriage()

    def _judge_flood(self, now_seconds: float) -> None:
        if self._gate.judge(self._table.openings_total, now_seconds):
            log_event(
                logging.WARNING if self._gate.is_closed else logging.INFO,
                "flood_began" if self._gate.is_closed else "flood_paused",
                detail="openings of connections are kept out; each is seen from its first data on"
                if self._gate.is_closed
                else "openings of connections are let in again",
            )

    def _retriage(self) -> None:
        """Gives the kernel a filter for what is settled now, if that has changed."""
        state = (self._table.settled.generation, self._gate.is_closed)
        if state == self._triaged:
            return
        self._triaged = state
        keys = busiest(self._table.settled, _MOST_KERNEL_KEYS)
        for watched in self._watched:
            watched.capture.retriage(keys, not self._gate.is_closed)
        self._filter_updates += 1

    def _read(self) -> Reading:
        now_seconds = time.time()
        table = self._table
        table.count()
        return Reading(
            flows=table.total,
            active=table.active(),
            bytes=table.bytes,
            evicted={reason.value: count for reason, count in table.evictions.items()},
            interfaces=[
                InterfaceReading(
                    watched.capture.name,
                    watched.capture.is_up,
                    watched.packets,
                    watched.dropped,
                    watched.is_dropping(now_seconds),
                )
                for watched in self._watched
            ],
            settled=len(table.settled),
            packets_failed=self._intake.errors + sum(watched.capture.errors for watched in self._watched),
            packets_malformed=self._intake.malformed,
            filter_updates=self._filter_updates,
            is_flooded=self._gate.is_closed,
            floods=self._gate.floods,
            lines_suppressed=self._findings.lines_suppressed,
            endpoint_refusals=self._endpoint.refusals,
        )


def _log_silence(parts: list[str]) -> None:
    log_event(logging.ERROR, "watchdog_withheld", parts=parts)


def installed_version() -> str:
    """Of the distribution."""
    try:
        return version("binlock")
    except PackageNotFoundError:
        return "unknown"
