"""Compressed frames: read whole, byte by byte and cut anywhere; what lies about itself raises the known error."""

import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.protocol.compression import inflater_for, zstd
from wire.capabilities import NO_CAPABILITIES, Capability
from wire.compression import (
    INFLATED_PIECE_BYTES,
    Algorithm,
    FrameEnd,
    FrameReader,
    Inflater,
    agreed_algorithm,
    encode_stored_frames,
)
from wire.errors import MalformedPacket, WireError
from wire.framing import MAX_FRAGMENT_BYTES

ZLIB, ZSTD = Capability.CLIENT_COMPRESS, Capability.CLIENT_ZSTD_COMPRESSION_ALGORITHM
COMPRESS: dict[Algorithm, Callable[[bytes], bytes]] = {Algorithm.ZLIB: zlib.compress, Algorithm.ZSTD: zstd.compress}
algorithms = pytest.mark.parametrize("algorithm", list(Algorithm))


def inflaters(algorithm: Algorithm) -> Callable[[], Inflater]:
    made = inflater_for(algorithm)
    assert made is not None
    return made


def frame(algorithm: Algorithm, content: bytes, sequence_id: int, *, told_bytes: int | None = None) -> bytes:
    body = COMPRESS[algorithm](content)
    told = len(content) if told_bytes is None else told_bytes
    return len(body).to_bytes(3, "little") + bytes([sequence_id]) + told.to_bytes(3, "little") + body


def read(reader: FrameReader, data: bytes) -> tuple[bytes, list[FrameEnd]]:
    content, ends = b"", []
    for part in reader.advance(data):
        if isinstance(part, FrameEnd):
            ends.append(part)
        else:
            assert part
            content += part
    return content, ends


@pytest.mark.parametrize(
    ("capabilities", "agreed"),
    [
        (NO_CAPABILITIES, None),
        (ZLIB, Algorithm.ZLIB),
        (ZSTD, Algorithm.ZSTD),
        (ZLIB | ZSTD, Algorithm.ZLIB),
        (Capability.CLIENT_SSL, None),
    ],
)
def test_what_greeting_and_login_agree_upon(capabilities: Capability, agreed: Algorithm | None) -> None:
    assert agreed_algorithm(capabilities) == agreed
    assert (inflater_for(agreed) is None) == (agreed is None)


@algorithms
@given(
    contents=st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.booleans()), max_size=8),
    cuts=st.lists(st.integers(0, 3000), max_size=30),
)
def test_content_comes_out_however_the_bytes_were_cut(
    algorithm: Algorithm, contents: list[tuple[bytes, bool]], cuts: list[int]
) -> None:
    data, ends = b"", []
    for number, (content, is_stored) in enumerate(contents):
        data += encode_stored_frames(content, number) if is_stored else frame(algorithm, content, number)
        ends.append((len(data), number))
    reader, seen, start = FrameReader(inflaters(algorithm)), b"", 0
    seen_ends: list[tuple[int, int]] = []
    for end in [*sorted({min(cut, len(data)) for cut in cuts}), len(data)]:
        assert reader.is_between_frames == (start == 0 or (start, len(seen_ends) - 1) in ends)
        content, frame_ends = read(reader, data[start:end])
        seen += content
        seen_ends += [(start + frame_end.offset, frame_end.sequence_id) for frame_end in frame_ends]
        start = end
    assert seen == b"".join(content for content, _ in contents)
    assert seen_ends == ends


@algorithms
def test_exactly_one_frame_can_be_read(algorithm: Algorithm) -> None:
    data = frame(algorithm, b"x" * 500, 3) + b"what follows"
    reader, position = FrameReader(inflaters(algorithm)), 0
    content = b""
    ends: list[FrameEnd] = []
    while not ends:
        needed = reader.bytes_needed()
        piece, ends = read(reader, data[position : position + needed])
        content += piece
        position += needed
    assert (content, data[position:]) == (b"x" * 500, b"what follows")


@algorithms
def test_a_frame_that_was_compressed_a_thousandfold_comes_in_small_pieces(algorithm: Algorithm) -> None:
    content = bytes(MAX_FRAGMENT_BYTES)
    pieces = list(FrameReader(inflaters(algorithm)).advance(frame(algorithm, content, 0)))
    assert isinstance(pieces.pop(), FrameEnd)
    sizes = [len(piece) for piece in pieces if isinstance(piece, bytes)]
    assert sum(sizes) == len(content)
    assert max(sizes) <= INFLATED_PIECE_BYTES


@algorithms
@pytest.mark.parametrize("told_bytes", [1, 99, 101, 5000])
def test_a_frame_must_hold_what_its_header_says(algorithm: Algorithm, told_bytes: int) -> None:
    with pytest.raises(MalformedPacket, match="its header says"):
        read(FrameReader(inflaters(algorithm)), frame(algorithm, b"x" * 100, 0, told_bytes=told_bytes))


@algorithms
@pytest.mark.parametrize("tail", [b"\x00", b"more"])
def test_a_frame_holds_nothing_behind_its_compressed_data(algorithm: Algorithm, tail: bytes) -> None:
    body = COMPRESS[algorithm](b"x" * 100)
    header = (len(body) + len(tail)).to_bytes(3, "little") + b"\x00" + (100).to_bytes(3, "little")
    with pytest.raises(MalformedPacket):
        read(FrameReader(inflaters(algorithm)), header + body + tail)
    reader = FrameReader(inflaters(algorithm))
    read(reader, header + body)
    with pytest.raises(MalformedPacket):
        read(reader, tail)


@algorithms
def test_a_frame_that_ends_early_is_malformed(algorithm: Algorithm) -> None:
    body = COMPRESS[algorithm](b"x" * 100)[:-1]
    with pytest.raises(MalformedPacket):
        read(
            FrameReader(inflaters(algorithm)),
            len(body).to_bytes(3, "little") + b"\x00" + (100).to_bytes(3, "little") + body,
        )


@pytest.mark.parametrize("data", [b"\x65\x00\x00\x00\x00\x00\x00", b"\x01\x00\x00\x00\x65\x00\x00", b"\xff" * 7])
def test_a_frame_too_large_is_refused_by_its_header(data: bytes) -> None:
    with pytest.raises(MalformedPacket, match="100 are allowed"):
        read(FrameReader(inflaters(Algorithm.ZLIB), max_content_bytes=100), data)


def test_a_body_may_not_be_much_larger_than_what_is_borne() -> None:
    with pytest.raises(MalformedPacket, match="100 are allowed"):
        read(FrameReader(inflaters(Algorithm.ZLIB), max_content_bytes=100), b"\x00\x00\x10\x00\x0a\x00\x00")


def test_an_empty_frame_is_malformed() -> None:
    with pytest.raises(MalformedPacket, match="empty"):
        read(FrameReader(inflaters(Algorithm.ZLIB)), bytes(7))


@algorithms
@given(pieces=st.lists(st.binary(max_size=100), max_size=10))
def test_any_bytes_raise_nothing_else(algorithm: Algorithm, pieces: list[bytes]) -> None:
    reader = FrameReader(inflaters(algorithm))
    try:
        for piece in pieces:
            read(reader, piece)
    except WireError:
        return


def test_packets_of_16_mib_are_stored_in_several_frames() -> None:
    data = bytes(MAX_FRAGMENT_BYTES) + b"rest"
    frames = encode_stored_frames(data, 255)
    content, ends = read(FrameReader(inflaters(Algorithm.ZLIB)), frames)
    assert content == data
    assert [end.sequence_id for end in ends] == [255, 0]
    assert encode_stored_frames(b"", 0) == b""
