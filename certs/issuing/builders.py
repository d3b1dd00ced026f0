"""Certificates and revocation lists as values: keys and names in, signed objects out. No files, no clock.

Written to pass OpenSSL's X509_STRICT, which holds a chain to RFC 5280: each extension below that seems
superfluous is one that it, or a verifier that follows the same rules, asks for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from certs.errors import CertsError
from certs.keys import PrivateKey, PublicKey, signing_hash_of
from certs.names import SubjectNames
from certs.profiles import EXTENDED_KEY_USAGES, Role, Validity

# RFC 5280, appendix A.1: ub-common-name.
_MAX_COMMON_NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs: a certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey


def build_authority(
    name: str, key: PrivateKey, validity: Validity, *, path_length: int = 0, parent: Issuer | None = None
) -> x509.Certificate:
    """An authority that may sign leaves and revocation lists.

    Args:
        name: its common name.
        key: its own key.
        validity: when it counts.
        path_length: how many authorities may stand below it.
        parent: who signs it; itself unless given.
    """
    if not 0 < len(name) <= _MAX_COMMON_NAME_CHARACTERS or not name.isprintable():
        raise CertsError(f"{name!r} cannot name an authority: use 1 to 64 printable characters")
    subject = _common_name(name)
    if parent is not None and parent.certificate.subject == subject:
        # Verifiers find an issuer by its name; two of one name in a chain look self-issued.
        raise CertsError(f"{name!r} is the name of the authority above: give --name another")
    issuer = subject if parent is None else parent.certificate.subject
    builder = (
        _certificate(subject, issuer, key.public_key(), validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        # cRLSign from the start: without it OpenSSL refuses every chain as soon as it checks revocation.
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    if parent is None:
        return builder.sign(key, signing_hash_of(key))
    identifier = _authority_key_identifier(parent.certificate, parent.key)
    return builder.add_extension(identifier, critical=False).sign(parent.key, signing_hash_of(parent.key))


def build_leaf(
    role: Role,
    subject: SubjectNames,
    public_key: PublicKey,
    validity: Validity,
    *,
    authority: x509.Certificate,
    authority_key: PrivateKey,
) -> x509.Certificate:
    """A certificate for one end of replication.

    It takes the public key alone, so that a key can stay on the host where it was made. A label too long for
    a common name is left out rather than cut, since MySQL 5.7 may compare the common name with a host's; the
    subject is then empty, and the alternative names must be critical.
    """
    fits = len(subject.label) <= _MAX_COMMON_NAME_CHARACTERS
    common_name = _common_name(subject.label) if fits else x509.Name([])
    # Only RSA key exchange (TLS 1.2 without forward secrecy) needs it, but some peers ask it of any RSA key.
    key_usage = _key_usage(digital_signature=True, key_encipherment=isinstance(public_key, rsa.RSAPublicKey))
    builder = (
        _certificate(common_name, authority.subject, public_key, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(EXTENDED_KEY_USAGES[role]), critical=False)
        .add_extension(x509.SubjectAlternativeName(subject.names), critical=not fits)
        .add_extension(_authority_key_identifier(authority, authority_key), critical=False)
    )
    return builder.sign(authority_key, signing_hash_of(authority_key))


def build_revocation_list(
    number: int,
    validity: Validity,
    *,
    authority: x509.Certificate,
    authority_key: PrivateKey,
    revoked: Sequence[x509.RevokedCertificate] = (),
) -> x509.CertificateRevocationList:
    """The list of what is revoked; an empty one lets checking be on before there is anything to revoke.

    Args:
        number: greater than that of every list before (RFC 5280, 5.2.3).
        validity: `not_after` becomes nextUpdate; past it, checkers refuse every certificate of the authority.
        authority: the certificate that signs.
        authority_key: its key.
        revoked: all that are revoked, but for those that expired long ago.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(validity.not_before)
        .next_update(validity.not_after)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_key_identifier(authority, authority_key), critical=False)
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority_key, signing_hash_of(authority_key))


def _certificate(
    subject: x509.Name, issuer: x509.Name, public_key: PublicKey, validity: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _authority_key_identifier(authority: x509.Certificate, authority_key: PrivateKey) -> x509.AuthorityKeyIdentifier:
    """The authority's own identifier, copied: an authority from elsewhere may have made it its own way."""
    try:
        identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
