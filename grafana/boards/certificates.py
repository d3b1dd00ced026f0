"""What expires when: certificates, authorities and CRLs of proxies, and what servers and replicas showed."""

from grafana.boards.common import AGE_COLUMNS, seconds_left
from grafana.frame import dashboard
from grafana.panels import Column, Query, row, stat, table, timeseries
from grafana.queries import monitor, proxy, rate
from grafana.style import BAD_FROM_ONE, DAY_SECONDS, NONE_AT_ZERO, SECONDS_LEFT, WARNING_FROM_ONE, Json

_OF_PROXIES = proxy("certificate_not_after_timestamp_seconds")
# With those that monitors' own endpoints show, if they have TLS.
_CONFIGURED = f"({_OF_PROXIES} or {monitor('certificate_not_after_timestamp_seconds')})"
_SHOWN_TO_PROXIES = proxy("peer_certificate_not_after_timestamp_seconds")
_CRLS = proxy("crl_next_update_timestamp_seconds")
_BEGUN = proxy("certificate_not_before_timestamp_seconds")
_SHOWN_BEGUN = proxy("peer_certificate_not_before_timestamp_seconds")
_CRLS_MADE = proxy("crl_last_update_timestamp_seconds")
_SHOWN_ON_THE_WIRE = monitor("tls_certificate_not_after_timestamp_seconds")
_MADE_FOR = Column("Value #C", "Made for", unit="s", width=90)
_EVERY = f"({_CONFIGURED} or {_SHOWN_TO_PROXIES} or {_CRLS} or {_SHOWN_ON_THE_WIRE})"
_OF_TRUST = 'reason=~"(source_)?(certificate_)?(expired|revoked|untrusted)|crl_unusable|certificate_(missing|refused)"'


def board() -> Json:
    """The dashboard."""
    return dashboard(
        "binlock-certificates",
        "Binlock: certificates",
        "What expires when: certificates, authorities and CRLs of proxies, certificates shown to proxies and on the "
        "wire.",
        [*_now(), *_calendar(), *_history()],
        known_by='{__name__=~"binlock_(proxy|monitor)_build_info"}',
        has_routes=True,
        since="now-7d",
    )


def _now() -> list[Json]:
    def ends_within(days: int) -> Query:
        return Query(f"sum({_EVERY} - time() < bool {days * DAY_SECONDS})")

    return [
        stat(
            "Certificate ends in",
            "The least time left of any certificate or authority that a proxy or a monitor is configured with.",
            [Query(f"min({_CONFIGURED}) - time()")],
            unit="s",
            thresholds=SECONDS_LEFT,
        ),
        stat(
            "CRL is due in",
            "The least time until a CRL must have been renewed. Once one is overdue, nobody is let in whom it would "
            "have to vouch for.",
            [Query(f"min({_CRLS}) - time()")],
            unit="s",
            thresholds=SECONDS_LEFT,
        ),
        stat(
            "Peer's ends in",
            "The least time left of any certificate that was shown to a proxy on the last stream of a replica.",
            [Query(f"min({_SHOWN_TO_PROXIES}) - time()")],
            unit="s",
            thresholds=SECONDS_LEFT,
        ),
        stat(
            "Expired",
            "Certificates, authorities and CRLs of all kinds that are past their time.",
            [ends_within(0)],
            thresholds=BAD_FROM_ONE,
            mappings=NONE_AT_ZERO,
        ),
        stat(
            "Within 7 days",
            "Certificates, authorities and CRLs of all kinds that end within a week, or have ended.",
            [ends_within(7)],
            thresholds=BAD_FROM_ONE,
            mappings=NONE_AT_ZERO,
        ),
        stat(
            "Within 30 days",
            "Certificates, authorities and CRLs of all kinds that end within 30 days, or have ended.",
            [ends_within(30)],
            thresholds=WARNING_FROM_ONE,
            mappings=NONE_AT_ZERO,
        ),
    ]


