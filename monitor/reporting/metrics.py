"""Every metric of the monitor, in one registry. Labels are bounded; addresses stand in few, and only up to a number."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from monitor.verdicts import TlsFacts, Verdict

_PREFIX = "binlock_monitor"
_OTHER = "other"
_UNKNOWN = "unknown"
_MOST_PAIRS = 100
_MOST_TLS_KINDS = 100
_MOST_CERTIFICATES = 100
# A pair that is gone shows 0 for this long: longer than any scrape interval and most alerts' look-back.
_KEEP_GONE_SECONDS = 900

_Family = type[CounterMetricFamily] | type[GaugeMetricFamily]


@dataclass(frozen=True, slots=True)
class InterfaceReading:
    """One interface as it stands. Packets are those that reached user space and those that should have."""

    name: str
    is_up: bool
    packets: int
    dropped: int
    is_dropping: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What is counted elsewhere, at one moment.

    Attributes:
        flows: seen since the start, by their verdict.
        active: being watched.
        bytes: of TCP payload in flows of each verdict.
        evicted: flows given up before their end, by reason.
        settled: directions whose packets are passed over.
        packets_failed: packets lost to a defect of this program.
        packets_malformed: packets that could not be read.
        filter_updates: how often the kernel was given another filter.
        is_flooded: whether control packets are being sampled.
        floods: how often that began.
        lines_suppressed: of the log.
        endpoint_refusals: TLS handshakes of the endpoint that failed.
    """

    flows: Mapping[Verdict, int] = field(default_factory=dict)
    active: Mapping[Verdict, int] = field(default_factory=dict)
    bytes: Mapping[Verdict, int] = field(default_factory=dict)
    evicted: Mapping[str, int] = field(default_factory=dict)
    interfaces: Iterable[InterfaceReading] = ()
    settled: int = 0
    packets_failed: int = 0
    packets_malformed: int = 0
    filter_updates: int = 0
    is_flooded: bool = False
    floods: int = 0
    lines_suppressed: int = 0
    endpoint_refusals: int = 0


class Metrics:
    """What the monitor counts. One instance a process; tests make their own."""

    def __init__(self, version: str, read: Callable[[], Reading]) -> None:
        """Registers everything.

        Args:
            version: of Binlock.
            read: what is counted elsewhere, asked at each scrape.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build_info = Gauge(
            f"{_PREFIX}_build_info", "Version of Binlock; always 1.", ["version"], registry=self.registry
        )
        build_info.labels(version).set(1)
        self.pairs = PlaintextPairs(self.registry)
        self.tls = TlsKinds(self.registry)
        self.certificates = Certificates(self.registry)
        self.registry.register(_ReadingCollector(read))
        # With a label it has no series, instead of one at 0, where there is no TLS.
        self._certificate_not_after = Gauge(
            f"{_PREFIX}_certificate_not_after_timestamp_seconds",
            "When a certificate of the monitor's own expires; there is none where its endpoint has no TLS.",
            ["role"],
            registry=self.registry,
        )

    def note_endpoint_certificate(self, not_after: datetime | None) -> None:
        """Takes over when the certificate that the endpoint shows expires."""
        if not_after is not None:
            self._certificate_not_after.labels("endpoint").set(not_after.timestamp())


class PlaintextPairs:
    """Which replica reads from which source in the clear, at present.

    A pair that is gone stays at 0 for a while, so that an alert upon the series resolves and a graph shows the fall.
    There are at most 100 pairs; when there are that many, a new one takes the place of the one that is gone longest,
    or is counted as `other`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauge = Gauge(
            f"{_PREFIX}_plaintext_replication_active",
            "Connections on which a replica reads a source's binlog unencrypted, by their addresses; 0 for a quarter "
            "of an hour behind the last. Pairs beyond the first 100 are one, named other.",
            ["source", "replica"],
            registry=registry,
        )
        self._gauge.labels(_OTHER, _OTHER)
        self._active: Tally[tuple[str, str]] = Tally()
        self._gone: dict[tuple[str, str], float] = {}
        self._pair_of: dict[int, tuple[str, str]] = {}

    def begin(self, flow_number: int, source: str, replica: str) -> None:
        """Counts a flow."""
        pair = (source, replica)
        if pair not in self._active and not self._has_room_for(pair):
            pair = (_OTHER, _OTHER)
        self._gone.pop(pair, None)
        self._pair_of[flow_number] = pair
        self._active[pair] += 1
        self._gauge.labels(*pair).set(self._active[pair])

    def end(self, flow_number: int, now_seconds: float) -> None:
        """Counts a flow no more, if it was counted."""
        pair = self._pair_of.pop(flow_number, None)
        if pair is None:
            return
        self._active[pair] -= 1
        self._gauge.labels(*pair).set(self._active[pair])
        if not self._active[pair]:
            del self._active[pair]
            if pair != (_OTHER, _OTHER):
                self._gone[pair] = now_seconds

    def forget_gone(self, now_seconds: float) -> None:
        """Drops the series of pairs that have been gone for long; the oldest stand first."""
        for pair, since in list(self._gone.items()):
            if now_seconds - since < _KEEP_GONE_SECONDS:
                return
            self._drop(pair)

    def _has_room_for(self, pair: tuple[str, str]) -> bool:
        shown = len(self._gone) + len(self._active.keys() - {(_OTHER, _OTHER)})
        if pair in self._gone or shown < _MOST_PAIRS:
            return True
        if self._gone:
            self._drop(next(iter(self._gone)))
            return True
        return False

    def _drop(self, pair: tuple[str, str]) -> None:
        del self._gone[pair]
        self._gauge.remove(*pair)


