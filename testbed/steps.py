"""The steps of a Containerfile for an ordinary user: buildah cannot RUN anything for one whose user ids are not mapped.

No more than the steps that make files, in the forms that our definition has: ARG, ENV, WORKDIR, COPY and RUN.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

# Runs as root of a user namespace: the machine's devices and what it trusts, in the files of a stage.
ENTER = """
root=$1; shift
for path in /dev /proc /etc/ssl/certs; do mount --rbind "$path" "$root$path" || exit; done
exec chroot "$root" "$@"
"""


class StepError(Exception):
    """A step failed; the text has what it said."""


def carry_out(
    definition: Path, bases: Mapping[str, Path], targets: Sequence[str], context: Path, folder: Path
) -> dict[str, Path]:
    """The files of each target.

    Args:
        definition: a Containerfile.
        bases: by the names of the images that it starts from, their files.
        targets: the stages that are wanted.
        context: a folder whose `.dockerignore` says `*` and then what is not ignored.
        folder: where the stages are made.

    Raises:
        StepError: a step failed, or is of a form that is not known here.
    """
    text = re.sub(r"^#.*\n", "", definition.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    roots: dict[str, Path] = {}
    images: dict[str, str] = {}
    stage: _Stage | None = None
    for line in filter(None, text.splitlines()):
        name, _, words = line.partition(" ")
        if name == "FROM":
            base, _, title = words.partition(" AS ")
            base = Template(base).substitute(images)
            stage = _Stage(folder / title, stage_of(base, roots, bases), roots, context)
            roots[title] = stage.root
        elif stage is None:
            title, _, image = words.partition("=")
            images[title] = image
        else:
            stage.take(name, words)
    return {target: roots[target] for target in targets}


def stage_of(base: str, roots: Mapping[str, Path], bases: Mapping[str, Path]) -> Path:
    """The files that a stage starts from."""
    return roots[base] if base in roots else bases[base]


class _Stage:
    def __init__(self, root: Path, base: Path, roots: Mapping[str, Path], context: Path) -> None:
        self.root = root
        self._roots = roots
        self._context = context
        self._folder = "/"
        self._environment: dict[str, str] = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin"}
        shutil.copytree(base, root, symlinks=True)
        root.chmod(0o755)
        if (root / "bin/sh").exists():
            shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")

    def take(self, name: str, words: str) -> None:
        """One step; those that make no files are passed over."""
        steps = {
            "ARG": self.declare,
            "ENV": self.set_variables,
            "WORKDIR": self.change_folder,
            "COPY": self.copy,
            "RUN": self.run,
        }
        if name in steps:
            steps[name](words)

    def declare(self, words: str) -> None:
        name, _, value = words.partition("=")
        self._environment[name] = os.environ.get(name, value)

    def set_variables(self, words: str) -> None:
        self._environment |= dict(pair.split("=", 1) for pair in words.split())

    def change_folder(self, words: str) -> None:
        self._folder = words
        (self.root / words.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def copy(self, words: str) -> None:
        *options, source, target = words.split()
        place = (self.root / self._folder[1:] / target.lstrip("/")) if target == "." else self.root / target.lstrip("/")
        if options:
            origin = self._roots[options[0].removeprefix("--from=")]
            shutil.copytree(origin / source.lstrip("/"), place, symlinks=True, dirs_exist_ok=True)
            return
        for path in self._sent():
            if source == "." or path.match(source):
                inside = path if source == "." else Path(path.name)
                (place / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self._context / path, place / inside)

    def _sent(self) -> list[Path]:
        """What of the context is not ignored."""
        lines = (self._context / ".dockerignore").read_text().splitlines()
        allowed = [self._context / line[1:] for line in lines if line.startswith("!")]
        files = [file for path in allowed for file in ([path] if path.is_file() else path.rglob("*"))]
        return [file.relative_to(self._context) for file in files if file.is_file() and "__pycache__" not in file.parts]

    def run(self, words: str) -> None:
        environment = [f"{key}={value}" for key, value in self._environment.items()]
        inside = ["/usr/bin/env", "-i", f"--chdir={self._folder}", *environment, "/bin/sh", "-c", words]
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ENTER, "sh", str(self.root), *inside]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StepError(f"{shlex.quote(words)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
