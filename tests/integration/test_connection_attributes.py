"""The source sees who is behind Binlock, in its own tables, and nobody can say it of himself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection

from testbed.flavours import Flavour
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import PASSWORD, Proxy, replicating
from wire.datatypes import lenenc_bytes
from wire.login import ATTRIBUTES_LIMIT_BYTES

StartProxy = Callable[..., Proxy]
every = pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
# As docs/authentication.md has it.
ATTRIBUTES = """
    SELECT attr_name, attr_value
    FROM performance_schema.session_connect_attrs JOIN performance_schema.threads USING (processlist_id)
    WHERE processlist_user = 'repl' ORDER BY processlist_id, ordinal_position
"""
FORGED = {
    "_binlock_peer": "192.0.2.1:1",
    "_binlock_identity": "somebody.else",
    "_binlock_tls_version": "TLSv9",
    "_BINLOCK_replica": "somebody else",
    "_binlock_of_a_later_version": "forged",
}


def attributes(pair: Pair) -> dict[str, str]:
    """What the source shows of the newest connection of `repl`, in its order; the one before may not have ended yet."""
    account = "processlist_user = 'repl'"
    newest = pair.source.scalar(f"SELECT MAX(processlist_id) FROM performance_schema.threads WHERE {account}")
    shown = pair.source.sql(ATTRIBUTES.replace(account, f"{account} AND processlist_id = {newest}"))
    return {row["attr_name"]: row["attr_value"] for row in shown}


def ours(shown: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("_binlock_"): value for name, value in shown.items() if "binlock" in name.lower()}


@every
@pytest.mark.parametrize("source_leg", ["unix", "tcp", "tls"])
def test_the_source_sees_which_replica_it_is(pair: Pair, pki: Pki, source_side: StartProxy, source_leg: str) -> None:
    tcp = f"127.0.0.1:{pair.source.port}"
    source = f"unix:{pair.source.socket_path}" if source_leg == "unix" else tcp
    roster = [{"identity": "replica-1.example", "name": "the first one", "accounts": ["repl"]}]
    source_tls = pki.source_tls() if source_leg == "tls" else None
    proxy = source_side(source=source, source_tls=source_tls, replicas=roster, name="orders")
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        shown = attributes(pair)
        session = proxy.stream_of("the first one")
        assert ours(shown) == {
            "peer": session["peer"],
            "replica": "the first one",
            "identity": "replica-1.example",
            "route": "orders",
            "tls_version": session["replica_tls_version"],
            "tls_cipher": session["replica_tls_cipher"],
        }
        # The replica's own come behind.
        assert list(shown)[:6] == [f"_binlock_{name}" for name in ours(shown)]
        assert shown["_client_name"] == "libmysql"


@every
def test_of_a_plaintext_replica_no_identity_and_no_tls_is_claimed(pair: Pair, replica_side: StartProxy) -> None:
    proxy = replica_side(name="beside-the-replica")
    options = {} if pair.flavour.is_mariadb else {"get_source_public_key": True}
    with replicating(pair.replica, proxy.port, user="repl", **options):
        pair.replica.wait_for_replication()
        peer = proxy.stream_of("local")["peer"]
        assert ours(attributes(pair)) == {"peer": peer, "replica": "local", "route": "beside-the-replica"}


@every
def test_at_the_end_of_a_tunnel_the_proxy_beside_the_source_has_the_word(
    pair: Pair, source_side: StartProxy, replica_side: StartProxy
) -> None:
    far = source_side(name="far-end")
    near = replica_side(source=f"127.0.0.1:{far.port}", name="near-end")
    options = {} if pair.flavour.is_mariadb else {"get_source_public_key": True}
    with replicating(pair.replica, near.port, user="repl", **options):
        pair.replica.wait_for_replication()
        shown = ours(attributes(pair))
        assert (shown["route"], shown["replica"], shown["identity"]) == (
            "far-end",
            "replica-1.example",
            "replica-1.example",
        )
        assert shown["peer"] == far.stream_of("replica-1.example")["peer"]


@every
def test_a_route_may_keep_it_to_itself(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(more={"connection_attributes": False})
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        shown = attributes(pair)
        assert ours(shown) == {}
        assert shown["_client_name"] == "libmysql"


@contextlib.contextmanager
def client_with(proxy: Proxy, pki: Pki, own: dict[str, str]) -> Iterator[Connection[Any]]:
    """A client that sends attributes of its own choice, over TLS."""
    connection = pymysql.connect(
        host="127.0.0.1", port=proxy.port, user="repl", password=PASSWORD, ssl_ca=str(pki.authority.ca),
        ssl_cert=str(pki.replica.certificate), ssl_key=str(pki.replica.key), defer_connect=True,
    )  # fmt: skip
    connection._connect_attrs = own  # type: ignore[attr-defined]
    connection.connect()
    with connection:
        yield connection


@every
@pytest.mark.parametrize("is_on", [True, False], ids=["on", "off"])
def test_nobody_says_it_of_himself(pair: Pair, pki: Pki, source_side: StartProxy, is_on: bool) -> None:
    proxy = source_side(more={"policy": "any", "connection_attributes": is_on})
    with client_with(proxy, pki, {**FORGED, "program_name": "forger"}):
        shown = attributes(pair)
        assert shown["program_name"] == "forger"
        assert not set(FORGED.values()) & set(shown.values())
        assert set(ours(shown)) == (
            {"peer", "replica", "identity", "route", "tls_version", "tls_cipher"} if is_on else set()
        )
        assert ours(shown).get("identity", "replica-1.example") == "replica-1.example"


@every
@pytest.mark.parametrize("size", [600, ATTRIBUTES_LIMIT_BYTES], ids=["more than is kept", "all that is taken"])
def test_where_there_is_no_room_the_clients_own_are_dropped(
    pair: Pair, pki: Pki, source_side: StartProxy, size: int
) -> None:
    proxy = source_side(more={"policy": "any"})
    pair_bytes = len(lenenc_bytes(b"n00000") + lenenc_bytes(b"v" * 92))
    own = {f"n{number:05}": "v" * 92 for number in range(size // pair_bytes)}
    lost = "SHOW GLOBAL STATUS LIKE 'Performance_schema_session_connect_attrs_lost'"
    before = int(pair.source.sql(lost)[0]["Value"])
    with client_with(proxy, pki, own):
        shown = attributes(pair)
        assert set(ours(shown)) == {"peer", "replica", "identity", "route", "tls_version", "tls_cipher"}
        assert "n00000" in shown
        assert list(own)[-1] not in shown
    assert int(pair.source.sql(lost)[0]["Value"]) == before + 1
