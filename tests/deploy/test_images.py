"""What is built from the definition of the images, run as Kubernetes would run it."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from testbed.containers import NET_RAW, container
from testbed.fetch import bundle
from testbed.flavours import Flavour
from testbed.hosts import Network
from testbed.programs import Place, Program
from tests.deploy.definition import Stage, stages
from tests.deploy.helm import one, rendered
from tests.deploy.kubelet import Pod
from tests.deploy.pair import REPLICA, SCRAPE, SOURCE, Side, values
from tests.integration.lab import Authority, Leaf, Table


def inside(root: Path, stage: Stage, argv: list[str], capabilities: tuple[int, ...] = ()) -> list[str]:
    return container(root, argv, environment=stage.environment, mounts={}, capabilities=capabilities)


# Where no host gives one, an ordinary user needs a user namespace of his own.
ALONE = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]


def run(command: list[str], place: Place | None = None) -> subprocess.CompletedProcess[str]:
    command = place.command(command) if place is not None else [*ALONE, *command]
    return subprocess.run(command, capture_output=True, text=True, check=False)


WRITES = "open('/opt/binlock/written', 'w')"
LIBRARIES = (
    "import importlib.util as u; print([n for n in ('OpenSSL', 'cryptography', 'scapy', 'pip') if u.find_spec(n)])"
)


def test_what_is_in_the_images(roots: dict[str, Path]) -> None:
    programs = {"proxy": {"binlock-proxy", "binlock-certs"}, "monitor": {"binlock-monitor"}}
    libraries = {"proxy": ["OpenSSL", "cryptography"], "monitor": ["scapy"]}
    for target, root in roots.items():
        names = {path.name for path in (root / "opt/binlock/bin").iterdir() if path.is_file()}
        assert {name for name in names if not name.startswith("python")} == programs[target]
        assert not (root / "bin/sh").exists()
        assert not (root / "src").exists()
        writable = [
            path
            for path in (root / "opt").rglob("*")
            if not path.is_symlink() and path.stat().st_mode & (stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID)
        ]
        assert writable == []
        modules = list((root / "opt/binlock/lib").rglob("command_line.py"))
        assert modules
        assert all(list((path.parent / "__pycache__").glob("command_line.*.pyc")) for path in modules)
        python = "/opt/binlock/bin/python3"
        shown = run(inside(root, stages()[target], [python, "-c", LIBRARIES], (NET_RAW,)))
        assert (shown.stdout.strip(), shown.stderr) == (str(libraries[target]), "")
        refused = run(inside(root, stages()[target], [python, "-c", WRITES], (NET_RAW,)))
        assert "Read-only file system" in refused.stderr


def test_its_programs_run(roots: dict[str, Path]) -> None:
    for target in ("proxy", "monitor"):
        stage = stages()[target]
        shown = run(inside(roots[target], stage, [*stage.entrypoint, "--help"], (NET_RAW,)))
        assert shown.returncode == 0, shown.stderr
        assert stage.command[0] in shown.stdout
    without = run(
        inside(roots["proxy"], stages()["proxy"], [*stages()["proxy"].entrypoint, *stages()["proxy"].command])
    )
    assert without.returncode == 2
    assert "/etc/binlock/proxy.toml" in without.stderr


def test_the_monitor_watches_as_an_ordinary_user(roots: dict[str, Path], tmp_path: Path) -> None:
    stage, root = stages()["monitor"], roots["monitor"]
    with Network() as network:
        host = network.add_host("node")
        argv = [*stage.entrypoint, *stage.command]
        with Program(inside(root, stage, argv, (NET_RAW,)), log=tmp_path / "monitor.log", host=host) as program:
            program.wait_for_log('"event": "started"')
            healthy = run(inside(root, stage, stage.health, (NET_RAW,)), host)
            assert healthy.returncode == 0, healthy.stderr
            status = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{program.pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            if os.geteuid() == 0:
                assert status["Uid"].split() == ["65532"] * 4
            assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
            assert status["NoNewPrivs"] == "1"
            assert program.terminate() == 0
        sick = run(inside(root, stage, stage.health, (NET_RAW,)), host)
        assert sick.returncode != 0


def test_the_monitor_needs_the_capability(roots: dict[str, Path]) -> None:
    stage = stages()["monitor"]
    refused = run(inside(roots["monitor"], stage, [*stage.entrypoint, *stage.command]))
    assert refused.returncode != 0
    assert "not permitted" in refused.stderr.lower() or "permission" in refused.stderr.lower()


def test_a_configuration_that_is_spoilt_later_fails_no_probe(roots: dict[str, Path], tmp_path: Path) -> None:
    flavour = Flavour.MYSQL_9_7
    objects = rendered({**values(flavour), "admin": {"mode": "loopback"}})
    with Network() as network:
        source = Side("source", flavour, objects, Authority(tmp_path / "authority"), tmp_path)
        names = tmp_path / "hosts"
        names.write_text("127.0.0.1 localhost\n")
        source.place(network.add_host("source"), roots["proxy"], names)
        probes = ("startupProbe", "readinessProbe", "livenessProbe")
        with source.proxy.program:
            source.awaits("listening", 1)
            assert [source.proxy.probe(name) for name in probes] == [True] * 3
            # The image's own reads the configuration, whatever that says of the endpoint.
            assert source.proxy.execute(stages()["proxy"].health).returncode == 0
            source.configuration = "[admin"
            source.fill()
            source.awaits("reload_failed", 1)
            assert [source.proxy.probe(name) for name in probes] == [True] * 3
            assert "not valid TOML" in source.proxy.execute(stages()["proxy"].health).stderr
            source.proxy.program.terminate()
        assert [source.proxy.probe(name) for name in probes] == [False] * 3


FLAVOURS = [
    pytest.param(Flavour.MYSQL_9_7, id="mysql-9.7"),
    pytest.param(Flavour.MARIADB_11_8, id="mariadb-11.8", marks=pytest.mark.soak),
]


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    return Flavour(request.param)


@pytest.fixture
def scene(
    flavour: Flavour, roots: dict[str, Path], tmp_path: Path
) -> Iterator[tuple[Side, Side, Pod, Network, Authority]]:
    objects = rendered(values(flavour))
    authority = Authority(tmp_path / "authority")
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        hosts = [network.add_host(name) for name in ("source", "replica")]
        # As kubelet writes it; the cluster's DNS would say the same of the service.
        names = tmp_path / "hosts"
        names.write_text(f"127.0.0.1 localhost\n{hosts[0].address} {SOURCE}\n")
        sides = [Side(side, flavour, objects, authority, tmp_path) for side in ("source", "replica")]
        for side, host in zip(sides, hosts, strict=True):
            side.place(host, roots["proxy"], names)
            stack.enter_context(side.proxy.program)
        # The node: the bridge that the pods' traffic crosses.
        subprocess.run(network.command([*bundle("iproute2").command("ip"), "link", "set", "lo", "up"]), check=True)
        (described,) = one(objects, "DaemonSet", "db-binlock-monitor")["spec"]["template"]["spec"]["containers"]
        monitor = Pod(described, stages()["monitor"], roots["monitor"], network, {}, tmp_path / "monitor.log")
        stack.enter_context(monitor.program)
        yield sides[0], sides[1], monitor, network, authority
        for side in sides:
            if hasattr(side.server, "_program") and side.server.running:
                side.server.kill()


def scrape(network: Network, authority: Authority, name: str, shown: Leaf) -> str:
    host = network.hosts["source" if name == SOURCE else "replica"]
    files = [str(path) for path in (authority.ca, shown.certificate, shown.key)]
    return network.hosts["replica"].run([sys.executable, "-c", SCRAPE, host.address, name, *files])


def days_left(metrics: str) -> float:
    """Of the certificate that the source's proxy shows."""
    found = re.findall(
        r'^binlock_proxy_certificate_not_after_timestamp_seconds{[^}]*route="source"[^}]*} (.+)$', metrics, re.MULTILINE
    )
    return (min(map(float, found)) - time.time()) / 86400


