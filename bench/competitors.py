"""The proxies side by side, each started the way its own manual says, with the same certificates and algorithms."""

import contextlib
import json
import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.conversation import ACCOUNT
from bench.replica_end import Door
from proxy.openssl import linked_openssl
from testbed.fetch import bundle
from testbed.programs import Program
from testbed.servers import free_port

SUITE = "TLS_AES_256_GCM_SHA384"
GROUP = "X25519"
_SOURCE_NAME = "source.bench.example"
_REPLICA_NAME = "replica.bench.example"
_BIN = Path(sys.executable).parent
_CHECKOUT = Path(__file__).resolve().parent.parent
# The measures leave sessions of many minutes alone.
_IDLE_TIMEOUT = "1h"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Mutual TLS as files, in the forms that the competitors read."""

    ca: Path
    source: Path
    source_key: Path
    replica: Path
    replica_key: Path

    def pem(self, leaf: Path, key: Path) -> Path:
        """Certificate and key in one file, as HAProxy wants them."""
        both = leaf.with_suffix(".both.pem")
        both.touch(mode=0o600)
        both.write_text(leaf.read_text() + key.read_text())
        return both

    def replica_context(self) -> ssl.SSLContext:
        """For a replica end that speaks TLS itself."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.replica, self.replica_key)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context


def make_certificates(folder: Path) -> Certificates:
    """An authority, a source and a replica, by `binlock-certs`."""

    def run(*words: str) -> str:
        command = [str(_BIN / "binlock-certs"), *words, "--dir", str(folder)]
        return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout

    def issue(role: str, name: str) -> tuple[Path, Path]:
        made = json.loads(run("issue", role, name, "--json"))
        return Path(made["certificate"]), Path(made["key"])

    run("init")
    source, source_key = issue("source", _SOURCE_NAME)
    replica, replica_key = issue("replica", _REPLICA_NAME)
    return Certificates(folder / "ca.crt", source, source_key, replica, replica_key)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every competitor is started with."""

    folder: Path
    certificates: Certificates
    source_port: int
    stack: contextlib.ExitStack

    def start(self, name: str, argv: list[str | Path], port: int, *, folder: Path | None = None) -> int:
        """Starts a program, waits until it listens on `port`, and returns its process id.

        Raises:
            ProgramError: it does not start.
            TimeoutError: it does not listen.
        """
        program = self.stack.enter_context(Program(argv, log=self.folder / f"{name}.log", folder=folder))
        program.wait_for_port(port)
        return program.pid

    def write(self, name: str, text: str) -> Path:
        """A configuration file."""
        path = self.folder / name
        path.write_text(text)
        return path


@dataclass(frozen=True, slots=True)
class Running:
    """A competitor that accepts replicas: where, and the processes it consists of, replica's side first."""

    door: Door
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class End:
    """One proxy process: its name, the port it listens on, the port it dials."""

    name: str
    listen: int
    connect: int


# Starts one end and returns its process id.
StartEnd = Callable[[Bench, End], int]


@dataclass(frozen=True, slots=True)
class Competitor:
    """One proxy, as either end of a tunnel.

    Attributes:
        in_band: its TLS is MySQL's own, after the greeting.
    """

    name: str
    replica_side: StartEnd
    source_side: StartEnd
    in_band: bool = False

    def start_tunnel(self, bench: Bench) -> Running:
        """Plaintext replica, replica-side end, TLS, source-side end, plaintext source."""
        entry, middle = free_port(), free_port()
        far = self.source_side(bench, End(f"{self.name}-tunnel-source-side", middle, bench.source_port))
        near = self.replica_side(bench, End(f"{self.name}-tunnel-replica-side", entry, middle))
        return Running(Door(entry), (near, far))

    def start_source_side(self, bench: Bench) -> Running:
        """TLS replica, source-side end, plaintext source."""
        entry = free_port()
        pid = self.source_side(bench, End(f"{self.name}-alone", entry, bench.source_port))
        context = bench.certificates.replica_context()
        return Running(Door(entry, context, _SOURCE_NAME, in_band=self.in_band), (pid,))


def direct(bench: Bench) -> Running:
    """The two ends without a proxy: the floor."""
    return Running(Door(bench.source_port), ())


def binlock(name: str = "binlock", checkout: Path = _CHECKOUT) -> Competitor:
    """Binlock as it stands in a checkout."""

    def start(bench: Bench, end: End, *, is_source_side: bool) -> int:
        files = bench.certificates
        leaf, key = (files.source, files.source_key) if is_source_side else (files.replica, files.replica_key)
        tls = (
            f'ca = "{files.ca}"\ncertificate = "{leaf}"\nkey = "{key}"\nversions = ["TLSv1.3"]\n'
            f'ciphersuites = ["{SUITE}"]\ngroups = ["{GROUP}"]\n'
        )
        listener = f'[admin]\nlisten = "127.0.0.1:{free_port()}"\n[[route]]\nname = "bench"\n'
        listener += f'listen = "127.0.0.1:{end.listen}"\nallow = ["127.0.0.0/8"]\n'
        source = f'[route.source]\naddress = "127.0.0.1:{end.connect}"\n'
        replica = f'[[route.replica]]\naccounts = ["{ACCOUNT}"]\n'
        if is_source_side:
            text = f'{listener}[route.replica_tls]\n{tls}{source}{replica}identity = "{_REPLICA_NAME}"\n'
        else:
            tls += f'server_name = "{_SOURCE_NAME}"\n'
            text = f'{listener}{source}[route.source.tls]\n{tls}{replica}name = "bench"\n'
        config = bench.write(f"{end.name}.toml", text)
        # The working directory comes first on the path of `-m`: another checkout's packages are taken from there.
        return bench.start(
            end.name, [sys.executable, "-m", "proxy", "run", "--config", config], end.listen, folder=checkout
        )

    return Competitor(
        name,
        replica_side=lambda bench, end: start(bench, end, is_source_side=False),
        source_side=lambda bench, end: start(bench, end, is_source_side=True),
        in_band=True,
    )


