"""The metrics that exist, with their labels, as the programs' own registries have them."""

from prometheus_client import CollectorRegistry

from monitor.reporting.metrics import InterfaceReading, Reading
from monitor.reporting.metrics import Metrics as MonitorMetrics
from proxy.reporting.metrics import Metrics as ProxyMetrics

# What Prometheus puts on every series, and what it makes of every scrape.
EVERYWHERE = {"job", "instance"}
OF_PROMETHEUS: dict[str, set[str]] = {"up": set(), "scrape_duration_seconds": set()}


def metrics() -> dict[str, set[str]]:
    """The labels of every metric, by the name of its samples."""
    reading = Reading(evicted={"idle": 1}, interfaces=[InterfaceReading("eth0", True, 1, 0, False)])
    of_proxy, of_monitor = ProxyMetrics("0").registry, MonitorMetrics("0", lambda: reading).registry
    return OF_PROMETHEUS | _collected(of_proxy) | _collected(of_monitor) | _declared(of_proxy) | _declared(of_monitor)


def _collected(registry: CollectorRegistry) -> dict[str, set[str]]:
    return {sample.name: set(sample.labels) for family in registry.collect() for sample in family.samples}


def _declared(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Those that have no sample yet, too."""
    found: dict[str, set[str]] = {}
    for collector in registry._collector_to_names:
        labels = getattr(collector, "_labelnames", None)
        if labels is None:
            continue
        [family] = collector.collect()
        match family.type:
            case "counter":
                found[f"{family.name}_total"] = set(labels)
            case "histogram":
                found |= {f"{family.name}_{part}": set(labels) for part in ("count", "sum")}
                found[f"{family.name}_bucket"] = {*labels, "le"}
            case _:
                found[family.name] = set(labels)
    return found
