"""Is every replica encrypted? By whom, with what, until when: the dashboard to begin with."""

from grafana.boards.common import AGE_COLUMNS, routes, seconds_left
from grafana.frame import dashboard
from grafana.panels import Column, Query, row, stat, table, timeline, timeseries
from grafana.queries import monitor, proxy, rate
from grafana.style import (
    BAD,
    BAD_FROM_ONE,
    CONNECTED,
    GOOD,
    GOOD_FROM_ONE,
    GREY,
    NONE_AT_ZERO,
    SECONDS_LEFT,
    UP_OR_DOWN,
    VERMILION,
    WARNING_FROM_ONE,
    Json,
    values,
)

_CONNECTED = proxy("replica_connected")
# Who an observing route let in without a line on the roster is nobody to wait for.
_LISTED = proxy("replica_connected", 'replica!="unlisted"')
_STREAM = "job, instance, route, replica"
_WITH_TLS = proxy("replica_legs", 'version!="plaintext"')


def board() -> Json:
    """The dashboard."""
    return dashboard(
        "binlock-overview",
        "Binlock: is replication encrypted?",
        "Whether every replica is connected and encrypted, by which protocol and cipher, until when its certificate "
        "lasts, and whether the monitor sees any replication in the clear.",
        [*_answers(), *_replicas(), *_wire()],
        known_by='{__name__=~"binlock_(proxy|monitor)_build_info"}',
        has_routes=True,
    )


def _answers() -> list[Json]:
    return [
        stat(
            "Replication in the clear",
            "Connections on which a replica reads a source's binlog unencrypted, as the monitors see them now. "
            "Anything but none is what Binlock is there to prevent.",
            [Query(f"sum({monitor('plaintext_replication_active')})")],
            thresholds=BAD_FROM_ONE,
            mappings=NONE_AT_ZERO,
        ),
        stat(
            "Replicas without TLS",
            "Roster entries that have a stream through a proxy of which no leg is protected by TLS.",
            [Query(f"count(({_CONNECTED} > 0) unless on ({_STREAM}) ({_WITH_TLS} > 0)) or vector(0)")],
            thresholds=BAD_FROM_ONE,
            mappings=NONE_AT_ZERO,
        ),
        stat(
            "Replicas connected",
            "Roster entries of the proxies that have at least one running stream.",
            [Query(f"sum({_CONNECTED} > bool 0)")],
            thresholds=GOOD_FROM_ONE,
        ),
        stat(
            "Replicas missing",
            "Roster entries that have no running stream. One that is meant for later counts as well.",
            [Query(f"sum({_LISTED} == bool 0)")],
            thresholds=WARNING_FROM_ONE,
            mappings=NONE_AT_ZERO,
        ),
        stat(
            "Certificate ends in",
            "The least time left of any certificate or authority that a proxy is configured with, or that was shown "
            "on the last stream of a replica.",
            [
                Query(
                    "min({} or {}) - time()".format(
                        proxy("certificate_not_after_timestamp_seconds"),
                        proxy("peer_certificate_not_after_timestamp_seconds"),
                    )
                )
            ],
            unit="s",
            thresholds=SECONDS_LEFT,
        ),
        stat(
            "Monitors' capture",
            "Down if any interface of any monitor cannot be captured: then nothing above can be said of it.",
            [Query(f"min({monitor('capture_up')})")],
            thresholds=GOOD_FROM_ONE,
            mappings=UP_OR_DOWN,
        ),
    ]


def _leg(leg: str) -> Query:
    """What protects a leg of each running stream, as one label, so that a table has it in one column."""
    joined = f'label_join({proxy("replica_legs", leg=leg)} > 0, "{leg}_leg", " ", "version", "cipher", "group")'
    return Query(f"max by (route, replica, {leg}_leg) ({joined})")


