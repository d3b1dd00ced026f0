"""The list of sessions: what `/sessions` shows, what the log says at the end, what a drain has to end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from proxy.openssl import Negotiated
from proxy.outcomes import Stage


@dataclass(slots=True, kw_only=True)
class SessionRecord:
    """One session as it stands. Only its own task writes it.

    Attributes:
        end: ends the session when nothing is half-way through; given by whichever stage is running.
    """

    number: int
    route: str
    peer: str
    stage: Stage = Stage.ADMISSION
    replica: str = ""
    identity: str = ""
    account: str = ""
    server_id: int | None = None
    replica_tls: Negotiated | None = None
    source_tls: Negotiated | None = None
    is_authenticated: bool = False
    bytes_to_replica: int = 0
    bytes_to_source: int = 0
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_seconds: float = field(default_factory=time.monotonic)
    end: Callable[[], None] | None = None

    @property
    def age_seconds(self) -> float:
        """How long the session has lasted."""
        return time.monotonic() - self.started_seconds

    def fields(self) -> dict[str, Any]:
        """The session under the names that `/sessions` and the log share. Empty values are left out."""
        shown: dict[str, Any] = {
            "session": self.number,
            "route": self.route,
            "peer": self.peer,
            "stage": self.stage.value,
            "replica": self.replica,
            "identity": self.identity,
            "account": self.account,
            "server_id": self.server_id,
            "started": self.started.isoformat(timespec="milliseconds"),
            "age_seconds": round(self.age_seconds, 3),
            "bytes_to_replica": self.bytes_to_replica,
            "bytes_to_source": self.bytes_to_source,
        }
        for leg, tls in (("replica", self.replica_tls), ("source", self.source_tls)):
            if tls is not None:
                shown[f"{leg}_tls_version"] = tls.version
                shown[f"{leg}_tls_cipher"] = tls.cipher
                shown[f"{leg}_tls_group"] = tls.group
                if tls.peer_leaf is not None:
                    shown[f"{leg}_certificate_not_after"] = tls.peer_leaf.not_valid_after_utc.isoformat()
        return {name: value for name, value in shown.items() if value not in {"", None}}


class SessionRegistry:
    """Every session that is open."""

    def __init__(self) -> None:
        self._open: dict[int, SessionRecord] = {}
        self._numbers = itertools.count(1)

    def open(self, *, route: str, peer: str) -> SessionRecord:
        """Begins a session's record; `close` ends it."""
        record = SessionRecord(number=next(self._numbers), route=route, peer=peer)
        self._open[record.number] = record
        return record

    def close(self, record: SessionRecord) -> None:
        """Forgets a session."""
        self._open.pop(record.number, None)

    def __iter__(self) -> Iterator[SessionRecord]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    @property
    def unauthenticated(self) -> int:
        """How many have not finished their login; each of them costs a connection on the source."""
        return sum(not record.is_authenticated for record in self._open.values())
