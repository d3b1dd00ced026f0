"""The units under real service managers: Debian 12's systemd and the newest, each process 1 of a machine of its own."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.flavours import Flavour
from testbed.hosts import Host, Network
from testbed.machine import Machine, MachineError
from testbed.programs import popen
from testbed.replication import ReplicaTls
from testbed.servers import Server
from tests.deploy.installing import BINDS, UNITS, drop_in, install, steps
from tests.integration.lab import PASSWORD, Authority, Table

PROXY, MONITOR = "binlock-proxy.service", "binlock-monitor.service"
COPY = "/run/credentials/binlock-proxy.service/proxy.key"
# On a port that only root may open; and one in plaintext, on loopback.
CONFIG = """
[admin]
listen = "unix:/run/binlock/admin.sock"

[limits]
drain_seconds = 1
{more}
[[route]]
name = "orders"
listen = "0.0.0.0:306"
allow = ["10.77.0.0/16"]
[route.replica_tls]
certificate = "db1.crt"
key = "{key}"
ca = "ca.crt"
crl = ["ca.crl"]
[route.source]
address = "127.0.0.1:3306"
[[route.replica]]
identity = "replica-1.example"
accounts = ["repl"]

[[route]]
name = "inner"
listen = "127.0.0.1:3307"
allow = ["127.0.0.0/8"]
[route.source]
address = "127.0.0.1:3306"
[[route.replica]]
name = "local"
accounts = ["repl"]
"""
# Says that it has begun, connects until its standard input ends, and says how often it was greeted and refused.
CONNECT = """
import os, socket, sys
os.set_blocking(0, False)
greeted = refused = cut = 0
print("begun", flush=True)
while True:
    try:
        if os.read(0, 1) == b"":
            break
    except BlockingIOError:
        pass
    try:
        with socket.create_connection(("127.0.0.1", 3307), 30) as connection:
            connection.settimeout(30)
            try:
                greeted += connection.recv(5)[4:] == b"\\x0a"
            except ConnectionResetError:
                cut += 1
    except ConnectionRefusedError:
        refused += 1
print(greeted, refused)
"""
WATCHDOG = "[Service]\nWatchdogSec=6\n"
QUICKLY = "[Service]\nRestartSec=100ms\n"
DENIED = "[Service]\nExecStartPre=/opt/binlock/bin/writable-and-executable-is-denied\n"


class Site:
    """A source and a replica on hosts of their own, and certificates."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.source_host, self.replica_host = network.add_host("source"), network.add_host("replica")
        options = {"max-connect-errors": "1000000"}
        self.source = Server(
            folder / "s", Flavour.MARIADB_10_11, server_id=1, host=self.source_host, port=3306, options=options
        )
        self.replica = Server(folder / "r", Flavour.MARIADB_10_11, server_id=2, host=self.replica_host, port=3306)
        self.authority = Authority(folder / "authority")
        self.proxy = self.authority.issue("proxy", "db1.example", "--ip", self.source_host.address)
        self.leaf = self.authority.issue("replica", "replica-1.example")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Network() as network:
        site = Site(tmp_path_factory.mktemp("site"), network)
        with site.source, site.replica:
            site.source.create_replication_account("repl", PASSWORD)
            site.source.sql("CREATE USER auditor@'%%' IDENTIFIED BY %s", PASSWORD)
            yield site


def stage_for(site: Site, folder: Path) -> Path:
    """The host's files, but for the units, which docs/deploy-systemd.md says how to install."""
    install(folder)
    binlock = folder / "etc/binlock"
    binlock.mkdir(parents=True)
    (binlock / "proxy.toml").write_text(CONFIG.format(key=COPY, more=""))
    for source, name in (
        (site.proxy.certificate, "db1.crt"), (site.authority.ca, "ca.crt"), (site.authority.crl, "ca.crl")
    ):  # fmt: skip
        shutil.copy(source, binlock / name)
    (binlock / "keys").mkdir()
    shutil.copy(site.proxy.key, binlock / "keys/proxy.key")
    (binlock / "monitor.env").write_text(
        "BINLOCK_MONITOR_OPTIONS=--interface lo --interface eth0 --port 3306 --port 306\n"
    )
    (binlock / "audit.env").write_text("BINLOCK_AUDIT_OPTIONS=--source mysql://auditor@127.0.0.1/?unsafe-plaintext=1\n")
    (binlock / "audit.password").write_text(PASSWORD)
    for path, mode in (("proxy.toml", 0o644), ("keys/proxy.key", 0o600), ("audit.password", 0o600)):
        (binlock / path).chmod(mode)
    shutil.copytree(site.authority.folder, folder / "var/lib/binlock-authority/authority")
    drop_in(folder, PROXY, (UNITS / "examples/credentials.conf").read_text(), "credentials.conf")
    for unit in (PROXY, MONITOR):
        drop_in(folder, unit, DENIED, "denied.conf")
        drop_in(folder, unit, QUICKLY, "quickly.conf")
    for name, address in (
        ("orders", "0.0.0.0:306"), ("inner", "127.0.0.1:3307"), ("admin", "/run/binlock/admin.sock")
    ):  # fmt: skip
        drop_in(folder, f"binlock-proxy@{name}.socket", f"[Socket]\nListenStream={address}\n", "listen.conf")
    return folder


