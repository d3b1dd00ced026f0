"""The proxy's log: `log_event` for what happens, `log_defect` for what must not."""

from __future__ import annotations

from supervision.logs import EventLog

_log = EventLog("binlock.proxy")
logger, set_up_logging, log_event, log_defect = _log.logger, _log.set_up, _log.event, _log.defect
