"""The monitor: who replicates in the clear, what the rest is, and whether it sees everything."""

from grafana.boards.common import process_row
from grafana.frame import dashboard
from grafana.panels import Column, Query, row, stat, table, timeline, timeseries
from grafana.queries import monitor, rate
from grafana.style import (
    BAD_FROM_ONE,
    GOOD,
    GOOD_FROM_ONE,
    NONE_AT_ZERO,
    SECONDS_LEFT,
    UP_OR_DOWN,
    VERMILION,
    WARNING,
    WARNING_FROM_ONE,
    Json,
    values,
)

_BUILD = monitor("build_info")
_NOT_OR = values({"0": ("no", GOOD), "1": ("yes", WARNING)})


def board() -> Json:
    """The dashboard."""
    return dashboard(
        "binlock-monitor",
        "Binlock: monitor",
        "Plaintext replication by pair of addresses, verdicts over time, TLS versions and ciphers that were seen, "
        "and whether the monitor gets every packet.",
        [*_now(), *_plaintext(), *_tls(), *_capture(), *process_row(_BUILD)],
        known_by="binlock_monitor_build_info",
        has_routes=False,
    )


def _now() -> list[Json]:
    return [
        stat(
            "Replication in the clear",
            "Connections on which a replica reads a source's binlog unencrypted, now.",
            [Query(f"sum({monitor('plaintext_replication_active')})")],
            thresholds=BAD_FROM_ONE,
            mappings=NONE_AT_ZERO,
        ),
        stat(
            "Clients in the clear",
            "Connections that speak MySQL unencrypted and are proven to be something else than replication.",
            [Query(f"sum({monitor('flows_active', verdict='plaintext-client')})")],
            thresholds=WARNING_FROM_ONE,
            mappings=NONE_AT_ZERO,
        ),
        stat(
            "Encrypted",
            "Connections on which TLS records were seen.",
            [Query(f"sum({monitor('flows_active', verdict='tls')})")],
        ),
        stat(
            "Capture",
            "Down if any interface cannot be captured.",
            [Query(f"min({monitor('capture_up')})")],
            thresholds=GOOD_FROM_ONE,
            mappings=UP_OR_DOWN,
        ),
        stat(
            "Dropping packets",
            "Whether the kernel dropped packets of any interface within the last minute: verdicts may be late or "
            "incomplete.",
            [Query(f"max({monitor('packets_dropped_recently')})")],
            thresholds=WARNING_FROM_ONE,
            mappings=_NOT_OR,
        ),
        stat(
            "Flood",
            "Whether a flood of openings is kept out; connections are then seen from their first data on.",
            [Query(f"max({monitor('flood_active')})")],
            thresholds=WARNING_FROM_ONE,
            mappings=_NOT_OR,
        ),
    ]


def _plaintext() -> list[Json]:
    return [
        row("In the clear"),
        timeseries(
            "Replication in the clear, by pair",
            "Connections on which a replica reads a source's binlog unencrypted. A pair that is gone stays at zero "
            "for a quarter of an hour; pairs beyond the first hundred are one, named other.",
            [
                Query(
                    f"sum by (source, replica) ({monitor('plaintext_replication_active')})",
                    "{{replica}} from {{source}}",
                )
            ],
            is_stepped=True,
            shades_of=VERMILION,
            size=(12, 8),
        ),
        table(
            "Pairs within the time shown",
            "Which replica read which source's binlog in the clear, on how many connections at most, and on how many "
            "now.",
            [
                Query(f"max by (source, replica) (max_over_time({monitor('plaintext_replication_active')}[$__range]))"),
                Query(f"max by (source, replica) ({monitor('plaintext_replication_active')})"),
            ],
            [
                Column("source", "Source"),
                Column("replica", "Replica"),
                Column("Value #A", "At most", thresholds=BAD_FROM_ONE, width=90),
                Column("Value #B", "Now", thresholds=BAD_FROM_ONE, width=90),
            ],
            sort_by="Now",
            descending=True,
            size=(12, 8),
        ),
        row("Verdicts"),
        timeseries(
            "Connections, by verdict",
            "What is being watched now.",
            [Query(f"sum by (verdict) ({monitor('flows_active')})", "{{verdict}}")],
            is_stacked=True,
            is_stepped=True,
        ),
        timeseries(
            "New connections, by verdict",
            "Connections seen, per second, by the verdict that they have now.",
            [Query(f"sum by (verdict) ({rate(monitor('flows_total'))})", "{{verdict}}")],
            unit="cps",
            is_stacked=True,
        ),
        timeseries(
            "Bytes, by verdict",
            "TCP payload, per second. Of connections whose verdict stands most packets are passed over and not "
            "counted.",
            [Query(f"sum by (verdict) ({rate(monitor('bytes_total'))})", "{{verdict}}")],
            unit="Bps",
            is_stacked=True,
        ),
    ]


