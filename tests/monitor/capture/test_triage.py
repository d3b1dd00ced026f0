import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.capture.triage import (
    ACCEPT_BYTES,
    LINKTYPE_RAW,
    MOST_INSTRUCTIONS,
    MOST_SETTLED_KEYS,
    Assembler,
    Instruction,
    assemble_triage,
    hash_of,
)
from monitor.frames import headers
from monitor.segments import CONTROL_FLAGS, Segment
from tests.monitor.capture import classic_bpf
from tests.monitor.capture.crafted import (
    ACK,
    FIN_ACK,
    REPLICA,
    REPLICA6,
    RST,
    SOURCE,
    SOURCE6,
    SYN,
    SYN_ACK,
    ethernet,
    ipv4,
    ipv6,
    key,
    padded,
    tcp,
    udp,
)

PORTS = frozenset({3306, 3307})
KEY, KEY6 = key(), key(source=SOURCE6, destination=REPLICA6)
SETTLED = [KEY, KEY6]
CARRIER_PORTS, CARRIER_PROTOCOLS = {4789, 8472, 4790, 6081, 6635, 2152, 1701}, {4, 41, 47, 97, 137, 0, 43, 44, 51, 60}
# What no settled direction lets through but by chance, at any odds.
UNLUCKY = 0xFFFFFFFF

RETURN, LOAD_BYTE, EQUAL = 0x06, 0x30, 0x15


def triage(
    *,
    ports: frozenset[int] | None = PORTS,
    settled: list[bytes] = SETTLED,
    sample_1_in: int = 10,
    with_openings: bool = True,
    link_type: int = 1,
    seed: int = 77,
) -> list[Instruction]:
    return assemble_triage(
        ports,
        settled=settled,
        sample_1_in=sample_1_in,
        with_openings=with_openings,
        link_type=link_type,
        seed=seed,
    )


def passes(frame: bytes, program: list[Instruction] | None = None, *, drawn: int = UNLUCKY) -> bool:
    returned = classic_bpf.run(triage() if program is None else program, frame, drawn=drawn)
    assert returned in {0, ACCEPT_BYTES}
    return returned == ACCEPT_BYTES


