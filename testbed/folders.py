"""Where the test bed keeps what it brings, and how two processes share it."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def private_folder() -> Path:
    """The private folder: `BINLOCK_TESTBED_DIR` when it is set, else `.testbed` in the checkout."""
    named = os.environ.get("BINLOCK_TESTBED_DIR")
    return Path(named).resolve() if named else CHECKOUT / ".testbed"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file between processes (and threads); waits as long as it takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
