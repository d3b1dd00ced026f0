"""Stage 4, tls: the replica leg is encrypted before the replica says who it is; and the source leg's TLS.

MySQL's TLS begins inside the connection, after the greeting: an SSLRequest, then the ClientHello, which the replica
sends without waiting for an answer (page_protocol_connection_phase). The SSLRequest is read to its last byte and
no further. Whatever follows is for the TLS engine, so a command smuggled in behind it is never parsed as MySQL.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from proxy import openssl
from proxy.legs.leg import Leg, TlsLeg
from proxy.legs.packets import PacketStream
from proxy.openssl import Context, Negotiated, TlsEngine, TlsFailed
from proxy.outcomes import LegClosed, Reason, SessionRefused, Stage
from proxy.stages.departures import left_before_login
from proxy.stages.greeting import GreetedReplica
from wire.login import SSLRequest
from wire.phases import Phase


@dataclass(frozen=True, slots=True)
class EncryptedReplica:
    """Proof that the replica leg is what the route says. Only this module makes one.

    Attributes:
        login: the payload of the replica's login.
        negotiated: None on a plaintext leg.
    """

    greeted: GreetedReplica
    login: bytes
    negotiated: Negotiated | None


async def encrypt_replica(greeted: GreetedReplica, context: Context | None) -> EncryptedReplica:
    """Takes the replica through its SSLRequest and TLS handshake to its login.

    Args:
        greeted: the proof of the stage before.
        context: None for a plaintext leg, where an SSLRequest is refused because none was offered.

    Raises:
        SessionRefused: the replica stays in plaintext, the handshake fails, or nothing comes behind it.
        WireError: what it sends is no login.
    """
    replica = greeted.replica
    first = await replica.receive()
    if context is None:
        if replica.phases.phase is Phase.TLS:
            raise SessionRefused(
                Stage.TLS,
                Reason.PROTOCOL_ERROR,
                "the replica asks for TLS on a route that offers it none",
                told="this route is plaintext; take the SSL options out of the replica's source settings",
            )
        return EncryptedReplica(greeted, first, None)
    if replica.phases.phase is not Phase.TLS:
        raise SessionRefused(
            Stage.TLS,
            Reason.PLAINTEXT_REFUSED,
            "the replica logs in without TLS",
            told="this route requires TLS with a client certificate; set SOURCE_SSL=1, SOURCE_SSL_CA, _CERT and _KEY",
        )
    SSLRequest.parse(first)
    engine, replica.leg = _begin_tls(replica.leg, context)
    try:
        negotiated = await _shake_hands(replica.leg, engine)
    except TlsFailed as error:
        raise _refused_handshake(error) from error
    replica.phases.tls_established()
    try:
        login = await replica.receive()
    except LegClosed as error:
        raise left_before_login() from error
    return EncryptedReplica(greeted, login, negotiated)


async def encrypt_source(source: PacketStream, context: Context, *, server_name: str, login: bytes) -> Negotiated:
    """Begins TLS on the source leg, verified by authority and name.

    mysqld takes the capabilities from the SSLRequest and only measures those of the login, so both carry the
    replica's own.

    Raises:
        SessionRefused: the handshake fails, the source's certificate among the possible causes.
    """
    await source.send(SSLRequest.for_login(login))
    leg = source.leg
    sock = leg.detach()
    engine = TlsEngine.connecting(context, sock, server_name)
    source.leg = TlsLeg(sock, leg.name, engine)
    try:
        negotiated = await _shake_hands(source.leg, engine)
    except TlsFailed as error:
        raise _refused_source(error, server_name) from error
    source.phases.tls_established()
    return negotiated


def _begin_tls(leg: Leg, context: Context) -> tuple[TlsEngine, Leg]:
    sock = leg.detach()
    engine = TlsEngine.accepting(context, sock)
    return engine, TlsLeg(sock, leg.name, engine)


async def _shake_hands(leg: Leg, engine: TlsEngine) -> Negotiated:
    started = trio.current_time()
    while (want := engine.shake_hands()) is not None:
        await leg.wait(want)
    return engine.negotiated(trio.current_time() - started)


# OpenSSL's reason strings (openssl/ssl/ssl_err.c); `verify failed` is judged by its X509_V_ERR_* code first.
_REASONS: dict[str, Reason] = {
    "wrong version number": Reason.NOT_TLS,
    "http request": Reason.NOT_TLS,
    "packet length too long": Reason.NOT_TLS,
    "bad record type": Reason.NOT_TLS,
    "unexpected message": Reason.NOT_TLS,
    "invalid record": Reason.NOT_TLS,
    "peer did not return a certificate": Reason.CERTIFICATE_MISSING,
    "unsupported protocol": Reason.TLS_VERSION_REFUSED,
    "version too low": Reason.TLS_VERSION_REFUSED,
    "no shared cipher": Reason.NO_SHARED_CIPHER,
    "no suitable key share": Reason.NO_SHARED_GROUP,
    "no suitable groups": Reason.NO_SHARED_GROUP,
    "no shared groups": Reason.NO_SHARED_GROUP,
}


def _verify_reason(code: int) -> Reason:
    if code == openssl.VERIFY_EXPIRED:
        return Reason.CERTIFICATE_EXPIRED
    if code == openssl.VERIFY_REVOKED:
        return Reason.CERTIFICATE_REVOKED
    if code in openssl.VERIFY_CRL_CODES:
        return Reason.CRL_UNUSABLE
    if code in openssl.VERIFY_UNTRUSTED_CODES:
        return Reason.CERTIFICATE_UNTRUSTED
    return Reason.CERTIFICATE_REFUSED


def _handshake_reason(error: TlsFailed) -> Reason:
    if any("verify failed" in reason for reason in error.reasons) and error.verify_code:
        return _verify_reason(error.verify_code)
    for text in error.reasons:
        if text in _REASONS:
            return _REASONS[text]
        if "alert" in text:
            return (
                Reason.REPLICA_REJECTED_CERTIFICATE
                if "certificate" in text or "unknown ca" in text
                else Reason.TLS_HANDSHAKE_FAILED
            )
    return Reason.TLS_HANDSHAKE_FAILED


def _refused_handshake(error: TlsFailed) -> SessionRefused:
    reason = _handshake_reason(error)
    # The replica is inside its own handshake and reads no packets: it gets a TLS alert, and shows error 2026.
    return SessionRefused(Stage.TLS, reason, f"TLS handshake with the replica: {_described(error)}")


def _refused_source(error: TlsFailed, server_name: str) -> SessionRefused:
    if error.verify_code in {openssl.VERIFY_HOSTNAME_MISMATCH, openssl.VERIFY_ADDRESS_MISMATCH}:
        return SessionRefused(
            Stage.SOURCE,
            Reason.SOURCE_NAME_MISMATCH,
            f"the source's certificate is not for {server_name}",
            told=f"the source's certificate is not for {server_name}",
        )
    told = f"TLS towards the source failed: {_described(error)}"
    return SessionRefused(Stage.SOURCE, Reason.SOURCE_TLS_FAILED, told, told=told)


def _described(error: TlsFailed) -> str:
    if error.verify_code:
        return f"{error} ({openssl.verify_error_text(error.verify_code)})"
    return str(error)
