import concurrent.futures
import contextlib
import dataclasses
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import pymysql
import pytest
from rich.console import Console

from testbed.capture import FILE_HEADER
from testbed.demo import topology
from testbed.demo.__main__ import DemoError, demo_seconds, emptied
from testbed.demo.findings import Findings, inspect
from testbed.demo.links import Deployment, LinkState
from testbed.demo.stopping import Interrupted
from testbed.demo.verdict import Evidence, ReplicaEvidence, judge
from testbed.demo.view import Moment, View, summary
from testbed.demo.watch import PLAINTEXT, TLS, Seen
from testbed.servers import Server

NEEDLES = {"row data": b"BINLOCK-DEMO-ROW-1", "table name": b"demo_orders"}
SOURCE, REPLICA = ("10.77.0.2", 3307), ("10.77.0.3", 50000)
GREETING = b"\x4a\0\0\0\x0a9.7.0\0".ljust(78, b"\1")
SSL_REQUEST = b"\x20\0\0\1".ljust(36, b"\2")
CIPHERTEXT = bytes(range(256)) * 4
RECORD = b"\x17\x03\x03" + struct.pack("!H", len(CIPHERTEXT)) + CIPHERTEXT
HANDSHAKE = b"\x16\x03\x01\0\x04abcd"
ROW = b"\x2e\0\0\x05\0 a row with BINLOCK-DEMO-ROW-1 in the clear"


# Captures


def packet(sender: tuple[str, int], receiver: tuple[str, int], sequence: int, payload: bytes) -> bytes:
    addresses = b"".join(bytes(map(int, end[0].split("."))) for end in (sender, receiver))
    tcp = struct.pack("!HHIIBBHHH", sender[1], receiver[1], sequence, 0, 5 << 4, 0x18, 65535, 0, 0) + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + addresses
    ethernet = bytes(12) + b"\x08\0" + ip + tcp
    return struct.pack("=IIII", 0, 0, len(ethernet), len(ethernet)) + ethernet


def captured(folder: Path, *from_source: bytes, from_replica: bytes = b"") -> Findings:
    """What is found when each of `from_source` is a segment."""
    packets, sequence = b"", 1000
    for payload in from_source:
        packets += packet(SOURCE, REPLICA, sequence, payload)
        sequence += len(payload)
    if from_replica:
        packets += packet(REPLICA, SOURCE, 1, from_replica)
    path = folder / "capture.pcap"
    path.write_bytes(FILE_HEADER + packets)
    return inspect(path, NEEDLES)


def test_a_connection_that_turns_to_tls_is_clean(tmp_path: Path) -> None:
    found = captured(tmp_path, GREETING, HANDSHAKE + RECORD, RECORD, from_replica=SSL_REQUEST + HANDSHAKE + RECORD)
    assert found.is_clean
    assert found.before_tls == len(GREETING) + len(SSL_REQUEST)
    assert found.encrypted == {
        ("10.77.0.2", "10.77.0.3"): 2 * len(CIPHERTEXT),
        ("10.77.0.3", "10.77.0.2"): len(CIPHERTEXT),
    }


def test_a_connection_seen_from_the_middle_of_a_record_on_is_clean(tmp_path: Path) -> None:
    assert captured(tmp_path, RECORD[100:], RECORD, RECORD[:300]).is_clean
    assert captured(tmp_path, RECORD[900:]).is_clean


@pytest.mark.parametrize(
    ("segments", "clear"),
    [
        ((ROW,), len(ROW)),
        ((GREETING, ROW), len(ROW)),
        ((GREETING, ROW, RECORD), len(ROW + RECORD)),
        ((GREETING, HANDSHAKE, RECORD, ROW), len(ROW)),
        ((RECORD[100:], RECORD, ROW), len(RECORD[100:] + RECORD + ROW)),
    ],
)
def test_plaintext_anywhere_is_found(tmp_path: Path, segments: tuple[bytes, ...], clear: int) -> None:
    found = captured(tmp_path, *segments)
    assert found.clear == clear
    assert found.readable == {"row data": "10.77.0.2:3307 > 10.77.0.3:50000"}


def test_a_text_split_over_two_segments_is_found(tmp_path: Path) -> None:
    assert "row data" in captured(tmp_path, ROW[:25], ROW[25:]).readable


