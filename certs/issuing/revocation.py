"""Revoking, and the signed list that says so: the index first, then the list."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography import x509

from certs.errors import CertsError
from certs.issuing.authority import Authority, AuthorityFiles, within
from certs.issuing.builders import build_revocation_list
from certs.issuing.index import Index, IssuedCertificate, load_index, replace_index, serial_text
from certs.issuing.selection import find_to_revoke
from certs.pem import load_revocation_lists
from certs.profiles import REVOCATION_LIST_LIFETIME, Lifetime, Validity, utc_now
from certs.storage import MODE_PUBLIC, locked_folder, read_file, replace_file


@dataclass(frozen=True, slots=True)
class SignedRevocationList:
    """A revocation list that has been written: proof that the file is there and that the index has its number."""

    number: int
    validity: Validity
    serials: tuple[str, ...]
    parent_due: datetime | None
    """When the first of the lists of above lapses; None for a root."""


@dataclass(frozen=True, slots=True)
class RevokedLeaf:
    """A certificate that has been revoked, and the list that says so."""

    entry: IssuedCertificate
    revocation_list: SignedRevocationList


def revoke(authority: Authority, name: str | None = None, *, serial: str | None = None) -> RevokedLeaf:
    """Revoke one certificate and sign the list that says so.

    One whose revocation was cut short before its list was written is taken again, and the list is written.

    Args:
        authority: whose certificate it is.
        name: the label that it was issued for; needed unless `serial` is given.
        serial: its serial number, which also tells several of one name apart.

    Raises:
        CertsError: there is none, or several, or it is revoked or has expired already. Nothing was written.
    """
    with locked_folder(authority.files.folder):
        index = load_index(authority.files.index)
        now = utc_now().replace(microsecond=0)
        listed = _listed_serials(authority)
        entry = find_to_revoke(index, name, serial, listed=listed, now=now)
        if entry.revoked is None:
            entry = msgspec.structs.replace(entry, revoked=now)
        signed = _sign_list(authority, index.with_revocation(entry), Lifetime(REVOCATION_LIST_LIFETIME))
    return RevokedLeaf(entry, signed)


def renew_revocation_list(
    authority: Authority, lifetime: Lifetime, *, parent_list: Path | None = None
) -> SignedRevocationList:
    """Sign the list anew, with all that is revoked, so that it is good for another `lifetime`.

    Args:
        authority: whose list it is.
        lifetime: until the next one is due.
        parent_list: `ca.crl` of the authority above, if it has a newer one; for an authority below a root.
    """
    with locked_folder(authority.files.folder):
        if parent_list is not None:
            _refuse_lists_of_others(authority, parent_list)
            replace_file(authority.files.parent_list, read_file(parent_list), mode=MODE_PUBLIC)
        return _sign_list(authority, load_index(authority.files.index), lifetime)


def next_due(files: AuthorityFiles) -> datetime | None:
    """When the first list of those in `ca.crl` lapses; None if there is no list that can be read."""
    try:
        lists = load_revocation_lists(files.revocation_list)
    except CertsError:
        return None
    return _first_due(lists)


def _sign_list(authority: Authority, index: Index, lifetime: Lifetime) -> SignedRevocationList:
    """Write the index with the next number and the list of that number; the caller holds the lock."""
    files = authority.files
    index = index.with_next_revocation_list()
    now = utc_now()
    validity = within(lifetime.around(now), authority.certificate)
    listed = [entry for entry in index.certificates if _is_to_be_listed(entry, now)]
    revocation_list = build_revocation_list(
        index.revocation_list_number,
        validity,
        authority=authority.certificate,
        authority_key=authority.key,
        revoked=[_revocation(entry) for entry in listed],
    )
    content = authority.list_pem(revocation_list)
    parent_due = _first_due(load_revocation_lists(files.parent_list)) if authority.parents else None
    replace_index(files.index, index)
    replace_file(files.revocation_list, content, mode=MODE_PUBLIC)
    serials = tuple(entry.serial for entry in listed)
    return SignedRevocationList(index.revocation_list_number, validity, serials, parent_due)


def _first_due(lists: list[x509.CertificateRevocationList]) -> datetime | None:
    return min((crl.next_update_utc for crl in lists if crl.next_update_utc is not None), default=None)


def _refuse_lists_of_others(authority: Authority, path: Path) -> None:
    """Raise unless the file has a list of every authority above and of nobody else, each signed by its own."""
    lists = load_revocation_lists(path)
    if not authority.parents:
        raise CertsError(f"the authority in {authority.files.folder} is a root: leave out --parent-list")
    for crl in lists:
        issuers = [parent for parent in authority.parents if parent.subject == crl.issuer]
        if not any(crl.is_signature_valid(issuer.public_key()) for issuer in issuers):  # type: ignore[arg-type]
            who = crl.issuer.rfc4514_string()
            raise CertsError(
                f"{path} has a list of {who}, which is no authority above this one: bring that one's ca.crl"
            )
    for parent in authority.parents:
        if parent.subject not in {crl.issuer for crl in lists}:
            raise CertsError(f"{path} has no list of {parent.subject.rfc4514_string()}: bring the ca.crl of above")


def _listed_serials(authority: Authority) -> frozenset[str]:
    """What the list on disk has; nothing if it is missing or damaged, since a new one replaces it."""
    try:
        lists = load_revocation_lists(authority.files.revocation_list)
    except CertsError:
        return frozenset()
    own = [crl for crl in lists if crl.issuer == authority.certificate.subject]
    return frozenset(serial_text(entry.serial_number) for crl in own for entry in crl)


def _is_to_be_listed(entry: IssuedCertificate, now: datetime) -> bool:
    # RFC 5280, 3.3: an entry stays until a list made after the certificate's end has had it. By the time that a list
    # lives, the last one made before that end has lapsed.
    return entry.revoked is not None and entry.not_after > now - REVOCATION_LIST_LIFETIME


def _revocation(entry: IssuedCertificate) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(int(entry.serial, 16))
    return builder.revocation_date(entry.revoked or entry.not_before).build()
