"""docs/quick-start.md, word for word, on three machines with real servers, under load."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.flavours import Flavour
from testbed.hosts import Network
from testbed.servers import Server
from tests.documents.markdown import DOCS, ROOT, Block, blocks
from tests.integration.lab import Table
from tests.integration.machines import Here, Machine, closing, host_names

PAGE = DOCS / "quick-start.md"
HOSTS = ("db1", "db2", "admin")
# What only looks may be asked again until it shows what the page says: a person is slower than this test.
LOOKS = ("grep", "binlock-proxy health", "binlock-proxy sessions", "mysql -E -e 'SHOW", 'mysql -e "SHOW')
LOOK_SECONDS = 30
SCP = """#!/bin/sh
# Of scp what the page needs: scp -r FOLDER HOST.example:PATH
cp -r "$2" {machines}/"${{3%%.*}}${{3#*:}}"
"""


def typed(block: Block) -> Iterator[tuple[str, str, str]]:
    """What is typed in a console block: host, command, and what the page shows behind it."""
    parts = re.split(r"^(\w+)# (.*)\n", block.text, flags=re.MULTILINE)
    assert parts[0] == "", "a console block begins with a prompt"
    yield from zip(parts[1::3], parts[2::3], parts[3::3], strict=True)


def pattern(shown: str) -> str:
    """A regular expression for what the page shows: `...` is anything, a line of it alone any lines."""
    lines = [
        r"(?:.*\n)*?" if line == "..." else r"[^\n]*?".join(map(re.escape, line.split("..."))) + r"\n"
        for line in shown.splitlines()
    ]
    return "".join(lines)


class Reader:
    """Does what the page says."""

    def __init__(self, machines: dict[str, Machine], installer: Machine) -> None:
        self.machines = machines
        self.installer = installer
        self.commands = 0

    def follow(self, block: Block) -> None:
        if block.language == "console":
            for host, command, shown in typed(block):
                self.type(host, command, shown)
            return
        host = next((word for word in re.findall(r"\w+", block.lead) if word in HOSTS), None)
        match block.language:
            case "sh" if "checkout" in block.lead:
                self.run(self.installer, f"cd {shlex.quote(str(ROOT))}\n{block.text}")
            case "sh":
                for machine in self.machines.values():
                    self.run(machine, block.text)
            case "toml" if host:
                [path] = re.findall(r"`(/etc/[^`]+)`", block.lead)
                (self.machines[host].folder / path.removeprefix("/")).write_text(block.text)
            case "sql" if host:
                assert "in `mysql`" in block.lead
                self.run(self.machines[host], f"mysql <<'END'\n{block.text}END")
            case _:
                raise AssertionError(f"who does this, and where? {block}")

    def run(self, machine: Machine, command: str) -> None:
        status, printed = machine.type(command)
        assert status == 0, printed
        self.commands += 1

    def type(self, host: str, command: str, shown: str) -> None:
        self.commands += 1
        deadline = time.monotonic() + LOOK_SECONDS
        while True:
            _, printed = self.machines[host].type(command)
            if re.fullmatch(pattern(shown), printed):
                return
            if not command.startswith(LOOKS) or time.monotonic() > deadline:
                raise AssertionError(f"{host}# {command}\nprints:\n{printed}\nthe page has:\n{shown}")
            time.sleep(0.2)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[tuple[Reader, Server, Server]]:
    programs, machines = tmp_path / "programs", tmp_path / "machines"
    programs.mkdir()
    with Network("10.20.0.0/24") as network:
        hosts = [network.add_host(name) for name in HOSTS]
        names = host_names(hosts)
        servers: dict[str, Server] = {}
        made: dict[str, Machine] = {}
        installer = Machine(
            tmp_path / "installer", Here(), programs=programs, server_folder=programs, names="127.0.0.1 localhost\n"
        )
        with closing(installer):
            for number, host in enumerate(hosts, start=1):
                folder = tmp_path / host.name
                server = Server(folder, Flavour.MYSQL_9_7, server_id=number, port=3306, bind_address="*")
                server.socket_path.parent.mkdir(mode=0o700, exist_ok=True, parents=True)
                made[host.name] = machine = Machine(
                    machines / host.name, host, programs=programs, server_folder=server.socket_path.parent, names=names
                )
                server.host = machine
                servers[host.name] = server
                write_programs(machine, machines)
            with closing(*made.values()), servers["db1"] as source, servers["db2"] as replica:
                yield Reader(made, installer), source, replica


def write_programs(machine: Machine, machines: Path) -> None:
    """The programs that a host with MySQL has, in a folder of its PATH: the test bed's client, and a copier."""
    folder = machine.folder / "bin"
    folder.mkdir()
    client = shlex.join(Flavour.MYSQL_9_7.client("mysql"))
    for name, text in {"mysql": f'#!/bin/sh\nexec {client} "$@"\n', "scp": SCP.format(machines=machines)}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (machine.folder / "etc" / "mysql").mkdir(exist_ok=True)
    machine.type(f"PATH={shlex.quote(str(folder))}:$PATH")


def test_a_stranger_can_follow_the_page(reader: tuple[Reader, Server, Server]) -> None:
    person, source, replica = reader
    source.create_replication_account("repl", "<password>")
    replica.replicate_from(
        host="10.20.0.2", port=3306, user="repl", password="<password>", get_source_public_key=True
    )
    replica.wait_for_replication()
    table = Table(source, "shop")
    with table.under_load(rows=5):
        for block in blocks(PAGE):
            person.follow(block)
    assert person.commands > 25
    table.assert_same_on(replica)
    assert replica.sql("SHOW DATABASES LIKE 'hello'")
