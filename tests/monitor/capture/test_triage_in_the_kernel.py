"""The kernel runs the program that decides what a capture is given, on real sockets, as the one in Python says."""

import ctypes
import ipaddress
import itertools
import select
import socket
import struct

import pytest

from monitor.capture.triage import LINKTYPE_RAW, MOST_SETTLED_KEYS, Instruction, packed, reject_all
from tests.monitor.capture.crafted import FIN_ACK, SYN, ethernet, ipv4, key, padded, tcp
from tests.monitor.capture.namespaces import add_pair, in_namespace
from tests.monitor.capture.test_triage import FRAMES, OPENINGS, SETTLED, passes, triage

ETH_P_ALL = 0x0003
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33
_numbers = itertools.count()


def opened(interface: str, program: list[Instruction]) -> socket.socket:
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    packets.setblocking(False)
    packets.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    attach(packets, program)
    packets.bind((interface, ETH_P_ALL))
    return packets


def attach(to: socket.socket, program: list[Instruction]) -> None:
    instructions = ctypes.create_string_buffer(packed(program))
    whole = struct.pack("@HP", len(program), ctypes.addressof(instructions))
    to.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, whole)


def received(packets: socket.socket, sender: socket.socket) -> list[bytes]:
    """What came of all that was sent before; a frame that always passes is sent behind it until it comes."""
    frames: list[bytes] = []
    last = ethernet(ipv4(6, tcp(49999, 3306, b"no more, %d" % next(_numbers), flags=FIN_ACK)))
    for _ in range(60):
        sender.send(last)
        while select.select([packets], [], [], 1)[0]:
            frame = packets.recv(1 << 17)
            if frame == last:
                return frames
            if b"no more" not in frame:
                frames.append(frame)
    raise AssertionError(f"{len(frames)} frames, and never the last")


@in_namespace
def test_the_kernel_runs_it_as_the_reference_does() -> None:
    add_pair()
    frames = [padded(frame) for frame, _ in FRAMES.values()] + [padded(frame) for frame in OPENINGS.values()]
    for frame, _ in FRAMES.values():
        frames += [frame[:length] for length in range(18, len(frame), 5)]
        for at in range(12, 54):
            spoilt = bytearray(padded(frame))
            spoilt[at] ^= 37 * at % 256
            frames.append(bytes(spoilt))
    # The near end sees what is sent; for the far end the kernel takes a tag off, and drops a frame with half a tag.
    frames = [frame for frame in frames if frame[12:14] not in {b"\x81\x00", b"\x88\xa8"} or len(frame) >= 22]
    for with_openings in (True, False):
        for settled in ([], SETTLED, [*SETTLED, *(key(3306, port) for port in range(1, MOST_SETTLED_KEYS - 2))]):
            # At such odds nothing passes by chance.
            program = triage(settled=settled, with_openings=with_openings, sample_1_in=1 << 31)
            with (
                opened("near", program) as near,
                opened("far", program) as far,
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender,
            ):
                sender.bind(("near", 0))
                for frame in frames:
                    sender.send(frame)
                assert received(near, sender) == [frame for frame in frames if passes(frame, program)]
                assert received(far, sender) == [frame for frame in map(untagged, frames) if passes(frame, program)]


def untagged(frame: bytes) -> bytes:
    return frame[:12] + frame[16:] if frame[12:14] in {b"\x81\x00", b"\x88\xa8"} else frame


@in_namespace
def test_the_kernel_draws_lots() -> None:
    add_pair()
    with (
        opened("far", triage(sample_1_in=10)) as far,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender,
    ):
        sender.bind(("near", 0))
        frame = ethernet(ipv4(6, tcp(payload=b"data of a table")))
        for _ in range(4000):
            sender.send(frame)
        # 400 are to be expected, give or take 19.
        assert 200 < len(received(far, sender)) < 600


@in_namespace
def test_a_flood_ends_in_the_kernel() -> None:
    add_pair()
    program = triage(with_openings=False)
    with (
        opened("far", program) as far,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender,
    ):
        sender.bind(("near", 0))
        for number in range(100_000):
            address = str(ipaddress.IPv4Address(0x0B000000 + number))
            sender.send(ethernet(ipv4(6, tcp(1024 + number % 60000, 3306, flags=SYN), source=address)))
        assert received(far, sender) == []
        # The filter lives, and so does the cable.
        sender.send(ethernet(ipv4(6, tcp(50000, 3306, b"payload"))))
        assert len(received(far, sender)) == 1


def test_a_socket_without_packets_takes_it_too() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        far.setblocking(False)
        packet = ipv4(6, tcp(3306, 50000, b"x"))
        attach(far, triage(link_type=LINKTYPE_RAW))
        near.send(packet)
        assert far.recv(1 << 17) == packet
        attach(far, reject_all())
        near.send(packet)
        with pytest.raises(BlockingIOError):
            far.recv(1 << 17)
