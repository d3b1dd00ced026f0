"""Packet captures by a plain AF_PACKET socket, into pcap files.

The capturing runs as a program of its own (`python -m testbed.capture`), since a process cannot enter another
network namespace and come back; needs root, or to be root of a user namespace, as on a testbed host.
"""

import json
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from testbed.programs import ProgramError, popen

# draft-ietf-opsawg-pcap: magic for microseconds, version 2.4, two unused, snap length, link type 1 (Ethernet;
# Linux gives `lo` an Ethernet header too).
SNAP_LENGTH = 262144  # libpcap's own; a virtual link carries segments of up to 64 KiB
BUFFER_BYTES = 64 << 20
FILE_HEADER = struct.pack("=IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAP_LENGTH, 1)
ETH_P_ALL = 0x0003  # linux/if_ether.h
# linux/socket.h, linux/if_packet.h
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS = 263, 1, 6
PACKET_MR_PROMISC, PACKET_OUTGOING = 1, 4
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35  # asm-generic/socket.h
ANCILLARY_BYTES = 64


class CapturePlace(Protocol):
    """Where packets pass: a host, or a network's bridge."""

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` there."""


class PacketCapture:
    """One running capture. A context manager: starts on entry if need be, stops on exit.

    Attributes:
        path: the pcap file; complete once stopped.
        packets: how many packets are in it, once stopped.
        dropped: how many the kernel could not hold, once stopped.
    """

    def __init__(self, path: Path, *, interface: str = "lo", host: CapturePlace | None = None) -> None:
        self.path = path
        self.packets = 0
        self.dropped = 0
        self._interface = interface
        self._host = host
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start; returns once packets are being taken.

        Raises:
            ProgramError: no such interface, or not permitted.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "testbed.capture", self._interface, str(self.path.resolve())]
        checkout = str(Path(__file__).resolve().parent.parent)
        self._process = popen(
            argv,
            place=self._host,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            environment={"PYTHONPATH": checkout},
        )
        if self._process.stdout is None or self._process.stdout.readline() != b"capturing\n":
            _, errors = self._process.communicate()
            reason = errors.decode(errors="replace").strip().splitlines()[-1:]
            raise ProgramError(f"cannot capture on {self._interface}: {' '.join(reason)}")
        return self

    def stop(self) -> Path:
        """Take what has arrived, and end.

        Returns:
            The path of the pcap file.
        """
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            output, _ = self._process.communicate()
            self._process = None
            counted = json.loads(output)
            self.packets, self.dropped = counted["packets"], counted["dropped"]
        return self.path

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def capture(interface: str, output: BinaryIO, ready: Callable[[], None]) -> dict[str, int]:
    """Write what passes an interface as a pcap file until SIGTERM, and what is still queued then.

    Args:
        interface: its name.
        output: where the file goes.
        ready: called once packets are being taken.

    Returns:
        How many packets were written, and how many the kernel dropped.
    """
    wake, signalled = socket.socketpair()
    signalled.setblocking(False)
    signal.set_wakeup_fd(signalled.fileno())
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    output.write(FILE_HEADER)
    count = 0
    # Protocol 0 until bound: otherwise packets of every interface would come in before.
    with wake, signalled, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        try:
            packets.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        except PermissionError:  # a user namespace's root gets what net.core.rmem_max allows
            packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        packets.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        # A bridge shows what it forwards only to those who ask for everything.
        index = socket.if_nametoindex(interface)
        packets.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("=iHH8x", index, PACKET_MR_PROMISC, 0))
        packets.bind((interface, ETH_P_ALL))
        packets.setblocking(False)
        ready()
        ending = False
        while not ending:
            readable, _, _ = select.select([packets, wake], [], [])
            ending = wake in readable
            count += _write_queued(packets, interface == "lo", output)
        _, dropped = struct.unpack("=II", packets.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    return {"packets": count, "dropped": dropped}


def _write_queued(packets: socket.socket, loopback: bool, output: BinaryIO) -> int:
    """Write every packet that waits in the socket; how many they were."""
    buffer = bytearray(SNAP_LENGTH)
    count = 0
    while True:
        try:
            length, ancillary, _, address = packets.recvmsg_into([buffer], ANCILLARY_BYTES)
        except BlockingIOError:
            return count
        # Loopback shows each packet on its way out and again on its way in.
        if loopback and address[2] == PACKET_OUTGOING:
            continue
        seconds, nanoseconds = next(struct.unpack("=qq", data) for _, kind, data in ancillary if kind == SO_TIMESTAMPNS)
        output.write(struct.pack("=IIII", seconds, nanoseconds // 1000, length, length))
        output.write(memoryview(buffer)[:length])
        count += 1


def main() -> None:
    """`python -m testbed.capture INTERFACE FILE`: says `capturing`, and after SIGTERM the counts as JSON."""
    interface, path = sys.argv[1:]
    with Path(path).open("wb") as output:
        counted = capture(interface, output, lambda: _say("capturing"))
    _say(json.dumps(counted))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
