"""One proxy, or a few: its sessions, what it refused, the handshakes, the streams, and the process."""

from grafana.boards.common import process_row, routes
from grafana.frame import dashboard
from grafana.panels import Column, Query, row, stat, table, timeline, timeseries
from grafana.queries import in_range, proxy, proxy_wide, quantile, rate
from grafana.style import (
    CONNECTED,
    EVENT_TYPES,
    GOOD_FROM_ONE,
    NONE_AT_ZERO,
    WARNING_FROM_ONE,
    YES_OR_NO,
    Json,
)

_BUILD = proxy_wide("build_info")
_REPLICA = "{{replica}} ({{route}})"


def board() -> Json:
    """The dashboard."""
    return dashboard(
        "binlock-proxy",
        "Binlock: proxy",
        "Sessions of the proxy from accept to close: how many, which were refused at which stage and why, "
        "handshakes, commands, where each replica's stream stands, configuration reloads, and the process.",
        [*_now(), *_sessions(), *_tls(), *_streams(), *_commits(), *process_row(_BUILD)],
        known_by="binlock_proxy_build_info",
        has_routes=True,
    )


def _now() -> list[Json]:
    return [
        stat(
            "Sessions now",
            "Open sessions, from accept to close.",
            [Query(f"sum({proxy('sessions_active')})")],
        ),
        stat(
            "Streams now",
            "Sessions whose dump is running.",
            [Query(f"sum({proxy('replica_connected')})")],
            thresholds=GOOD_FROM_ONE,
        ),
        stat(
            "Refused",
            "Sessions refused within the time shown. Counts of sessions are extrapolated, and rounded here.",
            [Query(f"round(sum({in_range(proxy('refusals_total'))}))")],
            thresholds=WARNING_FROM_ONE,
            mappings=NONE_AT_ZERO,
            decimals=0,
        ),
        stat(
            "Configuration in force",
            "Whether the configuration on disk is the one that runs. After a reload that failed the old one runs on.",
            [Query(f"min({proxy_wide('config_last_reload_success')})")],
            thresholds=GOOD_FROM_ONE,
            mappings=YES_OR_NO,
        ),
        stat(
            "Configuration read",
            "When the configuration that runs was read.",
            [Query(f"max({proxy_wide('config_last_reload_success_timestamp_seconds')}) * 1000")],
            unit="dateTimeFromNow",
        ),
        stat(
            "Version",
            "Versions of Binlock and of the OpenSSL in it.",
            [Query(f"count by (version, openssl) ({_BUILD})", "{{version}}, {{openssl}}")],
            shows_name=True,
        ),
    ]


def _sessions() -> list[Json]:
    return [
        row("Sessions"),
        timeseries(
            "Open sessions",
            "Open sessions by route, from accept to close.",
            [Query(f"sum by (route) ({proxy('sessions_active')})", "{{route}}")],
            is_stepped=True,
        ),
        timeseries(
            "Sessions over",
            "Sessions that ended, per second, by how: refused before the dump, or ended after it.",
            [Query(f"sum by (outcome) ({rate(proxy('sessions_total'))})", "{{outcome}}")],
            unit="cps",
        ),
        timeseries(
            "Refused, by stage and reason",
            "Sessions refused, per second. A replica that is refused tries again each minute, so a misconfigured one "
            "is a low steady line.",
            [Query(f"sum by (stage, reason) ({rate(proxy('refusals_total'))}) > 0", "{{stage}}: {{reason}}")],
            unit="cps",
            draws_bars=True,
            is_stacked=True,
        ),
        table(
            "Refused within the time shown",
            "Sessions refused, by stage and reason. What the replica was told is in docs/refusals.md.",
            [Query(f"round(sum by (route, stage, reason) ({in_range(proxy('refusals_total'))})) > 0")],
            [
                Column("route", "Route", width=100),
                Column("stage", "Stage", width=120),
                Column("reason", "Reason"),
                Column("Value", "Sessions", width=90),
            ],
            sort_by="Sessions",
            descending=True,
            size=(8, 8),
        ),
        table(
            "Ended within the time shown",
            "Authenticated sessions that are over, by reason. closed: one side left in order; key_limit and max_age: "
            "recycled, the replica resumes at once.",
            [Query(f"round(sum by (route, reason) ({in_range(proxy('sessions_ended_total'))})) > 0")],
            [
                Column("route", "Route", width=100),
                Column("reason", "Reason"),
                Column("Value", "Sessions", width=90),
            ],
            sort_by="Sessions",
            descending=True,
            size=(8, 8),
        ),
        table(
            "Let pass since the start",
            "What would have been refused with enforce = true, by stage and reason, since the proxy started.",
            [Query(f"sum by (route, stage, reason) ({proxy('would_refuse_total')}) > 0")],
            [
                Column("route", "Route", width=100),
                Column("stage", "Stage", width=120),
                Column("reason", "Reason"),
                Column("Value", "Times", width=90),
            ],
            sort_by="Times",
            descending=True,
            size=(8, 8),
        ),
    ]


