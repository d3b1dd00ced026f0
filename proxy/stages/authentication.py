"""Stage 6, authentication: the replica's login goes to the source, and the source judges it.

Binlock keeps no passwords. It relays the exchange packet by packet, each leg with its own sequence ids, and steps in
only where the two legs differ in what MySQL calls secure (see `proxy.bridging`). The account must be one that the
roster gives to the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.legs.leg import Leg
from proxy.legs.packets import PacketStream
from proxy.openssl import Context, Negotiated
from proxy.outcomes import LegClosed, Reason, SessionRefused, Stage
from proxy.protocol.bridging import NotBridgeable, PasswordKey, encrypt_for_source, is_password
from proxy.stages.attributes import RESERVED_PREFIX, connection_attributes
from proxy.stages.departures import left_when_asked
from proxy.stages.identity import UNLISTED, RosterEntry, VerifiedReplica
from proxy.stages.objections import Objections
from proxy.stages.tls import encrypt_source
from wire.authentication import (
    CACHING_SHA2_FAST_OK,
    CACHING_SHA2_FULL,
    CACHING_SHA2_PASSWORD,
    CACHING_SHA2_REQUEST_PUBLIC_KEY,
    SHA256_PASSWORD,
    SHA256_REQUEST_PUBLIC_KEY,
    AuthMoreData,
    AuthNextFactor,
    AuthReply,
    AuthSwitchRequest,
    classify_auth_reply,
)
from wire.capabilities import Capability
from wire.compression import Algorithm, agreed_algorithm
from wire.login import HandshakeResponse41, with_attributes_added, with_auth_response, with_tls_flag
from wire.results import ErrPacket, OkPacket

# A server takes 32 characters (MariaDB 128); a stranger may send a megabyte, and the log need not have it.
_LONGEST_ACCOUNT_SHOWN = 128
_REQUESTS_KEY = {
    CACHING_SHA2_PASSWORD: bytes([CACHING_SHA2_REQUEST_PUBLIC_KEY]),
    SHA256_PASSWORD: bytes([SHA256_REQUEST_PUBLIC_KEY]),
}


@dataclass(frozen=True, slots=True)
class SourceTls:
    """How the source leg is encrypted: the context, and the name that the source's certificate must have."""

    context: Context
    server_name: str


@dataclass(frozen=True, slots=True)
class AuthenticatedReplica:
    """Proof that the source has accepted the account. Only `relay_authentication` makes one.

    Attributes:
        identity: the name of its certificate that `entry` is for; None on a plaintext leg.
        capabilities: what the login and the greeting have in common.
        source_negotiated: None on a plaintext source leg.
    """

    verified: VerifiedReplica
    replica: PacketStream
    source: PacketStream
    entry: RosterEntry
    identity: str | None
    account: str
    capabilities: Capability
    source_negotiated: Negotiated | None

    @property
    def compression(self) -> Algorithm | None:
        """What both ends compress with from here on, if they do."""
        return agreed_algorithm(self.capabilities)


async def relay_authentication(
    verified: VerifiedReplica,
    *,
    route: str | None,
    source_tls: SourceTls | None,
    password_key: PasswordKey,
    objections: Objections,
    account_seen: Callable[[str], None],
) -> AuthenticatedReplica:
    """Relays the login until the source says OK.

    Args:
        verified: the proof of the stage before.
        route: the name of the route, for the connection attributes; None to send none.
        source_tls: None for a plaintext source leg.
        password_key: Binlock's own, for a replica that wants to encrypt its password.
        objections: where an account that is not the identity's is brought.
        account_seen: told the account that the replica gives, before anybody judges it.

    Raises:
        SessionRefused: the account is not the identity's, the source leg cannot be encrypted, the exchange cannot be
            bridged, the replica leaves in the middle of it, or the source says no, in which case its ERR has been
            passed on already.
        WireError: either end breaks the protocol.
    """
    replica = verified.encrypted.greeted.replica
    greeting = verified.encrypted.greeted.source.greeting
    source = verified.encrypted.greeted.source.stream
    login = HandshakeResponse41.parse(verified.encrypted.login)
    capabilities = login.capabilities & greeting.capabilities
    account = login.user.decode(errors="backslashreplace")
    account_seen(_shown(account))
    entry = _authorised_entry(verified, account, objections)
    negotiated = None
    if source_tls is not None:
        negotiated = await encrypt_source(
            source, source_tls.context, server_name=source_tls.server_name, login=verified.encrypted.login
        )
    exchange = _Exchange(replica, source, password_key, plugin=login.plugin or b"", nonce=greeting.nonce)
    told = {}
    if route is not None and capabilities & Capability.CLIENT_CONNECT_ATTRS:
        told = connection_attributes(verified, entry, route)
    payload = with_tls_flag(verified.encrypted.login, wanted=source_tls is not None)
    payload = with_attributes_added(payload, told, reserved=RESERVED_PREFIX)
    await exchange.relay(payload, login.auth_response)
    identity = verified.identity_under(entry)
    return AuthenticatedReplica(verified, replica, source, entry, identity, account, capabilities, negotiated)


def _authorised_entry(verified: VerifiedReplica, account: str, objections: Objections) -> RosterEntry:
    for entry in verified.entries:
        if account in entry.accounts:
            return entry
    if not verified.entries and not objections.enforce:
        # Observe mode has said already that the roster does not have it.
        return UNLISTED
    who = ", ".join(verified.names) or "this plaintext route"
    allowed = ", ".join(sorted({account for entry in verified.entries for account in entry.accounts}))
    objections.raise_or_note(
        SessionRefused(
            Stage.AUTHENTICATION,
            Reason.ACCOUNT_NOT_ALLOWED,
            f"the roster gives {who} the accounts {allowed or 'of nobody'}, not {_shown(account)}",
            told=f"{who} may not log in as {_shown(account)!r} on this route",
        )
    )
    return verified.entries[0]


