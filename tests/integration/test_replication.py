"""Real replicas replicate from real sources, in every deployment, by GTID and by file and position."""

from __future__ import annotations

import pytest

from testbed.flavours import Flavour
from testbed.servers import Server
from tests.integration.conftest import Pair, Pki
from tests.integration.deployments import DEPLOYMENTS, StartProxy, deploy
from tests.integration.lab import replicating


@pytest.mark.parametrize("position", ["gtid", "file"])
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
@pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
def test_a_replica_ends_up_with_the_sources_rows(
    pair: Pair, pki: Pki, deployment: str, position: str, source_side: StartProxy, replica_side: StartProxy
) -> None:
    proxy, options = deploy(deployment, pair, pki, source_side, replica_side)
    if position == "file":
        options |= {"auto_position": False, "position": pair.source.binlog_position()}
    table = pair.table()
    table.insert(700)
    pair.cool_down()
    with replicating(pair.replica, proxy.port, user="repl", **options):
        pair.replica.wait_for_replication()
        table.insert(1300)
        table.insert(3, body_bytes=3_000_000)
        table.assert_same_on(pair.replica)
        assert pair.replica.replica_status().io_running == "Yes"
        [session] = proxy.sessions()
        assert (session["stage"], session["account"], session["server_id"]) == ("relay", "repl", 2)
        assert session["bytes_to_replica"] > 9_000_000
        assert proxy.metric("binlock_proxy_replica_connected", replica=session["replica"]) == 1


@pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
def test_after_kill_9_under_load_the_replica_catches_up(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        for _ in range(3):
            table.insert(500, body_bytes=20_000)
            proxy.program.kill()
            table.insert(500, body_bytes=20_000)
            proxy.start()
        table.assert_same_on(pair.replica)


def test_on_sigterm_the_stream_ends_and_the_replica_resumes_at_the_next_proxy(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    proxy = source_side()
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        table.insert(2000, body_bytes=2000)
        assert proxy.stop() == 0
        [ended] = proxy.events("session_ended")
        assert ended["reason"] == "drained"
        assert proxy.events("stopped")[-1]["sessions_cut"] == 0
        table.insert(10)
        proxy.start()
        table.assert_same_on(pair.replica)


def test_two_replicas_share_one_proxy(
    pair: Pair, pki: Pki, source_side: StartProxy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    second = Server(tmp_path_factory.mktemp("second") / "replica", pair.flavour, server_id=3)
    leaf = pki.authority.issue("replica", "replica-2.example")
    proxy = source_side(
        replicas=[
            {"identity": "replica-1.example", "accounts": ["repl"], "server_ids": [2]},
            {"identity": "replica-2.example", "accounts": ["repl"], "server_ids": [3]},
        ]
    )
    table = pair.table()
    with (
        second,
        replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)),
        replicating(second, proxy.port, user="repl", tls=pki.authority.replica_tls(leaf)),
    ):
        table.insert(2000)
        table.assert_same_on(pair.replica)
        table.assert_same_on(second)
        assert {session["replica"] for session in proxy.sessions()} == {"replica-1.example", "replica-2.example"}
