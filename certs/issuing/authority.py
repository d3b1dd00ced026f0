"""An authority as a folder: made once, opened for each command, signing under the folder's lock.

    ca.crt        what every source, replica and proxy trusts; below a root, its certificate too   0644
    ca.key        what signs; it never leaves this folder                                          0400
    ca.crl        the signed revocation list, there from the first day; with those of above        0644
    parent.crl    below a root only: the list of above, as it was last brought here                0644
    index.json    every certificate that was ever signed                                           0644
    NAME.crt      a leaf, followed by the authorities between it and the root                      0644
    NAME.key      its key, to be moved to its host; none where a signing request came              0600

The order of the writes is what makes a crash harmless. `create` writes `ca.crt` last: a folder without it
holds no authority, and nobody can have trusted it yet. `issue` writes the index first, then the key, then the
certificate. `revoke` writes the index first, then the list: cut short in between, the next list has it.
`renew` keeps what it is to replace under a second name before it does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.errors import CertsError
from certs.issuing.builders import Issuer, build_authority, build_revocation_list
from certs.issuing.index import Index, IssuedCertificate, create_index, load_index, replace_index, serial_text
from certs.keys import KeyType, PrivateKey, generate_key, is_encrypted, parse_key, serialize_key
from certs.pem import load_certificates, to_pem
from certs.profiles import REVOCATION_LIST_LIFETIME, Lifetime, Role, Validity, utc_now
from certs.storage import (
    MODE_AUTHORITY_FOLDER,
    MODE_AUTHORITY_KEY,
    MODE_PUBLIC,
    create_file,
    is_taken,
    locked_folder,
    make_folder,
    read_file,
    verify_secret_mode,
)

# Asked for the passphrase of a key file, and only if it has one.
AskPassphrase = Callable[[Path], bytes]


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
    def parent_list(self) -> Path:
        """The revocation lists of the authorities above; there is none for a root."""
        return self.folder / "parent.crl"

    @property
    def index(self) -> Path:
        """What was issued."""
        return self.folder / "index.json"


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that can sign; `create` and `open` make it, with all that it needs.

    Attributes:
        files: where it is.
        certificate: its own.
        key: what signs.
        parents: the authorities above it, the root last; empty for a root.
    """

    files: AuthorityFiles
    certificate: x509.Certificate
    key: PrivateKey
    parents: tuple[x509.Certificate, ...] = ()

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        name: str,
        lifetime: Lifetime,
        key_type: KeyType,
        passphrase: bytes | None = None,
        path_length: int = 0,
        parent: "Authority | None" = None,
    ) -> "Authority":
        """Make a new authority in a folder that holds none, with an empty revocation list.

        Args:
            folder: made if need be.
            name: its common name.
            lifetime: must end before the parent does.
            key_type: the kind of its key.
            passphrase: protects its key, if given.
            path_length: how many authorities may stand below it, one below the other.
            parent: who signs it; without one it is a root.

        Raises:
            CertsError: the folder holds an authority or a part of one, or cannot be written.
        """
        files = AuthorityFiles(folder)
        key = generate_key(key_type)
        validity = lifetime.around(utc_now())
        if parent is not None:
            if folder.resolve() == parent.files.folder.resolve():
                _refuse_former_authority(files)
            parent.refuse_to_sign_an_authority(validity)
        issuer = None if parent is None else Issuer(parent.certificate, parent.key)
        certificate = build_authority(name, key, validity, path_length=path_length, parent=issuer)
        parents = () if parent is None else (parent.certificate, *parent.parents)
        authority = cls(files, certificate, key, parents)
        make_folder(folder, mode=MODE_AUTHORITY_FOLDER)
        with locked_folder(folder):
            _refuse_former_authority(files)
            if parent is not None:
                _enter_below(parent, authority, name)
                create_file(files.parent_list, read_file(parent.files.revocation_list), mode=MODE_PUBLIC)
            create_file(files.key, serialize_key(key, passphrase), mode=MODE_AUTHORITY_KEY)
            _write_first_list(authority)
            create_file(files.certificate, to_pem(certificate, *parents), mode=MODE_PUBLIC)
        return authority

    @classmethod
    def open(cls, folder: Path, passphrase: AskPassphrase | None = None) -> "Authority":
        """Read an authority and check that it can sign: key and certificate match, and it counts now."""
        files = AuthorityFiles(folder)
        certificate, *parents = load_trust(files)
        verify_secret_mode(files.key)
        content = read_file(files.key)
        words = passphrase(files.key) if passphrase is not None and is_encrypted(content) else None
        key = parse_key(content, where=str(files.key), passphrase=words)
        if key.public_key() != certificate.public_key():
            raise CertsError(f"{files.key} does not belong to {files.certificate}: restore both from one backup")
        if certificate.not_valid_after_utc <= utc_now():
            raise CertsError(
                f"the authority in {folder} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: "
                "make a new one in another folder and issue every certificate anew"
            )
        if certificate.not_valid_before_utc > utc_now():
            # What it signed now would be dated before its authority, and perhaps have ended long ago.
            raise CertsError(
                f"the authority in {folder} counts from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on, and "
                f"the clock of this host says {utc_now():%Y-%m-%d %H:%M}: set the clock"
            )
        return cls(files, certificate, key, tuple(parents))

    @property
    def issuers(self) -> tuple[x509.Certificate, ...]:
        """What a leaf has to send along: this authority and those above, but for the root, which peers have."""
        return (self.certificate, *self.parents)[:-1]

    def refuse_to_sign_an_authority(self, validity: Validity) -> None:
        """Raise unless this one may sign another authority that counts for so long."""
        constraints = self.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        if constraints.path_length == 0:
            raise CertsError(
                f"the authority in {self.files.folder} may not sign another: "
                "make one with `binlock-certs init --allow-intermediates`"
            )
        self.refuse_to_be_outlived(validity)

    def refuse_to_be_outlived(self, validity: Validity) -> None:
        """Raise if a certificate of this validity would end after its authority."""
        end = self.certificate.not_valid_after_utc
        if validity.not_after > end:
            days = (end - utc_now()) // timedelta(days=1)
            remedy = f"ask for --days {days} or fewer" if days else "ask for --seconds, or make a new authority"
            raise CertsError(f"the certificate would outlive its authority, which ends on {end:%Y-%m-%d}: {remedy}")

    def enter(
        self,
        certificate: x509.Certificate,
        file: Path,
        *,
        role: Role,
        label: str,
        names: tuple[str, ...],
        requested: bool = False,
    ) -> None:
        """Enter a certificate in the index, before it is handed out; the caller holds the folder's lock."""
        inside = file.parent.resolve() == self.files.folder.resolve()
        entry = IssuedCertificate(
            serial=serial_text(certificate.serial_number),
            role=role,
            label=label,
            names=names,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            file=file.name if inside else str(file.resolve()),
            requested=requested,
        )
        replace_index(self.files.index, load_index(self.files.index).with_certificate(entry))

    def list_pem(self, revocation_list: x509.CertificateRevocationList) -> bytes:
        """The list, and those of above: whoever checks revocation needs one of every authority in a chain."""
        above = read_file(self.files.parent_list) if self.parents else b""
        return revocation_list.public_bytes(Encoding.PEM) + above


