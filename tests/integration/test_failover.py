"""What MySQL asks beside replication: asynchronous connection failover, members of a group, their recovery."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.flavours import Flavour
from testbed.replication import ReplicaTls
from testbed.servers import Server, free_port
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import PASSWORD, Proxy, RouteConfig, Table, replicating
from tests.integration.recordings import assert_nothing_refused, make_account, recorded

StartProxy = Callable[..., Proxy]
ACCOUNT = {"identity": "replica-1.example", "accounts": ["watcher"]}
QUORUM_OF_IO_THREAD = "WHEN ((SELECT IF(MEMBER_STATE='ONLINE' AND"
QUORUM_OF_MONITOR = "WHEN ((SELECT IF(((MEMBER_STATE='ONLINE') OR"


@contextmanager
def failing_over(replica: Server, port: int, tls: ReplicaTls) -> Iterator[None]:
    """`replica` replicates from the port, and looks for better sources."""
    try:
        with replicating(replica, port, user="watcher", tls=tls, retry_count=2):
            replica.wait_for_replication()
            replica.stop_replication()
            replica.sql("CHANGE REPLICATION SOURCE TO SOURCE_CONNECTION_AUTO_FAILOVER = 1")
            replica.start_replication()
            yield
    finally:
        replica.sql("DO asynchronous_connection_failover_reset()")


def test_a_replica_that_looks_for_the_better_of_two_sources(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    make_account(pair.source, "watcher")
    first, second = source_side(replicas=[ACCOUNT]), source_side(replicas=[ACCOUNT])
    table = pair.table()
    add = "DO asynchronous_connection_failover_add_source('', '127.0.0.1', %s, '', %s)"
    pair.replica.sql(add, first.port, 50)
    with recorded(pair.source) as recording:
        with failing_over(pair.replica, first.port, pki.authority.replica_tls(pki.replica)):
            first.stream_of("replica-1.example")
            pair.replica.sql(add, second.port, 80)
            # The monitor finds the second to answer, and the I/O thread moves to it.
            second.stream_of("replica-1.example", timeout=120)
            table.insert(10)
            table.assert_same_on(pair.replica)
            mark = first.mark()
            second.stop()
            first.wait_for_event("stream_started", after=mark, timeout=120)
            table.insert(10)
            table.assert_same_on(pair.replica)
        asked = recording.queries_of("watcher")
    assert ["SELECT 1"] in asked
    assert_nothing_refused(first)
    assert not second.events("command_refused")


class Member:
    """A member of a group, and the proxy that it names to the others and to replicas."""

    def __init__(self, folder: Path, pki: Pki, *, server_id: int, group: str, seed: int, own: int) -> None:
        self.port = free_port()
        self.server = Server(
            folder / "server",
            Flavour.MYSQL_9_7,
            server_id=server_id,
            options={
                "plugin-load-add": "group_replication.so",
                "loose-group-replication-group-name": group,
                "loose-group-replication-start-on-boot": "OFF",
                "loose-group-replication-local-address": f"127.0.0.1:{own}",
                "loose-group-replication-group-seeds": f"127.0.0.1:{seed}",
                "loose-group-replication-recovery-use-ssl": "ON",
                "loose-group-replication-recovery-ssl-ca": pki.authority.ca,
                "loose-group-replication-recovery-ssl-cert": pki.replica.certificate,
                "loose-group-replication-recovery-ssl-key": pki.replica.key,
                "loose-group-replication-recovery-ssl-verify-server-cert": "ON",
                "report-host": "127.0.0.1",
                "report-port": self.port,
            },
        )
        route = RouteConfig(
            source=f"unix:{self.server.socket_path}", listen=f"127.0.0.1:{self.port}", replicas=[ACCOUNT],
            replica_tls=pki.replica_tls(), more={"policy": "replication"},
        )  # fmt: skip
        self.proxy = Proxy(folder / "proxy", route)

    def join(self, *, as_first: bool) -> None:
        make_account(self.server, "watcher")
        if as_first:
            self.server.sql("SET GLOBAL group_replication_bootstrap_group = ON")
        self.server.sql("START GROUP_REPLICATION USER = 'watcher', PASSWORD = %s", PASSWORD)
        self.server.sql("SET GLOBAL group_replication_bootstrap_group = OFF")

    def wait_until_online(self) -> None:
        online = (
            "SELECT member_state = 'ONLINE' FROM performance_schema.replication_group_members "
            "WHERE member_id = @@GLOBAL.server_uuid"
        )
        self.server.wait_until(online, timeout=120)


def test_a_group_recovers_its_new_member_and_is_watched_by_a_replica(pair: Pair, pki: Pki, tmp_path: Path) -> None:
    group, addresses = str(uuid.uuid4()), [free_port(), free_port()]
    first, second = (
        Member(
            tmp_path / str(number), pki, server_id=50 + number, group=group, seed=addresses[0], own=addresses[number]
        )
        for number in range(2)
    )
    with first.server, second.server, first.proxy, second.proxy:
        first.join(as_first=True)
        first.wait_until_online()
        table = Table(first.server, "shop")
        table.insert(10)
        with recorded(first.server) as recording:
            second.join(as_first=False)
            second.wait_until_online()
        # Distributed recovery: the new member has the rows, through the proxy that the first names.
        assert second.server.row_count("shop.orders") == 10
        # More than one where it had to begin again.
        assert any("SELECT @@GLOBAL.GTID_MODE" in recovery for recovery in recording.queries_of("watcher"))
        first.proxy.wait_for_event("stream_started")
        assert_nothing_refused(first.proxy)
        managed = (
            "DO asynchronous_connection_failover_add_managed('', 'GroupReplication', %s, '127.0.0.1', %s, '', 80, 60)"
        )
        pair.replica.sql(managed, group, first.port)
        with recorded(first.server) as recording:
            with failing_over(pair.replica, first.port, pki.authority.replica_tls(pki.replica)):
                # The monitor has learnt of the other member from the group.
                pair.replica.wait_until(
                    "SELECT COUNT(*) = 2 FROM performance_schema.replication_asynchronous_connection_failover",
                    timeout=120,
                )
                table.insert(10)
                table.assert_same_on(pair.replica)
            asked = [query for session in recording.queries_of("watcher") for query in session]
        for part in (QUORUM_OF_MONITOR, QUORUM_OF_IO_THREAD, "SELECT @@global.group_replication_group_name, PRGM"):
            assert any(part in query for query in asked), part
        assert_nothing_refused(first.proxy)
        assert not second.proxy.events("command_refused", "session_refused")
