"""What is made of the flow table's findings: lines in the log and series in the metrics."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass

from monitor.reporting.logs import Allowance, log_event, logger
from monitor.reporting.masking import Masking, host_of
from monitor.reporting.metrics import Metrics
from monitor.reporting.report import flow_fields
from monitor.reporting.status import GonePlaintext
from monitor.tracking.flows import Change
from monitor.verdicts import Flow, Verdict

# Churn of clients must not fill a disk; replication in the clear is written until the log itself would be the flood.
_MOST_LINES_A_SECOND = 20
_MOST_ALARMS_A_SECOND = 500
_QUIET = frozenset({Verdict.UNDECIDED, Verdict.NOT_MYSQL})


@dataclass(slots=True)
class _Known:
    """What was said of a flow last, and where it was seen."""

    verdict: Verdict
    interface: str


class Findings:
    """Takes what the flow table notifies of.

    Attributes:
        interface: whose packets are being looked at; empty where that is not known.
        gone: replication in the clear that is over.
    """

    def __init__(self, masking: Masking, metrics: Metrics) -> None:
        self.interface = ""
        self.gone = GonePlaintext(masking)
        self._masking = masking
        self._metrics = metrics
        self._known: dict[int, _Known] = {}
        self._lines = Allowance(_MOST_LINES_A_SECOND)
        self._alarms = Allowance(_MOST_ALARMS_A_SECOND)

    @property
    def lines_suppressed(self) -> int:
        """How many lines the bounds have kept back."""
        return self._lines.suppressed_total + self._alarms.suppressed_total

    def take(self, change: Change, flow: Flow) -> None:
        """Takes one finding."""
        now_seconds = time.time()
        known = self._known.get(flow.number)
        former = known.verdict if known else Verdict.UNDECIDED
        interface = known.interface if known and known.interface else self.interface
        if change is Change.ENDED:
            self._known.pop(flow.number, None)
            if flow.verdict is Verdict.PLAINTEXT_REPLICATION:
                self.gone.note(flow)
            self._metrics.pairs.end(flow.number, now_seconds)
            self._metrics.tls.end(flow.number)
        else:
            self._known[flow.number] = _Known(flow.verdict, interface)
            self._count(flow, now_seconds)
        self._log(change, flow, former, interface, now_seconds)

    def _count(self, flow: Flow, now_seconds: float) -> None:
        if flow.verdict is Verdict.PLAINTEXT_REPLICATION:
            source, replica = (self._masking.address(host_of(end)) for end in (flow.server, flow.client))
            self._metrics.pairs.begin(flow.number, source, replica)
        else:
            self._metrics.pairs.end(flow.number, now_seconds)
        if flow.verdict is Verdict.TLS:
            self._metrics.tls.begin(flow.number, flow.tls)
            self._metrics.certificates.note(self._masking.endpoint(flow.server), flow.tls)
        else:
            self._metrics.tls.end(flow.number)

    def _log(self, change: Change, flow: Flow, former: Verdict, interface: str, now_seconds: float) -> None:
        is_alarm = Verdict.PLAINTEXT_REPLICATION in {flow.verdict, former}
        event = f"flow_{change}"
        if flow.verdict in _QUIET and former in _QUIET:
            level = logging.DEBUG
        elif is_alarm and change is not Change.ENDED:
            level = logging.WARNING
        else:
            level = logging.INFO
        bound = self._alarms if is_alarm else self._lines
        if not logger.isEnabledFor(level) or not bound.admits(event, now_seconds):
            return
        fields = flow_fields(flow, self._masking)
        if change is Change.CHANGED:
            fields["former_verdict"] = former.value
        if interface:
            fields["interface"] = interface
        log_event(level, event, **fields)

    def settle(self, now_seconds: float) -> None:
        """Says what was suppressed, and forgets what is gone for long; to be called about once a second."""
        suppressed = Counter(self._lines.settle()) + Counter(self._alarms.settle())
        if suppressed:
            log_event(logging.WARNING, "lines_suppressed", **suppressed)
        self._metrics.pairs.forget_gone(now_seconds)