def _tls() -> list[Json]:
    return [
        row("TLS"),
        timeseries(
            "Encrypted connections, by version",
            "Connections found to be encrypted, per second, by TLS version; unknown where the handshake was not seen.",
            [Query(f"sum by (version) ({rate(monitor('tls_flows_total'))})", "{{version}}")],
            unit="cps",
            size=(7, 8),
        ),
        table(
            "TLS since the start",
            "Connections found to be encrypted, by what the handshake shows, and those of them that are being "
            "watched now.",
            [
                Query(f"sum by (version, cipher) ({monitor('tls_flows_total')})"),
                Query(f"sum by (version, cipher) ({monitor('tls_flows_active')})"),
            ],
            [
                Column("version", "Version", width=90),
                Column("cipher", "Cipher"),
                Column("Value #A", "In all", width=80),
                Column("Value #B", "Now", width=70),
            ],
            sort_by="In all",
            descending=True,
            size=(10, 8),
        ),
        table(
            "Certificates that servers showed",
            "In handshakes of TLS 1.2; TLS 1.3 shows none. Of the hundred servers that showed one last.",
            [Query(f"min by (server) ({monitor('tls_certificate_not_after_timestamp_seconds')}) - time()")],
            [
                Column("server", "Server"),
                Column("Value", "Valid for", unit="s", thresholds=SECONDS_LEFT, width=120),
            ],
            sort_by="Valid for",
            size=(7, 8),
        ),
    ]


def _capture() -> list[Json]:
    return [
        row("Does it see everything?"),
        timeline(
            "Capture by interface",
            "Whether packets of each interface can be captured. One that is down is tried again each second.",
            [Query(f"min by (instance, interface) ({monitor('capture_up')})", "{{interface}} ({{instance}})")],
            mappings=UP_OR_DOWN,
            size=(8, 7),
        ),
        timeseries(
            "Packets",
            "Packets that the kernel's filter let through, per second.",
            [Query(f"sum by (instance, interface) ({rate(monitor('packets_total'))})", "{{interface}} ({{instance}})")],
            unit="pps",
            size=(8, 7),
        ),
        timeseries(
            "Packets dropped",
            "Packets that the kernel dropped because they were not fetched in time, per second. Zero is as it should "
            "be.",
            [
                Query(
                    f"sum by (instance, interface) ({rate(monitor('packets_dropped_total'))})",
                    "{{interface}} ({{instance}})",
                )
            ],
            unit="pps",
            size=(8, 7),
        ),
        timeseries(
            "Watched no longer",
            "Connections that are watched no longer though they have not ended, per second, by reason: idle, or "
            "given up for others.",
            [Query(f"sum by (reason) ({rate(monitor('flows_evicted_total'))})", "{{reason}}")],
            unit="cps",
            size=(8, 7),
        ),
        timeseries(
            "Work that was saved",
            "Directions of connections whose verdict stands, whose packets are passed over; and how often per second "
            "the kernel was given another filter for it.",
            [
                Query(f"sum({monitor('settled_directions')})", "directions passed over"),
                Query(f"sum({rate(monitor('kernel_filter_updates_total'))})", "filter updates per second"),
            ],
            size=(8, 7),
        ),
        timeseries(
            "Not read, not written, kept out",
            "Per second: packets that could not be read, packets lost to a defect of the monitor (each is in the "
            "log), lines of the log that its bound kept back, and floods of openings that began.",
            [
                Query(f"sum({rate(monitor('packets_malformed_total'))})", "packets malformed"),
                Query(f"sum({rate(monitor('packet_errors_total'))})", "packets lost to a defect"),
                Query(f"sum({rate(monitor('log_lines_suppressed_total'))})", "log lines kept back"),
                Query(f"sum({rate(monitor('floods_total'))})", "floods"),
                Query(f"sum({rate(monitor('endpoint_tls_refusals_total'))})", "scrapers refused"),
            ],
            unit="cps",
            size=(8, 7),
        ),
    ]
