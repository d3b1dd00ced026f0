"""docs/metrics.md is what the registries are, and Prometheus finds nothing wrong with either."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from monitor.reporting.metrics import Metrics as MonitorMetrics
from proxy.configuration.config import RouteTable
from proxy.outcomes import ENDINGS, OBJECTIONS, REFUSALS
from proxy.reporting.metrics import COMMANDS_OF_REPLICAS, DECISIONS, DIRECTIONS, LEGS, OUTCOMES, RELOADS
from proxy.reporting.metrics import Metrics as ProxyMetrics
from tests.documents.metrics import (
    MONITOR_LABELS,
    OURS,
    PAGE,
    PROXY_LABELS,
    ROLES,
    described_monitor,
    described_proxy,
    described_site,
    families,
    page,
    unit_of,
)
from tests.endpoint.promtool import complaints

ROUTE = {"route": "orders"}
# Counters and histograms whose label sets nobody can know beforehand.
OPEN_COUNTERS = {"binlock_proxy_tls_handshakes_total"}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> ProxyMetrics:
    return described_proxy(described_site(tmp_path_factory.mktemp("site")))


@pytest.fixture(scope="module")
def monitor() -> MonitorMetrics:
    return described_monitor()


def series(registry: CollectorRegistry, name: str) -> list[dict[str, str]]:
    """The label sets of one metric, a histogram's by its count."""
    return [
        sample.labels
        for family in registry.collect()
        for sample in family.samples
        if sample.name in {name, f"{name}_count"}
    ]


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.documents.metrics`"


def known(**labels: Iterable[Any]) -> list[dict[str, str]]:
    """Every combination of these on the route."""
    sets: list[dict[str, str]] = [dict(ROUTE)]
    for label, values in labels.items():
        sets = [{**one, label: str(value)} for one in sets for value in values]
    return sets


def pairs(reasons: dict[Any, tuple[Any, ...]]) -> list[dict[str, str]]:
    return [{**ROUTE, "stage": str(stage), "reason": str(reason)} for stage in reasons for reason in reasons[stage]]


def test_every_label_set_that_can_be_known_is_there_before_anybody_connects(proxy: ProxyMetrics) -> None:
    commands = [command.name for command in COMMANDS_OF_REPLICAS]
    expected: dict[str, list[dict[str, str]]] = {
        "sessions_active": [ROUTE],
        "sessions_total": known(outcome=OUTCOMES),
        "refusals_total": pairs(REFUSALS),
        "would_refuse_total": pairs(OBJECTIONS),
        "sessions_ended_total": known(reason=ENDINGS),
        "commands_total": known(command=commands, decision=DECISIONS),
        "relayed_bytes_total": known(direction=DIRECTIONS),
        "tls_handshake_seconds": known(leg=LEGS),
        "semisync_ack_seconds": [ROUTE],
        "replica_connected": known(replica=["replica-1.example"]),
        "config_reloads_total": [{"result": result} for result in RELOADS],
        "certificate_not_after_timestamp_seconds": [
            {"route": "[admin]" if role.startswith("admin") else "orders", "role": role} for role in ROLES
        ],
        "crl_next_update_timestamp_seconds": [{"route": route, "issuer": "CN=Ours"} for route in ("orders", "[admin]")],
        "admin_tls_refusals_total": [{}],
    }

    def ordered(sets: list[dict[str, str]]) -> list[list[tuple[str, str]]]:
        return sorted(sorted(one.items()) for one in sets)

    for name, sets in expected.items():
        assert ordered(series(proxy.registry, f"binlock_proxy_{name}")) == ordered(sets), name


@pytest.mark.parametrize("program", ["proxy", "monitor"])
def test_what_counts_begins_at_nought(program: str, proxy: ProxyMetrics, monitor: MonitorMetrics) -> None:
    registry = proxy.registry if program == "proxy" else monitor.registry
    for one in families(registry):
        if one.name.startswith(OURS) and one.kind in {"counter", "histogram"}:
            assert one.is_there == (one.name not in OPEN_COUNTERS), one.name


@pytest.mark.parametrize("program", ["proxy", "monitor"])
def test_names_units_and_helps_follow_the_rules(program: str, proxy: ProxyMetrics, monitor: MonitorMetrics) -> None:
    registry = proxy.registry if program == "proxy" else monitor.registry
    assert complaints(generate_latest(registry).decode()) == []
    ours = [one for one in families(registry) if one.name.startswith(OURS)]
    assert all(one.name.startswith(f"{OURS}{program}_") for one in ours)
    for one in ours:
        assert re.fullmatch(r"[A-Z1].*[^.]\.", one.text), f"{one.name}: {one.text!r} is no sentence"
        assert one.kind != "histogram" or unit_of(one.name) == "seconds", one.name
        assert ("timestamp" in one.name) == (unit_of(one.name) == "seconds since the epoch"), one.name


def test_every_label_is_explained_and_none_that_is_not_there(proxy: ProxyMetrics, monitor: MonitorMetrics) -> None:
    for registry, prefix, explained in (
        (proxy.registry, "binlock_proxy_", PROXY_LABELS),
        (monitor.registry, "binlock_monitor_", MONITOR_LABELS),
    ):
        ours = {one.name: one.labels for one in families(registry) if one.name.startswith(prefix)}
        used = {label for labels in ours.values() for label in labels}
        assert used == {words.split()[-1] for words in explained}
        for words in explained:
            *metric, label = words.split()
            assert not metric or label in ours[prefix + metric[0]], words


def test_values_that_are_listed_are_all_that_there_are(proxy: ProxyMetrics, monitor: MonitorMetrics) -> None:
    for registry, prefix, explained in (
        (proxy.registry, "binlock_proxy_", PROXY_LABELS),
        (monitor.registry, "binlock_monitor_", MONITOR_LABELS),
    ):
        for one in families(registry):
            for labels in series(registry, one.name) if one.name.startswith(prefix) else ():
                for label, value in labels.items():
                    values = explained.get(f"{one.name.removeprefix(prefix)} {label}", explained[label])
                    assert isinstance(values, str) or value in set(values), f"{one.name}: {label}={value}"


def test_no_route_can_be_called_as_the_admin_endpoint_is() -> None:
    route: dict[str, Any] = {"listen": "l", "allow": [], "source": {"address": "a"}, "replica": []}
    assert msgspec.convert({**route, "name": "admin"}, RouteTable).name == "admin"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**route, "name": "[admin]"}, RouteTable)


def test_a_fault_would_be_found() -> None:
    assert any("no help text" in said for said in complaints("# TYPE binlock_x_total counter\nbinlock_x_total 1\n"))
    unlike_a_counter = "# HELP binlock_x X.\n# TYPE binlock_x counter\nbinlock_x 1\n"
    assert any('"_total"' in said for said in complaints(unlike_a_counter))
