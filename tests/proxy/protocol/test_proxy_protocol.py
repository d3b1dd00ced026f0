"""The PROXY protocol byte by byte: what a header says, where it ends, and that nothing else passes for one."""

import contextlib
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.configuration.addresses import IpAddress
from proxy.configuration.config import ProxyProtocolVersion
from proxy.protocol.proxy_protocol import Endpoints, PreambleDecoder, serialize_preamble
from proxy.stages.preamble import caller_at
from wire.errors import MalformedPacket, WireError

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
PROXY, LOCAL = 0x21, 0x20
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31
BEHIND = b"\x4a\x00\x00\x00\x0a9.7.0"


def endpoints(source: str, destination: str, source_port: int, destination_port: int) -> Endpoints:
    return Endpoints((ipaddress.ip_address(source), source_port), (ipaddress.ip_address(destination), destination_port))


def v2(body: bytes, *, command: int = PROXY, family: int = TCP4, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(body) if length is None else length) + body


IPV4 = endpoints("192.0.2.1", "203.0.113.9", 56324, 3307)
IPV6 = endpoints("2001:db8::1", "2001:db8:20::9", 1, 65535)
V4_BODY = bytes([192, 0, 2, 1, 203, 0, 113, 9]) + b"\xdc\x04\x0c\xeb"
V6_BODY = (
    ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("2001:db8:20::9").packed + b"\x00\x01\xff\xff"
)
# PP2_TYPE_NOOP, PP2_TYPE_AUTHORITY, and one that nobody has given a meaning.
TLVS = b"\x04\x00\x03abc" + b"\x02\x00\x07example" + b"\xee\x00\x00"

VECTORS: dict[str, tuple[bytes, Endpoints | None]] = {
    "v1 over IPv4": (b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 3307\r\n", IPV4),
    "v1 over IPv6": (b"PROXY TCP6 2001:db8::1 2001:db8:20::9 1 65535\r\n", IPV6),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1 unknown with addresses": (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
    "v1 at its longest": (b"PROXY UNKNOWN " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n", None),
    "v1 with the ports at their bounds": (
        b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
        endpoints("0.0.0.0", "255.255.255.255", 0, 65535),  # noqa: S104
    ),
    "v1 with a mapped address": (
        b"PROXY TCP6 ::ffff:10.20.0.7 ::1 4 5\r\n",
        endpoints("::ffff:10.20.0.7", "::1", 4, 5),
    ),
    "v2 over IPv4": (v2(V4_BODY), IPV4),
    "v2 over IPv6": (v2(V6_BODY, family=TCP6), IPV6),
    "v2 over IPv4 with TLVs": (v2(V4_BODY + TLVS), IPV4),
    "v2 over IPv6 with TLVs": (v2(V6_BODY + TLVS, family=TCP6), IPV6),
    "v2 with TLVs up to the limit": (v2(V4_BODY + b"\x04" + bytes(8192 - 13)), IPV4),
    "v2 local": (v2(b"", command=LOCAL, family=UNSPEC), None),
    "v2 local with an address, which means nothing": (v2(V4_BODY, command=LOCAL), None),
    "v2 unspecified": (v2(b"", family=UNSPEC), None),
    "v2 over UDP": (v2(V4_BODY, family=UDP4), None),
    "v2 over UDP and IPv6": (v2(V6_BODY, family=UDP6), None),
    "v2 from a unix socket": (v2(bytes(216), family=UNIX), None),
}


def decode(data: bytes) -> tuple[PreambleDecoder, bytes]:
    """Feeds a decoder what it asks for; returns it, and what it has left."""
    decoder, position = PreambleDecoder(), 0
    while (needed := decoder.bytes_needed()) > 0:
        piece = data[position : position + needed]
        if len(piece) < needed:
            raise EOFError
        decoder.feed(piece)
        position += needed
    return decoder, data[position:]


@pytest.mark.parametrize(("header", "said"), VECTORS.values(), ids=VECTORS.keys())
def test_reads_what_a_header_says_and_not_a_byte_more(header: bytes, said: Endpoints | None) -> None:
    decoder, rest = decode(header + BEHIND)
    assert decoder.endpoints == said
    assert rest == BEHIND


@pytest.mark.parametrize(("header", "said"), VECTORS.values(), ids=VECTORS.keys())
def test_reads_the_same_byte_by_byte(header: bytes, said: Endpoints | None) -> None:
    decoder = PreambleDecoder()
    for position in range(len(header)):
        assert 0 < decoder.bytes_needed() <= len(header) - position
        decoder.feed(header[position : position + 1])
    assert decoder.bytes_needed() == 0
    assert decoder.endpoints == said


@pytest.mark.parametrize("header", [header for header, _ in VECTORS.values()], ids=VECTORS.keys())
def test_a_header_cut_short_is_not_complete(header: bytes) -> None:
    for length in range(len(header)):
        with pytest.raises(EOFError):
            decode(header[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"\x4a\x00\x00\x00\x0a9.7.0-log",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"proxy TCP4 192.0.2.1 203.0.113.9 1 2\r\n",
        b"PROXY\tTCP4 192.0.2.1 203.0.113.9 1 2\r\n",
        b" PROXY TCP4 192.0.2.1 203.0.113.9 1 2\r\n",
        SIGNATURE[:-1] + b"\x0b" + v2(V4_BODY)[12:],
        bytes(64),
    ],
)  # fmt: skip
def test_whatever_begins_otherwise_is_no_header(data: bytes) -> None:
    with pytest.raises(MalformedPacket, match="without a PROXY header"):
        decode(data)


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.1 203.0.113.9 56324\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 3307 1\r\n",
        b"PROXY TCP4  192.0.2.1 203.0.113.9 56324 3307\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 3307 \r\n",
        b"PROXY TCP4 192.0.2.1\t203.0.113.9 56324 3307\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 65536\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 -1 3307\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 +1 3307\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 1_0 3307\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 0x1 3307\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 1 \r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.9 \xc2\xb2 1\r\n",
        b"PROXY TCP4 192.0.2.256 203.0.113.9 1 2\r\n",
        b"PROXY TCP4 192.0.2 203.0.113.9 1 2\r\n",
        b"PROXY TCP4 192.0.2.01 203.0.113.9 1 2\r\n",
        b"PROXY TCP4 3221225985 203.0.113.9 1 2\r\n",
        b"PROXY TCP4 db1.example 203.0.113.9 1 2\r\n",
        b"PROXY TCP6 [2001:db8::1] ::1 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 203.0.113.9 1 2\r\n",
        b"PROXY tcp4 192.0.2.1 203.0.113.9 1 2\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY      \r\n",
    ],
)
def test_a_line_of_another_form_is_malformed(line: bytes) -> None:
    with pytest.raises(MalformedPacket):
        decode(line + BEHIND)


