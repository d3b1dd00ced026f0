"""Frames from a live interface: what the kernel's triage lets through, with the kernel's time.

packet(7), socket(7) and netdevice(7) describe the calls. All that needs a privilege happens in `open`; what comes later
(another filter, an interface that comes back) is done to the socket that is open already, and needs none.
"""

import ctypes
import errno
import fcntl
import secrets
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from monitor.capture.triage import (
    LINKTYPE_ETHERNET,
    LINKTYPE_RAW,
    MOST_SETTLED_KEYS,
    Instruction,
    assemble_triage,
    packed,
    reject_all,
)
from monitor.scapy.sockets import open_listening_socket

Take = Callable[[bytes, int, float, int], object]

# A segment that the kernel has yet to cut up (GSO_MAX_SIZE of linux/netdevice.h), with its headers.
MOST_FRAME_BYTES = (8 << 16) + 256

_ETH_P_ALL = 0x0003  # linux/if_ether.h
# linux/socket.h, linux/if_packet.h
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_STATISTICS, _PACKET_AUXDATA, _PACKET_IGNORE_OUTGOING = 263, 1, 6, 8, 23
_PACKET_MR_PROMISC = 1
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 26, 33, 35  # asm-generic/socket.h
_SIOCGSTAMPNS, _SIOCGIFFLAGS = 0x8907, 0x8913  # asm-generic/sockios.h, linux/sockios.h
_IFF_UP, _IFF_RUNNING = 0x1, 0x40  # linux/if.h
_INTERFACE_REQUEST = struct.Struct("=16sh22x")  # struct ifreq
_TIMESPEC = struct.Struct("@ll")

_ARPHRD_LOOPBACK = 772
# linux/if_arp.h: frames with an Ethernet header, and interfaces that carry bare IP packets.
_LINK_TYPES = {
    1: LINKTYPE_ETHERNET,
    _ARPHRD_LOOPBACK: LINKTYPE_ETHERNET,
    519: LINKTYPE_RAW,  # ARPHRD_RAWIP
    768: LINKTYPE_RAW,  # ARPHRD_TUNNEL
    769: LINKTYPE_RAW,  # ARPHRD_TUNNEL6
    776: LINKTYPE_RAW,  # ARPHRD_SIT
    0xFFFE: LINKTYPE_RAW,  # ARPHRD_NONE: tun, WireGuard
}
_NOT_PERMITTED = (
    "capturing needs root or CAP_NET_RAW (in a systemd unit: AmbientCapabilities=CAP_NET_RAW; "
    "for a container: --cap-add NET_RAW --network host)"
)


class CaptureError(Exception):
    """An interface cannot be captured on; the text says why and what to do."""


