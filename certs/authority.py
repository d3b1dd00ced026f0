"""An authority as a folder: made once, opened for each command, signing under the folder's lock.

    ca.crt        what every source, replica and proxy trusts                 0644
    ca.key        what signs; it never leaves this folder                     0400
    ca.crl        the signed revocation list, there from the first day        0644
    index.json    every certificate that was ever signed                      0644
    NAME.crt      a leaf                                                      0644
    NAME.key      its key, to be moved to its host                            0600

The order of the writes is what makes a crash harmless. `create` writes `ca.crt` last: a folder without it
holds no authority, and nobody can have trusted it yet. `issue` writes the index first, then the key, then the
certificate. `revoke` writes the index first, then the list: cut short in between, the next list has it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.builders import build_authority, build_leaf, build_revocation_list
from certs.errors import CertsError
from certs.index import (
    Index,
    IssuedCertificate,
    create_index,
    load_index,
    parse_serial,
    replace_index,
    serial_text,
)
from certs.keys import KeyType, PrivateKey, generate_key, key_type_of, parse_key, serialize_key
from certs.names import SubjectNames, parse_label
from certs.profiles import REVOCATION_LIST_LIFETIME, Lifetime, Role, Validity, utc_now
from certs.storage import (
    MODE_AUTHORITY_FOLDER,
    MODE_AUTHORITY_KEY,
    MODE_FOLDER,
    MODE_KEY,
    MODE_PUBLIC,
    create_file,
    is_taken,
    locked_folder,
    make_folder,
    read_file,
    replace_file,
    verify_secret_mode,
)


@dataclass(frozen=True, slots=True)
class AuthorityFiles:
    """Where an authority keeps what."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """The trust anchor."""
        return self.folder / "ca.crt"

    @property
    def key(self) -> Path:
        """The signing key."""
        return self.folder / "ca.key"

    @property
    def revocation_list(self) -> Path:
        """The latest revocation list."""
        return self.folder / "ca.crl"

    @property
    def index(self) -> Path:
        """What was issued."""
        return self.folder / "index.json"


@dataclass(frozen=True, slots=True)
class IssuedLeaf:
    """A leaf that has been written: proof that both files are there and that the index has it."""

    role: Role
    subject: SubjectNames
    certificate: x509.Certificate
    certificate_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class SignedRevocationList:
    """A revocation list that has been written: proof that the file is there and that the index has its number."""

    number: int
    validity: Validity
    serials: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RevokedLeaf:
    """A certificate that has been revoked, and the list that says so."""

    entry: IssuedCertificate
    revocation_list: SignedRevocationList


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that can sign; `create` and `open` make it, with all that it needs."""

    files: AuthorityFiles
    certificate: x509.Certificate
    key: PrivateKey

    @classmethod
    def create(cls, folder: Path, *, name: str, lifetime: Lifetime, key_type: KeyType) -> "Authority":
        """Make a new authority in a folder that holds none, with an empty revocation list.

        Raises:
            CertsError: the folder holds an authority or a part of one, or cannot be written.
        """
        files = AuthorityFiles(folder)
        key = generate_key(key_type)
        now = utc_now()
        certificate = build_authority(name, key, lifetime.around(now))
        revocation_list = build_revocation_list(
            1,
            _within(Lifetime(REVOCATION_LIST_LIFETIME).around(now), certificate),
            authority=certificate,
            authority_key=key,
        )
        make_folder(folder, mode=MODE_AUTHORITY_FOLDER)
        with locked_folder(folder):
            _refuse_former_authority(files)
            create_file(files.key, serialize_key(key), mode=MODE_AUTHORITY_KEY)
            create_file(files.revocation_list, revocation_list.public_bytes(Encoding.PEM), mode=MODE_PUBLIC)
            create_index(files.index, Index(revocation_list_number=1))
            create_file(files.certificate, certificate.public_bytes(Encoding.PEM), mode=MODE_PUBLIC)
        return cls(files, certificate, key)

    @classmethod
    def open(cls, folder: Path) -> "Authority":
        """Read an authority and check that it can sign: key and certificate match, and it has not expired."""
        files = AuthorityFiles(folder)
        if not is_taken(files.certificate):
            raise CertsError(f"{folder} holds no authority (no ca.crt): make one with `binlock-certs init`")
        try:
            certificate = x509.load_pem_x509_certificate(read_file(files.certificate))
        except ValueError as exc:
            raise CertsError(f"{files.certificate} is not a PEM certificate: restore it from your backup") from exc
        verify_secret_mode(files.key)
        key = parse_key(read_file(files.key), where=str(files.key))
        if key.public_key() != certificate.public_key():
            raise CertsError(f"{files.key} does not belong to {files.certificate}: restore both from one backup")
        if certificate.not_valid_after_utc <= utc_now():
            raise CertsError(
                f"the authority in {folder} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: "
                "make a new one in another folder and issue every certificate anew"
            )
        return cls(files, certificate, key)

    def issue(
        self,
        role: Role,
        subject: SubjectNames,
        *,
        lifetime: Lifetime,
        key_type: KeyType | None = None,
        out: Path | None = None,
    ) -> IssuedLeaf:
        """Make a key, sign a certificate for it, and write both.

        Args:
            role: decides what the certificate may be used for.
            subject: the names in it, and the name of its files.
            lifetime: must end before the authority does.
            key_type: the authority's own kind unless given.
            out: the folder for the two files; the authority's own unless given, made if need be.

        Raises:
            CertsError: nothing was written, or, after a failing write, nothing but an entry in the index.
        """
        folder = self.files.folder if out is None else out
        certificate_file = folder / f"{subject.file_stem}.crt"
        key_file = folder / f"{subject.file_stem}.key"
        _refuse_former_leaf(certificate_file, key_file)

        validity = lifetime.around(utc_now())
        self._refuse_to_be_outlived(validity)
        key = generate_key(key_type or key_type_of(self.key))
        certificate = build_leaf(
            role,
            subject,
            key.public_key(),
            validity,
            authority=self.certificate,
            authority_key=self.key,
        )
        if out is not None:
            make_folder(out, mode=MODE_FOLDER)
        with locked_folder(self.files.folder):
            _refuse_former_leaf(certificate_file, key_file)
            self._enter(role, subject, certificate, certificate_file)
            create_file(key_file, serialize_key(key), mode=MODE_KEY)
            try:
                create_file(certificate_file, certificate.public_bytes(Encoding.PEM), mode=MODE_PUBLIC)
            except BaseException:
                key_file.unlink(missing_ok=True)  # ours, made a moment ago, and useless alone
                raise
        return IssuedLeaf(role, subject, certificate, certificate_file, key_file)

    def revoke(self, name: str | None = None, *, serial: str | None = None) -> RevokedLeaf:
        """Revoke one certificate and sign the list that says so.

        One whose revocation was cut short before its list was written is taken again, and the list is written.

        Args:
            name: the label that it was issued for; needed unless `serial` is given.
            serial: its serial number, which also tells several of one name apart.

        Raises:
            CertsError: there is none, or several, or it is revoked or has expired already. Nothing was written.
        """
        with locked_folder(self.files.folder):
            index = load_index(self.files.index)
            now = utc_now().replace(microsecond=0)
            listed = self._listed_serials()
            entry = _find_to_revoke(index, name, serial, listed=listed, now=now)
            if entry.revoked is None:
                entry = msgspec.structs.replace(entry, revoked=now)
            signed = self._sign_list(index.with_revocation(entry), Lifetime(REVOCATION_LIST_LIFETIME))
        return RevokedLeaf(entry, signed)

    def renew_revocation_list(self, lifetime: Lifetime) -> SignedRevocationList:
        """Sign the list anew, with all that is revoked, so that it is good for another `lifetime`."""
        with locked_folder(self.files.folder):
            return self._sign_list(load_index(self.files.index), lifetime)

    def _sign_list(self, index: Index, lifetime: Lifetime) -> SignedRevocationList:
        """Write the index with the next number and the list of that number; the caller holds the lock."""
        index = index.with_next_revocation_list()
        now = utc_now()
        validity = _within(lifetime.around(now), self.certificate)
        listed = [entry for entry in index.certificates if _is_to_be_listed(entry, now)]
        revocation_list = build_revocation_list(
            index.revocation_list_number,
            validity,
            authority=self.certificate,
            authority_key=self.key,
            revoked=[_revocation(entry) for entry in listed],
        )
        replace_index(self.files.index, index)
        replace_file(self.files.revocation_list, revocation_list.public_bytes(Encoding.PEM), mode=MODE_PUBLIC)
        return SignedRevocationList(index.revocation_list_number, validity, tuple(entry.serial for entry in listed))

    def _listed_serials(self) -> frozenset[str]:
        """What the list on disk has; nothing if it is missing or damaged, since a new one replaces it."""
        try:
            crl = x509.load_pem_x509_crl(read_file(self.files.revocation_list))
        except (CertsError, ValueError):
            return frozenset()
        return frozenset(serial_text(entry.serial_number) for entry in crl)

    def _enter(self, role: Role, subject: SubjectNames, certificate: x509.Certificate, file: Path) -> None:
        inside = file.parent.resolve() == self.files.folder.resolve()
        entry = IssuedCertificate(
            serial=serial_text(certificate.serial_number),
            role=role,
            label=subject.label,
            names=tuple(subject.describe()),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            file=file.name if inside else str(file.resolve()),
        )
        replace_index(self.files.index, load_index(self.files.index).with_certificate(entry))

    def _refuse_to_be_outlived(self, validity: Validity) -> None:
        end = self.certificate.not_valid_after_utc
        if validity.not_after > end:
            days = (end - utc_now()) // timedelta(days=1)
            remedy = f"ask for --days {days} or fewer" if days else "ask for --seconds, or make a new authority"
            raise CertsError(f"the certificate would outlive its authority, which ends on {end:%Y-%m-%d}: {remedy}")


