"""Every plugin, every pair of legs, every length of password, cold and warm: the table of docs/authentication.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from testbed.flavours import Flavour
from testbed.servers import Server
from tests.integration.authentication_table import EITHER, LEGS, ROWS, WEBAUTHN, Cache, Row
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import PASSWORD, Table, replicating
from tests.integration.logins import Stand

# An empty one, an ordinary one, and one that is longer than any replica may have and still fits an RSA key.
PASSWORDS = {"empty": "", "ordinary": PASSWORD, "long": "p" * 200}
# The second factor of this one needs a server of its own: see test_second_factor.py.
CELLS = [(row, legs) for row in ROWS if row is not WEBAUTHN for legs in LEGS]
PLUGINS = {
    Flavour.MYSQL_9_7: ("auth_socket",),
    Flavour.MARIADB_10_11: ("ed25519",),
    Flavour.MARIADB_11_8: ("ed25519", "parsec", "caching_sha2_password"),
}


def create_accounts(source: Server, rows: list[Row]) -> list[str]:
    """One for each row and password; not in the binary log, which the replica of another flavour reads."""
    names = []
    with source.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        for row in rows:
            for kind, password in PASSWORDS.items():
                names.append(f"{row.key}_{kind}")
                cursor.execute(f"CREATE USER %s@'%%' IDENTIFIED {row.created_as}", (names[-1], password))
                cursor.execute("GRANT REPLICATION SLAVE ON *.* TO %s@'%%'", (names[-1],))
    return names


def load_plugins(source: Server) -> None:
    for plugin in PLUGINS[source.flavour]:
        source._load_authentication_plugin(plugin)
    if source.flavour is Flavour.MARIADB_11_8:
        # The RSA keys of caching_sha2_password are made at a start of the server, not when the plugin is installed.
        source.restart()


@pytest.fixture(scope="module")
def stands(
    start_pair: Callable[[Flavour], Pair], pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Flavour], Stand]]:
    """Makes the stand of a flavour, with its accounts, when it is first asked for."""
    made: dict[Flavour, Stand] = {}

    def stand_of(flavour: Flavour) -> Stand:
        if flavour not in made:
            pair = start_pair(flavour)
            load_plugins(pair.source)
            accounts = create_accounts(pair.source, [row for row in ROWS if row.source is flavour and row != WEBAUTHN])
            made[flavour] = Stand(tmp_path_factory.mktemp(flavour.value), pair, pki, accounts)
            made[flavour].proxy.start()
        return made[flavour]

    yield stand_of
    for stand in made.values():
        stand.proxy.__exit__()


@pytest.fixture
def stand(row: Row, stands: Callable[[Flavour], Stand]) -> Stand:
    return stands(row.source)


def named(value: object) -> str:
    return f"{value.source.value}-{value.key}" if isinstance(value, Row) else str(value)


@pytest.mark.parametrize(("row", "legs"), CELLS, ids=named)
@pytest.mark.parametrize("kind", PASSWORDS)
def test_a_client_logs_in(stand: Stand, row: Row, legs: str, kind: str) -> None:
    account, password = f"{row.key}_{kind}", PASSWORDS[kind]
    stand.pair.cool_down()
    cold = stand.client(legs, account, password)
    warm = stand.client(legs, account, password)
    expected = row.works_on(legs) and (password != "" or row.takes_empty)
    assert (cold.is_in, warm.is_in) == (expected, expected), (cold.shown, warm.shown)
    if not row.works_on(legs):
        # ER_ACCESS_DENIED_NO_PASSWORD_ERROR: the second factor has seen nobody at the other end of a socket.
        assert "ERROR 1698" in cold.shown


@pytest.mark.parametrize(("row", "legs"), CELLS, ids=named)
def test_a_wrong_password_is_refused_at_once(stand: Stand, row: Row, legs: str) -> None:
    stand.pair.cool_down()
    answer = stand.client(legs, f"{row.key}_ordinary", "wrong")
    assert not answer.is_in
    assert "ERROR 1045" in answer.shown
    assert "Binlock" not in answer.shown


@pytest.fixture(scope="module")
def tables() -> dict[Flavour, Table]:
    return {}


@pytest.mark.parametrize(
    ("row", "legs"), [(row, legs) for row, legs in CELLS if row.is_for_replicas and row.works_on(legs)], ids=named
)
def test_a_replica_replicates(stand: Stand, tables: dict[Flavour, Table], row: Row, legs: str) -> None:
    source, replica = stand.pair.source, stand.pair.replica
    table = tables.get(row.source) or tables.setdefault(row.source, Table(source, "authenticated"))
    stand.pair.cool_down()
    with replicating(replica, stand.port(legs), user=f"{row.key}_ordinary", **stand.replica_options(legs)):
        table.insert(1)
        table.assert_same_on(replica)
        if row.cache is Cache.COLD_AND_WARM:
            replica.stop_replication()
            table.insert(1)
            replica.start_replication()
            table.assert_same_on(replica)


@pytest.mark.parametrize("row", [row for row in ROWS if row is not WEBAUTHN], ids=named)
@pytest.mark.parametrize("peer", Flavour, ids=lambda flavour: flavour.value)
def test_a_client_of_another_flavour_logs_in_or_says_why_not(stand: Stand, row: Row, peer: Flavour) -> None:
    refused = dict(row.refused_peers)
    mark = stand.proxy.mark()
    answer = stand.client("tls-unix", f"{row.key}_ordinary", PASSWORD, flavour=peer)
    assert answer.is_in == (peer not in refused), answer.shown
    if peer in refused:
        assert f"ERROR {refused[peer]} " in answer.shown
        reason = "authentication_rejected" if refused[peer] == 1045 else "replica_left_after_login"
        stand.proxy.wait_for_refusal(reason, after=mark)


@pytest.mark.parametrize("row", [EITHER], ids=named)
@pytest.mark.parametrize("legs", LEGS)
def test_of_two_alternatives_either_will_do(stand: Stand, row: Row, legs: str) -> None:
    assert stand.client(legs, "either_ordinary", "the other one").is_in
    assert stand.client(legs, "either_ordinary", PASSWORD).is_in


@pytest.mark.parametrize("row", [EITHER], ids=named)
def test_a_replica_of_mariadb_follows_one_switch_of_plugin_and_leaves_at_the_second(stand: Stand, row: Row) -> None:
    replica = stand.pair.replica
    options = stand.replica_options("tls-unix")
    with replicating(replica, stand.port("tls-unix"), user="either_ordinary", password="the other one", **options):
        replica.wait_for_replication()
    mark = stand.proxy.mark()
    with replicating(replica, stand.port("tls-unix"), user="either_ordinary", **options):
        refusal = stand.proxy.wait_for_refusal("replica_left_after_login", after=mark)
    assert "asked for mysql_native_password" in refusal["detail"]
