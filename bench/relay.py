"""`python -m bench.relay`: Binlock's relay beside stunnel and HAProxy, in one run, as ratios.

Rounds are interleaved: every competitor has its turn in every round, in an order that rotates, and a ratio is taken
within a round. Absolute numbers are of this machine at this hour; the ratios are what to look at.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.competitors import (
    Bench,
    Competitor,
    Running,
    binlock,
    direct,
    haproxy,
    make_certificates,
    start_source,
    stunnel,
    versions,
)
from bench.processes import machine
from bench.ratios import Samples, as_json
from bench.replica_end import Pings, measure_bulk, measure_idle, measure_ping
from bench.tables import facts_table, topology_table
from testbed.fetch import fetch
from testbed.servers import free_port

TOPOLOGIES = {
    "tunnel": "plaintext replica - proxy - TLS 1.3 - proxy - plaintext source",
    "source-side": "TLS 1.3 replica - proxy - plaintext source",
}
_SUBJECT = "binlock"
# The kernel settles a connection's wake-ups on one core or on two, which moves a round trip by half. So each round has
# several short connections, by turns, instead of one long one.
_PING_SLICES = 5
_PEERS = ("stunnel", "haproxy")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: float
    pings: int
    sessions: int
    event_bytes: int


@dataclass(slots=True)
class Results:
    """Of one topology: samples by competitor; `ends` has what is known of each process, replica's side first."""

    samples: dict[str, Samples] = field(default_factory=dict)
    ends: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)

    def add(self, name: str, **measured: float | tuple[float, ...]) -> None:
        """Notes one round's numbers of a competitor; those of several processes count as their sum."""
        for key, value in measured.items():
            numbers = value if isinstance(value, tuple) else (value,)
            self.samples.setdefault(name, {}).setdefault(key, []).append(sum(numbers))
            if isinstance(value, tuple):
                self.ends.setdefault(name, {}).setdefault(key, []).append(list(numbers))


def main(argv: list[str] | None = None) -> int:
    """Runs the bench and prints its tables, or JSON."""
    arguments = _parser().parse_args(argv)
    effort = _effort(arguments)
    started = time.monotonic()
    fetch(_PEERS, report=_progress)
    competitors = [binlock(), stunnel(), haproxy()]
    if arguments.against is not None:
        competitors.append(binlock("other", arguments.against.resolve()))
    results = {name: Results() for name in arguments.topology}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="binlock-bench-")))
        bench = Bench(folder, make_certificates(folder / "certificates"), free_port(), stack)
        start_source(bench)
        for topology, found in results.items():
            _measure(topology, competitors, bench, effort, found)
    peers = [competitor.name for competitor in competitors if competitor.name != _SUBJECT]
    facts = {**machine(), **versions(), "seconds": f"{time.monotonic() - started:.0f}"}
    if arguments.json:
        print(json.dumps(_document(facts, effort, results, peers), indent=1))
    else:
        facts_table(facts)
        for topology, found in results.items():
            title = f"{topology}: {TOPOLOGIES[topology]}"
            topology_table(title, found.samples, found.ends, subject=_SUBJECT, peers=peers)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.relay",
        description="Binlock's relay beside stunnel and HAProxy, in one run: bulk, CPU per GB, semi-synchronous round "
        "trips, memory per idle session. Fake ends speak MySQL; all use mutual TLS 1.3 with the same certificates.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--quick", action="store_true", help="under a minute, and noisier")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each competitor has its turn")
    parser.add_argument("--seconds", type=float, metavar="S", help="of bulk in each round")
    parser.add_argument("--pings", type=int, metavar="N", help="in each round")
    parser.add_argument("--event-bytes", type=int, default=8192, metavar="N", help="of a bulk event (default: 8192)")
    parser.add_argument("--topology", action="append", choices=list(TOPOLOGIES), help="only this one; may be repeated")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout of Binlock, as one more peer")
    return parser


def _effort(arguments: argparse.Namespace) -> Effort:
    arguments.topology = arguments.topology or list(TOPOLOGIES)
    rounds, seconds, pings, sessions = (3, 0.8, 1000, 60) if arguments.quick else (7, 2.0, 4000, 200)
    return Effort(
        rounds=arguments.rounds or rounds,
        seconds=arguments.seconds or seconds,
        pings=arguments.pings or pings,
        sessions=sessions,
        event_bytes=arguments.event_bytes,
    )


def _measure(topology: str, competitors: list[Competitor], bench: Bench, effort: Effort, results: Results) -> None:
    runners: dict[str, Running] = {}
    for competitor in competitors:
        _progress(f"{topology}: starting {competitor.name}")
        if topology == "tunnel":
            runners[competitor.name] = competitor.start_tunnel(bench)
        else:
            runners[competitor.name] = competitor.start_source_side(bench)
    for name, running in runners.items():
        _progress(f"{topology}: {effort.sessions} idle sessions through {name}")
        idle = measure_idle(running.door.connect, running.pids, sessions=effort.sessions)
        results.add(name, idle_kib=idle.kibibytes_per_session, set_up_cpu_ms=idle.set_up_cpu_milliseconds)
    if topology == "tunnel":
        runners["direct"] = direct(bench)
    for number in range(effort.rounds):
        names = list(runners)
        turn = number % len(names)
        _round(
            f"{topology}: round {number + 1} of {effort.rounds}", names[turn:] + names[:turn], runners, effort, results
        )


def _round(title: str, order: list[str], runners: Mapping[str, Running], effort: Effort, results: Results) -> None:
    for name in order:
        running = runners[name]
        bulk = measure_bulk(running.door.connect, running.pids, event_bytes=effort.event_bytes, seconds=effort.seconds)
        results.add(name, bulk_mb_s=bulk.megabytes_per_second, bulk_cpu_s_gb=bulk.cpu_seconds_per_gigabyte)
        _progress(
            f"{title}: {name:8} {bulk.megabytes_per_second:6.0f} MB/s  {sum(bulk.cpu_seconds_per_gigabyte):.2f} s/GB"
        )
    slices: dict[str, list[Pings]] = {name: [] for name in order}
    for _ in range(_PING_SLICES):
        for name in order:
            running = runners[name]
            slices[name].append(measure_ping(running.door.connect, running.pids, count=effort.pings // _PING_SLICES))
    for name in order:
        pings = Pings.merged(slices[name])
        results.add(
            name,
            ping_p50_us=pings.percentile_microseconds(50),
            ping_p99_us=pings.percentile_microseconds(99),
            ping_cpu_us=pings.cpu_microseconds_each(),
        )
        _progress(f"{title}: {name:8} ping {pings.percentile_microseconds(50):5.0f} us")


def _document(
    facts: dict[str, str], effort: Effort, results: Mapping[str, Results], peers: list[str]
) -> dict[str, object]:
    return {
        "machine": facts,
        "rounds": effort.rounds,
        "event_bytes": effort.event_bytes,
        "topologies": {
            name: as_json(found.samples, found.ends, subject=_SUBJECT, peers=peers) for name, found in results.items()
        },
    }


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
