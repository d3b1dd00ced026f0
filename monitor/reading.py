"""Flows of a capture file."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from monitor.decoding import Intake
from monitor.flows import Change, FlowTable
from monitor.recordings import Recording
from monitor.verdicts import Flow

_TICK_SECONDS = 0.25
_PACKETS_BETWEEN_PROGRESS = 1 << 16


def read_flows(
    path: Path, ports: frozenset[int] | None, take_flow: Callable[[Flow], None], note_progress: Callable[[int], None]
) -> None:
    """Hands on each flow of a capture file when it is over.

    What could be read of a damaged file is handed on before the error is raised.

    Args:
        path: of the file; "-" is no special name.
        ports: of servers; None for every TCP flow.
        take_flow: called with each flow once.
        note_progress: called with the packets read so far, now and then.

    Raises:
        RecordingError: it is no capture file, or damaged.
    """

    def notify(change: Change, flow: Flow) -> None:
        if change is Change.ENDED:
            take_flow(flow)

    table = FlowTable(ports=ports, notify=notify, not_after_of=_not_after_of)
    take = Intake(table, ports=ports).take
    next_tick_seconds = float("-inf")
    packets = 0
    try:
        with Recording(path) as recording:
            for link_type, time_seconds, frame, wire_bytes in recording:
                take(link_type, time_seconds, frame, wire_bytes)
                if time_seconds >= next_tick_seconds:
                    table.tick(time_seconds)
                    next_tick_seconds = time_seconds + _TICK_SECONDS
                packets += 1
                if not packets % _PACKETS_BETWEEN_PROGRESS:
                    note_progress(packets)
    finally:
        table.finish()


def _not_after_of(der: bytes) -> datetime | None:
    # Few captures have a certificate, and scapy takes a quarter of a second to load.
    from monitor.scapy import certificate_not_after  # noqa: PLC0415

    return certificate_not_after(der)
