"""One direction of a flow, read as far as it can be: packets, compressed frames or TLS records, or a search for any.

A reader is given the bytes of its direction in order, and is told of holes. It keeps what it needs to go on, which is
little: what is skipped is never held. What it reads it reports to the `Observer`, who judges.
"""

from enum import Enum, auto
from typing import Protocol

from monitor.detection.events import CHECKSUM_LIMIT_BYTES
from monitor.detection.foreign import name_of_beginning
from monitor.detection.handshake import HandshakeReader
from monitor.detection.inflating import SniffingInflater
from monitor.detection.opening import Opening, Side, is_hello, is_record_header, opening_of
from monitor.detection.records import RECORD_HEADER_BYTES, RecordReader
from monitor.detection.search import Layer
from monitor.detection.seeking import Seeker
from wire.compression import FRAME_HEADER_BYTES, FrameEnd, FrameReader
from wire.errors import MalformedPacket
from wire.framing import HEADER_BYTES, MAX_FRAGMENT_BYTES

# So much of a packet is reported; the rest is skipped.
HEAD_LIMIT_BYTES = CHECKSUM_LIMIT_BYTES
# After so many packets of which none says anything, a place found by searching was no place.
_MOST_UNKNOWN_PACKETS = 64
# What an answer may begin with that is no number of columns: OK, a file that is asked for, the end, an error.
_ANSWERS = frozenset({0x00, 0xFB, 0xFE, 0xFF})
_LONGEST_COUNT_BYTES = 9


class Mode(Enum):
    """What a reader is doing."""

    START = auto()
    PACKETS = auto()
    FRAMES = auto()
    RECORDS = auto()
    SEARCH = auto()
    FOREIGN = auto()


class Observer(Protocol):
    """Whoever judges what is read."""

    def saw_packet(self, reader: "DirectionReader", sequence_id: int, length: int, head: bytes) -> bool:
        """A packet: its first fragment's id and length, and the first part of its payload.

        Returns:
            Whether it is anything that is known.
        """

    def saw_foreign(self, reader: "DirectionReader", name: str) -> None:
        """The connection begins as another protocol does."""

    def saw_records_break_off(self, reader: "DirectionReader") -> None:
        """Where a TLS record should begin there is something else."""

    def new_handshake(self, reader: "DirectionReader") -> HandshakeReader:
        """The reader of this direction's handshake."""


