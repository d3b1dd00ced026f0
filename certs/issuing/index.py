"""The authority's memory: every certificate it ever signed, and the number of its latest revocation list.

A certificate is entered before it is handed out. A run that is cut short can therefore leave an entry without
a certificate, which harms nobody, and never a certificate without an entry, which nobody could revoke.
"""

from datetime import datetime
from pathlib import Path

import msgspec

from certs.errors import CertsError
from certs.profiles import Role
from certs.storage import MODE_PUBLIC, create_file, read_file, replace_file

FORMAT = 1


class IssuedCertificate(msgspec.Struct, frozen=True):
    """One certificate as it was issued. Fields added later need defaults, so that older files still read."""

    serial: str
    """Lower-case hexadecimal, two digits a byte, as OpenSSL prints it but for the case."""
    role: Role
    label: str
    names: tuple[str, ...]
    """With their kinds: `DNS:db1.example`."""
    not_before: datetime
    not_after: datetime
    file: str
    """Relative to the authority's folder when it is inside, absolute otherwise."""
    revoked: datetime | None = None
    """When it was revoked, if it was; `ca.crl` says so to others."""
    requested: bool = False
    """Its key was made elsewhere, and came here as a signing request."""


class Index(msgspec.Struct, frozen=True):
    """The whole of `index.json`."""

    format: int = FORMAT
    revocation_list_number: int = 0
    certificates: tuple[IssuedCertificate, ...] = ()

    def with_certificate(self, certificate: IssuedCertificate) -> "Index":
        """The index after one more issue."""
        return msgspec.structs.replace(self, certificates=(*self.certificates, certificate))

    def with_revocation(self, revoked: IssuedCertificate) -> "Index":
        """The index with a certificate's entry replaced by this one, which says when it was revoked."""
        entries = tuple(revoked if entry.serial == revoked.serial else entry for entry in self.certificates)
        return msgspec.structs.replace(self, certificates=entries)

    def with_next_revocation_list(self) -> "Index":
        """The index with the number of the list that is signed next."""
        return msgspec.structs.replace(self, revocation_list_number=self.revocation_list_number + 1)


class _AnyIndex(msgspec.Struct, frozen=True):
    format: int


def serial_text(serial: int) -> str:
    """A serial number as this program writes it everywhere."""
    digits = f"{serial:x}"
    return digits.zfill(len(digits) + len(digits) % 2)


def parse_serial(text: str) -> str:
    """A serial number as people paste it: any case, with or without OpenSSL's colons."""
    digits = text.replace(":", "").strip()
    try:
        return serial_text(int(digits, 16))
    except ValueError:
        raise CertsError(
            f"{text!r} is not a serial number: give the hexadecimal digits that `issue` printed or index.json has"
        ) from None


def parse_index(content: bytes, *, where: str) -> Index:
    """Read an index, refusing one that a later version wrote rather than dropping what it does not know."""
    try:
        written_format = msgspec.json.decode(content, type=_AnyIndex).format
        if written_format != FORMAT:
            raise CertsError(f"{where} has format {written_format}, this binlock-certs knows {FORMAT}: use a newer one")
        return msgspec.json.decode(content, type=Index)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise CertsError(f"{where} is damaged ({exc}): restore it from your backup") from exc


def serialize_index(index: Index) -> bytes:
    """JSON for people and for `jq`."""
    return msgspec.json.format(msgspec.json.encode(index), indent=2) + b"\n"


def load_index(path: Path) -> Index:
    """Read the index file."""
    return parse_index(read_file(path), where=str(path))


def create_index(path: Path, index: Index) -> None:
    """Write the first index of an authority."""
    create_file(path, serialize_index(index), mode=MODE_PUBLIC)


def replace_index(path: Path, index: Index) -> None:
    """Write the next index; the caller holds the folder's lock since before it read the former one."""
    replace_file(path, serialize_index(index), mode=MODE_PUBLIC)
