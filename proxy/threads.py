"""Whose thread is it? The thread ids that sources have greeted roster entries with, for KILL.

A MariaDB replica with semi-synchronous replication that stops opens a second connection and kills its first by the
thread id of that one's greeting; the clone plugin does so when it is interrupted. A source would let the account kill
whatever runs under the same account, on any host; here only what belongs to the same line of the roster may be killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from proxy.configuration.addresses import Address

# A session that has just ended may still have its thread at the source. After a restart a source counts from the
# beginning, so that an old id soon is somebody else's: no longer than a replica's own timeouts.
_REMEMBERED_SECONDS = 120
# Of sessions that are over; the open ones are bounded by limits.sessions.
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Owner:
    """One line of the roster of one route."""

    route: str
    entry: str


class GreetedThreads:
    """The threads of the sessions that are open, or ended a moment ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[tuple[Address, int], tuple[int, Owner]] = {}
        self._ended: dict[tuple[Address, int], tuple[float, Owner]] = {}

    def opened(self, source: Address, thread_id: int, session: int, owner: Owner) -> None:
        """Notes the thread of a session that has logged in."""
        self._open[source, thread_id] = (session, owner)
        self._ended.pop((source, thread_id), None)

    def ended(self, source: Address, thread_id: int, session: int) -> None:
        """Notes that a session is over; nothing if another has its thread id by now."""
        number, owner = self._open.get((source, thread_id), (None, None))
        if number != session or owner is None:
            return
        del self._open[source, thread_id]
        self._ended[source, thread_id] = (self._clock(), owner)
        if len(self._ended) > _MOST_REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def is_own(self, source: Address, thread_id: int, owner: Owner) -> bool:
        """Whether a thread of a source is, or was until a moment ago, a session of this owner."""
        if (found := self._open.get((source, thread_id))) is not None:
            return found[1] == owner
        when, ended_owner = self._ended.get((source, thread_id), (float("-inf"), None))
        return ended_owner == owner and self._clock() - when <= _REMEMBERED_SECONDS
