"""What the endpoint answers: `/metrics`, `/healthz`, `/readyz`, `/flows`, and the status page."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Protocol

from endpoint.answers import Answer, Page, Request, alive, json_list_answer, text_answer
from endpoint.page import status_pages
from monitor.reporting.status_page import monitor_page


class Facts(Protocol):
    """Who knows what is asked for here."""

    @property
    def is_ready(self) -> bool:
        """Whether any interface is being watched."""

    def exposition(self, accept: str) -> Answer:
        """The metrics."""

    def flows(self) -> Iterator[dict[str, Any]]:
        """What is said of each flow that is being watched; as it is now, also if it is consumed later."""

    def status(self) -> dict[str, Any]:
        """The facts of the status page."""


def monitor_pages(facts: Facts) -> dict[str, Page]:
    """What each path answers."""

    def show_readiness(_: Request) -> Answer:
        if facts.is_ready:
            return text_answer("ready")
        return text_answer("no interface is up", HTTPStatus.SERVICE_UNAVAILABLE)

    return {
        "/metrics": lambda request: facts.exposition(request.accept),
        "/healthz": alive,
        "/readyz": show_readiness,
        "/flows": lambda _: json_list_answer(facts.flows()),
        **status_pages(facts.status, monitor_page),
    }
