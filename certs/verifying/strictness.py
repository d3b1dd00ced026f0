"""What OpenSSL's X509_STRICT asks of a chain beyond the ordinary: RFC 5280, 4.2, to the letter.

Binlock's proxy verifies with it; mysqld and mariadbd do not.
"""

from collections.abc import Iterator, Sequence

from cryptography import x509

from certs.verifying.extensions import extension_of, key_usage_of, named, subject_key_identifier_of


def breaches(chain: Sequence[x509.Certificate]) -> Iterator[str]:
    """Each rule that is broken. Nothing is asked of a chain of one, a leaf that signed itself."""
    for place, certificate in enumerate(chain if len(chain) > 1 else ()):
        faults = [*_of_constraints(certificate, is_leaf=place == 0), *_of_subject(certificate)]
        if certificate.version is x509.Version.v3:
            faults += _of_identifiers(certificate, is_root=place == len(chain) - 1)
        yield from (f"{named(certificate)}: {fault}: issue it anew" for fault in faults)


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints = extension_of(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _of_constraints(certificate: x509.Certificate, *, is_leaf: bool) -> Iterator[str]:
    constraints = extension_of(certificate, x509.BasicConstraints)
    usage = key_usage_of(certificate)
    signs = usage is not None and usage.key_cert_sign
    if _is_authority(certificate):
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).critical:
            yield "its basicConstraints are not critical"
        if usage is None:
            yield "an authority without a keyUsage"
    elif not is_leaf:
        yield "an authority without basicConstraints"
    elif signs:
        yield "no authority, and has keyCertSign"
    if constraints is not None and constraints.path_length is not None and not signs:
        yield "a path length without keyCertSign"


def _of_subject(certificate: x509.Certificate) -> Iterator[str]:
    if list(certificate.subject):
        return
    names = extension_of(certificate, x509.SubjectAlternativeName)
    if names is None or _is_authority(certificate):
        yield "its subject is empty"
    elif not certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical:
        yield "its subject is empty, and its alternative names are not critical"


def _of_identifiers(certificate: x509.Certificate, *, is_root: bool) -> Iterator[str]:
    identifier = extension_of(certificate, x509.AuthorityKeyIdentifier)
    if not is_root and (identifier is None or identifier.key_identifier is None):
        yield "no authorityKeyIdentifier"
    if _is_authority(certificate) and subject_key_identifier_of(certificate) is None:
        yield "an authority without a subjectKeyIdentifier"
