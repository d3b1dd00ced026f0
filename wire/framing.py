"""Packets out of a byte stream and into one, and a tracker that follows packets without keeping them.

Manual: page_protocol_basic_packets, sections "Sending more than 16Mb" and "Sequence ID".

A packet travels in fragments: int<3> length, int<1> sequence id, that many bytes. A fragment of exactly
0xFFFFFF bytes says that another follows, so a payload whose size is a multiple of that ends with an empty
fragment. Each fragment takes the next sequence id, modulo 256.

`PacketDecoder` holds whole payloads and belongs to the connection phase and to commands, where a bound is
sensible. `FrameTracker` belongs to the event stream: an event may be a gigabyte, so it keeps four bytes of
header and no payload.
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


class FrameTracker:
    """Follows the packets of one direction through raw bytes, so that one can be injected in between.

    It checks nothing: after the connection phase the two ends talk past it, and semi-synchronous
    acknowledgements begin at sequence id 0 whatever the other direction counts.
    """

    __slots__ = (
        "_final_fragments",
        "_fragment_is_full",
        "_next_sequence_id",
        "_partial_header",
        "_payload_left",
    )

    def __init__(self, *, next_sequence_id: int = 0) -> None:
        self._next_sequence_id = next_sequence_id
        self._partial_header = b""
        self._payload_left = 0
        self._fragment_is_full = False
        self._final_fragments = 0  # headers seen whose fragment ends its packet

    @property
    def at_boundary(self) -> bool:
        """Whether a packet may be injected here: the last one is complete, with all of its fragments."""
        return not (self._payload_left or self._partial_header or self._fragment_is_full)

    @property
    def next_sequence_id(self) -> int:
        """The sequence id that an injected packet would carry."""
        return self._next_sequence_id

    @property
    def packets(self) -> int:
        """Number of packets seen to their end."""
        last_is_incomplete = self._payload_left > 0 and not self._fragment_is_full
        return self._final_fragments - last_is_incomplete

    def advance(self, data: Payload) -> None:
        """Take the next bytes of the stream."""
        view = memoryview(data)
        for start in range(0, len(view), MAX_FRAGMENT_BYTES):
            self._advance(view[start : start + MAX_FRAGMENT_BYTES])

    def _advance(self, data: memoryview) -> None:
        size = len(data)
        position = 0
        if self._partial_header:
            position = min(HEADER_BYTES - len(self._partial_header), size)
            self._partial_header += data[:position]
            if len(self._partial_header) < HEADER_BYTES:
                return
            self._note_headers(1, int.from_bytes(self._partial_header, "little"))
            self._partial_header = b""
        position += self._payload_left
        last_start = size - HEADER_BYTES
        headers = header = 0
        # Once per packet, and a chunk may hold thousands. A full fragment is longer than `data`, so that only
        # the last header can be one's: the loop need not look.
        while position <= last_start:
            (header,) = _header_at(data, position)
            position += HEADER_BYTES + (header & MAX_FRAGMENT_BYTES)
            headers += 1
        if headers:
            self._note_headers(headers, header)
        if position < size:
            self._payload_left = 0
            self._partial_header = bytes(data[position:])
        else:
            self._payload_left = position - size

    def _note_headers(self, count: int, last: int) -> None:
        self._next_sequence_id = ((last >> 24) + 1) % 256
        self._payload_left = last & MAX_FRAGMENT_BYTES
        self._fragment_is_full = self._payload_left == MAX_FRAGMENT_BYTES
        self._final_fragments += count - self._fragment_is_full
