"""Real handshakes in memory, by Python's ssl: what each side sends, flight by flight."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.monitor.segmenting import CLIENT, SERVER, Said

ROUNDS = 10


class Certificate:
    """A self-signed one, and its key, in a folder."""

    def __init__(self, folder: Path, *, with_rsa: bool = False) -> None:
        key = rsa.generate_private_key(65537, 2048) if with_rsa else ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "source.example")])
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        self.not_after = now + dt.timedelta(days=30)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(self.not_after)
            .sign(key, hashes.SHA256())
        )
        self.path = folder / "both.pem"
        self.path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )


class Handshake:
    """Two ends that shake hands at once; `said` has what they sent, in order.

    Attributes:
        version: as negotiated.
        cipher: by OpenSSL's name.
    """

    def __init__(
        self, certificate: Certificate, version: ssl.TLSVersion, *, ciphers: str = "", server_group: str = ""
    ) -> None:
        answering = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        dialling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        dialling.check_hostname, dialling.verify_mode = False, ssl.CERT_NONE
        answering.load_cert_chain(certificate.path)
        if server_group:
            answering.set_ecdh_curve(server_group)
        for context in (answering, dialling):
            context.minimum_version = context.maximum_version = version
            if ciphers:
                context.set_ciphers(ciphers)
        self.said: list[Said] = []
        self._to_server, self._to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._from_client, self._from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ends = {
            CLIENT: dialling.wrap_bio(self._to_client, self._from_client),
            SERVER: answering.wrap_bio(self._to_server, self._from_server, server_side=True),
        }
        waiting = {CLIENT, SERVER}
        for _ in range(ROUNDS):
            for side in (CLIENT, SERVER):
                try:
                    self._ends[side].do_handshake()
                    waiting.discard(side)
                except ssl.SSLWantReadError:
                    pass
                self._carry(side)
            if not waiting:
                break
        assert not waiting
        self.version = self._ends[CLIENT].version()
        chosen = self._ends[CLIENT].cipher()
        self.cipher = chosen[0] if chosen else ""

    def say(self, side: str, data: bytes) -> None:
        """Sends application data."""
        self._ends[side].write(data)
        self._carry(side)

    def _carry(self, side: str) -> None:
        source, sink = (self._from_client, self._to_server) if side == CLIENT else (self._from_server, self._to_client)
        data = source.read()
        if data:
            self.said.append((side, data))
            sink.write(data)