def stunnel() -> Competitor:
    """Stunnel with Nagle's algorithm off on both sockets (stunnel(8))."""
    command = bundle("stunnel").command("stunnel4")

    def start(bench: Bench, end: End, role: str, leaf: Path, key: Path) -> int:
        text = (
            f"foreground = yes\npid =\nsyslog = no\ndebug = notice\n"
            f"socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
            f"[bench]\n{role}\naccept = 127.0.0.1:{end.listen}\nconnect = 127.0.0.1:{end.connect}\n"
            f"cert = {leaf}\nkey = {key}\nCAfile = {bench.certificates.ca}\nverifyChain = yes\n"
            f"sslVersion = TLSv1.3\nciphersuites = {SUITE}\ncurves = {GROUP}\n"
        )
        return bench.start(end.name, [*command, bench.write(f"{end.name}.conf", text)], end.listen)

    def replica_side(bench: Bench, end: End) -> int:
        files = bench.certificates
        role = f"client = yes\ncheckHost = {_SOURCE_NAME}"
        return start(bench, end, role, files.replica, files.replica_key)

    def source_side(bench: Bench, end: End) -> int:
        files = bench.certificates
        return start(bench, end, "client = no", files.source, files.source_key)

    return Competitor("stunnel", replica_side, source_side)


def haproxy() -> Competitor:
    """HAProxy with one thread, since a stream is served by one, and its default buffers."""
    command = bundle("haproxy").command("haproxy")

    def start(bench: Bench, end: End, bind: str, server: str) -> int:
        text = (
            f"global\n nbthread 1\n maxconn 1000\n"
            f"defaults\n mode tcp\n timeout connect 5s\n timeout client {_IDLE_TIMEOUT}\n"
            f" timeout server {_IDLE_TIMEOUT}\n"
            f"listen bench\n bind 127.0.0.1:{end.listen}{bind}\n server source 127.0.0.1:{end.connect}{server}\n"
        )
        return bench.start(end.name, [*command, "-db", "-f", bench.write(f"{end.name}.cfg", text)], end.listen)

    def algorithms(bench: Bench, leaf: Path, key: Path) -> str:
        files = bench.certificates
        return (
            f" ssl crt {files.pem(leaf, key)} ca-file {files.ca} verify required ssl-min-ver TLSv1.3"
            f" ciphersuites {SUITE} curves {GROUP}"
        )

    def replica_side(bench: Bench, end: End) -> int:
        tls = algorithms(bench, bench.certificates.replica, bench.certificates.replica_key)
        return start(bench, end, "", f"{tls} verifyhost {_SOURCE_NAME} sni str({_SOURCE_NAME})")

    def source_side(bench: Bench, end: End) -> int:
        tls = algorithms(bench, bench.certificates.source, bench.certificates.source_key)
        return start(bench, end, tls, "")

    return Competitor("haproxy", replica_side, source_side)


def versions() -> dict[str, str]:
    """Each competitor's own word on its version, with the OpenSSL it runs on."""

    def said(name: str, program: str, option: str) -> str:
        done = subprocess.run([*bundle(name).command(program), option], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def found(pattern: str, text: str) -> str:
        match = re.search(pattern, text)
        return match[1] if match else "unknown"

    stunnel_says, haproxy_says = said("stunnel", "stunnel4", "-version"), said("haproxy", "haproxy", "-vv")
    return {
        "binlock": f"{version('binlock')}, {linked_openssl()}",
        "stunnel": ", ".join(found(pattern, stunnel_says) for pattern in (r"stunnel (\S+) on", r"Running  with (.*)")),
        "haproxy": ", ".join(
            found(pattern, haproxy_says)
            for pattern in (r"HAProxy version (\S+)", r"Running on SSL library version : (.*)")
        ),
    }


def start_source(bench: Bench) -> None:
    """The fake source that all competitors are in front of."""
    argv: list[str | Path] = [sys.executable, "-m", "bench.source_end", str(bench.source_port)]
    bench.start("source-end", argv, bench.source_port, folder=_CHECKOUT)


__all__ = [
    "Bench",
    "Competitor",
    "Running",
    "binlock",
    "direct",
    "haproxy",
    "make_certificates",
    "start_source",
    "stunnel",
    "versions",
]
