"""Who was turned away lately, and why: a bounded record for the status page. The log has all of it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from proxy.outcomes import Reason, Stage
from proxy.sessions import SessionRecord

_MOST_KINDS = 50
_LONGEST_TEXT = 300
# How sessions end that nobody objected to, and how probes of a load balancer look.
_ORDINARY = frozenset(
    {
        Reason.CLOSED, Reason.DRAINED, Reason.DISCONNECTED, Reason.SOURCE_DISCONNECTED,
        Reason.KEY_LIMIT, Reason.MAX_AGE, Reason.ROUTE_CHANGED,
    }
)  # fmt: skip


class Outcome(StrEnum):
    """What an objection came to."""

    REFUSED = "refused"
    ENDED = "ended"
    """The session had logged in."""
    COMMAND_REFUSED = "command_refused"
    """The session goes on."""
    WOULD_REFUSE = "would_refuse"
    """Observe mode let it pass."""


@dataclass(slots=True, kw_only=True)
class Refusal:
    """All objections of one kind to one address, as one.

    Attributes:
        peer: the last one's address and port.
        detail: the last one's; names and addresses, never a password or a statement.
        count: how many there were since the first that is remembered.
    """

    outcome: Outcome
    route: str
    stage: str
    reason: str
    peer: str = ""
    replica: str = ""
    identity: str = ""
    account: str = ""
    detail: str = ""
    count: int = 0
    first: datetime
    last: datetime

    def fields(self) -> dict[str, Any]:
        """As `/status` shows it, without empty values."""
        shown = {
            "last": self.last.isoformat(timespec="milliseconds"),
            "first": self.first.isoformat(timespec="milliseconds"),
            "count": self.count,
            "outcome": self.outcome.value,
            "route": self.route,
            "stage": self.stage,
            "reason": self.reason,
            "peer": self.peer,
            "replica": self.replica,
            "identity": self.identity,
            "account": self.account,
            "detail": self.detail,
        }
        return {name: value for name, value in shown.items() if value != ""}


class Refusals:
    """Counts every objection, and remembers the last of each of some kinds.

    A scanner that is refused a thousand times is one entry; another kind is not pushed out by it.

    Attributes:
        counts: since the start, by outcome, route, stage and reason; all of them bounded.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[Outcome, str, str, str]] = Counter()
        self._recent: OrderedDict[tuple[Outcome, str, str, str, str], Refusal] = OrderedDict()

    def note(self, record: SessionRecord, outcome: Outcome, stage: Stage, reason: Reason, detail: str) -> None:
        """Takes one objection to a session."""
        kind = (outcome, record.route, stage.value, reason.value)
        if reason in _ORDINARY and outcome is Outcome.ENDED:
            return
        self.counts[kind] += 1
        if reason in _ORDINARY:
            return
        now = datetime.now(UTC)
        key = (*kind, str(record.peer[0]))
        refusal = self._recent.pop(key, None) or Refusal(
            outcome=outcome, route=record.route, stage=stage.value, reason=reason.value, first=now, last=now
        )
        refusal.count += 1
        refusal.last = now
        refusal.peer = record.peer_text
        refusal.replica, refusal.account = record.replica, record.account
        refusal.identity = (record.identity or "")[:_LONGEST_TEXT]
        refusal.detail = detail[:_LONGEST_TEXT]
        self._recent[key] = refusal
        if len(self._recent) > _MOST_KINDS:
            self._recent.popitem(last=False)

    def recent(self) -> list[Refusal]:
        """The latest first."""
        return list(reversed(self._recent.values()))
