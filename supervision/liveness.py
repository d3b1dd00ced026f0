"""Signs of life: the parts of a service give theirs where their work is done, and the manager gets one while all do."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from supervision.notifier import Notifier

_STATUS_SECONDS = 5


class Pulse:
    """When each part of a service was last seen at work."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beats: dict[str, float] = {}

    def beat(self, part: str) -> None:
        """This part is at work; from the first time on it has to be."""
        self._beats[part] = self._clock()

    def silent(self, within_seconds: float) -> list[str]:
        """The parts that were not seen at work for so long."""
        since = self._clock() - within_seconds
        return [part for part, beat in self._beats.items() if beat < since]


async def keep_telling(
    notifier: Notifier, pulse: Pulse, status: Callable[[], str], on_silence: Callable[[list[str]], None]
) -> None:
    """Tells the manager what is new, and that the service lives, until it is cancelled.

    It is told from the event loop, and only while every part is at work; so a loop that is stuck tells nothing.

    Args:
        notifier: the way to the manager.
        pulse: of the parts.
        status: one line for people.
        on_silence: called with the parts because of which no sign of life was given.
    """
    if not notifier.is_wanted:
        return
    # sd_watchdog_enabled(3) asks for a sign each half of the time.
    watchdog_seconds = notifier.watchdog_seconds
    pause_seconds = _STATUS_SECONDS if watchdog_seconds is None else min(_STATUS_SECONDS, watchdog_seconds / 2)
    while True:
        notifier.status(status())
        if watchdog_seconds is not None:
            silent = pulse.silent(watchdog_seconds / 2)
            if silent:
                on_silence(silent)
            else:
                notifier.alive()
        await trio.sleep(pause_seconds)
