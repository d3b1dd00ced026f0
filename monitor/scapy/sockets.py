"""Live interfaces, opened by scapy."""

import logging
import socket

from scapy.arch.linux import L2ListenSocket
from scapy.error import log_runtime

# That scapy has no name for a tunnel's link layer is of no concern: it does not decode here.
log_runtime.setLevel(logging.ERROR)


def open_listening_socket(interface: str) -> socket.socket:
    """A raw packet socket on an interface, which need not be up.

    Nothing arrives before it is bound again to a protocol: so there is a filter before there are packets. scapy's own
    way, all protocols at once, fails on an interface that is down, and needs libpcap for a filter.

    Raises:
        ValueError: there is no such interface.
        OSError: not permitted, or not possible here.
    """
    listening = L2ListenSocket(iface=interface, type=0, promisc=False, nofilter=1)
    descriptor = listening.ins.detach()
    listening.close()
    return socket.socket(fileno=descriptor)