def load_trust(files: AuthorityFiles) -> list[x509.Certificate]:
    """What is in `ca.crt`: the authority's own certificate first, then those above it."""
    if not is_taken(files.certificate):
        raise CertsError(f"{files.folder} holds no authority (no ca.crt): make one with `binlock-certs init`")
    return load_certificates(files.certificate)


def within(validity: Validity, authority: x509.Certificate) -> Validity:
    """A list's span, cut where its authority ends."""
    return Validity(validity.not_before, min(validity.not_after, authority.not_valid_after_utc))


def _write_first_list(authority: Authority) -> None:
    revocation_list = build_revocation_list(
        1,
        within(Lifetime(REVOCATION_LIST_LIFETIME).around(utc_now()), authority.certificate),
        authority=authority.certificate,
        authority_key=authority.key,
    )
    create_file(authority.files.revocation_list, authority.list_pem(revocation_list), mode=MODE_PUBLIC)
    create_index(authority.files.index, Index(revocation_list_number=1))


def _enter_below(parent: Authority, below: Authority, name: str) -> None:
    with locked_folder(parent.files.folder):
        parent.enter(below.certificate, below.files.certificate, role=Role.AUTHORITY, label=name, names=())


def _refuse_former_authority(files: AuthorityFiles) -> None:
    if is_taken(files.certificate):
        raise CertsError(
            f"{files.folder} holds an authority already: use it with `binlock-certs issue`, "
            "or choose another folder for the new one"
        )
    parts = [path for path in (files.key, files.parent_list, files.revocation_list, files.index) if is_taken(path)]
    if parts:
        raise CertsError(
            f"{files.folder} has {', '.join(path.name for path in parts)} but no ca.crt. If an init was cut "
            "short here, nothing depends on them: remove them and run it again. "
            "Otherwise restore ca.crt from your backup"
        )
