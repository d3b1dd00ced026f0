"""The admin endpoint, over TCP and a unix socket, by bytes as they cross the wire."""

import ipaddress
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from proxy.admin import AdminEndpoint, open_admin_listeners
from proxy.metrics import Metrics
from proxy.openssl import Negotiated
from proxy.sessions import SessionRegistry
from tests.proxy.bench import make_route


@dataclass
class Ready:
    is_ready: bool = True
    reload_error: str = ""


@dataclass
class Admin:
    listener: trio.SocketListener
    registry: SessionRegistry
    readiness: Ready
    metrics: Metrics

    async def dial(self) -> trio.SocketStream:
        name = self.listener.socket.getsockname()
        if isinstance(name, str):
            return await trio.open_unix_socket(name)
        return await trio.open_tcp_stream(*name[:2])

    async def exchange(self, sent: bytes) -> bytes:
        """Sends bytes, half-closes, and returns all that comes back."""
        async with await self.dial() as stream:
            await stream.send_all(sent)
            await stream.send_eof()
            return b"".join([piece async for piece in stream])

    async def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        lines = "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: x", *headers))
        answer = await self.exchange(f"{lines}\r\n".encode("latin-1"))
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        return int(status.split(" ")[1]), dict(field.lower().split(": ", 1) for field in fields), body


@asynccontextmanager
async def serving(address: str = "127.0.0.1:0") -> AsyncIterator[Admin]:
    metrics, registry, readiness = Metrics("1.2.3"), SessionRegistry(), Ready()
    with trio.fail_after(10):
        listeners = await open_admin_listeners(address)
        async with trio.open_nursery() as nursery:
            endpoint = AdminEndpoint(metrics, registry, readiness)
            nursery.start_soon(trio.serve_listeners, endpoint.serve, listeners)
            yield Admin(listeners[0], registry, readiness, metrics)
            nursery.cancel_scope.cancel()


@pytest.fixture(params=["tcp", "unix"])
async def admin(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Admin]:
    async with serving("127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/admin.sock") as made:
        yield made


async def test_healthz_says_ok(admin: Admin) -> None:
    assert (await admin.get("/healthz"))[::2] == (200, b"ok\n")


async def test_readyz_says_whether_replicas_are_accepted(admin: Admin) -> None:
    assert (await admin.get("/readyz"))[::2] == (200, b"ready\n")
    admin.readiness.is_ready = False
    assert (await admin.get("/readyz"))[::2] == (503, b"not accepting replicas\n")
    assert (await admin.get("/healthz"))[0] == 200


async def test_sessions_lists_those_that_are_open(admin: Admin) -> None:
    assert json.loads((await admin.get("/sessions"))[2]) == []
    record = admin.registry.open(route=make_route(name="orders"), peer=(ipaddress.ip_address("10.0.0.1"), 4))
    status, headers, body = await admin.get("/sessions")
    assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
    [shown] = json.loads(body)
    assert (shown["route"], shown["peer"], shown["stage"]) == ("orders", "10.0.0.1:4", "admission")
    admin.registry.close(record)
    assert json.loads((await admin.get("/sessions"))[2]) == []


async def test_a_query_string_changes_nothing(admin: Admin) -> None:
    assert (await admin.get("/healthz?x=1"))[0] == 200


async def test_an_unknown_path_names_the_known_ones(admin: Admin) -> None:
    status, _, body = await admin.get("/")
    assert status == 404
    assert b"/metrics, /healthz, /readyz or /sessions" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_another_method_is_not_allowed(method: str) -> None:
    async with serving() as admin:
        assert (await admin.get("/metrics", method=method))[0] == 405


async def test_a_405_says_what_is_allowed() -> None:
    async with serving() as admin:
        assert (await admin.get("/metrics", method="POST"))[1]["allow"] == "get, head"


async def test_head_is_answered_without_a_body() -> None:
    async with serving() as admin:
        status, _, body = await admin.get("/healthz", method="HEAD")
        assert (status, body) == (200, b"")


async def test_head_has_the_length_of_get() -> None:
    async with serving() as admin:
        assert (await admin.get("/healthz", method="HEAD"))[1].get("content-length") in {None, "3"}


@pytest.mark.parametrize(
    "sent",
    [b"garbage\r\n\r\n", b"\x16\x03\x01\x00\x05hello\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"GET /\r\n\r\n",
     b"GET /x HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"],
)  # fmt: skip
async def test_a_request_that_is_none_is_refused_and_the_next_is_served(sent: bytes) -> None:
    async with serving() as admin:
        assert (await admin.exchange(sent)).startswith(b"HTTP/1.1 4")
        assert (await admin.get("/healthz"))[0] == 200


