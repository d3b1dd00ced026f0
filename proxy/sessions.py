"""The list of sessions: what `/sessions` shows, what the log says at the end, what a drain has to end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from proxy.configuration.addresses import IpAddress, TcpAddress
from proxy.legs.leg import Leg
from proxy.openssl import Negotiated
from proxy.outcomes import Ending, Stage
from proxy.site import Route
from proxy.stages.identity import RosterEntry
from wire.binlog import name_of_event_type
from wire.stream import StreamTracker

# Over how long a rate is taken at least.
_PACE_SECONDS = 1


@dataclass(slots=True)
class Pace:
    """How fast a stream goes, from looks at it now and then.

    Attributes:
        events: how many there were at the last look; heartbeats are events.
        per_second: over the last whole second or more.
        active: when a look last found an event that had not been there.
        place: file, position and time of the last event at the last look.
    """

    events: int = 0
    per_second: float = 0.0
    active: datetime | None = None
    place: tuple[bytes, int, int] = (b"", 0, 0)
    _counted_events: int = 0
    _counted_seconds: float = field(default_factory=time.monotonic)

    def look(self, tracker: StreamTracker) -> tuple[int, bool]:
        """Takes what the tracker says now.

        Returns:
            How many events have come since the last look, and whether the place in the binlog is another.
        """
        now, since = time.monotonic(), tracker.packets - self.events
        self.events = tracker.packets
        if since:
            self.active = datetime.now(UTC)
        elapsed_seconds = now - self._counted_seconds
        if elapsed_seconds >= _PACE_SECONDS:
            self.per_second = (self.events - self._counted_events) / elapsed_seconds
            self._counted_events, self._counted_seconds = self.events, now
        place = (tracker.file, tracker.log_position, tracker.timestamp_seconds)
        has_moved, self.place = place != self.place, place
        return since, has_moved


@dataclass(slots=True, kw_only=True)
class SessionRecord:
    """One session as it stands. Only its own task writes it, but for `end`, which others call.

    Attributes:
        peer: the address and port that connect, behind a load balancer the ones it names.
        via: the load balancer's, if there is one.
        entry: the roster's line, once the login has chosen it.
        judged_under: the route as it was when the session was last judged.
        is_leaving: whether it was told to make room for another; its place counts as free already.
        end: ends the session; given by whichever stage is running.
        compression: the algorithm that both ends compress with, if they do.
        tracker: where the stream stands, once there is one.
        pace: how fast it goes.
        legs: the connections, for what they count.
    """

    number: int
    route: str
    peer: tuple[IpAddress, int]
    via: str = ""
    stage: Stage = Stage.ADMISSION
    entry: RosterEntry | None = None
    identity: str | None = None
    account: str = ""
    server_id: int | None = None
    replica_tls: Negotiated | None = None
    source_tls: Negotiated | None = None
    compression: str = ""
    is_authenticated: bool = False
    is_leaving: bool = False
    bytes_to_replica: int = 0
    bytes_to_source: int = 0
    judged_under: Route | None = None
    would_refuse: list[str] = field(default_factory=list)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_seconds: float = field(default_factory=time.monotonic)
    end: Callable[[Ending], None] = lambda _: None
    tracker: StreamTracker | None = None
    pace: Pace = field(default_factory=Pace)
    legs: list[Leg] = field(default_factory=list)

    @property
    def age_seconds(self) -> float:
        """How long the session has lasted."""
        return time.monotonic() - self.started_seconds

    @property
    def peer_text(self) -> str:
        """The peer as `address:port`, `[v6]:port`."""
        address, port = self.peer
        return str(TcpAddress(str(address), port))

    @property
    def replica(self) -> str:
        """The roster's name for it; empty before the login."""
        return self.entry.name if self.entry is not None else ""

    def fields(self) -> dict[str, Any]:
        """The session under the names that `/sessions` and the log share (docs/sessions.md), without empty values."""
        shown: dict[str, Any] = {
            "session": self.number,
            "route": self.route,
            "peer": self.peer_text,
            "via": self.via,
            "stage": self.stage.value,
            "replica": self.replica,
            "identity": self.identity,
            "account": self.account,
            "server_id": self.server_id,
            "compression": self.compression,
            "started": self.started.isoformat(timespec="milliseconds"),
            "age_seconds": round(self.age_seconds, 3),
            "bytes_to_replica": self.bytes_to_replica,
            "bytes_to_source": self.bytes_to_source,
            "would_refuse": self.would_refuse,
        }
        for leg, tls in (("replica", self.replica_tls), ("source", self.source_tls)):
            if tls is not None:
                shown[f"{leg}_tls_version"] = tls.version
                shown[f"{leg}_tls_cipher"] = tls.cipher
                shown[f"{leg}_tls_group"] = tls.group
                if tls.peer_not_after is not None:
                    shown[f"{leg}_certificate_not_after"] = tls.peer_not_after.isoformat()
        if self.tracker is not None and self.tracker.file:
            shown |= self._stream_fields(self.tracker)
        return {name: value for name, value in shown.items() if value not in ("", None, [])}

    def _stream_fields(self, tracker: StreamTracker) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "binlog_file": tracker.file.decode(errors="replace"),
            "binlog_position": tracker.log_position,
            "events": tracker.packets,
            "events_per_second": round(self.pace.per_second, 1),
            "last_event_type": name_of_event_type(tracker.event_type),
        }
        if tracker.timestamp_seconds:
            last = datetime.fromtimestamp(tracker.timestamp_seconds, UTC)
            shown["last_event"] = last.isoformat(timespec="seconds")
        if self.pace.active:
            shown["last_active"] = self.pace.active.isoformat(timespec="milliseconds")
        return shown


class SessionRegistry:
    """Every session that is open.

    Attributes:
        cut: how many did not end in the time of a drain.
    """

    def __init__(self) -> None:
        self.cut = 0
        self._open: dict[int, SessionRecord] = {}
        self._numbers = itertools.count(1)

    def open(self, *, route: Route, peer: tuple[IpAddress, int]) -> SessionRecord:
        """Begins a session's record; `close` ends it."""
        record = SessionRecord(number=next(self._numbers), route=route.name, peer=peer, judged_under=route)
        self._open[record.number] = record
        return record

    def close(self, record: SessionRecord) -> None:
        """Forgets a session."""
        self._open.pop(record.number, None)

    def __iter__(self) -> Iterator[SessionRecord]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def half_open(self) -> list[SessionRecord]:
        """Those that have not finished their login, oldest first. Each costs a connection on the source."""
        return [record for record in self._open.values() if not (record.is_authenticated or record.is_leaving)]