def _tls() -> list[Json]:
    return [
        row("TLS"),
        timeseries(
            "Handshakes",
            "TLS handshakes that succeeded, per second, by leg and version.",
            [Query(f"sum by (leg, version) ({rate(proxy('tls_handshakes_total'))})", "{{leg}} leg, {{version}}")],
            unit="cps",
            size=(6, 8),
        ),
        timeseries(
            "Handshake time",
            "From the request for TLS to the end of the handshake, in which both sides compute and the network goes "
            "to and fro: half of the handshakes took less than the lowest line.",
            [
                Query(quantile("0.5", proxy("tls_handshake_seconds_bucket")), "half"),
                Query(quantile("0.95", proxy("tls_handshake_seconds_bucket")), "95 %"),
                Query(quantile("0.99", proxy("tls_handshake_seconds_bucket")), "99 %"),
            ],
            unit="s",
            size=(6, 8),
        ),
        table(
            "Handshakes since the start",
            "TLS handshakes that succeeded, by leg, version, cipher and key exchange group, since the proxy started.",
            [Query(f"sum by (leg, version, cipher, group) ({proxy('tls_handshakes_total')})")],
            [
                Column("leg", "Leg", width=80),
                Column("version", "Version", width=90),
                Column("cipher", "Cipher"),
                Column("group", "Group", width=150),
                Column("Value", "Number", width=80),
            ],
            sort_by="Number",
            descending=True,
            size=(12, 8),
        ),
    ]


