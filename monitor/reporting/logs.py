"""The monitor's log: `log_event` for what happens, `log_defect` for what must not; and how many lines there may be."""

from __future__ import annotations

import time
from collections import Counter

from supervision.logs import EventLog

_log = EventLog("binlock.monitor")
logger, set_up_logging, log_event, log_defect = _log.logger, _log.set_up, _log.event, _log.defect


class Allowance:
    """How many lines of a kind may be written in a second; what is over is counted."""

    def __init__(self, most_a_second: int) -> None:
        self._most = most_a_second
        self._second = 0
        self._written = 0
        self.suppressed: Counter[str] = Counter()
        self.suppressed_total = 0

    def admits(self, event: str, now_seconds: float) -> bool:
        """Whether another line may be written now."""
        if int(now_seconds) != self._second:
            self._second = int(now_seconds)
            self._written = 0
        if self._written < self._most:
            self._written += 1
            return True
        self.suppressed[event] += 1
        self.suppressed_total += 1
        return False

    def settle(self) -> dict[str, int]:
        """How many lines of each event were suppressed since this was last asked."""
        counted = dict(self.suppressed)
        self.suppressed.clear()
        return counted


_packet_defects = Allowance(1)


def log_packet_defect(error: Exception) -> None:
    """Writes one line with a traceback for a packet that this program failed on, at most one a second."""
    if _packet_defects.admits("defect", time.time()):
        log_defect(error)