class DirectionReader:
    """Reads one direction.

    Attributes:
        side: who sends it; None until something tells.
        mode: what it is doing.
        is_certain: whether it knows where packets begin, because it has read from the beginning.
        expects_tls: whether a TLS record may come instead of the next packet.
        compression: whether the session is compressed once logged in; None if that was not seen.
        is_logged_in: whether the source has accepted the login, so that compression begins.
        packets: how many have begun since the place that was found, or the beginning.
        events: how many the observer has seen since it saw anything else.
        records: the TLS records, once there are any.
    """

    __slots__ = (
        "_buffer",
        "_continues",
        "_frames",
        "_last_sequence_id",
        "_observer",
        "_seeker",
        "_skip",
        "_unknown_packets",
        "compression",
        "events",
        "expects_tls",
        "inner",
        "is_certain",
        "is_logged_in",
        "mode",
        "packets",
        "records",
        "side",
    )  # fmt: skip

    def __init__(self, observer: Observer, *, side: Side | None, is_start: bool, is_inner: bool = False) -> None:
        """Begins.

        Args:
            observer: is told what is read.
            side: who sends it, where that is known.
            is_start: whether the first byte to come is the connection's first.
            is_inner: whether it reads what another reader has unwrapped.
        """
        self.side = side
        self.mode = Mode.START if is_start and side is not None else Mode.SEARCH
        self.is_certain = self.mode is Mode.START
        self.expects_tls = False
        self.compression: bool | None = None
        self.is_logged_in = False
        self.packets = 0
        self.events = 0
        self.records: RecordReader | None = None
        self.inner: DirectionReader | None = None  # reads what frames hold, or records that encrypt nothing
        self._observer = observer
        self._buffer = bytearray()
        self._skip = 0
        self._continues = False
        self._last_sequence_id = 0
        self._unknown_packets = 0
        self._frames: FrameReader | None = None
        self._seeker = Seeker(is_inner=is_inner)

    @property
    def is_between_packets(self) -> bool:
        """Whether what was read so far ends where a packet, frame or record does."""
        return not (self._buffer or self._skip or self._continues)

    @property
    def buffered_bytes(self) -> int:
        """How much it holds."""
        return len(self._buffer) + (self.inner.buffered_bytes if self.inner is not None else 0)

    @property
    def is_exhausted(self) -> bool:
        """Whether it has searched for long enough."""
        return self._seeker.is_exhausted

    def feed(self, data: bytes) -> None:
        """Takes the next bytes."""
        if self._skip:
            if len(data) <= self._skip:
                self._skip -= len(data)
                return
            data = data[self._skip :]
            self._skip = 0
        if self.mode is Mode.FOREIGN:
            return
        self._buffer += data
        while self._buffer and self._read_on():
            pass

    def finish(self) -> None:
        """Nothing more of this run will come: what was put off is searched now."""
        self._seeker.hurry()
        if self._buffer:
            self.feed(b"")
        if self.inner is not None:
            self.inner.finish()

    def lose(self, count: int) -> None:
        """Takes notice of a hole of so many bytes; of none if what follows is of another place."""
        if not count:
            self._begin_search()
            return
        if count <= self._skip:
            self._skip -= count
            if self.inner is not None:
                self.inner.lose(count)
            return
        if self.mode is Mode.PACKETS and len(self._buffer) >= HEADER_BYTES and not self._continues:
            # The hole is within a packet whose beginning is there, or begins there.
            rest = HEADER_BYTES + self._length_at_front() - len(self._buffer)
            is_packet = self._take_packet(bytes(self._buffer[HEADER_BYTES:]))
            if is_packet and rest >= count:
                self._buffer.clear()
                self._skip = rest - count
                return
        if self.mode is Mode.RECORDS and self.records is not None and len(self._buffer) >= RECORD_HEADER_BYTES:
            rest = self._record_bytes_at_front() - len(self._buffer)
            if rest >= count:
                self.records.take(self._buffer[0], b"")
                self._buffer.clear()
                self._skip = rest - count
                return
        if self.mode is Mode.FRAMES and self._frames is not None and not self._buffer:
            rest = 0 if self._frames.is_between_frames else self._frames.bytes_needed()
            if rest >= count:
                self._begin_frames()
                self._skip = rest - count
                return
        self._begin_search()

    def _begin_search(self) -> None:
        self._buffer.clear()
        self._search_on()
        self._seeker.begin_run()

    def _search_on(self, *, is_no_packet: bool = False) -> None:
        """Searches what the buffer holds, and what follows."""
        if self.mode is Mode.FOREIGN:
            return
        self.mode = Mode.SEARCH
        self.is_certain = self.expects_tls = self._continues = False
        self._skip = self.packets = self._unknown_packets = 0
        self._seeker.go_on(is_no_packet=is_no_packet)
        self.inner = None

    def _read_on(self) -> bool:
        """Reads one more of whatever it is; false when more bytes are needed for that."""
        match self.mode:
            case Mode.START:
                return self._read_opening()
            case Mode.PACKETS:
                return self._read_packet()
            case Mode.FRAMES:
                return self._read_frame()
            case Mode.RECORDS:
                return self._read_record()
            case Mode.SEARCH:
                return self._search()
            case Mode.FOREIGN:
                return False

    def _read_opening(self) -> bool:
        opening = opening_of(self._buffer, self.side)
        match opening.kind:
            case Opening.UNKNOWN:
                return False
            case Opening.PREAMBLE:
                del self._buffer[: opening.length]
            case Opening.HELLO:
                self._begin_records(is_anchored=True)
            case Opening.GREETING | Opening.LOGIN:
                self.mode = Mode.PACKETS
            case Opening.FOREIGN:
                self.be_foreign(name_of_beginning(bytes(self._buffer[:64])))
        return True

    def be_foreign(self, name: str) -> None:
        """Stops reading: this is another protocol."""
        self.mode = Mode.FOREIGN
        self._buffer.clear()
        self._skip = 0
        self._observer.saw_foreign(self, name)

    def _read_packet(self) -> bool:
        buffer = self._buffer
        if self.expects_tls:
            # A packet in the hello's place is longer than the six bytes that tell.
            if len(buffer) <= RECORD_HEADER_BYTES:
                return False
            self.expects_tls = False
            if is_hello(buffer, self.side):
                self._begin_records(is_anchored=True)
                return True
        if len(buffer) < HEADER_BYTES:
            return False
        if not self._continues and self._are_frames_next():
            self._begin_frames()
            return True
        length = self._length_at_front()
        head_bytes = min(length, HEAD_LIMIT_BYTES)
        follows = self._follows(buffer[3])
        if follows and len(buffer) < HEADER_BYTES + head_bytes:
            return False
        if not follows:
            self._search_on()
        elif self._take_packet(bytes(buffer[HEADER_BYTES : HEADER_BYTES + head_bytes])):
            self._drop(HEADER_BYTES + length)
        else:
            self._search_on(is_no_packet=True)
        return True

    def _length_at_front(self) -> int:
        return int.from_bytes(self._buffer[:3], "little")

    def _take_packet(self, head: bytes) -> bool:
        """Reports the packet at the front; false if it cannot be one."""
        sequence_id, length = self._buffer[3], self._length_at_front()
        is_continuation = self._continues
        self._continues = length == MAX_FRAGMENT_BYTES
        self.expects_tls = False
        if is_continuation:
            return True
        self._last_sequence_id = sequence_id
        self.packets += 1
        is_known = self._observer.saw_packet(self, sequence_id, length, head)
        if is_known or self.mode is not Mode.PACKETS:
            self._unknown_packets = 0
            return True
        self._unknown_packets += 1
        if self.side is Side.CLIENT and sequence_id == 0:
            # A command that is none.
            return False
        if self.is_certain:
            return True
        if sequence_id <= 1 and length > _LONGEST_COUNT_BYTES and head and head[0] not in _ANSWERS:
            return False
        return self.packets > 1 and self._unknown_packets <= _MOST_UNKNOWN_PACKETS and length > 0

    def _follows(self, sequence_id: int) -> bool:
        """Whether a packet of the server's may carry this id: it counts on, or begins an answer."""
        if self._continues or not self.packets or self.side is Side.CLIENT or sequence_id <= 1:
            return True
        # While a session is set up, the client's packets count too.
        return (sequence_id - self._last_sequence_id) % 256 in {1, 2}

    def _drop(self, count: int) -> None:
        """Passes over so many bytes from the front on, also those still to come."""
        self._skip = max(0, count - len(self._buffer))
        # The observer may have begun another way of reading meanwhile, which empties the buffer.
        del self._buffer[:count]

    def _are_frames_next(self) -> bool:
        return bool(self.compression) and (
            self.is_logged_in if self.side is Side.SERVER else self.packets > 0 and self._buffer[3] == 0
        )

    def _begin_frames(self) -> None:
        inner = DirectionReader(self._observer, side=self.side, is_start=False, is_inner=True)
        if self.mode is Mode.PACKETS and self.is_certain:
            inner.mode, inner.is_certain = Mode.PACKETS, True
        inner.packets, inner.is_logged_in = self.packets, True
        self.mode = Mode.FRAMES
        self.inner = inner
        self._frames = FrameReader(SniffingInflater)

    def _read_frame(self) -> bool:
        frames, inner = self._frames, self.inner
        if frames is None or inner is None:
            return False
        if frames.is_between_frames and len(self._buffer) < FRAME_HEADER_BYTES:
            return False
        wanted = frames.bytes_needed()
        part = bytes(self._buffer[:wanted])
        del self._buffer[:wanted]
        try:
            for content in frames.advance(part):
                if not isinstance(content, FrameEnd):
                    inner.feed(content)
        except MalformedPacket:
            self._search_on()
        return True

    def _begin_records(self, *, is_anchored: bool) -> None:
        handshake = self._observer.new_handshake(self)
        self.mode = Mode.RECORDS
        self.records = RecordReader(handshake, is_certain=self.is_certain, is_anchored=is_anchored)

    def _read_record(self) -> bool:
        records = self.records
        if records is None or len(self._buffer) < RECORD_HEADER_BYTES:
            return False
        if not is_record_header(self._buffer):
            self._observer.saw_records_break_off(self)
            self._search_on()
            return True
        length = self._record_bytes_at_front()
        wanted = records.wants(self._buffer[0], length)
        if len(self._buffer) < wanted:
            return False
        content = records.take(self._buffer[0], bytes(self._buffer[RECORD_HEADER_BYTES:wanted]))
        self._drop(length)
        if content:
            self._read_content(content)
        return True

    def _record_bytes_at_front(self) -> int:
        return RECORD_HEADER_BYTES + int.from_bytes(self._buffer[3:RECORD_HEADER_BYTES])

    def _read_content(self, content: bytes) -> None:
        """Reads what a record carries that encrypts nothing."""
        if self.inner is None:
            self.inner = DirectionReader(self._observer, side=self.side, is_start=False, is_inner=True)
        self.inner.feed(content)

    def _search(self) -> bool:
        seeker = self._seeker
        if seeker.is_fresh:
            opening = opening_of(self._buffer, self.side)
            if opening.kind is Opening.UNKNOWN:
                return False
            seeker.is_fresh = False
            if opening.kind in {Opening.HELLO, Opening.GREETING, Opening.LOGIN}:
                # The beginning of the connection after all, or of its encrypted part.
                self.side = opening.side
                self.is_certain = True
                return self._read_opening()
            seeker.is_anchored = True
        found = seeker.look(self._buffer)
        if found is None:
            return False
        if found.layer is Layer.RECORDS:
            self._begin_records(is_anchored=seeker.is_anchored and not found.offset)
        elif found.layer is Layer.FRAMES:
            self._begin_frames()
        else:
            self.mode = Mode.PACKETS
        return True


def is_cut(head: bytes, length: int) -> bool:
    """Whether less of a packet is there than is reported of a whole one."""
    return len(head) < min(length, HEAD_LIMIT_BYTES)
