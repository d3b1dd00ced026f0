"""`run` with interfaces that the test feeds: what is found is said, and nothing that happens on one ends the watch."""

import io
import json
import logging
import os
import signal
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from monitor.interfaces import Watched, busiest
from monitor.reporting.logs import logger, set_up_logging
from monitor.reporting.masking import Masking
from monitor.service import Monitor, Settings
from monitor.tracking.settled import SettledDirection, SettledDirections
from monitor.verdicts import Verdict
from tests.monitor.capture.crafted import SYN, ethernet, ipv4, key, tcp
from tests.monitor.reporting.test_metrics import pairs, samples

# COM_BINLOG_DUMP, which only a replica sends: position, flags, server id, file.
_BODY = b"\x12" + struct.pack("<IHI", 4, 0, 77) + b"binlog.000007"
DUMP = len(_BODY).to_bytes(3, "little") + b"\x00" + _BODY


def from_replica(payload: bytes, port: int = 40000) -> bytes:
    return ethernet(ipv4(6, tcp(port, 3306, payload), source="10.0.0.2", destination="10.0.0.1"))


class StubCapture:
    """An interface whose frames the test puts."""

    def __init__(self, name: str = "eth0") -> None:
        self.name = name
        self.is_up = True
        self.errors = 0
        self.dropped = 0
        self.calls: list[str] = []
        self.failure: Exception | None = None
        self.is_endless = False
        self.filters: list[tuple[list[bytes], bool]] = []
        self._frames: deque[bytes] = deque()
        self._taken = 0
        self._readable, self._writable = os.pipe()

    def put(self, frame: bytes) -> None:
        self._frames.append(frame)
        os.write(self._writable, b"x")

    def open(self) -> None:
        self.calls.append("open")

    def close(self) -> None:
        self.calls.append("close")

    def fileno(self) -> int:
        return self._readable

    def drain(self, take: Callable[[bytes, int, float, int], object], most: int) -> int:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if self.is_endless:
            take(from_replica(b""), 1, time.time(), 54)
            return most
        count = 0
        while self._frames and count < most:
            frame = self._frames.popleft()
            os.read(self._readable, 1)
            take(frame, 1, time.time(), len(frame))
            count += 1
        self._taken += count
        return count

    def poll(self, now_seconds: float) -> None:
        pass

    def statistics(self) -> tuple[int, int]:
        return self._taken, self.dropped

    def retriage(self, settled_keys: Sequence[bytes], with_openings: bool) -> int:
        self.filters.append((list(settled_keys), with_openings))
        return len(settled_keys)

    def destroy(self) -> None:
        os.close(self._readable)
        os.close(self._writable)


class Bench:
    """A monitor, its interfaces and its log."""

    def __init__(self, *captures: StubCapture, masking: Masking | None = None) -> None:
        set_up_logging("info", "json")
        self._written = io.StringIO()
        [handler] = logger.handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(self._written)
        self.captures = captures
        self.dropped_to: list[str] = []
        settings = Settings(
            ports=frozenset({3306}), listen=("127.0.0.1", 0), user="somebody", masking=masking or Masking()
        )
        self.monitor = Monitor(settings, captures)

    def open(self) -> None:
        self.monitor.open(self.dropped_to.append)

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._written.getvalue().splitlines()]

    def events(self, *names: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] in names]

    async def wait_for(self, *names: str, count: int = 1) -> dict[str, Any]:
        while len(found := self.events(*names)) < count:  # noqa: ASYNC110 - the log has no event to wait for
            await trio.sleep(0.01)
        return found[-1]

    async def get(self, path: str) -> bytes:
        [listening] = self.monitor._endpoint._listening
        async with await trio.open_tcp_stream(*listening.getsockname()[:2]) as stream:
            await stream.send_all(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return b"".join([piece async for piece in stream]).partition(b"\r\n\r\n")[2]


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    captures: list[StubCapture] = []

    def made(*names: str, masking: Masking | None = None) -> Bench:
        mine = [StubCapture(name) for name in names or ("eth0",)]
        captures.extend(mine)
        return Bench(*mine, masking=masking)

    yield made
    for capture in captures:
        capture.destroy()


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    bench.open()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.monitor.run)
            await bench.wait_for("started")
            yield
            if not bench.events("stopped"):
                signal.raise_signal(signal.SIGTERM)