def devices() -> dict[str, tuple[int, int, int]]:
    """Mode and owner of this machine's devices, which a service manager would set were they its own."""
    found = {path.name: path.stat() for path in Path("/dev").iterdir() if path.is_char_device()}
    return {name: (status.st_mode, status.st_uid, status.st_gid) for name, status in found.items()}


@contextlib.contextmanager
def booted(site: Site, folder: Path, systemd: str) -> Iterator[Machine]:
    stage = stage_for(site, folder / "stage")
    before = devices()
    with Machine(folder / "machine", systemd, stage=stage, binds=BINDS, place=site.source_host) as machine:
        machine.run("sh", "-c", steps("systemd-sysusers"))
        # As a service manager does with its console.
        machine.run("chmod", "600", "/dev/full")
        yield machine
    assert devices() == before


@contextlib.contextmanager
def connecting(host: Host) -> Iterator[list[int]]:
    """Somebody connects to the plaintext route all the time; afterwards: how often greeted, how often refused."""
    counts: list[int] = []
    argv = [sys.executable, "-c", CONNECT]
    with popen(argv, place=host, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield counts
        counts += map(int, process.communicate()[0].split())


def process_status(machine: Machine, unit: str) -> dict[str, str]:
    pid = machine.shown(unit, "MainPID")
    lines = (line.partition(":") for line in machine.run("cat", f"/proc/{pid}/status").splitlines())
    return {name: value.strip() for name, _, value in lines}


def events(machine: Machine, unit: str, *options: str) -> list[dict[str, object]]:
    """The lines that the program itself wrote."""
    lines = machine.journal(unit, *options).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.parametrize("systemd", ["systemd", "systemd-sid"])
def test_a_service_from_its_start_to_its_end(site: Site, tmp_path: Path, systemd: str) -> None:
    if os.geteuid() != 0:
        with pytest.raises(MachineError, match="needs root"), booted(site, tmp_path, systemd):
            pass
        return
    with booted(site, tmp_path, systemd) as machine:
        starts(machine)
        serves(site, machine)
        watches(machine)
        reloads(machine)
        restarts(site, machine)
        if systemd == "systemd":
            checks_before_reloads(machine)
            is_watched(machine)
            keeps_an_authority_and_audits(machine)
        stops(site, machine)


def starts(machine: Machine) -> None:
    sockets = [f"binlock-proxy@{name}.socket" for name in ("orders", "inner", "admin")]
    # `start` returns when the service says that it is ready.
    machine.run("systemctl", "enable", "--now", *sockets, "binlock-monitor.socket")
    machine.run("systemctl", "enable", "--now", PROXY, MONITOR)
    for unit in (PROXY, MONITOR):
        assert machine.shown(unit, "ActiveState") == "active"
        status = process_status(machine, unit)
        assert status["Uid"].split()[0] != "0"
        assert status["Seccomp"] == "2"
        assert status["NoNewPrivs"] == "1"
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
        assert not [event for event in events(machine, unit) if event["level"] in {"warning", "error"}]
    [listening] = [event for event in events(machine, PROXY) if event["event"] == "listening"]
    assert listening["route_orders"] == "0.0.0.0:306"
    assert sorted(listening["handed_over"]) == ["admin", "inner", "orders"]  # type: ignore[call-overload]
    assert machine.shown(PROXY, "StatusText") == "2 routes, 0 sessions"
    assert machine.run("stat", "--format=%a %U:%G", "/etc/binlock").strip() == "750 root:binlock"
    # What they ask for memory for is looked at once.
    machine.run("rm", *(f"/etc/systemd/system/{unit}.d/denied.conf" for unit in (PROXY, MONITOR)))
    machine.run("systemctl", "daemon-reload")


def serves(site: Site, machine: Machine) -> None:
    tls = ReplicaTls(ca=site.authority.ca, cert=site.leaf.certificate, key=site.leaf.key)
    site.replica.replicate_from(host=site.source_host.address, port=306, user="repl", password=PASSWORD, tls=tls)
    site.replica.wait_for_replication()
    [session] = json.loads(machine.run("/opt/binlock/bin/binlock-proxy", "sessions", "--json"))
    assert session["replica"] == "replica-1.example"
    assert session["replica_tls_version"] == "TLSv1.3"


def watches(machine: Machine) -> None:
    """The replica's leg is encrypted; the other one, on loopback, is not."""
    machine.wait_for(MONITOR, "StatusText", "watching lo, eth0: 1 of 2 flows replicate in the clear")
    found = {(event.get("verdict"), event.get("interface")) for event in events(machine, MONITOR)}
    assert ("plaintext-replication", "lo") in found
    [warning] = events(machine, MONITOR, "--priority", "warning")
    assert warning["verdict"] == "plaintext-replication"


def reloads(machine: Machine) -> None:
    machine.write("/etc/binlock/proxy.toml", CONFIG.format(key=COPY, more="sessions = 100"))
    machine.run("systemctl", "reload", PROXY)
    machine.wait_for(PROXY, "StatusText", "2 routes, 1 session")
    # What cannot be used it notices by itself too, and keeps what runs.
    machine.write("/etc/binlock/proxy.toml", CONFIG.format(key=COPY, more="session = 100"))
    machine.wait_for(PROXY, "StatusText", "the last reload failed: /etc/binlock/proxy.toml: unknown key 'session'")
    machine.wait_for(PROXY, "ActiveState", "active")
    machine.write("/etc/binlock/proxy.toml", CONFIG.format(key=COPY, more=""))
    machine.run("systemctl", "reload", PROXY)
    machine.wait_for(PROXY, "StatusText", "2 routes, 1 session")
    assert machine.shown(PROXY, "NRestarts") == "0"


def restarts(site: Site, machine: Machine) -> None:
    table = Table(site.source, f"schema_{machine.run('systemctl', '--version').split()[1]}")
    with connecting(site.source_host) as counts, table.under_load():
        before = machine.shown(PROXY, "MainPID")
        machine.run("systemctl", "restart", PROXY)
        assert machine.shown(PROXY, "MainPID") != before
    greeted, refused = counts
    assert greeted > 0
    assert refused == 0
    site.replica.wait_for_replication()
    table.assert_same_on(site.replica)
    assert machine.run("/opt/binlock/bin/binlock-proxy", "health").strip() == "ready"


def checks_before_reloads(machine: Machine) -> None:
    """With the key in a file that the proxy may read, and not as a credential."""
    machine.run("rm", f"/etc/systemd/system/{PROXY}.d/credentials.conf")
    machine.run("install", "-o", "root", "-g", "binlock", "-m", "640", "/etc/binlock/keys/proxy.key", "/etc/binlock")
    machine.write("/etc/binlock/proxy.toml", CONFIG.format(key="proxy.key", more=""))
    for unit in (PROXY, MONITOR):
        machine.write(f"/etc/systemd/system/{unit}.d/watchdog.conf", WATCHDOG)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", PROXY, MONITOR)
    machine.run("systemctl", "reload", PROXY)
    machine.write("/etc/binlock/proxy.toml", CONFIG.format(key="db1.key", more=""))
    assert machine.call("systemctl", "reload", PROXY).returncode != 0
    assert "db1.key: key: cannot be read" in machine.journal(PROXY)
    assert machine.shown(PROXY, "ActiveState") == "active"
    machine.write("/etc/binlock/proxy.toml", CONFIG.format(key="proxy.key", more=""))


def is_watched(machine: Machine) -> None:
    """Both stand still, and are started again."""
    before = [machine.shown(unit, "MainPID") for unit in (PROXY, MONITOR)]
    machine.run("kill", f"-{signal.SIGSTOP.value}", *before)
    for unit, pid in zip((PROXY, MONITOR), before, strict=True):
        machine.wait_for(unit, "NRestarts", "1")
        machine.wait_for(unit, "ActiveState", "active")
        assert machine.shown(unit, "MainPID") != pid
        assert "Watchdog timeout" in machine.journal(unit)


def keeps_an_authority_and_audits(machine: Machine) -> None:
    machine.run("chown", "-R", "binlock-authority:", "/var/lib/binlock-authority")
    machine.run("systemctl", "start", "binlock-certs.service", "binlock-audit.service")
    metrics = machine.run("runuser", "-u", "nobody", "--", "cat", "/var/lib/binlock-audit/binlock_audit.prom")
    assert "binlock_audit_check{" in metrics
    for name in ("certs", "audit"):
        machine.run("systemctl", "enable", "--now", f"binlock-{name}.timer")
        assert machine.shown(f"binlock-{name}.timer", "ActiveState") == "active"


def stops(site: Site, machine: Machine) -> None:
    site.replica.reset_replication()
    for unit in (PROXY, MONITOR):
        machine.run("systemctl", "stop", unit)
        assert machine.shown(unit, "Result") == "success"
        assert machine.shown(unit, "ExecMainStatus") == "0"
        assert events(machine, unit)[-1]["event"] == "stopped"