def _replicas() -> list[Json]:
    key = "route, replica"
    return [
        row("Replicas"),
        table(
            "Every replica, and what protects it",
            "A row for each roster entry. A leg shows its TLS version, cipher and group; plaintext is a leg on "
            "loopback or a unix socket, unless the configuration says otherwise with an unsafe_ option. Valid for: "
            "the least time left of the certificates that were shown on its last stream. Delivery lag: how old the "
            "last event was when it was sent.",
            [
                Query(f"max by ({key}) ({_CONNECTED})"),
                _leg("replica"),
                _leg("source"),
                Query(f"min by ({key}) ({proxy('peer_certificate_not_after_timestamp_seconds')}) - time()"),
                Query(f"max by ({key}) ({proxy('replica_delivery_lag_seconds')})"),
                Query(f"time() - max by ({key}) ({proxy('replica_last_activity_timestamp_seconds')})"),
            ],
            [
                Column("route", "Route", width=110),
                Column("replica", "Replica", width=150),
                Column("Value #A", "Stream", mappings=CONNECTED, width=110),
                Column("replica_leg", "Leg to the replica"),
                Column("source_leg", "Leg to the source"),
                Column("Value #D", "Valid for", unit="s", thresholds=SECONDS_LEFT, width=120),
                Column("Value #E", "Delivery lag", unit="s", width=110),
                Column("Value #F", "Last sent", unit="s", width=100),
            ],
            sort_by="Replica",
            hidden=["Value #B", "Value #C"],
            size=(24, 7),
        ),
        routes((24, 5)),
        timeline(
            "Streams over time",
            "Whether each roster entry has a running stream.",
            [Query(f"max by (route, replica) ({_CONNECTED})", "{{replica}} ({{route}})")],
            mappings=CONNECTED,
        ),
        table(
            "Running streams, by what protects them",
            "Legs of running streams by TLS version, cipher and key exchange group. X25519MLKEM768 is the one that a "
            "later quantum computer does not undo.",
            [Query(f"sum by (leg, version, cipher, group) ({proxy('replica_legs')} > 0)")],
            [
                Column("leg", "Leg", width=90),
                Column("version", "Version", mappings=values({"plaintext": ("plaintext", GREY)}), width=110),
                Column("cipher", "Cipher"),
                Column("group", "Group", width=150),
                Column("Value", "Legs", width=70),
            ],
            sort_by="Leg",
            size=(12, 6),
        ),
        timeseries(
            "Refused, by reason",
            "Sessions that proxies refused, per second, by reason; the proxy's own dashboard has the stages.",
            [Query(f"sum by (reason) ({rate(proxy('refusals_total'))}) > 0", "{{reason}}")],
            unit="cps",
            draws_bars=True,
            is_stacked=True,
            size=(12, 8),
        ),
        table(
            "Certificates that end first",
            "Certificates and authorities that proxies are configured with, and how long they last.",
            [
                Query(f"min by (route, role) ({proxy('certificate_not_after_timestamp_seconds')}) * 1000"),
                Query(seconds_left(f"min by (route, role) ({proxy('certificate_not_after_timestamp_seconds')})")),
            ],
            [Column("route", "Route", width=110), Column("role", "Certificate"), *AGE_COLUMNS],
            sort_by="Left",
            size=(12, 8),
        ),
    ]


def _wire() -> list[Json]:
    return [
        row("On the wire, as the monitors see it"),
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
        timeseries(
            "Connections, by verdict",
            "What is being watched now: encrypted, replication in the clear, clients in the clear, something else, "
            "or too little seen to say.",
            [Query(f"sum by (verdict) ({monitor('flows_active')})", "{{verdict}}")],
            is_stacked=True,
            is_stepped=True,
            size=(12, 8),
        ),
        table(
            "TLS that is seen now",
            "Encrypted connections that are being watched, by version and cipher; unknown where the handshake was "
            "not seen.",
            [Query(f"sum by (version, cipher) ({monitor('tls_flows_active')}) > 0")],
            [
                Column("version", "Version", mappings=_WEAK_VERSIONS, width=110),
                Column("cipher", "Cipher"),
                Column("Value", "Connections", width=120),
            ],
            sort_by="Connections",
            descending=True,
            size=(12, 7),
        ),
        table(
            "Certificates that servers showed",
            "What servers showed in handshakes of TLS 1.2; TLS 1.3 shows none.",
            [
                Query(f"min by (server) ({monitor('tls_certificate_not_after_timestamp_seconds')}) * 1000"),
                Query(seconds_left(f"min by (server) ({monitor('tls_certificate_not_after_timestamp_seconds')})")),
            ],
            [Column("server", "Server"), *AGE_COLUMNS],
            sort_by="Left",
            size=(12, 7),
        ),
    ]


_WEAK_VERSIONS = values(
    {
        "SSLv3": ("SSLv3: weak", BAD),
        "TLSv1": ("TLSv1: weak", BAD),
        "TLSv1.1": ("TLSv1.1: weak", BAD),
        "TLSv1.2": ("TLSv1.2", GOOD),
        "TLSv1.3": ("TLSv1.3", GOOD),
    }
)