@pytest.mark.parametrize(
    "line",
    [b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", b"PROXY TCP6 192.0.2.1 203.0.113.9 1 2\r\n",
     b"PROXY TCP4 192.0.2.1 2001:db8::2 1 2\r\n", b"PROXY TCP6 2001:db8::1 203.0.113.9 1 2\r\n"],
)  # fmt: skip
def test_a_line_whose_addresses_are_of_another_family_than_it_says_is_malformed(line: bytes) -> None:
    with pytest.raises(MalformedPacket):
        decode(line + BEHIND)


def test_a_scoped_address_is_malformed() -> None:
    with pytest.raises(MalformedPacket):
        decode(b"PROXY TCP6 fe80::1%eth0 fe80::2%eth0 1 2\r\n")


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\n\r"])
def test_a_line_ends_with_carriage_return_and_line_feed_and_nothing_else(end: bytes) -> None:
    with pytest.raises((MalformedPacket, EOFError)):
        decode(b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 3307" + end)


def test_a_line_may_have_107_bytes_and_no_more() -> None:
    longest = b"PROXY UNKNOWN " + b"x" * (107 - 16) + b"\r\n"
    assert len(longest) == 107
    assert decode(longest)[0].endpoints is None
    with pytest.raises(MalformedPacket, match="without an end"):
        decode(longest.replace(b"x\r\n", b"xx\r\n"))


def test_a_line_without_an_end_is_read_no_further_than_that() -> None:
    decoder, position = PreambleDecoder(), 0
    data = b"PROXY TCP4 " + b"1" * 4096
    with pytest.raises(MalformedPacket):  # noqa: PT012 - counting how far it got
        while needed := decoder.bytes_needed():
            decoder.feed(data[position : position + needed])
            position += needed
    assert position == 107 - 1


@pytest.mark.parametrize(
    "header",
    [
        v2(V4_BODY, command=0x11),
        v2(V4_BODY, command=0x31),
        v2(V4_BODY, command=0x22),
        v2(V4_BODY, command=0x2F),
        v2(V4_BODY, command=0x00),
        v2(V4_BODY[:-1]),
        v2(b""),
        v2(V6_BODY[:-1], family=TCP6),
        v2(V4_BODY, family=TCP6),
        v2(V4_BODY + bytes(8192 - 12 + 1)),
        v2(b"", length=0xFFFF),
    ],
)
def test_a_binary_header_of_another_form_is_malformed(header: bytes) -> None:
    with pytest.raises(MalformedPacket):
        decode(header + BEHIND)


def test_a_length_over_the_limit_is_refused_before_anything_is_read_for_it() -> None:
    decoder = PreambleDecoder()
    decoder.feed(SIGNATURE)
    with pytest.raises(MalformedPacket):
        decoder.feed(struct.pack(">BBH", PROXY, TCP4, 8193))


@given(
    st.binary(max_size=64),
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 1.1.1.1 ", SIGNATURE, SIGNATURE + b"\x21\x11"]),
)
def test_any_bytes_end_as_a_header_or_as_an_error_of_the_wire(tail: bytes, head: bytes) -> None:
    with contextlib.suppress(WireError, EOFError):
        decode(head + tail)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 300), st.binary(max_size=300))
