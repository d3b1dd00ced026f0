"""What there is, for `show`: an authority with all that it issued, or what is in a file."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.errors import CertsError
from certs.issuing.authority import AuthorityFiles, load_trust
from certs.issuing.index import IssuedCertificate, load_index, serial_text
from certs.issuing.revocation import next_due
from certs.keys import describe_public_key, is_encrypted, parse_key
from certs.names import describe_name
from certs.pem import kinds_of, load_certificates, load_request, load_revocation_lists
from certs.storage import read_file
from certs.verifying.extensions import extension_of, named
from certs.verifying.verification import WARN_DAYS

Record = dict[str, object]

_PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth", ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth"}


def show_authority(files: AuthorityFiles, now: datetime) -> Record:
    """An authority and its certificates; its key is not needed."""
    own, *parents = load_trust(files)
    index = load_index(files.index)
    due = next_due(files)
    return {
        "authority": named(own),
        "parents": [named(parent) for parent in parents],
        "key_type": describe_public_key(own.public_key()),
        "key_has_passphrase": is_encrypted(read_file(files.key)) if files.key.exists() else None,
        "not_after": moment(own.not_valid_after_utc),
        "days_left": _days(own.not_valid_after_utc, now),
        "crl_number": index.revocation_list_number,
        "crl_next_update": None if due is None else moment(due),
        "crl_days_left": None if due is None else _days(due, now),
        "certificates": [_entry(entry, now) for entry in index.certificates],
    }


def show_file(path: Path, now: datetime) -> list[Record]:
    """Everything in a PEM file; of a private key its kind alone."""
    kinds = kinds_of(read_file(path))
    records: list[Record] = []
    if "CERTIFICATE" in kinds:
        records += [_certificate(certificate, now) for certificate in load_certificates(path)]
    if "X509 CRL" in kinds:
        records += [_list(crl, now) for crl in load_revocation_lists(path)]
    if "CERTIFICATE REQUEST" in kinds:
        records.append(_request(load_request(path)))
    if any(kind.endswith("PRIVATE KEY") for kind in kinds):
        records.append(_key(path))
    if not records:
        raise CertsError(f"{path} has no certificate, list, request or key in PEM: convert it from DER?")
    return [{"file": str(path), **record} for record in records]


def moment(when: datetime) -> str:
    """A time as this program writes it everywhere."""
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def state_of(entry: IssuedCertificate, now: datetime) -> str:
    """`revoked`, `expired`, `ending` within a fortnight or the last third of its life, or `valid`."""
    if entry.revoked is not None:
        return "revoked"
    if entry.not_after <= now:
        return "expired"
    late = min(timedelta(days=WARN_DAYS), (entry.not_after - entry.not_before) / 3)
    return "ending" if entry.not_after - now < late else "valid"


def _entry(entry: IssuedCertificate, now: datetime) -> Record:
    return {
        "label": entry.label,
        "role": str(entry.role),
        "state": state_of(entry, now),
        "not_after": moment(entry.not_after),
        "days_left": _days(entry.not_after, now),
        "serial": entry.serial,
        "names": list(entry.names),
        "file": entry.file,
        "revoked": None if entry.revoked is None else moment(entry.revoked),
    }


def _certificate(certificate: x509.Certificate, now: datetime) -> Record:
    constraints = extension_of(certificate, x509.BasicConstraints)
    return {
        "kind": "authority" if constraints is not None and constraints.ca else "certificate",
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "names": _names(extension_of(certificate, x509.SubjectAlternativeName)),
        "purposes": _purposes(extension_of(certificate, x509.ExtendedKeyUsage)),
        "key_type": describe_public_key(certificate.public_key()),
        "serial": serial_text(certificate.serial_number),
        "not_before": moment(certificate.not_valid_before_utc),
        "not_after": moment(certificate.not_valid_after_utc),
        "days_left": _days(certificate.not_valid_after_utc, now),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _list(crl: x509.CertificateRevocationList, now: datetime) -> Record:
    number = extension_of(crl, x509.CRLNumber)
    due = crl.next_update_utc
    return {
        "kind": "revocation list",
        "issuer": crl.issuer.rfc4514_string(),
        "number": None if number is None else number.crl_number,
        "this_update": moment(crl.last_update_utc),
        "next_update": None if due is None else moment(due),
        "days_left": None if due is None else _days(due, now),
        "serials": [serial_text(entry.serial_number) for entry in crl],
    }


def _request(request: x509.CertificateSigningRequest) -> Record:
    try:
        names = _names(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    return {
        "kind": "signing request",
        "subject": request.subject.rfc4514_string(),
        "names": names,
        "key_type": describe_public_key(request.public_key()),
    }


def _key(path: Path) -> Record:
    content = read_file(path)
    record: Record = {"kind": "private key", "mode": f"{path.stat().st_mode & 0o777:04o}"}
    if is_encrypted(content):
        return {**record, "key_type": "protected by a passphrase"}
    return {**record, "key_type": describe_public_key(parse_key(content, where=str(path)).public_key())}


def _names(names: x509.SubjectAlternativeName | None) -> list[str]:
    return [] if names is None else [describe_name(name) for name in names]


def _purposes(uses: x509.ExtendedKeyUsage | None) -> list[str]:
    return [] if uses is None else [_PURPOSES.get(use, use.dotted_string) for use in uses]


def _days(end: datetime, now: datetime) -> int:
    return (end - now) // timedelta(days=1)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with columns as wide as their widest cell; the last one is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
