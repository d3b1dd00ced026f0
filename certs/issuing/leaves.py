"""Issuing and renewing leaves: the index first, then the key, then the certificate."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from certs.errors import CertsError
from certs.issuing.authority import Authority, AuthorityFiles
from certs.issuing.builders import build_leaf
from certs.issuing.index import IssuedCertificate, load_index, serial_text
from certs.issuing.selection import find_due, find_to_renew
from certs.keys import KeyType, PrivateKey, PublicKey, generate_key, is_public_key, key_type_of, serialize_key
from certs.names import SubjectNames, describe_name, parse_described
from certs.pem import load_certificates, to_pem
from certs.profiles import Lifetime, Role, Validity, utc_now
from certs.storage import (
    MODE_FOLDER,
    MODE_KEY,
    MODE_PUBLIC,
    create_file,
    is_taken,
    keep_aside,
    locked_folder,
    make_folder,
    replace_file,
)


@dataclass(frozen=True, slots=True)
class IssuedLeaf:
    """A leaf that has been written: proof that both files are there and that the index has it."""

    role: Role
    subject: SubjectNames
    certificate: x509.Certificate
    certificate_file: Path
    key_file: Path | None
    """None where the key stayed where it is."""
    kept: tuple[Path, ...] = ()
    """What a renewal replaced, under the names that it has now."""

    @property
    def key_place(self) -> Path:
        """Where the key is, or where it is to be: beside the certificate on its host."""
        return self.key_file or self.certificate_file.with_suffix(".key")


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where the key of a certificate comes from; with nothing given, a new one is made.

    Attributes:
        key_type: the kind of a new key; the former one's, or else the authority's, unless given.
        request: a signing request, whose key never leaves its host.
        same: a renewal signs the former certificate's key again.
    """

    key_type: KeyType | None = None
    request: x509.CertificateSigningRequest | None = None
    same: bool = False


NEW_KEY = KeySource()


@dataclass(frozen=True, slots=True)
class _Signed:
    """A certificate that nobody has yet, and its key, unless that is elsewhere."""

    role: Role
    subject: SubjectNames
    certificate: x509.Certificate
    key: PrivateKey | None


@dataclass(frozen=True, slots=True)
class _Files:
    """The two files of a leaf."""

    folder: Path
    stem: str

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.stem}.crt"

    @property
    def key(self) -> Path:
        return self.folder / f"{self.stem}.key"

    def refuse_former(self, *, with_key: bool) -> None:
        """Raise if a file is there that would be written."""
        if is_taken(self.certificate):
            raise CertsError(
                f"{self.certificate} exists and is never overwritten: move it and its key away, choose another --out, "
                "or make its successor with `binlock-certs renew`"
            )
        if with_key and is_taken(self.key):
            raise CertsError(
                f"{self.key} exists without its certificate, as an issue that was cut short leaves it: "
                "remove it and run this again"
            )

    def keep_former(self, *, with_key: bool) -> tuple[Path, ...]:
        """Give the former pair further names, with its serial number in them; returns those."""
        if not is_taken(self.certificate):
            raise CertsError(f"{self.certificate} is not there any more: choose where the new one goes with --out")
        serial = serial_text(load_certificates(self.certificate)[0].serial_number)
        former = (self.certificate, self.key) if with_key and is_taken(self.key) else (self.certificate,)
        kept = tuple(path.with_name(f"{self.stem}.{serial}{path.suffix}") for path in former)
        # A second try after a crash finds the former key kept already, and a newer one in its place.
        for path, aside in zip(former, kept, strict=True):
            keep_aside(path, aside)
        return kept


def issue(
    authority: Authority,
    role: Role,
    subject: SubjectNames,
    *,
    lifetime: Lifetime,
    key: KeySource = NEW_KEY,
    out: Path | None = None,
) -> IssuedLeaf:
    """Make a key, sign a certificate for it, and write both.

    Args:
        authority: who signs.
        role: decides what the certificate may be used for.
        subject: the names in it, and the name of its files. A signing request may ask for no others.
        lifetime: must end before the authority does.
        key: where the key comes from.
        out: the folder for the files; the authority's own unless given, made if need be.

    Raises:
        CertsError: nothing was written, or, after a failing write, nothing but an entry in the index.
    """
    files = _Files(authority.files.folder if out is None else out, subject.file_stem)
    files.refuse_former(with_key=key.request is None)
    made, public_key = _key_from(key, subject, key_type_of(authority.key))
    certificate = _sign(authority, role, subject, public_key, lifetime)
    if out is not None:
        make_folder(out, mode=MODE_FOLDER)
    with locked_folder(authority.files.folder), _held(authority, files):
        _create(authority, _Signed(role, subject, certificate, made), files)
    return IssuedLeaf(role, subject, certificate, files.certificate, None if made is None else files.key)