FRAMES = {
    "IPv4": (ethernet(ipv4(6, tcp(3306, 50000, b"x"))), True),
    "IPv4 to the port": (ethernet(ipv4(6, tcp(50000, 3307, b"x"))), True),
    "IPv4 with options": (ethernet(ipv4(6, tcp(3306, 50000, b"x"), options=b"\1" * 12)), True),
    "IPv6": (ethernet(ipv6(6, tcp(3306, 50000, b"x"))), True),
    "one tag": (ethernet(ipv4(6, tcp(3306, 50000, b"x")), 0x8100), True),
    "a provider's tag": (ethernet(ipv6(6, tcp(3306, 50000, b"x")), 0x88A8), True),
    "QinQ": (ethernet(ipv4(6, tcp(3306, 50000, b"x")), 0x88A8, 0x8100), True),
    "QinQ, IPv6": (ethernet(ipv6(6, tcp(50000, 3306, b"x")), 0x8100, 0x8100), True),
    "three tags": (ethernet(ipv4(6, tcp(1, 2, b"x")), 0x88A8, 0x8100, 0x8100), True),
    "without payload": (padded(ethernet(ipv4(6, tcp(3306, 50000, flags=ACK)))), True),
    "opening": (ethernet(ipv4(6, tcp(50000, 3306, flags=SYN))), True),
    "another port": (ethernet(ipv4(6, tcp(5432, 50000, b"x"))), False),
    "another port, IPv6": (ethernet(ipv6(6, tcp(5432, 50000, b"x"))), False),
    "another port behind tags": (ethernet(ipv4(6, tcp(5432, 50000, b"x")), 0x88A8, 0x8100), False),
    "port in an option": (ethernet(ipv4(6, tcp(1, 2, b"x"), options=struct.pack("!HH", 3306, 3306))), False),
    "first fragment": (ethernet(ipv4(6, tcp(5432, 1), fragment=0x2000)), True),
    "later fragment": (ethernet(ipv4(6, b"x" * 8, fragment=0x0001)), True),
    "last fragment": (ethernet(ipv4(17, b"x" * 8, fragment=0x1FFF), 0x8100), True),
    "GRE": (ethernet(ipv4(47, b"\0\0\x08\0")), True),
    "GRE over IPv6": (ethernet(ipv6(47, b"\0\0\x08\0")), True),
    "IP in IP": (ethernet(ipv4(4, ipv4(6, tcp()))), True),
    "6in4": (ethernet(ipv4(41, ipv6(6, tcp()))), True),
    "4in6": (ethernet(ipv6(4, ipv4(6, tcp()))), True),
    "6in6": (ethernet(ipv6(41, ipv6(6, tcp()))), True),
    "VXLAN": (ethernet(ipv4(17, udp(4789, b"x"))), True),
    "VXLAN, IPv6, tagged": (ethernet(ipv6(17, udp(4789, b"x")), 0x8100), True),
    "Linux's VXLAN": (ethernet(ipv4(17, udp(8472, b"x"))), True),
    "GENEVE": (ethernet(ipv4(17, udp(6081, b"x"))), True),
    "DNS": (ethernet(ipv4(17, udp(53, b"x"))), False),
    "UDP to the port": (ethernet(ipv6(17, udp(3306, b"x"))), False),
    "hop-by-hop options": (ethernet(ipv6(0, b"\6\0" + bytes(6) + tcp())), True),
    "routing": (ethernet(ipv6(43, b"\6\0" + bytes(6) + tcp())), True),
    "IPv6 fragment": (ethernet(ipv6(44, b"\6\0" + bytes(6) + tcp())), True),
    "destination options": (ethernet(ipv6(60, b"\6\0" + bytes(6) + tcp()), 0x8100), True),
    "ping": (ethernet(ipv4(1, b"\x08\0" + bytes(6))), False),
    "ping, IPv6": (ethernet(ipv6(58, b"\x80\0" + bytes(6))), False),
    "4in4 by another tag": (ethernet(ipv4(4, ipv4(6, tcp())), 0x9100), True),
    "authentication header": (ethernet(ipv4(51, b"\6\4" + bytes(22) + tcp())), True),
    "Ethernet in IP": (ethernet(ipv4(97, b"\x30\0" + ethernet(ipv4(6, tcp())))), True),
    "VXLAN's answer": (ethernet(ipv4(17, udp(50001, b"x", source_port=4789))), True),
    "VXLAN-GPE": (ethernet(ipv4(17, udp(4790, b"x"))), True),
    "GTP-U": (ethernet(ipv6(17, udp(2152, b"x"))), True),
    "MPLS": (bytes(12) + b"\x88\x47" + b"\0\1\1\x40" + ipv4(6, tcp()), True),
    "PPPoE, tagged": (bytes(12) + b"\x81\0\0\5\x88\x64\x11\0\0\1\0\x2a\0\x21" + ipv4(6, tcp()), True),
    "SNAP": (bytes(12) + b"\0\x30\xaa\xaa\3\0\0\0\x08\0" + ipv4(6, tcp()), True),
    "spanning tree": (bytes(12) + b"\0\x26\x42\x42\3" + bytes(43), False),
    "ARP": (bytes(12) + b"\x08\x06" + bytes(46), False),
    "settled": (ethernet(ipv4(6, tcp(payload=b"data of a table"))), False),
    "settled, IPv6": (ethernet(ipv6(6, tcp(payload=b"data of a table"))), False),
    "settled, tagged": (ethernet(ipv4(6, tcp(payload=b"data of a table")), 0x8100), False),
    "settled, QinQ": (ethernet(ipv6(6, tcp(payload=b"data of a table")), 0x88A8, 0x8100), False),
    "settled, options": (ethernet(ipv4(6, tcp(payload=b"data", options=b"\1" * 12), options=b"\1" * 8)), False),
    "settled, other direction": (ethernet(ipv4(6, tcp(40000, 3306, b"x"), source=REPLICA, destination=SOURCE)), True),
    "settled, other addresses": (ethernet(ipv4(6, tcp(payload=b"x"), source=REPLICA, destination=SOURCE)), True),
    "settled, without payload": (padded(ethernet(ipv4(6, tcp(flags=ACK)))), False),
    "settled, padded": (padded(ethernet(ipv4(6, tcp(flags=ACK), total_bytes=40))), False),
    "settled, SYN": (ethernet(ipv4(6, tcp(flags=SYN))), True),
    "settled, FIN": (padded(ethernet(ipv4(6, tcp(flags=FIN_ACK)))), True),
    "settled, RST": (ethernet(ipv6(6, tcp(flags=RST))), True),
    "settled, COM_BINLOG_DUMP": (ethernet(ipv4(6, tcp(payload=b"\x1b\0\0\0\x12\4\0\0\0"))), True),
    "settled, COM_REGISTER_SLAVE": (ethernet(ipv6(6, tcp(payload=b"\x12\0\0\0\x15\2\0\0\0"))), True),
    "settled, COM_BINLOG_DUMP_GTID": (ethernet(ipv4(6, tcp(payload=b"\x2e\0\0\0\x1e", options=b"\1" * 12))), True),
    "settled, COM_QUERY": (ethernet(ipv4(6, tcp(payload=b"\x09\0\0\0\x03SELECT 1"))), False),
    "settled, number 1": (ethernet(ipv4(6, tcp(payload=b"\x1b\0\0\1\x12\4\0\0\0"))), False),
    "settled, four bytes": (ethernet(ipv4(6, tcp(payload=b"\x1b\0\0\0"))), False),
    "settled, command in the padding": (padded(ethernet(ipv4(6, tcp(payload=b"\1\0\0\0"))) + b"\x12"), False),
    "settled, over 64 KiB": (ethernet(ipv4(6, tcp(payload=b"\x1b\0\0\0\x12"), total_bytes=0)), True),
    "settled, over 64 KiB, IPv6": (ethernet(ipv6(6, tcp(payload=b"\x1b\0\0\0\x12"), payload_bytes=0)), True),
}
OPENINGS = {
    name: ethernet(packet, *tags)
    for flags in (SYN, SYN_ACK, FIN_ACK, RST)
    for name, packet, tags in (
        (f"{flags:#x}", ipv4(6, tcp(50000, 3306, flags=flags, options=b"\1" * 20)), ()),
        (f"{flags:#x} IPv6", ipv6(6, tcp(3306, 50000, flags=flags)), (0x8100,)),
        (f"{flags:#x} settled", ipv4(6, tcp(flags=flags)), ()),
    )
}