def test_findings_of_slices_add_up(tmp_path: Path) -> None:
    both = captured(tmp_path, GREETING, RECORD) + captured(tmp_path, ROW)
    assert (both.clear, both.encrypted) == (len(ROW), {("10.77.0.2", "10.77.0.3"): len(CIPHERTEXT)})
    assert list(both.readable) == ["row data"]


# The verdict


MONITOR = "the monitor finds every replica encrypted"


def state(name: str = "replica-direct") -> LinkState:
    return LinkState(
        name=name, deployment=Deployment.SOURCE_SIDE, rows=900, io_running="Yes", sql_running="Yes",
        identity=f"{name}.example", tls_version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", group="X25519MLKEM768",
        relayed=123_456,
    )  # fmt: skip


def replica(name: str, **more: Any) -> ReplicaEvidence:
    fine = ReplicaEvidence(state=state(name), identity=f"{name}.example", address="10.77.0.3", rows=900, checksum=7)
    return dataclasses.replace(fine, **more)


def evidence(**more: Any) -> Evidence:
    fine = Evidence(
        committed=900,
        load_error="",
        source_address="10.77.0.2",
        source_rows=900,
        source_checksum=7,
        replicas=[replica("replica-direct")],
        network=Findings(packets=9, payload=5000, before_tls=100, encrypted={("10.77.0.2", "10.77.0.3"): 4000}),
        network_error="",
        control=Findings(packets=9, payload=5000, clear=4900, readable=dict.fromkeys(NEEDLES, "here")),
        needles=list(NEEDLES),
        control_needles=list(NEEDLES),
        defects=[],
        exit_statuses={"source": 0},
        watch=seen(TLS, "10.77.0.3:50000", "10.77.0.9:50000"),
        control_watch=seen(PLAINTEXT, "127.0.0.1:50000"),
    )
    return dataclasses.replace(fine, **more)


def seen(verdict: str, *clients: str, **more: Any) -> Seen:
    verdicts = {(client, "10.77.0.2:3307"): verdict for client in clients}
    return dataclasses.replace(Seen(verdicts=verdicts, exit_status=0), **more)


def of_replica(**more: Any) -> Evidence:
    return evidence(replicas=[replica("replica-fine"), replica("replica-bad", **more)])


def of_state(**more: Any) -> Evidence:
    return of_replica(state=dataclasses.replace(state("replica-bad"), **more))


def on_network(**more: Any) -> Evidence:
    return evidence(network=dataclasses.replace(evidence().network, **more))


def test_the_verdict_holds_when_everything_held() -> None:
    assert all(check.passed for check in judge(evidence()))


@pytest.mark.parametrize(
    ("observed", "failing", "said"),
    [
        (of_replica(rows=899), "no row is missing", "replica-bad: 899 of 900 rows"),
        (of_replica(rows=None), "no row is missing", "replica-bad: ? of 900 rows"),
        (of_replica(checksum=8), "checksums agree", "replica-bad: 8, not 7"),
        (of_state(io_running="Connecting", errors="1045 no"), "replication runs on every replica", "Connecting"),
        (of_state(sql_running="No"), "replication runs on every replica", "Replica_SQL_Running: No"),
        (of_state(identity="replica-fine.example"), "every replica is known by its certificate", "seen as"),
        (of_state(tls_version=""), "every replica is known by its certificate", "TLS version unknown"),
        (of_replica(address="10.77.0.9"), "encrypted replication crossed the network", "replica-bad: no TLS"),
        (on_network(clear=1), "no byte crossed in the clear", "1 of 5,000 bytes"),
        (on_network(readable={"row data": "a > b"}), "nothing can be read in the packets", "row data: a > b"),
        (on_network(dropped=1), "every packet was looked at", "1 lost"),
        (evidence(network_error="disk full"), "every packet was looked at", "disk full"),
        (evidence(load_error="gone away"), "the source was written to", "gone away"),
        (evidence(committed=901), "the source was written to", "901 rows committed, 900 on the source"),
        (evidence(control=Findings()), "the same look finds plaintext where it is", "0 of 2 texts found"),
        (evidence(watch=seen(TLS, "10.77.0.9:50000")), MONITOR, "none of replica-direct"),
        (evidence(watch=seen(PLAINTEXT, "10.77.0.3:50000")), MONITOR, "flows that are plaintext-replication"),
        (evidence(watch=seen(TLS, "10.77.0.3:50000", dropped=3)), MONITOR, "3 packets dropped"),
        (evidence(watch=seen(TLS, "10.77.0.3:50000", defects=["oh no"])), MONITOR, "oh no"),
        (evidence(watch=seen(TLS, "10.77.0.3:50000", exit_status=-9)), MONITOR, "ended with status -9"),
        (evidence(control_watch=seen(TLS, "127.0.0.1:5")), "the monitor finds plaintext where it is", "0 client of 1"),
        (evidence(defects=["{defect}"]), "the proxies had no defect", "{defect}"),
        (evidence(exit_statuses={"source": -9}), "the proxies had no defect", "source ended with status -9"),
    ],
)
def test_the_verdict_fails_when_one_thing_did_not_hold(observed: Evidence, failing: str, said: str) -> None:
    failed = [check for check in judge(observed) if not check.passed]
    assert [check.name for check in failed] == [failing]
    assert said in failed[0].detail


