"""What a person sees: the live table, lines where there is no terminal, and the summary."""

import collections
import dataclasses
import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from testbed.demo.findings import Findings
from testbed.demo.links import LinkState
from testbed.demo.verdict import Check
from testbed.demo.watch import TLS, Seen

# Below this a row of the table takes several lines instead of being cut off.
WIDE_COLUMNS = 140
# Where nobody says how wide the paper is.
PLAIN_COLUMNS = 120
PLAIN_SECONDS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """What there is to show.

    Attributes:
        remaining: seconds until the load ends by itself; None when only Ctrl-C ends it.
    """

    metrics: str
    elapsed: float
    remaining: float | None
    rows: int
    updates: int
    found: Findings
    seen: Seen
    states: Sequence[LinkState]


class View:
    """Shows moments: a table redrawn in place on a terminal, elsewhere a line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._next_line = 0.0
        self._described: set[str] = set()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, moment: Moment) -> None:
        """Show how things stand."""
        if self._live is not None:
            self._live.update(_screen(moment, self._console.width), refresh=True)
            return
        for state in moment.states:
            # Once for each replica, and again when anything of it is not what it was.
            described = (
                f"{state.name} ({state.deployment}): {state.identity} {state.tls_version} {state.cipher} {state.group}"
            )
            if state.tls_version and described not in self._described:
                self._described.add(described)
                self._line(described)
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + PLAIN_SECONDS
            self._line(_line(moment))

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


def make_console(*, to_stderr: bool) -> Console:
    """A console as wide as the terminal, and wide enough where there is none."""
    console = Console(stderr=to_stderr, highlight=False)
    if not console.is_terminal and console.width < PLAIN_COLUMNS:
        return Console(stderr=to_stderr, highlight=False, width=PLAIN_COLUMNS)
    return console


def summary(checks: Sequence[Check], states: Sequence[LinkState], elapsed: float) -> RenderableType:
    """The verdict, check by check."""
    table = Table(title="Binlock demo: what held", title_justify="left", expand=False)
    table.add_column("")
    table.add_column("check")
    table.add_column("what was seen", overflow="fold")
    for check in checks:
        mark = Text("pass", "green") if check.passed else Text("FAIL", "bold red")
        table.add_row(mark, Text(check.name), Text(check.detail))
    passed = sum(check.passed for check in checks)
    if passed == len(checks):
        verdict = Text(f"All {passed} checks passed: {len(states)} replicas in {elapsed:.0f} s of load.", "bold green")
    else:
        verdict = Text(f"{len(checks) - passed} of {len(checks)} checks FAILED.", "bold red")
    return Group(table, verdict)


def _line(moment: Moment) -> str:
    behind = ", ".join(
        f"{state.name} {_behind(moment, state)} behind ({_threads(state)}, {_bytes(state.relayed)})"
        for state in moment.states
    )
    watched = f"{_network(moment.found)}; monitor: {_verdicts(moment.seen)}"
    return f"{moment.elapsed:5.0f} s  {moment.rows:,} rows; {behind}; {watched}"


def _screen(moment: Moment, width: int) -> RenderableType:
    ends = "Ctrl-C ends it" if moment.remaining is None else f"{max(0.0, moment.remaining):.0f} s to go"
    head = Text()
    head.append("Binlock demo", "bold").append(f"  {moment.elapsed:.0f} s, {ends}\n")
    head.append(f"metrics  http://{moment.metrics}/metrics  (also /sessions, /readyz)\n")
    head.append(f"load     {moment.rows:,} rows inserted, {moment.updates:,} updates\n")
    found = moment.found
    head.append("network  ").append(_network(found), "green" if found.is_clean else "bold red").append("\n")
    is_encrypted = all(said == TLS for said in moment.seen.verdicts.values())
    head.append("monitor  ").append(_verdicts(moment.seen), "green" if is_encrypted else "bold red")
    errors = [Text(f"{state.name}: {state.errors}", "red") for state in moment.states if state.errors]
    return Group(head, _wide(moment) if width >= WIDE_COLUMNS else _narrow(moment), *errors)


def _wide(moment: Moment) -> Table:
    table = Table()
    for title in ("deployment", "replica", "identity", "TLS", "cipher", "group"):
        table.add_column(title, overflow="fold")
    for title in ("rows behind", "IO/SQL", "relayed"):
        table.add_column(title, justify="right")
    for state in moment.states:
        transport = (state.identity, state.tls_version, state.cipher, state.group)
        table.add_row(
            state.deployment,
            state.name,
            *(text or "-" for text in transport),
            _behind(moment, state),
            _coloured_threads(state),
            _bytes(state.relayed),
        )
    return table


def _narrow(moment: Moment) -> Table:
    table = Table(show_lines=True)
    for title in ("replica\ndeployment", "identity\nTLS"):
        table.add_column(title, overflow="fold")
    for title in ("rows\nbehind", "IO/SQL\nrelayed"):
        table.add_column(title, justify="right", overflow="fold")
    for state in moment.states:
        transport = [state.identity or "-", f"{state.tls_version or '-'} {state.group}", state.cipher]
        table.add_row(
            f"{state.name}\n{state.deployment}",
            "\n".join(transport),
            _behind(moment, state),
            Text.assemble(_coloured_threads(state), "\n", _bytes(state.relayed)),
        )
    return table


def _behind(moment: Moment, state: LinkState) -> str:
    return "-" if state.rows is None else f"{max(0, moment.rows - state.rows):,}"


def _threads(state: LinkState) -> str:
    return f"{state.io_running or '-'}/{state.sql_running or '-'}"


def _coloured_threads(state: LinkState) -> Text:
    is_running = (state.io_running, state.sql_running) == ("Yes", "Yes")
    return Text(_threads(state), "green" if is_running else "yellow")


def _network(found: Findings) -> str:
    if not found.packets:
        return "no packets looked at yet"
    readable = f", readable: {', '.join(found.readable)}" if found.readable else ""
    return f"{found.packets:,} packets looked at, {found.clear:,} bytes in the clear{readable}"


def _verdicts(seen: Seen) -> str:
    counts = collections.Counter(seen.verdicts.values())
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) or "no flow yet"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