def _streams() -> list[Json]:
    key = "route, replica"
    return [
        row("Streams"),
        table(
            "Where each replica's stream stands",
            "The binlog file and position behind the last event that was sent: what the replica has read, not "
            "applied. Last event: when the source made it; it grows old on an idle source, too. Last sent: anything, "
            "heartbeats included. Streams begun: in the time that is shown; a replica that stays needs one.",
            [
                Query(f"max by ({key}) ({proxy('replica_connected')})"),
                Query(f"max by ({key}) ({proxy('replica_binlog_file_number')})"),
                Query(f"max by ({key}) ({proxy('replica_binlog_position_bytes')})"),
                Query(f"max by ({key}) ({proxy('replica_last_event_type')})"),
                Query(f"time() - max by ({key}) ({proxy('replica_last_event_timestamp_seconds')})"),
                Query(f"time() - max by ({key}) ({proxy('replica_last_activity_timestamp_seconds')})"),
                Query(f"max by ({key}) ({proxy('replica_delivery_lag_seconds')})"),
                Query(f"round(sum by ({key}) ({in_range(proxy('replica_streams_total'))}))"),
            ],
            [
                Column("route", "Route", width=110),
                Column("replica", "Replica"),
                Column("Value #A", "Stream", mappings=CONNECTED, width=110),
                Column("Value #B", "File number", unit="none", width=110),
                Column("Value #C", "Position", unit="none", width=120),
                Column("Value #D", "Last event's type", mappings=EVENT_TYPES),
                Column("Value #E", "Last event", unit="s", width=110),
                Column("Value #F", "Last sent", unit="s", width=110),
                Column("Value #G", "Delivery lag", unit="s", width=120),
                Column("Value #H", "Streams begun", unit="none", width=130),
            ],
            sort_by="Replica",
            size=(24, 7),
        ),
        timeseries(
            "Delivery lag",
            "How old the last event was when it was sent: a replica that catches up, or a slow network. The clocks' "
            "difference is in it.",
            [Query(f"max by ({key}) ({proxy('replica_delivery_lag_seconds')})", _REPLICA)],
            unit="s",
        ),
        timeseries(
            "Events",
            "Events sent, per second, heartbeats included.",
            [Query(f"sum by ({key}) ({rate(proxy('replica_events_total'))})", _REPLICA)],
            unit="cps",
        ),
        timeseries(
            "Bytes",
            "Bytes of the MySQL protocol after the login, per second.",
            [
                Query(
                    f"sum({rate(proxy('relayed_bytes_total', direction='source_to_replica'))})",
                    "to the replica",
                ),
                Query(
                    f"sum({rate(proxy('relayed_bytes_total', direction='replica_to_source'))})",
                    "to the source",
                ),
            ],
            unit="Bps",
        ),
        timeseries(
            "Nothing sent since",
            "How long nothing was sent, heartbeats included. A line that climbs beyond a heartbeat period or two is "
            "a stream that stalls.",
            [Query(f"time() - max by ({key}) ({proxy('replica_last_activity_timestamp_seconds')})", _REPLICA)],
            unit="s",
        ),
        timeseries(
            "Position",
            "Position in the binlog file; it falls back when a new file begins. Two replicas of one source run "
            "together.",
            [Query(f"max by ({key}) ({proxy('replica_binlog_position_bytes')})", _REPLICA)],
            unit="bytes",
        ),
        timeline(
            "Connected",
            "Whether each roster entry has a running stream.",
            [Query(f"max by ({key}) ({proxy('replica_connected')})", _REPLICA)],
            mappings=CONNECTED,
            size=(8, 8),
        ),
    ]


def _commits() -> list[Json]:
    return [
        row("Commands and commits"),
        timeseries(
            "Commands, by decision",
            "Commands before the dump, per second: admitted, refused (answered in the source's place), or let "
            "through by observe mode.",
            [Query(f"sum by (decision) ({rate(proxy('commands_total'))})", "{{decision}}")],
            unit="cps",
        ),
        timeseries(
            "Semi-synchronous acknowledgements",
            "Commits that replicas acknowledged, per second.",
            [Query(f"sum by (route) ({rate(proxy('semisync_ack_seconds_count'))})", "{{route}}")],
            unit="cps",
        ),
        timeseries(
            "Time to the acknowledgement",
            "From the event that asks for an acknowledgement to the acknowledgement, seen at the proxy: what the "
            "network and the replica add to a commit.",
            [
                Query(quantile("0.5", proxy("semisync_ack_seconds_bucket")), "half"),
                Query(quantile("0.95", proxy("semisync_ack_seconds_bucket")), "95 %"),
                Query(quantile("0.99", proxy("semisync_ack_seconds_bucket")), "99 %"),
            ],
            unit="s",
        ),
        row("Configuration"),
        routes((24, 5)),
        timeline(
            "Configuration in force over time",
            "Whether the configuration on disk is the one that runs.",
            [Query(f"min by (instance) ({proxy_wide('config_last_reload_success')})", "{{instance}}")],
            mappings=YES_OR_NO,
            size=(12, 7),
        ),
        timeseries(
            "Configurations read, scrapers refused",
            "Configurations that were read, per second, by whether they came into force; and TLS handshakes that "
            "failed at the proxy's own endpoint.",
            [
                Query(f"sum by (result) ({rate(proxy_wide('config_reloads_total'))})", "read: {{result}}"),
                Query(f"sum({rate(proxy_wide('admin_tls_refusals_total'))})", "scrapers refused"),
            ],
            unit="cps",
            size=(12, 7),
        ),
    ]
