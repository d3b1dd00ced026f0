"""Stage 6: the login judged by the source, with bridging where the two legs differ in secrecy."""

import itertools

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from proxy.openssl import Context, client_context
from proxy.outcomes import Reason, Stage
from proxy.stages.authentication import SourceTls
from tests.proxy.bench import PASSWORD_KEY, Bench, EventLog, benched
from tests.proxy.fakes import (
    ACCESS_DENIED,
    OK,
    PASSWORD,
    REPLICA_CAPABILITIES,
    SECOND_NONCE,
    FakeReplica,
    FakeSource,
    PacketPeer,
    source_key,
    xor,
)
from tests.proxy.pki import Pki
from wire.authentication import (
    CACHING_SHA2_PASSWORD,
    MYSQL_NATIVE_PASSWORD,
    SHA256_PASSWORD,
    AuthMoreData,
    AuthNextFactor,
    AuthSwitchRequest,
)
from wire.capabilities import Capability
from wire.login import HandshakeResponse41
from wire.results import ErrPacket

OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303
SHA2_PLUGINS = (CACHING_SHA2_PASSWORD, SHA256_PASSWORD)
REPLICA_LEGS = ("plain", "tls")
SOURCE_LEGS = ("plain", "unix", "tls")


class Legs:
    """Makes a bench with each leg as a test asks for it."""

    def __init__(self, pki: Pki, context: Context, log: EventLog) -> None:
        self.pki, self.context, self.log = pki, context, log

    def bench(self, source: FakeSource, replica_leg: str, source_leg: str):  # type: ignore[no-untyped-def]
        source.is_unix = source_leg == "unix"
        source.tls = self.pki.server(self.pki.source) if source_leg == "tls" else None
        return benched(
            source,
            self.log,
            replica_context=self.context if replica_leg == "tls" else None,
            source_tls=SourceTls(client_context(self.pki.material()), "localhost") if source_leg == "tls" else None,
        )

    async def connect(self, bench: Bench, replica_leg: str, **options: object) -> FakeReplica:
        return await bench.connect(self.pki.client(self.pki.replica) if replica_leg == "tls" else None, **options)


@pytest.fixture
def legs(pki: Pki, replica_context: Context, log: EventLog) -> Legs:
    return Legs(pki, replica_context, log)


EVERY_EXCHANGE = list(itertools.product(REPLICA_LEGS, SOURCE_LEGS, SHA2_PLUGINS, (False, True)))


@pytest.mark.parametrize(("replica_leg", "source_leg", "plugin", "is_cached"), EVERY_EXCHANGE)
async def test_a_right_password_is_accepted(
    replica_leg: str, source_leg: str, plugin: bytes, is_cached: bool, legs: Legs
) -> None:
    source = FakeSource(plugin=plugin, is_cached=is_cached)
    async with legs.bench(source, replica_leg, source_leg) as bench:
        replica = await legs.connect(bench, replica_leg)
        assert await replica.log_in() == OK
        assert await replica.command(b"\x0e") == OK
    if not (is_cached and plugin == CACHING_SHA2_PASSWORD):
        assert source.seen_password == PASSWORD + b"\x00"


@pytest.mark.parametrize(("replica_leg", "source_leg", "plugin", "is_cached"), EVERY_EXCHANGE)
async def test_a_wrong_password_is_refused_in_the_sources_own_bytes(
    replica_leg: str, source_leg: str, plugin: bytes, is_cached: bool, legs: Legs
) -> None:
    source = FakeSource(plugin=plugin, is_cached=is_cached)
    async with legs.bench(source, replica_leg, source_leg) as bench:
        replica = await legs.connect(bench, replica_leg, password=b"wrong")
        assert await replica.log_in() == ACCESS_DENIED.serialize(with_sqlstate=True)
        await bench.assert_refused(Stage.AUTHENTICATION, Reason.AUTHENTICATION_REJECTED)


@pytest.mark.parametrize(("replica_leg", "source_leg", "plugin", "is_cached"), EVERY_EXCHANGE)
async def test_an_empty_password_is_carried_as_nothing(
    replica_leg: str, source_leg: str, plugin: bytes, is_cached: bool, legs: Legs
) -> None:
    source = FakeSource(plugin=plugin, is_cached=is_cached, password=b"")
    async with legs.bench(source, replica_leg, source_leg) as bench:
        replica = await legs.connect(bench, replica_leg, password=b"")
        assert await replica.log_in() == OK


@pytest.mark.parametrize(("replica_leg", "source_leg"), list(itertools.product(REPLICA_LEGS, SOURCE_LEGS)))
@pytest.mark.parametrize("plugin", [*SHA2_PLUGINS, MYSQL_NATIVE_PASSWORD])
async def test_after_a_switch_to_another_plugin_the_new_nonce_counts(
    replica_leg: str, source_leg: str, plugin: bytes, legs: Legs
) -> None:
    greeted = MYSQL_NATIVE_PASSWORD if plugin != MYSQL_NATIVE_PASSWORD else CACHING_SHA2_PASSWORD
    source = FakeSource(plugin=plugin, greeted_plugin=greeted, is_cached=False)
    async with legs.bench(source, replica_leg, source_leg) as bench:
        replica = await legs.connect(bench, replica_leg)
        assert await replica.log_in() == OK


