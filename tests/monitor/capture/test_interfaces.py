import errno
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import trio
import trio.testing

from monitor.capture import interfaces
from monitor.capture.interfaces import CaptureError, InterfaceCapture
from monitor.capture.triage import LINKTYPE_ETHERNET, LINKTYPE_RAW, MOST_SETTLED_KEYS, Instruction, assemble_triage
from monitor.scapy.sockets import open_listening_socket
from tests.monitor.capture.crafted import SYN, ethernet, ipv4, ipv6, key, tcp
from tests.monitor.capture.namespaces import add_pair, in_namespace, ip, wait_for_link

PORTS = frozenset({3306})
SEGMENT = ethernet(ipv4(6, tcp(3306, 50000, b"payload")))
OTHER = ethernet(ipv4(6, tcp(5432, 50000, b"payload")))
# linux/if_tun.h
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
Taken = tuple[bytes, int, float, int]


class Sender:
    """Puts frames on an interface."""

    def __init__(self, interface: str = "near") -> None:
        self._interface = interface

    def __call__(self, *frames: bytes) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
            out.bind((self._interface, 0))
            for frame in frames:
                out.send(frame)


def drained(capture: InterfaceCapture, most: int = 1000) -> list[Taken]:
    taken: list[Taken] = []
    count = capture.drain(lambda *frame: taken.append(frame), most)
    assert count == len(taken)
    return taken


def frames(capture: InterfaceCapture) -> list[bytes]:
    return [frame for frame, _, _, _ in drained(capture)]


def opened(
    name: str = "far", ports: frozenset[int] | None = PORTS, *, buffer_bytes: int = 64 << 20, sample_1_in: int = 64
) -> InterfaceCapture:
    capture = InterfaceCapture(name, ports, buffer_bytes=buffer_bytes, sample_1_in=sample_1_in)
    capture.open()
    return capture


def is_up(capture: InterfaceCapture) -> bool:
    return capture.is_up


def down_since(capture: InterfaceCapture) -> float | None:
    return capture.down_since_seconds


def polled(capture: InterfaceCapture, now_seconds: float) -> bool:
    capture.poll(now_seconds)
    return capture.is_up


def fail(*_frame: object) -> None:
    raise RuntimeError("other")


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to pass")


@in_namespace
def test_frames_of_the_ports_come_with_link_type_time_and_length() -> None:
    add_pair()
    capture = opened()
    assert is_up(capture)

    def notes_times() -> bool:
        Sender()(SEGMENT)
        time.sleep(0.1)
        taken = drained(capture)
        return bool(taken) and taken[-1][2] < time.time() - 0.05

    # The kernel begins to a little after it is asked to.
    wait_until(notes_times)
    earlier, _ = capture.statistics()
    before = time.time()
    Sender()(SEGMENT, OTHER)
    Sender()(ethernet(ipv6(6, tcp(50000, 3306))))
    time.sleep(0.5)
    fetched = time.time()
    (first, link_type, first_seconds, length), (second, _, second_seconds, _) = drained(capture)
    assert (first, link_type, length) == (SEGMENT, LINKTYPE_ETHERNET, len(SEGMENT))
    assert second == ethernet(ipv6(6, tcp(50000, 3306)))
    # When they passed, not when they were fetched. The kernel's clock has more digits than a float.
    assert before - 1e-5 <= first_seconds <= second_seconds < fetched - 0.25
    assert capture.statistics() == (earlier + 2, 0)
    assert drained(capture) == []


@in_namespace
def test_what_the_interface_sends_is_seen_too() -> None:
    add_pair()
    capture = opened("near")
    Sender("near")(SEGMENT)
    Sender("far")(SEGMENT)
    assert frames(capture) == [SEGMENT, SEGMENT]


