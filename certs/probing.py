"""What a server shows on its port: its greeting, and its certificates by TLS within MySQL's protocol.

Nothing is trusted here and nobody logs in. The certificates are judged afterwards, like those in files.
"""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from certs.errors import CertsError
from certs.verifying.findings import Check, Finding, failed, passed
from wire.capabilities import Capability
from wire.errors import WireError
from wire.framing import PacketDecoder, encode_packet
from wire.greeting import HandshakeV10
from wire.login import SSLRequest

CONNECT_SECONDS = 10
# A server that does not like a client's certificate says so at once; under TLS 1.3 after the client has finished.
ALERT_SECONDS = 1.0
_MOST_GREETING_BYTES = 4096
_ASKED = (
    Capability.CLIENT_SSL
    | Capability.CLIENT_PROTOCOL_41
    | Capability.CLIENT_SECURE_CONNECTION
    | Capability.CLIENT_PLUGIN_AUTH
    | Capability.CLIENT_MYSQL
)
_ERR_HEADER = 0xFF


@dataclass(frozen=True, slots=True)
class ClientPair:
    """What is shown to a server that asks for a certificate."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Probe:
    """What a port showed; no certificates where the server has no TLS.

    Attributes:
        certificates: the server's, the leaf first.
        findings: of the connection itself.
    """

    certificates: tuple[x509.Certificate, ...]
    findings: tuple[Finding, ...]


def probe(host: str, port: int, pair: ClientPair | None = None) -> Probe:
    """Connect once, read the greeting, ask for TLS and look at what comes.

    Raises:
        CertsError: nobody answers, or what answers does not speak MySQL's protocol.
    """
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as plain:
            greeting = _read_greeting(plain)
            if not greeting.capabilities & Capability.CLIENT_SSL:
                return Probe((), (failed(Check.TLS, f"{_server(greeting)} has no TLS: set ssl_cert and ssl_key"),))
            asked = (greeting.capabilities & _ASKED) | Capability.CLIENT_SSL
            request = SSLRequest(asked, max_packet_bytes=1 << 24, charset=45)  # utf8mb4, which every version knows
            plain.sendall(encode_packet(request.serialize(), 1))
            return _shake_hands(plain, greeting, pair)
    except ssl.SSLError as exc:
        return Probe(
            (), (failed(Check.TLS, f"the handshake fails: {exc.reason or exc}: compare versions and ciphers"),)
        )
    except OSError as exc:
        raise CertsError(
            f"{host}:{port} cannot be asked: {exc.strerror or exc}: check address, port, firewall"
        ) from exc
    except WireError as exc:
        raise CertsError(f"{host}:{port} does not speak MySQL's protocol ({exc}): check the port") from exc


def _read_greeting(plain: socket.socket) -> HandshakeV10:
    decoder = PacketDecoder(_MOST_GREETING_BYTES)
    while (packet := decoder.next_packet()) is None:
        piece = plain.recv(decoder.bytes_needed())
        if not piece:
            raise CertsError("the server hung up before its greeting: it may be down, or not like this address")
        decoder.feed(piece)
    payload = bytes(packet.payload)
    if payload[:1] == bytes([_ERR_HEADER]):  # without SQLSTATE at this point: header, number, text
        number = int.from_bytes(payload[1:3], "little")
        text = payload[3:].decode(errors="replace")
        raise CertsError(f"the server turns this host away: {number} {text}: allow its address")
    return HandshakeV10.parse(payload)


def _shake_hands(plain: socket.socket, greeting: HandshakeV10, pair: ClientPair | None) -> Probe:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what comes is judged by `verification`, with reasons
    if pair is not None:
        try:
            context.load_cert_chain(pair.certificate, pair.key)
        except (ssl.SSLError, OSError) as exc:
            raise CertsError(f"{pair.certificate} and {pair.key} cannot be used as a pair: {exc}") from exc
    with context.wrap_socket(plain) as encrypted:
        certificates = tuple(map(x509.load_der_x509_certificate, _sent_by_peer(encrypted)))
        name, version, _ = encrypted.cipher() or ("no cipher", "", 0)
        detail = f"{_server(greeting)}, {encrypted.version() or version}, {name}"
        return Probe(certificates, (passed(Check.TLS, detail), _judge_client(encrypted, pair)))


def _sent_by_peer(encrypted: ssl.SSLSocket) -> list[bytes]:
    """The DER of what the server sent, the leaf first. Python made the method public in 3.13."""
    public = getattr(encrypted, "get_unverified_chain", None)
    if public is not None:
        return list(public())
    inner = encrypted._sslobj  # type: ignore[attr-defined]  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in inner.get_unverified_chain()]


def _judge_client(encrypted: ssl.SSLSocket, pair: ClientPair | None) -> Finding:
    encrypted.settimeout(ALERT_SECONDS)
    try:
        encrypted.recv(1)
    except TimeoutError:
        shown = "the certificate that was shown" if pair else "a client without a certificate"
        return passed(Check.CLIENT, f"the server does not turn away {shown}")
    except OSError as exc:
        reason = getattr(exc, "reason", None) or str(exc)
        if pair is None:
            return passed(Check.CLIENT, f"the server turns away a client without a certificate ({reason})")
        return failed(Check.CLIENT, f"the server refuses the certificate that was shown: {reason}")
    if pair is None:
        return passed(Check.CLIENT, "the server hangs up on a client without a certificate")
    return failed(Check.CLIENT, "the server hangs up on the certificate that was shown: see its log")


def _server(greeting: HandshakeV10) -> str:
    return greeting.server_version.decode(errors="replace")
