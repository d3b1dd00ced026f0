"""Private keys: the kinds an authority may use, their PEM form, and the hash each kind signs with."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from certs.errors import CertsError

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
SigningHash = hashes.SHA256 | hashes.SHA384 | None


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


def key_type_of(key: PrivateKey) -> KeyType:
    """The kind that a loaded key is; leaves follow their authority's kind unless told otherwise.

    An RSA key of any accepted size counts as `rsa-3072`, which is what its leaves then get.
    """
    match key:
        case rsa.RSAPrivateKey():
            return KeyType.RSA_3072
        case ed25519.Ed25519PrivateKey():
            return KeyType.ED25519
        case _ if isinstance(key.curve, ec.SECP384R1):
            return KeyType.ECDSA_P384
        case _:
            return KeyType.ECDSA_P256


def signing_hash_of(key: PrivateKey) -> SigningHash:
    """The hash to sign certificates and revocation lists with; None where the scheme has its own."""
    return _KINDS[key_type_of(key)].signing_hash()


def serialize_key(key: PrivateKey) -> bytes:
    """PEM, PKCS #8, no passphrase: what mysqld, MariaDB and OpenSSL all read unattended."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def parse_key(content: bytes, *, where: str) -> PrivateKey:
    """Read a PEM private key that may sign for an authority.

    Args:
        content: the file's bytes.
        where: the file's name, for the error's text.
    """
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError as exc:
        raise CertsError(
            f"{where} is protected by a passphrase, which this version cannot ask for: "
            "decrypt it with `openssl pkey` into a folder that only you can read"
        ) from exc
    except Exception as exc:
        raise CertsError(f"{where} is not a PEM private key: restore it from your backup") from exc
    match key:
        case rsa.RSAPrivateKey() if key.key_size >= 2048:
            return key
        case ed25519.Ed25519PrivateKey():
            return key
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
            return key
        case _:
            kinds = ", ".join(KeyType)
            raise CertsError(f"{where} holds a kind of key that is not used here: make one of {kinds}")
