"""Bundles of programs from Debian, each with its own libraries: `python -m testbed fetch [name ...]`.

A bundle lives in `.testbed/<name>/root`. Its programs run through the dynamic loader that came with them, so
they need nothing of the machine's own libraries, and neither root nor an installation.
"""

import dataclasses
import functools
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.apt import Apt, FetchError, debian_source, unpack
from testbed.folders import locked, private_folder

__all__ = ["RECIPES", "SERVERS", "Bundle", "FetchError", "bundle", "fetch"]

# Raised when bundles are laid out otherwise, so that old ones are fetched again.
FORMAT = 1
STAMP = "complete.json"
LOADERS = {
    "x86_64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "aarch64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a bundle is made of."""

    suite: str
    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()  # packages of which only the files are wanted, not what they depend on
    installed: str | None = None  # a program that serves as well when the machine has it


# mariadb-server carries auth_ed25519 and its kin, mariadb-client the dump and binlog tools; what they
# depend on (perl, galera, ...) is for scripts that nobody runs here.
RECIPES = {
    "mysql-9.7": Recipe("sid", ("mysql-server-core", "mysql-client-core")),
    "mariadb-10.11": Recipe(
        "bookworm", ("mariadb-server-core", "mariadb-client-core"), ("mariadb-server", "mariadb-client")
    ),
    "mariadb-11.8": Recipe("sid", ("mariadb-server-core", "mariadb-client-core"), ("mariadb-server", "mariadb-client")),
    "stunnel": Recipe("sid", ("stunnel4",)),
    "haproxy": Recipe("sid", ("haproxy",)),
    "suricata": Recipe("sid", ("suricata",)),
    "openssl": Recipe("bookworm", ("openssl",), installed="openssl"),
    "iproute2": Recipe("bookworm", ("iproute2",), installed="ip"),
    # For the status pages, with faces of its own, so that pictures are the same everywhere.
    "chromium": Recipe("bookworm", ("chromium-headless-shell", "fonts-inter", "fonts-jetbrains-mono")),
    # Debian 12's and the newest service manager, for the units in deploy/systemd.
    "systemd": Recipe("bookworm", ("systemd",), installed="systemd-analyze"),
    "systemd-sid": Recipe("sid", ("systemd",)),
    # Go programs need the C library and nothing else. amtool comes with Alertmanager; sid packs promtool apart.
    "prometheus": Recipe("bookworm", ("libc6",), ("prometheus",)),
    "prometheus-sid": Recipe("sid", ("libc6",), ("prometheus", "promtool")),
    "alertmanager": Recipe("bookworm", ("libc6",), ("prometheus-alertmanager",)),
    "alertmanager-sid": Recipe("sid", ("libc6",), ("prometheus-alertmanager",)),
    "docker-compose": Recipe("sid", ("libc6",), ("docker-compose",)),
    # Whose traffic the monitor must not take for MySQL's. The server of PostgreSQL without its compiler and Perl.
    "redis": Recipe("bookworm", ("redis-server", "redis-tools")),
    "postgresql": Recipe(
        "bookworm",
        ("libicu72", "libldap-2.5-0", "liblz4-1", "libpam0g", "libpq5", "libreadline8", "libsystemd0", "libxml2"),
        ("postgresql-15", "postgresql-client-15"),
    ),
    # Builds container images. It starts itself anew, so that it runs without the loader, with the libraries beside it.
    "buildah": Recipe(
        "bookworm",
        ("libc6",),
        ("buildah", "libassuan0", "libdevmapper1.02.1", "libgpg-error0", "libgpgme11", "libseccomp2", "libudev1"),
    ),
    # What stands for the images that ours are built on: Debian 12, and distroless Python, made of its packages.
    "debian-12-build": Recipe(
        "bookworm", ("bash", "ca-certificates", "coreutils", "dash", "findutils", "libcap2-bin", "python3-venv")
    ),
    "debian-12-python": Recipe("bookworm", ("base-files", "ca-certificates", "netbase", "python3", "tzdata")),
}
SERVERS = ("mysql-9.7", "mariadb-10.11", "mariadb-11.8")


class Bundle:
    """Programs and their libraries under `root`; `root` None stands for the machine's own."""

    def __init__(self, name: str, root: Path | None) -> None:
        self.name = name
        self.root = root

    def command(self, program: str) -> list[str]:
        """The first words of a command that runs `program`.

        Raises:
            FetchError: the bundle has no such program.
        """
        if self.root is None:
            path = _installed(program)
            if path is None:
                raise FetchError(f"{program} is not installed")
            return [path]
        loader, libraries = self._loader
        return [loader, "--library-path", libraries, str(self.program(program))]

    def program(self, program: str) -> Path:
        """The path of a program's file, which does not run without the loader: see `command`."""
        return self.path(*(f"{folder}/{program}" for folder in ("usr/sbin", "usr/bin", "sbin", "bin")))

    def path(self, *candidates: str) -> Path:
        """The first of the paths, relative to the bundle's root, that exists.

        Raises:
            FetchError: none does.
        """
        root = self.root or Path("/")
        for candidate in candidates:
            if (root / candidate).exists():
                return root / candidate
        raise FetchError(f"the bundle {self.name} has no {candidates[0]}")

    def fingerprint(self) -> str:
        """Differs when the bundle's packages do; empty for the machine's own programs."""
        if self.root is None:
            return ""
        return hashlib.sha256((self.root.parent / STAMP).read_bytes()).hexdigest()[:16]

    @functools.cached_property
    def _loader(self) -> tuple[str, str]:
        """The dynamic loader, and the folders with libraries joined by colons."""
        triplet, loader = self._loader_names
        roots = self._library_folders(triplet)
        nested = {path.parent for folder in roots for path in folder.glob("*/lib*.so*")}
        libraries = ":".join(str(path) for path in [*roots, *sorted(nested)])
        return str(self.path(f"usr/lib/{triplet}/{loader}", f"lib/{triplet}/{loader}")), libraries

    def libraries(self) -> list[Path]:
        """The files of all shared libraries; of one name the first is meant."""
        triplet, _ = self._loader_names
        patterns = ("lib*.so*", "*/lib*.so*")
        folders = self._library_folders(triplet)
        return [path for folder in folders for pattern in patterns for path in sorted(folder.glob(pattern))]

    @property
    def _loader_names(self) -> tuple[str, str]:
        """The folder of this machine's libraries, and the loader's file."""
        machine = platform.machine()
        if machine not in LOADERS:
            raise FetchError(f"the test bed knows no dynamic loader for {machine}: it runs on {' and '.join(LOADERS)}")
        return LOADERS[machine]

    def _library_folders(self, triplet: str) -> list[Path]:
        root = self.root or Path("/")
        return [path for path in (root / "usr/lib" / triplet, root / "lib" / triplet) if path.is_dir()]


def bundle(name: str) -> Bundle:
    """The bundle of that name, fetched now if it is not there yet.

    Raises:
        FetchError: no such bundle, or it cannot be had.
    """
    if name not in RECIPES:
        raise FetchError(f"there is no bundle {name!r}; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    if recipe.installed is not None and _installed(recipe.installed):
        return Bundle(name, None)
    if not _is_complete(name):
        fetch([name])
    return Bundle(name, private_folder() / name / "root")


def fetch(names: Sequence[str], report: Callable[[str], None] = lambda _line: None) -> None:
    """Bring bundles into the private folder; those that are complete cost nothing.

    Args:
        names: bundles of `RECIPES`.
        report: is told each step, a line of text at a time.

    Raises:
        FetchError: what happened and what to do.
    """
    folder = private_folder()
    with locked(folder / "fetch.lock"):
        apts: dict[str, Apt] = {}
        for name in names:
            recipe = RECIPES[name]
            if recipe.installed is not None and _installed(recipe.installed):
                report(f"{name}: the machine has {recipe.installed}")
            elif _is_complete(name):
                report(f"{name}: complete")
            else:
                if recipe.suite not in apts:
                    source = debian_source()
                    report(f"{name}: reading the package lists of {recipe.suite} from {source.uri}")
                    apts[recipe.suite] = Apt(folder / "apt" / recipe.suite, recipe.suite, source)
                    apts[recipe.suite].update()
                _fetch_one(name, recipe, apts[recipe.suite], report)
        for apt in apts.values():
            apt.clean()


def _fetch_one(name: str, recipe: Recipe, apt: Apt, report: Callable[[str], None]) -> None:
    started = time.monotonic()
    report(f"{name}: downloading {', '.join(recipe.packages)} and what they need")
    archives = apt.download(recipe.packages, recipe.alone)
    # Unpacked beside its place and renamed when whole: after an interruption nothing looks complete.
    growing = private_folder() / f"{name}.incomplete"
    for stale in (growing, private_folder() / name):
        if stale.exists():
            shutil.rmtree(stale)
    (growing / "root").mkdir(parents=True)
    report(f"{name}: unpacking {len(archives)} packages")
    for archive in archives:
        unpack(archive, growing / "root")
    _share_client_plugins(growing / "root")
    stamp = {"recipe": _fingerprint(recipe), "packages": sorted(path.name for path in archives)}
    (growing / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")
    growing.rename(private_folder() / name)
    report(f"{name}: complete after {time.monotonic() - started:.0f} s")


def _share_client_plugins(root: Path) -> None:
    """Let a MariaDB replica find the plugins it logs in with.

    Debian 12 keeps MariaDB's client plugins where only clients look; a replica looks in the server's folder.
    """
    plugins = root / "usr/lib/mysql/plugin"
    for path in root.glob("usr/lib/*/libmariadb3/plugin/*.so"):
        if not (plugins / path.name).exists():
            shutil.copy2(path, plugins)


def _is_complete(name: str) -> bool:
    try:
        stamp = json.loads((private_folder() / name / STAMP).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return bool(stamp["recipe"] == _fingerprint(RECIPES[name]))


def _fingerprint(recipe: Recipe) -> str:
    return hashlib.sha256(f"{FORMAT} {recipe}".encode()).hexdigest()[:16]


def _installed(program: str) -> str | None:
    # An ordinary user's PATH has no sbin folders, and `ip` lives there.
    return shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
