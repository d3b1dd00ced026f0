import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import MalformedPacket
from wire.framing import HEADER_BYTES, MAX_FRAGMENT_BYTES, Packet, PacketDecoder, encode_packet

ENOUGH = 1 << 30

payload_lists = st.lists(st.binary(max_size=40), max_size=12)


def pieces(data: st.DataObject, stream: bytes) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def drain(decoder: PacketDecoder) -> list[Packet]:
    return list(iter(decoder.next_packet, None))


@given(payload_lists, st.integers(0, 255), st.data())
def test_packets_come_out_whole_however_the_stream_is_cut(
    payloads: list[bytes], first: int, data: st.DataObject
) -> None:
    stream = b"".join(encode_packet(payload, first + number) for number, payload in enumerate(payloads))
    decoder = PacketDecoder(max_payload_bytes=40)
    packets = []
    for piece in pieces(data, stream):
        decoder.feed(piece)
        packets += drain(decoder)
    assert [packet.payload for packet in packets] == payloads
    assert [packet.sequence_id for packet in packets] == [(first + number) % 256 for number in range(len(payloads))]
    assert len(decoder) == 0


@given(payload_lists)
def test_reading_what_is_needed_never_reads_past_a_packet(payloads: list[bytes]) -> None:
    stream = b"".join(encode_packet(payload, 0) for payload in payloads)
    decoder = PacketDecoder(max_payload_bytes=40)
    position = 0
    for payload in payloads:
        while (packet := decoder.next_packet()) is None:
            needed = decoder.bytes_needed()
            assert needed > 0
            decoder.feed(stream[position : position + needed])
            position += needed
        assert packet.payload == payload
        assert len(decoder) == 0
    assert position == len(stream)


def test_bytes_needed_counts_down_through_header_and_payload() -> None:
    decoder = PacketDecoder(max_payload_bytes=10)
    counted = []
    for value in encode_packet(b"abc", 0):
        counted.append(decoder.bytes_needed())
        decoder.feed(bytes([value]))
        decoder.next_packet()
    assert counted == [4, 3, 2, 1, 3, 2, 1]
    assert decoder.bytes_needed() == 4


def test_bytes_needed_is_zero_while_a_packet_lies_ready() -> None:
    decoder = PacketDecoder(max_payload_bytes=10)
    decoder.feed(encode_packet(b"abc", 0) + b"\x01")
    assert decoder.bytes_needed() == 0
    decoder.next_packet()
    assert decoder.bytes_needed() == 3


@pytest.mark.parametrize("difference", [-1, 0, 1])
@pytest.mark.parametrize("multiple", [1, 2])
def test_payloads_about_16_mib_are_split_and_put_together(multiple: int, difference: int) -> None:
    size = multiple * MAX_FRAGMENT_BYTES + difference
    fragments = size // MAX_FRAGMENT_BYTES + 1
    payload = b"\x03" + bytes(size - 2) + b"!"
    stream = encode_packet(payload, sequence_id=255)
    assert len(stream) == size + fragments * HEADER_BYTES

    decoder = PacketDecoder(ENOUGH)
    position = 0
    while (packet := decoder.next_packet()) is None:
        needed = decoder.bytes_needed()
        assert needed > 0
        decoder.feed(memoryview(stream)[position : position + needed])
        position += needed
    assert position == len(stream)
    assert packet == Packet(255, payload, fragments)
    assert packet.last_sequence_id == fragments - 2 if fragments > 1 else 255


def test_many_small_feeds_take_linear_time() -> None:
    payload = bytes(MAX_FRAGMENT_BYTES + 9)
    stream = memoryview(encode_packet(payload, 0))
    decoder = PacketDecoder(ENOUGH)
    for start in range(0, len(stream), 1000):  # quadratic copying would take minutes
        assert decoder.next_packet() is None
        decoder.feed(stream[start : start + 1000])
    assert decoder.next_packet() == Packet(0, payload, 2)


def test_a_payload_over_the_bound_is_refused_from_its_header() -> None:
    decoder = PacketDecoder(max_payload_bytes=100)
    decoder.feed(encode_packet(bytes(101), 0)[:HEADER_BYTES])
    with pytest.raises(MalformedPacket, match="101 bytes"):
        decoder.next_packet()


def test_a_payload_of_the_bound_is_accepted() -> None:
    decoder = PacketDecoder(max_payload_bytes=100)
    decoder.feed(encode_packet(bytes(100), 0))
    assert decoder.next_packet() == Packet(0, bytes(100))


def test_the_bound_counts_all_fragments() -> None:
    decoder = PacketDecoder(max_payload_bytes=MAX_FRAGMENT_BYTES + 1)
    stream = encode_packet(bytes(MAX_FRAGMENT_BYTES + 2), 0)
    decoder.feed(memoryview(stream)[: -HEADER_BYTES - 2])
    assert decoder.next_packet() is None
    decoder.feed(stream[-HEADER_BYTES - 2 : -2])
    with pytest.raises(MalformedPacket):
        decoder.next_packet()


def test_a_fragment_out_of_order_is_refused() -> None:
    decoder = PacketDecoder(ENOUGH)
    decoder.feed(encode_packet(bytes(MAX_FRAGMENT_BYTES), 9)[:-HEADER_BYTES])
    decoder.feed(encode_packet(b"", 9))
    with pytest.raises(MalformedPacket, match="sequence id 9, where 10"):
        decoder.next_packet()


def test_what_was_not_returned_is_handed_over_with_its_headers() -> None:
    client_hello = b"\x16\x03\x01\x02\x00\x01"
    decoder = PacketDecoder(ENOUGH)
    decoder.feed(encode_packet(b"ssl request", 1) + client_hello)
    assert decoder.next_packet() == Packet(1, b"ssl request")
    assert len(decoder) == len(client_hello)
    assert decoder.unconsumed() == client_hello
    assert len(decoder) == 0
    assert decoder.unconsumed() == b""
    assert decoder.bytes_needed() == HEADER_BYTES


def test_handing_over_loses_no_fragment_that_was_already_seen() -> None:
    stream = encode_packet(bytes(MAX_FRAGMENT_BYTES + 5), 0)[:-1]
    decoder = PacketDecoder(ENOUGH)
    decoder.feed(stream)
    assert decoder.next_packet() is None
    assert decoder.unconsumed() == stream
    decoder.feed(encode_packet(b"anew", 4))
    assert decoder.next_packet() == Packet(4, b"anew")


def test_an_empty_payload_is_one_empty_packet() -> None:
    assert encode_packet(b"", 300) == b"\x00\x00\x00\x2c"
    assert encode_packet(b"abc", -1) == b"\x03\x00\x00\xffabc"


@given(st.binary(max_size=300), st.data())
def test_any_bytes_give_packets_or_a_wire_error(stream: bytes, data: st.DataObject) -> None:
    decoder = PacketDecoder(max_payload_bytes=1000)
    for piece in pieces(data, stream):
        decoder.feed(piece)
        try:
            drain(decoder)
        except MalformedPacket:
            return
