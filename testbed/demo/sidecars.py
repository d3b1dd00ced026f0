"""Binlock's own programs as the demonstration starts them: `binlock-certs` and `binlock-proxy`, beside this Python."""

import contextlib
import dataclasses
import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from testbed.programs import Place, Program, ProgramError

PROGRAMS = Path(sys.executable).parent
ISSUE_SECONDS = 60
ADMIN_SECONDS = 5
# Longer than the proxy's own limits.drain_seconds.
STOP_SECONDS = 20


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A certificate and its key, as files, and who it says its holder is."""

    identity: str
    certificate: Path
    key: Path


class Authority:
    """A certificate authority of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca = folder / "ca.crt"
        self.crl = folder / "ca.crl"
        _binlock_certs("init", "--dir", str(folder), "--name", "Binlock demo CA")

    def issue(self, role: str, name: str, *options: str) -> Leaf:
        """A new certificate; `role` and `options` are those of `binlock-certs issue`.

        Raises:
            ProgramError: it was refused; the text says why.
        """
        made = json.loads(_binlock_certs("issue", role, name, "--dir", str(self._folder), "--json", *options))
        return Leaf(name, Path(made["certificate"]), Path(made["key"]))

    def tls_lines(self, leaf: Leaf) -> str:
        """The keys of a TLS table of the proxy's configuration."""
        files = {"certificate": leaf.certificate, "key": leaf.key, "ca": self.ca}
        lines = [f"{key} = {quoted(path)}" for key, path in files.items()]
        return "\n".join([*lines, f"crl = [{quoted(self.crl)}]"])


class Sidecar:
    """One `binlock-proxy run` on a host.

    Attributes:
        name: of the folder with its configuration and its log.
        admin_socket: the unix socket of its admin endpoint, which is reached from any network namespace.
        log_path: its log, a JSON object a line.
    """

    def __init__(self, name: str, folder: Path, *, host: Place, sockets: Path, routes: str) -> None:
        """Nothing is started yet; the configuration is written.

        Args:
            name: of the folder in `folder`.
            folder: where the folders of all proxies are.
            host: where it runs.
            sockets: a folder with a short path, since a unix socket's path may not have more than 107 bytes.
            routes: the rest of its configuration.
        """
        self.name = name
        self.admin_socket = sockets / f"{name}.sock"
        self.log_path = folder / name / "proxy.log"
        configuration = folder / name / "proxy.toml"
        configuration.parent.mkdir(parents=True)
        configuration.write_text(f"[admin]\nlisten = {quoted(f'unix:{self.admin_socket}')}\n\n{routes}\n")
        argv = [str(PROGRAMS / "binlock-proxy"), "run", "--config", str(configuration)]
        self._program = Program(argv, log=self.log_path, host=host)

    def start(self) -> Self:
        """Start, and return once it accepts replicas.

        Raises:
            ProgramError: it ended at start; the text has its log's tail.
        """
        self._program.start()
        self._program.wait_for_log('"event": "listening"')
        return self

    def stop(self) -> int | None:
        """Shut down in order; its exit status, also when it ended before or had to be killed."""
        with contextlib.suppress(ProgramError):  # killed: the status says so
            self._program.terminate(STOP_SECONDS)
        return self._program.exit_status

    def sessions(self) -> list[dict[str, Any]]:
        """What its `/sessions` shows.

        Raises:
            OSError: it does not answer.
        """
        connection = _UnixConnection(self.admin_socket)
        try:
            connection.request("GET", "/sessions")
            return list(json.loads(connection.getresponse().read()))
        except http.client.HTTPException as error:
            raise OSError(f"{self.name}: {error}") from error
        finally:
            connection.close()

    def defects(self) -> list[str]:
        """What must never happen and is in its log all the same: events named `defect`, and anything not JSON."""
        found = []
        for line in self.log_path.read_text(errors="replace").splitlines():
            try:
                is_defect = json.loads(line)["event"] == "defect"
            except (ValueError, KeyError, TypeError):
                is_defect = True  # a traceback or a warning: nobody wrote it on purpose
            if is_defect:
                found.append(line)
        return found

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self._program.__exit__(None, None, None)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ADMIN_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ADMIN_SECONDS)
        self.sock.connect(str(self._path))


def quoted(value: Path | str) -> str:
    """A TOML string."""
    return json.dumps(str(value), ensure_ascii=False)


def _binlock_certs(*arguments: str) -> str:
    command = [str(PROGRAMS / "binlock-certs"), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ISSUE_SECONDS, check=False)
    except FileNotFoundError:
        raise ProgramError(f"there is no {command[0]}; `make venv` installs it") from None
    if done.returncode:
        raise ProgramError(f"binlock-certs {arguments[0]}: {done.stderr.strip()}")
    return done.stdout
