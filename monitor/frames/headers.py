"""The frames that are common, parsed by hand: a dissector takes a hundred times as long.

Link headers of a fixed length with at most two VLAN tags, IPv4 with options, IPv6 without extension headers, TCP with
options. Whatever else could carry TCP is left to the dissector, and what could not is passed by.

Lengths are those of the IP header, so that padding behind a short packet is no payload. A capture may hold less than
was sent (its snap length), and a length of zero where the network card was to cut the packet up (segmentation
offload): then what was captured counts.
"""

import struct
from enum import IntEnum

from monitor.segments import Segment

# Link types, as on https://www.tcpdump.org/linktypes.html. Raw IP has another number on each system.
LINK_NULL = 0
LINK_ETHERNET = 1
LINK_RAW = frozenset({12, 14, 101, 228, 229})
LINK_LOOP = 108
LINK_SLL = 113
LINK_SLL2 = 276

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
_VLANS = frozenset({0x8100, 0x88A8, 0x9100})
_MOST_VLANS = 2
# MPLS, PPPoE, bridged Ethernet, NSH, 802.1ah, 0x9200 for a tag: these can have TCP inside.
_CARRIER_ETHERTYPES = frozenset({0x8847, 0x8848, 0x8864, 0x6558, 0x894F, 0x88E7, 0x9200}) | _VLANS
# Below this the field is a length, and an LLC header follows (IEEE 802.3).
_FIRST_ETHERTYPE = 0x0600
_LLC_SNAP = b"\xaa\xaa"

TCP = 6
_UDP = 17
# IPv4 and IPv6 in IP, GRE, EtherIP, MPLS in IP; and the extension headers of IPv6, of which authentication (51) is
# also one of IPv4.
_CARRIER_PROTOCOLS = frozenset({4, 41, 47, 51, 97, 137, 0, 43, 44, 60})
_FRAGMENTED_PROTOCOLS = _CARRIER_PROTOCOLS | {TCP, _UDP}
# VXLAN (4789, and 8472 on Linux), VXLAN-GPE, GENEVE, MPLS in UDP, GTP-U, L2TP.
_CARRIER_PORTS = frozenset({4789, 8472, 4790, 6081, 6635, 2152, 1701})
_MORE_FRAGMENTS_OR_OFFSET = 0x3FFF

_ipv4 = struct.Struct(">BxHxxHxB2x8s").unpack_from
_ipv6 = struct.Struct(">4xHBx32s").unpack_from
_tcp = struct.Struct(">4sIIBB").unpack_from
_ports = struct.Struct(">HH").unpack_from
_IPV4_BYTES = 20
_IPV6_BYTES = 40
_TCP_BYTES = 20
# As far as the flags: of a packet cut off behind them everything but its payload is known.
_TCP_LEAST_BYTES = 14


class Answer(IntEnum):
    """Why there is no segment.

    `OTHER`: neither TCP nor anything that carries it, or not on a port that is watched. `MALFORMED`: lengths that
    contradict each other, or cut off in the middle of a header. `COMPLEX`: a matter for the dissector. They are
    negative, so that a place in a frame is none of them.
    """

    OTHER = -1
    MALFORMED = -2
    COMPLEX = -3


Frame = bytes | memoryview


def find_ip(frame: Frame, link_type: int) -> int:
    """Where the IP header begins, or an `Answer`."""
    if link_type == LINK_ETHERNET:
        return _behind_ethertype(frame, 12, 14)
    if link_type == LINK_SLL:
        return _behind_ethertype(frame, 14, 16)
    if link_type == LINK_SLL2:
        return _behind_ethertype(frame, 0, 20)
    if link_type in LINK_RAW:
        return 0
    if link_type in {LINK_NULL, LINK_LOOP}:
        # The address family in the byte order of whoever captured, with a number for IPv6 that differs between
        # systems. The IP header says it as well.
        return 4
    return Answer.COMPLEX


