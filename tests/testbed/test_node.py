import json
import subprocess
from pathlib import Path

import pytest

from testbed import node
from testbed.apt import FetchError
from testbed.node import NODE, packages

CLIENTS = Path(__file__).parents[1] / "integration" / "clients"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package without dependencies, whose script must not run, and a private folder to install it into."""
    monkeypatch.setattr(node, "private_folder", lambda: tmp_path / "private")
    source = tmp_path / "source"
    source.mkdir()
    (source / "package.json").write_text(json.dumps({"name": "empty", "scripts": {"postinstall": "touch ran"}}))
    lock = {"name": "empty", "lockfileVersion": 3, "packages": {"": {"name": "empty"}}}
    (source / "package-lock.json").write_text(json.dumps(lock))
    return source


def test_packages_are_installed_once_without_their_scripts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = packages(folder)
    assert sorted(path.name for path in place.iterdir()) == ["package-lock.json", "package.json"]
    assert sorted(path.name for path in folder.iterdir()) == ["package-lock.json", "package.json"]
    monkeypatch.setattr(node, "_install", None)
    assert packages(folder) == place


def test_another_lock_file_is_another_installation(folder: Path) -> None:
    place = packages(folder)
    lock = folder / "package-lock.json"
    lock.write_text(lock.read_text() + "\n")
    assert packages(folder) != place


def test_what_npm_says_is_passed_on_and_nothing_looks_complete(folder: Path) -> None:
    (folder / "package-lock.json").unlink()
    for _ in range(2):
        with pytest.raises(FetchError, match=r"(?s)npm ci failed.*package-lock\.json"):
            packages(folder)


def test_the_lock_file_of_the_clients_names_versions_and_digests_and_no_registry() -> None:
    wanted = json.loads((CLIENTS / "package.json").read_text())["dependencies"]
    lock = json.loads((CLIENTS / "package-lock.json").read_text())
    locked = {path: entry for path, entry in lock["packages"].items() if path}
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    for path, entry in locked.items():
        assert entry["integrity"].startswith("sha512-"), path
        assert "resolved" not in entry, path
        assert "hasInstallScript" not in entry, path


def test_node_is_the_one_of_the_virtual_environment() -> None:
    done = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True, env={})
    assert int(done.stdout[1:].partition(".")[0]) >= 24
