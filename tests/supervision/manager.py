"""A service manager in small: starts a program as systemd does, hands sockets over, and hears what it says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

GIVE_UP_SECONDS = 30
# Moves the descriptors to where the protocol wants them, which only the child itself can do.
LAUNCH = """
import os, sys
count = int(sys.argv[1])
moved = [os.dup(int(word)) for word in sys.argv[2:2 + count]]
for target, descriptor in enumerate(moved, 3):
    os.dup2(descriptor, target)
    os.set_inheritable(target, True)
os.environ["LISTEN_PID"] = os.environ.get("LISTEN_PID") or str(os.getpid())
os.execv(sys.argv[2 + count], sys.argv[2 + count:])
"""


class Manager:
    """Starts programs, one after the other. A context manager.

    Attributes:
        path: of the notification socket.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(GIVE_UP_SECONDS)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @contextmanager
    def running(
        self,
        *arguments: str | Path,
        sockets: Sequence[tuple[str, socket.socket]] = (),
        watchdog_seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[subprocess.Popen[str]]:
        """One run of `python ARGUMENTS`; killed at the end if it still runs.

        Args:
            arguments: of Python.
            sockets: are handed over, with their names.
            watchdog_seconds: as WatchdogSec=.
            environment: on top of all that.
        """
        variables = {**os.environ, "NOTIFY_SOCKET": str(self.path)}
        if sockets:
            variables["LISTEN_FDS"] = str(len(sockets))
            variables["LISTEN_FDNAMES"] = ":".join(name for name, _ in sockets)
        if watchdog_seconds is not None:
            variables["WATCHDOG_USEC"] = str(int(watchdog_seconds * 1e6))
        descriptors = [sock.fileno() for _, sock in sockets]
        launch = [sys.executable, "-S", "-c", LAUNCH, str(len(sockets)), *map(str, descriptors), sys.executable]
        with subprocess.Popen(
            [*launch, *map(str, arguments)],
            env={**variables, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=descriptors,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def heard(self) -> dict[str, str]:
        """The next message: its assignments."""
        message = self._socket.recv(4096).decode()
        return dict(line.split("=", 1) for line in message.splitlines())

    def heard_of(self, name: str) -> dict[str, str]:
        """The next message with such an assignment."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while name not in (message := self.heard()):
            assert time.monotonic() < deadline, f"nothing is heard of {name}"
        return message

    def forget(self) -> None:
        """Drops what has not been heard yet."""
        self._socket.setblocking(False)
        try:
            while self._socket.recv(4096):
                pass
        except BlockingIOError:
            self._socket.settimeout(GIVE_UP_SECONDS)


def refusal(process: subprocess.Popen[str]) -> str:
    """What a program that cannot be started says, in one line."""
    _, said = process.communicate(timeout=GIVE_UP_SECONDS)
    assert process.returncode == 2, said
    assert said.count("\n") == 1, said
    return said
