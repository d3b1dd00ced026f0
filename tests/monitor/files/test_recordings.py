import contextlib
import gzip
import io
import struct
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.utils import PcapNgWriter, PcapWriter

from monitor.files.pieces import PIECE_BYTES
from monitor.files.recordings import Recording, RecordingError
from tests.monitor.frames.frames import ETHERNET, V4, V6

FRAMES = [bytes(ETHERNET / V4), bytes(ETHERNET / V6), b"x" * 9000, b""]
TIMES = [1700000000.0, 1700000000.25, 1700000001.5, 1700000002.125]


def read(path: Path) -> list[tuple[int, float, bytes, int]]:
    with Recording(path) as recording:
        return list(recording)


def saved(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "capture"
    path.write_bytes(data)
    return path


EXPECTED = [(1, seconds, frame, len(frame)) for seconds, frame in zip(TIMES, FRAMES, strict=True)]


def pcap(magic: int = 0xA1B2C3D4, order: str = "<", *, link_type: int = 1, unit: float = 1e6, more: int = 0) -> bytes:
    data = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 1 << 18, link_type)
    for seconds, frame in zip(TIMES, FRAMES, strict=True):
        fraction = round(seconds % 1 * unit)
        data += struct.pack(f"{order}IIII", int(seconds), fraction, len(frame), len(frame)) + bytes(more) + frame
    return data


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link_type: int = 1, snap: int = 0, options: bytes = b"", order: str = "<") -> bytes:
    return block(1, struct.pack(f"{order}HHI", link_type, 0, snap) + options, order)


def enhanced(frame: bytes, ticks: int = 0, number: int = 0, order: str = "<", options: bytes = b"") -> bytes:
    padded = frame + bytes(-len(frame) % 4)
    body = (
        struct.pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame)) + padded + options
    )
    return block(6, body, order)


def pcapng(order: str = "<") -> bytes:
    data = section(order) + interface(order=order)
    for seconds, frame in zip(TIMES, FRAMES, strict=True):
        data += enhanced(frame, round(seconds * 1e6), order=order)
    return data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit", "more"), [(0xA1B2C3D4, 1e6, 0), (0xA1B23C4D, 1e9, 0), (0xA1B2CD34, 1e6, 8)])
def test_every_kind_of_pcap_is_read(tmp_path: Path, magic: int, unit: float, more: int, order: str) -> None:
    assert read(saved(tmp_path, pcap(magic, order, unit=unit, more=more))) == EXPECTED


def test_the_link_type_may_say_that_there_are_checksums(tmp_path: Path) -> None:
    data = pcap(link_type=0x2400_0000 | 113)
    assert {link_type for link_type, *_ in read(saved(tmp_path, data))} == {113}


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_is_read(tmp_path: Path, order: str) -> None:
    assert read(saved(tmp_path, pcapng(order))) == EXPECTED


@pytest.mark.parametrize("data", [pcap(), pcapng()], ids=["pcap", "pcapng"])
def test_gzip_is_read(tmp_path: Path, data: bytes) -> None:
    assert read(saved(tmp_path, gzip.compress(data))) == EXPECTED


@pytest.mark.parametrize("data", [pcap(), pcapng(), gzip.compress(pcap(), mtime=0)], ids=["pcap", "pcapng", "gzip"])
def test_standard_input_is_read(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))
    assert read(Path("-")) == EXPECTED