class TlsKinds:
    """Versions and ciphers of the flows that are encrypted. Peers choose them, so their number is bounded here."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            f"{_PREFIX}_tls_flows",
            "Flows found to be encrypted, by what the handshake shows; unknown where it was not seen. Kinds beyond the "
            "first 100 are one, named other.",
            ["version", "cipher"],
            registry=registry,
        )
        self._active = Gauge(
            f"{_PREFIX}_tls_flows_active",
            "Encrypted flows that are being watched, by version and cipher as in binlock_monitor_tls_flows_total.",
            ["version", "cipher"],
            registry=registry,
        )
        self._counter.labels(_UNKNOWN, _UNKNOWN)
        self._active.labels(_UNKNOWN, _UNKNOWN)
        self._kinds: set[tuple[str, str]] = {(_UNKNOWN, _UNKNOWN)}
        self._kind_of: dict[int, tuple[str, str]] = {}

    def begin(self, flow_number: int, tls: TlsFacts) -> None:
        """Counts one flow, once."""
        if flow_number in self._kind_of:
            return
        kind = (tls.version or _UNKNOWN, tls.cipher or _UNKNOWN)
        if kind not in self._kinds:
            if len(self._kinds) >= _MOST_TLS_KINDS:
                kind = (_OTHER, _OTHER)
            self._kinds.add(kind)
        self._counter.labels(*kind).inc()
        self._active.labels(*kind).inc()
        self._kind_of[flow_number] = kind

    def end(self, flow_number: int) -> None:
        """Counts a flow as active no more, if it was."""
        kind = self._kind_of.pop(flow_number, None)
        if kind is not None:
            self._active.labels(*kind).dec()


class Certificates:
    """When certificates that servers showed on the wire expire: the 100 servers that showed one last."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauge = Gauge(
            f"{_PREFIX}_tls_certificate_not_after_timestamp_seconds",
            "When the certificate that a server showed last expires, in seconds since the epoch. TLS 1.3 shows none. "
            "Of the 100 servers that showed one last.",
            ["server"],
            registry=registry,
        )
        self._servers: dict[str, None] = {}

    def note(self, server: str, tls: TlsFacts) -> None:
        """Takes over what a handshake showed, if it showed a certificate."""
        if tls.certificate_not_after is None:
            return
        self._servers.pop(server, None)
        self._servers[server] = None
        if len(self._servers) > _MOST_CERTIFICATES:
            oldest = next(iter(self._servers))
            del self._servers[oldest]
            self._gauge.remove(oldest)
        self._gauge.labels(server).set(tls.certificate_not_after.timestamp())