def _shown(account: str) -> str:
    return account if len(account) <= _LONGEST_ACCOUNT_SHOWN else account[:_LONGEST_ACCOUNT_SHOWN] + "..."


class _Exchange:
    """One authentication exchange, between two legs that may differ in secrecy."""

    def __init__(
        self, replica: PacketStream, source: PacketStream, key: PasswordKey, *, plugin: bytes, nonce: bytes
    ) -> None:
        self._replica = replica
        self._source = source
        self._key = key
        self._plugin = plugin
        self._nonce = nonce
        self._held_password: bytes | None = None

    async def relay(self, login: bytes, response: bytes) -> None:
        """Sends the login and relays replies and responses until the source says OK.

        Args:
            login: the payload for the source.
            response: the authentication response in it. For sha256_password it is the password already, or the
                request for a key.

        Raises:
            SessionRefused: the source says ERR, which the replica then has, the exchange cannot be bridged, or the
                replica leaves.
        """
        if self._plugin == SHA256_PASSWORD:
            login = self._with_response(login, await self._carried_over(response))
        await self._source.send(login)
        while True:
            payload = await self._source.receive()
            reply = classify_auth_reply(payload)
            if isinstance(reply, AuthMoreData) and self._held_password is not None:
                await self._source.send(self._under_key_of_source(reply.data))
                continue
            await self._replica.send(payload)
            if isinstance(reply, OkPacket):
                return
            if isinstance(reply, ErrPacket):
                raise SessionRefused(
                    Stage.AUTHENTICATION,
                    Reason.AUTHENTICATION_REJECTED,
                    f"the source answers error {reply.code}: {reply.message.decode(errors='replace')}",
                )
            if isinstance(reply, AuthSwitchRequest | AuthNextFactor):
                self._plugin, self._nonce = reply.plugin, reply.data.removesuffix(b"\x00")
                self._held_password = None
            elif self._is_fast_path(reply):
                continue
            response = await self._answer_to(reply)
            if self._is_request_for_password(reply):
                response = await self._carried_over(response)
            await self._source.send(response)

    async def _answer_to(self, reply: AuthReply) -> bytes:
        try:
            return await self._replica.receive()
        except LegClosed as error:
            leg = self._replica.leg
            raise left_when_asked(
                self._plugin.decode(errors="backslashreplace"),
                is_encrypted=leg.is_encrypted,
                for_password=self._plugin == CACHING_SHA2_PASSWORD and self._is_request_for_password(reply),
            ) from error

    def _with_response(self, login: bytes, response: bytes) -> bytes:
        try:
            return with_auth_response(login, response)
        except ValueError as error:
            reason = NotBridgeable(
                "the replica's login has no room for the password (it lacks CLIENT_SECURE_CONNECTION)"
            )
            raise _not_bridgeable(reason) from error

    def _is_fast_path(self, reply: AuthReply) -> bool:
        return (
            self._plugin == CACHING_SHA2_PASSWORD
            and isinstance(reply, AuthMoreData)
            and reply.data == bytes([CACHING_SHA2_FAST_OK])
        )

    def _is_request_for_password(self, reply: AuthReply) -> bool:
        if self._plugin == CACHING_SHA2_PASSWORD:
            return isinstance(reply, AuthMoreData) and reply.data == bytes([CACHING_SHA2_FULL])
        return self._plugin == SHA256_PASSWORD and not isinstance(reply, AuthMoreData)

    async def _carried_over(self, response: bytes) -> bytes:
        """What the source's leg asks for, made from what the replica's leg asked for."""
        # A MariaDB replica sends its password in the clear over any leg where caching_sha2_password is asked for.
        replica_sends_password = self._takes_password_as_it_is(self._replica.leg) or is_password(response)
        source_takes_password = self._takes_password_as_it_is(self._source.leg)
        if replica_sends_password == source_takes_password or response in {b"", b"\x00"}:
            return response
        if replica_sends_password:
            self._held_password = response
            return _REQUESTS_KEY[self._plugin]
        return await self._password_of_replica(response)

    def _takes_password_as_it_is(self, leg: Leg) -> bool:
        # Both ends of sha256_password want TLS; a unix socket is enough for caching_sha2_password alone (seen on 9.7).
        return leg.is_encrypted if self._plugin == SHA256_PASSWORD else leg.is_secure_transport

    def _under_key_of_source(self, pem: bytes) -> bytes:
        password, self._held_password = self._held_password or b"", None
        try:
            return encrypt_for_source(password, self._nonce, pem)
        except NotBridgeable as error:
            raise _not_bridgeable(error) from error

    async def _password_of_replica(self, response: bytes) -> bytes:
        """The password and its NUL, from a replica that wants to send it under RSA."""
        if response == _REQUESTS_KEY[self._plugin]:
            await self._replica.send(AuthMoreData(self._key.public_pem()).serialize())
            response = await self._replica.receive()
        try:
            return self._key.decrypt(response, self._nonce)
        except NotBridgeable as error:
            raise _not_bridgeable(error) from error


def _not_bridgeable(error: NotBridgeable) -> SessionRefused:
    return SessionRefused(Stage.AUTHENTICATION, Reason.AUTHENTICATION_NOT_BRIDGEABLE, str(error), told=str(error))
