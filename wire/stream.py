"""The event stream followed through raw bytes, without putting its packets together.

A relay moves the stream in pieces that begin and end anywhere. `StreamTracker` reads of each packet its header and the
first bytes of its event, once, and skips the rest, so that a gibibyte of one event costs it nothing. It knows where a
packet ends, and so where another may be put in; which binlog file and position the replica has been sent; and whether
the source waits for an acknowledgement.

It trusts the source to frame its packets and checks nothing: what it says is for ends of sessions and for metrics.

In a dense piece, where events are small and many, even a look at each costs as much as the relay itself. There the
tracker looks at the first event, finds one near the end of the piece, and proves by the log positions of the two how
many packets lie between them. Where that fails (a rotation, an event without a position) it looks at each.
"""

import struct

from wire.binlog import EVENT_HEADER_BYTES, SEMI_SYNC_MAGIC, EventType, RotateEvent
from wire.datatypes import Payload
from wire.errors import WireError
from wire.framing import HEADER_BYTES, MAX_FRAGMENT_BYTES, encode_packet
from wire.results import OK_HEADER

# Packet header, status byte, two bytes of semi-synchronous header, event header: what is looked at of a packet.
_PREFIX_BYTES = HEADER_BYTES + 1 + 2 + EVENT_HEADER_BYTES
# A rotate event is read whole: its header, 8 bytes of position, a file name of at most 512 bytes, a checksum.
_ROTATE_LIMIT_BYTES = HEADER_BYTES + 3 + EVENT_HEADER_BYTES + 8 + 512 + 4
# Packet header, status byte or semi-synchronous flag, and behind the timestamp the event's type.
_plain_at = struct.Struct("<IB4xB").unpack_from
_semi_sync_at = struct.Struct("<I2xB4xB").unpack_from
_int4_at = struct.Struct("<I").unpack_from
# Of an event's header: timestamp, type, log position.
_event_at = struct.Struct("<IB8xI").unpack_from
# All of it but the flags: timestamp, type, server id, size, log position.
_header_at = struct.Struct("<IBIII").unpack_from
_SERVER_ID_OFFSET = 5
_ROTATE = int(EventType.ROTATE)
# From so many packets in a piece on, the next is taken for dense; and how much of its end is searched for an event.
_DENSE_PACKETS = 32
_TAIL_BYTES = 2048
_TAIL_TRIES = 64
# Status byte and semi-synchronous header of an event that asks for an acknowledgement: none is passed over.
_ASKS = bytes([OK_HEADER, SEMI_SYNC_MAGIC, 1])
# Where the event begins in a packet: behind packet header and status byte, and behind the semi-synchronous header.
_PLAIN_EVENT_OFFSET = HEADER_BYTES + 1
_SEMI_SYNC_EVENT_OFFSET = HEADER_BYTES + 3


