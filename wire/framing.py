"""Packets out of a byte stream and into one.

Manual: page_protocol_basic_packets, sections "Sending more than 16Mb" and "Sequence ID".

A packet travels in fragments: int<3> length, int<1> sequence id, that many bytes. A fragment of exactly
0xFFFFFF bytes says that another follows, so a payload whose size is a multiple of that ends with an empty
fragment. Each fragment takes the next sequence id, modulo 256.

`PacketDecoder` holds whole payloads and belongs to the connection phase and to commands, where a bound is
sensible. For the event stream, where an event may be a gigabyte, see `wire.stream`.
"""

import struct
from dataclasses import dataclass

from wire.datatypes import Payload
from wire.errors import MalformedPacket

HEADER_BYTES = 4
MAX_FRAGMENT_BYTES = 0xFFFFFF

_FULL_FRAME_BYTES = HEADER_BYTES + MAX_FRAGMENT_BYTES
_header_at = struct.Struct("<I").unpack_from  # length in the low 24 bits, sequence id in the high 8


@dataclass(frozen=True, slots=True)
class Packet:
    """One payload, put together, with the sequence id of its first fragment."""

    sequence_id: int
    payload: bytes
    fragments: int = 1

    @property
    def last_sequence_id(self) -> int:
        """Sequence id of the last fragment: an answer carries the one after it."""
        return (self.sequence_id + self.fragments - 1) % 256


class PacketDecoder:
    """Turns the bytes of one direction into packets, however the stream was cut.

    Reading exactly one packet and nothing beyond it:

        while (packet := decoder.next_packet()) is None:
            decoder.feed(await receive_some(decoder.bytes_needed()))

    Linear in the bytes fed: what is behind the current fragment is never looked at again, and removing a
    returned packet from the front of a bytearray moves a pointer and no data.
    """

    __slots__ = ("_buffer", "_full_fragments", "_max_payload_bytes")

    def __init__(self, max_payload_bytes: int) -> None:
        self._buffer = bytearray()
        self._full_fragments = 0  # fragments of MAX_FRAGMENT_BYTES at the front of the buffer, verified
        self._max_payload_bytes = max_payload_bytes

    def __len__(self) -> int:
        """Count the bytes that were fed and not returned."""
        return len(self._buffer)

    def feed(self, data: Payload) -> None:
        """Append what the peer sent."""
        self._buffer += data

    def next_packet(self) -> Packet | None:
        """Return the next whole packet, or None until more bytes are fed.

        Raises:
            MalformedPacket: The payload would exceed the bound (known from the header, before its bytes are
                there), or a fragment's sequence id does not follow the one before.
        """
        while True:
            start = self._full_fragments * _FULL_FRAME_BYTES
            if len(self._buffer) < start + HEADER_BYTES:
                return None
            length = self._verified_length(start)
            end = start + HEADER_BYTES + length
            if len(self._buffer) < end:
                return None
            if length < MAX_FRAGMENT_BYTES:
                return self._take_packet(end)
            self._full_fragments += 1

    def bytes_needed(self) -> int:
        """How many bytes must still come before `next_packet` can get any further.

        The rest of a header, or the rest of a fragment: who reads no more than this never reads past a
        packet. It is zero only while `next_packet` has something to do.
        """
        start = self._full_fragments * _FULL_FRAME_BYTES
        available = len(self._buffer) - start
        if available < HEADER_BYTES:
            return HEADER_BYTES - available
        header: int = _header_at(self._buffer, start)[0]
        return max(0, HEADER_BYTES + (header & MAX_FRAGMENT_BYTES) - available)

    def unconsumed(self) -> bytes:
        """Hand over every byte that was fed and not returned, headers included, and forget them."""
        taken = bytes(self._buffer)
        self._buffer.clear()
        self._full_fragments = 0
        return taken

    def _verified_length(self, start: int) -> int:
        header: int = _header_at(self._buffer, start)[0]
        length = header & MAX_FRAGMENT_BYTES
        payload_bytes = self._full_fragments * MAX_FRAGMENT_BYTES + length
        if payload_bytes > self._max_payload_bytes:
            raise MalformedPacket(
                f"a payload of {payload_bytes} bytes or more, where {self._max_payload_bytes} are allowed"
            )
        expected = (self._buffer[3] + self._full_fragments) % 256
        if header >> 24 != expected:
            raise MalformedPacket(f"a fragment has sequence id {header >> 24}, where {expected} follows")
        return length

    def _take_packet(self, end: int) -> Packet:
        fragments = self._full_fragments + 1
        sequence_id = self._buffer[3]
        if fragments == 1:
            payload = bytes(self._buffer[HEADER_BYTES:end])
        else:
            starts = range(HEADER_BYTES, end + 1, _FULL_FRAME_BYTES)
            payload = b"".join(self._buffer[at : min(at + MAX_FRAGMENT_BYTES, end)] for at in starts)
        del self._buffer[:end]
        self._full_fragments = 0
        return Packet(sequence_id, payload, fragments)


def encode_packet(payload: Payload, sequence_id: int) -> bytes:
    """Write one payload with its headers, in as many fragments as it takes."""
    if len(payload) < MAX_FRAGMENT_BYTES:
        return (len(payload) | sequence_id % 256 << 24).to_bytes(HEADER_BYTES, "little") + payload
    pieces: list[Payload] = []
    view = memoryview(payload)
    # One past the end: a payload of an exact multiple is ended by an empty fragment.
    for number, start in enumerate(range(0, len(payload) + 1, MAX_FRAGMENT_BYTES)):
        fragment = view[start : start + MAX_FRAGMENT_BYTES]
        pieces.append((len(fragment) | (sequence_id + number) % 256 << 24).to_bytes(HEADER_BYTES, "little"))
        pieces.append(fragment)
    return b"".join(pieces)