@in_namespace
def test_loopback_shows_each_frame_once_and_whole() -> None:
    ip("link", "set", "lo", "up")
    capture = opened("lo", None)
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    threading.Thread(target=client.sendall, args=(bytes(4 << 20),)).start()
    left = 4 << 20
    while left:
        left -= len(server.recv(1 << 16))
    taken = drained(capture, 100_000)
    seen = [frame for frame, _, _, _ in taken]
    # What TCP sends again is another packet, with another identification.
    assert len(set(seen)) == len(seen)
    assert sum(frame[47] & SYN == SYN for frame in seen) == 2
    # Behind 14 bytes of Ethernet and 20 of IPv4: ports, the sequence number, and where the payload begins.
    sent = [frame for frame in seen if int.from_bytes(frame[34:36]) == client.getsockname()[1]]
    (first,) = [int.from_bytes(frame[38:42]) + 1 for frame in sent if frame[47] & SYN]
    covered = 0
    for offset, length in sorted(
        ((int.from_bytes(frame[38:42]) - first) % (1 << 32), len(frame) - 34 - 4 * (frame[46] >> 4))
        for frame in sent
        if not frame[47] & SYN
    ):
        assert offset <= covered
        covered = max(covered, offset + length)
    assert covered == 4 << 20
    assert max(map(len, seen)) > 60_000
    assert {link_type for _, link_type, _, _ in taken} == {LINKTYPE_ETHERNET}


@in_namespace
def test_an_interface_without_link_header() -> None:
    tunnel = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("=16sH22x", b"tunnel", IFF_TUN | IFF_NO_PI))
    ip("link", "set", "tunnel", "addrgenmode", "none", "up")
    capture = opened("tunnel")
    os.write(tunnel, ipv4(6, tcp(3306, 1, b"x")))
    os.write(tunnel, ipv4(6, tcp(5432, 1, b"x")))
    os.write(tunnel, ipv6(6, tcp(1, 3306, b"x")))
    taken = drained(capture)
    assert [(frame, link_type) for frame, link_type, _, _ in taken] == [
        (ipv4(6, tcp(3306, 1, b"x")), LINKTYPE_RAW),
        (ipv6(6, tcp(1, 3306, b"x")), LINKTYPE_RAW),
    ]


@in_namespace
def test_no_more_frames_than_asked_for() -> None:
    add_pair()
    capture = opened()
    Sender()(*[SEGMENT] * 5)
    assert [len(drained(capture, 2)) for _ in range(4)] == [2, 2, 1, 0]


@in_namespace
def test_an_exception_costs_one_frame() -> None:
    add_pair()
    failures: list[Exception] = []
    capture = InterfaceCapture("far", None, on_error=failures.append)
    capture.open()
    Sender()(SEGMENT, OTHER, SEGMENT)
    taken = []

    def take(frame: bytes, _link_type: int, _seconds: float, _length: int) -> None:
        if frame == OTHER:
            fail()
        taken.append(frame)

    assert capture.drain(take, 10) == 3
    assert taken == [SEGMENT, SEGMENT]
    assert capture.errors == 1
    assert [str(error) for error in failures] == ["other"]
    # Without anybody to tell it to.
    quiet = opened()
    Sender()(OTHER, SEGMENT)
    assert quiet.drain(fail, 10) == 1
    assert quiet.errors == 1


@in_namespace
def test_settled_directions_are_thinned_out() -> None:
    add_pair()
    capture = opened(sample_1_in=1 << 31)
    settled = ethernet(ipv4(6, tcp(3306, 40000, b"data")))
    opening = ethernet(ipv4(6, tcp(50000, 3306, flags=SYN)))
    assert capture.retriage([key(3306, 40000)], True) == 1
    Sender()(settled, SEGMENT, opening)
    assert frames(capture) == [SEGMENT, opening]
    assert capture.retriage([], False) == 0
    Sender()(settled, SEGMENT, opening)
    assert frames(capture) == [settled, SEGMENT]
    assert capture.retriage((key(3306, port) for port in range(9999)), True) == MOST_SETTLED_KEYS
    Sender()(settled, SEGMENT, ethernet(ipv4(6, tcp(3306, 7, b"data"))))
    assert frames(capture) == [settled, SEGMENT]


