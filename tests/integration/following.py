"""Somebody who follows a page: types what its blocks say, on the machine that they name, and compares what is printed.

A page's blocks: ```console has prompts (`db1# `) that name the machine, and behind a command what it prints, `...` for
what differs. ```toml is a file, and ```sql is typed into the server's client, on the machine that the paragraph before
it names. ```sh is for each machine, or, "in a checkout", for the one that installs.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed.flavours import Flavour
from testbed.hosts import Network
from testbed.servers import Server
from tests.documents.markdown import ROOT, Block
from tests.integration.machines import Machine

# What only looks may be asked again until it shows what the page says: a person is slower than this test.
LOOKS = (
    "grep",
    "binlock-proxy health",
    "binlock-proxy sessions",
    "mysql -E -e 'SHOW",
    "mariadb -E -e 'SHOW",
    'mysql -e "SHOW',
)
LOOK_SECONDS = 60
SCP = """#!/bin/sh
# Of scp what the page needs: scp -r FOLDER HOST.example:PATH
cp -r "$2" {machines}/"${{3%%.*}}${{3#*:}}"
"""


def typed(block: Block) -> Iterator[tuple[str, str, str]]:
    """What is typed in a console block: host, command, and what the page shows behind it."""
    parts = re.split(r"^(\w+)# ((?:.*\\\n)*.*)\n", block.text, flags=re.MULTILINE)
    assert parts[0] == "", "a console block begins with a prompt"
    yield from zip(parts[1::3], parts[2::3], parts[3::3], strict=True)


def is_for(block: Block, flavour: Flavour) -> bool:
    """Whether a page means it for this product: a paragraph that names one of the two alone means that one."""
    named = set(re.findall(r"MySQL|MariaDB", block.lead))
    return len(named) != 1 or named == {"MariaDB" if flavour.is_mariadb else "MySQL"}


def pattern(shown: str) -> str:
    """A regular expression for what the page shows: `...` is anything, a line of it alone any lines."""
    lines = [
        r"(?:.*\n)*?" if line == "..." else r"[^\n]*?".join(map(re.escape, line.split("..."))) + r"\n"
        for line in shown.splitlines()
    ]
    return "".join(lines)


class Reader:
    """Does what a page says.

    Attributes:
        machines: by name.
        installer: where programs are installed, with the way out that the machines do not have.
        client: the servers' command line client, by its name.
        commands: how many were typed.
    """

    def __init__(self, machines: dict[str, Machine], installer: Machine, client: str) -> None:
        self.machines = machines
        self.installer = installer
        self.client = client
        self.commands = 0

    def follow(self, block: Block) -> None:
        if block.language == "console":
            for host, command, shown in typed(block):
                self.type(host, command, shown)
            return
        host = next((word for word in re.findall(r"\w+", block.lead) if word in self.machines), "")
        match block.language:
            case "sh" if "in a checkout" in block.lead:
                self.run(self.installer, f"cd {shlex.quote(str(ROOT))}\n{block.text}")
            case "sh" if "On each host" in block.lead:
                for machine in self.machines.values():
                    self.run(machine, block.text)
            case "toml" if host:
                [path] = re.findall(r"`/(etc/[^`]+)`", block.lead)
                with (self.machines[host].folder / path).open("a" if "Add to" in block.lead else "w") as file:
                    file.write(block.text)
            case "sql" if host and f"`{self.client}`" in block.lead:
                self.run(self.machines[host], f"{self.client} <<'END'\n{block.text}END")
            case _:
                raise AssertionError(f"who does this, and where? {block}")

    def run(self, machine: Machine, command: str) -> None:
        status, printed = machine.type(command)
        assert status == 0, printed
        self.commands += 1

    def type(self, host: str, command: str, shown: str) -> None:
        self.commands += 1
        if os.geteuid():
            # In an ordinary user's namespace there is nobody to become.
            command = command.replace("binlock-monitor run", "binlock-monitor run --user ''")
        deadline = time.monotonic() + LOOK_SECONDS
        while True:
            status, printed = self.machines[host].type(command)
            if re.fullmatch(pattern(shown), printed) and (shown or status == 0):
                return
            if not command.startswith(LOOKS) or time.monotonic() > deadline:
                raise AssertionError(f"{host}# {command}\nprints ({status}):\n{printed}\nthe page has:\n{shown}")
            time.sleep(0.2)


@dataclass(frozen=True)
class Site:
    """The machines of a page, and the servers on those that have one."""

    reader: Reader
    servers: dict[str, Server]


@contextmanager
def site(
    folder: Path, *, servers: Sequence[str], others: Sequence[str], flavour: Flavour = Flavour.MYSQL_9_7
) -> Iterator[Site]:
    """Machines on 10.20.0.0/24, from 10.20.0.2 on, with servers on the first ones, whose ids count from 1."""
    programs, machines = folder / "programs", folder / "machines"
    programs.mkdir()
    with ExitStack() as stack:
        network = stack.enter_context(Network("10.20.0.0/24"))
        hosts = [network.add_host(name) for name in (*servers, *others)]
        names = "127.0.0.1 localhost\n" + "".join(f"{host.address} {host.name}.example\n" for host in hosts)
        installer = Machine(folder / "installer", None, programs=programs, server_folder=programs, names=names)
        stack.callback(installer.close)
        made: dict[str, Machine] = {}
        running: dict[str, Server] = {}
        for number, host in enumerate(hosts, start=1):
            server = Server(folder / host.name, flavour, server_id=number, port=3306, bind_address="*")
            server.socket_path.parent.mkdir(mode=0o700, exist_ok=True, parents=True)
            machine = Machine(
                machines / host.name, host, programs=programs, server_folder=server.socket_path.parent, names=names
            )
            stack.callback(machine.close)
            write_programs(machine, machines, flavour)
            made[host.name] = machine
            if host.name in servers:
                server.host = machine
                running[host.name] = stack.push(server)
        with ThreadPoolExecutor() as threads:
            for started in [threads.submit(server.start) for server in running.values()]:
                started.result()
        yield Site(Reader(made, installer, client="mariadb" if flavour.is_mariadb else "mysql"), running)


def replicate_in_plaintext(source: Server, *replicas: Server) -> None:
    """What the pages find: replicas that replicate from 10.20.0.2 as `repl`; MariaDB's by a position in the log."""
    source.create_replication_account("repl", "<password>")
    for replica in replicas:
        replica.replicate_from(
            host="10.20.0.2",
            port=3306,
            user="repl",
            password="<password>",
            auto_position=not replica.flavour.is_mariadb,
            get_source_public_key=True,
        )
    for replica in replicas:
        replica.wait_for_replication()


def write_programs(machine: Machine, machines: Path, flavour: Flavour) -> None:
    """The programs that a host with a server has, in a folder of its PATH: the test bed's client, and a copier."""
    folder = machine.folder / "bin"
    folder.mkdir()
    words = flavour.client("mysql")
    # Where both products' packages have it; builds have other defaults.
    client = f'#!/bin/sh\nMYSQL_UNIX_PORT=/run/mysqld/mysqld.sock exec {shlex.join(words)} "$@"\n'
    for name, text in {Path(words[-1]).name: client, "scp": SCP.format(machines=machines)}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (machine.folder / "etc" / "mysql" / "mariadb.conf.d").mkdir(parents=True, exist_ok=True)
    machine.type(f"PATH={shlex.quote(str(folder))}:$PATH")
