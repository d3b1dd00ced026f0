"""How other people's clients log in through Binlock, plugin by plugin, and that they look at its certificate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.flavours import Flavour
from testbed.servers import Server
from tests.integration.clients.facts import PLUGINS, QUERY_CLIENTS, Client, login_failure
from tests.integration.clients.programs import ClientError, ClientPrograms
from tests.integration.clients.stand import Stand, account_of
from tests.integration.conftest import Pki

StartStand = Callable[[Flavour], Stand]


@pytest.mark.parametrize("deployment", ["source-side-unix", "replica-side"])
@pytest.mark.parametrize("client", QUERY_CLIENTS, ids=lambda client: client.name)
@pytest.mark.parametrize(
    ("flavour", "plugin"),
    [(flavour, plugin) for flavour, plugins in PLUGINS.items() for plugin in plugins],
    ids=lambda value: value.value if isinstance(value, Flavour) else value,
)
def test_a_client_logs_in_with_every_plugin_that_it_has(
    start_stand: StartStand, clients: ClientPrograms, flavour: Flavour, plugin: str, client: Client, deployment: str
) -> None:
    stand, account = start_stand(flavour), account_of(plugin)
    target = stand.target(deployment, account=account)
    stand.cool_down()
    mark = stand.proxy.mark()
    failure = login_failure(client, plugin, encrypted=deployment == "source-side-unix")
    if failure is None:
        [row] = clients.query(client, target, "SELECT CURRENT_USER() AS account")
        assert row["account"] == f"{account}@%"
        assert stand.end_of(deployment, mark)["account"] == account
        return
    with pytest.raises(ClientError, match=failure):
        clients.query(client, target, "SELECT CURRENT_USER() AS account")
    assert stand.end_of(deployment, mark)["stage"] == "authentication"
    if deployment == "source-side-unix":
        with pytest.raises(ClientError, match=failure):
            clients.query(client, stand.without_binlock(account), "SELECT CURRENT_USER() AS account")


def test_mariadbs_caching_sha2_password_wants_a_socket_or_tls_behind_binlock(
    pki: Pki, clients: ClientPrograms, tmp_path: Path
) -> None:
    """Until the server is restarted: only then has the plugin RSA keys. So this one is nobody else's."""
    tls = {
        "ssl_ca": str(pki.authority.ca),
        "ssl_cert": str(pki.source.certificate),
        "ssl_key": str(pki.source.key),
    }
    account = account_of("caching_sha2_password")
    with (
        Server(tmp_path / "source", Flavour.MARIADB_11_8, server_id=1, options=tls) as source,
        Stand(source, pki, tmp_path / "binlock") as stand,
    ):
        for route in ("source-side-unix", "source-side-tls"):
            assert clients.query(Client.PYMYSQL, stand.target(route, account=account), "SELECT 1 AS one")
        with pytest.raises(ClientError, match="Access denied"):
            clients.query(Client.PYMYSQL, stand.target("source-side-tcp", account=account), "SELECT 1 AS one")
        assert "Authentication requires either RSA keys or secure transport" in source.log_path.read_text()


@pytest.mark.parametrize("client", QUERY_CLIENTS, ids=lambda client: client.name)
def test_a_client_turns_away_from_a_certificate_for_another_host(
    start_stand: StartStand, clients: ClientPrograms, client: Client
) -> None:
    stand = start_stand(Flavour.MYSQL_9_7)
    mark = stand.proxy.mark()
    with pytest.raises(ClientError, match=r"(?i)certificate|hostname"):
        clients.query(client, stand.target("misnamed"), "SELECT 1")
    assert stand.end_of("misnamed", mark)["stage"] in {"tls", "authentication"}
    assert not stand.proxy.events("session_started", after=mark)
