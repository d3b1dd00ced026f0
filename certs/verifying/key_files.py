"""A private key's file, judged for the server that is to read it unattended."""

from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certs.errors import CertsError
from certs.keys import is_encrypted
from certs.storage import read_file, verify_secret_mode
from certs.verifying.findings import Check, Finding, failed, passed


def judge_key_file(path: Path, leaf: x509.Certificate) -> Iterator[Finding]:
    """Whether the key is its owner's alone, opens without a passphrase, and belongs to the certificate."""
    try:
        verify_secret_mode(path)
    except CertsError as exc:
        yield failed(Check.KEY, str(exc))
    content = read_file(path)
    if is_encrypted(content):
        yield failed(Check.KEY, f"{path} asks for a passphrase, and servers read keys unattended: decrypt it there")
        return
    try:
        key = load_pem_private_key(content, password=None)
    except Exception:  # noqa: BLE001 - the library raises all kinds, and its words are of no use here
        yield failed(Check.KEY, f"{path} is not a PEM private key: restore it from your backup")
        return
    if key.public_key() == leaf.public_key():
        yield passed(Check.KEY, "belongs to the certificate")
    else:
        yield failed(Check.KEY, f"{path} belongs to another certificate: bring the pair together")
