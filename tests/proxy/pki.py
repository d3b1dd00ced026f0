"""Certificates for the tests: two authorities and leaves with every fault, made once a session."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs.issuing.builders import build_authority, build_leaf, build_revocation_list
from certs.keys import KeyType, PrivateKey, generate_key, serialize_key
from certs.names import parse_names
from certs.profiles import Role, Validity
from proxy.configuration.config import DEFAULT_CIPHERS, DEFAULT_CIPHERSUITES, DEFAULT_GROUPS
from proxy.configuration.material import TlsMaterial

_HOUR = timedelta(hours=1)


def lasting(*, begin: timedelta = -_HOUR, end: timedelta = 24 * _HOUR) -> Validity:
    now = datetime.now(UTC).replace(microsecond=0)
    return Validity(now + begin, now + end)


_AGE = lasting(begin=-72 * _HOUR, end=72 * _HOUR)
EXPIRED: dict[str, Any] = {"begin": -48 * _HOUR, "end": -_HOUR}
NOT_YET: dict[str, Any] = {"begin": _HOUR, "end": 2 * _HOUR}


@dataclass(frozen=True)
class Leaf:
    """A certificate and its key, as objects and as files."""

    certificate: x509.Certificate
    key: PrivateKey
    certificate_file: Path
    key_file: Path


@dataclass
class TestAuthority:
    """An authority with everything on disk, in a folder of its own."""

    __test__ = False
    folder: Path
    name: str
    parent: TestAuthority | None = None
    is_deep: bool = False
    signs_crls: bool = True
    _made: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key = generate_key(KeyType.ECDSA_P256)
        if self.parent is None and not self.is_deep and self.signs_crls:
            self.certificate = build_authority(self.name, self.key, _AGE)
        else:
            self.certificate = _unusual_authority(
                self.name, self.key, parent=self.parent, is_deep=self.is_deep, signs_crls=self.signs_crls
            )
        self.file = self.folder / "ca.crt"
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(self, role: Role, *dns: str, uri: str | None = None, ip: str | None = None, **validity: Any) -> Leaf:
        names = parse_names(
            (uri or ip or "") if not dns else dns[0],
            dns=dns[1:],
            uri=[uri] if uri and dns else [],
            ip=[ip] if ip and dns else [],
        )
        key = generate_key(KeyType.ECDSA_P256)
        certificate = build_leaf(
            role, names, key.public_key(), lasting(**validity), authority=self.certificate, authority_key=self.key
        )
        return self.write(certificate, key)

    def write(self, certificate: x509.Certificate, key: PrivateKey) -> Leaf:
        self._made += 1
        certificate_file = self.folder / f"{self._made}.crt"
        key_file = self.folder / f"{self._made}.key"
        certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.write_bytes(serialize_key(key))
        return Leaf(certificate, key, certificate_file, key_file)

    def chained(self, leaf: Leaf) -> Leaf:
        """The same leaf, presented with this authority's certificate behind it."""
        chained = self.write(leaf.certificate, leaf.key)
        pem = leaf.certificate.public_bytes(Encoding.PEM) + self.certificate.public_bytes(Encoding.PEM)
        chained.certificate_file.write_bytes(pem)
        return chained

    def crl(self, *revoked: Leaf | TestAuthority, **validity: timedelta) -> x509.CertificateRevocationList:
        entries = [
            x509.RevokedCertificateBuilder()
            .serial_number(leaf.certificate.serial_number)
            .revocation_date(datetime.now(UTC) - _HOUR)
            .build()
            for leaf in revoked
        ]
        return build_revocation_list(
            1, lasting(**validity), authority=self.certificate, authority_key=self.key, revoked=entries
        )

    def write_crl(self, crl: x509.CertificateRevocationList) -> Path:
        self._made += 1
        path = self.folder / f"{self._made}.crl"
        path.write_bytes(crl.public_bytes(Encoding.PEM))
        return path


def _unusual_authority(
    name: str, key: PrivateKey, *, parent: TestAuthority | None, is_deep: bool, signs_crls: bool
) -> x509.Certificate:
    """An authority as Binlock's own program makes none: with others below or above it, or without cRLSign."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only"), False
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if parent is None else parent.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_AGE.not_before)
        .not_valid_after(_AGE.not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1 if is_deep else 0), critical=True)
        .add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=signs_crls), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    signer = key if parent is None else parent.key
    if parent is not None:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(signer, hashes.SHA256())


class Pki:
    """What the tests present and trust."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = TestAuthority(folder / "ours", "Ours")
        self.stranger = TestAuthority(folder / "theirs", "Theirs")

    @cached_property
    def proxy(self) -> Leaf:
        """Binlock's own leaf: answers replicas, dials sources."""
        return self.authority.issue(Role.PROXY, "proxy.example")

    @cached_property
    def source(self) -> Leaf:
        return self.authority.issue(Role.SOURCE, "localhost", ip="127.0.0.1")

    @cached_property
    def replica(self) -> Leaf:
        return self.authority.issue(Role.REPLICA, "replica-1.example")

    @cached_property
    def revoked_replica(self) -> Leaf:
        return self.authority.issue(Role.REPLICA, "replica-revoked.example")

    @cached_property
    def expired_replica(self) -> Leaf:
        return self.authority.issue(Role.REPLICA, "replica-1.example", **EXPIRED)

    @cached_property
    def future_replica(self) -> Leaf:
        return self.authority.issue(Role.REPLICA, "replica-1.example", **NOT_YET)

    @cached_property
    def unlisted_replica(self) -> Leaf:
        return self.authority.issue(Role.REPLICA, "unlisted.example")

    @cached_property
    def foreign_replica(self) -> Leaf:
        return self.stranger.issue(Role.REPLICA, "replica-1.example")

    @cached_property
    def crl(self) -> x509.CertificateRevocationList:
        return self.authority.crl(self.revoked_replica)

    def material(
        self,
        leaf: Leaf | None = None,
        *,
        chain: tuple[x509.Certificate, ...] = (),
        anchors: tuple[x509.Certificate, ...] | None = None,
        crls: tuple[x509.CertificateRevocationList, ...] = (),
        versions: tuple[str, ...] = ("TLSv1.2", "TLSv1.3"),
        ciphers: tuple[str, ...] = DEFAULT_CIPHERS,
        ciphersuites: tuple[str, ...] = DEFAULT_CIPHERSUITES,
        groups: tuple[str, ...] = DEFAULT_GROUPS,
    ) -> TlsMaterial:
        return TlsMaterial(
            certificate=leaf.certificate if leaf else None,
            key=leaf.key if leaf else None,
            chain=chain,
            anchors=(self.authority.certificate,) if anchors is None else anchors,
            crls=crls,
            versions=versions,
            ciphers=ciphers,
            ciphersuites=ciphersuites,
            groups=groups,
        )

    def client(self, leaf: Leaf | None, *, trusts: Path | None = None) -> ssl.SSLContext:
        """A context of Python's own ssl for a replica; checks the chain, and the name where one is dialled."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(trusts or self.authority.file)
        if leaf is not None:
            context.load_cert_chain(leaf.certificate_file, leaf.key_file)
        return context

    def server(self, leaf: Leaf, *, asks_for_certificate: bool = False) -> ssl.SSLContext:
        """The same for a source."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(leaf.certificate_file, leaf.key_file)
        if asks_for_certificate:
            context.load_verify_locations(self.authority.file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
