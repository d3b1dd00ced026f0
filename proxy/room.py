"""Room for one more session: what keeps silent, slow and flooding peers from keeping the others out.

Every session that has not logged in costs a connection on the source. One address may have so many of them, and all
addresses together; when those are too many it is not the newcomer that is sent away, but the oldest of the address that
has the most.
"""

from __future__ import annotations

from collections import Counter

from proxy.configuration.config import LimitsTable
from proxy.outcomes import Ending, Reason, SessionRefused, Stage
from proxy.sessions import SessionRecord, SessionRegistry


def require_room(record: SessionRecord, registry: SessionRegistry, limits: LimitsTable) -> None:
    """Finds room for the session of `record`, which is in the registry already.

    Raises:
        SessionRefused: its address has too many that are not logged in, or there are too many sessions at all.
    """
    half_open = registry.half_open()
    of_address = Counter(other.peer[0] for other in half_open)
    if of_address[record.peer[0]] > limits.unauthenticated_sessions_per_address:
        raise _no_room(f"{record.peer[0]} has {of_address[record.peer[0]]} sessions that are not logged in")
    if len(registry) > limits.sessions:
        raise _no_room(f"{len(registry)} sessions are open")
    if len(half_open) > limits.unauthenticated_sessions:
        heaviest, _ = of_address.most_common(1)[0]
        oldest = next(other for other in half_open if other.peer[0] == heaviest)
        # It leaves when its task runs next; a newcomer before that must not count on its place again.
        oldest.is_leaving = True
        oldest.end(Ending(Reason.TOO_MANY_SESSIONS, "too many connections that are not logged in; try again"))


def _no_room(detail: str) -> SessionRefused:
    return SessionRefused(Stage.ADMISSION, Reason.TOO_MANY_SESSIONS, detail, told="too many connections; try again")
