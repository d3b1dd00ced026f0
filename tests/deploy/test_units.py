"""The units as files: systemd's own judgement of them, and that they fit what is installed and documented."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from testbed.fetch import bundle
from tests.deploy.installing import DOCUMENT, PROGRAMS, ROOT, UNITS

SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
# On systemd's scale from 0, the best, to 10.
MOST_EXPOSED = {"binlock-proxy.service": 1.5, "binlock-monitor.service": 2.0}
MOST_EXPOSED_OTHERS = 1.5
VERSIONS = ["systemd", "systemd-sid"]


def analyze(systemd: str, *arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [*bundle(systemd).command("systemd-analyze"), "--no-pager", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The units, with programs that are here, and a route's socket."""
    for path in UNITS.iterdir():
        if path.is_file():
            text = path.read_text().replace("/opt/binlock/docs", str(ROOT / "docs"))
            for name in PROGRAMS:
                text = text.replace(f"/opt/binlock/bin/{name}", "/bin/true")
            (tmp_path / path.name).write_text(text)
    drop_in = tmp_path / "binlock-proxy@orders.socket.d"
    drop_in.mkdir()
    shutil.copy(UNITS / "examples/listen.conf", drop_in)
    return tmp_path


@pytest.mark.parametrize("systemd", VERSIONS)
def test_systemd_finds_nothing_wrong(systemd: str, folder: Path) -> None:
    units = [path.name for path in folder.iterdir() if path.is_file() and "@" not in path.name]
    checked = analyze(systemd, "verify", "--man=no", *units, "binlock-proxy@orders.socket", folder=folder)
    said = [line for line in checked.stderr.splitlines() if "binlock" in line]
    assert (checked.returncode, said) == (0, [])

    (folder / SERVICES[0]).write_text((folder / SERVICES[0]).read_text().replace("PrivateTmp=", "PrivateTemp="))
    spoilt = analyze(systemd, "verify", "--man=no", SERVICES[0], folder=folder)
    assert "Unknown key name 'PrivateTemp'" in spoilt.stderr or "Unknown key 'PrivateTemp'" in spoilt.stderr


@pytest.mark.parametrize("systemd", VERSIONS)
def test_every_service_is_hardened(systemd: str, folder: Path) -> None:
    for name in SERVICES:
        most = MOST_EXPOSED.get(name, MOST_EXPOSED_OTHERS)
        judged = analyze(systemd, "security", "--offline=true", f"--threshold={most * 10:.0f}", name, folder=folder)
        assert judged.returncode == 0, judged.stdout
        assert re.search(r"✓ MemoryDenyWriteExecute=", judged.stdout), name


def test_it_is_the_last_setting_that_counts_and_no_setting_stands_twice() -> None:
    """A setting that is repeated by mistake would add to the list, or undo what is above it."""
    lists = {"ExecStart", "ExecReload", "SystemCallFilter"}
    for path in UNITS.glob("*.*"):
        if path.is_file():
            names = [line.partition("=")[0] for line in path.read_text().splitlines() if re.match(r"[A-Z]\w+=", line)]
            assert not {name for name in names if names.count(name) > 1} - lists, path.name


def test_every_program_that_is_started_is_installed() -> None:
    started = {
        name for path in UNITS.glob("*.service") for name in re.findall(r"/opt/binlock/bin/(\S+)", path.read_text())
    }
    assert started == set(PROGRAMS)


def test_the_document_names_every_file_and_every_unit_names_the_document() -> None:
    text = DOCUMENT.read_text()
    for path in (path for path in UNITS.rglob("*") if path.is_file()):
        assert path.name in text, f"{path.name} is not in {DOCUMENT.name}"
    for path in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
        unit = configparser.RawConfigParser(strict=False, delimiters="=")
        unit.read_string(path.read_text())
        assert unit["Unit"]["Documentation"] == f"file:///opt/binlock/docs/{DOCUMENT.name}"
