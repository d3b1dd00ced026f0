"""Binlock as it is installed on a host with systemd: what pip puts there, and the document's own steps."""

import os
import re
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
DOCUMENT = ROOT / "docs" / "deploy-systemd.md"
PROGRAMS = {
    "binlock-proxy": "proxy",
    "binlock-monitor": "monitor",
    "binlock-certs": "certs",
    "binlock-audit": "audit",
}
# Nothing of a home folder, or of /tmp, can be seen from within the units.
BINDS: Mapping[str, Path] = {
    "/opt/python": Path(sys.base_prefix),
    "/opt/binlock/src": ROOT,
    "/opt/binlock/site": Path(sysconfig.get_path("purelib")),
}
# Where its shared library is, if it has one, is written into it.
_SHEBANG = "#!/usr/bin/env -S LD_LIBRARY_PATH=/opt/python/lib /opt/python/{python} -I\n"
_PROGRAM = """
import sys
sys.path[:0] = ["/opt/binlock/src", "/opt/binlock/site"]
from {package}.command_line import main
sys.exit(main())
"""
# Exits with 0 if memory that is both written and executed is denied, in each of the ways to it.
_PROBE = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
READ, WRITE, EXEC = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
FAILED = ctypes.c_void_p(-1).value
at_once = libc.mmap(None, 4096, READ | WRITE | EXEC, PRIVATE, -1, 0)
first_written = libc.mmap(None, 4096, READ | WRITE, PRIVATE, -1, 0)
later = libc.mprotect(first_written, 4096, READ | EXEC)
sys.exit(0 if at_once == FAILED and first_written != FAILED and later == -1 else 1)
"""


def install(stage: Path) -> None:
    """Lays out, below `stage`, the programs, as pip would have put them there."""
    python = Path(os.path.realpath(sys.executable)).relative_to(sys.base_prefix)
    programs = stage / "opt/binlock/bin"
    programs.mkdir(parents=True)
    texts = {name: _PROGRAM.format(package=package) for name, package in PROGRAMS.items()}
    for name, text in {**texts, "writable-and-executable-is-denied": _PROBE}.items():
        (programs / name).write_text(_SHEBANG.format(python=python) + text)
        (programs / name).chmod(0o755)


def steps(about: str) -> str:
    """The block of docs/deploy-systemd.md with these words, as a shell script to be run in a checkout."""
    [block] = [block for block in re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if about in block]
    return f"set -e; cd /opt/binlock/src\n{block}"


def drop_in(stage: Path, unit: str, text: str, name: str = "test.conf") -> None:
    """Adds to a unit, as an administrator does."""
    folder = stage / "etc/systemd/system" / f"{unit}.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
