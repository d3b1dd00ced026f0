"""The fake replica, which measures: bulk, ping, and what it takes to have sessions."""

import contextlib
import gc
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.conversation import ACKNOWLEDGEMENT, PING_PACKET_BYTES, InBandTls, Order, dump
from bench.processes import cpu_seconds, resident_bytes

_TIMEOUT_SECONDS = 30
_RECEIVE_BYTES = 1 << 20
# Before the clock starts: congestion windows, buffers, the CPU's frequency.
_WARM_UP_SECONDS = 0.25
_WARM_UP_PINGS = 200
# Between the last login and a look at the memory: what a handshake has freed.
_SETTLE_SECONDS = 0.3
_GIGABYTE = 1e9

Connect = Callable[[Order], socket.socket]


@dataclass(frozen=True, slots=True)
class Door:
    """Where and how a replica connects.

    Attributes:
        tls: None for a plaintext replica.
        in_band: MySQL's TLS, after the greeting, instead of TLS from the first byte.
    """

    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    in_band: bool = False

    def connect(self, order: Order) -> socket.socket:
        """A session whose dump has begun.

        Raises:
            OSError: no connection, or no TLS.
            ConversationError: the source or a proxy before it said no.
        """
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=_TIMEOUT_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.tls is not None and not self.in_band:
                sock = self.tls.wrap_socket(sock, server_hostname=self.server_name)
            in_band = InBandTls(self.tls, self.server_name) if self.tls is not None and self.in_band else None
            return dump(sock, order, in_band)
        except BaseException:
            sock.close()
            raise


@dataclass(frozen=True, slots=True)
class Bulk:
    """One round of bulk. CPU is in the order of the proxy's processes, replica's side first."""

    megabytes_per_second: float
    cpu_seconds_per_gigabyte: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Pings:
    """Semi-synchronous round trips of one or more connections, and the CPU seconds of each process for all of them."""

    nanoseconds: list[int]
    cpu_seconds: tuple[float, ...]

    @classmethod
    def merged(cls, slices: Sequence["Pings"]) -> "Pings":
        """All of them as one."""
        return cls(
            [one for piece in slices for one in piece.nanoseconds],
            tuple(map(sum, zip(*(piece.cpu_seconds for piece in slices), strict=True))),
        )

    def percentile_microseconds(self, percent: int) -> float:
        """So many percent of the round trips were shorter."""
        return sorted(self.nanoseconds)[len(self.nanoseconds) * percent // 100] / 1e3

    def cpu_microseconds_each(self) -> tuple[float, ...]:
        """CPU time of each process for one round trip."""
        return tuple(seconds / len(self.nanoseconds) * 1e6 for seconds in self.cpu_seconds)


@dataclass(frozen=True, slots=True)
class Idle:
    """What sessions cost that carry nothing."""

    kibibytes_per_session: tuple[float, ...]
    set_up_cpu_milliseconds: tuple[float, ...]


def measure_bulk(connect: Connect, pids: Sequence[int], *, event_bytes: int, seconds: float) -> Bulk:
    """Receives events for so many seconds and drops them."""
    with _quiet(), connect(Order("bulk", event_bytes)) as sock:
        view = memoryview(bytearray(_RECEIVE_BYTES))
        _drain(sock, view, _WARM_UP_SECONDS)
        before = [cpu_seconds(pid) for pid in pids]
        received, elapsed = _drain(sock, view, seconds)
        after = [cpu_seconds(pid) for pid in pids]
    gigabytes = received / _GIGABYTE
    return Bulk(
        megabytes_per_second=received / 1e6 / elapsed,
        cpu_seconds_per_gigabyte=tuple((late - early) / gigabytes for early, late in zip(before, after, strict=True)),
    )


def measure_ping(connect: Connect, pids: Sequence[int], *, count: int) -> Pings:
    """Acknowledges events one at a time, and times each from the acknowledgement to the next event."""
    with _quiet(), connect(Order("ping")) as sock:
        view = memoryview(bytearray(PING_PACKET_BYTES))
        _receive_exactly(sock, view)
        _ping(sock, view, _WARM_UP_PINGS)
        before = [cpu_seconds(pid) for pid in pids]
        nanoseconds = _ping(sock, view, count)
        after = [cpu_seconds(pid) for pid in pids]
    return Pings(nanoseconds, tuple(late - early for early, late in zip(before, after, strict=True)))


def measure_idle(connect: Connect, pids: Sequence[int], *, sessions: int) -> Idle:
    """Opens so many sessions and looks at the growth of the proxy's processes. They should be fresh."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(connect(Order("idle")))
        time.sleep(_SETTLE_SECONDS)
        memory = [resident_bytes(pid) for pid in pids]
        cpu = [cpu_seconds(pid) for pid in pids]
        for _ in range(sessions):
            stack.enter_context(connect(Order("idle")))
        time.sleep(_SETTLE_SECONDS)
        return Idle(
            kibibytes_per_session=tuple(
                (resident_bytes(pid) - early) / 1024 / sessions for pid, early in zip(pids, memory, strict=True)
            ),
            set_up_cpu_milliseconds=tuple(
                (cpu_seconds(pid) - early) / sessions * 1e3 for pid, early in zip(pids, cpu, strict=True)
            ),
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without a garbage collection of this process in the middle of a measure."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _drain(sock: socket.socket, view: memoryview, seconds: float) -> tuple[int, float]:
    received = 0
    start = now = time.perf_counter()
    end = start + seconds
    while now < end:
        count = sock.recv_into(view)
        if count == 0:
            raise ConnectionError("the stream ended")
        received += count
        now = time.perf_counter()
    return received, now - start


def _ping(sock: socket.socket, view: memoryview, count: int) -> list[int]:
    clock = time.perf_counter_ns
    nanoseconds = []
    for _ in range(count):
        start = clock()
        sock.sendall(ACKNOWLEDGEMENT)
        if sock.recv_into(view) != PING_PACKET_BYTES:
            raise ConnectionError("an event came in pieces, or not at all")
        nanoseconds.append(clock() - start)
    return nanoseconds


def _receive_exactly(sock: socket.socket, view: memoryview) -> None:
    while view:
        count = sock.recv_into(view)
        if count == 0:
            raise ConnectionError("the stream ended")
        view = view[count:]
