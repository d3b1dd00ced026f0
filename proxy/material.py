"""Certificates, keys and CRLs from PEM files, judged before OpenSSL sees them, so that an error names its file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from proxy.config import ConfigError, TlsTable
from proxy.openssl import TlsMaterial

_Parsed = TypeVar("_Parsed")


def load_material(table: TlsTable, folder: Path) -> TlsMaterial:
    """Reads what one TLS leg needs.

    Args:
        table: the leg's part of the configuration.
        folder: where relative paths start.

    Raises:
        ConfigError: a file is missing, unreadable, expired, does not fit another, or a CRL is nobody's.
    """
    anchors = _load(folder / table.ca, "ca", x509.load_pem_x509_certificates)
    if all(anchor.not_valid_after_utc <= _now() for anchor in anchors):
        raise ConfigError(f"{folder / table.ca}: ca: every certificate in it has expired")
    leaf, chain, key = _load_pair(table, folder)
    return TlsMaterial(
        certificate=leaf,
        key=key,
        chain=chain,
        anchors=tuple(anchors),
        crls=tuple(_load_crl(folder / path, anchors) for path in table.crl),
        versions=table.versions,
        ciphers=table.ciphers,
        ciphersuites=table.ciphersuites,
        groups=table.groups,
    )


def _load_pair(
    table: TlsTable, folder: Path
) -> tuple[x509.Certificate | None, tuple[x509.Certificate, ...], PrivateKeyTypes | None]:
    if table.certificate is None or table.key is None:
        return None, (), None
    certificate_path, key_path = folder / table.certificate, folder / table.key
    leaf, *chain = _load(certificate_path, "certificate", x509.load_pem_x509_certificates)
    if leaf.not_valid_after_utc <= _now():
        raise ConfigError(
            f"{certificate_path}: certificate: expired at {leaf.not_valid_after_utc.isoformat()}; issue a new one"
        )
    key = _load(key_path, "key", lambda pem: load_pem_private_key(pem, password=None))
    if _public_bytes(key.public_key()) != _public_bytes(leaf.public_key()):
        raise ConfigError(f"{key_path}: key: does not belong to the certificate in {certificate_path}")
    return leaf, tuple(chain), key


def _load_crl(path: Path, anchors: list[x509.Certificate]) -> x509.CertificateRevocationList:
    crl = _load(path, "crl", x509.load_pem_x509_crl)
    issuers = [anchor for anchor in anchors if anchor.subject == crl.issuer]
    if not any(_signed(crl, issuer) for issuer in issuers):
        raise ConfigError(f"{path}: crl: not issued by any authority in ca, but by {crl.issuer.rfc4514_string()}")
    if crl.next_update_utc is not None and crl.next_update_utc <= _now():
        raise ConfigError(
            f"{path}: crl: was due for renewal at {crl.next_update_utc.isoformat()}; nobody could connect"
        )
    return crl


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except TypeError:
        return False


def _load(path: Path, key: str, parse: Callable[[bytes], _Parsed]) -> _Parsed:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {key}: cannot be read: {error.strerror}") from error
    except TypeError as error:
        raise ConfigError(
            f"{path}: {key}: is encrypted; Binlock needs a key without a passphrase, readable by its user only"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path}: {key}: holds no PEM that can be used: {error}") from error


def _public_bytes(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


def _now() -> datetime:
    return datetime.now(UTC)
