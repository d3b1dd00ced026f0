"""Has the monitor judge cases, holds its verdicts against the truth, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from monitor.segments import CONTROL_FLAGS, Segment
from monitor.tracking.flows import Change, FlowTable
from monitor.verdicts import Flow, Verdict
from tests.monitor.matrix.connections import Connection, Truth
from tests.monitor.matrix.derivations import Case, cases_of
from tests.monitor.matrix.truth import Expectation, Oracle
from wire.commands import Command

TICK_SECONDS = 0.25
DUMPS = {Command.COM_BINLOG_DUMP, Command.COM_REGISTER_SLAVE, Command.COM_BINLOG_DUMP_GTID}


@dataclass
class Watched:
    """What was said of one flow.

    Attributes:
        said: each verdict, and the number of the segment after which it was said.
        final: the verdict at the end.
        evidence: at the end.
    """

    said: list[tuple[int, Verdict]] = field(default_factory=list)
    final: Verdict = Verdict.UNDECIDED
    evidence: list[str] = field(default_factory=list)


class Watcher:
    """A flow table that is fed as the capture feeds it, and what it says."""

    def __init__(self, ports: frozenset[int] | None) -> None:
        self.flows: dict[int, Watched] = {}
        self._table = FlowTable(ports=ports, notify=self._note)
        self._taken = 0
        self._ticked_seconds = 0.0

    def take(self, segment: Segment) -> None:
        """One segment, and the time if it is due."""
        self._taken += 1
        if segment.time_seconds >= self._ticked_seconds + TICK_SECONDS:
            self._table.tick(segment.time_seconds)
            self._ticked_seconds = segment.time_seconds
        settled = self._table.settled.get(segment.key)
        payload = segment.payload
        may_be_dump = len(payload) > 4 and payload[3] == 0 and payload[4] in DUMPS
        if settled is None or segment.flags & CONTROL_FLAGS or (settled.watches_commands and may_be_dump):
            self._table.take(segment)
        else:
            settled.pass_over(segment.sequence, segment.payload_bytes, segment.time_seconds)

    def newest(self) -> int:
        """The number of the newest flow; 0 before the first."""
        return max([*self.flows, *(flow.number for flow in self._table.flows())], default=0)

    def finish(self) -> None:
        """No more comes."""
        self._table.finish()

    def _note(self, change: Change, flow: Flow) -> None:
        watched = self.flows.setdefault(flow.number, Watched())
        if change is not Change.ENDED:
            watched.said.append((self._taken, flow.verdict))
        watched.final, watched.evidence = flow.verdict, list(flow.evidence)


@dataclass(frozen=True)
class Outcome:
    """What was said of one connection of a case, beside what is true."""

    case: Case
    connection: Connection
    segments: list[Segment] = field(repr=False)
    expectation: Expectation
    flows: tuple[Watched, ...]

    @property
    def final(self) -> Verdict:
        """The most that was said at the end of it; undecided where there was nothing to see."""
        decided = [flow.final for flow in self.flows if flow.final is not Verdict.UNDECIDED]
        return decided[-1] if decided else Verdict.UNDECIDED

    @property
    def wrong(self) -> list[Verdict]:
        """What was said at any time and is not true."""
        said = [verdict for flow in self.flows for _, verdict in flow.said] + [flow.final for flow in self.flows]
        return [verdict for verdict in said if verdict not in self.expectation.allowed]

    @property
    def is_missed(self) -> bool:
        """Whether it stayed undecided, or half-way, where what was seen was enough."""
        required = self.expectation.required
        return required is not None and required not in {flow.final for flow in self.flows}

    def describe(self) -> str:
        """Enough to see what happened."""
        wanted = self.expectation.required or "/".join(sorted(self.expectation.allowed))
        said = [[f"{verdict} after {number}" for number, verdict in flow.said] for flow in self.flows]
        seen = [segment for segment in self.segments if segment.payload][:3]
        bytes_seen = [
            f"{'client' if segment.key == self.connection.client_key else 'server'} {segment.payload[:24].hex(' ')}"
            for segment in seen
        ]
        evidence = [flow.evidence for flow in self.flows]
        parts = [
            f"{self.case.name}: {self.connection.name} is {self.connection.truth}",
            f"said {said}, in the end {self.final}",
            f"wanted {wanted} ({self.expectation.reason})",
            f"evidence {evidence}",
            f"begins with {bytes_seen}",
        ]
        return "; ".join(parts)


def judge(case: Case, oracle: Oracle) -> list[Outcome]:
    """Feed a case to a new table; an outcome for each of its connections."""
    port = case.parts[0].connection.server_port
    watcher = Watcher(None if case.any_port else frozenset({port}))
    ends: list[int] = []
    for part in case.parts:
        for segment in part.segments:
            watcher.take(segment)
        ends.append(watcher.newest())
    watcher.finish()
    ends[-1] = max(ends[-1], watcher.newest())
    outcomes = []
    for part, start, end in zip(case.parts, [0, *ends], ends, strict=False):
        flows = tuple(watcher.flows[number] for number in sorted(watcher.flows) if start < number <= end)
        expectation = oracle.expect(part.connection, part.segments, part.first)
        outcomes.append(Outcome(case, part.connection, part.segments, expectation, flows))
    return outcomes


class Matrix:
    """The counts.

    Attributes:
        counts: of cases, by truth, derivation and final verdict.
        decidable: of cases in which enough was left to decide, by truth.
        whole: what was said of the connections as they were, by scenario: truth and verdict.
        failures: outcomes that were wrong, or missed what was to be seen.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[Truth, Verdict]] = Counter()
        self.decidable: Counter[Truth] = Counter()
        self.whole: dict[str, list[tuple[Truth, Verdict]]] = {}
        self.failures: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        truth = outcome.connection.truth
        self.counts[truth, outcome.final] += 1
        self.decidable[truth] += outcome.expectation.required is not None
        if outcome.case.derivation == "as it was":
            self.whole.setdefault(outcome.connection.scenario, []).append((truth, outcome.final))
        if outcome.wrong or outcome.is_missed:
            self.failures.append(outcome)

    def markdown(self) -> str:
        """The table for the documentation."""
        heads = ["what it is", *Verdict, "all", "enough was left"]
        lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
        for truth in Truth:
            counts = [self.counts[truth, verdict] for verdict in Verdict]
            cells = [str(truth), *(f"{count:,}" if count else "" for count in counts), f"{sum(counts):,}"]
            lines.append(f"| {' | '.join([*cells, f'{self.decidable[truth]:,}'])} |")
        return "\n".join(lines)

    def markdown_of_scenarios(self) -> str:
        """What was said of each scenario's connections as they were."""
        lines = ["| scenario | what its connections are | verdicts |", "|---|---|---|"]
        for scenario, entries in self.whole.items():
            truths = ", ".join(dict.fromkeys(str(truth) for truth, _ in entries))
            verdicts = ", ".join(dict.fromkeys(f"`{verdict}`" for _, verdict in entries))
            lines.append(f"| {scenario} | {truths} | {verdicts} |")
        return "\n".join(lines)


def every_case(connections: Sequence[Connection], factor: int) -> Iterator[Case]:
    """All cases of all connections.

    Args:
        connections: as recorded.
        factor: how many of each kind.
    """
    small = [connection for connection in connections if connection.payload_bytes < 200_000]
    for connection in connections:
        yield from cases_of(connection, [other for other in small if other is not connection], factor)


def run(connections: Sequence[Connection], factor: int = 1, cases: Iterable[Case] | None = None) -> Matrix:
    """Judge all cases."""
    oracle = Oracle(connections)
    matrix = Matrix()
    for case in every_case(connections, factor) if cases is None else cases:
        for outcome in judge(case, oracle):
            matrix.add(outcome)
    return matrix
