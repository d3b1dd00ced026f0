"""The list of sessions: what `/sessions` shows, what the log says at the end, what a drain has to end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from proxy.addresses import IpAddress
from proxy.identity import RosterEntry
from proxy.legs import Leg
from proxy.openssl import Negotiated
from proxy.outcomes import Ending, Stage
from proxy.site import Route
from wire.stream import StreamTracker


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
        tracker: where the stream stands, once there is one.
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
    legs: list[Leg] = field(default_factory=list)

    @property
    def age_seconds(self) -> float:
        """How long the session has lasted."""
        return time.monotonic() - self.started_seconds

    @property
    def replica(self) -> str:
        """The roster's name for it; empty before the login."""
        return self.entry.name if self.entry is not None else ""

    def fields(self) -> dict[str, Any]:
        """The session under the names that `/sessions` and the log share (docs/sessions.md), without empty values."""
        shown: dict[str, Any] = {
            "session": self.number,
            "route": self.route,
            "peer": _shown(*self.peer),
            "via": self.via,
            "stage": self.stage.value,
            "replica": self.replica,
            "identity": self.identity,
            "account": self.account,
            "server_id": self.server_id,
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
            shown["binlog_file"] = self.tracker.file.decode(errors="replace")
            shown["binlog_position"] = self.tracker.log_position
            if self.tracker.timestamp_seconds:
                last = datetime.fromtimestamp(self.tracker.timestamp_seconds, UTC)
                shown["last_event"] = last.isoformat(timespec="seconds")
        return {name: value for name, value in shown.items() if value not in ("", None, [])}


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


def _shown(address: IpAddress, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
