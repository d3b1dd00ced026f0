"""Frames built by scapy, each with the same TCP segment inside."""

import monitor.scapy  # noqa: F401 - prepares scapy before it is imported

# isort: split
import scapy.contrib.erspan as span
from scapy.contrib.chdlc import CHDLC
from scapy.contrib.etherip import EtherIP
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTP_U_Header
from scapy.contrib.mpls import MPLS
from scapy.layers.dot11 import Dot11, Dot11QoS, RadioTap
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import (
    GRE,
    LLC,
    SNAP,
    CookedLinux,
    CookedLinuxV2,
    Dot1AD,
    Dot1Q,
    Dot3,
    Ether,
    Loopback,
    LoopbackOpenBSD,
)
from scapy.layers.l2tp import L2TP
from scapy.layers.ppi import PPI
from scapy.layers.ppp import HDLC, PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from monitor.segments import Segment

PAYLOAD = b"\x12\x00\x00\x00\x12payload"
TIME_SECONDS = 1700000000.25
TCP_HEADER = TCP(
    sport=3306,
    dport=40123,
    seq=4_000_000_000,
    ack=77,
    flags="PA",
    options=[("NOP", None), ("NOP", None), ("Timestamp", (1, 2))],
)
V4 = IP(src="10.0.0.1", dst="10.0.0.2") / TCP_HEADER / PAYLOAD
V6 = IPv6(src="fd00::1", dst="fd00::2") / TCP_HEADER / PAYLOAD
PORTS_KEY = bytes.fromhex("0cea9cbb")
V4_KEY = bytes.fromhex("0a0000010a000002") + PORTS_KEY
V6_KEY = bytes.fromhex("fd" + "00" * 14 + "01" + "fd" + "00" * 14 + "02") + PORTS_KEY


def segment(key: bytes, payload: bytes = PAYLOAD, payload_bytes: int | None = None) -> Segment:
    """What `V4` and `V6` are decoded to."""
    return Segment(
        key, 4_000_000_000, 77, 0x18, payload, len(PAYLOAD) if payload_bytes is None else payload_bytes, TIME_SECONDS
    )


ETHERNET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
OUTER = ETHERNET / IP(src="192.0.2.1", dst="192.0.2.2")
OUTER6 = ETHERNET / IPv6(src="2001:db8::1", dst="2001:db8::2")
_V6_ALONE = IPv6(src="fd00::1", dst="fd00::2")
_RAW_V4, _RAW_V6 = Raw(bytes(V4)), Raw(bytes(V6))

