"""What several dashboards show the same way."""

from grafana.panels import Column, Query, row, stat, table, timeseries
from grafana.queries import process, proxy, rate
from grafana.style import GOOD, GOOD_FROM_ONE, SECONDS_LEFT, UP_OR_DOWN, WARNING, Json, values

_MODES = values({"enforce": ("enforce", GOOD), "observe": ("observe", WARNING)})

# Of a query in milliseconds since the epoch, and one in seconds left.
AGE_COLUMNS = (
    Column("Value #A", "Until", unit="dateTimeAsIso", width=155),
    Column("Value #B", "Left", unit="s", thresholds=SECONDS_LEFT, width=95),
)


def seconds_left(expression: str) -> str:
    """How long it is until a time."""
    return f"{expression} - time()"


def routes(size: tuple[int, int]) -> Json:
    """What the configuration of each proxy says of its routes."""
    labels = "instance, route, mode, listen, source, policy, replica_leg, source_leg"
    return table(
        "Routes",
        "What each proxy's configuration says. A route that observes reports what it would refuse, and refuses only "
        "what is not encrypted or not trusted. Legs are TLS, or plaintext on loopback or a unix socket unless the "
        "configuration says otherwise with an unsafe_ option.",
        [Query(f"max by ({labels}) ({proxy('route_info')})")],
        [
            Column("instance", "Proxy", width=140),
            Column("route", "Route", width=110),
            Column("mode", "Mode", mappings=_MODES, width=90),
            Column("listen", "Listens at", width=150),
            Column("replica_leg", "Leg to the replica", width=130),
            Column("source_leg", "Leg to the source", width=130),
            Column("policy", "Policy", width=100),
            Column("source", "Source"),
        ],
        sort_by="Route",
        hidden=["Value"],
        size=size,
    )


def process_row(known_by: str) -> list[Json]:
    """The process itself: it is not what the dashboard is for, and stands last.

    Args:
        known_by: a selector of a metric that the processes in question have, and no others.
    """

    def of_those(selector: str) -> str:
        return f"{selector} and on (job, instance) {known_by}"

    return [
        row("The process"),
        stat(
            "Scraped",
            "Down if Prometheus cannot read the metrics of one of them.",
            [Query(f"min({process('up')} and on (job, instance) last_over_time({known_by}[$__range]))")],
            thresholds=GOOD_FROM_ONE,
            mappings=UP_OR_DOWN,
            size=(4, 7),
        ),
        timeseries(
            "Processor",
            "Processor seconds used per second: 100 % is one core.",
            [Query(of_those(rate(process("process_cpu_seconds_total"))), "{{instance}}")],
            unit="percentunit",
            size=(5, 7),
        ),
        timeseries(
            "Memory",
            "Resident memory.",
            [Query(of_those(process("process_resident_memory_bytes")), "{{instance}}")],
            unit="bytes",
            size=(5, 7),
        ),
        timeseries(
            "File descriptors",
            "Open files and sockets, as a part of how many it may have.",
            [
                Query(
                    of_those(f"{process('process_open_fds')} / {process('process_max_fds')}"),
                    "{{instance}}",
                )
            ],
            unit="percentunit",
            size=(5, 7),
        ),
        timeseries(
            "Scrape",
            "How long Prometheus takes to read the metrics.",
            [Query(of_those(process("scrape_duration_seconds")), "{{instance}}")],
            unit="s",
            size=(5, 7),
        ),
    ]
