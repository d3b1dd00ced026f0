"""Which of the certificates in an index a person means, by name or by serial number."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from certs.errors import CertsError
from certs.issuing.index import Index, IssuedCertificate, parse_serial
from certs.names import parse_label
from certs.profiles import Role


def find_to_revoke(
    index: Index, name: str | None, serial: str | None, *, listed: frozenset[str], now: datetime
) -> IssuedCertificate:
    """The one certificate that is meant and can be revoked.

    Args:
        index: all that were issued.
        name: the label, if given.
        serial: the serial number, if given.
        listed: the serial numbers that the list on disk has.
        now: decides what has expired.
    """
    named, who = _find(index, name, serial)
    # A revocation that was cut short before its list was written is not over.
    standing = [entry for entry in named if entry.revoked is None or entry.serial not in listed]
    valid = [entry for entry in standing if entry.not_after > now]
    if not standing:
        when = max(entry.revoked for entry in named if entry.revoked is not None)
        raise CertsError(f"the certificate with {who} was revoked already, at {when:%Y-%m-%dT%H:%M:%SZ}")
    if not valid:
        end = max(entry.not_after for entry in standing)
        raise CertsError(f"the certificate with {who} expired at {end:%Y-%m-%dT%H:%M:%SZ}: nobody accepts it any more")
    if len(valid) > 1:
        raise CertsError(f"{len(valid)} certificates have {who}: choose one with --serial: {_serials(valid)}")
    return valid[0]


def find_to_renew(index: Index, name: str | None, serial: str | None) -> IssuedCertificate:
    """The latest certificate of the identity that is meant: one role with one set of names."""
    named, who = _find(index, name, serial)
    leaves = [entry for entry in named if entry.role is not Role.AUTHORITY]
    if not leaves:
        raise CertsError(f"{who} is an authority: make its successor with `binlock-certs init --parent`")
    standing = [entry for entry in leaves if entry.revoked is None]
    if not standing:
        raise CertsError(f"the certificate with {who} was revoked: `binlock-certs issue` a new one if it may return")
    latest = _latest(standing)
    if len(latest) > 1:
        raise CertsError(f"{who} stands for different certificates: choose one with --serial: {_serials(latest)}")
    return latest[0]


def find_due(index: Index, *, within: timedelta, now: datetime) -> list[IssuedCertificate]:
    """Every identity whose latest certificate still counts and ends within the span."""
    standing = [entry for entry in index.certificates if entry.revoked is None and entry.role is not Role.AUTHORITY]
    return [entry for entry in _latest(standing) if now < entry.not_after <= now + within]


def _latest(entries: Iterable[IssuedCertificate]) -> list[IssuedCertificate]:
    """Of each identity the one that ends last; of two that end together, the one issued later."""
    latest: dict[tuple[Role, tuple[str, ...]], IssuedCertificate] = {}
    for entry in entries:
        identity = (entry.role, entry.names)
        if identity not in latest or latest[identity].not_after <= entry.not_after:
            latest[identity] = entry
    return list(latest.values())


def _find(index: Index, name: str | None, serial: str | None) -> tuple[list[IssuedCertificate], str]:
    """All that bear the name and the serial number, at least one, and how to speak of them."""
    wanted = None if serial is None else parse_serial(serial)
    label = None if name is None else _label(name)
    named = [
        entry
        for entry in index.certificates
        if (label is None or entry.label == label) and (wanted is None or entry.serial == wanted)
    ]
    who = " and ".join(
        words for words in (name and f"the name {name!r}", wanted and f"the serial number {wanted}") if words
    )
    if not named:
        raise CertsError(f"no certificate was issued here with {who}: index.json has all that were")
    return named, who


def _label(name: str) -> str:
    """The name as `issue` spells it, or as it is if it could not be issued."""
    try:
        return str(parse_label(name).value)
    except CertsError:
        return name


def _serials(entries: Iterable[IssuedCertificate]) -> str:
    return ", ".join(f"{entry.serial} (until {entry.not_after:%Y-%m-%d})" for entry in entries)
