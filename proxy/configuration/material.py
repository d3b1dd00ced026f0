"""Certificates, keys and CRLs from PEM files, judged before OpenSSL sees them, so that an error names its file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from proxy.configuration.config import ConfigError, TlsTable

_Parsed = TypeVar("_Parsed")
_Crl = x509.CertificateRevocationList

_CRL_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
# `.r0` and on: what `openssl rehash` calls its links.
_CRL_NAME = re.compile(r"\.(?:crl|pem|r\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """What one TLS leg presents, trusts and accepts; certificates are parsed already.

    Attributes:
        certificate: our leaf, None for a client that has none.
        chain: the issuers to send after it, leaf's issuer first.
        anchors: the trusted authorities; never empty.
        crls: if any, every authority of a peer's chain must have one.
    """

    certificate: x509.Certificate | None
    key: PrivateKeyTypes | None
    chain: tuple[x509.Certificate, ...]
    anchors: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...]
    versions: tuple[str, ...]
    ciphers: tuple[str, ...]
    ciphersuites: tuple[str, ...]
    groups: tuple[str, ...]


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
        crls=tuple(_load_crls(table, folder, anchors)),
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


def load_leaf(path: Path) -> x509.Certificate:
    """The first certificate of a file.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    return _load(path, "certificate", x509.load_pem_x509_certificates)[0]


def peer_name(certificate: x509.Certificate) -> str | None:
    """A name that a client can expect this certificate to have: its first DNS name or address; None if it has none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    plain = [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]
    # A wildcard is no host's name, and stands for whichever label.
    return next((name.replace("*", "any", 1) for name in plain), None)


def material_files(table: TlsTable, folder: Path) -> list[Path]:
    """Every file or folder that `load_material` reads."""
    return [folder / path for path in (table.ca, table.certificate, table.key, *table.crl) if path is not None]


def _load_crls(table: TlsTable, folder: Path, anchors: list[x509.Certificate]) -> list[_Crl]:
    """Every CRL that the table names. With any, each authority of `ca` must have one: its peers could not connect."""
    crls = [crl for path in table.crl for file in crl_files(folder / path) for crl in _crls_of(file, anchors)]
    for anchor in anchors if crls else ():
        if not any(crl.issuer == anchor.subject and _signed(crl, anchor) for crl in crls):
            who = anchor.subject.rfc4514_string()
            raise ConfigError(
                f"{folder / table.ca}: crl: there is none of the authority {who}; its peers could not connect; add one"
            )
    return crls


def crl_files(path: Path) -> list[Path]:
    """The file itself, or those in a folder; `openssl rehash` leaves links there, which lead to the same files."""
    if not path.is_dir():
        return [path]
    try:
        files = {inner.resolve() for inner in path.iterdir() if _CRL_NAME.search(inner.name)}
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, until Python 3.13
        raise ConfigError(f"{path}: crl: cannot be read: {error}") from error
    if not files:
        raise ConfigError(
            f"{path}: crl: no file in this folder ends in .crl, .pem or .rN; put one there, or leave crl out"
        )
    return sorted(files)


def _crls_of(path: Path, anchors: list[x509.Certificate]) -> list[_Crl]:
    blocks = _CRL_BLOCK.findall(_load(path, "crl", bytes))
    if not blocks:
        raise ConfigError(f"{path}: crl: holds no PEM that can be used: no X509 CRL block; convert it from DER?")
    crls: list[_Crl] = []
    for block in blocks:
        try:
            crl = x509.load_pem_x509_crl(block)
        except ValueError as error:
            raise ConfigError(f"{path}: crl: holds no PEM that can be used: {error}") from error
        _judge_crl(crl, path, anchors)
        crls.append(crl)
    return crls


def _judge_crl(crl: _Crl, path: Path, anchors: list[x509.Certificate]) -> None:
    issuers = [anchor for anchor in anchors if anchor.subject == crl.issuer]
    who = crl.issuer.rfc4514_string()
    if not issuers:
        raise ConfigError(
            f"{path}: crl: not issued by any authority in ca, but by {who}; add its certificate to ca, or drop this"
        )
    if not any(_signed(crl, issuer) for issuer in issuers):
        raise ConfigError(
            f"{path}: crl: names {who} as its issuer, and is not signed by that authority's key; fetch the genuine one"
        )
    if not any(_may_sign_crls(issuer) for issuer in issuers):
        raise ConfigError(
            f"{path}: crl: the key usage of {who} lacks cRLSign, so that OpenSSL would refuse everybody; "
            "renew that authority's certificate with it, or leave crl out"
        )
    if crl.next_update_utc is not None and crl.next_update_utc <= _now():
        raise ConfigError(
            f"{path}: crl: was due for renewal at {crl.next_update_utc.isoformat()}, and nobody could connect; "
            "issue a new one"
        )
    if crl.last_update_utc > _now():
        raise ConfigError(
            f"{path}: crl: is not valid before {crl.last_update_utc.isoformat()}, and nobody could connect; "
            "issue it anew, or set the clock"
        )


def _signed(crl: _Crl, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except TypeError:
        return False


def _may_sign_crls(issuer: x509.Certificate) -> bool:
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


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