@pytest.mark.parametrize("nanoseconds", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_what_scapy_writes_is_read(tmp_path: Path, nanoseconds: bool, compressed: bool) -> None:
    path = tmp_path / "capture"
    with PcapWriter(str(path), linktype=1, nano=nanoseconds, gz=compressed) as writer:
        writer.write_header(None)
        for seconds, frame in zip(TIMES, FRAMES, strict=True):
            writer.write_packet(frame, sec=int(seconds), usec=round(seconds % 1 * (1e9 if nanoseconds else 1e6)))
    assert read(path) == EXPECTED


def test_what_scapy_writes_as_pcapng_is_read(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    packets = [ETHERNET / V4, ETHERNET / V6]
    with PcapNgWriter(str(path)) as writer:
        for number, packet in enumerate(packets):
            packet.time = TIMES[number]
            writer.write(packet)
    assert read(path) == EXPECTED[:2]


def test_interfaces_have_their_own_link_type_and_clock(tmp_path: Path) -> None:
    data = section() + interface(113, options=option(9, b"\x09")) + interface(101, options=option(9, b"\x8a"))
    data += interface(1, options=option(2, b"name") + option(14, struct.pack("<q", 1000)) + option(0, b""))
    data += enhanced(b"a", 5_500_000_000, 0) + enhanced(b"bb", 3 << 9, 1) + enhanced(b"ccc", 250_000, 2)
    assert read(saved(tmp_path, data)) == [(113, 5.5, b"a", 1), (101, 1.5, b"bb", 2), (1, 1000.25, b"ccc", 3)]


def test_a_section_has_its_own_interfaces_and_byte_order(tmp_path: Path) -> None:
    data = section("<") + interface(1) + enhanced(b"a", 1_000_000)
    data += section(">") + interface(113, order=">") + enhanced(b"b", 2_000_000, order=">")
    assert read(saved(tmp_path, data)) == [(1, 1.0, b"a", 1), (113, 2.0, b"b", 1)]


def test_simple_and_old_packets_are_read(tmp_path: Path) -> None:
    data = section() + interface(1, snap=6) + enhanced(b"abcd", 7_000_000, options=option(1, b"comment"))
    data += block(3, struct.pack("<I", 4) + b"abcd") + block(3, struct.pack("<I", 10) + b"abcdef")
    data += block(2, struct.pack("<HHIIII", 0, 0, 0, 8_000_000, 3, 30) + b"xyz") + block(0xBAD, b"unknown")
    assert read(saved(tmp_path, data)) == [
        (1, 7.0, b"abcd", 4), (1, 7.0, b"abcd", 4), (1, 7.0, b"abcdef", 10), (1, 8.0, b"xyz", 30),
    ]  # fmt: skip


@pytest.mark.parametrize("data", [pcap(), pcapng()], ids=["pcap", "pcapng"])
def test_a_file_may_end_anywhere(tmp_path: Path, data: bytes) -> None:
    starts = [position for position in range(30, len(data)) if position < 400 or position > len(data) - 40]
    for end in starts:
        with Recording(saved(tmp_path, data[:end])) as recording:
            found = list(recording)
            assert recording.is_truncated == (found != EXPECTED and not _is_whole(data, end))
        assert found == EXPECTED[: len(found)]


def _is_whole(data: bytes, end: int) -> bool:
    if data == pcap():
        position = 24
        while position < end:
            position += 16 + struct.unpack_from("<I", data, position + 8)[0]
    else:
        position = 0
        while position < end:
            position += struct.unpack_from("<I", data, position + 4)[0]
    return position == end


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    frames = [bytes([number % 256]) * (number * 3701 % 70_000) for number in range(300)]
    data = pcap()[:24] + b"".join(struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame for frame in frames)
    assert len(data) > 20 * PIECE_BYTES
    assert [frame for _, _, frame, _ in read(saved(tmp_path, data))] == frames
    data = section() + interface() + b"".join(map(enhanced, frames))
    assert [frame for _, _, frame, _ in read(saved(tmp_path, data))] == frames


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"\x7fELF" + bytes(100), "neither pcap nor pcapng: it begins with the bytes 7f 45 4c 46"),
        (b"GET", "neither pcap nor pcapng"),
        (pcap()[:20], "it ends too early"),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 9, 4, 0, 0, 9, 1), "version 9"),
        (gzip.compress(b"text", mtime=0), "neither pcap nor pcapng"),
        (b"\x1f\x8b" + bytes(30), "method"),
        (gzip.compress(pcap(), mtime=0)[:-8] + bytes(8), "check"),
    ],
    ids=[
        "nothing",
        "a program",
        "a word",
        "half a header",
        "another version",
        "text in gzip",
        "another compression",
        "a wrong checksum",
    ],
)
def test_what_is_no_capture_is_refused_with_its_name(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(RecordingError) as caught:
        Recording(saved(tmp_path, data))
    assert str(tmp_path / "capture") in str(caught.value)
    assert reason in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        Recording(tmp_path / "nothing")
    with pytest.raises(RecordingError, match="directory"):
        Recording(tmp_path)


COMPRESSED = gzip.compress(pcap(), mtime=0)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (pcap() + struct.pack("<IIII", 1, 1, 1 << 30, 1 << 30) + bytes(40), 4),
        (pcapng() + struct.pack("<II", 6, 1 << 30) + bytes(40), 4),
        (pcapng() + struct.pack("<II", 6, 33) + bytes(40), 4),
        (pcapng() + struct.pack("<II", 6, 32) + bytes(40), 4),
        (pcapng() + enhanced(b"abc", number=1), 4),
        (pcapng() + block(6, bytes(12)), 4),
        (pcapng() + block(6, struct.pack("<IIIII", 0, 0, 0, 400, 400) + b"abcd"), 4),
        (pcapng() + block(0x0A0D0D0A, bytes(16)), 4),
        (section() + block(3, bytes(8)), 0),
        (COMPRESSED[:-12], 3),
    ],
)
def test_damage_is_reported_after_what_was_readable(tmp_path: Path, data: bytes, count: int) -> None:
    found = []
    with Recording(saved(tmp_path, data)) as recording:
        packets = iter(recording)
        for _ in range(count):
            found.append(next(packets))  # noqa: PERF401 - the error must not come before
        with pytest.raises(RecordingError, match=r"damaged at byte \d+"):
            next(packets)
    assert found == EXPECTED[:count]