@in_namespace
def test_where_the_kernel_has_no_room_for_all_keys_the_busiest_are_thinned_out() -> None:
    add_pair()
    capture = opened(sample_1_in=1 << 31)
    attach, asked = interfaces._attach, []

    def attach_little(to: socket.socket, program: list[Instruction]) -> None:
        asked.append(len(program))
        if len(program) > 400:
            raise OSError(errno.ENOMEM, "no room")
        attach(to, program)

    with patch("monitor.capture.interfaces._attach", attach_little):
        assert capture.retriage([key(3306, port) for port in range(512)], True) == 128
    assert len(asked) == 3
    frame = ethernet(ipv4(6, tcp(3306, 500, b"data")))
    Sender()(ethernet(ipv4(6, tcp(3306, 1, b"data"))), frame)
    assert frames(capture) == [frame]


@in_namespace
def test_a_flood_costs_nothing() -> None:
    add_pair()
    capture = opened()
    capture.retriage([], with_openings=False)
    flood = [ethernet(ipv4(6, tcp(port, 3306, flags=SYN))) for port in range(1024, 2024)]
    for _ in range(100):
        Sender()(*flood)
    assert drained(capture) == []
    assert capture.statistics() == (0, 0)
    Sender()(SEGMENT)
    assert frames(capture) == [SEGMENT]


@in_namespace
def test_a_small_buffer_drops_and_the_statistics_say_so() -> None:
    add_pair()
    capture = opened(buffer_bytes=8192)
    assert capture.buffer_bytes == 8192
    Sender()(*[SEGMENT, OTHER] * 500)
    received, dropped = capture.statistics()
    assert dropped > 0
    assert received + dropped == 500
    assert len(frames(capture)) == received
    Sender()(*[SEGMENT] * 500)
    # They add up.
    more_received, more_dropped = capture.statistics()
    assert more_received + more_dropped == 1000
    assert more_dropped > dropped
    assert more_received > received
    large = opened()
    assert large.buffer_bytes == 64 << 20
    Sender()(*[SEGMENT] * 20_000)
    assert large.statistics() == (20_000, 0)


@in_namespace
def test_nothing_of_before_or_of_other_interfaces_or_ports_comes_in() -> None:
    add_pair()
    ip("link", "set", "lo", "up")

    def open_amid_traffic(interface: str) -> socket.socket:
        result = open_listening_socket(interface)
        Sender("lo")(SEGMENT)
        Sender()(SEGMENT)
        return result

    def assemble_amid_traffic(*arguments: Any, **named: Any) -> list[Instruction]:
        Sender()(OTHER)
        return assemble_triage(*arguments, **named)

    with (
        patch("monitor.capture.interfaces.open_listening_socket", open_amid_traffic),
        patch("monitor.capture.interfaces.assemble_triage", assemble_amid_traffic),
    ):
        capture = opened()
    assert drained(capture) == []
    assert capture.statistics() == (0, 0)
    Sender("lo")(SEGMENT)
    Sender()(OTHER)
    assert drained(capture) == []


@in_namespace
def test_an_interface_goes_down_and_up() -> None:
    add_pair()
    capture = opened()
    Sender()(SEGMENT)
    ip("link", "set", "far", "down")
    # The news of it comes first; frames of before are not lost.
    assert drained(capture) == []
    assert not is_up(capture)
    assert frames(capture) == [SEGMENT]
    assert not polled(capture, 5.0)
    capture.poll(6.0)
    assert down_since(capture) == 5.0
    ip("link", "set", "far", "up")
    wait_for_link("far")
    Sender()(SEGMENT)
    assert frames(capture) == [SEGMENT]
    assert polled(capture, 7.0)
    assert down_since(capture) is None
    # A cable that is unplugged at the other end.
    ip("link", "set", "near", "down")
    wait_until(lambda: not polled(capture, 8.0))
    assert drained(capture) == []
    ip("link", "set", "near", "up")
    wait_until(lambda: polled(capture, 9.0))


