import contextlib
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.packet import Packet, Raw

from monitor.files.recordings import Recording
from monitor.frames.decoding import Intake
from monitor.segments import FIN, RST, SYN, Segment
from monitor.tracking.settled import SettledDirection, SettledDirections
from tests.monitor.frames.frames import COMPLEX, ETHERNET, PAYLOAD, SIMPLE, TIME_SECONDS, V4, V4_KEY, V6_KEY, segment

PORTS = frozenset({3306})
SEQUENCE = 4_000_000_000


class Table:
    """Notes what it is given."""

    def __init__(self, *settled: SettledDirection) -> None:
        self.settled = SettledDirections()
        self.taken: list[Segment] = []
        self.ticks: list[float] = []
        for direction in settled:
            self.settled.add(direction)

    def take(self, segment: Segment) -> None:
        self.taken.append(segment)
        if segment.payload.startswith(b"defect"):
            raise ZeroDivisionError

    def tick(self, now_seconds: float) -> None:
        self.ticks.append(now_seconds)


def direction(key: bytes, *, watches_commands: bool = False, next_sequence: int | None = SEQUENCE) -> SettledDirection:
    return SettledDirection(key, next_sequence, watches_commands=watches_commands)


def take(table: Table, frame: bytes, link_type: int = 1, ports: frozenset[int] | None = PORTS) -> Intake:
    intake = Intake(table, ports=ports)
    intake.take(frame, link_type, TIME_SECONDS, len(frame))
    return intake


@pytest.mark.parametrize("name", [*SIMPLE, *COMPLEX])
def test_every_frame_reaches_the_table(name: str) -> None:
    link_type, packet, key = {**SIMPLE, **COMPLEX}[name]
    table = Table()
    intake = take(table, bytes(packet), link_type)
    assert table.taken == [segment(key)]
    assert (intake.packets, intake.dissected, intake.errors) == (1, int(name in COMPLEX), 0)
    other = Table()
    take(other, bytes(packet), link_type, frozenset({3307}))
    assert not other.taken


@pytest.mark.parametrize("name", [name for name in SIMPLE if name != "IPv4 options"])
@pytest.mark.parametrize("is_view", [False, True])
def test_a_settled_direction_is_passed_over(name: str, is_view: bool) -> None:
    link_type, packet, key = SIMPLE[name]
    settled = direction(key)
    table = Table(settled)
    frame = bytes(packet) + b"padding"
    intake = Intake(table, ports=PORTS)
    assert intake.take(memoryview(bytearray(frame)) if is_view else frame, link_type, TIME_SECONDS, len(frame))
    assert not table.taken
    assert (settled.packets, settled.bytes, settled.last_seconds) == (1, len(PAYLOAD), TIME_SECONDS)
    assert settled.next_sequence == SEQUENCE + len(PAYLOAD)


def tcp(flags: int = 0x18, payload: bytes = PAYLOAD, sequence: int = SEQUENCE) -> Packet:
    return TCP(sport=3306, dport=40123, seq=sequence, ack=77, flags=flags) / Raw(payload)


@pytest.mark.parametrize("network", [IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="fd00::1", dst="fd00::2")])
@pytest.mark.parametrize("flag", [FIN, SYN, RST])
def test_control_flags_are_looked_at(network: Packet, flag: int) -> None:
    table = Table(direction(V4_KEY), direction(V6_KEY))
    take(table, bytes(ETHERNET / network / tcp(0x10 | flag)))
    assert [one.flags for one in table.taken] == [0x10 | flag]


@pytest.mark.parametrize("command", [0x12, 0x15, 0x1E])
def test_replication_commands_are_looked_at_where_they_count(command: int) -> None:
    frame = bytes(
        ETHERNET / IP(src="10.0.0.1", dst="10.0.0.2") / tcp(payload=b"\x09\0\0\0" + bytes([command]) + b"abc")
    )
    table = Table(direction(V4_KEY, watches_commands=True))
    take(table, frame)
    assert len(table.taken) == 1
    table = Table(direction(V4_KEY))
    take(table, frame)
    assert not table.taken


@pytest.mark.parametrize("payload", [b"", b"\x09\0\0\0", b"\x09\0\0\0\x03abc", b"\x09\0\0\x01\x12abc"])
def test_other_payloads_are_passed_over(payload: bytes) -> None:
    table = Table(direction(V4_KEY, watches_commands=True))
    take(table, bytes(ETHERNET / IP(src="10.0.0.1", dst="10.0.0.2") / tcp(payload=payload)))
    assert not table.taken
    assert table.settled[V4_KEY].bytes == len(payload)


