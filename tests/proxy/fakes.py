"""A source and a replica that speak through `wire`, over real sockets and, for TLS, through Python's own ssl.

Neither is scripted beyond what a real one does: the source judges passwords, the replica answers what it is asked. Both
count sequence ids for themselves and fail when the other side miscounts.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from proxy.configuration.addresses import Address, TcpAddress, UnixAddress
from wire.authentication import (
    CACHING_SHA2_PASSWORD,
    SHA256_PASSWORD,
    AuthMoreData,
    AuthNextFactor,
    AuthSwitchRequest,
    OldAuthSwitchRequest,
    classify_auth_reply,
)
from wire.capabilities import Capability
from wire.commands import Command
from wire.framing import Packet, PacketDecoder, encode_packet
from wire.greeting import HandshakeV10
from wire.login import HandshakeResponse41, SSLRequest, is_ssl_request, with_tls_flag
from wire.results import ErrPacket, OkPacket

NONCE = bytes(range(1, 21))
SECOND_NONCE = bytes(range(101, 121))
PASSWORD = b"correct horse battery"
ACCOUNT = b"repl"
OK = OkPacket().serialize()
ACCESS_DENIED = ErrPacket(1045, b"28000", b"Access denied for user 'repl'@'localhost' (using password: YES)")

SOURCE_CAPABILITIES = (
    Capability.CLIENT_LONG_PASSWORD
    | Capability.CLIENT_PROTOCOL_41
    | Capability.CLIENT_SECURE_CONNECTION
    | Capability.CLIENT_PLUGIN_AUTH
    | Capability.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
    | Capability.CLIENT_CONNECT_ATTRS
    | Capability.CLIENT_SSL
    | Capability.CLIENT_COMPRESS
)
REPLICA_CAPABILITIES = SOURCE_CAPABILITIES & ~Capability.CLIENT_SSL & ~Capability.CLIENT_COMPRESS
_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303


class PeerGone(Exception):  # noqa: N818
    """The other side ended the connection, in whatever manner."""


class WrongSequenceId(AssertionError):  # noqa: N818
    """The other side miscounted."""


class PacketPeer:
    """One end of a connection, in packets, with sequence ids counted and demanded."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket_stream = stream
        self.stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = stream
        self.next_sequence_id = 0
        self._decoder = PacketDecoder(1 << 26)

    async def receive(self) -> bytes:
        return (await self.receive_packet()).payload

    async def receive_packet(self, *, any_sequence_id: bool = False) -> Packet:
        packet = None
        while (packet := self._decoder.next_packet()) is None:
            self._decoder.feed(await self.receive_some(self._decoder.bytes_needed()))
        if not any_sequence_id and packet.sequence_id != self.next_sequence_id:
            raise WrongSequenceId(f"{packet.sequence_id} where {self.next_sequence_id} is due: {packet.payload!r}")
        self.next_sequence_id = (packet.last_sequence_id + 1) % 256
        return packet

    async def receive_some(self, count: int) -> bytes:
        try:
            data = await self.stream.receive_some(count)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            raise PeerGone(repr(error.__cause__ or error)) from error
        if not data:
            raise PeerGone("end of stream")
        return bytes(data)

    async def send(self, payload: bytes) -> None:
        data = encode_packet(payload, self.next_sequence_id)
        self.next_sequence_id = (self.next_sequence_id + 1 + len(payload) // 0xFFFFFF) % 256
        await self.send_bytes(data)

    async def send_bytes(self, data: bytes) -> None:
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            raise PeerGone(repr(error.__cause__ or error)) from error

    async def start_tls(self, context: ssl.SSLContext, *, server_side: bool, name: str | None = None) -> None:
        tls = trio.SSLStream(
            self.socket_stream, context, server_side=server_side, server_hostname=name, https_compatible=False
        )
        self.stream = tls
        try:
            await tls.do_handshake()
        except trio.BrokenResourceError as error:
            raise PeerGone(repr(error.__cause__ or error)) from error

    async def wait_closed(self) -> bytes:
        """Reads to the end, and returns what still came."""
        rest = bytearray(self._decoder.unconsumed())
        try:
            while True:
                rest += await self.receive_some(65536)
        except PeerGone:
            return bytes(rest)

    async def say_goodbye(self) -> None:
        """Closes in order: over TLS with a close_notify."""
        with contextlib.suppress(trio.BrokenResourceError):
            await self.stream.aclose()

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)


