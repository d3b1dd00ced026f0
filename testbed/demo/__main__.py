"""`python -m testbed.demo`: encrypted replication in every deployment, on real servers, until Ctrl-C.

It ends with a summary and says by its exit status whether everything held. With DEMO_SECONDS=N in the environment
the load runs N seconds and everything ends by itself.
"""

import argparse
import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pymysql
from rich.console import Console

from testbed.capture import PacketCapture
from testbed.demo.findings import inspect
from testbed.demo.forward import Forwarder
from testbed.demo.links import SCHEMA, TABLE, Link, LinkState
from testbed.demo.load import Load
from testbed.demo.stopping import EXIT_INTERRUPTED, Interrupted, Stopping
from testbed.demo.topology import MYSQL_PORT, PROXY_PORT, Topology, running_topology
from testbed.demo.verdict import Check, Evidence, ReplicaEvidence, judge
from testbed.demo.view import Moment, View, make_console, summary
from testbed.demo.watch import Watch
from testbed.demo.wiretap import Wiretap
from testbed.fetch import FetchError, fetch
from testbed.folders import CHECKOUT
from testbed.hosts import BRIDGE, HostError
from testbed.programs import Place, ProgramError
from testbed.servers import Server

EXIT_HELD, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
LONGEST_SECONDS = 7 * 86400
CATCH_UP_SECONDS = 30
CATCH_UP_POLL_SECONDS = 1
# How long the plaintext on a replica's own loopback is captured, to see that the look at the packets finds it.
CONTROL_SECONDS = 3
REDRAW_SECONDS = 1
LOCK_NAME = "in-use.lock"
EPILOG = """environment:
  DEMO_SECONDS       run the load that many seconds and end; unset: until Ctrl-C
  BINLOCK_DEMO_DIR   where certificates, logs and captures go (default: .demo in the checkout); emptied at each start

exit codes:
  0    everything held
  1    something did not hold, or could not be started
  2    wrong usage
  130  interrupted before replication ran
"""


class DemoError(Exception):
    """The demonstration cannot run; the text says what to do."""


