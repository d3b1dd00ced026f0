"""What the source is told of a replica, and that no replica can say it of itself."""

import ssl

import pytest

from certs.profiles import Role
from proxy.openssl import Context, client_context
from proxy.stages.attributes import RESERVED_PREFIX
from proxy.stages.authentication import SourceTls
from tests.proxy.bench import EventLog, benched, entry
from tests.proxy.fakes import OK, REPLICA_CAPABILITIES, SOURCE_CAPABILITIES, FakeSource
from tests.proxy.pki import Pki
from wire.authentication import SHA256_PASSWORD
from wire.capabilities import Capability
from wire.login import HandshakeResponse41

OWN = {b"program_name": b"mysqld", b"_pid": b"77"}
FORGED = {
    b"_binlock_peer": b"192.0.2.1:1",
    b"_binlock_identity": b"somebody.else",
    b"_binlock_tls_version": b"TLSv1.3",
    b"_BINLOCK_replica": b"somebody else",
    b"_binlock_": b"",
    b"_binlock_of_a_later_version": b"yes",
}


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


def told(source: FakeSource) -> dict[str, str]:
    """The attributes of the one login, in their order."""
    [login] = source.logins
    return {name.decode(): value.decode() for name, value in login.attributes.items()}


async def test_the_source_is_told_who_connects(
    source: FakeSource, pki: Pki, replica_context: Context, log: EventLog
) -> None:
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica), attributes=OWN)
        assert await replica.log_in() == OK
        [record] = bench.runtime.registry
        assert record.replica_tls is not None
        host, port = replica.peer.socket_stream.socket.getsockname()[:2]
    assert list(told(source).items()) == [
        ("_binlock_peer", f"{host}:{port}"),
        ("_binlock_replica", "replica-1"),
        ("_binlock_identity", "replica-1.example"),
        ("_binlock_route", "test"),
        ("_binlock_tls_version", record.replica_tls.version),
        ("_binlock_tls_cipher", record.replica_tls.cipher),
        ("program_name", "mysqld"),
        ("_pid", "77"),
    ]


async def test_of_a_plaintext_leg_there_is_neither_identity_nor_tls_to_tell(source: FakeSource, log: EventLog) -> None:
    async with benched(source, log) as bench:
        replica = await bench.connect(attributes=OWN)
        assert await replica.log_in() == OK
    assert [name for name in told(source) if name not in {"program_name", "_pid"}] == [
        "_binlock_peer",
        "_binlock_replica",
        "_binlock_route",
    ]


@pytest.mark.parametrize("is_on", [True, False])
async def test_a_replica_cannot_say_it_of_itself(is_on: bool, source: FakeSource, log: EventLog) -> None:
    async with benched(source, log, connection_attributes=is_on) as bench:
        replica = await bench.connect(attributes={**FORGED, **OWN})
        assert await replica.log_in() == OK
    seen = told(source)
    names = {"_binlock_peer", "_binlock_replica", "_binlock_route"} if is_on else set()
    assert {name for name in seen if name.lower().startswith(RESERVED_PREFIX.decode())} == names
    assert seen.get("_binlock_replica", "replica-1") == "replica-1"
    assert not {value.decode() for value in FORGED.values() if value} & set(seen.values())
    assert (seen["program_name"], seen["_pid"]) == ("mysqld", "77")


async def test_forged_ones_are_dropped_also_where_the_source_asked_for_none(log: EventLog) -> None:
    source = FakeSource(capabilities=SOURCE_CAPABILITIES & ~Capability.CLIENT_CONNECT_ATTRS)
    async with benched(source, log) as bench:
        replica = await bench.connect(attributes={**FORGED, **OWN})
        assert await replica.log_in() == OK
    assert told(source) == {"program_name": "mysqld", "_pid": "77"}


async def test_a_login_without_attributes_gets_none(source: FakeSource, log: EventLog) -> None:
    async with benched(source, log) as bench:
        replica = await bench.connect(capabilities=REPLICA_CAPABILITIES & ~Capability.CLIENT_CONNECT_ATTRS)
        assert await replica.log_in() == OK
    assert told(source) == {}


async def test_over_tls_they_are_in_the_login_and_not_in_the_request(pki: Pki, log: EventLog) -> None:
    source = FakeSource(tls=pki.server(pki.source))
    source_tls = SourceTls(client_context(pki.material()), "localhost")
    async with benched(source, log, source_tls=source_tls) as bench:
        replica = await bench.connect(attributes=OWN)
        assert await replica.log_in() == OK
    request, login = source.payloads[:2]
    assert len(request) == 32
    assert login[:32] == request
    assert HandshakeResponse41.parse(login).attributes[b"_binlock_route"] == b"test"


async def test_they_go_together_with_a_bridged_password(pki: Pki, replica_context: Context, log: EventLog) -> None:
    source = FakeSource(plugin=SHA256_PASSWORD)
    async with benched(source, log, replica_context=replica_context) as bench:
        replica = await bench.connect(pki.client(pki.replica), attributes=OWN)
        assert await replica.log_in() == OK
    assert told(source)["_binlock_identity"] == "replica-1.example"


async def test_of_several_names_the_one_is_told_that_the_account_belongs_to(
    source: FakeSource, pki: Pki, replica_context: Context, log: EventLog
) -> None:
    leaf = pki.authority.issue(Role.REPLICA, "replica-1.example", "replica-2.example")
    roster = (entry("first", accounts=("other",)), entry("second", identity="replica-2.example"))
    async with benched(source, log, replica_context=replica_context, roster=roster) as bench:
        replica = await bench.connect(pki.client(leaf))
        assert await replica.log_in() == OK
    assert (told(source)["_binlock_replica"], told(source)["_binlock_identity"]) == ("second", "replica-2.example")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x" * 100, "x" * 100),
        ("x" * 101, "x" * 97 + "..."),
        ("Zürich", "Z\\xfcrich"),
        ("東京" * 30, ("\\u6771\\u4eac" * 30)[:97] + "..."),
    ],
    ids=["fits", "too long", "latin", "too long when escaped"],
)
async def test_a_value_is_short_and_ascii(name: str, shown: str, source: FakeSource, log: EventLog) -> None:
    async with benched(source, log, roster=(entry(name, identity=None),)) as bench:
        replica = await bench.connect()
        assert await replica.log_in() == OK
    assert told(source)["_binlock_replica"] == shown


async def test_at_their_longest_they_fit_what_a_server_keeps(
    source: FakeSource, pki: Pki, replica_context: Context, log: EventLog
) -> None:
    long = ".".join(["a" * 60] * 4)
    leaf = pki.authority.issue(Role.REPLICA, long)
    async with benched(
        source, log, replica_context=replica_context, roster=(entry("r" * 300, identity=long),)
    ) as bench:
        context = pki.client(leaf)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        replica = await bench.connect(context, attributes={})
        assert await replica.log_in() == OK
    pairs = [(name, value) for name, value in told(source).items() if name != "_binlock_route"]
    # With the longest address and route. performance_schema_session_connect_attrs_size is 512, and MySQL wants 17 of
    # them for `_truncated`.
    spare = len("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535") - len(dict(pairs)["_binlock_peer"])
    route = 2 + len("_binlock_route") + 64
    assert sum(2 + len(name) + len(value) for name, value in pairs) + spare + route <= 512 - 17
