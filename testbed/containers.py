"""A program in an image's files, with what a container runtime leaves it: `container(...)` is the command.

The root is read-only, the user is another, and the capabilities are those that are granted, as containerd grants them
to a user who is not root: permitted and effective before the program is executed, never ambient nor inheritable. New
privileges are forbidden. What is not imitated: seccomp, cgroups, and a namespace of processes.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

NET_RAW = 13  # linux/capability.h
# Runs in a mount namespace of its own. An ordinary user is root of a user namespace there, and stays it.
LAUNCH = """
import ctypes, json, os, struct, sys
task = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
RDONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 32, 4096, 16384, 1 << 18
KEEP_CAPABILITIES, READ_BOUND, DROP_BOUND, NO_NEW_PRIVILEGES = 8, 23, 24, 38
def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def mount(source, target, kind, flags):
    checked(libc.mount(os.fsencode(source), os.fsencode(target), kind, ctypes.c_ulong(flags), None))
def prctl(option, argument):
    checked(libc.prctl(option, *(ctypes.c_ulong(value) for value in (argument, 0, 0, 0))))
mount("none", "/", None, RECURSIVE | PRIVATE)
root = task["root"]
mount(root, root, None, BIND)
mount(root, root, None, BIND | REMOUNT | RDONLY)
mount("tmpfs", root + "/dev", b"tmpfs", 0)
for device in ("null", "random", "urandom", "zero"):
    open(f"{root}/dev/{device}", "w").close()
    mount("/dev/" + device, f"{root}/dev/{device}", None, BIND)
mount("/proc", root + "/proc", None, BIND | RECURSIVE)
for outside, inside in task["mounts"].items():
    mount(outside, root + inside, None, BIND | RECURSIVE)
os.chroot(root)
os.chdir("/")
bits = sum(1 << number for number in task["capabilities"])
for number in range(64):
    if not bits >> number & 1 and libc.prctl(READ_BOUND, number, 0, 0, 0) == 1:
        prctl(DROP_BOUND, number)
if task["user"] is not None:
    prctl(KEEP_CAPABILITIES, 1)
    os.setgroups(task["groups"])
    os.setresgid(*[task["user"]] * 3)
    os.setresuid(*[task["user"]] * 3)
header = struct.pack("=Ii", 0x20080522, 0)
checked(libc.capset(header, struct.pack("=6I", *[bits & 0xFFFFFFFF] * 2, 0, *[bits >> 32] * 2, 0)))
prctl(NO_NEW_PRIVILEGES, 1)
os.execve(task["argv"][0], task["argv"], task["environment"])
"""


def container(
    root: Path,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    mounts: Mapping[Path, str],
    user: int = 65532,
    groups: Sequence[int] = (),
    capabilities: Sequence[int] = (),
) -> list[str]:
    """The command that runs a program so; its process id is the program's own.

    Args:
        root: the image's files; where something is to be mounted an empty file or folder is made.
        argv: a path in the image, and its arguments.
        environment: all that the program gets.
        mounts: by files or folders outside, where they appear inside.
        user: user and group; an ordinary user who calls this stays himself.
        groups: further groups.
        capabilities: numbers of what is granted, see linux/capability.h.
    """
    for inside in ("/dev", "/proc"):
        (root / inside[1:]).mkdir(exist_ok=True)
    for outside, inside in mounts.items():
        place = root / inside[1:]
        if outside.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    is_root = os.geteuid() == 0
    task = {
        "root": str(root),
        "argv": list(argv),
        "environment": dict(environment),
        "mounts": {str(outside): inside for outside, inside in mounts.items()},
        "user": user if is_root else None,
        "groups": list(groups),
        "capabilities": list(capabilities),
    }
    unshare = ["unshare", "--mount"]
    return [*unshare, sys.executable, "-c", LAUNCH, json.dumps(task)]