class _ReadingCollector(Collector):
    """Shows a reading; each scrape takes its own, so that nothing is kept twice."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> Iterator[Metric]:
        """The families without a reading, for the registry's check of names."""
        yield from _families(Reading())

    def collect(self) -> Iterator[Metric]:
        """The families as they stand."""
        yield from _families(self._read())


def _families(reading: Reading) -> Iterator[Metric]:
    yield _by_verdict(CounterMetricFamily, "flows", "Flows seen since the start, by verdict.", reading.flows)
    yield _by_verdict(GaugeMetricFamily, "flows_active", "Flows that are being watched, by verdict.", reading.active)
    yield _by_verdict(
        CounterMetricFamily, "bytes", "Bytes of TCP payload in flows, by the flow's verdict.", reading.bytes
    )
    yield _labelled(
        CounterMetricFamily,
        "flows_evicted",
        "Flows that are watched no longer though they have not ended, by reason.",
        "reason",
        reading.evicted,
    )
    yield from _interface_families(list(reading.interfaces))
    yield from _single_families(reading)


def _single_families(reading: Reading) -> Iterator[Metric]:
    rows: tuple[tuple[_Family, str, str, int], ...] = (
        (
            GaugeMetricFamily,
            "settled_directions",
            "Directions of flows whose verdict stands; their packets are passed over.",
            reading.settled,
        ),
        (
            CounterMetricFamily,
            "packet_errors",
            "Packets lost to a defect of the monitor; each is in the log.",
            reading.packets_failed,
        ),
        (CounterMetricFamily, "packets_malformed", "Packets that could not be read.", reading.packets_malformed),
        (
            CounterMetricFamily,
            "kernel_filter_updates",
            "How often the kernel's filter was replaced.",
            reading.filter_updates,
        ),
        (
            GaugeMetricFamily,
            "flood_active",
            "1 while a flood of openings is kept out; connections are then seen from their first data on.",
            int(reading.is_flooded),
        ),
        (CounterMetricFamily, "floods", "How often a flood of openings began.", reading.floods),
        (
            CounterMetricFamily,
            "log_lines_suppressed",
            "Lines that the log's bound kept back.",
            reading.lines_suppressed,
        ),
        (
            CounterMetricFamily,
            "endpoint_tls_refusals",
            "TLS handshakes of this endpoint that failed; 0 where it has no TLS.",
            reading.endpoint_refusals,
        ),
    )
    for kind, name, text, value in rows:
        yield kind(f"{_PREFIX}_{name}", text, value=value)


def _interface_families(interfaces: list[InterfaceReading]) -> Iterator[Metric]:
    yield _labelled(
        CounterMetricFamily,
        "packets",
        "Packets that the kernel's filter let through.",
        "interface",
        {each.name: each.packets for each in interfaces},
    )
    yield _labelled(
        CounterMetricFamily,
        "packets_dropped",
        "Packets that the kernel dropped because they were not fetched in time.",
        "interface",
        {each.name: each.dropped for each in interfaces},
    )
    yield _labelled(
        GaugeMetricFamily,
        "packets_dropped_recently",
        "1 if packets were dropped within the last minute: verdicts may be late or incomplete.",
        "interface",
        {each.name: int(each.is_dropping) for each in interfaces},
    )
    yield _labelled(
        GaugeMetricFamily,
        "capture_up",
        "1 while packets of this interface can be captured.",
        "interface",
        {each.name: int(each.is_up) for each in interfaces},
    )


def _by_verdict(kind: _Family, name: str, text: str, values: Mapping[Verdict, int]) -> Metric:
    return _labelled(kind, name, text, "verdict", {verdict.value: values.get(verdict, 0) for verdict in Verdict})


def _labelled(kind: _Family, name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = kind(f"{_PREFIX}_{name}", text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
