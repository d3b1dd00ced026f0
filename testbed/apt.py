"""Debian packages in a private folder: apt with its own state, nothing of the system touched.

The mirror and its keyring are those that the machine's own apt sources name; only the suite differs. apt
verifies signatures and hashes as always. The list of installed packages is empty for it, so that a package
comes with its whole closure, the C library included, and runs on a machine whose own libraries are older.
"""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

SUITES = {
    "oldoldstable", "oldstable", "stable", "testing", "unstable", "sid",
    "bullseye", "bookworm", "trixie", "forky", "duke",
}  # fmt: skip

# Of the machine's apt configuration only this is taken over: how to reach the mirror, and leniency about the
# clock. The rest (hooks after an update, sandbox users) would reach outside the private folder.
KEPT_OPTIONS = re.compile(r"Acquire::(https?|ftp|Retries|ForceIPv[46]|Check-Date)\b", re.IGNORECASE)


class FetchError(Exception):
    """Something could not be brought here; the text says what to do about it."""


@dataclasses.dataclass(frozen=True)
class Source:
    """One apt source: `signed_by` is a keyring's path or an inline key, None for apt's trusted keyrings."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str | None

    def in_suite(self, suite: str) -> str:
        """The deb822 stanza for the same mirror and another suite."""
        stanza = f"Types: deb\nURIs: {self.uri}\nSuites: {suite}\nComponents: main\n"
        if self.signed_by is not None:
            stanza += f"Signed-By: {self.signed_by}\n"
        return stanza


def parse_deb822(text: str) -> Iterator[Source]:
    """The sources of a `.sources` file; disabled ones and `deb-src` are left out."""
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for paragraph in re.split(r"\n\s*\n", uncommented):
        fields = {
            key.lower(): value.strip()
            for key, value in re.findall(r"^([\w-]+):(.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE)
        }
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in {
            "no",
            "false",
        }:
            continue
        signed_by = fields.get("signed-by")
        if signed_by is not None and signed_by.startswith("-----BEGIN"):
            signed_by = "\n " + signed_by  # an inline key is a continued field: keep its indentation
        for uri in fields.get("uris", "").split():
            yield Source(
                uri,
                tuple(fields.get("suites", "").split()),
                tuple(fields.get("components", "").split()),
                signed_by,
            )


def parse_one_line(text: str) -> Iterator[Source]:
    """The sources of a `.list` file: `deb [options] uri suite component...`."""
    for line in text.splitlines():
        match = re.match(
            r"deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>[^#]*)", line
        )
        if match:
            options = dict(option.split("=", 1) for option in (match["options"] or "").split() if "=" in option)
            signed_by = options.get("signed-by")
            yield Source(match["uri"], (match["suite"],), tuple(match["components"].split()), signed_by)


def debian_source(folder: Path = Path("/etc/apt")) -> Source:
    """The machine's Debian archive.

    Raises:
        FetchError: no source under `folder` looks like a Debian archive.
    """
    sources: list[Source] = []
    for path in sorted(folder.glob("sources.list.d/*.sources")):
        sources += parse_deb822(path.read_text())
    for path in [folder / "sources.list", *sorted(folder.glob("sources.list.d/*.list"))]:
        if path.exists():
            sources += parse_one_line(path.read_text())
    fitting = [
        source for source in sources
        if SUITES.intersection(source.suites) and "main" in source.components
    ]  # fmt: skip
    if not fitting:
        raise FetchError(
            f"no Debian archive (component main) is named in sources.list or sources.list.d of {folder}: "
            "the servers come from Debian, so run this on Debian or in a Debian container, with an apt source"
        )

    # Third parties also publish a suite named like Debian's, with a component main.
    def unlikeliness(source: Source) -> int:
        if "debian-archive" in (source.signed_by or ""):
            return 0
        return 1 if source.uri.rstrip("/").endswith("debian") else 2

    return min(fitting, key=unlikeliness)


class Apt:
    """apt for one suite, with its state in `folder`."""

    def __init__(self, folder: Path, suite: str, source: Source) -> None:
        self._folder = folder
        self._archives = folder / "cache" / "archives"
        self._configuration = folder / "apt.conf"
        for needed in ("lists/partial", "cache/archives/partial", "nothing/partial", "log", "sources"):
            (folder / needed).mkdir(parents=True, exist_ok=True)
        for needed in ("status", "nothing.conf"):
            (folder / needed).touch()
        (folder / "sources" / "debian.sources").write_text(source.in_suite(suite))
        self._nowhere = folder / "nothing"
        architecture = _output(["dpkg", "--print-architecture"]).strip()
        kept = [line for line in _output(["apt-config", "dump"]).splitlines() if KEPT_OPTIONS.match(line)]
        options = {
            "Dir::State": folder,
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Log": folder / "log",
            "Dir::Etc::main": folder / "nothing.conf",
            "Dir::Etc::parts": folder / "nothing",
            "Dir::Etc::sourcelist": folder / "nothing.conf",
            "Dir::Etc::sourceparts": folder / "sources",
            "Dir::Etc::preferences": folder / "nothing.conf",
            "Dir::Etc::preferencesparts": folder / "nothing",
            "APT::Architecture": architecture,
            "APT::Install-Recommends": "false",
            "APT::Immediate-Configure": "false",
            "APT::Sandbox::User": "root",  # apt's own user may not enter a private folder
            "Acquire::Languages": "none",
            "Acquire::Check-Valid-Until": "false",  # a frozen mirror's lists outlive their date
        }
        lines = [*kept, f'APT::Architectures {{ "{architecture}"; }};']
        lines += [f'{name} "{value}";' for name, value in options.items()]
        self._configuration.write_text("\n".join(lines) + "\n")

    def update(self) -> None:
        """Bring the suite's package lists up to date."""
        # Without the option apt-get reports a list that could not be had and still exits with 0.
        self._run("update", "-qq", "-o", "APT::Update::Error-Mode=any")

    def download(self, packages: Sequence[str], alone: Sequence[str] = ()) -> list[Path]:
        """Download packages with all that they depend on, and those of `alone` without; apt verifies."""
        archives = self._listed("install", packages)
        self._run("install", "-y", "-qq", "--download-only", *packages)
        if alone:
            archives += self._listed("download", alone)
            self._run("download", "-qq", *alone)
        return [self._archives / name for name in archives]

    def clean(self) -> None:
        """Delete the lists and the downloaded archives."""
        shutil.rmtree(self._folder)

    def _listed(self, command: str, packages: Sequence[str]) -> list[str]:
        """The file names of what apt would download if nothing were there yet."""
        nothing_there = f"Dir::Cache::archives={self._nowhere}"
        lines = self._run(command, "--print-uris", "-y", "-qq", "-o", nothing_there, *packages).splitlines()
        return [shlex.split(line)[1] for line in lines if line.startswith("'")]

    def _run(self, *arguments: str) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._configuration), "LC_ALL": "C"}
        return _output(["apt-get", *arguments], environment=environment, folder=self._archives)


def unpack(archive: Path, folder: Path) -> None:
    """Extract a Debian package; none of its scripts runs."""
    _output(["dpkg-deb", "--extract", str(archive), str(folder)])


def _output(command: Sequence[str], *, environment: dict[str, str] | None = None, folder: Path | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise FetchError(f"{command[0]} is not installed: the servers come from Debian packages, run this on Debian")
    result = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        said = (result.stderr or result.stdout).strip()
        raise FetchError(f"{shlex.join(command)} failed with exit status {result.returncode}:\n{said}")
    return result.stdout
