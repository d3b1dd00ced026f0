"""The interfaces that are watched: what is wanted of one, what the kernel said of it, what it had better skip."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from monitor.reporting.logs import log_event
from monitor.segments import reversed_key
from monitor.tracking.settled import SettledDirection, SettledDirections

_RECENTLY_SECONDS = 60

Take = Callable[[bytes, int, float, int], object]


class Capture(Protocol):
    """One interface, as `monitor.capture.interfaces.InterfaceCapture` is one.

    Attributes:
        name: of the interface.
        is_up: whether packets can come.
        errors: how many packets were lost to an exception.
    """

    name: str
    is_up: bool
    errors: int

    def open(self) -> None:
        """Opens the socket; needs the privilege."""

    def close(self) -> None:
        """Closes it."""

    def fileno(self) -> int:
        """To wait on."""

    def drain(self, take: Take, most: int) -> int:
        """Hands on at most so many packets that wait; returns how many."""

    def poll(self, now_seconds: float) -> None:
        """Looks whether the interface is there and up, and begins again where it was not."""

    def statistics(self) -> tuple[int, int]:
        """Packets since the start that were let through, and that were dropped because they were not fetched."""

    def retriage(self, settled_keys: Sequence[bytes], with_openings: bool) -> int:
        """Replaces the kernel's filter; returns how many keys it had room for."""


class Watched:
    """One interface, with what the kernel said of its packets."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.packets = 0
        self.dropped = 0
        self.was_up: bool | None = None
        self._dropped_seconds = float("-inf")

    def is_dropping(self, now_seconds: float) -> bool:
        """Whether packets were dropped within the last minute."""
        return now_seconds - self._dropped_seconds < _RECENTLY_SECONDS

    def look(self, now_seconds: float) -> None:
        """Takes over what has changed, and logs it; to be called about once a second."""
        capture = self.capture
        capture.poll(now_seconds)
        if capture.is_up is not self.was_up:
            self.was_up = capture.is_up
            log_event(
                logging.INFO if capture.is_up else logging.ERROR,
                "capture_up" if capture.is_up else "capture_down",
                interface=capture.name,
            )
        self.packets, dropped_total = capture.statistics()
        dropped, self.dropped = dropped_total - self.dropped, dropped_total
        if dropped > 0:
            self._dropped_seconds = now_seconds
            log_event(
                logging.WARNING,
                "packets_dropped",
                interface=capture.name,
                packets=dropped,
                detail="verdicts may be late or incomplete; a larger --buffer-mib holds longer bursts",
            )


def busiest(settled: SettledDirections, most: int) -> list[bytes]:
    """The keys of the directions that the kernel had better skip: both directions of the flows that move most.

    Bytes tell that and packets do not, for of what the kernel skips already only a sample is counted. Flows at rest
    stand behind.
    """
    entries = list(settled.values())
    newest_seconds = max((entry.last_seconds for entry in entries), default=0.0)

    def weight(entry: SettledDirection) -> tuple[bool, int]:
        answer = settled.get(reversed_key(entry.key))
        return newest_seconds - entry.last_seconds < _RECENTLY_SECONDS, entry.bytes + (answer.bytes if answer else 0)

    return [entry.key for entry in heapq.nlargest(most, entries, key=weight)]
