"""What the admin endpoint answers, over TCP and a unix socket. How it serves: tests/endpoint."""

import ipaddress
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from endpoint.serving import Endpoint
from proxy.openssl import Negotiated
from proxy.reporting.admin import admin_pages, open_admin_sockets
from proxy.reporting.metrics import Metrics
from proxy.sessions import SessionRegistry
from tests.endpoint.client import Client, no_defect
from tests.proxy.bench import make_route


@dataclass
class Ready:
    is_ready: bool = True
    reload_error: str = ""


@dataclass
class Admin:
    client: Client
    registry: SessionRegistry
    readiness: Ready
    metrics: Metrics

    async def get(self, path: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
        return await self.client.get(path, *headers)


@asynccontextmanager
async def serving(address: str = "127.0.0.1:0") -> AsyncIterator[Admin]:
    metrics, registry, readiness = Metrics("1.2.3"), SessionRegistry(), Ready()
    endpoint = Endpoint(admin_pages(metrics, registry, readiness), on_defect=no_defect)
    [listening] = open_admin_sockets(address)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endpoint.run, [listening])
            yield Admin(Client(listening.getsockname()), registry, readiness, metrics)
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


async def test_an_unknown_path_names_the_known_ones(admin: Admin) -> None:
    status, _, body = await admin.get("/")
    assert status == 404
    assert b"/metrics, /healthz, /readyz or /sessions" in body


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
        metrics.replicas.connected.labels("r", "one")
        metrics.certificate_not_after.labels("r", "replica_leg")
        metrics.crl_next_update.labels("r", "CN=x")
        text = (await admin.get("/metrics"))[2].decode()
    samples = {
        sample.name: set(sample.labels) for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert {name: samples.get(name) for name in CONTRACT} == CONTRACT
    assert "_created" not in text
