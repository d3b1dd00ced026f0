"""The recovery of a Group Replication member through the proxy. The group's own traffic, XCom, is no MySQL protocol."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from typing import Any

import pymysql
import pytest

from testbed.flavours import Flavour
from testbed.servers import Server, free_port, option_words
from tests.integration.conftest import Pki
from tests.integration.lab import PASSWORD, Proxy, RouteConfig, Table

LIVE = "SELECT COUNT(*) = 2 FROM performance_schema.replication_group_members WHERE MEMBER_STATE = 'ONLINE'"


@pytest.mark.parametrize("method", ["binlog", "clone"])
def test_a_member_recovers_through_the_proxy(method: str, pki: Pki, tmp_path: Path) -> None:
    group, seed = str(uuid.uuid4()), free_port()
    donor = Server(tmp_path / "donor", Flavour.MYSQL_9_7, server_id=11, options=member(group, seed, seed))
    route = RouteConfig(
        source=f"unix:{donor.socket_path}",
        replicas=[{"identity": "replica-1.example", "accounts": ["recovery"], "server_ids": [12]}],
        replica_tls=pki.replica_tls(),
        more={"policy": "backup"},
    )
    with Proxy(tmp_path / "proxy", route) as proxy:
        donor.options += option_words(advertising(proxy))
        threshold = {"group-replication-clone-threshold": 1} if method == "clone" else {}
        options = member(group, free_port(), seed) | recovery(pki) | threshold
        joiner = Server(tmp_path / "joiner", Flavour.MYSQL_9_7, server_id=12, options=options)
        with donor, joiner:
            table = found_group(donor)
            joiner.sql("RESET BINARY LOGS AND GTIDS")
            join(joiner)
            if method == "clone":
                joiner.wait_until(lambda: not joiner.running, what="the joiner to end, with nobody to start it again")
                joiner.start()
                join(joiner)
            joiner.wait_until(LIVE, timeout=120)
            table.insert(10)
            table.assert_same_on(joiner)
            joiner.wait_until(lambda: not proxy.sessions(), what="the sessions of the recovery to end")
        carried = [event["bytes_to_replica"] for event in proxy.events("session_ended")]
        # A clone has several connections.
        assert (len(carried) > 1) == (method == "clone")
        assert sum(carried) > (20_000_000 if method == "clone" else 2_000_000)
        assert not proxy.events("session_refused", "command_refused")


def advertising(proxy: Proxy) -> dict[str, Any]:
    """What sends joiners to the proxy: an address of this host, with the port that the member reports as its own."""
    return {
        "report-port": proxy.port,
        "group-replication-advertise-recovery-endpoints": f"127.0.0.1:{proxy.port}",
    }


def member(group: str, port: int, seed: int) -> dict[str, Any]:
    return {
        "plugin-load-add": "group_replication.so;mysql_clone.so",
        "group-replication-group-name": group,
        "group-replication-start-on-boot": "OFF",
        "group-replication-local-address": f"127.0.0.1:{port}",
        "group-replication-group-seeds": f"127.0.0.1:{seed}",
        "report-host": "127.0.0.1",
    }


def recovery(pki: Pki) -> dict[str, Any]:
    return {
        "group-replication-recovery-use-ssl": "ON",
        "group-replication-recovery-ssl-verify-server-cert": "ON",
        "group-replication-recovery-ssl-ca": pki.authority.ca,
        "group-replication-recovery-ssl-cert": pki.replica.certificate,
        "group-replication-recovery-ssl-key": pki.replica.key,
    }


def found_group(donor: Server) -> Table:
    donor.create_replication_account("recovery", PASSWORD)
    with donor.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute("GRANT BACKUP_ADMIN ON *.* TO 'recovery'@'%'")
    donor.sql("SET GLOBAL group_replication_bootstrap_group = ON")
    donor.sql("START GROUP_REPLICATION")
    table = Table(donor, "grouped")
    table.insert(1000, body_bytes=2000)
    return table


def join(joiner: Server) -> None:
    # Recovery may end the server, and the connection with it.
    with contextlib.suppress(pymysql.err.OperationalError):
        joiner.sql(f"START GROUP_REPLICATION USER = 'recovery', PASSWORD = '{PASSWORD}'")
