"""Whether a chain's certificates are revoked, as OpenSSL judges it with `-crl_check_all`: the root's own too."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509

from certs.verifying.chains import Chain, named_issuer
from certs.verifying.extensions import extension_of, key_usage_of, named, subject_key_identifier_of
from certs.verifying.findings import Check, Finding, all_or, warned

RevocationLists = Sequence[x509.CertificateRevocationList]


def judge_revocation(chain: Chain, lists: RevocationLists, now: datetime) -> Iterator[Finding]:
    """Every certificate of a whole chain must have a current list of its issuer, which has not got it."""
    if not lists:
        yield warned(Check.REVOCATION, "not checked: give --crl with the list of every authority in the chain")
        return
    faults = [fault for below, above in _links(chain) for fault in _faults(below, above, lists, now)]
    yield from all_or(Check.REVOCATION, faults, "none of the chain is revoked")


def lists_in_use(chain: Chain, lists: RevocationLists, now: datetime) -> RevocationLists:
    """Of several lists of one authority, the one that is looked at."""
    found = [_list_of(above, lists, now) for _, above in _links(chain)]
    return [crl for crl in found if crl is not None]


def _links(chain: Chain) -> Iterator[tuple[x509.Certificate, x509.Certificate]]:
    yield from zip(chain, [*chain[1:], chain[-1]], strict=True)


def _faults(below: x509.Certificate, above: x509.Certificate, lists: RevocationLists, now: datetime) -> Iterator[str]:
    crl = _list_of(above, lists, now)
    if crl is None:
        yield f"there is no list of {named_issuer(below)}, who issued {named(below)}: bring its CRL"
        return
    who = f"the list of {named(above)}"
    usage = key_usage_of(above)
    if usage is not None and not usage.crl_sign:
        yield f"{named(above)} may not sign lists (cRLSign): renew it with that"
    if not crl.is_signature_valid(above.public_key()):  # type: ignore[arg-type]
        yield f"{who} is not signed by its key: fetch the genuine one"
    if crl.last_update_utc > now:
        yield f"{who} counts from {crl.last_update_utc:%Y-%m-%d %H:%M} UTC on: wait, or set the clock"
    if crl.next_update_utc is not None and crl.next_update_utc < now:
        yield f"{who} lapsed on {crl.next_update_utc:%Y-%m-%d %H:%M} UTC, and everybody is refused: sign a new one"
    if any(extension.critical for extension in crl.extensions):
        yield f"{who} is a part of one (a critical extension): bring the whole"
    entry = crl.get_revoked_certificate_by_serial_number(below.serial_number)
    if entry is not None and not _is_taken_back(entry):
        yield f"{named(below)} was revoked on {entry.revocation_date_utc:%Y-%m-%d %H:%M} UTC: issue another"


def _list_of(issuer: x509.Certificate, lists: RevocationLists, now: datetime) -> x509.CertificateRevocationList | None:
    mine = (crl for crl in lists if _is_of(crl, issuer))
    return max(mine, key=lambda crl: (_counts(crl, now), crl.last_update_utc), default=None)


def _is_of(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    if crl.issuer != issuer.subject:
        return False
    identifier = extension_of(crl, x509.AuthorityKeyIdentifier)
    own = subject_key_identifier_of(issuer)
    return identifier is None or identifier.key_identifier in (None, own) or own is None


def _counts(crl: x509.CertificateRevocationList, now: datetime) -> bool:
    return crl.last_update_utc <= now and (crl.next_update_utc is None or now <= crl.next_update_utc)


def _is_taken_back(entry: x509.RevokedCertificate) -> bool:
    reason = extension_of(entry, x509.CRLReason)
    return reason is not None and reason.reason is x509.ReasonFlags.remove_from_crl