@pytest.mark.parametrize("name", FRAMES)
def test_what_passes(name: str) -> None:
    frame, expected = FRAMES[name]
    assert passes(frame) is expected


@pytest.mark.parametrize("name", FRAMES)
def test_it_is_the_same_without_a_link_header(name: str) -> None:
    frame, expected = FRAMES[name]
    protocols = [at for at in range(12, 24, 4) if frame[at : at + 2] in {b"\x08\0", b"\x86\xdd"}]
    # What is no IP, and three tags, no interface without Ethernet carries.
    if frame[14:16] == b"\xaa\xaa":
        protocols = []
    packet = frame[protocols[0] + 2 :] if protocols else b"\x20" + bytes(40)
    expected = expected and bool(protocols)
    assert passes(packet, triage(link_type=LINKTYPE_RAW)) is expected


@pytest.mark.parametrize("name", OPENINGS)
def test_under_a_flood_openings_without_payload_stay_in_the_kernel(name: str) -> None:
    frame = OPENINGS[name]
    assert passes(frame)
    assert not passes(padded(frame), triage(with_openings=False))
    assert not passes(padded(frame), triage(with_openings=False, settled=[]))


def test_under_a_flood_payload_passes() -> None:
    for settled in ([], SETTLED):
        flood = triage(with_openings=False, settled=settled)
        assert passes(ethernet(ipv4(6, tcp(50000, 3306, b"x", flags=ACK))), flood)
        assert passes(ethernet(ipv4(6, tcp(payload=b"the end", flags=FIN_ACK))), flood)
        assert passes(padded(ethernet(ipv4(6, tcp(50000, 3306, flags=ACK)))), flood)


def test_any_port() -> None:
    program = triage(ports=None)
    assert passes(ethernet(ipv4(6, tcp(1, 2, b"x"))), program)
    assert not passes(ethernet(ipv4(17, udp(53))), program)
    assert not passes(ethernet(ipv4(6, tcp(payload=b"data"))), program)


