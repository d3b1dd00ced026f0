"""The admin endpoint: what `/metrics`, `/healthz`, `/readyz` and `/sessions` answer, and where."""

from __future__ import annotations

import socket
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from endpoint.answers import Answer, Page, Request, alive, json_list_answer, text_answer
from endpoint.exposition import exposition
from endpoint.listening import open_tcp_sockets, open_unix_socket
from proxy.configuration.addresses import UnixAddress, parse_address
from proxy.reporting.metrics import Metrics
from proxy.sessions import SessionRegistry
from supervision.sockets import require_address, require_path


class Readiness(Protocol):
    """Who knows whether replicas are being accepted."""

    @property
    def is_ready(self) -> bool:
        """Whether they are."""

    @property
    def reload_error(self) -> str:
        """Why the configuration on disk is not the one that runs; empty if it is."""


def admin_pages(metrics: Metrics, registry: SessionRegistry, readiness: Readiness) -> dict[str, Page]:
    """What each path answers."""

    def show_metrics(request: Request) -> Answer:
        return exposition(metrics.registry, request.accept)

    def show_readiness(_: Request) -> Answer:
        if not readiness.is_ready:
            return text_answer("not accepting replicas", HTTPStatus.SERVICE_UNAVAILABLE)
        # A reload that failed keeps what runs, so replicas are served; to say 503 would take that away.
        error = readiness.reload_error
        return text_answer(f"ready; the last reload failed: {error}" if error else "ready")

    def show_sessions(_: Request) -> Answer:
        return json_list_answer(record.fields() for record in registry)

    return {"/metrics": show_metrics, "/healthz": alive, "/readyz": show_readiness, "/sessions": show_sessions}


def open_admin_sockets(address_text: str, handed_over: socket.socket | None = None) -> list[socket.socket]:
    """Listens where the configuration says.

    Args:
        address_text: as in the configuration.
        handed_over: a socket that the service manager has opened there already.

    Raises:
        OSError: the address is taken, or not ours.
        SupervisionError: what was handed over listens elsewhere.
    """
    address = parse_address(address_text)
    if isinstance(address, UnixAddress):
        if handed_over is None:
            return [open_unix_socket(Path(address.path))]
        require_path(handed_over, "admin", address.path)
        return [handed_over]
    if handed_over is None:
        return open_tcp_sockets(address.host, address.port)
    require_address(handed_over, "admin", address.host, address.port)
    return [handed_over]
