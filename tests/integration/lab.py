"""The pieces of a replication topology for tests: certificates by `binlock-certs`, proxies by `binlock-proxy`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.programs import Place, Program
from testbed.replication import ReplicaTls
from testbed.servers import Server, free_port

PASSWORD = "correct horse battery"
BIN = Path(sys.executable).parent


def run_certs(*arguments: str | Path) -> str:
    done = subprocess.run(
        [BIN / "binlock-certs", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Leaf:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        run_certs("init", "--dir", folder, "--name", f"Test authority {folder.name}")
        self.ca = folder / "ca.crt"
        self.crl = folder / "ca.crl"

    def issue(self, role: str, name: str, *options: str) -> Leaf:
        made = json.loads(run_certs("issue", role, name, "--dir", self.folder, "--json", *options))
        return Leaf(Path(made["certificate"]), Path(made["key"]))

    def replica_tls(self, leaf: Leaf | None, **more: Any) -> ReplicaTls:
        cert, key = (leaf.certificate, leaf.key) if leaf else (None, None)
        return ReplicaTls(ca=self.ca, cert=cert, key=key, **more)


def toml(value: Any) -> str:
    """JSON's strings, numbers, booleans and lists are TOML's too."""
    return json.dumps(
        [str(item) if isinstance(item, Path) else item for item in value]
        if isinstance(value, list | tuple)
        else str(value)
        if isinstance(value, Path)
        else value
    )


@dataclass
class RouteConfig:
    """One route of a configuration; tables are dictionaries of TOML values."""

    source: str
    replicas: list[dict[str, Any]]
    name: str = "test"
    listen: str = "127.0.0.1:0"
    allow: list[str] = field(default_factory=lambda: ["127.0.0.0/8"])
    replica_tls: dict[str, Any] | None = None
    source_tls: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        yield "[[route]]"
        settings = {"name": self.name, "listen": self.listen, "allow": self.allow, **self.more}
        yield from (f"{key} = {toml(value)}" for key, value in settings.items())
        for title, table in (
            ("route.replica_tls", self.replica_tls),
            ("route.source", {"address": self.source}),
            ("route.source.tls", self.source_tls),
        ):
            if table is not None:
                yield f"[{title}]"
                yield from (f"{key} = {toml(value)}" for key, value in table.items())
        for replica in self.replicas:
            yield "[[route.replica]]"
            yield from (f"{key} = {toml(value)}" for key, value in replica.items())


class Proxy:
    """A running `binlock-proxy run`."""

    def __init__(self, folder: Path, *routes: RouteConfig, host: Place | None = None, limits: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "proxy.toml"
        self.admin_port = free_port()
        for route in routes:
            if route.listen.endswith(":0"):
                route.listen = f"127.0.0.1:{free_port()}"
        lines = ["[admin]", f'listen = "127.0.0.1:{self.admin_port}"', "[log]", 'level = "debug"', limits]
        for route in routes:
            lines.extend(route.lines())
        self.config.write_text("\n".join(lines) + "\n")
        self.port = int(routes[0].listen.rpartition(":")[2])
        self.program = Program(
            [BIN / "binlock-proxy", "run", "--config", self.config], log=folder / "proxy.log", host=host
        )

    def start(self) -> Proxy:
        self.program.start()
        self.program.wait_for_log('"event": "listening"')
        return self

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.program.log_path.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if name is None or line["event"] == name]

    def wait_for_event(
        self, name: str, matches: Callable[[dict[str, Any]], bool] = lambda _: True, timeout: float = 20
    ) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for event in self.events(name):
                if matches(event):
                    return event
            time.sleep(0.02)
        raise AssertionError(f"no {name} in the log:\n{self.program.log_path.read_text()[-4000:]}")

    def wait_for_refusal(self, reason: str) -> dict[str, Any]:
        return self.wait_for_event("session_refused", lambda event: event["reason"] == reason)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=5) as response:
            return str(response.read().decode())

    def sessions(self) -> list[dict[str, Any]]:
        return list(json.loads(self.get("/sessions")))

    def metric(self, name: str, **labels: str) -> float:
        for line in self.get("/metrics").splitlines():
            if line.startswith((name + "{", name + " ")) and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no {name}{labels} in the metrics")

    def stop(self) -> int:
        return self.program.terminate()

    def __enter__(self) -> Proxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.program.running:
            self.program.kill()
        defects = self.events("defect")
        assert not defects, defects


class Table:
    """A schema of its own on a source, with rows that a replica must end up with."""

    def __init__(self, source: Server, schema: str) -> None:
        self.source = source
        self.schema = schema
        source.sql(f"DROP DATABASE IF EXISTS {schema}")
        source.sql(f"CREATE DATABASE {schema}")
        source.sql(
            f"CREATE TABLE {schema}.orders "
            "(id INT AUTO_INCREMENT PRIMARY KEY, body LONGBLOB, made TIMESTAMP(6) DEFAULT NOW(6))"
        )

    def insert(self, rows: int, body_bytes: int = 100) -> None:
        for start in range(0, rows, 500):
            values = ", ".join([f"(REPEAT('x', {body_bytes}))"] * min(500, rows - start))
            self.source.sql(f"INSERT INTO {self.schema}.orders (body) VALUES {values}")

    def assert_same_on(self, replica: Server) -> None:
        replica.catch_up_with(self.source)
        query = (
            f"SELECT COUNT(*) AS n, COALESCE(SUM(CRC32(CONCAT(id, body, made))), 0) AS crc FROM {self.schema}.orders"
        )
        expected, seen = self.source.sql(query), replica.sql(query)
        assert seen == expected
        assert seen[0]["n"] > 0
        checksum = f"CHECKSUM TABLE {self.schema}.orders"
        assert replica.sql(checksum)[0]["Checksum"] == self.source.sql(checksum)[0]["Checksum"]


@contextmanager
def replicating(replica: Server, proxy_port: int, *, user: str, **options: Any) -> Iterator[None]:
    """`replica` replicates through the port for the duration."""
    replica.replicate_from(
        host=options.pop("host", "127.0.0.1"),
        port=proxy_port,
        user=user,
        password=options.pop("password", PASSWORD),
        **options,
    )
    try:
        yield
    finally:
        replica.reset_replication()