def _calendar() -> list[Json]:
    def until(labels: str, selector: str) -> list[Query]:
        least = f"min by ({labels}) ({selector})"
        return [Query(f"{least} * 1000"), Query(seconds_left(least))]

    def made_for(labels: str, end: str, begin: str) -> Query:
        return Query(f"min by ({labels}) ({end} - {begin})")

    return [
        row("Calendar"),
        table(
            "Configured certificates and authorities",
            "What each proxy shows on a leg, and for each leg the authority that lasts longest; and what the "
            "endpoints of proxies and monitors show, if they have TLS.",
            [*until("instance, route, role", _CONFIGURED), made_for("instance, route, role", _OF_PROXIES, _BEGUN)],
            [
                Column("instance", "Instance", width=130),
                Column("route", "Route", width=90),
                Column("role", "Certificate"),
                *AGE_COLUMNS,
                _MADE_FOR,
            ],
            sort_by="Left",
            size=(12, 7),
        ),
        table(
            "CRLs of proxies",
            "When each must have been renewed. `binlock-certs crl --if-due` from a timer does that.",
            [*until("instance, route, issuer", _CRLS), made_for("instance, route, issuer", _CRLS, _CRLS_MADE)],
            [
                Column("instance", "Proxy", width=130),
                Column("route", "Route", width=90),
                Column("issuer", "Issuer"),
                *AGE_COLUMNS,
                _MADE_FOR,
            ],
            sort_by="Left",
            size=(12, 7),
        ),
        table(
            "Certificates shown to proxies",
            "What replicas showed on their leg, and sources on theirs, on the last stream of each roster entry; of a "
            "chain the first to expire.",
            [
                *until("route, replica, leg", _SHOWN_TO_PROXIES),
                made_for("route, replica, leg", _SHOWN_TO_PROXIES, _SHOWN_BEGUN),
            ],
            [
                Column("route", "Route", width=90),
                Column("replica", "Replica"),
                Column("leg", "Shown by the", width=100),
                *AGE_COLUMNS,
                _MADE_FOR,
            ],
            sort_by="Left",
            size=(12, 7),
        ),
        table(
            "Certificates that servers showed on the wire",
            "As the monitors saw them in handshakes of TLS 1.2, behind Binlock or not; TLS 1.3 shows none.",
            until("instance, server", _SHOWN_ON_THE_WIRE),
            [Column("instance", "Monitor"), Column("server", "Server"), *AGE_COLUMNS],
            sort_by="Left",
            size=(12, 7),
        ),
    ]


def _history() -> list[Json]:
    return [
        row("Over time"),
        timeseries(
            "Time left of certificates",
            "Each line falls by a second a second and jumps up when the certificate is renewed.",
            [Query(f"min by (route, role) ({_CONFIGURED}) - time()", "{{role}} ({{route}})")],
            unit="s",
            least=None,
            thresholds=SECONDS_LEFT,
        ),
        timeseries(
            "Time left of CRLs",
            "A saw: each line falls by a second a second and jumps up when the list is renewed.",
            [Query(f"min by (route, issuer) ({_CRLS}) - time()", "{{issuer}} ({{route}})")],
            unit="s",
            least=None,
            thresholds=SECONDS_LEFT,
        ),
        timeseries(
            "Refused or ended over trust",
            "Sessions, per second, that were refused, or ended while they ran, because a certificate was missing, "
            "untrusted, expired or revoked, or a CRL was unusable.",
            [
                Query(f"sum by (reason) ({rate(proxy('refusals_total', _OF_TRUST))}) > 0", "refused: {{reason}}"),
                Query(f"sum by (reason) ({rate(proxy('sessions_ended_total', _OF_TRUST))}) > 0", "ended: {{reason}}"),
            ],
            unit="cps",
            draws_bars=True,
            is_stacked=True,
        ),
    ]
