import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import GRE
from scapy.packet import Packet, Raw

import monitor
from monitor.frames.headers import Answer
from monitor.scapy import Dissector, certificate_not_after
from monitor.segments import Segment
from tests.monitor.frames.frames import (
    COMPLEX,
    ETHERNET,
    OUTER,
    PAYLOAD,
    SIMPLE,
    TCP_HEADER,
    TIME_SECONDS,
    V4,
    V4_KEY,
    V6_KEY,
    segment,
)

# Each system has a number of its own for IPv6 in NULL frames, of which scapy knows that of the machine it runs on.
ALL = {name: case for name, case in {**SIMPLE, **COMPLEX}.items() if name != "NULL, IPv6 of macOS"}
LONG = PAYLOAD * 300


@pytest.mark.parametrize("name", ALL)
def test_the_innermost_segment_is_found(name: str) -> None:
    link_type, packet, key = ALL[name]
    assert Dissector().dissect(bytes(packet), link_type, TIME_SECONDS) == segment(key)


@pytest.mark.parametrize("name", [name for name, (link_type, _, _) in ALL.items() if link_type == 1])
def test_padding_is_no_payload(name: str) -> None:
    _, packet, key = ALL[name]
    assert Dissector().dissect(bytes(packet) + b"padding", 1, TIME_SECONDS) == segment(key)


@pytest.mark.parametrize("name", ALL)
def test_a_frame_cut_off_says_how_much_was_sent(name: str) -> None:
    link_type, packet, key = ALL[name]
    found = Dissector().dissect(bytes(packet)[:-5], link_type, TIME_SECONDS)
    assert found == segment(key, PAYLOAD[:-5], len(PAYLOAD))


def test_what_icmp_quotes_was_not_sent() -> None:
    frame = bytes(OUTER / ICMP(type=3, code=1) / V4)
    assert Dissector().dissect(frame, 1, TIME_SECONDS) is Answer.OTHER


def test_an_unknown_link_type_is_nothing() -> None:
    assert Dissector().dissect(bytes(V4), 9999, TIME_SECONDS) is Answer.OTHER


def fragments_v4() -> list[bytes]:
    packet = IP(src="10.0.0.1", dst="10.0.0.2", id=7) / TCP_HEADER / LONG
    return [bytes(ETHERNET / piece) for piece in fragment(packet, fragsize=504)]  # type: ignore[no-untyped-call]


def fragments_v6() -> list[bytes]:
    packet = IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrFragment(id=9) / TCP_HEADER / LONG
    return [bytes(ETHERNET / piece) for piece in fragment6(packet, 600)]  # type: ignore[no-untyped-call]


def in_a_tunnel() -> list[bytes]:
    packet = IP(src="192.0.2.1", dst="192.0.2.2", id=8) / GRE() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP_HEADER / LONG
    return [bytes(ETHERNET / piece) for piece in fragment(packet, fragsize=1000)]  # type: ignore[no-untyped-call]


def dissected(frames: list[bytes], dissector: Dissector | None = None) -> list[Segment]:
    dissector = dissector or Dissector()
    found = [dissector.dissect(frame, 1, TIME_SECONDS) for frame in frames]
    return [one for one in found if isinstance(one, Segment)]


@pytest.mark.parametrize(
    ("frames", "key"),
    [(fragments_v4(), V4_KEY), (fragments_v6(), V6_KEY), (in_a_tunnel(), V4_KEY)],
    ids=["IPv4", "IPv6", "tunnel"],
)
class TestFragments:
    def test_are_put_together_in_any_order(self, frames: list[bytes], key: bytes) -> None:
        assert len(frames) > 2
        for order in (frames, frames[::-1], frames[1:] + frames[:1]):
            assert dissected(order) == [segment(key, LONG, len(LONG))]

    def test_may_come_twice(self, frames: list[bytes], key: bytes) -> None:
        twice = [frame for frame in frames for _ in range(2)]
        assert dissected(twice)[0] == segment(key, LONG, len(LONG))

    def test_have_no_gap_filled(self, frames: list[bytes], key: bytes) -> None:
        for missing in range(len(frames)):
            assert not dissected(frames[:missing] + frames[missing + 1 :])
        assert dissected(frames) == [segment(key, LONG, len(LONG))]

    def test_are_refused_when_cut_off(self, frames: list[bytes], key: bytes) -> None:
        assert not dissected([frames[0][:-1], *frames[1:]])
        assert dissected(frames) == [segment(key, LONG, len(LONG))]

    def test_have_padding(self, frames: list[bytes], key: bytes) -> None:
        assert dissected([frame + b"padding" for frame in frames]) == [segment(key, LONG, len(LONG))]


