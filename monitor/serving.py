"""The monitor's endpoint: its socket, its certificate, and who was refused at it."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping

from endpoint.answers import Page
from endpoint.listening import open_tcp_sockets
from endpoint.serving import Endpoint
from endpoint.tls import ServerTls, TlsFileError, TlsFiles
from endpoint.watch import watch_files
from monitor.reporting.logs import log_defect, log_event
from monitor.reporting.masking import Masking
from monitor.reporting.metrics import Metrics
from monitor.scapy import certificate_not_after
from supervision.notifier import SupervisionError
from supervision.sockets import address_text, require_address

# What the service manager calls its socket.
SOCKET_NAME = "endpoint"


class MonitorEndpoint:
    """Serves the monitor's pages, with mutual TLS or without.

    Attributes:
        refusals: TLS handshakes that failed.
    """

    def __init__(
        self,
        pages: Mapping[str, Page],
        *,
        listen: tuple[str, int],
        tls: TlsFiles | None,
        masking: Masking,
        metrics: Metrics,
        handed_over: Mapping[str, socket.socket],
    ) -> None:
        """Nothing is opened yet.

        Args:
            pages: what it serves.
            listen: host and port.
            tls: the files; None for plaintext.
            masking: of the addresses of those who are refused.
            metrics: is told when the certificate ends.
            handed_over: the listening socket of the service manager, named `endpoint`.
        """
        self.refusals = 0
        self._endpoint = Endpoint(pages, on_defect=_log_defect, on_refusal=self._note_refusal)
        self._listen = listen
        self._tls = tls
        self._masking = masking
        self._metrics = metrics
        self._handed_over = dict(handed_over)
        self._listening: list[socket.socket] = []

    @property
    def listens_at(self) -> list[str]:
        """Addresses and ports, once it is open."""
        return [address_text(sock) for sock in self._listening]

    def open(self) -> None:
        """Reads its files and listens; what it needs a privilege for.

        Raises:
            TlsFileError: a file cannot be used.
            OSError: the address is taken, or not ours.
            SupervisionError: what the service manager hands over is not the endpoint's.
        """
        self._load_tls()
        self._listening = self._taken_over() or open_tcp_sockets(*self._listen)

    async def run(self) -> None:
        """Serves whoever connects, until it is cancelled."""
        await self._endpoint.run(self._listening)

    async def watch_files(self) -> None:
        """Reads its files again when they change."""
        if self._tls is not None:
            await watch_files(self._tls.paths, self.reload)

    def reload(self) -> None:
        """Reads its files again; the former ones stay in force where these cannot be used."""
        if self._tls is None:
            return
        try:
            self._load_tls()
        except TlsFileError as error:
            log_event(logging.ERROR, "tls_reload_failed", detail=str(error), kept="the certificate that is shown")
        else:
            log_event(logging.INFO, "tls_reloaded")

    def _load_tls(self) -> None:
        """Reads the files, with the rights of this moment, and puts them into force."""
        files = self._tls
        if files is None:
            return
        loaded = ServerTls(files)
        not_after = certificate_not_after(loaded.certificate_der)
        if not_after is not None and not_after.timestamp() <= time.time():
            raise TlsFileError(f"{files.certificate}: certificate: expired at {not_after.isoformat()}; issue a new one")
        self._endpoint.tls = loaded
        self._metrics.note_endpoint_certificate(not_after)

    def _taken_over(self) -> list[socket.socket]:
        for name, sock in self._handed_over.items():
            if name != SOCKET_NAME:
                wanted = f"FileDescriptorName= must be {SOCKET_NAME}"
                raise SupervisionError(f"the service manager hands over a socket named {name!r}: {wanted}")
            require_address(sock, name, *self._listen)
        return list(self._handed_over.values())

    def _note_refusal(self, peer: str, why: str, may_log: bool) -> None:
        self.refusals += 1
        if may_log:
            shown = peer and self._masking.endpoint(peer)
            log_event(logging.WARNING, "endpoint_refused", peer=shown, detail=why)


def _log_defect(error: Exception) -> None:
    log_defect(error, endpoint="http")
