"""`python -m tests.documents.metrics` writes docs/metrics.md from the registries of proxy and monitor."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics import MetricWrapperBase

from monitor.reporting.metrics import InterfaceReading, Reading
from monitor.reporting.metrics import Metrics as MonitorMetrics
from monitor.tracking.flows import Eviction
from monitor.verdicts import Verdict
from proxy.configuration.config import PolicyName
from proxy.outcomes import ENDINGS, OBJECTIONS, REFUSALS, Reason, Stage
from proxy.reporting.metrics import DECISIONS, DIRECTIONS, LEGS, OUTCOMES, RELOADS
from proxy.reporting.metrics import Metrics as ProxyMetrics
from proxy.site import Site, load_site
from tests.proxy.pki import Pki

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
OURS = "binlock_"
_UNITS = (
    ("_timestamp_seconds", "seconds since the epoch"),
    ("_seconds", "seconds"),
    ("_seconds_total", "seconds"),
    ("_bytes", "bytes"),
    ("_bytes_total", "bytes"),
    ("_info", "always 1"),
)
_TLS = "by OpenSSL's name"
ROLES = tuple(f"{role}{end}" for role in ("replica_leg", "source_leg", "admin") for end in ("", "_ca"))
PROTECTIONS = ("tls", "plaintext")
MODES = ("enforce", "observe")
# What stands in a label: its values where the code bounds them, else what does. "metric label" is of that metric alone.
PROXY_LABELS: dict[str, Iterable[str] | str] = {
    "route": "the route's `name`, as configured; `[admin]` for the files of `[admin.tls]`",
    "replica": "the roster's name for it: `name`, else `identity`; `unlisted` in observe mode",
    "listen": "the route's, as configured",
    "source": "`source.address`, as configured",
    "policy": get_args(PolicyName),
    "mode": MODES,
    "replica_leg": PROTECTIONS,
    "source_leg": PROTECTIONS,
    "outcome": OUTCOMES,
    "stage": tuple(Stage),
    "reason": "by stage, see below",
    "command": "a command by the manual's name, such as `COM_QUERY`; the protocol has three dozen",
    "decision": DECISIONS,
    "leg": LEGS,
    "cipher": f"{_TLS}, of those that the route allows",
    "group": f"key exchange, {_TLS}, of those that the route allows",
    "version": "`TLSv1.2` or `TLSv1.3`",
    "replica_legs version": "`TLSv1.2`, `TLSv1.3`, or `plaintext`, which has neither cipher nor group",
    "build_info version": "of Binlock",
    "openssl": "of the OpenSSL that is used",
    "sessions_ended_total reason": ENDINGS,
    "direction": DIRECTIONS,
    "role": ROLES,
    "issuer": "the issuer of a configured CRL, as RFC 4514 writes it",
    "result": RELOADS,
}
MONITOR_LABELS: dict[str, Iterable[str] | str] = {
    "verdict": tuple(Verdict),
    "interface": "as named on the command line",
    "reason": tuple(Eviction),
    "source": "the address of a source: of 100 pairs at most, then `other`",
    "replica": "the address of a replica, likewise",
    "version": "of TLS; `unknown` where the handshake was not seen; with cipher 100 kinds at most, then `other`",
    "cipher": "likewise",
    "build_info version": "of Binlock",
    "role": ("endpoint",),
    "server": "`address:port`, of the 100 servers that showed a certificate last",
}


@dataclass(frozen=True)
class Described:
    """One metric as it is served.

    Attributes:
        is_there: whether it has a series, or all that can be known beforehand, before anything has happened.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str
    is_there: bool


def described_site(folder: Path) -> Site:
    """A site with all that a configuration can have: both legs with TLS and CRLs, and the admin endpoint."""
    pki = Pki(folder / "pki")
    (folder / "ca.crl").write_bytes(pki.authority.write_crl(pki.crl).read_bytes())
    files = "\n".join(
        [f'certificate = "{pki.proxy.certificate_file}"', f'key = "{pki.proxy.key_file}"',
         f'ca = "{pki.authority.file}"', 'crl = ["ca.crl"]']
    )  # fmt: skip
    path = folder / "proxy.toml"
    path.write_text(f"""\
[admin]
listen = "127.0.0.1:0"
[admin.tls]
{files}
[[route]]
name = "orders"
listen = "127.0.0.1:0"
allow = ["127.0.0.0/8"]
[route.replica_tls]
{files}
[route.source]
address = "localhost:3306"
[route.source.tls]
{files}
[[route.replica]]
identity = "replica-1.example"
accounts = ["repl"]
""")
    return load_site(path)