def test_fragments_of_two_datagrams_are_kept_apart() -> None:
    other = IP(src="10.0.0.1", dst="10.0.0.2", id=8) / TCP_HEADER / LONG[::-1]
    others = [bytes(ETHERNET / piece) for piece in fragment(other, fragsize=504)]  # type: ignore[no-untyped-call]
    mixed = [frame for pair in zip(fragments_v4(), others, strict=True) for frame in pair]
    assert [one.payload for one in dissected(mixed)] == [LONG, LONG[::-1]]


def test_a_datagram_that_contradicts_itself_is_dropped() -> None:
    frames = fragments_v4()
    changed = frames[1][:-1] + bytes([frames[1][-1] ^ 1])
    dissector = Dissector()
    assert not dissected([frames[0], frames[1], changed], dissector)
    assert dissector.fragments.dropped == 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(ALL)), st.data())
def test_no_damage_raises(name: str, data: st.DataObject) -> None:
    link_type, packet, _ = ALL[name]
    frame = bytearray(bytes(packet))
    for position in data.draw(st.lists(st.integers(0, len(frame) - 1), max_size=6)):
        frame[position] = data.draw(st.integers(0, 255))
    kept = data.draw(st.integers(0, len(frame)))
    found = Dissector().dissect(bytes(frame[:kept]), link_type, TIME_SECONDS)
    assert not isinstance(found, Segment) or len(found.payload) <= found.payload_bytes


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(sorted({link_type for link_type, _, _ in ALL.values()})))
def test_no_bytes_raise(frame: bytes, link_type: int) -> None:
    Dissector().dissect(frame, link_type, TIME_SECONDS)


def test_tunnels_within_tunnels_have_an_end() -> None:
    packet: Packet = V4
    for _ in range(60):
        packet = IP(src="192.0.2.1", dst="192.0.2.2") / packet
    Dissector().dissect(bytes(ETHERNET / packet), 1, TIME_SECONDS)


def test_udp_that_only_looks_like_a_tunnel_is_nothing() -> None:
    frame = bytes(OUTER / UDP(sport=4789, dport=4789) / Raw(b"\xff" * 50))
    assert not isinstance(Dissector().dissect(frame, 1, TIME_SECONDS), Segment)


@pytest.mark.parametrize("year", [2031, 2060])
def test_the_expiry_of_a_certificate(year: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "source.example")])
    expiry = dt.datetime(year, 3, 4, 5, 6, 7, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(expiry)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert certificate_not_after(der) == expiry
    assert certificate_not_after(der[:50]) is None


@given(st.binary(max_size=100))
def test_what_is_no_certificate_has_no_expiry(der: bytes) -> None:
    assert certificate_not_after(der) is None


def loaded(modules: list[str]) -> set[str]:
    """The packages that are in memory once these modules are."""
    script = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_monitor_loads_no_openssl() -> None:
    folder = Path(monitor.__file__).parent
    names = sorted(
        ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in folder.glob("**/*.py")
        if path.name != "__main__.py"
    )
    assert "monitor.scapy.dissection" in names
    assert "scapy" in loaded(names)
    assert not loaded(names) & {"OpenSSL", "cryptography"}
    # trio, which live capture needs, loads Python's own.
    assert not loaded(["monitor.scapy", "monitor.reading"]) & {"ssl", "_ssl"}


def test_reading_a_file_does_not_load_scapy() -> None:
    assert "scapy" not in loaded(["monitor.reading"])
