"""The README's five minutes, word for word but for the host's own paths and addresses."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from testbed.flavours import Flavour
from testbed.programs import Program
from testbed.servers import Server, free_port
from tests.integration.lab import BIN, PASSWORD, Table

README = Path(__file__).parent.parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README's quick start, by the word behind the fence."""
    section = README.read_text().partition("## Five minutes")[2].partition("\n## ")[0]
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", section, flags=re.DOTALL | re.MULTILINE)
    return [text for word, text in fenced if word == language]


def shell(commands: str, folder: Path) -> None:
    path = {"PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-euc", commands],
        cwd=folder,
        env=os.environ | path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def statements(sql: str) -> list[str]:
    return [statement.strip() for statement in sql.replace("'...'", f"'{PASSWORD}'").split(";") if statement.strip()]


def test_a_stranger_can_follow_the_quick_start(tmp_path: Path) -> None:
    make_certificates, run_proxy = blocks("")
    [configuration] = blocks("toml")
    on_source, on_replica = blocks("sql")
    # The replica verifies the name that it connects to, and here it can only connect to an address.
    shell(make_certificates.replace("db1.example       --dir", "db1.example --ip 127.0.0.1 --dir"), tmp_path)
    port, config = free_port(), tmp_path / "for-db1" / "proxy.toml"
    with (
        Server(tmp_path / "source", Flavour.MYSQL_9_7, server_id=1) as source,
        Server(tmp_path / "replica", Flavour.MYSQL_9_7, server_id=2) as replica,
    ):
        config.write_text(
            configuration.replace("0.0.0.0:3307", f"127.0.0.1:{port}")
            .replace("10.20.0.0/16", "127.0.0.0/8")
            .replace("/run/mysqld/mysqld.sock", str(source.socket_path))
            + f'\n[admin]\nlisten = "unix:{tmp_path}/admin.sock"\n'
        )
        check, run = (
            line.partition("#")[0].replace("/etc/binlock/proxy.toml", str(config)) for line in run_proxy.splitlines()
        )
        shell(check, tmp_path)
        for statement in statements(on_source):
            source.sql(statement)
        here = on_replica.replace("'db1.example'", "'127.0.0.1'").replace("3307", str(port))
        with Program([BIN / run.split()[0], *run.split()[1:]], log=tmp_path / "proxy.log") as proxy:
            proxy.wait_for_log('"event": "listening"')
            for statement in statements(here.replace("/etc/mysql/binlock", str(tmp_path / "for-replica-1"))):
                replica.sql(statement)
            table = Table(source, "shop")
            table.insert(100)
            table.assert_same_on(replica)
            assert replica.replica_status().io_running == "Yes"
