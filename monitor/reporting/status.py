"""The facts of the status page, as the JSON document of `/status`: bounded, however many flows there are."""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from monitor.reporting.masking import Masking, host_of
from monitor.reporting.metrics import Reading
from monitor.reporting.report import ORDER, flow_fields
from monitor.verdicts import Flow, Verdict

MOST_FLOWS = 100
_MOST_GONE = 50
_RANKS = {verdict: rank for rank, verdict in enumerate(ORDER)}


def foremost_first(flow: Flow) -> tuple[int, int]:
    """The order of flows upon the page: what wants attention, and of that the latest."""
    return _RANKS[flow.verdict], -flow.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the process stands.

    Attributes:
        ports: those that servers are expected on; None for any.
    """

    version: str
    ports: frozenset[int] | None
    started: datetime = field(default_factory=lambda: datetime.now(UTC))


class GonePlaintext:
    """Replication in the clear that is over: who looks an hour later still finds it. One entry a pair of hosts.

    Attributes:
        masking: of addresses.
    """

    def __init__(self, masking: Masking) -> None:
        self.masking = masking
        self._pairs: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()

    def note(self, flow: Flow) -> None:
        """Takes a flow that is over."""
        pair = (host_of(flow.client), flow.server)
        former = self._pairs.pop(pair, None)
        fields = flow_fields(flow, self.masking) | {"count": 1}
        if former is not None:
            fields |= {"first_seen": former["first_seen"], "count": former["count"] + 1}
        self._pairs[pair] = fields
        if len(self._pairs) > _MOST_GONE:
            self._pairs.popitem(last=False)

    def fields(self) -> list[dict[str, Any]]:
        """The latest first: the fields of its last flow, since when there were such, and how many."""
        return list(reversed(self._pairs.values()))


def monitor_status(
    standing: Standing, reading: Reading, foremost: Iterable[Flow], gone: GonePlaintext
) -> dict[str, Any]:
    """Everything that the page shows; times are ISO 8601 in UTC.

    Args:
        standing: of the process.
        reading: what is counted, taken now.
        foremost: the first `MOST_FLOWS` flows in the order of `foremost_first`.
        gone: replication in the clear that is over; as it masks addresses, so are those of all flows.
    """
    flows = [flow_fields(flow, gone.masking) for flow in foremost]
    return {
        "program": "binlock-monitor",
        "host": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "version": standing.version,
        "started": standing.started.isoformat(timespec="seconds"),
        "ports": "any" if standing.ports is None else sorted(standing.ports),
        "interfaces": [
            {
                "interface": each.name,
                "up": each.is_up,
                "packets": each.packets,
                "dropped": each.dropped,
                "dropped_recently": each.is_dropping,
            }
            for each in reading.interfaces
        ],
        "verdicts": [
            {
                "verdict": verdict.value,
                "active": reading.active.get(verdict, 0),
                "total": reading.flows.get(verdict, 0),
                "bytes": reading.bytes.get(verdict, 0),
            }
            for verdict in ORDER
        ],
        "flows": flows,
        "flows_left_out": max(0, sum(reading.active.values()) - len(flows)),
        "plaintext_active": reading.active.get(Verdict.PLAINTEXT_REPLICATION, 0),
        "plaintext_gone": gone.fields(),
        "packets_failed": reading.packets_failed,
        "packets_malformed": reading.packets_malformed,
        "flood": reading.is_flooded,
        "flows_evicted": sum(reading.evicted.values()),
    }
