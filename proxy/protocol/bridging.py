"""RSA for caching_sha2_password and sha256_password, where the two legs differ in secrecy.

Over a transport that MySQL calls secure (TLS; for caching_sha2_password also a unix socket) a replica sends its
password as it is when the source asks for it. Over any other it sends the password under RSA. When one leg is secure
and the other is not, each end does what its own leg asks for, and Binlock stands in between: it encrypts with the
source's public key, or decrypts with a key of its own. With caching_sha2_password that happens only while the source's
cache is cold: after its restart, FLUSH PRIVILEGES, or a new password.

Format: the password and its NUL, XORed with the repeated nonce, under RSA-OAEP with SHA-1
(page_caching_sha2_authentication_exchanges).
"""

from __future__ import annotations

from functools import cached_property

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from wire.authentication import xor_with_nonce

# As mysqld's own (caching_sha2_password_auto_generate_rsa_keys): longest password 213 bytes.
_KEY_BITS = 2048
# The protocol fixes SHA-1 here; OAEP does not rest on its collision resistance (RFC 8017 section 7.1, note).
_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303


# The shortest RSA key in use has 1024 bits, and a ciphertext is as long as its key.
_SHORTEST_CIPHERTEXT = 128


class NotBridgeable(Exception):  # noqa: N818
    """The exchange cannot be carried over. The text says why, and what to change."""


class PasswordKey:
    """Binlock's own RSA key, for replicas on a plaintext leg. Made when first needed, kept until the process ends."""

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65_537, key_size=_KEY_BITS)

    def public_pem(self) -> bytes:
        """What a replica gets when it asks for the source's public key."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def decrypt(self, ciphertext: bytes, nonce: bytes) -> bytes:
        """The password and its NUL.

        Raises:
            NotBridgeable: it was encrypted for another key.
        """
        try:
            combined = self._key.decrypt(ciphertext, _OAEP)
        except ValueError as error:
            raise NotBridgeable(
                "the replica encrypts its password for another key than Binlock's; take SOURCE_PUBLIC_KEY_PATH out of "
                "its source settings and set GET_SOURCE_PUBLIC_KEY=1"
            ) from error
        return bytes(xor_with_nonce(combined, nonce))


def is_password(response: bytes) -> bool:
    """Whether a response is a password and its NUL as they are, not a ciphertext and not the request for a key."""
    return 1 < len(response) < _SHORTEST_CIPHERTEXT and response.find(b"\x00") == len(response) - 1


def encrypt_for_source(password_and_nul: bytes, nonce: bytes, pem: bytes) -> bytes:
    """What the source expects after it has sent its public key.

    Raises:
        NotBridgeable: the key is not one, or too short for the password.
    """
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NotBridgeable("the source did not answer with a public key") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise NotBridgeable("the source's public key is not an RSA key")
    try:
        return key.encrypt(bytes(xor_with_nonce(password_and_nul, nonce)), _OAEP)
    except ValueError as error:
        raise NotBridgeable("the password is too long for the source's RSA key; use TLS or its unix socket") from error
