"""The metrics of each replica: is it connected, protected by what, and where its stream stands.

Roster and allowlists bound the labels. What a roster no longer has is dropped: it would be taken for a replica that is
gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Set
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge

from proxy.sessions import SessionRecord
from proxy.site import Site


class ReplicaMetrics:
    """What is counted of each entry of each roster."""

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        self.connected = Gauge(
            f"{prefix}_replica_connected",
            "Streams of this roster entry whose dump is running.",
            ["route", "replica"],
            registry=registry,
        )
        self.streams = Counter(
            f"{prefix}_replica_streams",
            "Streams that this roster entry has begun; a replica that stays needs one.",
            ["route", "replica"],
            registry=registry,
        )
        self._describe_protection(prefix, registry)
        self._describe_streams(prefix, registry)
        self._rosters: set[tuple[str, str]] = set()
        self._off_roster: set[tuple[str, str]] = set()
        self._of_replicas = (
            self.connected,
            self.legs,
            self.peer_certificate_not_after,
            self.peer_certificate_not_before,
            self.last_event,
            self.last_event_type,
            self.delivery_lag,
            self.last_activity,
            self.binlog_file_number,
            self.binlog_position,
        )

    def _describe_protection(self, prefix: str, registry: CollectorRegistry) -> None:
        """What protects each replica's streams."""
        self.legs = Gauge(
            f"{prefix}_replica_legs",
            "Legs of this roster entry's running streams, by what protects them; version is plaintext where nothing "
            "does.",
            ["route", "replica", "leg", "version", "cipher", "group"],
            registry=registry,
        )
        self.peer_certificate_not_after = Gauge(
            f"{prefix}_peer_certificate_not_after_timestamp_seconds",
            "When the certificate expires, or the first of its chain, that was shown on this leg of this roster "
            "entry's last stream.",
            ["route", "replica", "leg"],
            registry=registry,
        )
        self.peer_certificate_not_before = Gauge(
            f"{prefix}_peer_certificate_not_before_timestamp_seconds",
            "When the certificate of which binlock_proxy_peer_certificate_not_after_timestamp_seconds tells became "
            "valid.",
            ["route", "replica", "leg"],
            registry=registry,
        )

    def _describe_streams(self, prefix: str, registry: CollectorRegistry) -> None:
        """What is known of each replica's stream, looked at some times a second."""
        labels = ["route", "replica"]
        self.last_event = Gauge(
            f"{prefix}_replica_last_event_timestamp_seconds",
            "When the last event that this roster entry was sent was made, by the source's clock.",
            labels,
            registry=registry,
        )
        self.last_event_type = Gauge(
            f"{prefix}_replica_last_event_type",
            "Type code of the last event that this roster entry was sent (Log_event_type); 27 and 41 are heartbeats.",
            labels,
            registry=registry,
        )
        self.delivery_lag = Gauge(
            f"{prefix}_replica_delivery_lag_seconds",
            "How old the last event was when this roster entry was sent it; the two clocks' difference included.",
            labels,
            registry=registry,
        )
        self.last_activity = Gauge(
            f"{prefix}_replica_last_activity_timestamp_seconds",
            "When this roster entry was last sent anything, heartbeats included.",
            labels,
            registry=registry,
        )
        self.events = Counter(
            f"{prefix}_replica_events",
            "Events that this roster entry was sent, heartbeats included.",
            labels,
            registry=registry,
        )
        self.binlog_file_number = Gauge(
            f"{prefix}_replica_binlog_file_number",
            "The digits at the end of the name of the binlog file that this roster entry is being sent.",
            labels,
            registry=registry,
        )
        self.binlog_position = Gauge(
            f"{prefix}_replica_binlog_position_bytes",
            "Position behind the last event that this roster entry was sent: what it has read, not applied.",
            labels,
            registry=registry,
        )

    @contextmanager
    def streaming(self, record: SessionRecord) -> Iterator[None]:
        """Counts the stream of a session, and what protects it, while the block runs."""
        owner = (record.route, record.replica)
        legs = {"replica": record.replica_tls, "source": record.source_tls}
        gauges = [self.connected.labels(*owner)]
        for leg, tls in legs.items():
            protection = ("plaintext", "", "") if tls is None else (tls.version, tls.cipher, tls.group)
            gauges.append(self.legs.labels(*owner, leg, *protection))
            if tls is not None and tls.peer_chain:
                first = min(tls.peer_chain, key=lambda certificate: certificate.not_valid_after_utc)
                self.peer_certificate_not_after.labels(*owner, leg).set(first.not_valid_after_utc.timestamp())
                self.peer_certificate_not_before.labels(*owner, leg).set(first.not_valid_before_utc.timestamp())
        self.streams.labels(*owner).inc()
        for gauge in gauges:
            gauge.inc()
        try:
            yield
        finally:
            for gauge in gauges:
                gauge.dec()

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
        self.events.labels(*labels).inc(events)
        self.last_activity.labels(*labels).set(now_seconds)
        self.last_event_type.labels(*labels).set(tracker.event_type)
        self.binlog_position.labels(*labels).set(tracker.log_position)
        digits = tracker.file.rpartition(b".")[2]
        if digits.isdigit():
            self.binlog_file_number.labels(*labels).set(int(digits))
        if tracker.timestamp_seconds and has_moved:
            self.last_event.labels(*labels).set(tracker.timestamp_seconds)
            self.delivery_lag.labels(*labels).set(max(0.0, now_seconds - tracker.timestamp_seconds))

    def describe_rosters(self, site: Site) -> None:
        """Makes the series of all roster entries exist, and drops those of entries that are on no roster any more."""
        rosters = {(route.name, entry.name) for route in site.routes for entry in route.roster.entries}
        # A replica that was taken off the roster is not one that is gone.
        self._off_roster = (self._off_roster | self._rosters) - rosters
        for gauge in self._of_replicas:
            _drop(gauge, self._off_roster)
        self._rosters = rosters
        for labels in rosters:
            self.connected.labels(*labels)
            self.events.labels(*labels)
            self.streams.labels(*labels)


def _drop(gauge: Gauge, owners: Set[tuple[str, str]]) -> None:
    """Removes every series of these roster entries, by route and name."""
    for family in gauge.collect():
        for sample in family.samples:
            if (sample.labels["route"], sample.labels["replica"]) in owners:
                gauge.remove(*sample.labels.values())