def test_many_ports() -> None:
    program = triage(ports=frozenset(range(3000, 4000)), settled=[])
    for port, expected in ((2999, False), (3000, True), (3500, True), (3999, True), (4000, False)):
        assert passes(ethernet(ipv4(6, tcp(port, 1, b"x"))), program) is expected
        assert passes(ethernet(ipv6(6, tcp(1, port, b"x"))), program) is expected


@pytest.mark.parametrize(("sample_1_in", "passing"), [(1, 1 << 32), (2, 1 << 31), (64, 1 << 26), (1000, 4294967)])
def test_the_odds_are_as_asked(sample_1_in: int, passing: int) -> None:
    program, frame = triage(sample_1_in=sample_1_in), ethernet(ipv4(6, tcp(payload=b"some data")))
    assert passes(frame, program, drawn=0)
    assert passes(frame, program, drawn=passing - 1)
    if passing <= UNLUCKY:
        assert not passes(frame, program, drawn=passing)
    # Nothing is no sample, by whatever chance.
    assert not passes(padded(ethernet(ipv4(6, tcp(flags=ACK)))), program, drawn=0)


@pytest.mark.parametrize("count", [1, 2, 8, 9, 16, 17, 63, 200, MOST_SETTLED_KEYS])
def test_each_settled_direction_is_found_and_no_other(count: int) -> None:
    def frame(number: int) -> bytes:
        return ethernet(ipv4(6, tcp(3306, 1024 + number, b"data"), destination=f"10.0.0.{number % 7}"))

    keys = [key(3306, 1024 + number, destination=f"10.0.0.{number % 7}") for number in range(0, 2 * count, 2)]
    program = triage(settled=keys)
    assert [passes(frame(number), program) for number in range(2 * count)] == [False, True] * count


def test_too_many_settled_directions_leave_the_last_out() -> None:
    keys = [key(3306, 1024 + number) for number in range(MOST_SETTLED_KEYS + 1)]
    program = triage(settled=keys)
    assert len(program) < MOST_INSTRUCTIONS / 2
    assert not passes(ethernet(ipv4(6, tcp(3306, 1024, b"data"))), program)
    assert passes(ethernet(ipv4(6, tcp(3306, 1024 + MOST_SETTLED_KEYS, b"data"))), program)


def double_of(of: bytes, seed: int) -> bytes:
    """The other direction between the same addresses that has the same hash: one to one but for the last bit."""
    factor = 0x9E3779B1
    before = mixed = seed
    for (word,) in struct.iter_unpack("!I", of):
        before, mixed = mixed, ((mixed ^ word) * factor) & UNLUCKY
    ports = (((mixed ^ 1) * pow(factor, -1, 1 << 32)) & UNLUCKY) ^ before
    return of[:-4] + struct.pack("!I", ports)


def test_a_collision_thins_out_and_does_not_blind() -> None:
    double = double_of(KEY, 77)
    assert double != KEY
    assert hash_of(double, 77) == hash_of(KEY, 77)
    source_port, destination_port = struct.unpack("!HH", double[8:])

    def frame(payload: bytes = b"", flags: int = ACK) -> bytes:
        return ethernet(ipv4(6, tcp(source_port, destination_port, payload, flags=flags)))

    program = triage(ports=None, settled=[KEY])
    assert not passes(frame(b"data"), program)
    assert passes(frame(b"data"), program, drawn=1)
    assert passes(frame(b"\x1b\0\0\0\x12"), program)
    assert passes(frame(flags=SYN), program)
    # The next program has another seed, and another double.
    assert passes(frame(b"data"), triage(ports=None, settled=[KEY], seed=78))


@pytest.mark.parametrize("count", [0, 5, 253, 254, 255, 256, 300, 3000])
def test_a_branch_reaches_any_distance(count: int) -> None:
    for then, otherwise in (("far", ""), ("", "far"), ("far", "farther"), ("farther", "far"), ("far", "far")):
        into = Assembler()
        into.do(LOAD_BYTE, 0)
        into.branch(EQUAL, 1, then, otherwise)
        into.do(RETURN, 1)
        for _ in range(count):
            into.do(RETURN, 9)
        into.label("far")
        into.do(RETURN, 2)
        into.label("farther")
        into.do(RETURN, 3)
        program = into.assemble()
        returned = {"": 1, "far": 2, "farther": 3}
        assert classic_bpf.run(program, b"\1") == returned[then]
        assert classic_bpf.run(program, b"\0") == returned[otherwise]


