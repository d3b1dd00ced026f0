"""A source and a replica on hosts of their own, as sloppy as the servers allow, and the audit run on them."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testbed.encryption import binlog_encryption
from testbed.flavours import Flavour
from testbed.hosts import Host, Network
from testbed.servers import Server
from tests.integration.lab import BIN, Authority, run_certs

WEAK, STRONG = "repl123", "four quiet Herons, 1 pond"
FOLDER = "/etc/mysql/binlock"
# An account of each fault that accounts can have.
SLOPPY_ACCOUNTS = (
    "CREATE USER root@'%' IDENTIFIED BY 'root'",
    "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION",
    "CREATE USER ''@'localhost'",
    f"CREATE USER repl@'%' IDENTIFIED BY '{WEAK}'",
    "GRANT REPLICATION SLAVE, SUPER, SELECT, RELOAD ON *.* TO repl@'%' WITH GRANT OPTION",
    "GRANT ALL ON shop.* TO repl@'%'",
    "CREATE USER old@'%'",
    "GRANT REPLICATION SLAVE ON *.* TO old@'%'",
    "CREATE USER app@'10.77.%' IDENTIFIED BY 'an app 0f its own'",
    "GRANT SELECT ON mysql.* TO app@'10.77.%'",
)
LEAST = {
    True: ("user", "db", "tables_priv", "procs_priv", "proxies_priv", "global_priv", "roles_mapping"),
    False: ("user", "db", "tables_priv", "procs_priv", "proxies_priv", "global_grants", "role_edges", "component"),
}


class SloppyPair:
    """A fresh pair of servers with settings that nobody should have."""

    def __init__(self, folder: Path, flavour: Flavour) -> None:
        self.folder, self.flavour = folder, flavour
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> SloppyPair:
        self.network = self.stack.enter_context(Network())
        hosts = [self.network.add_host(name) for name in ("source", "replica", "dba")]
        self.source_host, self.replica_host, self.dba_host = hosts
        self.authority = Authority(self.folder / "ca")
        self.source = self.stack.enter_context(self._server("source", 1, self.source_host))
        self.replica = self.stack.enter_context(self._server("replica", 2, self.replica_host))
        self._make_sloppy()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)

    def _server(self, name: str, number: int, host: Host) -> Server:
        options: dict[str, Any] = {"binlog_checksum": "NONE", "binlog_expire_logs_seconds": 3600}
        options |= {"performance_schema": "ON", "report_host": host.address}
        program = None
        if not self.flavour.is_mariadb:
            # The keyring is there, and nothing uses it.
            keyring = binlog_encryption(self.flavour, self.folder / f"{name}-keyring")
            options["plugin-dir"], program = keyring.options["plugin-dir"], keyring.program
            options["replica_sql_verify_checksum"] = "OFF"
            if name == "source":
                options |= {"mysqlx": "ON", "mysqlx_bind_address": "*", "mysqlx_socket": self.folder / "x.sock"}
        else:
            options |= {"slave_sql_verify_checksum": "OFF", "extra_port": 3310, "extra_max_connections": 5}
            if self.flavour is Flavour.MARIADB_11_8:
                options["tls_version"] = "TLSv1.1,TLSv1.2,TLSv1.3"
        return Server(
            self.folder / name, self.flavour, server_id=number, host=host, port=3306, options=options, program=program
        )

    def _make_sloppy(self) -> None:
        if not self.flavour.is_mariadb:
            (self.source.folder / "data" / "server-key.pem").chmod(0o644)
        for server in (self.source, self.replica):
            with server.connection() as connection, connection.cursor() as cursor:
                cursor.execute("SET SESSION sql_log_bin = 0")
                cursor.execute("CREATE DATABASE shop")
                cursor.execute("CREATE TABLE shop.orders (id INT PRIMARY KEY)")
                # As after a restore: the replica has the source's accounts.
                for statement in SLOPPY_ACCOUNTS:
                    cursor.execute(statement)
        options: dict[str, Any] = {} if self.flavour.is_mariadb else {"get_source_public_key": True}
        self.replica.replicate_from(host=self.source_host.address, port=3306, user="repl", password=WEAK, **options)
        # A channel that somebody tried once, and left.
        tried = (
            "CHANGE MASTER 'tried' TO MASTER_HOST = %s, MASTER_PORT = 3307, MASTER_USER = 'root'"
            if self.flavour.is_mariadb
            else "CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = 3307, SOURCE_USER = 'root'"
            " FOR CHANNEL 'tried'"
        )
        self.replica.sql(tried, self.source_host.address)
        self.replica.wait_until(lambda: "Yes" in str(self.io_states()), what="replication to run")
        # The I/O thread runs before it has asked for the stream, and what the source says of that is judged too.
        dumps = "SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
        self.source.wait_until(dumps, what="the replica to ask for the stream")

    def io_states(self) -> list[str]:
        show = "SHOW ALL SLAVES STATUS" if self.flavour.is_mariadb else "SHOW REPLICA STATUS"
        rows = self.replica.sql(show)
        return [str(row.get("Replica_IO_Running") or row.get("Slave_IO_Running")) for row in rows]

    def forget_tried(self) -> None:
        own = "SLAVE 'tried' ALL" if self.flavour.is_mariadb else "REPLICA ALL FOR CHANNEL 'tried'"
        self.replica.sql(f"RESET {own}")

    def audit_as_root(self, *options: str) -> tuple[int, dict[str, Any]]:
        dsns = [
            f"mysql://root@localhost/?socket={server.socket_path}&name={self.name_of(server)}"
            for server in (self.source, self.replica)
        ]
        return run_audit("--source", dsns[0], "--replica", dsns[1], "--json", *options)

    def make_auditors(self) -> None:
        """Accounts with what docs/audit.md says, on both servers."""
        for server in (self.source, self.replica):
            with server.connection() as connection, connection.cursor() as cursor:
                cursor.execute("SET SESSION sql_log_bin = 0")
                for statement in least_privilege(self.flavour, f"'auditor'@'{self.dba_host.address}'"):
                    cursor.execute(statement)

    def audit_over_tls(self, *options: str) -> tuple[int, dict[str, Any]]:
        (self.folder / "pw").write_text(f"{STRONG}\n")
        ca = self.authority.ca
        dsns = [f"mysql://auditor@{host.address}/?ssl-ca={ca}" for host in (self.source_host, self.replica_host)]
        words = ["--source", dsns[0], "--replica", dsns[1], "--password-file", str(self.folder / "pw"), "--json"]
        done = subprocess.run(
            self.dba_host.command([str(BIN / "binlock-audit"), *words, *options]),
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def name_of(self, server: Server) -> str:
        """That its certificate is issued for."""
        return f"{server.folder.name}.example"

    def issue_files(self) -> None:
        """What the fixes name, in a folder for each server, as docs/audit.md has it done."""
        hosts = ((self.source, self.source_host, "source"), (self.replica, self.replica_host, "proxy"))
        for server, host, role in hosts:
            own = self.files_of(server)
            self.authority.issue(role, self.name_of(server), "--ip", host.address, "--out", str(own))
            for shared in (self.authority.ca, self.authority.crl):
                shutil.copy(shared, own)
            (own / "keys").write_text(f"1;{'5a' * 32}\n")

    def make_late_account(self) -> None:
        """On a MySQL replica alone, although that takes no writes."""
        statements = (
            "SET SESSION sql_log_bin = 0",
            "SET GLOBAL super_read_only = OFF",
            f"CREATE USER late@'10.77.%' IDENTIFIED BY '{STRONG}'",
            "GRANT REPLICATION SLAVE ON *.* TO late@'10.77.%'",
            "SET GLOBAL super_read_only = ON",
        )
        with self.replica.connection() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def configured(self, what: str, server: Server, *options: str) -> str:
        """What `mysql-config` prints for a server, with the files where they are here."""
        words = (what, self.name_of(server), "--server", self.flavour.value, *options)
        return run_certs("mysql-config", *words).replace(FOLDER, str(self.files_of(server)))

    def files_of(self, server: Server) -> Path:
        return self.folder / f"{server.folder.name}-files"

    def apply(self, scripts: Path) -> None:
        """Uses the scripts as their names and comments say, a person's part included."""
        for script in sorted(scripts.iterdir()):
            server = self.source if "-source-" in script.name else self.replica
            text = script.read_text().replace(FOLDER, str(self.files_of(server)))
            if script.suffix == ".cnf":
                if "take a restart" in text:
                    restart_with(server, text)
            elif script.suffix == ".sh":
                subprocess.run(["sh", "-c", text], check=True, timeout=30)
            else:
                text = text.replace("-- fill in: ", "").replace("<new password>", STRONG)
                text = text.replace("<host or network of the replicas>", self.replica_host.address)
                run_script(server, text)
            if script.name.startswith("1-source") and script.suffix == ".sql":
                self._tell_replica_its_password()
            if script.name.startswith("2-replica"):
                self.prove_that_it_replicates()

    def prove_that_it_replicates(self) -> None:
        """A row written now arrives; between the steps, as a person would look too."""
        self.source.sql("INSERT INTO shop.orders SELECT COALESCE(MAX(id), 0) + 1 FROM shop.orders")
        self.replica.catch_up_with(self.source)
        assert self.replica.row_count("shop.orders") == self.source.row_count("shop.orders")

    def reconnect(self) -> None:
        """The replica logs in anew, with all that is now required of it."""
        self.replica.stop_replication()
        self.replica.start_replication()
        self.replica.wait_for_replication()

    def _tell_replica_its_password(self) -> None:
        if self.flavour.is_mariadb:
            self.replica.sql("STOP SLAVE")
            self.replica.sql("CHANGE MASTER TO MASTER_PASSWORD = %s", STRONG)
            self.replica.sql("START SLAVE")
            return
        self.replica.sql("STOP REPLICA")
        self.replica.sql("CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD = %s", STRONG)
        self.replica.sql("START REPLICA")