def test_a_fragment_or_another_protocol_is_not_passed_over() -> None:
    table = Table(direction(V4_KEY), direction(V6_KEY))
    for fields in ({"flags": "MF"}, {"frag": 3}, {"proto": 17}):
        take(table, bytes(ETHERNET / IP(src="10.0.0.1", dst="10.0.0.2", **fields) / tcp()))
    take(table, bytes(ETHERNET / IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrHopByHop() / tcp()))
    assert table.settled[V4_KEY].packets == table.settled[V6_KEY].packets == 0
    assert len(table.taken) == 1


def test_a_defect_costs_one_packet() -> None:
    table = Table()
    met: list[Exception] = []
    intake = Intake(table, ports=PORTS, on_error=met.append)
    defect = bytes(ETHERNET / IP(src="10.0.0.1", dst="10.0.0.2") / tcp(payload=b"defect"))
    for frame in [defect] * 9 + [bytes(ETHERNET / V4)]:
        intake.take(frame, 1, TIME_SECONDS, len(frame))
    assert table.taken[-1] == segment(V4_KEY)
    assert intake.errors == 9
    assert 1 <= len(met) < 9
    assert isinstance(met[0], ZeroDivisionError)


def test_what_contradicts_itself_is_counted() -> None:
    frame = bytes(ETHERNET / V4)
    intake = take(Table(), frame[:30])
    assert intake.malformed == 1


@given(st.binary(max_size=120), st.sampled_from([0, 1, 9, 12, 101, 105, 108, 113, 127, 276, 9999]))
@settings(deadline=None)
def test_no_bytes_are_an_error(frame: bytes, link_type: int) -> None:
    assert take(Table(direction(V4_KEY)), frame, link_type, None).errors == 0


# Whole files.


def pcap(frames: list[tuple[float, bytes]], *, order: str = "<", link_type: int = 1, snap: int = 1 << 18) -> bytes:
    data = [struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snap, link_type)]
    for seconds, frame in frames:
        second, micros = divmod(round(seconds * 1e6), 10**6)
        data += [struct.pack(f"{order}IIII", second, micros, len(frame[:snap]), len(frame)), frame[:snap]]
    return b"".join(data)


def both_ways(
    tmp_path: Path, data: bytes, *settled: SettledDirection
) -> tuple[list[Segment], list[SettledDirection], list[Segment], list[SettledDirection]]:
    """What the table and the settled directions see: packet by packet, and in bulk."""
    path = tmp_path / "file"
    path.write_bytes(data)
    found = []
    # Mapped into memory or, while somebody has it open to write, read.
    for in_bulk, is_open in ((False, False), (True, True), (True, False)):
        table = Table(*(SettledDirection(one.key, one.next_sequence, one.watches_commands) for one in settled))
        intake = Intake(table, ports=None)
        with contextlib.ExitStack() as stack:
            if is_open:
                stack.enter_context(path.open("ab"))
            recording = stack.enter_context(Recording(path))
            if in_bulk:
                intake.take_all(recording)
            else:
                for link_type, time_seconds, frame, wire_bytes in recording:
                    intake.take(frame, link_type, time_seconds, wire_bytes)
        assert not intake.errors
        found.append((table.taken, list(table.settled.values()), intake.packets))
    (one_taken, one_settled, one_count), read, (bulk_taken, bulk_settled, bulk_count) = found
    assert one_count == bulk_count
    assert read[0] == bulk_taken
    assert list(map(str, read[1])) == list(map(str, bulk_settled))
    return one_taken, one_settled, bulk_taken, bulk_settled


def assert_same(tmp_path: Path, data: bytes, *settled: SettledDirection) -> list[SettledDirection]:
    one_taken, one_settled, bulk_taken, bulk_settled = both_ways(tmp_path, data, *settled)
    assert bulk_taken == one_taken
    fields = [
        [(o.key, o.packets, o.bytes, o.next_sequence, o.last_seconds) for o in s] for s in (one_settled, bulk_settled)
    ]
    assert fields[0] == fields[1]
    return bulk_settled


def stream(network: Packet, sizes: list[int], before: Packet = ETHERNET) -> list[tuple[float, bytes]]:
    frames, sequence, seconds = [], SEQUENCE, 1700000000.0
    for size in sizes:
        seconds += 0.1
        frames.append((seconds, bytes(before / network / tcp(payload=bytes(size), sequence=sequence % 2**32))))
        sequence += size
    return frames


SIZES = [1448, 1448, 100, 0, 1, 1448, 60000] * 10


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("snap", [1 << 18, 96, 60])
@pytest.mark.parametrize("name", ["Ethernet, IPv4", "Ethernet, IPv6", "VLAN", "VLAN, IPv6", "QinQ", "SLL", "SLL2",
                                  "NULL", "RAW 101", "RAW 101, IPv6"])  # fmt: skip
