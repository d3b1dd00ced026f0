"""A service's log on standard error: one event a line, JSON for programs or key=value for people."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

from supervision.journal import for_journal


class EventLog:
    """One service's log.

    Attributes:
        logger: to which its lines go.
    """

    def __init__(self, name: str) -> None:
        self.logger = logging.getLogger(name)

    def set_up(self, level: str, style: Literal["json", "text"]) -> None:
        """Sends the log to standard error, from `level` on."""
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(for_journal(JsonFormatter() if style == "json" else TextFormatter()))
        self.logger.handlers[:] = [handler]
        self.logger.setLevel(level.upper())
        self.logger.propagate = False

    def event(self, level: int, event: str, /, **fields: Any) -> None:
        """Writes one line.

        Args:
            level: of `logging`.
            event: a stable name, such as `session_refused`.
            fields: what a search would look for; never a password, a scramble, SQL or rows.
        """
        self.logger.log(level, event, extra={"fields": fields})

    def defect(self, error: BaseException, /, **fields: Any) -> None:
        """Writes one line with a traceback, for what must not happen."""
        self.logger.error("defect", extra={"fields": fields}, exc_info=error)


class JsonFormatter(logging.Formatter):
    """A line is an object, its values as they are."""

    def format(self, record: logging.LogRecord) -> str:
        """As in `logging`."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """A line is time, level, event, then key=value; what could be read in two ways is in quotes, as JSON has them."""

    def format(self, record: logging.LogRecord) -> str:
        """As in `logging`."""
        pairs = " ".join(f"{name}={_quoted(value)}" for name, value in _flat(_fields(record)))
        line = f"{_time(record)} {record.levelname.lower():7} {record.getMessage()} {pairs}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


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