def renew(
    authority: Authority,
    name: str | None = None,
    *,
    serial: str | None = None,
    lifetime: Lifetime | None = None,
    key: KeySource = NEW_KEY,
    out: Path | None = None,
) -> IssuedLeaf:
    """Issue the successor of a certificate: same role, same names. Both count until the former one ends.

    Args:
        authority: who signs.
        name: the label that it was issued for; needed unless `serial` is given.
        serial: its serial number.
        lifetime: that of the former one unless given.
        key: where the key comes from.
        out: the folder for the files. None replaces the former ones where they are, and keeps them beside.

    Raises:
        CertsError: nothing was written, or, after a failing write, nothing that a second try does not mend.
    """
    with locked_folder(authority.files.folder):
        entry = find_to_renew(load_index(authority.files.index), name, serial)
        if entry.requested and key.request is None and not key.same:
            raise CertsError(f"the key of {entry.label} is on its own host: give --csr, or --same-key")
        subject = parse_described(entry.label, entry.names)
        place = (authority.files.folder / entry.file).parent if out is None else out
        files = _Files(place, subject.file_stem)
        former = _former_public_key(authority, entry)
        if key.same:
            if former is None:
                raise CertsError(f"{entry.file} is not there any more, and nothing else has its key: give --csr")
            made, public_key = None, former
        else:
            made, public_key = _key_from(key, subject, key_type_of(authority.key if former is None else former))
        lifetime = lifetime or Lifetime.of(Validity(entry.not_before, entry.not_after))
        certificate = _sign(authority, entry.role, subject, public_key, lifetime)
        signed = _Signed(entry.role, subject, certificate, made)
        if out is None:
            with _held(authority, files):
                kept = _replace(authority, signed, files, requested=entry.requested)
        else:
            make_folder(out, mode=MODE_FOLDER)
            with _held(authority, files):
                _create(authority, signed, files, requested=entry.requested and made is None)
            kept = ()
    return IssuedLeaf(entry.role, subject, certificate, files.certificate, files.key if made else None, kept)


def due_for_renewal(
    authority: Authority, name: str | None = None, *, serial: str | None = None, within: timedelta
) -> list[IssuedCertificate]:
    """The latest certificate of every identity that ends within the span.

    Of all, those that have ended already are left out: their hosts may be gone. One that is named is not.
    """
    index, now = load_index(authority.files.index), utc_now()
    if name is None and serial is None:
        return find_due(index, within=within, now=now)
    entry = find_to_renew(index, name, serial)
    return [entry] if entry.not_after <= now + within else []


def _key_from(key: KeySource, subject: SubjectNames, default: KeyType) -> tuple[PrivateKey | None, PublicKey]:
    """A new key with its public half, or the public key of a request alone."""
    if key.request is None:
        made = generate_key(key.key_type or default)
        return made, made.public_key()
    _refuse_further_names(key.request, subject)
    public_key = key.request.public_key()
    if not is_public_key(public_key):
        raise CertsError(f"the request has a kind of key that is not used here: make one of {', '.join(KeyType)}")
    return None, public_key


def _refuse_further_names(request: x509.CertificateSigningRequest, subject: SubjectNames) -> None:
    """Raise if a request asks for a name that nobody here has agreed to."""
    try:
        asked = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    further = [describe_name(name) for name in asked if name not in subject.names]
    if further:
        raise CertsError(
            f"the request asks for {', '.join(further)} as well: name each with --dns, --ip or --uri if it may have "
            "it, or make the request without"
        )


def _sign(
    authority: Authority, role: Role, subject: SubjectNames, public_key: PublicKey, lifetime: Lifetime
) -> x509.Certificate:
    validity = lifetime.around(utc_now())
    authority.refuse_to_be_outlived(validity)
    return build_leaf(role, subject, public_key, validity, authority=authority.certificate, authority_key=authority.key)


def _held(authority: Authority, files: _Files) -> AbstractContextManager[None]:
    """Hold the files' own folder as well, which removes what a run that was killed left in it.

    Always after the authority's, so that two runs cannot wait for each other; the folder of another authority is
    therefore left to that one's own runs.
    """
    inside = files.folder.resolve() == authority.files.folder.resolve()
    if inside or not files.folder.is_dir() or is_taken(AuthorityFiles(files.folder).key):
        return nullcontext()
    return locked_folder(files.folder)


def _create(authority: Authority, signed: _Signed, files: _Files, *, requested: bool = False) -> None:
    """Write a pair where none is; the caller holds the authority's folder, and `_held` the files' own."""
    files.refuse_former(with_key=signed.key is not None)
    _enter(authority, signed, files, requested=requested or signed.key is None)
    if signed.key is not None:
        create_file(files.key, serialize_key(signed.key), mode=MODE_KEY)
    try:
        create_file(files.certificate, to_pem(signed.certificate, *authority.issuers), mode=MODE_PUBLIC)
    except BaseException:
        if signed.key is not None:
            files.key.unlink(missing_ok=True)  # ours, made a moment ago, and useless alone
        raise


def _replace(authority: Authority, signed: _Signed, files: _Files, *, requested: bool) -> tuple[Path, ...]:
    """Put a new pair in the former one's place; returns the names under which that was kept."""
    kept = files.keep_former(with_key=signed.key is not None)
    _enter(authority, signed, files, requested=requested and signed.key is None)
    # The key first: who looks in between finds that the two do not fit, and Binlock then keeps what it has.
    if signed.key is not None:
        replace_file(files.key, serialize_key(signed.key), mode=MODE_KEY)
    replace_file(files.certificate, to_pem(signed.certificate, *authority.issuers), mode=MODE_PUBLIC)
    return kept


def _enter(authority: Authority, signed: _Signed, files: _Files, *, requested: bool) -> None:
    authority.enter(
        signed.certificate,
        files.certificate,
        role=signed.role,
        label=signed.subject.label,
        names=tuple(signed.subject.describe()),
        requested=requested,
    )


def _former_public_key(authority: Authority, entry: IssuedCertificate) -> PublicKey | None:
    """The key of an entry's certificate, if that is still where it was written."""
    try:
        certificate = load_certificates(authority.files.folder / entry.file)[0]
    except CertsError:
        return None
    public_key = certificate.public_key()
    if serial_text(certificate.serial_number) != entry.serial or not is_public_key(public_key):
        return None
    return public_key