def test_bulk_counts_what_single_packets_count(tmp_path: Path, order: str, snap: int, name: str) -> None:
    link_type, packet, key = SIMPLE[name]
    headers = bytes(packet)[: -len(packet[TCP])]
    frames = []
    for seconds, frame in stream(IP(), SIZES, ETHERNET):
        transport = frame[34:]
        if len(key) == 12:
            total = len(transport) + 20
            network = headers[:-20] + headers[-20:-18] + struct.pack(">H", total) + headers[-16:]
        else:
            network = headers[:-40] + headers[-40:-36] + struct.pack(">H", len(transport)) + headers[-34:]
        frames.append((seconds, network + transport))
    data = pcap(frames, order=order, link_type=link_type, snap=snap)
    (settled,) = assert_same(tmp_path, data, direction(key))
    assert_same(tmp_path, data, direction(key, next_sequence=None))
    if snap >= 96:
        assert settled.packets == len(SIZES)
        assert settled.bytes == sum(SIZES)


def test_what_is_not_settled_comes_in_its_place(tmp_path: Path) -> None:
    network = IP(src="10.0.0.1", dst="10.0.0.2")
    frames = stream(network, [500] * 3000)
    for place, payload in ((10, b"first"), (11, b"second"), (1500, b"third"), (2999, b"last")):
        frames[place] = (frames[place][0], bytes(ETHERNET / IP(src="10.0.0.9", dst="10.0.0.2") / tcp(payload=payload)))
    end = tcp(0x11, b"bye", SEQUENCE + 500 * 3000)
    frames.append((frames[-1][0], bytes(ETHERNET / network / end)))
    assert_same(tmp_path, pcap(frames), direction(V4_KEY))
    table_taken = both_ways(tmp_path, pcap(frames), direction(V4_KEY))[2]
    assert [one.payload for one in table_taken] == [b"first", b"second", b"third", b"last", b"bye"]


@pytest.mark.parametrize("fields", [{"flags": "MF"}, {"frag": 3}, {"proto": 17}])
def test_bulk_looks_at_fragments_and_other_protocols(tmp_path: Path, fields: dict[str, Any]) -> None:
    network = IP(src="10.0.0.1", dst="10.0.0.2")
    frames = stream(network, [500] * 9)
    frames = [(TIME_SECONDS, frame) for _, frame in frames]
    frames[5] = (TIME_SECONDS, bytes(ETHERNET / IP(src="10.0.0.1", dst="10.0.0.2", **fields) / tcp(payload=b"x")))
    (settled,) = assert_same(tmp_path, pcap(frames), direction(V4_KEY))
    assert settled.packets == 8


def test_time_is_kept_by_the_packets(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(pcap(stream(IP(src="10.0.0.1", dst="10.0.0.2"), [10] * 100)))
    table = Table(direction(V4_KEY))
    with Recording(path) as recording:
        Intake(table, ports=PORTS).take_all(recording)
    steps = [later - earlier for earlier, later in zip(table.ticks, table.ticks[1:], strict=False)]
    assert table.ticks[0] < 1700000001
    assert table.ticks[-1] > 1700000009
    assert max(steps) <= 1.1


def test_progress_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    frame = bytes(ETHERNET / V4)
    path.write_bytes(pcap([(TIME_SECONDS, frame)] * 140_000))
    told: list[int] = []
    for table in (Table(), Table(direction(V4_KEY))):
        told.clear()
        with Recording(path) as recording:
            Intake(table, ports=PORTS).take_all(recording, told.append)
        assert 1 <= len(told) <= 4
        assert told == sorted(told)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.data())
def test_bulk_and_single_agree_on_anything(tmp_path: Path, data: st.DataObject) -> None:
    kinds = [
        bytes(ETHERNET / IP(src="10.0.0.1", dst="10.0.0.2") / tcp(flags, payload, sequence))
        for flags in (0x10, 0x18, 0x11)
        for payload in (b"", b"x", b"\x01\0\0\0\x12", bytes(700))
        for sequence in (SEQUENCE, SEQUENCE + 1, SEQUENCE + 700)
    ]
    kinds += [bytes(packet) for link_type, packet, _ in SIMPLE.values() if link_type == 1]
    kinds += [bytes(ETHERNET / IP(src="10.0.0.1", dst="10.0.0.2", flags="MF") / tcp())]
    frames = data.draw(st.lists(st.tuples(st.floats(1.0, 5.0), st.sampled_from(kinds)), max_size=60))
    watches = data.draw(st.booleans())
    order = data.draw(st.sampled_from("<>"))
    cut = data.draw(st.integers(0, 100))
    snap = data.draw(st.sampled_from([1 << 18, 80]))
    content = pcap(frames, order=order, snap=snap)
    content = content[: max(24, len(content) - cut)]
    one_taken, one_settled, bulk_taken, bulk_settled = both_ways(
        tmp_path, content, direction(V4_KEY, watches_commands=watches), direction(V6_KEY)
    )
    assert one_taken == bulk_taken
    assert [o.packets for o in one_settled] == [o.packets for o in bulk_settled]
    assert [o.last_seconds for o in one_settled] == [o.last_seconds for o in bulk_settled]