def test_the_offset_of_damage_is_that_of_the_packet(tmp_path: Path) -> None:
    sound = pcap()
    data = sound + struct.pack("<IIII", 1, 1, 1 << 30, 1 << 30)
    with pytest.raises(RecordingError, match=f"damaged at byte {len(sound)}: a packet of {1 << 30} bytes"):
        read(saved(tmp_path, data))


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.sampled_from([pcap(), pcapng(), pcapng(">"), COMPRESSED]), st.data())
def test_no_damage_raises_anything_else(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    changed = bytearray(whole)
    for position in data.draw(st.lists(st.integers(0, min(len(whole) - 1, 200)), max_size=5)):
        changed[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RecordingError):
        read(saved(tmp_path, bytes(changed)))


def large(tmp_path: Path) -> tuple[Path, list[bytes]]:
    """A file of several windows."""
    frames = [bytes([number % 256]) * 50_000 for number in range(500)]
    records = (struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame for frame in frames)
    return saved(tmp_path, pcap()[:24] + b"".join(records)), frames


def test_a_file_that_somebody_cuts_short_meanwhile_does_no_harm(tmp_path: Path) -> None:
    path, frames = large(tmp_path)
    with Recording(path) as recording:
        packets = iter(recording)
        found = [next(packets)[2]]
        writer = threading.Thread(target=path.write_bytes, args=(b"",))
        writer.start()
        time.sleep(0.2)
        assert path.stat().st_size > 0, "the writer waits"
        found += [frame for _, _, frame, _ in packets]
        writer.join()
    assert path.stat().st_size == 0
    assert found == frames[: len(found)]
    assert len(found) < len(frames)


def test_a_file_that_is_being_written_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path, frames = large(tmp_path)
    with path.open("ab") as file:
        file.write(struct.pack("<IIII", 1, 0, 100, 100) + b"half")
        file.flush()
        with Recording(path) as recording:
            assert [frame for _, _, frame, _ in recording] == frames
            assert recording.is_truncated
            path.write_bytes(b"")


def test_a_frame_may_be_larger_than_a_window(tmp_path: Path) -> None:
    frame = bytes(12 << 20)
    data = pcap()[:24] + (struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame) * 2
    assert [len(frame) for _, _, frame, _ in read(saved(tmp_path, data))] == [12 << 20] * 2
