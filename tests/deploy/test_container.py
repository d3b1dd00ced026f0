"""The definition of the container images, and what they are locked to. What is built from it: test_images.py."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from testbed.fetch import RECIPES
from testbed.images import BASES
from tests.deploy.conftest import DEFINITION, ROOT
from tests.deploy.definition import stages

HADOLINT = Path(sys.executable).parent / "hadolint"
LOCKS = DEFINITION.parent / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENVIRONMENT = {"python_version": "3.11", "python_full_version": "3.11.2", "extra": ""}


def locked(name: str) -> dict[str, str]:
    """The versions in a lock, by the packages' names."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (LOCKS / f"{name}.txt").read_text(), re.MULTILINE))


def applicable(lines: list[str], extra: str = "") -> list[Requirement]:
    requirements = [Requirement(line) for line in lines]
    return [each for each in requirements if not each.marker or each.marker.evaluate({**ENVIRONMENT, "extra": extra})]


def unmet(requirements: list[Requirement], versions: dict[str, str]) -> list[str]:
    """Which of them the lock does not have, in a version that they allow."""
    names = [canonicalize_name(each.name) for each in requirements]
    return [
        str(each)
        for name, each in zip(names, requirements, strict=True)
        if name not in versions or not each.specifier.contains(versions[name])
    ]


def inputs(name: str) -> list[str]:
    return [line for line in (LOCKS / f"{name}.in").read_text().splitlines() if line and not line.startswith("#")]


WANTED = {
    "proxy": PROJECT["project"]["dependencies"],
    "monitor": inputs("monitor"),
    "build": [*inputs("build"), *PROJECT["build-system"]["requires"]],
}


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([HADOLINT, DEFINITION], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_say_something(tmp_path: Path) -> None:
    spoilt = tmp_path / "Containerfile"
    spoilt.write_text(DEFINITION.read_text().replace("USER 65532:65532", "USER root").replace("12-slim", "latest"))
    done = subprocess.run([HADOLINT, spoilt], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DL3002" in done.stdout


@pytest.mark.parametrize("name", WANTED)
def test_a_lock_has_what_is_asked_for(name: str) -> None:
    assert unmet(applicable(WANTED[name]), locked(name)) == []


def test_a_lock_that_lacks_something_is_found() -> None:
    versions = locked("proxy")
    assert unmet([Requirement("trio>=99"), Requirement("nothing-like-it"), Requirement("h11")], versions) == [
        "trio>=99",
        "nothing-like-it",
    ]


@pytest.mark.parametrize("name", ["proxy", "monitor"])
def test_a_lock_is_whole(name: str) -> None:
    """What the packages themselves need is there, as far as this machine has them installed."""
    versions = locked(name)
    seen = 0
    for package in versions:
        try:
            needed = distribution(package).requires or []
        except PackageNotFoundError:
            continue
        seen += 1
        assert unmet(applicable(needed), versions) == [], package
    assert seen > len(versions) / 2


@pytest.mark.parametrize("name", WANTED)
def test_each_package_has_its_hashes_and_no_address(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    entries = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked(name))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


def test_the_monitors_lock_is_the_proxys_but_for_what_each_has_alone() -> None:
    proxy, monitor = locked("proxy"), locked("monitor")
    assert {name for name in monitor if name not in proxy} == {"scapy"}
    assert {"pyopenssl", "cryptography"}.isdisjoint(monitor)
    assert all(proxy.get(name, version) == version for name, version in monitor.items())
    extra = {
        Requirement(line).name: Requirement(line) for line in PROJECT["project"]["optional-dependencies"]["monitor"]
    }
    assert unmet(list(extra.values()), monitor) == []


def test_the_definition_fits_the_project() -> None:
    found = stages()
    for target in ("proxy", "monitor"):
        assert found[target].last("USER") == "65532:65532"
        assert found[target].last("STOPSIGNAL") == "SIGTERM"
        assert f'image.version="{PROJECT["project"]["version"]}"' in found[target].last("LABEL")
        assert found[target].base == "${RUN_IMAGE}"
    assert "GPL-2.0-only" in found["monitor"].last("LABEL")
    assert "GPL" not in found["proxy"].last("LABEL")
    text = DEFINITION.read_text()
    assert set(re.findall(r"^ARG \w+_IMAGE=(.+)$", text, re.MULTILINE)) == set(BASES)
    # What stands for the image has the packages that the definition installs in it.
    installed = re.findall(r"--no-install-recommends (.+) \\$", text, re.MULTILINE)[0].split()
    assert set(installed) <= set(RECIPES["debian-12-build"].packages)


def test_the_context_has_what_is_packed_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    packages = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    files = {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "pyproject.toml"}
    assert allowed == packages | files | {"deploy/container/requirements"}