async def test_a_whole_life(make: Callable[..., Bench]) -> None:
    bench = make()
    async with running(bench):
        assert bench.dropped_to == ["somebody"]
        assert bench.captures[0].calls == ["open"]
        await bench.wait_for("capture_up")
        bench.captures[0].put(from_replica(DUMP))
        found = await bench.wait_for("flow_found")
        assert (found["level"], found["verdict"], found["interface"]) == ("warning", "plaintext-replication", "eth0")
        assert (found["client"], found["server"]) == ("10.0.0.2:40000", "10.0.0.1:3306")
        [shown] = json.loads(await bench.get("/flows"))
        assert {name: found[name] for name in ("client", "server", "verdict", "evidence")} == {
            name: shown[name] for name in ("client", "server", "verdict", "evidence")
        }
        assert (await bench.get("/readyz")) == b"ready\n"
        assert b'plaintext_replication_active{replica="10.0.0.2",source="10.0.0.1"} 1.0' in await bench.get("/metrics")
    assert [line["event"] for line in bench.log[-3:]] == ["signal", "flow_ended", "stopped"]
    assert bench.captures[0].calls == ["open", "close"]
    assert "binlog.000007" not in bench._written.getvalue()


async def test_sighup_ends_nothing_and_sigint_does(make: Callable[..., Bench]) -> None:
    bench = make()
    async with running(bench):
        signal.raise_signal(signal.SIGHUP)
        assert (await bench.wait_for("signal"))["name"] == "SIGHUP"
        bench.captures[0].put(from_replica(DUMP))
        await bench.wait_for("flow_found")
        signal.raise_signal(signal.SIGINT)
        await bench.wait_for("stopped")


async def test_a_failure_on_one_interface_ends_the_watch_of_none(make: Callable[..., Bench]) -> None:
    bench = make("eth0", "eth1")
    async with running(bench):
        bench.captures[0].failure = OSError(5, "broken")
        bench.captures[0].put(from_replica(DUMP, 40001))
        assert (await bench.wait_for("defect"))["interface"] == "eth0"
        bench.captures[1].put(from_replica(DUMP, 40002))
        while len({line["client"] for line in bench.events("flow_found")}) < 2:  # noqa: ASYNC110 - as in wait_for
            await trio.sleep(0.01)


async def test_an_interface_that_is_never_empty_starves_neither_the_other_nor_the_endpoint(
    make: Callable[..., Bench],
) -> None:
    bench = make("eth0", "eth1")
    async with running(bench):
        bench.captures[0].is_endless = True
        bench.captures[0].put(b"")
        assert await bench.get("/healthz") == b"ok\n"
        bench.captures[1].put(from_replica(DUMP))
        assert (await bench.wait_for("flow_found"))["verdict"] == "plaintext-replication"


def test_of_several_interfaces_the_one_whose_packet_decided_is_named(make: Callable[..., Bench]) -> None:
    bench = make("eth0", "eth1")
    logger.setLevel("DEBUG")
    opening = ethernet(ipv4(6, tcp(40000, 3306, flags=SYN), source="10.0.0.2", destination="10.0.0.1"))
    # Its first byte has the number of the SYN, and counts for nothing.
    for frame in (opening, from_replica(b"?GET / HTTP/1.1\r\n\r\n")):
        bench.captures[1].put(frame)
    bench.monitor._drain(bench.captures[1])
    [found] = bench.events("flow_found")
    assert (found["verdict"], found["interface"]) == ("not-mysql", "eth1")
    assert bench.monitor._findings.interface == ""


async def test_masking_reaches_every_output(make: Callable[..., Bench]) -> None:
    bench = make(masking=Masking.fresh())
    async with running(bench):
        bench.captures[0].put(from_replica(DUMP))
        await bench.wait_for("flow_found")
        served = b"".join([await bench.get(path) for path in ("/flows", "/metrics")]).decode()
    for said in (served, bench._written.getvalue()):
        assert "host-" in said
        assert "10.0.0." not in said


def test_an_interface_that_goes_and_comes_is_said_and_counts_for_readiness(make: Callable[..., Bench]) -> None:
    bench = make("eth0", "eth1")
    for second, states in enumerate([(True, True), (False, True), (False, False), (False, False), (True, False)]):
        for capture, is_up in zip(bench.captures, states, strict=True):
            capture.is_up = is_up
        bench.monitor._tick(1e9 + second, has_second_passed=True)
        assert bench.monitor.is_ready is any(states)
    said = [(line["level"], line["event"], line["interface"]) for line in bench.log]
    assert said == [
        ("info", "capture_up", "eth0"),
        ("info", "capture_up", "eth1"),
        ("error", "capture_down", "eth0"),
        ("error", "capture_down", "eth1"),
        ("info", "capture_up", "eth0"),
    ]
    assert samples(bench.monitor._metrics)["binlock_monitor_capture_up", ("eth1",)] == 0


