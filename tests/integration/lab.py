"""The pieces of a replication topology for tests: certificates by `binlock-certs`, proxies by `binlock-proxy`."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from testbed.programs import Place, Program
from testbed.replication import ReplicaTls
from testbed.servers import Server, free_port

PASSWORD = "correct horse battery"
BIN = Path(sys.executable).parent
# For what is to be there at once, on a machine that has no time.
WAIT_SECONDS = 60
# What Binlock does within a second, on such a machine, by the clock of its own log.
PROMPTLY_SECONDS = 5
_numbers = itertools.count(1)


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

    @property
    def not_after(self) -> datetime:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).not_valid_after_utc

    def become(self, other: Leaf) -> None:
        """The other's content under this one's names, as a renewal does it on a host: the key first, by rename."""
        for source, target in ((other.key, self.key), (other.certificate, self.certificate)):
            fresh = target.with_name(f"{target.name}.fresh")
            shutil.copy(source, fresh)
            fresh.replace(target)

    def copy_to(self, folder: Path) -> Leaf:
        folder.mkdir(parents=True, exist_ok=True)
        return Leaf(
            Path(shutil.copy(self.certificate, folder / "leaf.crt")), Path(shutil.copy(self.key, folder / "leaf.key"))
        )


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

    def issue_again(self, role: str, name: str, *options: str) -> Leaf:
        """Another certificate of a name that was issued before, in a folder of its own."""
        return self.issue(role, name, "--out", str(self.folder / f"again-{next(_numbers)}"), *options)

    def revoke(self, name: str) -> None:
        run_certs("revoke", name, "--dir", self.folder)

    def lapsed_crl(self, due: timedelta = timedelta(days=-1)) -> bytes:
        """A list whose next update is overdue, or will be soon: time makes those, `binlock-certs` does not."""
        certificate = x509.load_pem_x509_certificate(self.ca.read_bytes())
        key = load_pem_private_key((self.folder / "ca.key").read_bytes(), password=None)
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(certificate.subject)
            .last_update(now - timedelta(days=2))
            .next_update(now + due)
        )
        crl = builder.sign(key, certificate.signature_hash_algorithm)  # type: ignore[arg-type]
        return crl.public_bytes(Encoding.PEM)

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
    source_more: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        yield "[[route]]"
        settings = {"name": self.name, "listen": self.listen, "allow": self.allow, **self.more}
        yield from (f"{key} = {toml(value)}" for key, value in settings.items())
        for title, table in (
            ("route.replica_tls", self.replica_tls),
            ("route.source", {"address": self.source, **self.source_more}),
            ("route.source.tls", self.source_tls),
        ):
            if table is not None:
                yield f"[{title}]"
                yield from (f"{key} = {toml(value)}" for key, value in table.items())
        for replica in self.replicas:
            yield "[[route.replica]]"
            yield from (f"{key} = {toml(value)}" for key, value in replica.items())


class Proxy:
    """A running `binlock-proxy run`, and its configuration, which may change while it runs."""

    def __init__(self, folder: Path, *routes: RouteConfig, host: Place | None = None, limits: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "proxy.toml"
        self.admin_port = free_port()
        self.routes = routes
        self.limits = limits
        for route in routes:
            if route.listen.endswith(":0"):
                route.listen = f"127.0.0.1:{free_port()}"
        self.write_config()
        self.port = int(routes[0].listen.rpartition(":")[2])
        self.program = Program(
            [BIN / "binlock-proxy", "run", "--config", self.config], log=folder / "proxy.log", host=host
        )

    def write_config(self) -> None:
        """Puts the configuration in place by rename, as editors and tools do."""
        lines = ["[admin]", f'listen = "127.0.0.1:{self.admin_port}"', "[log]", 'level = "debug"', self.limits]
        for route in self.routes:
            lines.extend(route.lines())
        fresh = self.config.with_name("proxy.toml.fresh")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self.config)

    def start(self) -> Proxy:
        self.program.start()
        self.program.wait_for_log('"event": "listening"')
        return self

    def reload(self) -> dict[str, Any]:
        """SIGHUP; returns what came of it, `reloaded` or `reload_failed`."""
        mark = self.mark()
        self.program.signal(signal.SIGHUP)
        return self.wait_for_event("reloaded", "reload_failed", after=mark)

    def change(self, **changes: Any) -> dict[str, Any]:
        """Changes the first route and reloads."""
        for name, value in changes.items():
            setattr(self.routes[0], name, value)
        self.write_config()
        return self.reload()

    def mark(self) -> int:
        """This moment in the log, for `after`."""
        return self.program.log_path.stat().st_size

    def events(self, *names: str, after: int = 0) -> list[dict[str, Any]]:
        with self.program.log_path.open("rb") as log:
            log.seek(after)
            written = log.read()
        # What is behind the last line's end is still being written.
        whole = written[: written.rfind(b"\n") + 1].decode()
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if not names or line["event"] in names]

    def wait_for_event(
        self,
        *names: str,
        matches: Callable[[dict[str, Any]], bool] = lambda _: True,
        timeout: float = WAIT_SECONDS,
        after: int = 0,
    ) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for event in self.events(*names, after=after):
                if matches(event):
                    return event
            time.sleep(0.02)
        raise AssertionError(f"no {names} in the log:\n{self.program.log_path.read_text()[-4000:]}")

    def wait_for_end(self, session: int, timeout: float = WAIT_SECONDS) -> dict[str, Any]:
        return self.wait_for_event("session_ended", matches=lambda event: event["session"] == session, timeout=timeout)

    def wait_for_refusal(self, reason: str, *, after: int = 0) -> dict[str, Any]:
        return self.wait_for_event("session_refused", matches=lambda event: event["reason"] == reason, after=after)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=WAIT_SECONDS) as response:
            return str(response.read().decode())

    def sessions(self) -> list[dict[str, Any]]:
        return list(json.loads(self.get("/sessions")))

    def stream_of(self, replica: str, timeout: float = WAIT_SECONDS) -> dict[str, Any]:
        """The session of a roster entry, once its stream runs."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for session in self.sessions():
                if (session.get("replica"), session["stage"]) == (replica, "relay"):
                    return session
            time.sleep(0.02)
        raise AssertionError(f"no stream of {replica}: {self.sessions()}")

    def metric(self, name: str, **labels: str) -> float:
        for line in self.get("/metrics").splitlines():
            if line.startswith((name + "{", name + " ")) and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no {name}{labels} in the metrics")

    def resident_bytes(self) -> int:
        """What the process holds of the machine's memory."""
        status = Path(f"/proc/{self.program.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024

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

    @contextmanager
    def under_load(self, *, rows: int = 20, body_bytes: int = 500, pause_seconds: float = 0) -> Iterator[None]:
        """One insert after the other for the duration."""
        stop = threading.Event()
        failures: list[BaseException] = []

        def write() -> None:
            try:
                while not stop.wait(pause_seconds):
                    self.insert(rows, body_bytes)
            except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
                failures.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            stop.set()
            writer.join(60)
        if failures:
            raise failures[0]

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


def seconds_between(first: dict[str, Any], second: dict[str, Any]) -> float:
    """From one line of the log to another, by its own clock."""
    return (datetime.fromisoformat(second["time"]) - datetime.fromisoformat(first["time"])).total_seconds()


class Forwarder:
    """What stands between hosts: accepts, connects from an address of its own, and moves the bytes.

    As a load balancer it begins each connection with a PROXY header that names its peer.
    """

    def __init__(self, port: int, *, address: str, header: Literal["", "v1", "v2"] = "") -> None:
        self._target = ("127.0.0.1", port)
        self._address = address
        self._header = header
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, (peer, peer_port) = self._listener.accept()
                far = socket.socket()
                self._open += [near, far]
                far.bind((self._address, 0))
                try:
                    far.connect(self._target)
                    far.sendall(self._preamble(peer, peer_port, far))
                except OSError:
                    near.close()
                    far.close()
                    continue
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._move, args=ends, daemon=True).start()

    def _preamble(self, peer: str, peer_port: int, far: socket.socket) -> bytes:
        host, port = far.getpeername()
        if self._header == "v1":
            return f"PROXY TCP4 {peer} {host} {peer_port} {port}\r\n".encode()
        if self._header == "v2":
            ends = ipaddress.ip_address(peer).packed + ipaddress.ip_address(host).packed
            body = ends + struct.pack(">HH", peer_port, port)
            return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack(">BBH", 0x21, 0x11, len(body)) + body
        return b""

    @staticmethod
    def _move(origin: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := origin.recv(65536):
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Forwarder:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._open):
            # Closing alone would not wake whoever waits on it.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
