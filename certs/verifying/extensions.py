"""Extensions of certificates and lists, None where there is none."""

from typing import TypeVar

from cryptography import x509

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def extension_of(
    holder: x509.Certificate | x509.CertificateRevocationList | x509.RevokedCertificate, kind: type[_Extension]
) -> _Extension | None:
    """An extension's value."""
    try:
        return holder.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def key_usage_of(certificate: x509.Certificate) -> x509.KeyUsage | None:
    """What its key may do; None for anything."""
    return extension_of(certificate, x509.KeyUsage)


def subject_key_identifier_of(certificate: x509.Certificate) -> bytes | None:
    """What those that it signed call it by."""
    identifier = extension_of(certificate, x509.SubjectKeyIdentifier)
    return None if identifier is None else identifier.digest


def named(certificate: x509.Certificate) -> str:
    """A certificate for people: its subject, or its serial number where that is empty."""
    subject = certificate.subject.rfc4514_string()
    return subject or f"serial {certificate.serial_number:x}"
