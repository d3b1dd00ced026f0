"""Notices that a file has changed, however it was: written in place, renamed over, a symlink swapped on the way.

By looking, not by inotify: what is looked at is where each path leads now (Kubernetes swaps a `..data` symlink two
levels up), and looking needs no limit raised and works on every file system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import trio

_WATCH_SECONDS = 1.0

Signature = tuple[tuple[str, int, int, int], ...]


def signature_of(paths: Iterable[Path]) -> Signature:
    """What differs if a file, or what is in a folder, may have changed: where the path leads, inode, size, time."""
    return tuple(entry for path in paths for entry in _entries(path))


async def watch_files(paths: Sequence[Path], changed: Callable[[], None]) -> None:
    """Calls `changed` when a file has changed and was then left alone for a second; never returns.

    Certificate and key are rarely written in one step.
    """
    seen = candidate = signature_of(paths)
    while True:
        await trio.sleep(_WATCH_SECONDS)
        now = signature_of(paths)
        if now == candidate and now != seen:
            seen = now
            changed()
        candidate = now


def _entries(path: Path) -> list[tuple[str, int, int, int]]:
    # What is in the folders of a folder is not looked at: nothing reads it, and a link may lead in a circle.
    try:
        inner = sorted(path.iterdir()) if path.is_dir() else []
    except OSError as error:
        return [_missing(path, error)]
    return [_entry(path), *map(_entry, inner)]


def _entry(path: Path) -> tuple[str, int, int, int]:
    try:
        where = path.resolve(strict=True)
        status = where.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, until Python 3.13
        return _missing(path, error)
    return str(where), status.st_ino, status.st_size, status.st_mtime_ns


def _missing(path: Path, error: OSError | RuntimeError) -> tuple[str, int, int, int]:
    return str(path), -(getattr(error, "errno", None) or 1), 0, 0
