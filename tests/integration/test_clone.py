"""CLONE INSTANCE through the proxy: a whole MySQL server is copied, and replicates on from where the copy was made."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pymysql
import pytest

from testbed.flavours import Flavour
from testbed.servers import Server
from tests.integration.conftest import Pair, Pki
from tests.integration.deployments import StartProxy
from tests.integration.lab import PASSWORD, replicating

MEBIBYTE = 1 << 20
CONNECTIONS = 4
CLONE = "CLONE INSTANCE FROM 'clone_donor'@'127.0.0.1':%s IDENTIFIED BY %s REQUIRE SSL"


def test_a_server_is_cloned_and_replicates_from_there(
    pair: Pair, pki: Pki, source_side: StartProxy, tmp_path: Path
) -> None:
    proxy = source_side(
        replicas=[{"identity": "replica-1.example", "accounts": ["clone_donor", "repl"]}],
        more={"policy": "backup"},
    )
    with pair.source.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        with contextlib.suppress(pymysql.err.OperationalError):  # installed already
            cursor.execute("INSTALL PLUGIN clone SONAME 'mysql_clone.so'")
        cursor.execute("CREATE USER IF NOT EXISTS 'clone_donor'@'%%' IDENTIFIED BY %s", (PASSWORD,))
        cursor.execute("GRANT BACKUP_ADMIN ON *.* TO 'clone_donor'@'%'")
    table = pair.table()
    table.insert(2000, body_bytes=1000)
    # A file of this size, quickly: it is copied whole.
    pair.source.sql(f"CREATE TABLE {table.schema}.wide (id INT PRIMARY KEY) AUTOEXTEND_SIZE = 256M")
    options: dict[str, str | int | Path | None] = {
        "plugin-load-add": "mysql_clone.so",
        "clone-ssl-ca": pki.authority.ca,
        "clone-ssl-cert": pki.replica.certificate,
        "clone-ssl-key": pki.replica.key,
        "clone-autotune-concurrency": "OFF",
        "clone-max-concurrency": CONNECTIONS,
        "clone-valid-donor-list": f"127.0.0.1:{proxy.port}",
    }
    with Server(tmp_path / "recipient", Flavour.MYSQL_9_7, server_id=2, options=options) as recipient:
        with table.under_load(), pytest.raises(pymysql.err.OperationalError, match="Restart server failed"):
            recipient.sql(CLONE, proxy.port, PASSWORD)
        recipient.wait_until(lambda: not recipient.running, what="the recipient to end, with nobody to start it again")
        recipient.start()
        assert recipient.scalar("SELECT STATE FROM performance_schema.clone_status") == "Completed"
        # One connection for acknowledgements beside those of the data.
        recipient.wait_until(lambda: not proxy.sessions(), what="the sessions of the clone to end")
        carried = sorted(event["bytes_to_replica"] for event in proxy.events("session_ended"))
        assert len(carried) == 1 + CONNECTIONS
        assert carried[0] < MEBIBYTE
        assert sum(carried) > 256 * MEBIBYTE
        with replicating(recipient, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
            table.insert(10)
            table.assert_same_on(recipient)
        assert not proxy.events("session_refused", "command_refused")
