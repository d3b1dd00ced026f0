"""What several dashboards show the same way."""

from grafana.panels import Column, Query, row, stat, timeseries
from grafana.queries import process, rate
from grafana.style import GOOD_FROM_ONE, SECONDS_LEFT, UP_OR_DOWN, Json

# Of a query in milliseconds since the epoch, and one in seconds left.
AGE_COLUMNS = (
    Column("Value #A", "Until", unit="dateTimeAsIso", width=170),
    Column("Value #B", "Left", unit="s", thresholds=SECONDS_LEFT, width=110),
)


def seconds_left(expression: str) -> str:
    """How long it is until a time."""
    return f"{expression} - time()"


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
