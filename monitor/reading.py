"""Flows of a capture file."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from monitor.files.recordings import Recording, RecordingError
from monitor.frames.decoding import Intake
from monitor.tracking.flows import Change, FlowTable
from monitor.verdicts import Flow


def read_flows(
    path: Path,
    ports: frozenset[int] | None,
    take_flow: Callable[[Flow], None],
    note_progress: Callable[[int], None],
    on_error: Callable[[Exception], None],
) -> None:
    """Hands on each flow of a capture file when it is over.

    What could be read of a damaged file is handed on before the error is raised.

    Args:
        path: of the file; "-" is standard input.
        ports: of servers; None for every TCP flow.
        take_flow: called with each flow once.
        note_progress: called with the number of packets so far, now and then.
        on_error: is told of the first few packets that are lost to a defect of this program.

    Raises:
        RecordingError: it is no capture file, or damaged, or ends in the middle of a packet.
    """

    def notify(change: Change, flow: Flow) -> None:
        if change is Change.ENDED:
            take_flow(flow)

    table = FlowTable(ports=ports, notify=notify, not_after_of=_not_after_of)
    with Recording(path) as recording:
        try:
            Intake(table, ports=ports, on_error=on_error).take_all(recording, note_progress)
        finally:
            table.finish()
        if recording.is_truncated:
            raise RecordingError(f"{recording.name}: ends in the middle of a packet; what comes before was read")


def _not_after_of(der: bytes) -> datetime | None:
    # Few captures have a certificate, and scapy takes a quarter of a second to load.
    from monitor.scapy import certificate_not_after  # noqa: PLC0415

    return certificate_not_after(der)
