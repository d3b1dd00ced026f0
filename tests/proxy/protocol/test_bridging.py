"""The RSA of bridged passwords, checked by cryptography alone."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from proxy.protocol.bridging import NotBridgeable, PasswordKey, encrypt_for_source, is_password
from tests.proxy.bench import PASSWORD_KEY
from tests.proxy.fakes import NONCE, source_key, xor

OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303


def test_what_is_encrypted_for_the_source_opens_with_the_sources_private_key() -> None:
    pem = source_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ciphertext = encrypt_for_source(b"secret\x00", NONCE, pem)
    assert xor(source_key().decrypt(ciphertext, OAEP), NONCE) == b"secret\x00"


def test_what_is_encrypted_for_binlock_opens_with_binlocks_private_key() -> None:
    key = load_pem_public_key(PASSWORD_KEY.public_pem())
    assert isinstance(key, rsa.RSAPublicKey)
    assert PASSWORD_KEY.decrypt(key.encrypt(xor(b"secret\x00", NONCE), OAEP), NONCE) == b"secret\x00"


def test_the_nonce_repeats_over_a_password_longer_than_it() -> None:
    password = bytes(range(1, 201)) + b"\x00"
    pem = source_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert xor(source_key().decrypt(encrypt_for_source(password, NONCE, pem), OAEP), NONCE) == password


def test_binlocks_key_has_2048_bits_and_is_made_once() -> None:
    own = PasswordKey()
    key = load_pem_public_key(own.public_pem())
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048
    assert own.public_pem() == own.public_pem()


def test_a_key_of_another_kind_is_not_bridgeable() -> None:
    pem = (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(NotBridgeable, match="not an RSA key"):
        encrypt_for_source(b"secret\x00", NONCE, pem)


@pytest.mark.parametrize("ciphertext", [b"", b"\x02\x02", bytes(256), b"\xff" * 256, bytes(1000)])
def test_what_is_no_ciphertext_is_not_bridgeable(ciphertext: bytes) -> None:
    with pytest.raises(NotBridgeable, match="another key than Binlock's"):
        PASSWORD_KEY.decrypt(ciphertext, NONCE)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (b"p\x00", True),
        (b"p" * 126 + b"\x00", True),
        (b"p" * 127 + b"\x00", False),
        (b"p\x00p\x00", False),
        (b"p", False),
        (b"\x00", False),
        (b"\x02", False),
        (b"", False),
        (b"p" * 255 + b"\x00", False),
    ],
    ids=str,
)
def test_a_password_is_told_from_a_ciphertext_and_from_the_request_for_a_key(response: bytes, expected: bool) -> None:
    assert is_password(response) == expected
