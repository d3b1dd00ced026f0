"""The HTTP endpoint, by bytes as they cross the wire."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11
import pytest
import trio
import trio.testing

from monitor.reporting.endpoint import Endpoint


@dataclass
class StubFacts:
    is_ready: bool = True
    shown: list[dict[str, Any]] = field(default_factory=list)
    error: Exception | None = None

    def exposition(self, accept: str) -> tuple[bytes, str]:
        if self.error:
            raise self.error
        return f"metrics for {accept}\n".encode(), "text/plain; version=1.0.0"

    def flows(self) -> Iterator[dict[str, Any]]:
        return iter(self.shown)


@dataclass
class Serving:
    listener: trio.SocketListener
    facts: StubFacts

    async def dial(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(*self.listener.socket.getsockname()[:2])

    async def exchange(self, sent: bytes) -> bytes:
        async with await self.dial() as stream:
            await stream.send_all(sent)
            try:
                await stream.send_eof()
                return b"".join([piece async for piece in stream])
            except trio.BrokenResourceError:
                # Closed with what was sent still unread: a reset.
                return b""

    async def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body, as a client of HTTP/1.1 understands them."""
        lines = "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: x", *headers))
        answer = await self.exchange(f"{lines}\r\n".encode())
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target=path, headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(answer)
        response = client.next_event()
        assert isinstance(response, h11.Response)
        body = b""
        while isinstance(event := client.next_event(), h11.Data):
            body += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage)
        return response.status_code, {name.decode(): value.decode() for name, value in response.headers}, body


@asynccontextmanager
async def serving() -> AsyncIterator[Serving]:
    facts = StubFacts()
    with trio.fail_after(20):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, Endpoint(facts).serve, listeners)
            yield Serving(listeners[0], facts)
            nursery.cancel_scope.cancel()


async def test_healthz_and_readyz() -> None:
    async with serving() as served:
        assert (await served.get("/healthz"))[::2] == (200, b"ok\n")
        assert (await served.get("/readyz"))[::2] == (200, b"ready\n")
        served.facts.is_ready = False
        assert (await served.get("/readyz"))[::2] == (503, b"no interface is up\n")
        assert (await served.get("/healthz"))[0] == 200


async def test_metrics_in_the_format_that_is_asked_for() -> None:
    async with serving() as served:
        status, headers, body = await served.get("/metrics", "Accept: this")
        assert (status, headers["content-type"], body) == (200, "text/plain; version=1.0.0", b"metrics for this\n")


@pytest.mark.parametrize("count", [0, 1, 50, 51, 500])
async def test_flows_are_one_json_list_however_many(count: int) -> None:
    async with serving() as served:
        served.facts.shown = [{"server": f"10.0.0.1:{number}"} for number in range(count)]
        status, headers, body = await served.get("/flows")
        assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
        assert json.loads(body) == served.facts.shown


async def test_a_query_string_changes_nothing_and_another_path_is_told_the_way() -> None:
    async with serving() as served:
        assert (await served.get("/healthz?x=1"))[0] == 200
        status, _, body = await served.get("/")
        assert (status, body) == (404, b"try /metrics, /healthz, /readyz or /flows\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_another_method_is_not_allowed(method: str) -> None:
    async with serving() as served:
        status, headers, _ = await served.get("/metrics", method=method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/metrics", "/flows", "/healthz"])
async def test_head_has_the_headers_and_no_body(path: str) -> None:
    async with serving() as served:
        assert (await served.get(path, method="HEAD"))[::2] == (200, b"")


async def test_head_keeps_the_connection() -> None:
    async with serving() as served:
        asked = b"HEAD /flows HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await served.exchange(asked * 2)).count(b"HTTP/1.1 200 OK") == 2


async def test_several_requests_on_one_connection() -> None:
    async with serving() as served:
        asked = b"GET /flows HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await served.exchange(asked * 3)).count(b"HTTP/1.1 200 OK") == 3


async def test_a_client_of_http_1_0_gets_the_list_until_the_end() -> None:
    async with serving() as served:
        head, _, body = (await served.exchange(b"GET /flows HTTP/1.0\r\n\r\n")).partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert body == b"[]"


async def test_garbage_is_answered_and_ends_its_own_connection() -> None:
    async with serving() as served:
        assert b" 400 Bad Request" in await served.exchange(b"\x16\x03\x01\x00\x05hello\r\n\r\n")
        assert (await served.get("/healthz"))[0] == 200


async def test_a_client_that_says_nothing_keeps_nobody_waiting() -> None:
    async with serving() as served, await served.dial(), await served.dial() as half:
        await half.send_all(b"GET /metrics HT")
        assert (await served.get("/healthz"))[0] == 200


async def test_a_client_that_reads_nothing_keeps_nobody_waiting() -> None:
    async with serving() as served:
        served.facts.shown = [{"evidence": "x" * 1000}] * 20_000
        async with await served.dial() as idle:
            await idle.send_all(b"GET /flows HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await served.get("/healthz"))[0] == 200


async def test_who_is_too_slow_is_sent_away(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Endpoint(StubFacts()).serve, far)
        began = trio.current_time()
        await near.send_all(b"GET /metrics HT")
        assert await near.receive_some() == b""
    assert trio.current_time() - began == pytest.approx(10)


async def test_more_connections_than_the_limit_are_closed_at_once() -> None:
    async with serving() as served, trio.open_nursery() as nursery:
        streams = [await served.dial() for _ in range(64)]
        for stream in streams:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        assert await served.exchange(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        for stream in streams:
            nursery.start_soon(stream.aclose)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await served.get("/healthz"))[0] == 200


async def test_a_defect_costs_one_answer(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        served.facts.error = KeyError("x")
        assert await served.exchange(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        served.facts.error = None
        assert (await served.get("/metrics"))[0] == 200
