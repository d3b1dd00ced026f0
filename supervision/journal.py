"""Log lines for the journal, which takes a level in front of each: sd-daemon(3)."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

# LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERR of syslog(3)
_PREFIXES = {logging.DEBUG: "<7>", logging.INFO: "<6>", logging.WARNING: "<4>", logging.ERROR: "<3>"}


def for_journal(formatter: logging.Formatter, environment: Mapping[str, str] = os.environ) -> logging.Formatter:
    """A formatter for standard error: with the levels if that is the journal, which takes them off again."""
    return _PrefixedFormatter(formatter) if _is_journal(environment.get("JOURNAL_STREAM", "")) else formatter


def _is_journal(stream: str) -> bool:
    """Whether JOURNAL_STREAM, device and inode, is standard error still: it may have been redirected since."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


class _PrefixedFormatter(logging.Formatter):
    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        # Each line is an entry of its own.
        prefix = _PREFIXES.get(record.levelno, "<6>")
        return "\n".join(f"{prefix}{line}" for line in self._inner.format(record).split("\n"))
