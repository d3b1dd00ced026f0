import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from monitor.frames.headers import Answer, parse
from monitor.scapy import Dissector
from monitor.segments import Segment
from tests.monitor.frames.frames import COMPLEX, ETHERNET, OUTER, PAYLOAD, SIMPLE, TIME_SECONDS, V4, V6, segment

PORTS = frozenset({3306})


def parsed(frame: bytes, link_type: int = 1, ports: frozenset[int] | None = None) -> Segment | Answer:
    return parse(frame, link_type, TIME_SECONDS, len(frame), ports)


@pytest.mark.parametrize("name", SIMPLE)
def test_common_frames_are_parsed(name: str) -> None:
    link_type, packet, key = SIMPLE[name]
    frame = bytes(packet)
    assert parsed(frame, link_type) == segment(key)
    assert parsed(frame + b"padding", link_type) == segment(key)
    assert parsed(frame, link_type, PORTS) == segment(key)
    assert parsed(frame, link_type, frozenset({40123, 1})) == segment(key)
    assert parsed(frame, link_type, frozenset({3307})) is Answer.OTHER


@pytest.mark.parametrize("name", SIMPLE)
def test_a_reused_buffer_may_change_afterwards(name: str) -> None:
    link_type, packet, key = SIMPLE[name]
    buffer = bytearray(bytes(packet))
    found = parse(memoryview(buffer), link_type, TIME_SECONDS, len(buffer), None)
    buffer[:] = bytes(len(buffer))
    assert found == segment(key)
    assert isinstance(found, Segment)
    assert type(found.payload) is bytes
    assert type(found.key) is bytes


@pytest.mark.parametrize("name", COMPLEX)
def test_the_dissector_is_asked_for_what_is_rare(name: str) -> None:
    link_type, packet, _ = COMPLEX[name]
    assert parsed(bytes(packet), link_type) is Answer.COMPLEX


@pytest.mark.parametrize("name", SIMPLE)
def test_a_frame_cut_off_says_how_much_was_sent(name: str) -> None:
    link_type, packet, key = SIMPLE[name]
    frame = bytes(packet)
    for kept in range(len(PAYLOAD)):
        cut = frame[: len(frame) - len(PAYLOAD) + kept]
        assert parse(cut, link_type, TIME_SECONDS, len(frame), None) == segment(key, PAYLOAD[:kept], len(PAYLOAD))


@pytest.mark.parametrize("name", SIMPLE)
def test_a_frame_cut_off_in_its_headers_is_malformed(name: str) -> None:
    link_type, packet, key = SIMPLE[name]
    frame = bytes(packet)
    headers = len(frame) - len(PAYLOAD)
    # The flags are the fourteenth byte of a TCP header, which has 32 here.
    for kept in range(headers - 32 + 14):
        assert parse(frame[:kept], link_type, TIME_SECONDS, len(frame), None) is Answer.MALFORMED, kept
    for kept in range(headers - 32 + 14, headers):
        assert parse(frame[:kept], link_type, TIME_SECONDS, len(frame), None) == segment(key, b"", len(PAYLOAD))


@pytest.mark.parametrize(("packet", "position"), [(V4, 16), (V6, 18)], ids=["IPv4", "IPv6"])
def test_a_length_of_zero_means_that_the_card_cuts_it_up(packet: Packet, position: int) -> None:
    frame = bytearray(bytes(ETHERNET / packet / Raw(b"x" * 65000)))
    frame[position : position + 2] = bytes(2)
    found = parse(bytes(frame), 1, TIME_SECONDS, len(frame), None)
    assert isinstance(found, Segment)
    assert found.payload == PAYLOAD + b"x" * 65000
    assert found.payload_bytes == len(PAYLOAD) + 65000
    cut = parse(bytes(frame[:100]), 1, TIME_SECONDS, len(frame), None)
    assert isinstance(cut, Segment)
    assert cut.payload_bytes == len(PAYLOAD) + 65000


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (14, 0x55),  # version 5
        (14, 0x44),  # an IPv4 header of 16 bytes
        (14, 0x4F),  # of 60, in the middle of TCP
        (17, 39),  # total length shorter than both headers
        (46, 0x40),  # a TCP header of 16 bytes
        (46, 0xF0),  # of 60
    ],
)
def test_lengths_that_contradict_each_other_are_malformed(position: int, value: int) -> None:
    frame = bytearray(bytes(ETHERNET / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=3306, dport=1) / PAYLOAD))
    frame[position] = value
    assert parsed(bytes(frame)) is Answer.MALFORMED


