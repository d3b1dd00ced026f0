"""Structured log lines on standard error: one event a line, JSON for programs or key=value for people."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

from supervision.journal import for_journal

logger = logging.getLogger("binlock.monitor")


def set_up_logging(level: str, style: Literal["json", "text"]) -> None:
    """Sends the log to standard error, from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(for_journal(_JsonFormatter() if style == "json" else _TextFormatter()))
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def log_event(level: int, event: str, /, **fields: Any) -> None:
    """Writes one line.

    Args:
        level: of `logging`.
        event: a stable name, such as `flow_found`.
        fields: what a search would look for; never a password, a scramble, SQL or rows.
    """
    logger.log(level, event, extra={"fields": fields})


def log_defect(error: BaseException, /, **fields: Any) -> None:
    """Writes one line with a traceback, for what must not happen."""
    logger.error("defect", extra={"fields": fields}, exc_info=error)


def log_packet_defect(error: Exception) -> None:
    """Writes one line with a traceback for a packet that this program failed on, at most one a second."""
    if _packet_defects.admits("defect", time.time()):
        log_defect(error)


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


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        pairs = " ".join(f"{name}={_quoted(value)}" for name, value in _flat(_fields(record)))
        line = f"{_time(record)} {record.levelname.lower():7} {record.getMessage()} {pairs}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _flat(fields: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", shown) for inner, shown in value.items())
        else:
            yield name, "; ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _quoted(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return json.dumps(text) if not text or any(c in text for c in ' "=\n') or not text.isprintable() else text
