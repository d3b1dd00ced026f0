"""`python -m bench.monitor`: reading capture files, Binlock's monitor beside Suricata, in one run, as ratios.

Whole commands are timed, from their start to their end. Suricata has no rules, decodes MySQL's and TLS's protocols and
writes a record for each flow and handshake; it runs in both of its modes for files. Rounds are interleaved, and a ratio
is taken within a round.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.captures import Capture, captures
from bench.competitors import make_certificates
from bench.processes import machine
from bench.ratios import Samples, Spread, ratio
from bench.tables import facts_table
from testbed.fetch import bundle, fetch

_SUBJECT = "binlock"
_TARGET = 1.0
_WIDTH = 150
_BARE_PACKETS = 2
_BIN = Path(sys.executable).parent
_SURICATA = """%YAML 1.1
---
vars: {{address-groups: {{HOME_NET: any, EXTERNAL_NET: any}}, port-groups: {{}}}}
default-log-dir: {folder}
classification-file: {etc}/classification.config
reference-config-file: {etc}/reference.config
threshold-file: {etc}/threshold.config
stats: {{enabled: no}}
outputs:
  - eve-log: {{enabled: yes, filetype: regular, filename: eve.json, types: [flow, tls]}}
logging: {{default-log-level: notice, outputs: [{{console: {{enabled: yes}}}}]}}
app-layer:
  protocols:
    mysql: {{enabled: yes}}
    tls: {{enabled: yes, detection-ports: {{dp: 443}}}}
