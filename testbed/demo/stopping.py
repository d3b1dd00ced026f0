"""Ctrl-C and SIGTERM: at once while things start, in order while the load runs, and at once when asked twice."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Self

# One Ctrl-C can arrive twice: `timeout` signals its child and then the group that the child is in.
SAME_REQUEST_SECONDS = 1.0
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class Interrupted(BaseException):
    """Asked to stop while there is nothing to show yet; not an `Exception`, so that nothing takes it for a fault."""


class Stopping:
    """Handles both signals while entered.

    Attributes:
        in_order: whether a request is only noted, for whoever watches `requested`; otherwise it raises
            `Interrupted` in the main thread.
        requested: set once asked.
    """

    def __init__(self) -> None:
        self.in_order = False
        self.requested = threading.Event()
        self._asked_at = 0.0
        self._former: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)  # type: ignore[arg-type]

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested.is_set():
            if now - self._asked_at > SAME_REQUEST_SECONDS:
                # The kernel ends every program and host that was started here together with this process.
                os._exit(EXIT_INTERRUPTED)
            return
        self._asked_at = now
        self.requested.set()
        if not self.in_order:
            # Servers on their way up are waited for, some seconds: nobody should wonder whether the key was seen.
            os.write(2, b"\ndemo: stopping\n")
            raise Interrupted
