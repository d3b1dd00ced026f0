"""Programs that run beside the tests, log into a file, and never outlive the process that started them."""

import os
import queue
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

POLL_SECONDS = 0.02
# Whoever dies before the signal is asked for sends none: then the program is not to start either.
UNLESS_ORPHANED = 'test "$PPID" = "$0" && exec "$@"'


class ProgramError(Exception):
    """A program could not be started, ended unexpectedly, or did not end; the text has its log's tail."""


class Place(Protocol):
    """Where a program runs, if not in this process's own network namespace: a host of the test bed."""

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` there."""


class _Starter:
    """The one thread that starts processes.

    The kernel's parent-death signal is sent when the *thread* that forked ends, and worker threads (trio's
    among them) end when they are idle. This one ends with the process.
    """

    def __init__(self) -> None:
        self._wanted: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]]
        self._wanted = queue.SimpleQueue()
        threading.Thread(target=self._run, name="testbed starter", daemon=True).start()

    def start(self, spawn: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        result: Future[subprocess.Popen[bytes]] = Future()
        self._wanted.put((spawn, result))
        return result.result()

    def _run(self) -> None:
        while True:
            spawn, result = self._wanted.get()
            try:
                result.set_result(spawn())
            except BaseException as error:  # noqa: BLE001 - belongs to the thread that asked
                result.set_exception(error)


_starter_lock = threading.Lock()
_starter: dict[int, _Starter] = {}  # by process id: a forked child has no such thread


def popen(
    argv: Sequence[str],
    *,
    place: Place | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process that the kernel kills when this one ends, however it ends.

    Args:
        argv: the command; nothing but `exec` stands between the process id returned and it.
        place: a host to run it on; None for the current network namespace.
        stdin: as for `subprocess.Popen`, as are `stdout`, `stderr` and `pass_fds`.
        stdout: see `stdin`.
        stderr: see `stdin`.
        environment: variables set on top of this process's own.
        folder: the working directory.
        pass_fds: descriptors that the process inherits.

    Raises:
        ProgramError: there is no such program.
    """
    if shutil.which("setpriv") is None:
        raise ProgramError("setpriv is not installed: it is in Debian's package util-linux")
    # Innermost, since entering a user namespace clears the signal.
    command = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", UNLESS_ORPHANED, str(os.getpid()), *argv]
    if place is not None:
        command = place.command(command)
    merged = {**os.environ, **(environment or {})}
    if shutil.which(argv[0], path=merged.get("PATH")) is None:
        raise ProgramError(f"there is no program {argv[0]}")

    def spawn() -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in a terminal goes to whoever owns the process, who ends it in order.
        return subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=stderr, env=merged, cwd=folder, pass_fds=pass_fds,
            start_new_session=True,
        )  # fmt: skip

    with _starter_lock:
        starter = _starter.get(os.getpid())
        if starter is None:
            starter = _starter[os.getpid()] = _Starter()
    return starter.start(spawn)


class Program:
    """One program with its output in a log file.

    A context manager: starts on entry, is killed on exit if it still runs.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        host: Place | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.argv = [str(word) for word in argv]
        self.log_path = log
        self.host = host
        self._environment = environment
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self) -> Self:
        """Start it; the log is appended to.

        Raises:
            ProgramError: it runs already, or there is no such program.
        """
        if self.running:
            raise ProgramError(f"{self.argv[0]} runs already, as process {self.pid}")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = popen(
                self.argv,
                place=self.host,
                stdout=log,
                stderr=log,
                environment=self._environment,
                folder=self._folder,
            )
        return self

    @property
    def pid(self) -> int:
        """The process id, also after it ended."""
        return self._started.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """None while it runs; the negative signal number when a signal ended it."""
        return self._started.poll()

    def log(self) -> str:
        """What it wrote since it was started last."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def wait(self, timeout: float = 60) -> int:
        """The exit status, once it ended by itself.

        Raises:
            ProgramError: it still runs after `timeout` seconds.
        """
        try:
            return self._started.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProgramError(self._complaint(f"still runs after {timeout} s")) from None

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float = 60) -> None:
        """Poll until `condition` holds.

        Raises:
            ProgramError: it ended instead.
            TimeoutError: it does not hold after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if not self.running and not condition():
                raise ProgramError(self._complaint(f"ended with status {self.exit_status} before {what}"))
            if time.monotonic() > deadline:
                raise TimeoutError(self._complaint(f"waited {timeout} s for {what}"))
            time.sleep(POLL_SECONDS)

    def wait_for_log(self, text: str, timeout: float = 60) -> str:
        """The first line since the start that contains `text`, once there is one; raises as `wait_for`."""
        self.wait_for(lambda: text in self.log(), f"{text!r} in its log", timeout)
        return next(line for line in self.log().splitlines() if text in line)

    def wait_for_port(self, port: int, timeout: float = 60) -> None:
        """Wait until something listens on a TCP port there; makes no connection. Raises as `wait_for`."""
        self.wait_for(lambda: port in listening_ports(self.pid), f"port {port} to listen", timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended."""
        self._started.send_signal(number)

    def terminate(self, timeout: float = 60) -> int:
        """SIGTERM, and its exit status.

        Raises:
            ProgramError: it had to be killed after `timeout` seconds.
        """
        self.signal(signal.SIGTERM)
        try:
            return self._started.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProgramError(self._complaint(f"did not end within {timeout} s of SIGTERM")) from None

    def kill(self) -> None:
        """SIGKILL, also when it is stopped; returns when it is gone."""
        self.signal(signal.SIGKILL)
        self._started.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.kill()

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProgramError(f"{self.argv[0]} was never started")
        return self._process

    def _complaint(self, text: str) -> str:
        tail = "\n".join(self.log().splitlines()[-25:])
        return f"{shlex.join(self.argv)} {text}; the end of {self.log_path}:\n{tail}"


def listening_ports(pid: int) -> set[int]:
    """The TCP ports that anything listens on in a process's network namespace; empty for a process gone."""
    ports = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            _, local, _, state, *_ = row.split()
            if state == "0A":  # TCP_LISTEN, include/net/tcp_states.h
                ports.add(int(local.rsplit(":", 1)[1], 16))
    return ports
