"""Every metric of the proxy, in one registry. Labels are bounded: routes, roster names, enumerations; never a peer."""

from __future__ import annotations

import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from proxy.configuration.material import TlsMaterial
from proxy.openssl import Negotiated, linked_openssl
from proxy.outcomes import ENDINGS, OBJECTIONS, REFUSALS
from proxy.reporting.replica_metrics import ReplicaMetrics
from proxy.site import Route, Site
from wire.commands import Command

# The values that labels can have; docs/metrics.md shows them.
DIRECTIONS = ("source_to_replica", "replica_to_source")
LEGS = ("replica", "source")
OUTCOMES = ("refused", "ended")
DECISIONS = ("admitted", "refused", "would_refuse")
RELOADS = ("success", "failure")
# Others show once they have been seen: there are three dozen, and a replica sends these.
COMMANDS_OF_REPLICAS = (
    Command.COM_QUERY,
    Command.COM_REGISTER_SLAVE,
    Command.COM_BINLOG_DUMP,
    Command.COM_BINLOG_DUMP_GTID,
    Command.COM_PING,
    Command.COM_QUIT,
)
# A full mutual handshake takes some milliseconds of CPU; the rest is round trips.
_ACK_BUCKETS_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_HANDSHAKE_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """What the proxy counts. One instance a process; tests make their own."""

    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        prefix = "binlock_proxy"
        self.build_info = Gauge(
            f"{prefix}_build_info",
            "Version of Binlock and of the OpenSSL in it; always 1.",
            ["version", "openssl"],
            registry=self.registry,
        )
        self.build_info.labels(version, linked_openssl()).set(1)
        self.route_info = Gauge(
            f"{prefix}_route_info",
            "What the configuration says of a route; always 1. mode is enforce or observe; legs are tls or plaintext.",
            ["route", "listen", "source", "policy", "mode", "replica_leg", "source_leg"],
            registry=self.registry,
        )
        self.sessions_active = Gauge(
            f"{prefix}_sessions_active",
            "Open sessions, from accept to close.",
            ["route"],
            registry=self.registry,
        )
        self.sessions = Counter(
            f"{prefix}_sessions",
            "Sessions that are over, by outcome.",
            ["route", "outcome"],
            registry=self.registry,
        )
        self.refusals = Counter(
            f"{prefix}_refusals",
            "Sessions refused, by stage and reason; nearly all of them before their login was complete.",
            ["route", "stage", "reason"],
            registry=self.registry,
        )
        self.sessions_ended = Counter(
            f"{prefix}_sessions_ended",
            "Sessions that had logged in and are over, by reason.",
            ["route", "reason"],
            registry=self.registry,
        )
        self.commands = Counter(
            f"{prefix}_commands",
            "Commands before the dump, by the policy's decision: admitted, refused (answered in the source's place), "
            "would_refuse (let through in observe mode).",
            ["route", "command", "decision"],
            registry=self.registry,
        )
        self.tls_handshakes = Counter(
            f"{prefix}_tls_handshakes",
            "TLS handshakes that succeeded, by what was agreed upon; those that failed are refusals.",
            ["route", "leg", "version", "cipher", "group"],
            registry=self.registry,
        )
        self.tls_handshake_seconds = Histogram(
            f"{prefix}_tls_handshake_seconds",
            "From the request for TLS to the end of the handshake.",
            ["route", "leg"],
            buckets=_HANDSHAKE_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self.relayed_bytes = Counter(
            f"{prefix}_relayed_bytes",
            "Bytes of the MySQL protocol that were passed on behind the login, without TLS.",
            ["route", "direction"],
            registry=self.registry,
        )
        self.would_refuse = Counter(
            f"{prefix}_would_refuse",
            "What observe mode let pass, by stage and reason; a session can count more than once.",
            ["route", "stage", "reason"],
            registry=self.registry,
        )
        self.semisync_ack_seconds = Histogram(
            f"{prefix}_semisync_ack_seconds",
            "From the event that asks for an acknowledgement to the acknowledgement, seen here.",
            ["route"],
            buckets=_ACK_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self.replicas = ReplicaMetrics(prefix, self.registry)
        self.config_reloads = Counter(
            f"{prefix}_config_reloads",
            "Configurations that were read, the first one among them, by whether they came into force.",
            ["result"],
            registry=self.registry,
        )
        for result in RELOADS:
            self.config_reloads.labels(result)
        self.config_last_reload_success = Gauge(
            f"{prefix}_config_last_reload_success",
            "1 while the configuration that was read last is the one that runs; 0 where it could not come into force.",
            registry=self.registry,
        )
        self.config_last_reload_timestamp = Gauge(
            f"{prefix}_config_last_reload_success_timestamp_seconds",
            "When the configuration that runs was read.",
            registry=self.registry,
        )
        self.admin_tls_refusals = Counter(
            f"{prefix}_admin_tls_refusals",
            "TLS handshakes of the admin endpoint that failed; 0 where it has no TLS.",
            registry=self.registry,
        )
        self.certificate_not_after = Gauge(
            f"{prefix}_certificate_not_after_timestamp_seconds",
            "When a configured certificate expires.",
            ["route", "role"],
            registry=self.registry,
        )
        self.certificate_not_before = Gauge(
            f"{prefix}_certificate_not_before_timestamp_seconds",
            "When a configured certificate became valid: with its end, how long it was made for.",
            ["route", "role"],
            registry=self.registry,
        )
        self.crl_next_update = Gauge(
            f"{prefix}_crl_next_update_timestamp_seconds",
            "When a configured CRL must have been renewed.",
            ["route", "issuer"],
            registry=self.registry,
        )
        self.crl_last_update = Gauge(
            f"{prefix}_crl_last_update_timestamp_seconds",
            "When a configured CRL was made.",
            ["route", "issuer"],
            registry=self.registry,
        )

    def describe_site(self, site: Site) -> None:
        """Makes every label set that is known beforehand exist, so that rates and absences can be told apart.

        Called for each configuration that comes into force; what it no longer has is dropped where it would mislead.
        """
        for gauge in (
            self.route_info,
            self.certificate_not_after,
            self.certificate_not_before,
            self.crl_next_update,
            self.crl_last_update,
        ):
            gauge.clear()
        self.replicas.describe_rosters(site)
        for route in site.routes:
            self._describe_route(route)
            for leg, material in route.materials.items():
                self.tls_handshake_seconds.labels(route.name, leg)
                self._describe_material(route.name, f"{leg}_leg", material)
        if site.admin is not None:
            # What no route can be called, so that it stands beside them and shows in the same alerts.
            self._describe_material("[admin]", "admin", site.admin.material)

    def _describe_route(self, route: Route) -> None:
        name = route.name
        self.route_info.labels(
            name,
            str(route.listen),
            str(route.source),
            route.policy.name,
            "enforce" if route.enforce else "observe",
            *("tls" if leg in route.materials else "plaintext" for leg in LEGS),
        ).set(1)
        self.sessions_active.labels(name)
        self.semisync_ack_seconds.labels(name)
        for outcome in OUTCOMES:
            self.sessions.labels(name, outcome)
        for counter, reasons_by_stage in ((self.refusals, REFUSALS), (self.would_refuse, OBJECTIONS)):
            for stage, reasons in reasons_by_stage.items():
                for reason in reasons:
                    counter.labels(name, stage.value, reason.value)
        for reason in ENDINGS:
            self.sessions_ended.labels(name, reason.value)
        for command in COMMANDS_OF_REPLICAS:
            for decision in DECISIONS:
                self.commands.labels(name, command.name, decision)
        for direction in DIRECTIONS:
            self.relayed_bytes.labels(name, direction)

    def _describe_material(self, route: str, role: str, material: TlsMaterial) -> None:
        last = max(material.anchors, key=lambda anchor: anchor.not_valid_after_utc)
        for labels, certificate in (((route, role), material.certificate), ((route, f"{role}_ca"), last)):
            if certificate is not None:
                self.certificate_not_after.labels(*labels).set(certificate.not_valid_after_utc.timestamp())
                self.certificate_not_before.labels(*labels).set(certificate.not_valid_before_utc.timestamp())
        for crl in material.crls:
            if crl.next_update_utc is not None:
                labels = (route, crl.issuer.rfc4514_string())
                self.crl_next_update.labels(*labels).set(crl.next_update_utc.timestamp())
                self.crl_last_update.labels(*labels).set(crl.last_update_utc.timestamp())

    def note_reload(self, *, is_success: bool) -> None:
        """Counts a configuration that came into force, or did not."""
        self.config_reloads.labels("success" if is_success else "failure").inc()
        self.config_last_reload_success.set(int(is_success))
        if is_success:
            self.config_last_reload_timestamp.set(time.time())

    def count_handshake(self, route: str, leg: str, negotiated: Negotiated) -> None:
        """Counts a handshake that succeeded."""
        self.tls_handshakes.labels(route, leg, negotiated.version, negotiated.cipher, negotiated.group).inc()
        self.tls_handshake_seconds.labels(route, leg).observe(negotiated.seconds)