@pytest.mark.parametrize("is_cached", [True, False])
async def test_a_password_held_for_one_plugin_is_forgotten_when_the_source_switches_to_another(
    is_cached: bool, legs: Legs
) -> None:
    source = FakeSource(plugin=CACHING_SHA2_PASSWORD, greeted_plugin=SHA256_PASSWORD, is_cached=is_cached)
    async with legs.bench(source, "tls", "plain") as bench:
        replica = await legs.connect(bench, "tls")
        assert await replica.log_in() == OK


async def test_a_replica_that_pinned_the_sources_key_gets_through_where_nothing_is_bridged(legs: Legs) -> None:
    source = FakeSource(is_cached=False)
    async with legs.bench(source, "plain", "plain") as bench:
        replica = await legs.connect(bench, "plain", pinned_key=source_key().public_key())
        assert await replica.log_in() == OK


@pytest.mark.parametrize("plugin", SHA2_PLUGINS)
async def test_a_replica_that_pinned_another_key_than_binlocks_is_told_what_to_change(
    plugin: bytes, legs: Legs
) -> None:
    source = FakeSource(plugin=plugin, is_cached=False)
    async with legs.bench(source, "plain", "tls") as bench:
        replica = await legs.connect(bench, "plain", pinned_key=source_key().public_key())
        answer = ErrPacket.parse(await replica.log_in())
        assert answer.code == 1045
        assert b"GET_SOURCE_PUBLIC_KEY=1" in answer.message
        await bench.assert_refused(Stage.AUTHENTICATION, Reason.AUTHENTICATION_NOT_BRIDGEABLE)


@pytest.mark.parametrize("source_leg", SOURCE_LEGS)
async def test_a_replica_that_sends_its_password_in_the_clear_over_plaintext_gets_through(
    source_leg: str, legs: Legs
) -> None:
    """As MariaDB's does for caching_sha2_password. What it has given away cannot be taken back; the source need not."""
    source = FakeSource(is_cached=False)
    async with legs.bench(source, "plain", source_leg) as bench:
        replica = await legs.connect(bench, "plain")
        greeting = await replica.receive_greeting()
        await replica.peer.send(replica.login(bytes(32), greeting.plugin))
        assert await replica.peer.receive() == b"\x01\x04"
        await replica.peer.send(PASSWORD + b"\x00")
        assert await replica.peer.receive() == OK
    assert source.seen_password == PASSWORD + b"\x00"
    is_plain = source_leg == "plain"
    assert (PASSWORD + b"\x00" in source.payloads) != is_plain


@pytest.mark.parametrize("plugin", SHA2_PLUGINS)
async def test_a_replica_may_pin_binlocks_own_key(plugin: bytes, legs: Legs) -> None:
    source = FakeSource(plugin=plugin, is_cached=False)
    key = load_pem_public_key(PASSWORD_KEY.public_pem())
    assert isinstance(key, rsa.RSAPublicKey)
    async with legs.bench(source, "plain", "tls") as bench:
        replica = await legs.connect(bench, "plain", pinned_key=key)
        assert await replica.log_in() == OK


async def test_a_plaintext_replica_is_given_binlocks_key_and_not_the_sources(legs: Legs) -> None:
    async with legs.bench(FakeSource(is_cached=False), "plain", "tls") as bench:
        replica = await legs.connect(bench, "plain")
        assert await replica.log_in() == OK
    assert replica.key_of_source == PASSWORD_KEY.public_pem()


@pytest.mark.parametrize(("replica_leg", "source_leg"), [("plain", "tls"), ("tls", "plain")])
async def test_a_password_of_213_bytes_is_bridged(replica_leg: str, source_leg: str, legs: Legs) -> None:
    password = bytes(range(33, 126)) * 2 + b"x" * 27
    source = FakeSource(is_cached=False, password=password)
    async with legs.bench(source, replica_leg, source_leg) as bench:
        replica = await legs.connect(bench, replica_leg, password=password)
        assert await replica.log_in() == OK


async def test_a_password_of_214_bytes_does_not_fit_the_sources_key_and_says_so(legs: Legs) -> None:
    source = FakeSource(is_cached=False, password=b"x" * 214)
    async with legs.bench(source, "tls", "plain") as bench:
        replica = await legs.connect(bench, "tls", password=b"x" * 214)
        answer = ErrPacket.parse(await replica.log_in())
        assert answer.code == 1045
        assert b"too long for the source's RSA key" in answer.message
        refusal = await bench.assert_refused(Stage.AUTHENTICATION, Reason.AUTHENTICATION_NOT_BRIDGEABLE)
        assert "xxx" not in str(refusal)


