"""Does a session that is up still stand? What was checked at its start, checked again while it runs.

Time alone ends sessions (a certificate expires, a key wears out, the configured age is reached), and so does a reload
that no longer has what they rest on.
"""

from __future__ import annotations

from datetime import datetime

from proxy import openssl
from proxy.configuration.config import LimitsTable
from proxy.configuration.material import TlsMaterial
from proxy.openssl import Negotiated, verify_again
from proxy.outcomes import Ending, Reason
from proxy.sessions import SessionRecord
from proxy.site import Route
from proxy.stages.identity import certificate_names


def worn_out(record: SessionRecord, limits: LimitsTable, now: datetime) -> Ending | None:
    """Why time or use ends a session, if it does."""
    for tls, reason, whose in (
        (record.replica_tls, Reason.EXPIRED, "the replica's certificate"),
        (record.source_tls, Reason.SOURCE_EXPIRED, "the source's certificate"),
    ):
        if tls is not None and tls.peer_not_after is not None and tls.peer_not_after <= now:
            return Ending(reason, f"{whose} has expired at {tls.peer_not_after.isoformat()}")
    # RFC 8446 section 5.5 bounds AES-GCM; ChaCha20-Poly1305 may go on.
    for tls, leg in zip((record.replica_tls, record.source_tls), record.legs, strict=False):
        if tls is not None and "CHACHA20" not in tls.cipher and leg.key_records >= limits.tls_key_records:
            detail = (
                f"the TLS key of the {leg.name} leg has protected {leg.key_records} records; connect again for another"
            )
            return Ending(Reason.KEY_LIMIT, detail, is_urgent=False)
    if limits.session_max_age_seconds and record.age_seconds >= limits.session_max_age_seconds:
        return Ending(Reason.MAX_AGE, f"the session is {record.age_seconds:.0f} s old; connect again", is_urgent=False)
    return None


def fallen(record: SessionRecord, route: Route | None) -> Ending | None:
    """Why a session cannot go on under a new configuration, if it cannot.

    Args:
        record: a session whose login is complete, and the route that it was last judged under.
        route: its route by name, as it is now; None if there is none of that name.
    """
    if route is None:
        return Ending(Reason.ROUTE_CHANGED, f"there is no route {record.route} any more")
    if (route.replica_context is None) != (record.replica_tls is None) or (route.source_tls is None) != (
        record.source_tls is None
    ):
        return Ending(Reason.ROUTE_CHANGED, f"route {record.route} has changed its encryption; connect again")
    former = record.judged_under
    if former is not None and _leads_elsewhere(former, route):
        return Ending(Reason.ROUTE_CHANGED, f"route {record.route} leads to another source now; connect again")
    if record.peer[0] not in route.allowlist:
        return Ending(Reason.NOT_ALLOWED, f"host {record.peer[0]} is no longer on the allowlist of this route")
    for tls, leg, reasons in (
        (record.replica_tls, "replica", _REPLICA_REASONS),
        (record.source_tls, "source", _SOURCE_REASONS),
    ):
        if tls is not None and (ending := _untrusted(tls, route.materials[leg], leg, reasons)) is not None:
            return ending
    return _off_the_roster(record, route) if route.enforce else None


def _leads_elsewhere(former: Route, route: Route) -> bool:
    names = [tls.server_name if tls is not None else None for tls in (former.source_tls, route.source_tls)]
    return former.source != route.source or names[0] != names[1]


_REPLICA_REASONS = (Reason.REVOKED, Reason.EXPIRED, Reason.UNTRUSTED)
_SOURCE_REASONS = (Reason.SOURCE_REVOKED, Reason.SOURCE_EXPIRED, Reason.SOURCE_UNTRUSTED)


def _untrusted(
    tls: Negotiated, material: TlsMaterial, leg: str, reasons: tuple[Reason, Reason, Reason]
) -> Ending | None:
    if not tls.peer_chain:
        return None
    code = verify_again(material, tls.peer_chain)
    if code == 0:
        return None
    revoked, expired, untrusted = reasons
    reason = {openssl.VERIFY_REVOKED: revoked, openssl.VERIFY_EXPIRED: expired}.get(code, untrusted)
    return Ending(reason, f"the {leg}'s certificate no longer stands: {openssl.verify_error_text(code)}")


def _off_the_roster(record: SessionRecord, route: Route) -> Ending | None:
    names = () if record.replica_tls is None else certificate_names(record.replica_tls.peer_leaf)
    _, entries = route.roster.lines_for(names, is_verified=record.replica_tls is not None)
    who = record.identity or record.replica
    for entry in entries:
        if (
            record.account in entry.accounts
            and entry.is_at(record.peer[0])
            and (record.server_id is None or not entry.server_ids or record.server_id in entry.server_ids)
        ):
            return None
    return Ending(
        Reason.NOT_ON_ROSTER,
        f"the roster of this route no longer has {who} as {record.account}"
        + ("" if record.server_id is None else f" with server id {record.server_id}"),
    )
