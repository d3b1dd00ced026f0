"""The bench's numbers for people."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.ratios import MEASURES, Measure, Samples, Spread, best_peer, ratio

_WIDTH = 150


def _console() -> Console:
    console = Console()
    # A pipe has no width of its own, and a narrow one would cut numbers in two.
    return console if console.is_terminal else Console(width=_WIDTH)


def facts_table(facts: Mapping[str, str]) -> None:
    """Prints what ran where."""
    console = _console()
    for name, value in facts.items():
        console.print(f"{name:8} {value}", highlight=False, markup=False)


def topology_table(
    title: str,
    samples: Mapping[str, Samples],
    ends: Mapping[str, Mapping[str, list[list[float]]]],
    *,
    subject: str,
    peers: Sequence[str],
) -> None:
    """Prints one topology: medians with least and most, the subject's ratios, and whether the targets are met."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in samples:
        table.add_column(name, justify="right")
    for peer in peers:
        table.add_column(f"{subject} / {peer}", justify="right", style="bold")
    table.add_column("target")
    real_peers = [peer for peer in peers if peer != "other"]
    for measure in MEASURES:
        row = [measure.title]
        for name, measures in samples.items():
            row.append(_cell(measure, measures.get(measure.key, []), ends.get(name, {}).get(measure.key)))
        for peer in peers:
            found = ratio(samples[subject][measure.key], samples[peer][measure.key])
            row.append("-" if found is None else f"{found.middle:.2f} ({found.least:.2f}-{found.most:.2f})")
        table.add_row(*row, _verdict(measure, samples, subject, real_peers))
    _console().print(table)


def _cell(measure: Measure, numbers: Sequence[float], by_end: list[list[float]] | None) -> str:
    if not numbers or not any(numbers):
        return "-"
    spread = Spread.of(numbers)
    digits = measure.digits
    text = f"{spread.middle:.{digits}f}"
    if len(numbers) > 1:
        text += f"\n{spread.least:.{digits}f}-{spread.most:.{digits}f}"
    if by_end and len(by_end[0]) > 1:
        text += "\n" + " + ".join(f"{median(of_end):.{digits}f}" for of_end in zip(*by_end, strict=True))
    return text


def _verdict(measure: Measure, samples: Mapping[str, Samples], subject: str, peers: Sequence[str]) -> str:
    if measure.limit is None:
        return ""
    peer = measure.limit_peer or best_peer(measure, samples, peers)
    found = ratio(samples[subject][measure.key], samples[peer][measure.key])
    if found is None:
        return ""
    is_met = found.middle >= measure.limit if measure.more_is_better else found.middle <= measure.limit
    sign = "at least" if measure.more_is_better else "at most"
    return f"{sign} {measure.limit:g} of {peer}: {'met' if is_met else 'missed'}"


def live_table(runs: Sequence[Mapping[str, Any]]) -> None:
    """Prints what the monitor cost beside each stream."""
    table = Table()
    for title in (
        "frames",
        "stream alone",
        "with the monitor",
        "of one core",
        "seen",
        "dropped",
        "bytes counted",
        "verdict",
    ):
        table.add_column(title, justify="right")
    for run in runs:
        table.add_row(
            "up to 64 KiB" if run["offload"] else "1500 bytes",
            f"{run['alone_gbit_s']:.2f} Gbit/s",
            f"{run['gbit_s']:.2f} Gbit/s",
            f"{run['cores']:.1%}",
            f"{run['packets']:,}",
            f"{run['dropped']:,}",
            f"{run['counted_bytes_ratio']:.1%}",
            run["verdict"],
        )
    _console().print(table)
