"""Every link type and encapsulation that scapy knows, down to the innermost TCP segment.

A packet takes scapy about 200 microseconds, so it is asked only for what `monitor.frames.headers` does not know.
"""

import ipaddress
import struct
from collections.abc import Iterator
from typing import Any

# Importing a layer makes scapy know it: its link types, and what it can be inside of.
import scapy.contrib.avs
import scapy.contrib.chdlc
import scapy.contrib.erspan
import scapy.contrib.etherip
import scapy.contrib.geneve
import scapy.contrib.gtp
import scapy.contrib.mpls
import scapy.layers.dot11
import scapy.layers.l2tp
import scapy.layers.pflog
import scapy.layers.ppi
import scapy.layers.ppp
import scapy.layers.vxlan  # noqa: F401
from scapy.config import conf
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet

from monitor.frames.fragments import Fragments
from monitor.frames.headers import Answer, Frame
from monitor.segments import Segment

_MOST_REASSEMBLIES = 4
_MOST_IP_BYTES = 65535
_IPV4_LENGTH = slice(2, 4)
_IPV4_FRAGMENT = slice(6, 8)
_IPV6_LENGTH = slice(4, 6)
_IPV6_BYTES = 40
_FRAGMENT_HEADER_BYTES = 8
_TCP_BYTES = 20


class Dissector:
    """Frames to segments, with a memory for IP fragments.

    Attributes:
        fragments: those whose datagram is not whole.
    """

    def __init__(self) -> None:
        self.fragments = Fragments()

    def dissect(self, frame: Frame, link_type: int, time_seconds: float) -> Segment | Answer:
        """The innermost TCP segment in a frame.

        Args:
            frame: what was captured of it.
            link_type: what it begins with, by libpcap's numbers.
            time_seconds: when it passed.
        """
        layer_class = conf.l2types.num2layer.get(link_type)
        if layer_class is None:
            return Answer.OTHER
        return self._innermost(layer_class, bytes(frame), time_seconds, _MOST_REASSEMBLIES)

    def _innermost(
        self, layer_class: type[Packet], data: bytes, time_seconds: float, reassemblies: int
    ) -> Segment | Answer:
        try:
            packet = layer_class(data)
        except Exception:  # noqa: BLE001 - scapy raises whatever its fields raise when bytes run out
            return Answer.MALFORMED
        network: Any = None
        for layer in _layers(packet):
            kind = type(layer)
            if kind is IP or kind is IPv6:
                network = layer
            # Not their subclasses: those are the packets that ICMP quotes.
            elif kind is TCP and network is not None:
                return _segment(network, layer, time_seconds)
            whole = self._reassembled(network, layer, time_seconds)
            if isinstance(whole, bytes):
                if not reassemblies:
                    return Answer.MALFORMED
                return self._innermost(type(network), whole, time_seconds, reassemblies - 1)
            if whole is not None:
                return whole
        return Answer.OTHER

    def _reassembled(self, network: Any, layer: Any, time_seconds: float) -> bytes | Answer | None:
        """The IP packet that is whole with this fragment; None where the layer is no fragment."""
        kind = type(layer)
        if kind is IP and (layer.flags.MF or layer.frag):
            return self._reassembled_ipv4(layer, time_seconds)
        # One that is first and last is a packet like any other (RFC 6946).
        if kind is IPv6ExtHdrFragment and network is not None and (layer.m or layer.offset):
            return self._reassembled_ipv6(network, layer, time_seconds)
        return None

    def _reassembled_ipv4(self, layer: Any, time_seconds: float) -> bytes | Answer:
        header_bytes = layer.ihl * 4
        header = layer.original[:header_bytes]
        data = layer.original[header_bytes : layer.len]
        if len(header) + len(data) < layer.len:
            return Answer.MALFORMED
        found = self.fragments.take(
            # Addresses, identification and protocol (RFC 791, section 3.2).
            b"4" + header[12:20] + header[4:6] + header[9:10],
            offset=layer.frag * 8,
            data=data,
            header=header,
            is_last=not layer.flags.MF,
            time_seconds=time_seconds,
        )
        if found is None:
            return Answer.OTHER
        header, data = found
        if len(header) + len(data) > _MOST_IP_BYTES:
            return Answer.MALFORMED
        whole = bytearray(header + data)
        whole[_IPV4_LENGTH] = struct.pack(">H", len(whole))
        whole[_IPV4_FRAGMENT] = bytes(2)
        return bytes(whole)

    def _reassembled_ipv6(self, network: Any, layer: Any, time_seconds: float) -> bytes | Answer:
        header = network.original[:_IPV6_BYTES]
        data = layer.original[_FRAGMENT_HEADER_BYTES:]
        missing = network.plen - len(network.payload.original)
        if missing > 0:
            return Answer.MALFORMED
        found = self.fragments.take(
            # Addresses and identification (RFC 8200, section 4.5).
            b"6" + header[8:40] + layer.original[4:8],
            offset=layer.offset * 8,
            data=data,
            header=header[:6] + bytes([layer.nh]) + header[7:],
            is_last=not layer.m,
            time_seconds=time_seconds,
        )
        if found is None:
            return Answer.OTHER
        header, data = found
        whole = bytearray(header + data)
        whole[_IPV6_LENGTH] = struct.pack(">H", len(data))
        return bytes(whole)


def _layers(packet: Any) -> Iterator[Any]:
    # A payload that is none is false.
    layer = packet
    while layer:
        yield layer
        layer = layer.payload


def _segment(network: Any, transport: Any, time_seconds: float) -> Segment | Answer:
    data = transport.original
    length = network.len - network.ihl * 4 if type(network) is IP else network.plen
    # The original of a layer ends where the IP header says, that of the IP header itself goes on with the padding.
    length -= len(network.payload.original) - len(data)
    if (network.len if type(network) is IP else network.plen) == 0:
        length = len(data)
    header_bytes = transport.dataofs * 4
    if header_bytes < _TCP_BYTES or length < header_bytes:
        return Answer.MALFORMED
    key = ipaddress.ip_address(network.src).packed + ipaddress.ip_address(network.dst).packed + data[:4]
    payload = data[header_bytes:length]
    return Segment(key, transport.seq, transport.ack, data[13], payload, length - header_bytes, time_seconds)
