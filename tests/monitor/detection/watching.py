"""An inspector that is fed a conversation, and every verdict it comes to on the way."""

from __future__ import annotations

from collections.abc import Iterable

from monitor.detection.handshake import CertificateReader
from monitor.detection.inspector import FlowInspector, unread_certificate
from monitor.detection.opening import Side
from monitor.verdicts import Flow, Verdict
from tests.monitor.segmenting import CLIENT, Said


class Watch:
    """One flow.

    Attributes:
        verdicts: those it has had, in order, without repetitions.
    """

    def __init__(
        self,
        *,
        is_start: bool = True,
        knows_sides: bool = True,
        not_after_of: CertificateReader = unread_certificate,
    ) -> None:
        self.flow = Flow(1, "192.0.2.1:40000", "192.0.2.2:3306", mid_stream=not is_start)
        self.inspector = FlowInspector(
            self.flow,
            sides=(Side.CLIENT, Side.SERVER) if knows_sides else (None, None),
            starts=(is_start, is_start),
            not_after_of=not_after_of,
        )
        self.verdicts: list[Verdict] = []

    def take(self, said: Iterable[Said], *, piece_bytes: int = 1 << 30) -> Watch:
        for side, data in said:
            for start in range(0, len(data), piece_bytes):
                self.inspector.feed(0 if side == CLIENT else 1, data[start : start + piece_bytes])
                if not self.verdicts or self.verdicts[-1] is not self.flow.verdict:
                    self.verdicts.append(self.flow.verdict)
        return self

    def lose(self, side: str, count: int) -> Watch:
        self.inspector.lose(0 if side == CLIENT else 1, count)
        return self

    def end(self) -> Watch:
        self.inspector.end()
        return self

    @property
    def verdict(self) -> str:
        return self.flow.verdict.value