class InterfaceCapture:
    """One interface. Frames wait in the socket's buffer until they are drained.

    Attributes:
        name: of the interface.
        buffer_bytes: as asked for; once open, what the kernel gave.
        is_up: whether frames can come in: the interface exists, is up and has a carrier. Kept by `poll`.
        down_since_seconds: when `poll` first found that it is not; None while it is up.
        errors: how many frames `take` failed on.
    """

    def __init__(
        self,
        name: str,
        ports: frozenset[int] | None,
        *,
        buffer_bytes: int = 64 << 20,
        promiscuous: bool = True,
        sample_1_in: int = 64,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            name: of the interface.
            ports: as for `monitor.capture.triage.assemble_triage`.
            buffer_bytes: how much may wait; the kernel allows as much again for its own overhead. More than
                net.core.rmem_max needs CAP_NET_ADMIN.
            promiscuous: whether to ask for frames to other hosts, as a mirror port carries.
            sample_1_in: as for `assemble_triage`.
            on_error: called with each exception of `take`.
        """
        self.name = name
        self.buffer_bytes = buffer_bytes
        self.is_up = False
        self.down_since_seconds: float | None = None
        self.errors = 0
        self._ports = ports
        self._promiscuous = promiscuous
        self._sample_1_in = sample_1_in
        self._on_error = on_error
        self._settled: Sequence[bytes] = ()
        self._with_openings = True
        self._link_type = LINKTYPE_ETHERNET
        self._received = 0
        self._dropped = 0
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Starts to capture; an interface that is down is captured on once it is up.

        Raises:
            CaptureError: no such interface, no permission, or a link type without IP packets.
        """
        names = [name for _, name in socket.if_nameindex()]
        if self.name not in names:
            raise CaptureError(f"there is no interface {self.name}; there are {', '.join(sorted(names))}")
        try:
            self._socket = open_listening_socket(self.name)
            self._prepare(self._socket)
            self._bind(self._socket)
            self.is_up = self._has_link(self._socket)
        except (CaptureError, ValueError, OSError) as error:
            self.close()
            if isinstance(error, PermissionError):
                raise CaptureError(f"not permitted to capture on {self.name}: {_NOT_PERMITTED}") from error
            raise CaptureError(f"cannot capture on {self.name}: {error}") from error

    def close(self) -> None:
        """Ends the capture; what waits is lost."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.is_up = False

    def fileno(self) -> int:
        """The socket's descriptor, to wait for. The same one until `close`, whatever becomes of the interface.

        Raises:
            CaptureError: it is not open.
        """
        return self._opened.fileno()

    def drain(self, take: Take, most: int) -> int:
        """Takes frames that wait.

        Args:
            take: called with each frame, its link type as in capture files, when it passed (seconds since the epoch),
                and how long it was on the wire; the frame is complete, so that is its length. What it raises costs this
                frame only.
            most: how many frames to take.

        Returns:
            How many there were; fewer than `most` if no more wait.
        """
        # A receive and an ioctl take a third less time than recvmsg with its control messages and address, and bytes
        # no more than a buffer that is used again, since slices of bytes are what keys are.
        receive, descriptor, link_type = self._opened.recv, self._opened.fileno(), self._link_type
        stamp, read_stamp, ioctl = bytearray(_TIMESPEC.size), _TIMESPEC.unpack_from, fcntl.ioctl
        for count in range(most):
            try:
                frame = receive(MOST_FRAME_BYTES)
            except BlockingIOError:
                return count
            except OSError as error:
                # Said once after the interface went, before frames that still wait; it may be back by now.
                if error.errno != errno.ENETDOWN:
                    raise
                self.is_up = self._has_link(self._opened)
                return count
            ioctl(descriptor, _SIOCGSTAMPNS, stamp)
            seconds, nanoseconds = read_stamp(stamp)
            try:
                take(frame, link_type, seconds + nanoseconds * 1e-9, len(frame))
            except Exception as error:  # noqa: BLE001 - whatever a frame does costs that frame only
                self.errors += 1
                if self._on_error is not None:
                    self._on_error(error)
        return most

    def statistics(self) -> tuple[int, int]:
        """Frames let through since `open`: how many were received, and how many the buffer had no room for."""
        # Reading sets both to 0; the first counts dropped frames too.
        passed, dropped = struct.unpack("=II", self._opened.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._received += passed - dropped
        self._dropped += dropped
        return self._received, self._dropped

    def retriage(self, settled_keys: Iterable[bytes], with_openings: bool) -> int:
        """Exchanges the kernel's program. No frame sees neither or both.

        Args:
            settled_keys: directions to thin out, the busiest first.
            with_openings: as for `assemble_triage`.

        Returns:
            How many of the keys the kernel had room for: the first ones.
        """
        self._settled = list(islice(settled_keys, MOST_SETTLED_KEYS))
        self._with_openings = with_openings
        self._attach_triage(self._opened)
        return len(self._settled)

    def poll(self, now_seconds: float) -> None:
        """Looks after the interface; to be called about once a second.

        One that went down and up again delivers by itself. One that was removed and made anew is another to the kernel,
        and the socket is bound to that.
        """
        opened = self._opened
        try:
            # What the socket is bound to has no name once it is gone.
            if opened.getsockname()[0] != self.name:
                self._bind(opened)
        except (OSError, CaptureError):
            self.is_up = False
        else:
            self.is_up = self._has_link(opened)
        if self.is_up:
            self.down_since_seconds = None
        elif self.down_since_seconds is None:
            self.down_since_seconds = now_seconds

    @property
    def _opened(self) -> socket.socket:
        if self._socket is None:
            raise CaptureError(f"the capture on {self.name} is not open")
        return self._socket

    def _prepare(self, opened: socket.socket) -> None:
        opened.setblocking(False)
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, self.buffer_bytes)
        except PermissionError:  # without CAP_NET_ADMIN, what net.core.rmem_max allows
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer_bytes)
        # The kernel doubles what it is asked for, and says so.
        self.buffer_bytes = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        # scapy asks for control messages; the time comes by the ioctl, and only without them.
        opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 0)
        opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 0)
        # The first call switches time stamps on; it fails for want of a packet.
        try:
            fcntl.ioctl(opened, _SIOCGSTAMPNS, bytearray(_TIMESPEC.size))
        except FileNotFoundError:
            return

    def _bind(self, opened: socket.socket) -> None:
        """Binds to the interface of the name, whose link type may be another than before."""
        _attach(opened, reject_all())
        opened.bind((self.name, _ETH_P_ALL))
        _, _, _, hardware, _ = opened.getsockname()
        if hardware not in _LINK_TYPES:
            raise CaptureError(f"its link type (ARPHRD {hardware}) is none that carries IP packets as they are")
        self._link_type = _LINK_TYPES[hardware]
        # Loopback shows each frame on its way out and again on its way in.
        opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, hardware == _ARPHRD_LOOPBACK)
        if self._promiscuous:
            index = socket.if_nametoindex(self.name)
            membership = struct.pack("=iHH8x", index, _PACKET_MR_PROMISC, 0)
            opened.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
        self._attach_triage(opened)

    def _attach_triage(self, opened: socket.socket) -> None:
        while True:
            program = assemble_triage(
                self._ports,
                settled=self._settled,
                sample_1_in=self._sample_1_in,
                with_openings=self._with_openings,
                link_type=self._link_type,
                seed=secrets.randbits(32),
            )
            try:
                _attach(opened, program)
            except OSError as error:
                # net.core.optmem_max has no room for so many.
                if error.errno != errno.ENOMEM or not self._settled:
                    raise
                self._settled = self._settled[: len(self._settled) // 2]
            else:
                return

    def _has_link(self, opened: socket.socket) -> bool:
        """Whether the interface exists, and is up with a carrier."""
        request = _INTERFACE_REQUEST.pack(self.name.encode(), 0)
        try:
            _, flags = _INTERFACE_REQUEST.unpack(fcntl.ioctl(opened, _SIOCGIFFLAGS, request))
        except OSError:
            return False
        return bool(flags & _IFF_UP and flags & _IFF_RUNNING)


def _attach(opened: socket.socket, program: Sequence[Instruction]) -> None:
    """Puts a program in the place of the one before."""
    instructions = ctypes.create_string_buffer(packed(program))
    # struct sock_fprog of linux/filter.h
    whole = struct.pack("@HP", len(program), ctypes.addressof(instructions))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, whole)
