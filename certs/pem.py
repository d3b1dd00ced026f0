"""PEM files as people have them: several blocks in one, text between them, keys beside certificates."""

import re
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.errors import CertsError
from certs.storage import read_file

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----[ \t]*\r?\n?", re.DOTALL)
_CERTIFICATE = b"CERTIFICATE"
_REVOCATION_LIST = b"X509 CRL"


def blocks_of(content: bytes, kind: bytes) -> list[bytes]:
    """The blocks of one kind, in the order of the file."""
    return [match.group() for match in _BLOCK.finditer(content) if match[1] == kind]


def kinds_of(content: bytes) -> list[str]:
    """What each block of a file says that it is: `CERTIFICATE`, `PRIVATE KEY`, and so on."""
    return [match[1].decode() for match in _BLOCK.finditer(content)]


def to_pem(*certificates: x509.Certificate) -> bytes:
    """Certificates as the content of one file, in the order given."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def load_certificates(path: Path) -> list[x509.Certificate]:
    """Every certificate of a file, at least one; the leaf is first where there is a leaf."""
    return parse_certificates(read_file(path), where=str(path))


def parse_certificates(content: bytes, *, where: str) -> list[x509.Certificate]:
    """Every certificate of a file's content, at least one."""
    found = blocks_of(content, _CERTIFICATE)
    if not found:
        raise CertsError(f"{where} is not a PEM certificate: {_what_it_is(content)}")
    try:
        return [x509.load_pem_x509_certificate(block) for block in found]
    except ValueError as exc:
        raise CertsError(f"{where} holds a damaged certificate ({exc}): fetch it anew") from exc


def load_revocation_lists(path: Path) -> list[x509.CertificateRevocationList]:
    """Every revocation list of a file, at least one."""
    content = read_file(path)
    found = blocks_of(content, _REVOCATION_LIST)
    if not found:
        raise CertsError(f"{path} is not a PEM revocation list: {_what_it_is(content)}")
    try:
        return [x509.load_pem_x509_crl(block) for block in found]
    except ValueError as exc:
        raise CertsError(f"{path} holds a damaged revocation list ({exc}): fetch it anew") from exc


def load_request(path: Path) -> x509.CertificateSigningRequest:
    """A signing request whose own signature is good: whoever made it has the key.

    Raises:
        CertsError: the file is none, or the signature is another key's.
    """
    content = read_file(path)
    try:
        request = x509.load_pem_x509_csr(content)
    except ValueError as exc:
        raise CertsError(f"{path} is not a PEM signing request: {_what_it_is(content)}") from exc
    if not request.is_signature_valid:
        raise CertsError(f"{path} is not signed by the key in it: make the request anew")
    return request


def _what_it_is(content: bytes) -> str:
    kinds = kinds_of(content)
    if kinds:
        return f"it holds {', '.join(kinds)}"
    if content[:1] == b"\x30":  # ASN.1 SEQUENCE
        return "it looks like DER; convert it with openssl, as in `openssl x509 -inform DER`"
    return "restore it from your backup, or fetch it anew"
