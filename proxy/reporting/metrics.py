"""Every metric of the proxy, in one registry. Labels are bounded: routes, roster names, enumerations; never a peer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Set
from contextlib import contextmanager

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
from proxy.sessions import SessionRecord
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
        self._describe_streams(prefix)
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
        self.replica_connected = Gauge(
            f"{prefix}_replica_connected",
            "Streams of this roster entry whose dump is running.",
            ["route", "replica"],
            registry=self.registry,
        )
        self._describe_protection(prefix)
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
        self._rosters: set[tuple[str, str]] = set()
        self._off_roster: set[tuple[str, str]] = set()
        self._of_replicas = (
            self.replica_connected,
            self.replica_legs,
            self.peer_certificate_not_after,
            self.peer_certificate_not_before,
            self.replica_last_event,
            self.replica_last_event_type,
            self.replica_delivery_lag,
            self.replica_last_activity,
            self.replica_binlog_file_number,
            self.replica_binlog_position,
        )

    def _describe_protection(self, prefix: str) -> None:
        """What protects each replica's streams. Roster and allowlists bound the labels."""
        self.replica_legs = Gauge(
            f"{prefix}_replica_legs",
            "Legs of this roster entry's running streams, by what protects them; version is plaintext where nothing "
            "does.",
            ["route", "replica", "leg", "version", "cipher", "group"],
            registry=self.registry,
        )
        self.peer_certificate_not_after = Gauge(
            f"{prefix}_peer_certificate_not_after_timestamp_seconds",
            "When the certificate expires, or the first of its chain, that was shown on this leg of this roster "
            "entry's last stream.",
            ["route", "replica", "leg"],
            registry=self.registry,
        )
        self.peer_certificate_not_before = Gauge(
            f"{prefix}_peer_certificate_not_before_timestamp_seconds",
            "When the certificate of which binlock_proxy_peer_certificate_not_after_timestamp_seconds tells became "
            "valid.",
            ["route", "replica", "leg"],
            registry=self.registry,
        )

    @contextmanager
    def streaming(self, record: SessionRecord) -> Iterator[None]:
        """Counts the stream of a session, and what protects it, while the block runs."""
        owner = (record.route, record.replica)
        legs = {"replica": record.replica_tls, "source": record.source_tls}
        gauges = [self.replica_connected.labels(*owner)]
        for leg, tls in legs.items():
            protection = ("plaintext", "", "") if tls is None else (tls.version, tls.cipher, tls.group)
            gauges.append(self.replica_legs.labels(*owner, leg, *protection))
            if tls is not None and tls.peer_chain:
                first = min(tls.peer_chain, key=lambda certificate: certificate.not_valid_after_utc)
                self.peer_certificate_not_after.labels(*owner, leg).set(first.not_valid_after_utc.timestamp())
                self.peer_certificate_not_before.labels(*owner, leg).set(first.not_valid_before_utc.timestamp())
        for gauge in gauges:
            gauge.inc()
        try:
            yield
        finally:
            for gauge in gauges:
                gauge.dec()

    def _describe_streams(self, prefix: str) -> None:
        """What is known of each replica's stream, looked at some times a second."""
        labels = ["route", "replica"]
        self.replica_last_event = Gauge(
            f"{prefix}_replica_last_event_timestamp_seconds",
            "When the last event that this roster entry was sent was made, by the source's clock.",
            labels,
            registry=self.registry,
        )
        self.replica_last_event_type = Gauge(
            f"{prefix}_replica_last_event_type",
            "Type code of the last event that this roster entry was sent (Log_event_type); 27 and 41 are heartbeats.",
            labels,
            registry=self.registry,
        )
        self.replica_delivery_lag = Gauge(
            f"{prefix}_replica_delivery_lag_seconds",
            "How old the last event was when this roster entry was sent it; the two clocks' difference included.",
            labels,
            registry=self.registry,
        )
        self.replica_last_activity = Gauge(
            f"{prefix}_replica_last_activity_timestamp_seconds",
            "When this roster entry was last sent anything, heartbeats included.",
            labels,
            registry=self.registry,
        )
        self.replica_events = Counter(
            f"{prefix}_replica_events",
            "Events that this roster entry was sent, heartbeats included.",
            labels,
            registry=self.registry,
        )
        self.replica_binlog_file_number = Gauge(
            f"{prefix}_replica_binlog_file_number",
            "The digits at the end of the name of the binlog file that this roster entry is being sent.",
            labels,
            registry=self.registry,
        )
        self.replica_binlog_position = Gauge(
            f"{prefix}_replica_binlog_position_bytes",
            "Position behind the last event that this roster entry was sent: what it has read, not applied.",
            labels,
            registry=self.registry,
        )

    def note_stream(self, record: SessionRecord) -> None:
        """Takes over where the stream of a session stands, if it has one."""
        tracker = record.tracker
        if tracker is None:
            return
        labels = (record.route, record.replica)
        events, has_moved = record.pace.look(tracker)
        if not events or labels in self._off_roster:
            return
        now_seconds = time.time()
        self.replica_events.labels(*labels).inc(events)
        self.replica_last_activity.labels(*labels).set(now_seconds)
        self.replica_last_event_type.labels(*labels).set(tracker.event_type)
        self.replica_binlog_position.labels(*labels).set(tracker.log_position)
        digits = tracker.file.rpartition(b".")[2]
        if digits.isdigit():
            self.replica_binlog_file_number.labels(*labels).set(int(digits))
        if tracker.timestamp_seconds and has_moved:
            self.replica_last_event.labels(*labels).set(tracker.timestamp_seconds)
            self.replica_delivery_lag.labels(*labels).set(max(0.0, now_seconds - tracker.timestamp_seconds))

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
        self._describe_rosters(site)
        for route in site.routes:
            self._describe_route(route)
            for leg, material in route.materials.items():
                self.tls_handshake_seconds.labels(route.name, leg)
                self._describe_material(route.name, f"{leg}_leg", material)
        if site.admin is not None:
            # What no route can be called, so that it stands beside them and shows in the same alerts.
            self._describe_material("[admin]", "admin", site.admin.material)

    def _describe_rosters(self, site: Site) -> None:
        rosters = {(route.name, entry.name) for route in site.routes for entry in route.roster.entries}
        # A replica that was taken off the roster is not one that is gone.
        self._off_roster = (self._off_roster | self._rosters) - rosters
        for gauge in self._of_replicas:
            _drop(gauge, self._off_roster)
        self._rosters = rosters
        for labels in rosters:
            self.replica_connected.labels(*labels)
            self.replica_events.labels(*labels)

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


def _drop(gauge: Gauge, owners: Set[tuple[str, str]]) -> None:
    """Removes every series of these roster entries, by route and name."""
    for family in gauge.collect():
        for sample in family.samples:
            if (sample.labels["route"], sample.labels["replica"]) in owners:
                gauge.remove(*sample.labels.values())