"""


@dataclass(frozen=True, slots=True)
class Reader:
    """A command that reads a capture file."""

    name: str
    command: Sequence[str]  # the file's name follows

    def run(self, capture: Capture, folder: Path) -> tuple[float, float]:
        """Reads, and returns wall and CPU seconds.

        Raises:
            RuntimeError: it did not read every packet, or says something false.
        """
        output = folder / f"{self.name.replace(' ', '-')}.out"
        with output.open("wb") as file:
            started = time.perf_counter()
            process = subprocess.Popen(
                [*self.command, str(capture.path)], stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
            _, status, usage = os.wait4(process.pid, 0)
            elapsed = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said = output.read_text()
        if process.returncode != 0 or not self._is_right(said, capture):
            raise RuntimeError(f"{self.name} ended with {process.returncode} and said: {said[-500:]}")
        return elapsed, usage.ru_utime + usage.ru_stime

    def _is_right(self, said: str, capture: Capture) -> bool:
        if self.name == _SUBJECT:
            flows = [json.loads(line) for line in said.splitlines()]
            return (
                len(flows) == capture.flows
                and all(flow["verdict"] == capture.verdict for flow in flows)
                # A bare acknowledgement before the first byte or behind the end is of no connection that is watched.
                and 0 <= capture.packets - sum(flow["packets"] for flow in flows) <= _BARE_PACKETS * capture.flows
            )
        return f" {capture.packets} packets" in said


def readers(folder: Path) -> list[Reader]:
    """The monitor, and Suricata in its two modes."""
    suricata = bundle("suricata")
    configuration = folder / "suricata.yaml"
    etc = suricata.path("etc/suricata")
    configuration.write_text(_SURICATA.format(folder=folder, etc=etc))
    common = [*suricata.command("suricata"), "-c", str(configuration), "-S", "/dev/null", "-l", str(folder)]
    return [
        Reader(_SUBJECT, [str(_BIN / "binlock-monitor"), "read", "--json"]),
        *(Reader(f"suricata {mode}", [*common, "--runmode", mode, "-r"]) for mode in ("single", "autofp")),
    ]


def main(argv: list[str] | None = None) -> int:
    """Runs the bench and prints its table, or JSON."""
    arguments = _parser().parse_args(argv)
    rounds = arguments.rounds or (3 if arguments.quick else 7)
    packets = arguments.packets or (300_000 if arguments.quick else 1_200_000)
    fetch(["suricata"], report=_progress)
    results: dict[str, dict[str, Samples]] = {}
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="binlock-bench-") as name:
        folder = Path(name)
        competitors = readers(folder)
        for title, capture in captures(folder, make_certificates(folder / "certificates"), packets):
            counts[title] = capture.packets
            results[title] = _measure(title, capture, competitors, rounds, folder)
    facts = {**machine(), **_versions()}
    if arguments.json:
        print(json.dumps(_document(facts, counts, results), indent=1))
    else:
        facts_table(facts)
        _print_table(counts, results)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.monitor", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="smaller files and fewer rounds, and noisier")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each has its turn with each file")
    parser.add_argument("--packets", type=int, metavar="N", help="of the streams with small segments")
    return parser


def _measure(
    title: str, capture: Capture, competitors: Sequence[Reader], rounds: int, folder: Path
) -> dict[str, Samples]:
    samples: dict[str, Samples] = {reader.name: {"packets_s": [], "cpu_us": []} for reader in competitors}
    # Once without a clock: then the file is in memory for all.
    for reader in competitors:
        reader.run(capture, folder)
    for number in range(rounds):
        turn = number % len(competitors)
        for reader in [*competitors[turn:], *competitors[:turn]]:
            wall, cpu = reader.run(capture, folder)
            samples[reader.name]["packets_s"].append(capture.packets / wall)
            samples[reader.name]["cpu_us"].append(cpu / capture.packets * 1e6)
            _progress(
                f"{title}: round {number + 1} of {rounds}: {reader.name:16} {capture.packets / wall:9.0f} packets/s"
            )
    return samples


def _versions() -> dict[str, str]:
    done = subprocess.run([*bundle("suricata").command("suricata"), "-V"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\S+)", done.stdout + done.stderr)
    return {"binlock": version("binlock"), "suricata": found[1] if found else "unknown"}


def _best_peer(samples: dict[str, Samples]) -> str:
    return max(
        (name for name in samples if name != _SUBJECT), key=lambda name: Spread.of(samples[name]["packets_s"]).middle
    )


def _document(
    facts: dict[str, str], counts: dict[str, int], results: dict[str, dict[str, Samples]]
) -> dict[str, object]:
    captured = {}
    for title, samples in results.items():
        ratios = {
            peer: {
                key: spread.as_json()
                for key in ("packets_s", "cpu_us")
                if (spread := ratio(samples[_SUBJECT][key], samples[peer][key])) is not None
            }
            for peer in samples
            if peer != _SUBJECT
        }
        readers_json = {
            name: {key: Spread.of(numbers).as_json() for key, numbers in measures.items()}
            for name, measures in samples.items()
        }
        captured[title] = {"packets": counts[title], "readers": readers_json, "ratios": ratios}
    return {"machine": facts, "captures": captured}


def _print_table(counts: dict[str, int], results: dict[str, dict[str, Samples]]) -> None:
    table = Table(title="reading capture files: packets/s (CPU, us/packet)", title_justify="left")
    names = list(next(iter(results.values())))
    for heading in ("", "packets", *names):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_column(f"{_SUBJECT} / best", justify="right", style="bold")
    table.add_column(f"target: at least {_TARGET:g}")
    for title, samples in results.items():
        cells = []
        for name in names:
            speed, cpu = (Spread.of(samples[name][key]) for key in ("packets_s", "cpu_us"))
            cells.append(f"{speed.middle:,.0f} ({cpu.middle:.2f})")
        best = _best_peer(samples)
        speed_ratio, cpu_ratio = (ratio(samples[_SUBJECT][key], samples[best][key]) for key in ("packets_s", "cpu_us"))
        if speed_ratio is None or cpu_ratio is None:
            continue
        cells.append(
            f"{speed_ratio.middle:.2f} ({speed_ratio.least:.2f}-{speed_ratio.most:.2f}), CPU {cpu_ratio.middle:.2f}"
        )
        table.add_row(title, f"{counts[title]:,}", *cells, "met" if speed_ratio.middle >= _TARGET else "missed")
    console = Console()
    (console if console.is_terminal else Console(width=_WIDTH)).print(table)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