@pytest.mark.parametrize(
    "sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_a_peer_that_leaves_half_way_through_harms_nobody(sent: bytes) -> None:
    async with serving() as admin:
        async with await admin.dial() as stream:
            await stream.send_all(sent)
        assert (await admin.get("/healthz"))[0] == 200


async def test_a_header_without_end_is_cut_off() -> None:
    async with serving() as admin:
        assert (await admin.exchange(b"GET / HTTP/1.1\r\nX: " + b"x" * 18_000)).startswith(b"HTTP/1.1 431")


async def test_requests_in_one_segment_are_answered_in_order() -> None:
    async with serving() as admin:
        asked = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"  # noqa: E501
        answer = await admin.exchange(asked)
        assert [answer.index(text) for text in (b"ok\n", b"try /metrics", b"ready\n")] == sorted(
            answer.index(text) for text in (b"ok\n", b"try /metrics", b"ready\n")
        )
        assert answer.count(b"HTTP/1.1 ") == 3


async def test_a_connection_is_kept_open_for_the_next_request() -> None:
    async with serving() as admin, await admin.dial() as stream:
        for _ in range(3):
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"ok\n" in await stream.receive_some(4096)


async def test_a_slow_client_does_not_hold_the_others_up() -> None:
    async with serving() as admin, await admin.dial() as slow:
        await slow.send_all(b"GET /heal")
        assert (await admin.get("/healthz"))[0] == 200
        await slow.send_all(b"thz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"ok\n" in await slow.receive_some(4096)


@pytest.mark.parametrize(
    "accept", ["text/plain;version=abc", "text/plain;version=1e5", "application/openmetrics-text;version=x"]
)
async def test_no_accept_header_can_end_the_process(accept: str) -> None:
    async with serving() as admin:
        await admin.get("/metrics", f"Accept: {accept}")
        assert (await admin.get("/healthz"))[0] == 200


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
async def test_metrics_come_in_the_form_that_was_asked_for(accept: str) -> None:
    async with serving() as admin:
        status, headers, body = await admin.get("/metrics", f"Accept: {accept}")
        assert status == 200
        assert headers["content-type"].startswith(accept.split(";", maxsplit=1)[0])
        assert b"binlock_proxy_build_info{" in body


# DESIGN.md section 8, as far as it exists.
CONTRACT = {
    "binlock_proxy_sessions_active": {"route"},
    "binlock_proxy_sessions_total": {"route", "outcome"},
    "binlock_proxy_refusals_total": {"route", "stage", "reason"},
    "binlock_proxy_sessions_ended_total": {"route", "reason"},
    "binlock_proxy_tls_handshakes_total": {"route", "leg", "version", "cipher", "group"},
    "binlock_proxy_tls_handshake_seconds_count": {"route", "leg"},
    "binlock_proxy_relayed_bytes_total": {"route", "direction"},
    "binlock_proxy_replica_connected": {"route", "replica"},
    "binlock_proxy_certificate_not_after_timestamp_seconds": {"route", "role"},
    "binlock_proxy_crl_next_update_timestamp_seconds": {"route", "issuer"},
}


async def test_metrics_parse_and_have_the_names_and_labels_of_the_contract() -> None:
    async with serving() as admin:
        metrics = admin.metrics
        metrics.sessions_active.labels("r")
        metrics.sessions.labels("r", "ended")
        metrics.refusals.labels("r", "tls", "not_tls")
        metrics.sessions_ended.labels("r", "closed")
        metrics.count_handshake("r", "replica", Negotiated(0.1, "TLSv1.3", "c", "g", ()))
        metrics.relayed_bytes.labels("r", "source_to_replica")
        metrics.replica_connected.labels("r", "one")
        metrics.certificate_not_after.labels("r", "replica_leg")
        metrics.crl_next_update.labels("r", "CN=x")
        text = (await admin.get("/metrics"))[2].decode()
    samples = {
        sample.name: set(sample.labels) for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert {name: samples.get(name) for name in CONTRACT} == CONTRACT
    assert "_created" not in text


async def test_a_unix_socket_is_for_this_user_and_group_only(tmp_path: Path) -> None:
    async with serving(f"unix:{tmp_path}/a.sock"):
        assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == 0o660


async def test_a_socket_that_a_killed_process_left_behind_is_replaced(tmp_path: Path) -> None:
    async with serving(f"unix:{tmp_path}/a.sock"):
        pass
    assert (tmp_path / "a.sock").exists()
    async with serving(f"unix:{tmp_path}/a.sock") as admin:
        assert (await admin.get("/healthz"))[0] == 200


async def test_a_socket_on_which_another_process_answers_is_in_use(tmp_path: Path) -> None:
    async with serving(f"unix:{tmp_path}/a.sock"):
        with pytest.raises(OSError, match="in use"):
            async with serving(f"unix:{tmp_path}/a.sock"):
                pass