def least_privilege(flavour: Flavour, account: str) -> Iterator[str]:
    yield f"CREATE USER {account} IDENTIFIED BY '{STRONG}' REQUIRE SSL"
    yield f"GRANT REPLICATION CLIENT ON *.* TO {account}"
    if flavour.is_mariadb:
        yield f"GRANT SLAVE MONITOR ON *.* TO {account}"
    for table in LEAST[flavour.is_mariadb]:
        yield f"GRANT SELECT ON mysql.{table} TO {account}"
    yield f"GRANT SELECT ON performance_schema.* TO {account}"


def run_audit(*words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [BIN / "binlock-audit", *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def run_script(server: Server, text: str) -> None:
    """By the server's own client, which stops at the first error."""
    command = [*server.flavour.client("mysql"), "--no-defaults", "--user=root", f"--socket={server.socket_path}"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{done.stderr}\n{text}"


def restart_with(server: Server, text: str) -> None:
    """The lines of a [mysqld] section as options of the command line, where the last wins as in a file."""
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "["))]
    server.options = [*server.options, *(f"--{re.sub(r' *= *', '=', line)}" for line in lines)]
    server.restart()


def statuses(report: dict[str, Any]) -> dict[str, str]:
    """The worst status of each check."""
    order = ["pass", "unknown", "warn", "fail"]
    found: dict[str, str] = {}
    for finding in report["findings"]:
        check, status = finding["check"], finding["status"]
        found[check] = max(found.get(check, "pass"), status, key=order.index)
    return found
