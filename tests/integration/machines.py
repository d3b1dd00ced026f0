"""Machines to follow a page on: hosts of the test bed with an `/etc`, `/opt`, `/run` and `/var/log` of their own.

Each is a network namespace on a bridge, and a mount namespace in which a copy of `/etc` can be changed; somebody types
into its shell. Nothing of this reaches the machine that the tests run on.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from testbed.programs import Place, popen

# $1: the machine's folder. The user mysql is root here: an ordinary user's namespace has no other.
_HOLD = r"""
set -e
cp -dR /etc/. "$1/etc" 2>/dev/null || true
cp "$1/hosts" "$1/etc/hosts"
sed -i '/^mysql:/d' "$1/etc/passwd"
echo 'mysql:x:0:0::/nonexistent:/bin/false' >> "$1/etc/passwd"
mount --bind "$1/etc" /etc
mkdir "$1/opt/binlock"
for entry in /opt/*; do
    test -d "$entry" || continue
    mkdir -p "$1$entry" && mount --rbind "$entry" "$1$entry"
done
mount --bind "$1/programs" "$1/opt/binlock"
mount --rbind "$1/opt" /opt
mount -t tmpfs none /var/log
mount -t tmpfs none /run
mkdir /run/mysqld
mount --bind "$1/mysqld" /run/mysqld
echo held
exec cat
"""
_DONE = re.compile(r"\A(.*)^--done (\d+)--\n\Z", flags=re.DOTALL | re.MULTILINE)


class Machine:
    """One machine and the shell that somebody types into.

    Attributes:
        folder: holds what it has of its own; `etc` is its /etc.
    """

    def __init__(self, folder: Path, place: Place | None, *, programs: Path, server_folder: Path, names: str) -> None:
        """Makes it.

        Args:
            folder: for its own files; must not exist.
            place: where it is in the network; None for this machine's own, with the way out that hosts do not have.
            programs: what its /opt/binlock is.
            server_folder: what its /run/mysqld is: the folder with a server's socket.
            names: of /etc/hosts.
        """
        self.folder = folder
        for name in ("etc", "opt", "programs", "mysqld", "home"):
            (folder / name).mkdir(parents=True)
        (folder / "hosts").write_text(names)
        for name, target in (("programs", programs), ("mysqld", server_folder)):
            (folder / name).rmdir()
            (folder / name).symlink_to(target)
        self._place = place
        # Without a network of ours there is no user namespace of ours yet.
        self._user = ["--user", "--map-root-user"] if place is None and os.geteuid() else []
        holder = ["unshare", *self._user, "--mount", "sh", "-c", _HOLD, "sh", str(folder)]
        self._holder = popen(holder, place=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != b"held\n":
            raise AssertionError(self._holder.stderr.read().decode())
        self._shell: Shell | None = None

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` there, so that this is a place for programs."""
        namespaces = f"/proc/{self._holder.pid}/ns"
        user = [f"--user={namespaces}/user", "--preserve-credentials"] if self._user else []
        command = ["nsenter", f"--mount={namespaces}/mnt", *user, "--", *argv]
        return command if self._place is None else self._place.command(command)

    def type(self, line: str, *, timeout: float = 120) -> tuple[int, str]:
        """Types one command, of one line or more, into the machine's shell: its status and all that it prints."""
        if self._shell is None:
            self._shell = Shell(self, self.folder / "home")
        return self._shell.type(line, timeout=timeout)

    def close(self) -> None:
        """Lets it go, with all that runs in its shell."""
        if self._shell is not None:
            self._shell.close()
        self._holder.kill()
        with self._holder:
            pass


class Shell:
    """A `sh` that keeps variables, folder and jobs from command to command."""

    def __init__(self, place: Place, home: Path) -> None:
        environment = {"HOME": str(home), "COLUMNS": "200", "PATH": os.environ["PATH"]}
        self._process = popen(
            ["sh"],
            place=place,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            environment=environment,
        )
        self._printed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.type(f"cd {shlex.quote(str(home))}", timeout=30)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._printed.put(line.decode())

    def type(self, command: str, *, timeout: float) -> tuple[int, str]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\necho --done $?--\n".encode())
        self._process.stdin.flush()
        deadline, text = time.monotonic() + timeout, ""
        while (done := _DONE.match(text)) is None:
            try:
                text += self._printed.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{command!r} takes over {timeout} s; so far: {text}") from None
        return int(done[2]), done[1]

    def close(self) -> None:
        # The group has its jobs too: nothing else would end them, and one may have the shell's output open.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join()
        with self._process:
            pass