@in_namespace
def test_an_interface_that_is_down_is_captured_on_once_it_is_up() -> None:
    add_pair(up=False)
    capture = opened()
    assert not is_up(capture)
    capture.poll(1.0)
    assert drained(capture) == []
    for end in ("near", "far"):
        ip("link", "set", end, "up")
    wait_until(lambda: polled(capture, 2.0))
    Sender()(SEGMENT)
    assert frames(capture) == [SEGMENT]


@in_namespace
def test_an_interface_is_removed_and_made_anew() -> None:
    add_pair()
    capture = opened(sample_1_in=1 << 31)
    capture.retriage([key(3306, 40000)], True)
    settled = ethernet(ipv4(6, tcp(3306, 40000, b"data")))
    descriptor, before = capture.fileno(), socket.if_nametoindex("far")
    for _ in range(2):
        ip("link", "delete", "near")
        assert not polled(capture, 1.0)
        drained(capture)
        assert drained(capture) == []
        add_pair()
        assert socket.if_nametoindex("far") != before
        assert polled(capture, 2.0)
        # The triage is as it was.
        Sender()(SEGMENT, OTHER, settled)
        assert frames(capture) == [SEGMENT]
        assert capture.fileno() == descriptor
    assert capture.statistics() == (2, 0)
    # Promiscuous, too: what is for another host is seen.
    assert (
        "promiscuity 1 "
        in subprocess.run(["ip", "-details", "link", "show", "far"], capture_output=True, text=True, check=True).stdout
    )


@in_namespace
def test_an_interface_comes_back_with_another_link_type() -> None:
    add_pair()
    capture = opened()
    ip("link", "delete", "near")
    tunnel = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("=16sH22x", b"far", IFF_TUN | IFF_NO_PI))
    ip("link", "set", "far", "addrgenmode", "none", "up")
    wait_for_link("far")
    assert polled(capture, 1.0)
    drained(capture)
    # What the socket still says of the one before does not count.
    assert is_up(capture)
    os.write(tunnel, ipv4(6, tcp(3306, 1, b"x")))
    os.write(tunnel, ipv4(6, tcp(5432, 1, b"x")))
    assert [(frame, link_type) for frame, link_type, _, _ in drained(capture)] == [
        (ipv4(6, tcp(3306, 1, b"x")), LINKTYPE_RAW)
    ]


@in_namespace
def test_it_can_be_waited_for() -> None:
    add_pair()
    capture = opened()

    async def wait() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.wait_readable, capture.fileno())
                await trio.testing.wait_all_tasks_blocked()
                Sender()(SEGMENT)

    trio.run(wait)
    assert frames(capture) == [SEGMENT]


@in_namespace
def test_what_cannot_be_opened() -> None:
    with pytest.raises(CaptureError, match=r"there is no interface eth7; there are lo$"):
        opened("eth7")
    closed = InterfaceCapture("lo", PORTS)
    with pytest.raises(CaptureError, match="not open"):
        closed.fileno()
    with pytest.raises(CaptureError, match="the kernel takes 4096"):
        opened("lo", frozenset(range(5000)))
    capture = opened("lo")
    capture.close()
    assert not is_up(capture)
    with pytest.raises(CaptureError, match="not open"):
        drained(capture)


@in_namespace
def test_who_may_not_is_told_what_it_takes() -> None:
    program = (
        "from monitor.capture.interfaces import CaptureError, InterfaceCapture\n"
        "try:\n    InterfaceCapture('lo', None).open()\nexcept CaptureError as error:\n    print(error)\n"
    )
    # All capabilities but the one.
    without = ["setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw", "--"]
    said = subprocess.run([*without, sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.startswith("not permitted to capture on lo: capturing needs root or CAP_NET_RAW")


def test_nothing_of_openssl_is_loaded() -> None:
    program = (
        "import sys, monitor.capture.interfaces; print([n for n in sys.modules if 'ssl' in n or 'cryptography.' in n])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"