@cache
def source_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def xor(data: bytes, nonce: bytes) -> bytes:
    return bytes(byte ^ nonce[index % len(nonce)] for index, byte in enumerate(data))


def scramble(password: bytes, nonce: bytes) -> bytes:
    if not password:
        return b""
    once = hashlib.sha256(password).digest()
    proof = hashlib.sha256(hashlib.sha256(once).digest() + nonce).digest()
    return xor(once, proof)


Conversation = Callable[["FakeSource", PacketPeer], Awaitable[None]]


@dataclass
class FakeSource:
    """A source on a loopback port or a unix socket.

    Attributes:
        plugin: the account's plugin; `greeted_plugin` is the source's default where they differ.
        is_cached: whether caching_sha2_password has the account's hash in its cache.
        tls: the source offers TLS, and with `requires_tls` insists on it.
        conversation: what happens on a connection, if not `converse`.
        hangs_up_on_nonsense: what it cannot read ends the connection and not the test.
        payloads: every payload that came, of all connections, in order.
    """

    plugin: bytes = CACHING_SHA2_PASSWORD
    greeted_plugin: bytes | None = None
    password: bytes = PASSWORD
    account: bytes = ACCOUNT
    is_cached: bool = True
    is_unix: bool = False
    tls: ssl.SSLContext | None = None
    capabilities: Capability = SOURCE_CAPABILITIES
    conversation: Conversation | None = None
    hangs_up_on_nonsense: bool = False
    key: rsa.RSAPrivateKey = field(default_factory=source_key)
    stream: bytes = b""
    payloads: list[bytes] = field(default_factory=list)
    peers: list[PacketPeer] = field(default_factory=list)
    logins: list[HandshakeResponse41] = field(default_factory=list)
    seen_password: bytes | None = None
    failures: list[BaseException] = field(default_factory=list)
    address: Address = field(default_factory=lambda: TcpAddress("127.0.0.1", 0))
    dumping: trio.Event = field(default_factory=trio.Event)
    finished: trio.Event = field(default_factory=trio.Event)
    connected: trio.Event = field(default_factory=trio.Event)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[FakeSource]:
        with tempfile.TemporaryDirectory() as folder:
            if self.is_unix:
                path = str(Path(folder) / "s.sock")
                sock = trio.socket.socket(trio.socket.AF_UNIX)
                await sock.bind(path)
                sock.listen()
                listeners = [trio.SocketListener(sock)]
                self.address = UnixAddress(path)
            else:
                listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
                self.address = TcpAddress("127.0.0.1", listeners[0].socket.getsockname()[1])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._serve, listeners)
                yield self
                nursery.cancel_scope.cancel()
        if self.failures:
            raise self.failures[0]

    async def _serve(self, stream: trio.SocketStream) -> None:
        peer = PacketPeer(stream)
        self.peers.append(peer)
        self.connected.set()
        try:
            await (self.conversation(self, peer) if self.conversation else self.converse(peer))
        except PeerGone:
            pass
        except Exception as error:  # noqa: BLE001 - raised again in `listening`
            if not self.hangs_up_on_nonsense:
                self.failures.append(error)
        finally:
            self.finished.set()
            await peer.close()

    async def converse(self, peer: PacketPeer) -> None:
        if await self.authenticate(peer):
            await self.serve_commands(peer)

    async def greet(self, peer: PacketPeer) -> None:
        await peer.send(self.greeting())

    def greeting(self) -> bytes:
        capabilities = self.capabilities if self.tls else self.capabilities & ~Capability.CLIENT_SSL
        return HandshakeV10(
            server_version=b"9.7.0-fake",
            thread_id=4242,
            capabilities=capabilities,
            nonce=NONCE,
            plugin=self.greeted_plugin or self.plugin,
        ).serialize()

    async def receive(self, peer: PacketPeer) -> bytes:
        payload = await peer.receive()
        self.payloads.append(payload)
        return payload

    async def authenticate(self, peer: PacketPeer) -> bool:
        await self.greet(peer)
        payload = await self.receive(peer)
        # A unix socket is enough for caching_sha2_password alone, as on MySQL 9.7.
        is_secure = self.is_unix and self.plugin == CACHING_SHA2_PASSWORD
        if is_ssl_request(payload):
            if self.tls is None:
                raise AssertionError("asked for TLS that was not offered")
            SSLRequest.parse(payload)
            await peer.start_tls(self.tls, server_side=True)
            is_secure = True
            payload = await self.receive(peer)
        login = HandshakeResponse41.parse(payload)
        self.logins.append(login)
        response, nonce = login.auth_response, NONCE
        if login.plugin != self.plugin:
            nonce = SECOND_NONCE
            await peer.send(AuthSwitchRequest(self.plugin, nonce + b"\x00").serialize())
            response = await self.receive(peer)
        is_right = await self._judge(peer, response, nonce, is_secure=is_secure) and login.user == self.account
        await peer.send(OK if is_right else ACCESS_DENIED.serialize(with_sqlstate=True))
        return is_right

    async def _judge(self, peer: PacketPeer, response: bytes, nonce: bytes, *, is_secure: bool) -> bool:
        if self.plugin == CACHING_SHA2_PASSWORD:
            return await self._judge_caching_sha2(peer, response, nonce, is_secure=is_secure)
        if self.plugin == SHA256_PASSWORD:
            if not is_secure and response == b"\x01":
                await peer.send(AuthMoreData(public_pem(self.key)).serialize())
                response = await self.receive(peer)
            if not is_secure and len(response) > 1:
                response = xor(self.key.decrypt(response, _OAEP), nonce)
            self.seen_password = response
            return response.removesuffix(b"\x00") == self.password
        return response == scramble(self.password, nonce)

    async def _judge_caching_sha2(self, peer: PacketPeer, response: bytes, nonce: bytes, *, is_secure: bool) -> bool:
        if response in {b"", b"\x00"}:
            return not self.password
        if self.is_cached:
            if response != scramble(self.password, nonce):
                return False
            await peer.send(AuthMoreData(b"\x03").serialize())
            return True
        await peer.send(AuthMoreData(b"\x04").serialize())
        response = await self.receive(peer)
        if not is_secure:
            if response == b"\x02":
                await peer.send(AuthMoreData(public_pem(self.key)).serialize())
                response = await self.receive(peer)
            response = xor(self.key.decrypt(response, _OAEP), nonce)
        self.seen_password = response
        return response == self.password + b"\x00"

    async def serve_commands(self, peer: PacketPeer) -> None:
        while True:
            peer.next_sequence_id = 0
            payload = await self.receive(peer)
            if payload[0] == Command.COM_QUIT:
                return
            if payload[0] in {Command.COM_BINLOG_DUMP, Command.COM_BINLOG_DUMP_GTID}:
                self.dumping.set()
                if self.stream:
                    await peer.send_bytes(self.stream)
                await self.read_acknowledgements(peer)
                return
            await peer.send(OK)

    async def read_acknowledgements(self, peer: PacketPeer) -> None:
        while True:
            peer.next_sequence_id = 0
            payload = await self.receive(peer)
            if payload == bytes([Command.COM_QUIT]):
                return