def described_proxy(site: Site) -> ProxyMetrics:
    """As they stand when the configuration has come into force, and nobody has connected."""
    metrics = ProxyMetrics("1")
    metrics.describe_site(site)
    return metrics


def described_monitor() -> MonitorMetrics:
    """As they stand when the watch has begun, and nothing was seen."""
    lo = InterfaceReading("lo", is_up=True, packets=0, dropped=0, is_dropping=False)
    reading = Reading(interfaces=[lo], evicted={reason.value: 0 for reason in Eviction})
    return MonitorMetrics("1", lambda: reading)


def families(registry: CollectorRegistry) -> Iterator[Described]:
    """Every metric, in the order in which it is served."""
    labels_of = {
        name: tuple(collector._labelnames)
        for collector, names in registry._collector_to_names.items()
        if isinstance(collector, MetricWrapperBase)
        for name in names
    }
    for family in registry.collect():
        seen = [tuple(label for label in sample.labels if label != "le") for sample in family.samples]
        labels = labels_of.get(family.name) or max(seen, key=len, default=())
        yield Described(_served_name(family), family.type, labels, family.documentation, bool(seen))


def _served_name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def unit_of(name: str) -> str:
    """What its numbers are, which the name's end says."""
    return next((unit for end, unit in _UNITS if name.endswith(end)), "")


def page() -> str:
    """The whole page."""
    with tempfile.TemporaryDirectory() as folder:
        proxy = described_proxy(described_site(Path(folder)))
    monitor = described_monitor()
    return "\n".join(
        [
            _HEAD,
            "## The proxy\n",
            *_table(proxy.registry, "binlock_proxy_"),
            "\n### What stands in the labels\n",
            *_labels(PROXY_LABELS),
            "\n### Reasons by stage\n",
            *_reasons(),
            "\n## The monitor\n",
            *_table(monitor.registry, "binlock_monitor_"),
            "\n### What stands in the labels\n",
            *_labels(MONITOR_LABELS),
            "\n## Of any process\n",
            "Both serve what prometheus-client tells of the process and of Python:\n",
            *_plain(proxy.registry),
            "",
        ]
    )


_HEAD = """\
# Reference: metrics

Made from the code by `python -m tests.documents.metrics`; a test fails where the two differ.

The proxy serves them at `/metrics` of its admin endpoint (127.0.0.1:9307), the monitor at `/metrics` of its endpoint
(127.0.0.1:9308), in the plain format or as OpenMetrics, as the scraper asks. Names and labels are stable: one may be
added, and none changes its meaning. A histogram has `_bucket`, `_sum` and `_count`, and its buckets the label `le`.

*from the start*: each series that can be known beforehand is there, at 0 if it counts, before anything has happened, so
that `increase` sees the first event. The others show once there is something to show, and a roster entry that is taken
off takes its gauges along. No label holds what a peer can make up: routes, roster names and enumerations bound them,
and numbers where the table says so.
"""


def _table(registry: CollectorRegistry, prefix: str) -> Iterator[str]:
    yield "| metric | type | labels | unit | from the start | meaning |"
    yield "|---|---|---|---|---|---|"
    for one in families(registry):
        if one.name.startswith(prefix):
            labels = ", ".join(f"`{label}`" for label in one.labels)
            is_there = "yes" if one.is_there else ""
            yield f"| `{one.name}` | {one.kind} | {labels} | {unit_of(one.name)} | {is_there} | {one.text} |"


def _labels(labels: dict[str, Iterable[str] | str]) -> Iterator[str]:
    yield "| label | of | values |"
    yield "|---|---|---|"
    for words, values in labels.items():
        *metric, label = words.split()
        shown = values if isinstance(values, str) else _codes(values)
        yield f"| `{label}` | {f'`{metric[0]}`' if metric else ''} | {shown} |"


def _codes(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _reasons() -> Iterator[str]:
    yield "What each means, and what the replica shows: [refusals.md](refusals.md).\n"
    yield "| stage | `refusals_total` | `would_refuse_total` |"
    yield "|---|---|---|"
    for stage in Stage:
        pairs: list[tuple[Reason, ...]] = [REFUSALS[stage], OBJECTIONS.get(stage, ())]
        yield f"| `{stage}` | {_codes(pairs[0])} | {_codes(pairs[1])} |"


def _plain(registry: CollectorRegistry) -> Iterator[str]:
    yield "| metric | type | labels | unit | meaning |"
    yield "|---|---|---|---|---|"
    for one in families(registry):
        if not one.name.startswith(OURS):
            labels = ", ".join(f"`{label}`" for label in one.labels)
            yield f"| `{one.name}` | {one.kind} | {labels} | {unit_of(one.name)} | {one.text} |"


if __name__ == "__main__":
    PAGE.write_text(page())
