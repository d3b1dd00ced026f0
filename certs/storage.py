"""Files that are either wholly there or not there at all, with their mode set before their content.

Every write goes to a temporary file beside its target, is synced, and then takes the target's name in one
step: by rename where replacing is meant, by hard link where it is not, because a link fails when the name is
taken and a rename does not. The folder is synced last, so that a power cut cannot undo what was reported as
done. A process that is killed leaves at most a temporary file, which the next run that writes to the folder
removes, under the folder's lock.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from certs.errors import CertsError

MODE_AUTHORITY_KEY = 0o400  # nobody edits it, so nobody can overwrite it by accident
MODE_KEY = 0o600
MODE_PUBLIC = 0o644
MODE_AUTHORITY_FOLDER = 0o700
MODE_FOLDER = 0o755

# The longest revocation lists have some tens of millions of bytes.
_MOST_BYTES = 1 << 27
_LEFTOVERS = ".binlock-*.tmp"


def create_file(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that is not there yet; an existing one is an error and stays as it is."""
    with _complete_temporary(path, content, mode) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise CertsError(f"{path} exists and is never overwritten: move it away first") from None
        temporary.unlink()


def replace_file(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file, in place of the former one if there is one. Readers see the old content or the new."""
    with _complete_temporary(path, content, mode) as temporary:
        temporary.replace(path)


def keep_aside(path: Path, aside: Path) -> None:
    """Give a file a second name, so that replacing it loses nothing; one that is kept already stays as it is."""
    try:
        os.link(path, aside)
        _sync_folder(path.parent)
    except FileExistsError:
        return
    except OSError as exc:
        raise CertsError(f"cannot keep {path} as {aside}: {_reason(exc)}") from exc


def is_taken(path: Path) -> bool:
    """Whether anything bears this name, even a dangling link. For a better text: `create_file` decides."""
    return os.path.lexists(path)


def read_file(path: Path) -> bytes:
    """The file's bytes, of a file that ends."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as exc:
        raise CertsError(f"cannot read {path}: {_reason(exc)}") from exc
    if len(content) > _MOST_BYTES:
        raise CertsError(f"{path} is longer than any certificate, list or key: look whether it is the right file")
    return content


def make_folder(path: Path, *, mode: int) -> None:
    """Make a folder and those above it unless it is there; an existing one keeps its mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode, exist_ok=True)
    except OSError as exc:
        raise CertsError(f"cannot make the folder {path}: {_reason(exc)}; choose another place") from exc


def verify_secret_mode(path: Path) -> None:
    """Raise if a private key is open to anyone but its owner."""
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as exc:
        raise CertsError(f"cannot read {path}: {_reason(exc)}") from exc
    if mode & 0o077:
        raise CertsError(
            f"{path} is open to other accounts (mode {mode:04o}): consider who may have read it, then `chmod 0400` it"
        )


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the folder against every other `binlock-certs`; waits, since each of them is brief.

    The lock is on the folder itself: no lock file to go stale, and the kernel drops it when a process dies.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise CertsError(f"cannot open the folder {folder}: {_reason(exc)}") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as exc:
            raise CertsError(f"cannot lock {folder}: {_reason(exc)}; keep it on a local file system") from exc
        for leftover in folder.glob(_LEFTOVERS):
            with suppress(OSError):
                leftover.unlink()
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _complete_temporary(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """A synced file with mode and content, for the body to give its name; then the folder is synced."""
    temporary = path.parent / f".binlock-{token_hex(8)}.tmp"
    try:
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)  # whatever the umask took away
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            yield temporary
            _sync_folder(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()
    except OSError as exc:
        raise CertsError(
            f"cannot write {path}: {_reason(exc)}; check that its folder is there, writable and not full"
        ) from exc


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
