"""The facts of the status page, as the JSON document of `/status`: bounded, however much goes on."""

from __future__ import annotations

import heapq
import socket
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.configuration.addresses import Address, UnixAddress
from proxy.configuration.material import TlsMaterial
from proxy.openssl import linked_openssl
from proxy.outcomes import Stage
from proxy.reporting.refusals import Refusals
from proxy.sessions import SessionRecord, SessionRegistry
from proxy.site import Route, Site

_MOST_SESSIONS = 100
_MOST_ROUTES = 100
_MOST_CERTIFICATES = 100
_MOST_REFUSALS = 100
_MOST_NAMES = 20
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the process stands.

    Attributes:
        state: `serving`, `draining`, or `starting`.
        in_force_since: when the configuration that runs was read.
        reload_error: why the one on disk is another; empty if it is not.
    """

    version: str
    started: datetime
    state: str
    in_force_since: datetime
    reload_error: str


def proxy_status(standing: Standing, site: Site, registry: SessionRegistry, refusals: Refusals) -> dict[str, Any]:
    """Everything that the page shows; times are ISO 8601 in UTC, and lists say how many they leave out."""
    now = datetime.now(UTC)
    records = list(registry)
    shown = heapq.nsmallest(_MOST_SESSIONS, records, key=_order)
    material = _material(site, now)
    return {
        "program": "binlock-proxy",
        "host": socket.gethostname(),
        "time": now.isoformat(timespec="milliseconds"),
        "version": standing.version,
        "openssl": linked_openssl(),
        "started": standing.started.isoformat(timespec="seconds"),
        "state": standing.state,
        "configuration": {
            "in_force_since": standing.in_force_since.isoformat(timespec="seconds"),
            "reload_error": standing.reload_error,
        },
        "routes": _routes(site, records),
        "routes_left_out": max(0, len(site.routes) - _MOST_ROUTES),
        "sessions": [record.fields() for record in shown],
        "sessions_left_out": len(records) - len(shown),
        "certificates": material[:_MOST_CERTIFICATES],
        "certificates_left_out": max(0, len(material) - _MOST_CERTIFICATES),
        "refusals": [
            {"outcome": outcome.value, "route": route, "stage": stage, "reason": reason, "count": count}
            for (outcome, route, stage, reason), count in refusals.counts.most_common(_MOST_REFUSALS)
        ],
        "refusals_left_out": max(0, len(refusals.counts) - _MOST_REFUSALS),
        "refusals_total": sum(refusals.counts.values()),
        "last_refusals": [refusal.fields() for refusal in refusals.recent()],
    }


def _order(record: SessionRecord) -> tuple[bool, bool, str, str, int]:
    """What runs against the rules first, then streams, then what is on its way."""
    is_streaming = record.stage is Stage.RELAY
    return not record.would_refuse, not is_streaming, record.route, record.replica, record.number


def _routes(site: Site, records: list[SessionRecord]) -> list[dict[str, Any]]:
    sessions = Counter(record.route for record in records)
    streaming = {(record.route, record.replica) for record in records if record.stage is Stage.RELAY}
    return [_route(route, sessions[route.name], streaming) for route in site.routes[:_MOST_ROUTES]]


def _route(route: Route, sessions: int, streaming: set[tuple[str, str]]) -> dict[str, Any]:
    # Several lines of the roster may have one name.
    names = list(dict.fromkeys(entry.name for entry in route.roster.entries))
    absent = [name for name in names if (route.name, name) not in streaming]
    return {
        "route": route.name,
        "listen": str(route.listen),
        "source": str(route.source),
        "policy": route.policy.name,
        "enforce": route.enforce,
        "replica_leg": _protection(route.listen, is_tls=route.replica_context is not None),
        "replica_leg_crl": bool(route.materials["replica"].crls) if "replica" in route.materials else None,
        "source_leg": _protection(route.source, is_tls=route.source_tls is not None),
        "source_leg_crl": bool(route.materials["source"].crls) if "source" in route.materials else None,
        "sessions": sessions,
        "replicas": len(names),
        "replicas_streaming": len(names) - len(absent),
        "replicas_absent": absent[:_MOST_NAMES],
    }


def _protection(address: Address, *, is_tls: bool) -> str:
    """How a leg is protected: by TLS, by never leaving the machine, or not at all."""
    if is_tls:
        return "mutual-tls"
    if isinstance(address, UnixAddress):
        return "unix-socket"
    return "loopback" if address.is_loopback else "unsafe-plaintext"


def _material(site: Site, now: datetime) -> list[dict[str, Any]]:
    """What expires, the first to expire first; what several legs share stands there once."""
    found: dict[tuple[str, bytes], dict[str, Any]] = {}

    def add(kind: str, fingerprint: bytes, name: str, until: datetime | None, used_by: str) -> None:
        entry = found.setdefault((kind, fingerprint), {"kind": kind, "name": name, "used_by": []})
        if len(entry["used_by"]) < _MOST_NAMES:
            entry["used_by"].append(used_by)
        if until is not None:
            entry["until"] = until.isoformat(timespec="seconds")
            entry["days_left"] = round((until - now).total_seconds() / _DAY_SECONDS, 2)

    users = [
        (f"{route.name}, {leg} leg", material) for route in site.routes for leg, material in route.materials.items()
    ]
    if site.admin is not None:
        users.append(("admin endpoint", site.admin.material))
    for used_by, material in users:
        for certificate, kind in _certificates(material):
            fingerprint = certificate.fingerprint(SHA256())
            add(kind, fingerprint, _name_of(certificate), certificate.not_valid_after_utc, used_by)
        for crl in material.crls:
            add("crl", crl.fingerprint(SHA256()), crl.issuer.rfc4514_string(), crl.next_update_utc, used_by)
    return sorted(found.values(), key=lambda entry: entry.get("days_left", float("inf")))


def _certificates(material: TlsMaterial) -> list[tuple[x509.Certificate, str]]:
    own = [(material.certificate, "certificate")] if material.certificate is not None else []
    return [
        *own,
        *((issuer, "intermediate") for issuer in material.chain),
        *((anchor, "authority") for anchor in material.anchors),
    ]


def _name_of(certificate: x509.Certificate) -> str:
    """The first name that a peer would look for, or the subject of who has none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return certificate.subject.rfc4514_string()
    for kind in (x509.DNSName, x509.UniformResourceIdentifier):
        for name in names.get_values_for_type(kind):
            return str(name)
    return certificate.subject.rfc4514_string()