def test_any_binary_header_ends_where_it_says_or_as_an_error_of_the_wire(
    command: int, family: int, length: int, body: bytes
) -> None:
    header = v2(body[:length].ljust(length, b"\x00"), command=command, family=family)
    with contextlib.suppress(WireError):
        assert decode(header + BEHIND)[1] == BEHIND


WORDS = st.sampled_from(
    ["TCP4", "TCP6", "UNKNOWN", "1.2.3.4", "::1", "::ffff:1.2.3.4", "0", "65535", "65536", "", "é", "٣"]
)


@given(st.lists(WORDS, max_size=8))
def test_any_line_ends_where_it_says_or_as_an_error_of_the_wire(words: list[str]) -> None:
    with contextlib.suppress(WireError, EOFError):
        assert decode(" ".join(["PROXY", *words]).encode() + b"\r\n" + BEHIND)[1] == BEHIND


# What the source is told.


@pytest.mark.parametrize(
    ("name", "said", "version"),
    [
        ("v1 over IPv4", IPV4, "v1"),
        ("v1 over IPv6", IPV6, "v1"),
        ("v2 over IPv4", IPV4, "v2"),
        ("v2 over IPv6", IPV6, "v2"),
    ],
)
def test_writes_the_same_bytes_that_it_reads(name: str, said: Endpoints, version: ProxyProtocolVersion) -> None:
    assert serialize_preamble(said, version) == VECTORS[name][0]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_two_families_are_written_in_the_wider_one(version: ProxyProtocolVersion) -> None:
    mixed = endpoints("10.20.0.7", "2001:db8::1", 4, 5)
    decoder, rest = decode(serialize_preamble(mixed, version))
    assert decoder.endpoints == endpoints("::ffff:10.20.0.7", "2001:db8::1", 4, 5)
    assert not rest


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
PORTS = st.integers(0, 65535)


def plain(address: IpAddress) -> IpAddress:
    return caller_at(str(address), 0).address


@given(ADDRESSES, ADDRESSES, PORTS, PORTS, st.sampled_from(["v1", "v2"]))
def test_what_is_written_is_read_as_the_same_caller(
    source: IpAddress, destination: IpAddress, source_port: int, destination_port: int, version: ProxyProtocolVersion
) -> None:
    header = serialize_preamble(Endpoints((source, source_port), (destination, destination_port)), version)
    decoder, rest = decode(header + BEHIND)
    assert rest == BEHIND
    assert decoder.endpoints is not None
    assert (plain(decoder.endpoints.source[0]), decoder.endpoints.source[1]) == (plain(source), source_port)
    assert plain(decoder.endpoints.destination[0]) == plain(destination)
    assert version == "v2" or len(header) <= 107