def test_nothing_observed_is_no_success() -> None:
    nothing = evidence(
        committed=0, source_rows=0, source_checksum=None, replicas=[], network=Findings(), needles=[],
        control=Findings(), control_needles=[], exit_statuses={}, watch=Seen(), control_watch=Seen(),
    )  # fmt: skip
    assert not any(check.passed for check in judge(nothing))


# What a person sees, and says


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_table_shows_every_replica_however_narrow_the_terminal(width: int) -> None:
    output = io.StringIO()
    console = Console(file=output, width=width, height=60, force_terminal=True, color_system=None)
    found = Findings(packets=7, clear=12)
    states = [state(), LinkState(name="new", deployment=Deployment.TUNNEL)]
    moment = Moment(
        metrics="127.0.0.1:9307", elapsed=3, remaining=None, rows=1000, updates=5, found=found,
        seen=seen(TLS, "10.77.0.3:50000"), states=states,
    )  # fmt: skip
    with View(console) as view:
        view.show(moment)
    text = "".join(output.getvalue().split())
    for shown in ("127.0.0.1:9307", "100", "123.5kB", "12bytes", "1tls", "new", "Yes"):
        assert shown in text


def test_the_summary_says_how_many_failed() -> None:
    output = io.StringIO()
    console = Console(file=output, width=120)
    console.print(summary(judge(on_network(clear=3)), [state()], 5))
    assert "1 of 13 checks FAILED" in output.getvalue()
    assert "FAIL │ no byte crossed in the clear" in output.getvalue()


@pytest.mark.parametrize("text", ["abc", "0", "-1", "1.5", "1e3", "٣", "9" * 20])
def test_a_wrong_duration_is_refused(text: str) -> None:
    with pytest.raises(DemoError, match=r"DEMO_SECONDS=.* whole number of seconds"):
        demo_seconds({"DEMO_SECONDS": text})


def test_a_duration_is_optional() -> None:
    assert (demo_seconds({}), demo_seconds({"DEMO_SECONDS": ""}), demo_seconds({"DEMO_SECONDS": "30"})) == (
        None,
        None,
        30,
    )


