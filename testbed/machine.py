"""A machine with a service manager of its own: a real systemd as process 1, in namespaces, with nothing left behind.

    with Machine(tmp_path / "machine", "systemd", stage=stage, binds={"/opt/binlock/src": checkout}) as machine:
        machine.run("systemctl", "start", "binlock-proxy.service")

It sees this machine's files, with changes of its own in memory, no other process, and a network with `lo` alone or
that of a host of the test bed. What it could change of the kernel it sees read-only. Needs root: a service manager
wants control groups and several users.
"""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.fetch import bundle
from testbed.programs import POLL_SECONDS, Place, ProgramError, popen

# $1 folder, $2 a bundle's root or nothing, $3 what is copied over the files, then pairs of what is bound where.
# In a control group of its own, which is removed at the end; the whole tree dies with the first shell.
OUTER = """
mount --make-rprivate / && mount -t tmpfs none "$1" && mkdir "$1/groups" && mount -t cgroup2 none "$1/groups" || exit
group="$1/groups$(sed -n s/^0:://p /proc/self/cgroup)/binlock-machine-$$"
mkdir "$group" && echo 0 > "$group/cgroup.procs" || exit
setpriv --pdeathsig KILL -- unshare --cgroup --mount --pid --fork --kill-child --uts --ipc sh -c "$INNER" sh "$@"
status=$?
echo 0 > "$group/../cgroup.procs"
while ! find "$group" -depth -type d -exec rmdir {} + 2> /dev/null; do sleep 0.02; done
exit $status
"""
INNER = """
set -e
base="$1" root="$1/root" bundle="$2" stage="$3"
shift 3
mkdir "$base/programs" "$base/upper" "$base/work" "$root"
lower=/
if test -n "$bundle"; then
    cp -a "$bundle/." "$base/programs"
    # Packages from before /usr was merged: the machine's own /lib is a link.
    for folder in bin sbin lib lib64; do
        test ! -d "$base/programs/$folder" || test -L "$base/programs/$folder" || {
            mkdir -p "$base/programs/usr/$folder"
            cp -a "$base/programs/$folder/." "$base/programs/usr/$folder"
            rm -r "$base/programs/$folder"
        }
    done
    lower="$base/programs:/"
fi
cp -a "$stage/." "$base/upper"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$base/upper,workdir=$base/work" "$root"
while test $# -gt 0; do mkdir -p "$root$2"; mount --bind -o ro "$1" "$root$2"; shift 2; done
mount -t proc proc "$root/proc"
mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for folder in run tmp dev; do mount -t tmpfs tmpfs "$root/$folder"; done
mkdir "$root/dev/pts" "$root/dev/shm" "$root/run/before"
# Nodes of its own: a service manager sets owner and mode of its console, and would set this machine's.
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
mknod -m 666 "$root/dev/tty" c 5 0
mknod -m 600 "$root/dev/console" c 1 3
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"
cd "$root"
pivot_root . run/before
umount -l /run/before
# As a machine has it: credentials are mounted in a namespace of their own, and come from there.
mount --make-rshared /
exec env -i container=binlock PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/systemd/systemd --system --unit=basic.target
"""
BOOT_SECONDS = 60


class MachineError(Exception):
    """A machine cannot be had, or something that was run on it failed; the text says what."""


class Machine:
    """A machine of one version of systemd. A context manager: booted from entry to exit.

    It is a `Place`: `popen(..., place=machine)` runs a program there.
    """

    def __init__(
        self,
        folder: Path,
        systemd: str,
        *,
        stage: Path,
        binds: Mapping[str, Path],
        place: Place | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            folder: for its log; nothing of the machine's own files is kept.
            systemd: a bundle with systemd.
            stage: a folder whose content is copied to the machine's root.
            binds: folders of this machine that it sees read-only, by where it sees them.
            place: whose network it has; None for one of its own.
        """
        self._folder = folder
        self._systemd = systemd
        self._stage = stage
        self._binds = binds
        self._place = place
        self._shell: subprocess.Popen[bytes] | None = None
        self._init_pid = 0

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise MachineError("a machine with a service manager needs root, for its control groups and users")
        self._folder.mkdir(parents=True)
        root = bundle(self._systemd).root
        arguments = [str(self._folder), str(root or ""), str(self._stage)]
        for target, source in self._binds.items():
            arguments += [str(source), target]
        namespaces = ["unshare", "--mount", *([] if self._place else ["--net"])]
        with (self._folder.parent / f"{self._folder.name}.log").open("wb") as log:
            self._shell = popen(
                [*namespaces, "sh", "-c", OUTER, "sh", *arguments],
                place=self._place,
                stdout=log,
                stderr=log,
                environment={"INNER": INNER},
            )
        try:
            self._boot()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        """Kills what the shell runs, which takes process 1 along, and that all others; the shell then tidies up."""
        if self._shell is None:
            return
        for pid in _children(self._shell.pid):
            os.kill(pid, signal.SIGKILL)
        self._shell.wait()

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` there."""
        return ["nsenter", "--target", str(self._init_pid), "--mount", "--pid", "--net", "--uts", "--", *argv]

    def call(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Runs a command there, whatever comes of it."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "SYSTEMD_PAGER": ""}
        return subprocess.run(
            self.command(argv), env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def run(self, *argv: str) -> str:
        """What a command prints there.

        Raises:
            MachineError: it failed; with the end of the journal.
        """
        done = self.call(*argv)
        if done.returncode:
            journal = self.call("journalctl", "--lines", "25", "--output", "cat").stdout
            raise MachineError(
                f"{shlex.join(argv)} failed with {done.returncode}: {done.stdout}{done.stderr}\n{journal}"
            )
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Puts a file there, with the folders above it."""
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1"'
        subprocess.run(self.command(["sh", "-c", script, "sh", path]), input=text, text=True, check=True)

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def wait_for(self, unit: str, name: str, value: str, timeout: float = 60) -> None:
        """Polls until a property of a unit contains a text.

        Raises:
            TimeoutError: it does not, with the end of the unit's journal.
        """
        deadline = time.monotonic() + timeout
        while value not in (found := self.shown(unit, name)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} of {unit} is {found!r}, not {value!r}:\n{self.journal(unit)[-4000:]}")
            time.sleep(POLL_SECONDS)

    def journal(self, unit: str, *options: str) -> str:
        """What the journal has of a unit, as it was written."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--output", "cat", "--unit", unit, *options)

    def _boot(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while self._shell is not None and self._shell.poll() is None and time.monotonic() < deadline:
            self._init_pid = self._find_init()
            if self._init_pid and self.call("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}:
                return
            time.sleep(POLL_SECONDS)
        said = (self._folder.parent / f"{self._folder.name}.log").read_text(errors="replace")
        raise ProgramError(f"the machine with {self._systemd} does not come up:\n{said}")

    def _find_init(self) -> int:
        """The process id, as seen from here, of its process 1 once that is systemd; 0 before."""
        pids = _children(self._shell.pid) if self._shell is not None else []
        while pids:
            try:
                if Path(f"/proc/{pids[0]}/comm").read_text() == "systemd\n":
                    return pids[0]
            except (FileNotFoundError, ProcessLookupError):
                break
            pids = _children(pids[0])
        return 0


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