def _refuse_former_authority(files: AuthorityFiles) -> None:
    if is_taken(files.certificate):
        raise CertsError(
            f"{files.folder} holds an authority already: use it with `binlock-certs issue`, "
            "or choose another folder for the new one"
        )
    parts = [path for path in (files.key, files.revocation_list, files.index) if is_taken(path)]
    if parts:
        raise CertsError(
            f"{files.folder} has {', '.join(path.name for path in parts)} but no ca.crt. If an init was cut "
            "short here, nothing depends on them: remove them and run it again. "
            "Otherwise restore ca.crt from your backup"
        )


def _refuse_former_leaf(certificate_file: Path, key_file: Path) -> None:
    if is_taken(certificate_file):
        raise CertsError(
            f"{certificate_file} exists and is never overwritten: move it and its key away, or choose another --out"
        )
    if is_taken(key_file):
        raise CertsError(
            f"{key_file} exists without its certificate, as an issue that was cut short leaves it: "
            "remove it and run this again"
        )


def _within(validity: Validity, authority: x509.Certificate) -> Validity:
    return Validity(validity.not_before, min(validity.not_after, authority.not_valid_after_utc))


def _find_to_revoke(
    index: Index, name: str | None, serial: str | None, *, listed: frozenset[str], now: datetime
) -> IssuedCertificate:
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
        serials = ", ".join(f"{entry.serial} (until {entry.not_after:%Y-%m-%d})" for entry in valid)
        raise CertsError(f"{len(valid)} certificates have {who}: choose one with --serial: {serials}")
    return valid[0]


def _label(name: str) -> str:
    """The name as `issue` spells it, or as it is if it could not be issued."""
    try:
        return str(parse_label(name).value)
    except CertsError:
        return name


def _is_to_be_listed(entry: IssuedCertificate, now: datetime) -> bool:
    # RFC 5280, 3.3: an entry stays until a list made after the certificate's end has had it. By the time that a list
    # lives, the last one made before that end has lapsed.
    return entry.revoked is not None and entry.not_after > now - REVOCATION_LIST_LIFETIME


def _revocation(entry: IssuedCertificate) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(int(entry.serial, 16))
    return builder.revocation_date(entry.revoked or entry.not_before).build()
