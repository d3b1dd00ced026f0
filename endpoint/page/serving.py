"""The page's paths, and what its answers forbid a browser."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from endpoint.answers import JSON, Answer, Page, Request
from endpoint.page.document import Document
from endpoint.page.rendering import ASSETS, render

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Nothing but the page's own files, from where the page came from; in no frame, and no address given away.
PAGE_HEADERS = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
)
_CONTENT_TYPES = {
    "/status.css": "text/css; charset=utf-8",
    "/status.js": "text/javascript; charset=utf-8",
    "/status.svg": "image/svg+xml",
}
# However many look at the page, the facts are gathered so often at most.
_FRESH_SECONDS = 0.5

Facts = dict[str, Any]


def status_pages(gather: Callable[[], Facts], lay_out: Callable[[Facts], Document]) -> dict[str, Page]:
    """What `/`, `/status` and the page's files answer.

    Args:
        gather: the facts, as the JSON document of `/status`.
        lay_out: the page that these facts make.
    """
    gathered = _Memory(gather)

    def show_page(_: Request) -> Answer:
        return Answer(
            body=render(lay_out(gathered.facts())), content_type="text/html; charset=utf-8", headers=PAGE_HEADERS
        )

    def show_facts(_: Request) -> Answer:
        return Answer(body=json.dumps(gathered.facts()).encode(), content_type=JSON, headers=PAGE_HEADERS)

    assets = {path: partial(_show_asset, content_type) for path, content_type in _CONTENT_TYPES.items()}
    return {"/": show_page, "/status": show_facts, **assets}


def _show_asset(content_type: str, request: Request) -> Answer:
    return Answer(body=ASSETS[request.path.removeprefix("/")], content_type=content_type, headers=PAGE_HEADERS)


class _Memory:
    def __init__(self, gather: Callable[[], Facts]) -> None:
        self._gather = gather
        self._facts: Facts = {}
        self._gathered_seconds = float("-inf")

    def facts(self) -> Facts:
        """The facts, gathered now unless they have been a moment ago."""
        now_seconds = time.monotonic()
        if now_seconds - self._gathered_seconds >= _FRESH_SECONDS:
            self._facts, self._gathered_seconds = self._gather(), now_seconds
        return self._facts