def _behind_ethertype(frame: Frame, position: int, start: int) -> int:
    if len(frame) <= start:
        return Answer.MALFORMED
    ethertype = frame[position] << 8 | frame[position + 1]
    tags = 0
    while ethertype in _VLANS and tags < _MOST_VLANS:
        tags += 1
        if len(frame) <= start + 4:
            return Answer.MALFORMED
        ethertype = frame[start + 2] << 8 | frame[start + 3]
        start += 4
    if ethertype in {ETHERTYPE_IPV4, ETHERTYPE_IPV6}:
        return start
    if ethertype in _CARRIER_ETHERTYPES:
        return Answer.COMPLEX
    if ethertype < _FIRST_ETHERTYPE and frame[start : start + 2] == _LLC_SNAP:
        return Answer.COMPLEX
    return Answer.OTHER


def parse(
    frame: Frame, link_type: int, time_seconds: float, wire_bytes: int, ports: frozenset[int] | None
) -> Segment | Answer:
    """The TCP segment in a frame.

    Args:
        frame: what was captured of it.
        link_type: what it begins with, by libpcap's numbers.
        time_seconds: when it passed.
        wire_bytes: how long it was.
        ports: one of the segment's two must be among them; None takes every port.
    """
    start = find_ip(frame, link_type)
    if start < 0:
        return Answer(start)
    return parse_ip(frame, start, time_seconds, wire_bytes, ports)


def parse_ip(
    frame: Frame, start: int, time_seconds: float, wire_bytes: int, ports: frozenset[int] | None
) -> Segment | Answer:
    """The TCP segment in the IP packet that begins at `start`. The rest is as for `parse`."""
    network = _ipv4_packet(frame, start, wire_bytes) or _ipv6_packet(frame, start, wire_bytes)
    if network is None:
        return Answer.MALFORMED
    protocol, transport, end, addresses, is_fragment = network
    if protocol == TCP and not is_fragment:
        found = _parse_tcp(frame, transport, end, ports)
        if isinstance(found, Answer):
            return found
        found.key = addresses + found.key
        found.time_seconds = time_seconds
        return found
    if is_fragment:
        can_carry = protocol in _FRAGMENTED_PROTOCOLS
    elif protocol == _UDP:
        can_carry = len(frame) >= transport + 8 and not _CARRIER_PORTS.isdisjoint(_ports(frame, transport))
    else:
        can_carry = protocol in _CARRIER_PROTOCOLS
    return Answer.COMPLEX if can_carry else Answer.OTHER


# Protocol, where its header begins, where the packet ends, both addresses, whether it is a fragment.
_Network = tuple[int, int, int, bytes, bool]


def _ipv4_packet(frame: Frame, start: int, wire_bytes: int) -> _Network | None:
    if len(frame) < start + _IPV4_BYTES or frame[start] >> 4 != 4:
        return None
    first, length, fragment, protocol, addresses = _ipv4(frame, start)
    header_bytes = (first & 0x0F) * 4
    if header_bytes < _IPV4_BYTES:
        return None
    end = start + (length or wire_bytes - start)
    return protocol, start + header_bytes, end, addresses, bool(fragment & _MORE_FRAGMENTS_OR_OFFSET)


def _ipv6_packet(frame: Frame, start: int, wire_bytes: int) -> _Network | None:
    if len(frame) < start + _IPV6_BYTES or frame[start] >> 4 != 6:
        return None
    length, protocol, addresses = _ipv6(frame, start)
    transport = start + _IPV6_BYTES
    return protocol, transport, transport + length if length else wire_bytes, addresses, False


def _parse_tcp(frame: Frame, start: int, end: int, ports: frozenset[int] | None) -> Segment | Answer:
    """The segment, with no more than the ports in its key and without a time."""
    if len(frame) < start + _TCP_LEAST_BYTES or end < start + _TCP_BYTES:
        return Answer.MALFORMED
    if ports is not None and ports.isdisjoint(_ports(frame, start)):
        return Answer.OTHER
    port_pair, sequence, acknowledgement, offset, flags = _tcp(frame, start)
    payload_start = start + (offset >> 4) * 4
    if payload_start < start + _TCP_BYTES or payload_start > end:
        return Answer.MALFORMED
    payload = bytes(frame[payload_start:end])
    return Segment(port_pair, sequence, acknowledgement, flags, payload, end - payload_start, 0.0)