def test_a_pair_replicates_and_its_volumes_are_exchanged(scene: tuple[Side, Side, Pod, Network, Authority]) -> None:
    source, replica, monitor, network, authority = scene
    # Sidecars begin before the servers, and must be ready without them.
    for side in (source, replica):
        side.awaits("listening", 1)
        assert all(side.proxy.probe(name) for name in ("startupProbe", "readinessProbe", "livenessProbe"))
    for side in (source, replica):
        side.server.start()
        side.initialise()
    replica.server.start_replication()
    replica.server.wait_for_replication()
    table = Table(source.server, "shop")
    table.insert(50)
    table.assert_same_on(replica.server)

    shown = source.proxy.execute(["/opt/binlock/bin/binlock-proxy", "sessions", "--json"])
    (session,) = json.loads(shown.stdout)
    assert (session["replica"], session["account"], session["server_id"]) == (REPLICA, "repl", 100)
    assert session["replica_tls_version"] == "TLSv1.3"
    # What crosses between the pods is TLS, by the monitor's own judgement, and nothing else is there.
    monitor.program.wait_for_log('"flow_found"')
    flows = [json.loads(line) for line in monitor.program.log().splitlines() if '"verdict"' in line]
    assert {(flow["verdict"], flow["server"]) for flow in flows} == {("tls", f"{network.hosts['source'].address}:3307")}

    scraper = authority.issue("replica", "scraper.example")
    for name in (SOURCE, REPLICA):
        assert "binlock_proxy_build_info" in scrape(network, authority, name, scraper)

    # cert-manager renews a secret, and kubelet exchanges the volume: the stream goes on, the next one sees the new one.
    renewed = authority.issue_again("proxy", SOURCE, "--days", "30")
    assert days_left(scrape(network, authority, SOURCE, scraper)) > 60
    source.fill(renewed)
    source.awaits("reloaded", 1)
    assert 25 < days_left(scrape(network, authority, SOURCE, scraper)) < 31
    assert len(json.loads(source.proxy.execute(["/opt/binlock/bin/binlock-proxy", "sessions", "--json"]).stdout)) == 1
    # A secret that cannot be used changes nothing, and is said.
    source.fill(renewed, key=replica.leaf.key.read_bytes())
    assert "does not belong to the certificate" in source.awaits("reload_failed", 1)["detail"]
    assert source.proxy.probe("readinessProbe")
    assert source.proxy.probe("livenessProbe")
    source.fill(renewed)
    source.awaits("reloaded", 2)
    table.insert(50)
    table.assert_same_on(replica.server)

    # The list of the revoked is a volume, too: the replica is gone at once, and back with another certificate.
    authority.revoke(REPLICA)
    source.fill(renewed)
    assert source.awaits("session_ended", 1)["reason"] == "revoked"
    replica.fill(authority.issue_again("proxy", REPLICA))
    replica.awaits("reloaded", 1)
    replica.server.wait_for_replication(60)
    table.insert(50)
    table.assert_same_on(replica.server)

    # A ConfigMap that is edited needs no new pod.
    source.configuration = source.configuration.replace("server_ids = [100]", "server_ids = [100, 101]")
    source.fill(renewed)
    source.awaits("reloaded", 4)

    for program in (source.proxy.program, replica.proxy.program, monitor.program):
        assert program.terminate() == 0