@dataclass
class FakeReplica:
    """A replica's I/O thread, as far as it talks.

    Attributes:
        tls: its context; None to stay in plaintext.
        pinned_key: SOURCE_PUBLIC_KEY_PATH; without it the key is asked for.
        second_factor: answers the challenge of an AuthNextFactor.
    """

    peer: PacketPeer
    tls: ssl.SSLContext | None = None
    account: bytes = ACCOUNT
    password: bytes = PASSWORD
    plugin: bytes | None = None
    pinned_key: rsa.RSAPublicKey | None = None
    capabilities: Capability = REPLICA_CAPABILITIES
    attributes: dict[bytes, bytes] = field(default_factory=lambda: {b"_client_name": b"fake"})
    second_factor: Callable[[bytes], bytes] | None = None
    greeting: HandshakeV10 | None = None
    key_of_source: bytes | None = None

    async def receive_greeting(self) -> HandshakeV10:
        self.greeting = HandshakeV10.parse(await self.peer.receive())
        return self.greeting

    async def begin_tls(self) -> None:
        if self.tls is None:
            raise AssertionError("no context")
        await self.peer.send(SSLRequest(self.capabilities | Capability.CLIENT_SSL).serialize())
        await self.peer.start_tls(self.tls, server_side=False)

    async def log_in(self) -> bytes:
        """From the greeting to the source's last word, an OK or an ERR payload."""
        greeting = await self.receive_greeting()
        if self.tls is not None:
            await self.begin_tls()
        return await self.authenticate(greeting)

    def login(self, response: bytes, plugin: bytes | None) -> bytes:
        payload = HandshakeResponse41(
            capabilities=self.capabilities,
            user=self.account,
            auth_response=response,
            plugin=plugin,
            attributes=self.attributes,
        ).serialize()
        return with_tls_flag(payload, self.tls is not None)

    async def authenticate(self, greeting: HandshakeV10) -> bytes:
        plugin, nonce = self.plugin or greeting.plugin or b"", greeting.nonce
        await self.peer.send(self.login(self._first_response(plugin, nonce), plugin))
        while True:
            payload = await self.peer.receive()
            if payload[0] in {0x00, 0xFF}:
                return payload
            reply = classify_auth_reply(payload)
            if isinstance(reply, AuthSwitchRequest):
                plugin, nonce = reply.plugin, reply.nonce
                await self.peer.send(self._first_response(plugin, nonce))
            elif isinstance(reply, AuthNextFactor) and self.second_factor is not None:
                await self.peer.send(self.second_factor(reply.data))
            elif isinstance(reply, AuthMoreData):
                if reply.data == b"\x03" and plugin == CACHING_SHA2_PASSWORD:
                    continue
                await self._answer_more_data(reply.data, nonce)
            elif isinstance(reply, OldAuthSwitchRequest):
                raise AssertionError("an old authentication switch")

    def _first_response(self, plugin: bytes, nonce: bytes) -> bytes:
        if plugin != SHA256_PASSWORD:
            return scramble(self.password, nonce)
        if self.tls is not None or not self.password:
            return self.password + b"\x00"
        if self.pinned_key is not None:
            return self._encrypted(self.pinned_key, nonce)
        return b"\x01"

    async def _answer_more_data(self, data: bytes, nonce: bytes) -> None:
        if data.startswith(b"-----BEGIN"):
            self.key_of_source = data
            key = load_pem_public_key(data)
            if not isinstance(key, rsa.RSAPublicKey):
                raise AssertionError("not an RSA key")
            await self.peer.send(self._encrypted(key, nonce))
        elif self.tls is not None:
            await self.peer.send(self.password + b"\x00")
        elif self.pinned_key is not None:
            await self.peer.send(self._encrypted(self.pinned_key, nonce))
        else:
            await self.peer.send(b"\x02")

    def _encrypted(self, key: rsa.RSAPublicKey, nonce: bytes) -> bytes:
        return key.encrypt(xor(self.password + b"\x00", nonce), _OAEP)

    async def command(self, payload: bytes) -> bytes:
        """Sends a command and returns the first packet of the answer."""
        await self.send_command(payload)
        return await self.peer.receive()

    async def send_command(self, payload: bytes) -> None:
        self.peer.next_sequence_id = 0
        await self.peer.send(payload)
