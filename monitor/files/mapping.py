"""A file mapped into memory: of large packets no more than the headers are ever fetched.

Whoever reads a mapped file that somebody else cuts short is killed by the kernel (SIGBUS, mmap(2)). A ring of capture
files does that to its oldest. So a file is mapped only under a read lease (fcntl(2), "Leases"): there is none while
somebody writes, and whoever wants to write waits until it is given back. Where there is no lease to be had, the file is
read as any other.
"""

import fcntl
import mmap
import os
import signal
import stat
from typing import BinaryIO

# How long a writer waits is the time that a window takes.
_WINDOW_BYTES = 8 << 20


class Mapping:
    """A file that may be mapped, for as long as nobody wants to write to it."""

    def __init__(self, file: BinaryIO) -> None:
        """Takes the lease.

        Raises:
            OSError: there is none to be had.
        """
        self._descriptor = file.fileno()
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("no regular file")
        # That somebody waits is asked, not told: the signal that tells is one that does nothing.
        fcntl.fcntl(self._descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        self._size = os.fstat(self._descriptor).st_size

    def is_wanted(self) -> bool:
        """Whether somebody waits for the file, to write to it. Then all windows must go, and the lease."""
        return fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) != fcntl.F_RDLCK

    def give_back(self) -> None:
        """Lets others write. No window may be looked into any more."""
        fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def window(self, start: int, count: int) -> tuple[mmap.mmap, int] | None:
        """A view on the file, and at which of its bytes it begins.

        Args:
            start: of what is wanted.
            count: how much at least, if there is so much.
        """
        if start >= self._size:
            return None
        base = start - start % mmap.ALLOCATIONGRANULARITY
        length = min(max(_WINDOW_BYTES, start - base + count), self._size - base)
        return mmap.mmap(self._descriptor, length, access=mmap.ACCESS_READ, offset=base), base