def test_drops_are_said_once_each_and_remembered_for_a_minute(make: Callable[..., Bench]) -> None:
    bench = make()
    [capture] = bench.captures
    for second, dropped in enumerate([0, 5, 5, 12]):
        capture.dropped = dropped
        bench.monitor._tick(1e9 + second, has_second_passed=True)
    assert [line["packets"] for line in bench.events("packets_dropped")] == [5, 7]
    assert samples(bench.monitor._metrics)["binlock_monitor_packets_dropped_total", ("eth0",)] == 12


def test_drops_are_recent_for_a_minute() -> None:
    capture = StubCapture()
    watched = Watched(capture)
    capture.dropped = 1
    watched.look(1000.0)
    assert watched.is_dropping(1059.0)
    assert not watched.is_dropping(1060.0)
    capture.destroy()


def test_the_kernel_is_given_what_is_settled_when_that_changes(make: Callable[..., Bench]) -> None:
    bench = make("eth0", "eth1")
    bench.monitor._tick(1e9, has_second_passed=False)
    before = len(bench.captures[0].filters)
    bench.monitor._table.settled.add(SettledDirection(b"k" * 12, 0))
    for _ in range(3):
        bench.monitor._tick(1e9, has_second_passed=False)
    for capture in bench.captures:
        assert capture.filters[before:] == [([b"k" * 12], True)]


def test_a_flood_is_kept_out_by_the_kernel_and_let_in_again(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make()
    openings = 0
    monkeypatch.setattr(type(bench.monitor._table), "openings_total", property(lambda _: openings))
    for second in range(12):
        bench.monitor._tick(1e9 + second, has_second_passed=True)
        bench.monitor._tick(1e9 + second, has_second_passed=False)
        openings += 100_000 if second == 1 else 10
    assert [line["event"] for line in bench.events("flood_began", "flood_paused")] == ["flood_began", "flood_paused"]
    assert [with_openings for _, with_openings in bench.captures[0].filters] == [False, True]
    shown = samples(bench.monitor._metrics)
    assert (shown["binlock_monitor_floods_total", ()], shown["binlock_monitor_flood_active", ()]) == (1, 0)


def test_a_defect_of_a_packet_is_counted(make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make()

    def fail(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(bench.monitor._intake, "_table", type("T", (), {"take": fail})())
    bench.captures[0].put(from_replica(DUMP))
    bench.monitor._drain(bench.captures[0])
    assert samples(bench.monitor._metrics)["binlock_monitor_packet_errors_total", ()] == 1
    [line] = bench.events("defect")
    assert "KeyError" in line["traceback"]


def test_metrics_are_of_the_moment_in_which_they_are_asked_for(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make()
    table = bench.monitor._table
    bench.captures[0].put(from_replica(DUMP))
    bench.monitor._drain(bench.captures[0])
    table.tick(time.time() + 1)
    # What was passed over is counted when the table is told to.
    monkeypatch.setattr(table, "count", lambda: table.bytes.update({Verdict.TLS: 7}))
    shown = samples(bench.monitor._metrics)
    assert shown["binlock_monitor_flows_total", ("plaintext-replication",)] == 1
    assert shown["binlock_monitor_flows_active", ("plaintext-replication",)] == 1
    assert shown["binlock_monitor_bytes_total", ("tls",)] == 7
    assert pairs(bench.monitor._metrics)["10.0.0.1", "10.0.0.2"] == 1


def test_the_busiest_are_both_directions_of_what_moves_most_and_what_rests_stands_behind() -> None:
    settled = SettledDirections()
    for port, moved, last in ((1, 10, 1000.0), (2, 30, 1000.0), (3, 99, 10.0), (4, 20, 1000.0)):
        settled.add(SettledDirection(key(3306, port), 0, bytes=moved, last_seconds=last))
        settled.add(
            SettledDirection(key(port, 3306, source="10.0.0.2", destination="10.0.0.1"), 0, bytes=1, last_seconds=last)
        )
    ports = [max(int.from_bytes(each[-4:-2]) % 3306, int.from_bytes(each[-2:]) % 3306) for each in busiest(settled, 7)]
    assert ports == [2, 2, 4, 4, 1, 1, 3]


def test_an_address_that_is_taken_is_an_error_before_anything_is_captured(make: Callable[..., Bench]) -> None:
    first, second = make(), make()
    first.open()
    [listening] = first.monitor._endpoint._listening
    second.monitor._endpoint._listen = listening.getsockname()[:2]
    with pytest.raises(OSError, match="in use"):
        second.open()
    assert second.captures[0].calls == []
    listening.close()
