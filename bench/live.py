"""`python -m bench.live`: the monitor beside a replication stream, as fast as this machine makes one.

Two hosts on a bridge, in network namespaces, with an MTU of 1500. One sends binlog events from port 3306, the other
drops them; the monitor watches the sender's interface. It is run twice: with the kernel's segmentation offload, when
segments of up to 64 KiB pass, and without, when each packet does. Without the monitor the same is measured first.
Printed are the rate of the stream, what of one core the monitor took, what the kernel dropped before it could be
looked at, and how long the verdict took.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bench.processes import cpu_seconds, machine
from bench.tables import facts_table, live_table
from testbed.hosts import INTERFACE, Host, Network
from testbed.programs import popen

_MONITOR = Path(sys.executable).parent / "binlock-monitor"
_PORT, _LISTEN = 3306, "127.0.0.1:9308"
_SETTLING_SECONDS = 1.0
# Sends for so many seconds, after a line on its standard input; tells how many bytes it sent, and waits to be killed.
_SEND = """
import socket, struct, sys, time, zlib
def event(size, position):
    header = struct.pack("<IBIIIH", 1_700_000_000, 30, 1, size, position, 0)
    body = bytes(size - 23)
    return header + body + struct.pack("<I", zlib.crc32(header + body))
packets = [b"\\0" + event(8219, 9000 + number * 8219) for number in range(256)]
burst = b"".join(len(p).to_bytes(3, "little") + bytes([number]) + p for number, p in enumerate(packets))
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
connection, _ = listener.accept()
sys.stdin.readline()
end, sent = time.monotonic() + float(sys.argv[3]), 0
while time.monotonic() < end:
    connection.sendall(burst)
    sent += len(burst)
print(sent, flush=True)
sys.stdin.readline()
"""
_SINK = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
buffer = bytearray(1 << 20)
while connection.recv_into(buffer):
    pass
"""
# The ioctl of ethtool (linux/ethtool.h, linux/sockios.h) switches off what makes segments large: ETHTOOL_STSO,
# ETHTOOL_SGSO, ETHTOOL_SGRO.
_NO_OFFLOAD = """
import array, fcntl, socket, struct, sys
for command in (0x1F, 0x24, 0x2C):
    value = array.array("B", struct.pack("II", command, 0))
    request = struct.pack("16sP", sys.argv[1].encode(), value.buffer_info()[0])
    fcntl.ioctl(socket.socket(), 0x8946, request)
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run.

    Attributes:
        offload: whether segments of up to 64 KiB passed.
        alone_gbit_s: the stream's rate without the monitor.
        gbit_s: with it.
        cores: what of one core the monitor took while the stream ran.
        dropped: packets that the kernel could not hold.
        packets: those that reached the monitor.
        verdict: of the flow.
        counted_bytes_ratio: the bytes that the monitor counted, of those that were sent.
    """

    offload: bool
    alone_gbit_s: float
    gbit_s: float
    cores: float
    dropped: int
    packets: int
    verdict: str
    counted_bytes_ratio: float


def main(argv: list[str] | None = None) -> int:
    """Runs the bench and prints a table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each stream runs (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args(argv)
    outcomes = [_measure(offload=offload, seconds=arguments.seconds) for offload in (True, False)]
    if arguments.json:
        print(json.dumps({"machine": machine(), "runs": [asdict(outcome) for outcome in outcomes]}, indent=2))
    else:
        facts_table(machine())
        live_table([asdict(outcome) for outcome in outcomes])
    return 0


def _measure(*, offload: bool, seconds: float) -> Outcome:
    with Network() as network:
        source, replica = network.add_host("source"), network.add_host("replica")
        if not offload:
            for host in (source, replica):
                host.run([sys.executable, "-c", _NO_OFFLOAD, INTERFACE])
        alone_bytes, _, _, _ = _stream(source, replica, seconds, watched=False)
        sent_bytes, cpu_used_seconds, metrics, flows = _stream(source, replica, seconds, watched=True)
    [flow] = flows or [{"verdict": "none", "bytes": 0}]
    return Outcome(
        offload=offload,
        alone_gbit_s=alone_bytes * 8 / seconds / 1e9,
        gbit_s=sent_bytes * 8 / seconds / 1e9,
        cores=cpu_used_seconds / seconds,
        dropped=int(metrics["binlock_monitor_packets_dropped_total"]),
        packets=int(metrics["binlock_monitor_packets_total"]),
        verdict=str(flow["verdict"]),
        counted_bytes_ratio=int(str(flow["bytes"])) / sent_bytes,
    )


@contextmanager
def _monitoring(host: Host) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as log:
        argv = [str(_MONITOR), "run", "--interface", INTERFACE, "--port", str(_PORT), "--listen", _LISTEN]
        process = popen(argv, place=host, stderr=log)
        try:
            _ask(host, process, "/readyz", attempts=200)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=10)


def _stream(
    source: Host, replica: Host, seconds: float, *, watched: bool
) -> tuple[int, float, dict[str, float], list[dict[str, object]]]:
    """Has a stream run; the monitor, if it is to watch, starts when the connection is up already.

    Returns:
        Bytes sent, CPU seconds of the monitor meanwhile, its metrics, its flows.
    """
    words = [source.address, str(_PORT)]
    sender = popen(
        [sys.executable, "-c", _SEND, *words, str(seconds)], place=source, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    if sender.stdout is None or sender.stdin is None or sender.stdout.readline() != b"ready\n":
        raise RuntimeError("the sender does not start")
    sink = popen([sys.executable, "-c", _SINK, *words], place=replica)
    time.sleep(_SETTLING_SECONDS)
    used, metrics, flows = 0.0, dict[str, float](), list[dict[str, object]]()
    with ExitStack() as stack:
        monitor = stack.enter_context(_monitoring(source)) if watched else None
        before = cpu_seconds(monitor.pid) if monitor is not None else 0.0
        sender.stdin.write(b"go\n")
        sender.stdin.flush()
        sent_bytes = int(sender.stdout.readline())
        if monitor is not None:
            used = cpu_seconds(monitor.pid) - before
            time.sleep(_SETTLING_SECONDS)
            for family in text_string_to_metric_families(_ask(source, monitor, "/metrics").decode()):
                for sample in family.samples:
                    metrics[sample.name] = metrics.get(sample.name, 0.0) + sample.value
            flows = json.loads(_ask(source, monitor, "/flows"))
    for process in (sender, sink):
        process.kill()
        process.wait()
    return sent_bytes, used, metrics, flows


_FETCH = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=5).read())"


def _ask(host: Host, monitor: subprocess.Popen[bytes], path: str, *, attempts: int = 1) -> bytes:
    """Asks the monitor, which listens on its host's loopback."""
    argv = host.command([sys.executable, "-c", _FETCH, f"http://{_LISTEN}{path}"])
    while True:
        attempts -= 1
        result = subprocess.run(argv, capture_output=True, check=False)
        if result.returncode == 0:
            return result.stdout
        if monitor.poll() is not None or not attempts:
            raise RuntimeError(f"the monitor does not answer {path}: {result.stderr.decode(errors='replace')[-300:]}")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