# Parsed by hand.
SIMPLE: dict[str, tuple[int, Packet, bytes]] = {
    "Ethernet, IPv4": (1, ETHERNET / V4, V4_KEY),
    "Ethernet, IPv6": (1, ETHERNET / V6, V6_KEY),
    "IPv4 options": (1, ETHERNET / IP(src="10.0.0.1", dst="10.0.0.2", options=b"\x94\x04\0\0") / V4.payload, V4_KEY),
    "VLAN": (1, ETHERNET / Dot1Q(vlan=5) / V4, V4_KEY),
    "VLAN, IPv6": (1, ETHERNET / Dot1Q(vlan=5) / V6, V6_KEY),
    "QinQ": (1, ETHERNET / Dot1AD(vlan=5) / Dot1Q(vlan=6) / V4, V4_KEY),
    "SLL": (113, CookedLinux() / V4, V4_KEY),
    "SLL, IPv6": (113, CookedLinux() / V6, V6_KEY),
    "SLL2": (276, CookedLinuxV2() / V4, V4_KEY),
    "NULL": (0, Loopback(type=2) / V4, V4_KEY),
    "NULL, IPv6 of macOS": (0, Loopback(type=30) / V6, V6_KEY),
    "LOOP": (108, LoopbackOpenBSD(type=2) / V4, V4_KEY),
    "RAW 12": (12, V4, V4_KEY),
    "RAW 101": (101, V4, V4_KEY),
    "RAW 101, IPv6": (101, V6, V6_KEY),
    "IPv4": (228, V4, V4_KEY),
    "IPv6": (229, V6, V6_KEY),
}
# Only scapy knows these.
COMPLEX: dict[str, tuple[int, Packet, bytes]] = {
    "three VLANs": (1, ETHERNET / Dot1AD(vlan=5) / Dot1Q(vlan=6) / Dot1Q(vlan=7) / V4, V4_KEY),
    "LLC and SNAP": (1, Dot3(src=ETHERNET.src, dst=ETHERNET.dst) / LLC() / SNAP() / V4, V4_KEY),
    "GRE": (1, OUTER / GRE() / V4, V4_KEY),
    "GRE, IPv6": (1, OUTER / GRE() / V6, V6_KEY),
    "GRE with a key": (1, OUTER / GRE(key_present=1, key=5) / V4, V4_KEY),
    "GRE over IPv6": (1, OUTER6 / GRE() / V4, V4_KEY),
    "GRE, Ethernet": (1, OUTER / GRE(proto=0x6558) / ETHERNET / V4, V4_KEY),
    "ERSPAN I": (1, OUTER / GRE(proto=0x88BE) / span.ERSPAN_I() / ETHERNET / V4, V4_KEY),
    "ERSPAN II": (1, OUTER / GRE(proto=0x88BE, seqnum_present=1) / span.ERSPAN_II() / ETHERNET / V4, V4_KEY),
    "ERSPAN III": (1, OUTER / GRE(proto=0x22EB, seqnum_present=1) / span.ERSPAN_III() / ETHERNET / V4, V4_KEY),
    "VXLAN": (1, OUTER / UDP(sport=5555, dport=4789) / VXLAN(vni=3, flags=8) / ETHERNET / V4, V4_KEY),
    "VXLAN of Linux": (
        1,
        OUTER6 / UDP(sport=5555, dport=8472) / VXLAN(vni=3, flags=8) / ETHERNET / Dot1Q(vlan=3) / V6,
        V6_KEY,
    ),
    "GENEVE": (1, OUTER / UDP(sport=5555, dport=6081) / GENEVE(vni=3) / ETHERNET / V4, V4_KEY),
    "IP in IP": (1, OUTER / V4, V4_KEY),
    "6in4": (1, OUTER / V6, V6_KEY),
    "4in6": (1, OUTER6 / V4, V4_KEY),
    "6in6": (1, OUTER6 / V6, V6_KEY),
    "MPLS": (1, ETHERNET / MPLS(label=16, s=0) / MPLS(label=17, s=1) / V4, V4_KEY),
    "MPLS, IPv6": (1, ETHERNET / MPLS(label=17, s=1) / V6, V6_KEY),
    "MPLS, Ethernet": (1, ETHERNET / MPLS(label=17, s=1) / Raw(bytes(4)) / ETHERNET / V4, V4_KEY),
    "MPLS in GRE": (1, OUTER / GRE(proto=0x8847) / MPLS(label=17, s=1) / V4, V4_KEY),
    "MPLS in UDP": (1, OUTER / UDP(sport=5555, dport=6635) / MPLS(label=17, s=1) / V4, V4_KEY),
    "EtherIP": (1, OUTER / EtherIP() / ETHERNET / V4, V4_KEY),
    "PPPoE": (1, ETHERNET / PPPoE(sessionid=1) / PPP() / V4, V4_KEY),
    "GTP": (1, OUTER / UDP(sport=2152, dport=2152) / GTP_U_Header(teid=1, gtp_type=255) / V4, V4_KEY),
    "L2TP": (1, OUTER / UDP(sport=1701, dport=1701) / L2TP(session_id=1, tunnel_id=2) / HDLC() / PPP() / V4, V4_KEY),
    "GRE in VXLAN": (
        1,
        OUTER / UDP(sport=5555, dport=4789) / VXLAN(vni=3, flags=8) / OUTER / GRE() / V4,
        V4_KEY,
    ),
    "IPv6 options": (
        1,
        ETHERNET / _V6_ALONE / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / TCP_HEADER / PAYLOAD,
        V6_KEY,
    ),
    "IPv6 routing": (
        1,
        ETHERNET / _V6_ALONE / IPv6ExtHdrRouting(addresses=["::5"], segleft=0) / TCP_HEADER / PAYLOAD,
        V6_KEY,
    ),
    "IPv6 in one fragment": (1, ETHERNET / _V6_ALONE / IPv6ExtHdrFragment(id=1) / TCP_HEADER / PAYLOAD, V6_KEY),
    "PPP": (9, PPP() / V4, V4_KEY),
    "PPP serial": (50, HDLC() / PPP() / V4, V4_KEY),
    "Cisco HDLC": (104, CHDLC(proto=0x0800) / V4, V4_KEY),
    "802.11": (105, Dot11(type=2, subtype=0, FCfield=1) / LLC() / SNAP() / V4, V4_KEY),
    "802.11 QoS with radiotap": (127, RadioTap() / Dot11(type=2, subtype=8) / Dot11QoS() / LLC() / SNAP() / V6, V6_KEY),
    "PPI": (192, PPI(dlt=1) / ETHERNET / V4, V4_KEY),
}
