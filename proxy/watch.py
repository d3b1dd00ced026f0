"""Notices that a file has changed, however it was: written in place, renamed over, a symlink swapped on the way.

By looking, not by inotify: what is looked at is where each path leads now (Kubernetes swaps a `..data` symlink two
levels up), and looking needs no limit raised and works on every file system.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

Signature = tuple[tuple[str, int, int, int], ...]


def signature_of(paths: Iterable[Path]) -> Signature:
    """What differs if a file, or what is in a folder, may have changed: where the path leads, inode, size, time."""
    return tuple(entry for path in paths for entry in _entries(path))


def _entries(path: Path) -> list[tuple[str, int, int, int]]:
    try:
        where = path.resolve()
        status = where.stat()
        found = [(str(where), status.st_ino, status.st_size, status.st_mtime_ns)]
        if where.is_dir():
            for inner in sorted(where.iterdir()):
                found.extend(_entries(inner))
    except OSError as error:
        return [(str(path), -(error.errno or 1), 0, 0)]
    return found