def test_the_folder_is_emptied_unless_it_is_somebody_elses(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    with emptied(own):
        (own / "log").touch()
        with pytest.raises(DemoError, match="another run uses"), emptied(own):
            pass
    with emptied(own):
        assert not (own / "log").exists()
    other.mkdir()
    (other / "precious").touch()
    with pytest.raises(DemoError, match="is not empty and was not made here"), emptied(other):
        pass
    assert (other / "precious").exists()


# Whole runs


class Run:
    """The demonstration as a process, its folder below `folder`."""

    def __init__(self, folder: Path, *arguments: str, seconds: int | None = None) -> None:
        self.folder = folder / "demo"
        environment = {name: value for name, value in os.environ.items() if name != "DEMO_SECONDS"}
        environment |= {"BINLOCK_DEMO_DIR": str(self.folder), "PYTHONUNBUFFERED": "1"}
        if seconds is not None:
            environment["DEMO_SECONDS"] = str(seconds)
        argv = [sys.executable, "-m", "testbed.demo", *arguments]
        # One pipe for both: it must be read while the program runs, or the program waits.
        self.process = subprocess.Popen(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.output += line

    def wait_for(self, text: str) -> str:
        deadline = time.monotonic() + 180
        while text not in self.output:
            assert time.monotonic() < deadline, self.output
            assert self.process.poll() is None, self.output
            time.sleep(0.05)
        return self.output

    def end(self) -> int:
        status = self.process.wait(180)
        self._reader.join()
        return status

    def left_behind(self) -> list[str]:
        """Processes with this run's environment that are still there."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"BINLOCK_DEMO_DIR={self.folder}".encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


@pytest.fixture(name="runs")
def kill_runs() -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.process.kill()
        run.end()


def test_a_run_that_ends_by_itself_holds_and_leaves_nothing(tmp_path: Path, runs: list[Run]) -> None:
    # Long enough to be looked at on a machine that does much else.
    runs.append(run := Run(tmp_path, seconds=12))
    address = run.wait_for("/metrics").partition("metrics: ")[2].split("/metrics")[0]
    run.wait_for(" behind (")
    assert b"binlock_proxy_replica_connected" in fetched(f"{address}/metrics")
    identities = {row["identity"] for row in json.loads(fetched(f"{address}/sessions"))}
    assert identities == {"replica-direct.example", "replica-tunnel.example"}
    assert run.end() == 0, run.output
    assert "All 13 checks passed" in run.output
    assert run.left_behind() == []
    # The look that found nothing on the network finds real plaintext: with that in its place the verdict fails.
    control = inspect(run.folder / "captures" / "control-loopback.pcap", {"table name": b"demo_orders"})
    assert {check.name for check in judge(evidence(network=control)) if not check.passed} >= {
        "no byte crossed in the clear",
        "nothing can be read in the packets",
    }


def test_a_replica_that_stops_fails_the_run_that_ctrl_c_ends(tmp_path: Path, runs: list[Run]) -> None:
    runs.append(run := Run(tmp_path))
    run.wait_for(" behind (")
    with pymysql.connect(unix_socket=str(socket_of(run, "tunnel")), user="root") as connection:
        connection.cursor().execute("STOP REPLICA")
    # Rows that it misses are written meanwhile.
    time.sleep(3)
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 1, run.output
    assert "FAIL │ no row is missing" in run.output
    assert "replica-tunnel: Replica_IO_Running: No, Replica_SQL_Running: No" in run.output
    assert run.left_behind() == []


def fetched(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=60) as response:  # noqa: S310 - http, as the run said
        return bytes(response.read())


def socket_of(run: Run, name: str) -> Path:
    """The socket of a server of the run, which may be elsewhere when the folder's path is long."""
    log = (run.folder / "servers" / name / "server.log").read_text(errors="replace")
    return Path(log.partition("socket: '")[2].partition("'")[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_interrupted_while_it_starts_leaves_nothing(
    number: signal.Signals, tmp_path: Path, runs: list[Run]
) -> None:
    runs.append(run := Run(tmp_path))
    run.wait_for("servers:")
    run.process.send_signal(number)
    assert run.end() == 130, run.output
    assert "Traceback" not in run.output
    assert run.left_behind() == []
    assert not list(run.folder.glob("servers/*/data"))


def test_no_start_goes_on_behind_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it comes before the pool knows the thread that it has begun."""
    begun, ended = threading.Event(), threading.Event()

    class Slow:
        def start(self) -> None:
            begun.set()
            time.sleep(0.3)
            ended.set()

        def __exit__(self, *_: object) -> None:
            assert ended.is_set()

    class Interrupting(concurrent.futures.ThreadPoolExecutor):
        def submit(self, function: Callable[..., Any], /, *arguments: Any, **_: Any) -> NoReturn:
            threading.Thread(target=function, args=arguments).start()
            begun.wait()
            raise Interrupted

    monkeypatch.setattr(concurrent.futures, "ThreadPoolExecutor", Interrupting)
    with pytest.raises(Interrupted), contextlib.ExitStack() as stack:
        topology._start_servers([cast("Server", Slow())], stack)
    assert ended.is_set()