class StreamTracker:
    """Follows one direction: from the first packet after the dump command on.

    Attributes:
        file: the binlog file that the replica is being sent, empty until the first rotate event.
        log_position: the position behind the last event that has one. It is 32 bits wide in the event.
        timestamp_seconds: when the last event that says so was made, by the source's clock; 0 if none was seen.
        event_type: the last event's type code (Log_event_type, see `EventType`); 0 before the first.
        packets: how many packets have begun.
        ack_position: the log position of the latest event that began in the last piece and asks for an acknowledgement;
            None if none does. An acknowledgement carries it.
    """

    __slots__ = (
        "_boundary",
        "_carried",
        "_continues",
        "_event_offset",
        "_is_dense",
        "_next_sequence_id",
        "_skip",
        "ack_position",
        "event_type",
        "file",
        "log_position",
        "packets",
        "timestamp_seconds",
    )

    def __init__(self) -> None:
        self.file = b""
        self.log_position = 0
        self.timestamp_seconds = 0
        self.event_type = 0
        self.packets = 0
        self.ack_position: int | None = None
        self._event_offset = 0  # of the event in a packet, header included; 0 until the first packet has told
        self._carried = b""  # the beginning of a packet that the last piece broke off
        self._skip = 0  # bytes of the last packet still to come
        self._continues = False  # whether the next packet carries on a payload of 16 MiB
        self._is_dense = False  # whether the last piece held many packets
        self._next_sequence_id = 1
        self._boundary: tuple[int, int] | None = (0, 1)  # and the sequence id that a packet put in there would carry

    @property
    def boundary(self) -> int | None:
        """The latest offset in the last piece (it may be its end) at which another packet could be put in.

        None if the piece lies within one packet.
        """
        return None if self._boundary is None else self._boundary[0]

    def encode_at_boundary(self, payload: Payload) -> bytes:
        """Write a packet as it would be put in at the latest boundary.

        Raises:
            ValueError: There is none.
        """
        if self._boundary is None:
            raise ValueError("the last piece lies within one packet")
        return encode_packet(payload, self._boundary[1])

    @property
    def is_between_packets(self) -> bool:
        """Whether the last piece ended where a packet does."""
        return not (self._skip or self._carried or self._continues)

    def advance(self, data: Payload) -> None:
        """Take the next piece."""
        self._boundary = None
        self.ack_position = None
        size, carried = len(data), len(self._carried)
        if self._skip > size:
            self._skip -= size
            return
        view = memoryview(data)
        if carried:
            # Seldom, for the place where a piece breaks off is seldom within the first bytes of a packet.
            view = memoryview(self._carried + bytes(view))
            size += carried
        packets = self.packets
        position = self._walk(view, size, carried)
        self._is_dense = self.packets - packets >= _DENSE_PACKETS
        self._carried = b"" if position >= size else bytes(view[position:])
        self._skip = max(0, position - size)
        if position == size and not self._continues:
            self._boundary = (size - carried, self._next_sequence_id)

    def _walk(self, view: memoryview, size: int, carried: int) -> int:
        """Looks at the packets that begin in `view`; returns where the next will begin, or where one breaks off."""
        position = self._skip
        latest = -1  # the latest packet that carries on no other
        if self._is_dense and not self._continues and size - position > 2 * _TAIL_BYTES:
            position = self._leap(view, position, size)
        while position < size:
            if self._event_offset and not self._continues:
                # Once per packet, and a piece may hold thousands: no more is asked here than what leads out.
                unpack = _plain_at if self._event_offset == _PLAIN_EVENT_OFFSET else _semi_sync_at
                last, count, asking = size - _PREFIX_BYTES, 0, -1
                while position <= last:
                    header, flag, type_code = unpack(view, position)
                    length = header & MAX_FRAGMENT_BYTES
                    if type_code == _ROTATE or length == MAX_FRAGMENT_BYTES:
                        break
                    latest = position
                    position += HEADER_BYTES + length
                    count += 1
                    asking = latest if flag & 1 else asking
                if count:
                    self.packets += count
                    self._note_asking(view, asking)
                    self._next_sequence_id = (view[latest + 3] + 1) & 0xFF
                    if position >= size:
                        break
            end = self._end_of_packet(view, position)
            if end is None:
                break
            if not self._continues:
                latest = position
            self._note_packet(view, position, end)
            position = end
        if latest >= 0:
            self._note_event(view, latest)
            if latest >= carried:
                self._boundary = (latest - carried, view[latest + 3])
        return position

    def _leap(self, view: memoryview, position: int, size: int) -> int:
        """Passes over packets without looking at each; returns where one near the end begins, or `position`.

        An event says how large it is and where in the log it ends. So between two events of one file lies as much log
        as their positions say, and as many packets as there are bytes beyond that, divided by what each packet adds.
        The sequence ids must agree.
        """
        offset = self._event_offset
        _, _, server_id, event_bytes, log_position = _header_at(view, position + offset)
        log_start = log_position - event_bytes
        tail_start = size - _TAIL_BYTES
        tail, wanted = bytes(view[tail_start:size]), server_id.to_bytes(4, "little")
        found = tail.find(wanted)
        for _ in range(_TAIL_TRIES):
            candidate = tail_start + found - _SERVER_ID_OFFSET - offset
            if found < 0 or candidate + offset + EVENT_HEADER_BYTES > size:
                break
            _, _, _, event_bytes, log_position = _header_at(view, candidate + offset)
            logged_bytes = (log_position - event_bytes - log_start) & 0xFFFFFFFF
            packets, rest = divmod(candidate - position - logged_bytes, offset)
            header = _int4_at(view, candidate)[0]
            if (
                rest == 0
                and 0 < packets <= logged_bytes // EVENT_HEADER_BYTES
                and header & MAX_FRAGMENT_BYTES == event_bytes + offset - HEADER_BYTES
                and header >> 24 == (view[position + 3] + packets) & 0xFF
            ):
                if offset == _SEMI_SYNC_EVENT_OFFSET and _ASKS in bytes(view[position:candidate]):
                    break
                self.packets += packets
                return candidate
            found = tail.find(wanted, found + 1)
        return position

    def _end_of_packet(self, view: memoryview, start: int) -> int | None:
        """Where the packet ends; None if too little of it is there to look at it, or nothing."""
        available = len(view) - start
        if available < HEADER_BYTES:
            return None
        end = start + HEADER_BYTES + (_int4_at(view, start)[0] & MAX_FRAGMENT_BYTES)
        if available < min(_PREFIX_BYTES, end - start):
            return None
        is_short_rotate = self._is_rotate(view, start, end) and end - start <= _ROTATE_LIMIT_BYTES
        return None if is_short_rotate and end > len(view) else end

    def _note_packet(self, view: memoryview, start: int, end: int) -> None:
        if self._event_offset == 0:
            # The first packet is an artificial rotate event, whose timestamp of zero is no semi-synchronous header.
            is_semi_sync = end - start > HEADER_BYTES + 1 and view[start + HEADER_BYTES + 1] == SEMI_SYNC_MAGIC
            self._event_offset = _SEMI_SYNC_EVENT_OFFSET if is_semi_sync else _PLAIN_EVENT_OFFSET
        if not self._continues and end - start >= _PREFIX_BYTES and view[start + HEADER_BYTES + 2] & 1:
            self._note_asking(view, start)
        if end <= len(view) and self._is_rotate(view, start, end):
            self._note_rotate(view[start + self._event_offset : end])
        self.packets += 1
        self._next_sequence_id = (view[start + 3] + 1) & 0xFF
        self._continues = end - start == HEADER_BYTES + MAX_FRAGMENT_BYTES

    def _is_rotate(self, view: memoryview, start: int, end: int) -> bool:
        if self._continues or end - start < _PREFIX_BYTES:
            return False
        offset = self._event_offset or (
            _SEMI_SYNC_EVENT_OFFSET if view[start + HEADER_BYTES + 1] == SEMI_SYNC_MAGIC else _PLAIN_EVENT_OFFSET
        )
        return view[start + HEADER_BYTES] == OK_HEADER and view[start + offset + 4] == _ROTATE

    def _note_rotate(self, event: memoryview) -> None:
        try:
            rotate = RotateEvent.parse(event)
        except WireError:
            return
        self.file, self.log_position = rotate.file, rotate.position

    def _note_asking(self, view: memoryview, start: int) -> None:
        if start >= 0 and self._event_offset == _SEMI_SYNC_EVENT_OFFSET:
            self.ack_position = _event_at(view, start + _SEMI_SYNC_EVENT_OFFSET)[2]

    def _note_event(self, view: memoryview, start: int) -> None:
        # An error or the end of the stream is shorter than any event, or begins otherwise.
        if start + self._event_offset + EVENT_HEADER_BYTES > len(view) or view[start + HEADER_BYTES] != OK_HEADER:
            return
        timestamp, type_code, log_position = _event_at(view, start + self._event_offset)
        self.event_type = type_code
        if timestamp:
            self.timestamp_seconds = timestamp
        # Artificial events have no position; a rotate event's own is that of the file it ends.
        if log_position and type_code != _ROTATE:
            self.log_position = log_position
