"""Structured log lines on standard error: one event a line, JSON for programs or key=value for people."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from supervision.journal import for_journal

logger = logging.getLogger("binlock.proxy")


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
        event: a stable name, such as `session_refused`.
        fields: what a search would look for; never a password, a scramble or SQL.
    """
    logger.log(level, event, extra={"fields": fields})


def log_defect(error: BaseException, /, **fields: Any) -> None:
    """Writes one line with a traceback, for what must not happen."""
    logger.error("defect", extra={"fields": fields}, exc_info=error)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        pairs = " ".join(f"{name}={_quoted(value)}" for name, value in _fields(record).items())
        line = f"{time} {record.levelname.lower():7} {record.getMessage()} {pairs}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(c in text for c in ' "=\n') or not text.isprintable() else text
