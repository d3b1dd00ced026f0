"""Private keys: the kinds an authority may use, their PEM form, and the hash each kind signs with."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeGuard

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from certs.errors import CertsError

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
SigningHash = hashes.SHA256 | hashes.SHA384 | None


MIN_RSA_BITS = 2048


class KeyType(StrEnum):
    """What `--key-type` takes."""

    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    RSA_3072 = "rsa-3072"
    ED25519 = "ed25519"


@dataclass(frozen=True, slots=True)
class _Kind:
    generate: Callable[[], PrivateKey]
    signing_hash: Callable[[], SigningHash]


_KINDS = {
    KeyType.ECDSA_P256: _Kind(lambda: ec.generate_private_key(ec.SECP256R1()), hashes.SHA256),
    KeyType.ECDSA_P384: _Kind(lambda: ec.generate_private_key(ec.SECP384R1()), hashes.SHA384),
    # 3072 bits stand beside P-256 in strength (NIST SP 800-57 part 1, table 2): 128 bits.
    KeyType.RSA_3072: _Kind(lambda: rsa.generate_private_key(65537, 3072), hashes.SHA256),
    KeyType.ED25519: _Kind(ed25519.Ed25519PrivateKey.generate, lambda: None),  # hashes by itself
}


def generate_key(key_type: KeyType) -> PrivateKey:
    """A fresh key of the kind."""
    return _KINDS[key_type].generate()


def key_type_of(key: PrivateKey | PublicKey) -> KeyType:
    """The kind that a loaded key is; leaves follow their authority's kind unless told otherwise.

    An RSA key of any accepted size counts as `rsa-3072`, which is what its leaves then get.
    """
    match key:
        case rsa.RSAPrivateKey() | rsa.RSAPublicKey():
            return KeyType.RSA_3072
        case ed25519.Ed25519PrivateKey() | ed25519.Ed25519PublicKey():
            return KeyType.ED25519
        case _ if isinstance(key.curve, ec.SECP384R1):
            return KeyType.ECDSA_P384
        case _:
            return KeyType.ECDSA_P256


def signing_hash_of(key: PrivateKey) -> SigningHash:
    """The hash to sign certificates and revocation lists with; None where the scheme has its own."""
    return _KINDS[key_type_of(key)].signing_hash()


def serialize_key(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """PEM, PKCS #8; without a passphrase what mysqld, MariaDB and Binlock read unattended."""
    encryption = (
        serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def is_encrypted(content: bytes) -> bool:
    """Whether a PEM key asks for a passphrase: PKCS #8 says it in its name, older forms in a header."""
    return b"ENCRYPTED" in content


def parse_key(content: bytes, *, where: str, passphrase: bytes | None = None) -> PrivateKey:
    """Read a PEM private key of a kind that is used here.

    Args:
        content: the file's bytes.
        where: the file's name, for the error's text.
        passphrase: needed if and only if `is_encrypted`.
    """
    if is_encrypted(content) and passphrase is None:
        raise CertsError(
            f"{where} is protected by a passphrase: give --passphrase-file, or run this on a terminal to be asked"
        )
    try:
        key = serialization.load_pem_private_key(content, passphrase if is_encrypted(content) else None)
    except Exception as exc:
        if is_encrypted(content):
            raise CertsError(f"{where} does not open with this passphrase: try again, or restore your backup") from exc
        raise CertsError(f"{where} is not a PEM private key: restore it from your backup") from exc
    if not is_private_key(key):
        raise CertsError(f"{where} holds a kind of key that is not used here: make one of {', '.join(KeyType)}")
    return key


def is_private_key(key: object) -> TypeGuard[PrivateKey]:
    """Whether it is of a kind that signs or serves here; RSA from 2048 bits, as companies still have it."""
    match key:
        case rsa.RSAPrivateKey():
            return key.key_size >= MIN_RSA_BITS
        case ec.EllipticCurvePrivateKey():
            return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
        case _:
            return isinstance(key, ed25519.Ed25519PrivateKey)


def is_public_key(key: object) -> TypeGuard[PublicKey]:
    """The same for the public half, as a signing request or a certificate has it."""
    match key:
        case rsa.RSAPublicKey():
            return key.key_size >= MIN_RSA_BITS
        case ec.EllipticCurvePublicKey():
            return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
        case _:
            return isinstance(key, ed25519.Ed25519PublicKey)


def describe_public_key(key: object) -> str:
    """A key for people: `ecdsa secp256r1`, `rsa 3072`, `ed25519`."""
    match key:
        case rsa.RSAPublicKey():
            return f"rsa {key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"ecdsa {key.curve.name}"
        case _:
            return type(key).__name__.removesuffix("PublicKey").lower()
