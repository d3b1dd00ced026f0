import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.datatypes import PayloadReader, lenenc_bytes, lenenc_int
from wire.errors import MalformedPacket, TruncatedPacket


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, b"\x00"),
        (0xFA, b"\xfa"),
        (0xFB, b"\xfc\xfb\x00"),
        (0xFFFF, b"\xfc\xff\xff"),
        (0x10000, b"\xfd\x00\x00\x01"),
        (0xFFFFFF, b"\xfd\xff\xff\xff"),
        (0x1000000, b"\xfe\x00\x00\x00\x01\x00\x00\x00\x00"),
        (2**64 - 1, b"\xfe" + b"\xff" * 8),
    ],
)
def test_length_encoded_integers_take_the_shortest_form(value: int, written: bytes) -> None:
    assert lenenc_int(value) == written
    assert PayloadReader(written).lenenc_int() == value


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_length_encoded_integers_come_back(value: int) -> None:
    assert PayloadReader(lenenc_int(value)).lenenc_int() == value


@given(st.binary(max_size=600), st.binary())
def test_length_encoded_strings_come_back_and_leave_the_rest(value: bytes, behind: bytes) -> None:
    reader = PayloadReader(lenenc_bytes(value) + behind)
    assert reader.lenenc_bytes() == value
    assert reader.rest() == behind


@pytest.mark.parametrize("first", [0xFB, 0xFF])
def test_null_and_error_begin_no_length(first: int) -> None:
    with pytest.raises(MalformedPacket):
        PayloadReader(bytes([first]) + bytes(9)).lenenc_int()


@pytest.mark.parametrize("cut", [b"", b"\xfc\x01", b"\xfd\x01\x02", b"\xfe" + bytes(7), b"\x05four"])
def test_a_length_that_runs_over_the_end_is_truncated(cut: bytes) -> None:
    with pytest.raises(TruncatedPacket):
        PayloadReader(cut).lenenc_bytes()


def test_a_claim_of_16_exabytes_allocates_nothing() -> None:
    with pytest.raises(TruncatedPacket):
        PayloadReader(b"\xfe" + b"\xff" * 8).lenenc_bytes()


def test_integers_are_little_endian_and_follow_one_another() -> None:
    reader = PayloadReader(bytes(range(1, 25)))
    assert reader.int1() == 0x01
    assert reader.int2() == 0x0302
    assert reader.int3() == 0x060504
    assert reader.int4() == 0x0A090807
    assert reader.int6() == 0x100F0E0D0C0B
    assert reader.int8() == 0x1817161514131211
    assert (reader.position, reader.remaining) == (24, 0)
    with pytest.raises(TruncatedPacket):
        reader.int1()


def test_a_string_without_its_nul_is_truncated_unless_it_may_be_the_last() -> None:
    reader = PayloadReader(b"one\x00two")
    assert reader.nul_terminated() == b"one"
    with pytest.raises(TruncatedPacket):
        reader.nul_terminated()
    assert reader.nul_terminated_or_rest() == b"two"
    assert reader.nul_terminated_or_rest() == b""


def test_the_reader_takes_any_bytes() -> None:
    for payload in (b"\x01ab", bytearray(b"\x01ab"), memoryview(b"\x01ab")):
        assert PayloadReader(payload).lenenc_bytes() == b"a"