def test_what_cannot_be_assembled() -> None:
    into = Assembler()
    into.label("behind")
    into.jump("behind")
    with pytest.raises(ValueError, match="no label behind"):
        into.assemble()
    with pytest.raises(ValueError, match="the kernel takes 4096"):
        triage(ports=frozenset(range(5000)))
    with pytest.raises(ValueError, match="link type 127"):
        triage(link_type=127)
    with pytest.raises(ValueError, match="none"):
        triage(sample_1_in=0)


def programs() -> Iterator[list[Instruction]]:
    for ports in (PORTS, None):
        for settled in ([], SETTLED):
            for with_openings in (True, False):
                for link_type in (1, LINKTYPE_RAW):
                    yield triage(ports=ports, settled=settled, with_openings=with_openings, link_type=link_type)


PROGRAMS = list(programs())


@given(st.binary(max_size=120), st.integers(0, UNLUCKY))
def test_no_bytes_upset_a_program(frame: bytes, drawn: int) -> None:
    for program in PROGRAMS:
        passes(frame, program, drawn=drawn)


@given(
    st.sampled_from([ethernet(ipv4(6, tcp())), ethernet(ipv6(6, tcp()), 0x8100), ethernet(ipv4(17, udp(4789)))]),
    st.lists(st.tuples(st.integers(12, 60), st.integers(0, 255)), max_size=4),
    st.integers(0, UNLUCKY),
)
def test_no_header_upsets_a_program(frame: bytes, changes: list[tuple[int, int]], drawn: int) -> None:
    changed = bytearray(padded(frame) + bytes(10))
    for at, value in changes:
        changed[at] = value
    for program in PROGRAMS:
        passes(bytes(changed), program, drawn=drawn)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_cut_short_is_dropped_or_passes_as_the_whole_does(name: str) -> None:
    frame, expected = FRAMES[name]
    for length in range(len(frame)):
        assert not passes(frame[:length]) or expected
    # All that is read is within the headers.
    if name in {"IPv4", "IPv6", "QinQ", "opening"}:
        assert passes(frame[: len(frame) - frame.endswith(b"x")])


segments = st.builds(
    tcp,
    st.sampled_from([3306, 3307, 40000, 5432]),
    st.sampled_from([3306, 40000, 40001]),
    st.binary(max_size=8) | st.sampled_from([b"\1\0\0\0\x12", b"\1\0\0\0\x15more", b"\1\0\0\0\x1e", b"\1\0\0\0\x16"]),
    flags=st.sampled_from([ACK, 0x18, SYN, SYN_ACK, FIN_ACK, RST]),
    options=st.sampled_from([b"", b"\1" * 12, b"\1" * 40]),
)
inner = st.one_of(
    st.tuples(st.just(6), segments),
    st.tuples(st.just(17), st.builds(udp, st.sampled_from([53, 4789, 8472, 6081, 3306]), st.binary(max_size=8))),
    st.tuples(st.sampled_from([1, 4, 41, 47, 50, 51, 58, 97, 132, 137]), st.binary(max_size=30)),
)
packets4 = st.builds(
    lambda within, **kwargs: ipv4(*within, **kwargs),
    inner,
    source=st.sampled_from([SOURCE, REPLICA]),
    destination=st.sampled_from([SOURCE, REPLICA]),
    options=st.sampled_from([b"", b"\1" * 4, b"\1" * 40]),
    fragment=st.sampled_from([0, 0x4000, 0x8000, 0x2000, 1, 0x1FFF]),
)
packets6 = st.builds(
    lambda within, **kwargs: ipv6(*within, **kwargs),
    inner | st.tuples(st.sampled_from([0, 43, 44, 60]), st.binary(max_size=40)),
    source=st.sampled_from([SOURCE6, REPLICA6]),
    destination=st.sampled_from([SOURCE6, REPLICA6]),
)


