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

from proxy.openssl import Negotiated, linked_openssl
from proxy.outcomes import Reason, Stage
from proxy.sessions import SessionRecord
from proxy.site import Site
from wire.commands import Command

_DIRECTIONS = ("source_to_replica", "replica_to_source")
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
            "Sessions refused, by stage and reason.",
            ["route", "stage", "reason"],
            registry=self.registry,
        )
        self.sessions_ended = Counter(
            f"{prefix}_sessions_ended",
            "Authenticated sessions that are over, by reason.",
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
            "TLS handshakes that succeeded.",
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
            "Bytes of the MySQL protocol after authentication.",
            ["route", "direction"],
            registry=self.registry,
        )
        self.would_refuse = Counter(
            f"{prefix}_would_refuse",
            "What observe mode let pass, by stage and reason.",
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
        self.config_last_reload_success = Gauge(
            f"{prefix}_config_last_reload_success",
            "Whether the configuration on disk is the one that runs.",
            registry=self.registry,
        )
        self.config_last_reload_timestamp = Gauge(
            f"{prefix}_config_last_reload_success_timestamp_seconds",
            "When the configuration that runs was read.",
            registry=self.registry,
        )
        self.replica_connected = Gauge(
            f"{prefix}_replica_connected",
            "Streams of this roster entry whose dump is running.",
            ["route", "replica"],
            registry=self.registry,
        )
        self.certificate_not_after = Gauge(
            f"{prefix}_certificate_not_after_timestamp_seconds",
            "When a configured certificate expires.",
            ["route", "role"],
            registry=self.registry,
        )
        self.crl_next_update = Gauge(
            f"{prefix}_crl_next_update_timestamp_seconds",
            "When a configured CRL must have been renewed.",
            ["route", "issuer"],
            registry=self.registry,
        )

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
        if not events:
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
        for gauge in (self.certificate_not_after, self.crl_next_update):
            gauge.clear()
        for route in site.routes:
            self.sessions_active.labels(route.name)
            for decision in ("admitted", "refused"):
                self.commands.labels(route.name, Command.COM_QUERY.name, decision)
            self.semisync_ack_seconds.labels(route.name)
            for outcome in ("refused", "ended"):
                self.sessions.labels(route.name, outcome)
            for stage, reason in _KNOWN_REFUSALS:
                self.refusals.labels(route.name, stage, reason)
            for direction in _DIRECTIONS:
                self.relayed_bytes.labels(route.name, direction)
            for entry in route.roster.entries:
                self.replica_connected.labels(route.name, entry.name)
                self.replica_events.labels(route.name, entry.name)
            for leg, material in route.materials.items():
                if material.certificate is not None:
                    self.certificate_not_after.labels(route.name, f"{leg}_leg").set(
                        material.certificate.not_valid_after_utc.timestamp()
                    )
                last = max(anchor.not_valid_after_utc for anchor in material.anchors)
                self.certificate_not_after.labels(route.name, f"{leg}_leg_ca").set(last.timestamp())
                for crl in material.crls:
                    if crl.next_update_utc is not None:
                        self.crl_next_update.labels(route.name, crl.issuer.rfc4514_string()).set(
                            crl.next_update_utc.timestamp()
                        )

    def count_handshake(self, route: str, leg: str, negotiated: Negotiated) -> None:
        """Counts a handshake that succeeded."""
        self.tls_handshakes.labels(route, leg, negotiated.version, negotiated.cipher, negotiated.group).inc()
        self.tls_handshake_seconds.labels(route, leg).observe(negotiated.seconds)


_KNOWN_REFUSALS = (
    (Stage.ADMISSION, Reason.ADDRESS_NOT_ALLOWED),
    (Stage.ADMISSION, Reason.TOO_MANY_SESSIONS),
    (Stage.SOURCE, Reason.SOURCE_UNREACHABLE),
    (Stage.TLS, Reason.PLAINTEXT_REFUSED),
    (Stage.TLS, Reason.CERTIFICATE_MISSING),
    (Stage.TLS, Reason.CERTIFICATE_UNTRUSTED),
    (Stage.TLS, Reason.CERTIFICATE_EXPIRED),
    (Stage.TLS, Reason.CERTIFICATE_REVOKED),
    (Stage.IDENTITY, Reason.IDENTITY_NOT_ON_ROSTER),
    (Stage.AUTHENTICATION, Reason.ACCOUNT_NOT_ALLOWED),
    (Stage.AUTHENTICATION, Reason.AUTHENTICATION_REJECTED),
    (Stage.POLICY, Reason.SERVER_ID_NOT_ALLOWED),
)