@pytest.mark.parametrize("key", [b"-----BEGIN nothing", b"\x04", b""])
async def test_a_source_that_answers_with_no_key_is_refused_and_gets_no_password(key: bytes, legs: Legs) -> None:
    async def answers_with_no_key(source: FakeSource, peer: PacketPeer) -> None:
        await source.greet(peer)
        await source.receive(peer)
        await peer.send(AuthMoreData(b"\x04").serialize())
        assert await source.receive(peer) == b"\x02"
        await peer.send(AuthMoreData(key).serialize())
        await source.receive(peer)

    source = FakeSource(conversation=answers_with_no_key)
    async with legs.bench(source, "tls", "plain") as bench:
        replica = await legs.connect(bench, "tls")
        assert ErrPacket.parse(await replica.log_in()).code == 1045
        await bench.assert_refused(Stage.AUTHENTICATION, Reason.AUTHENTICATION_NOT_BRIDGEABLE)
    assert len(source.payloads) == 2


async def test_a_second_factor_is_asked_for_and_answered(legs: Legs) -> None:
    async def wants_two(source: FakeSource, peer: PacketPeer) -> None:
        await source.greet(peer)
        await source.receive(peer)
        await peer.send(AuthMoreData(b"\x03").serialize())
        await peer.send(AuthNextFactor(b"some_plugin", b"challenge\x00").serialize())
        assert await source.receive(peer) == b"second answer"
        await peer.send(OK)

    source = FakeSource(conversation=wants_two)
    async with legs.bench(source, "tls", "plain") as bench:
        replica = await legs.connect(bench, "tls")
        greeting = await replica.receive_greeting()
        await replica.begin_tls()
        await replica.peer.send(replica.login(bytes(32), greeting.plugin))
        assert await replica.peer.receive() == b"\x01\x03"
        assert await replica.peer.receive() == b"\x02some_plugin\x00challenge\x00"
        await replica.peer.send(b"second answer")
        assert await replica.peer.receive() == OK


async def test_a_second_factor_of_caching_sha2_is_bridged_with_its_own_nonce(legs: Legs) -> None:
    async def wants_two(source: FakeSource, peer: PacketPeer) -> None:
        await source.greet(peer)
        await source.receive(peer)
        await peer.send(AuthNextFactor(CACHING_SHA2_PASSWORD, SECOND_NONCE + b"\x00").serialize())
        await source.receive(peer)
        await peer.send(AuthMoreData(b"\x04").serialize())
        assert await source.receive(peer) == b"\x02"
        pem = source.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        await peer.send(AuthMoreData(pem).serialize())
        ciphertext = await source.receive(peer)
        source.seen_password = xor(source.key.decrypt(ciphertext, OAEP), SECOND_NONCE)
        await peer.send(OK)

    source = FakeSource(conversation=wants_two)
    async with legs.bench(source, "tls", "plain") as bench:
        replica = await legs.connect(bench, "tls")
        greeting = await replica.receive_greeting()
        await replica.begin_tls()
        await replica.peer.send(replica.login(bytes(32), greeting.plugin))
        await replica.peer.receive()
        await replica.peer.send(bytes(32))
        assert await replica.peer.receive() == b"\x01\x04"
        await replica.peer.send(b"second\x00")
        assert await replica.peer.receive() == OK
    assert source.seen_password == b"second\x00"


async def test_a_source_with_an_empty_nonce_is_a_protocol_error(legs: Legs) -> None:
    async def has_no_nonce(source: FakeSource, peer: PacketPeer) -> None:
        await source.greet(peer)
        await source.receive(peer)
        await peer.send(AuthSwitchRequest(SHA256_PASSWORD, b"").serialize())
        await source.receive(peer)
        pem = source.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        await peer.send(AuthMoreData(pem).serialize())
        await source.receive(peer)

    async with legs.bench(FakeSource(conversation=has_no_nonce), "tls", "plain") as bench:
        replica = await legs.connect(bench, "tls")
        assert ErrPacket.parse(await replica.log_in()).code == 1043
        await bench.assert_refused(Stage.AUTHENTICATION, Reason.PROTOCOL_ERROR)


async def test_a_login_whose_form_cannot_hold_the_password_is_no_defect(legs: Legs) -> None:
    """Without CLIENT_SECURE_CONNECTION a NUL ends the response, and the bridged password ends with one."""
    capabilities = (
        REPLICA_CAPABILITIES & ~Capability.CLIENT_SECURE_CONNECTION & ~Capability.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
    )
    async with legs.bench(FakeSource(plugin=SHA256_PASSWORD), "plain", "tls") as bench:
        replica = await legs.connect(bench, "plain", capabilities=capabilities)
        await replica.log_in()


async def test_an_unknown_tail_of_the_login_reaches_the_source(log: EventLog) -> None:
    source = FakeSource()
    async with benched(source, log, connection_attributes=False) as bench:
        replica = await bench.connect()
        greeting = await replica.receive_greeting()
        login = HandshakeResponse41(
            REPLICA_CAPABILITIES, b"repl", bytes(32), plugin=greeting.plugin, tail=b"of a later version"
        ).serialize()
        await replica.peer.send(login)
        await replica.peer.receive()
    assert source.payloads == [login]