def reference(packet: bytes, settled: list[bytes], drawn: int, *, with_openings: bool) -> bool:
    """What `assemble_triage` promises for a complete packet, in one in 10, by other means."""
    if packet[0] >> 4 == 4:
        header_bytes, protocol, addresses = 4 * (packet[0] & 15), packet[9], packet[12:20]
        if int.from_bytes(packet[6:8]) & 0x3FFF:
            return True
    else:
        header_bytes, protocol, addresses = 40, packet[6], packet[8:40]
    transport = packet[header_bytes:]
    if protocol != 6:
        if protocol == 17:
            return not CARRIER_PORTS.isdisjoint(struct.unpack("!HH", transport[:4]))
        return protocol in CARRIER_PROTOCOLS
    payload, control = transport[4 * (transport[12] >> 4) :], transport[13] & CONTROL_FLAGS
    if not PORTS & set(struct.unpack("!HH", transport[:4])):
        return False
    if control:
        return with_openings or bool(payload)
    if addresses + transport[:4] not in settled:
        return True
    if len(payload) >= 5 and payload[3] == 0 and payload[4] in {0x12, 0x15, 0x1E}:
        return True
    return bool(payload) and drawn < (1 << 32) // 10


@settings(max_examples=1000)
@given(
    packets4 | packets6,
    st.lists(st.sampled_from([0x8100, 0x88A8]), max_size=2),
    st.sampled_from([0, 429496728, 429496729, 429496730, UNLUCKY]),
    st.booleans(),
    st.booleans(),
)
def test_it_does_what_the_reference_does(
    packet: bytes, tags: list[int], drawn: int, has_settled: bool, with_openings: bool
) -> None:
    settled = [*SETTLED, key(40000, 3306, source=REPLICA, destination=SOURCE)] if has_settled else []
    expected = reference(packet, settled, drawn, with_openings=with_openings)
    program = triage(settled=settled, with_openings=with_openings)
    assert passes(padded(ethernet(packet, *tags)), program, drawn=drawn) is expected
    bare = triage(settled=settled, with_openings=with_openings, link_type=LINKTYPE_RAW)
    assert passes(packet, bare, drawn=drawn) is expected


def is_of_interest(frame: bytes, link_type: int = 1) -> bool:
    found = headers.parse(frame, link_type, 0.0, len(frame), PORTS)
    return isinstance(found, Segment) or found is headers.Answer.COMPLEX


def test_the_kernel_holds_nothing_back_that_user_space_would_look_into() -> None:
    program = triage(settled=[])
    inside = ipv4(6, tcp(3306, 1, b"x"))
    frames = [bytes(12) + number.to_bytes(2) + inside for number in range(1 << 16)]
    frames += [bytes(12) + b"\x81\0\0\5" + number.to_bytes(2) + inside for number in range(1 << 16)]
    frames += [ethernet(packet(number, bytes(40))) for number in range(256) for packet in (ipv4, ipv6)]
    frames += [ethernet(ipv4(17, udp(number, bytes(40)))) for number in range(1 << 16)]
    frames += [ethernet(ipv4(17, udp(1, bytes(40), source_port=number))) for number in range(1 << 16)]
    interesting = [frame for frame in frames if is_of_interest(frame)]
    assert len(interesting) > 40
    assert all(passes(frame, program) for frame in interesting)
    # Nor does it pass on more.
    assert all(is_of_interest(frame) for frame in frames if passes(frame, program))


@settings(max_examples=500)
@given(packets4 | packets6 | st.binary(max_size=60), st.lists(st.sampled_from([0x8100, 0x88A8, 0x9100]), max_size=3))
def test_the_kernel_holds_back_no_packet_that_user_space_would_look_into(packet: bytes, tags: list[int]) -> None:
    for link_type in (1, LINKTYPE_RAW):
        for type_of in (b"\x08\0", b"\x86\xdd"):
            head = bytes(12) + b"".join(struct.pack("!HH", tag, 5) for tag in tags) + type_of
            frame = head + packet if link_type == 1 else packet
            if is_of_interest(frame, link_type):
                assert passes(frame, triage(settled=[], link_type=link_type))
