"""A FIDO2 token in software, as far as MySQL's authentication_webauthn asks for one.

Formats: Web Authentication level 2, section 6 (authenticator data, packed attestation); CBOR (RFC 8949); and what
MySQL puts around both (libmysql/authentication_webauthn_client).
"""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from wire.datatypes import PayloadReader, lenenc_bytes

_USER_PRESENT, _HAS_CREDENTIAL = 0x01, 0x40
_ES256 = -7
_FULL_ATTESTATION = 0x02
_ASSERTION = 0x02


def cbor(value: object) -> bytes:
    """The few types that are needed here (RFC 8949 section 3.1)."""
    match value:
        case int():
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value)) + value.encode()
        case list():
            return _head(4, len(value)) + b"".join(map(cbor, value))
        case dict():
            pairs = [cbor(name) + cbor(item) for name, item in value.items()]
            return _head(5, len(value)) + b"".join(pairs)
        case _:
            raise TypeError(f"no CBOR here for {value!r}")


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    if number < 256:
        return bytes([major << 5 | 24, number])
    return bytes([major << 5 | 25]) + number.to_bytes(2, "big")


class Authenticator:
    """One token with one credential."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._credential = os.urandom(32)

    def register(self, challenge: str) -> str:
        """What FINISH REGISTRATION takes, for what INITIATE REGISTRATION gave."""
        nonce, party = _parse(base64.b64decode(challenge))
        numbers = self._key.public_key().public_numbers()
        cose = {1: 2, 3: _ES256, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        credential = bytes(16) + len(self._credential).to_bytes(2, "big") + self._credential + cbor(cose)
        data = self._data(party, _USER_PRESENT | _HAS_CREDENTIAL) + credential
        client_data = _client_data("create", nonce, party)
        signature = self._sign(data, client_data)
        certificate = self._certificate().public_bytes(Encoding.DER)
        attestation = cbor({"alg": _ES256, "sig": signature, "x5c": [certificate]})
        pieces = (cbor(data), signature, certificate, client_data, attestation, b"packed")
        answer = bytes([_FULL_ATTESTATION]) + b"".join(map(lenenc_bytes, pieces))
        return base64.b64encode(answer).decode()

    def assertion(self, challenge: bytes) -> bytes:
        """The answer to an AuthNextFactor."""
        nonce, party = _parse(challenge)
        data = self._data(party, _USER_PRESENT)
        client_data = _client_data("get", nonce, party)
        pieces = (cbor(data), self._sign(data, client_data), client_data)
        return bytes([_ASSERTION, 1]) + b"".join(map(lenenc_bytes, pieces))

    @staticmethod
    def _data(party: str, flags: int) -> bytes:
        return hashlib.sha256(party.encode()).digest() + bytes([flags]) + bytes(4)

    def _sign(self, data: bytes, client_data: bytes) -> bytes:
        return self._key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))

    def _certificate(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a token in software")])
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(self._key, hashes.SHA256())
        )


def _parse(challenge: bytes) -> tuple[bytes, str]:
    """The nonce and the relying party of a challenge."""
    reader = PayloadReader(challenge)
    reader.int1()
    return reader.lenenc_bytes(), reader.lenenc_bytes().decode()


def _client_data(kind: str, nonce: bytes, party: str) -> bytes:
    text = base64.urlsafe_b64encode(nonce).decode().rstrip("=")
    return f'{{"type":"webauthn.{kind}","challenge":"{text}","origin":"https://{party}","crossOrigin":false}}'.encode()