@pytest.mark.parametrize(
    "packet",
    [
        ETHERNET / ARP(),
        OUTER / ICMP(type=3, code=1) / V4,
        OUTER / UDP(sport=53, dport=3306) / Raw(b"x" * 40),
    ],
    ids=["ARP", "ICMP that quotes TCP", "UDP"],
)
def test_what_cannot_carry_tcp_is_passed_by(packet: Packet) -> None:
    assert parsed(bytes(packet)) is Answer.OTHER


def test_a_fragment_is_a_matter_for_the_dissector() -> None:
    for fields in ({"flags": "MF"}, {"frag": 5}):
        frame = ETHERNET / IP(src="10.0.0.1", dst="10.0.0.2", **fields) / TCP(sport=3306) / PAYLOAD
        assert parsed(bytes(frame)) is Answer.COMPLEX


addresses4 = st.integers(1, 2**32 - 1).map(lambda number: ".".join(map(str, number.to_bytes(4))))
addresses6 = st.binary(min_size=16, max_size=16).map(
    lambda raw: ":".join(f"{high << 8 | low:x}" for high, low in zip(raw[::2], raw[1::2], strict=True))
)
tcp_options = st.lists(
    st.sampled_from([("NOP", None), ("MSS", 1460), ("WScale", 7), ("SAckOK", b""), ("Timestamp", (1, 2))]), max_size=3
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    network: Packet
    if draw(st.booleans()):
        network = IP(
            src=draw(addresses4),
            dst=draw(addresses4),
            tos=draw(st.integers(0, 255)),
            options=draw(st.sampled_from([b"", b"\x94\x04\0\0", b"\x01" * 40])),
        )
    else:
        network = IPv6(src=draw(addresses6), dst=draw(addresses6), tc=draw(st.integers(0, 255)))
    transport = TCP(
        sport=draw(st.integers(0, 65535)),
        dport=draw(st.integers(0, 65535)),
        seq=draw(st.integers(0, 2**32 - 1)),
        ack=draw(st.integers(0, 2**32 - 1)),
        flags=draw(st.integers(0, 255)),
        options=draw(tcp_options),
    )
    packet: Packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    for number in range(draw(st.integers(0, 2))):
        packet /= Dot1Q(vlan=number + 1)
    return bytes(packet / network / transport / Raw(draw(st.binary(max_size=60)))) + draw(st.binary(max_size=8))


@settings(max_examples=200, deadline=None)
@given(frames(), st.integers(0, 60))
def test_scapy_reads_the_same(frame: bytes, cut: int) -> None:
    by_hand = parsed(frame)
    assert isinstance(by_hand, Segment)
    assert by_hand == Dissector().dissect(frame, 1, TIME_SECONDS)
    shorter = frame[: len(frame) - cut]
    by_hand = parse(shorter, 1, TIME_SECONDS, len(frame), None)
    by_scapy = Dissector().dissect(shorter, 1, TIME_SECONDS)
    if isinstance(by_scapy, Segment):
        assert by_hand == by_scapy


@given(st.binary(max_size=120), st.sampled_from([0, 1, 12, 101, 108, 113, 276, 9999]), st.booleans())
def test_no_bytes_raise(frame: bytes, link_type: int, only_some: bool) -> None:
    parsed(frame, link_type, PORTS if only_some else None)


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=6), st.integers(0, 90))
def test_no_damage_raises(changes: list[tuple[int, int]], kept: int) -> None:
    frame = bytearray(bytes(ETHERNET / V4))
    for position, value in changes:
        frame[position % len(frame)] = value
    parsed(bytes(frame[:kept]))
