"""What the monitor's endpoint answers. How it serves: tests/endpoint."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from endpoint.answers import Answer
from monitor.reporting.pages import monitor_pages
from tests.endpoint.client import serving
from tests.monitor.reporting.test_status import facts as status_facts
from tests.monitor.reporting.test_status import make_flow


@dataclass
class StubFacts:
    is_ready: bool = True
    shown: list[dict[str, Any]] = field(default_factory=list)
    known: dict[str, Any] = field(default_factory=lambda: status_facts(make_flow()))

    def exposition(self, accept: str) -> Answer:
        return Answer(body=f"metrics for {accept}\n".encode(), content_type="text/plain; version=1.0.0")

    def flows(self) -> Iterator[dict[str, Any]]:
        return iter(self.shown)

    def status(self) -> dict[str, Any]:
        return self.known


async def test_each_path_answers_with_what_stands_then() -> None:
    facts = StubFacts()
    async with serving(monitor_pages(facts)) as client:
        assert (await client.get("/healthz"))[::2] == (200, b"ok\n")
        assert (await client.get("/readyz"))[::2] == (200, b"ready\n")
        facts.is_ready = False
        assert (await client.get("/readyz"))[::2] == (503, b"no interface is up\n")
        assert (await client.get("/healthz"))[0] == 200
        status, headers, body = await client.get("/metrics", "Accept: this")
        assert (status, headers["content-type"], body) == (200, "text/plain; version=1.0.0", b"metrics for this\n")
        facts.shown = [{"server": f"10.0.0.1:{number}"} for number in range(70)]
        assert json.loads((await client.get("/flows"))[2]) == facts.shown
        assert b"10.0.0.1:40000" in (await client.get("/"))[2]
        assert json.loads((await client.get("/status"))[2]) == facts.status()
        assert (await client.get("/nothing"))[::2] == (
            404,
            b"try /metrics, /healthz, /readyz, /flows, / or /status\n",
        )