def main() -> int:
    """Run the demonstration; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m testbed.demo",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="the summary as one JSON object on standard output")
    arguments = parser.parse_args()
    console = make_console(to_stderr=arguments.json)
    try:
        seconds = demo_seconds(os.environ)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return EXIT_USAGE
    folder = Path(os.environ.get("BINLOCK_DEMO_DIR") or CHECKOUT / ".demo").resolve()
    try:
        with Stopping() as stopping:
            demo = Demo(console, folder, seconds, stopping)
            demo.run()
    except Interrupted:
        print("demo: interrupted; everything that was started has ended", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (DemoError, FetchError, HostError, ProgramError, TimeoutError, OSError, pymysql.err.MySQLError) as error:
        print(f"demo: {error}\ndemo: logs, if it came that far, are in {folder}", file=sys.stderr)
        return EXIT_FAILED
    demo.print_summary(as_json=arguments.json)
    return EXIT_HELD if all(check.passed for check in demo.checks) else EXIT_FAILED


def demo_seconds(environment: Mapping[str, str]) -> float | None:
    """How long the load is to run; None: until asked to stop.

    Raises:
        DemoError: DEMO_SECONDS is no such number.
    """
    text = environment.get("DEMO_SECONDS", "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= LONGEST_SECONDS):
        raise DemoError(f"DEMO_SECONDS={text!r} is not a whole number of seconds from 1 to {LONGEST_SECONDS}")
    return float(text)


class Demo:
    """One run, from an empty folder to the verdict.

    Attributes:
        checks: the verdict, once it ran.
    """

    def __init__(self, console: Console, folder: Path, seconds: float | None, stopping: Stopping) -> None:
        self.checks: list[Check] = []
        self._console = console
        self._folder = folder
        self._seconds = seconds
        self._stopping = stopping
        self._states: list[LinkState] = []
        self._elapsed = 0.0
        # Random, so that it stands nowhere but in the rows of this run.
        self._marker = f"BINLOCK-DEMO-ROW-{secrets.token_hex(4)}"

    def run(self) -> None:
        """Start everything, run the load, judge, end everything.

        Raises:
            DemoError, FetchError, HostError, ProgramError, TimeoutError, OSError: it did not come to a verdict.
            Interrupted: as asked for.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(emptied(self._folder))
            # iproute2 makes the hosts; a machine that has it uses its own.
            fetch(["mysql-9.7", "iproute2"], self._say)
            topology = stack.enter_context(running_topology(self._folder, self._say))
            forwarder = stack.enter_context(Forwarder(topology.source_sidecar.admin_socket))
            needles = self._needles(topology)
            wiretap = stack.enter_context(Wiretap(topology.network, self._folder / "captures", needles))
            control = stack.enter_context(self._control_capture(topology))
            watch = stack.enter_context(self._watch_on("network", topology.network, BRIDGE))
            control_watch = stack.enter_context(self._watch_on("control", topology.replica_side.host, "lo"))
            load = stack.enter_context(Load(topology.source, self._marker))
            for link in topology.links:
                link.start_replication()
            for link in topology.links:
                link.replica.wait_for_replication()
            self._say(f"metrics: http://{forwarder.address}/metrics, also /sessions and /readyz")
            self._show(topology, load, wiretap=wiretap, control=control, watch=watch, metrics=forwarder.address)
            load.stop()
            self._say("the load has ended: waiting for the replicas, then looking at rows and packets")
            evidence = self._evidence(topology, load, wiretap, control, needles)
            self.checks = judge(dataclasses.replace(evidence, watch=watch.stop(), control_watch=control_watch.stop()))

    def print_summary(self, *, as_json: bool) -> None:
        """Print the verdict, for people or for programs."""
        if as_json:
            shown = {
                "passed": all(check.passed for check in self.checks),
                "seconds": round(self._elapsed, 1),
                "checks": [dataclasses.asdict(check) for check in self.checks],
                "replicas": [dataclasses.asdict(state) for state in self._states],
            }
            print(json.dumps(shown, indent=2))
            return
        self._console.print(summary(self.checks, self._states, self._elapsed))
        self._console.print(f"Certificates, configurations, logs and captures: {self._folder}", soft_wrap=True)

    def _show(
        self, topology: Topology, load: Load, *, wiretap: Wiretap, control: PacketCapture, watch: Watch, metrics: str
    ) -> None:
        """Show how things stand until the time is over or somebody asks to stop."""
        self._stopping.in_order = True
        started = time.monotonic()
        with View(self._console) as view:
            while True:
                rows = load.rows
                self._states = [link.state() for link in topology.links]
                self._elapsed = time.monotonic() - started
                if self._elapsed >= CONTROL_SECONDS:
                    control.stop()
                remaining = None if self._seconds is None else self._seconds - self._elapsed
                view.show(
                    Moment(
                        metrics=metrics,
                        elapsed=self._elapsed,
                        remaining=remaining,
                        rows=rows,
                        updates=load.updates,
                        found=wiretap.findings,
                        seen=watch.seen(),
                        states=self._states,
                    )
                )
                if remaining is not None and remaining <= 0:
                    break
                wait = REDRAW_SECONDS if remaining is None else min(REDRAW_SECONDS, remaining)
                if self._stopping.requested.wait(wait):
                    break
                if load.error is not None:
                    break

    def _evidence(
        self,
        topology: Topology,
        load: Load,
        wiretap: Wiretap,
        control: PacketCapture,
        needles: Mapping[str, bytes],
    ) -> Evidence:
        """Compare while everything runs; then end the proxies, and look at the last packets."""
        deadline = time.monotonic() + CATCH_UP_SECONDS
        for link in topology.links:
            _wait_for(link, deadline)
        self._states = [link.state() for link in topology.links]
        rows, checksum = _table_of(topology.source)
        replicas = []
        for link, state in zip(topology.links, self._states, strict=True):
            replica_rows, replica_checksum = _table_of(link.replica)
            replicas.append(
                ReplicaEvidence(
                    state=state,
                    identity=link.identity,
                    address=link.host.address,
                    rows=replica_rows,
                    checksum=replica_checksum,
                )
            )
        # Those beside the replicas first, so that none finds its next hop gone.
        exit_statuses = {sidecar.name: sidecar.stop() for sidecar in reversed(topology.sidecars)}
        network = wiretap.stop()
        others = {link.account.encode() for link in topology.links if link is not topology.replica_side}
        return Evidence(
            committed=load.rows,
            load_error="" if load.error is None else str(load.error),
            source_address=topology.source_host.address,
            source_rows=rows or 0,
            source_checksum=checksum,
            replicas=replicas,
            network=network,
            network_error="" if wiretap.error is None else str(wiretap.error),
            control=inspect(control.stop(), needles),
            needles=list(needles),
            control_needles=[name for name, needle in needles.items() if needle not in others],
            defects=[line for sidecar in topology.sidecars for line in sidecar.defects()],
            exit_statuses=exit_statuses,
        )

    def _watch_on(self, name: str, place: Place, interface: str) -> Watch:
        return Watch(self._folder / "monitors" / name, place=place, interface=interface, ports=(MYSQL_PORT, PROXY_PORT))

    def _control_capture(self, topology: Topology) -> PacketCapture:
        """On the loopback of the replica that connects in plaintext to a proxy on its own host."""
        path = self._folder / "captures" / "control-loopback.pcap"
        return topology.replica_side.host.open_capture(path, interface="lo")

    def _needles(self, topology: Topology) -> dict[str, bytes]:
        """What plaintext replication shows to whoever reads along, by name."""
        return {
            "row data": self._marker.encode(),
            "schema name": SCHEMA.encode(),
            "table name": TABLE.partition(".")[2].encode(),
            "SQL of the load": b"INSERT INTO",
            "SQL of a replica": b"SELECT UNIX_TIMESTAMP",
            "binary log name": b"binlog.0000",
            **{f"account {link.account}": link.account.encode() for link in topology.links},
        }

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)


def _wait_for(link: Link, deadline: float) -> None:
    """Wait until a replica has caught up or cannot any more; the latter shows by its rows."""
    with contextlib.suppress(OSError, LookupError, pymysql.err.MySQLError):
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                link.replica.catch_up_with(link.source, timeout=CATCH_UP_POLL_SECONDS)
                return
            status = link.replica.replica_status()
            if "No" in {status.io_running, status.sql_running}:
                return


def _table_of(server: Server) -> tuple[int | None, int | None]:
    """The number of rows of the table and its checksum; None for what cannot be had."""
    try:
        return server.row_count(TABLE), server.table_checksums(SCHEMA)[TABLE.partition(".")[2]]
    except (OSError, KeyError, pymysql.err.MySQLError):
        return None, None


@contextlib.contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """The folder of a former run without what is in it, and for nobody else meanwhile.

    Raises:
        DemoError: it is another run's, or holds what no run made.
    """
    lock_path = folder / LOCK_NAME
    if folder.exists() and not lock_path.exists() and any(folder.iterdir()):
        raise DemoError(f"{folder} is not empty and was not made here: remove it, or name another by BINLOCK_DEMO_DIR")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock_path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"another run uses {folder}: end it first, or name another by BINLOCK_DEMO_DIR") from None
        for former in folder.iterdir():
            if former != lock_path:
                shutil.rmtree(former) if former.is_dir() else former.unlink()
        yield


if __name__ == "__main__":
    sys.exit(main())
