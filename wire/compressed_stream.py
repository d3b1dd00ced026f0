"""The event stream followed through compressed frames.

Where a packet ends is known only by inflating, so this costs what inflating costs: a fraction of what the source has
spent on compressing. The bytes themselves are left as they are.
"""

from collections.abc import Callable

from wire.compression import FrameEnd, FrameReader, Inflater, encode_stored_frames
from wire.datatypes import Payload
from wire.framing import encode_packet
from wire.stream import StreamTracker


class CompressedStreamTracker:
    """Follows one direction of a compressed session, from the first frame after the dump command on.

    As `StreamTracker`, but for where another packet may be put in: between two frames that end where a packet does.

    Attributes:
        stream: what the frames hold.
        ack_position: as `StreamTracker.ack_position`, of all that the last piece held.
    """

    __slots__ = ("_boundary", "_frames", "_next_sequence_id", "ack_position", "stream")

    def __init__(self, new_inflater: Callable[[], Inflater]) -> None:
        self.stream = StreamTracker()
        self.ack_position: int | None = None
        self._frames = FrameReader(new_inflater)
        self._next_sequence_id = 1
        self._boundary: int | None = 0

    @property
    def boundary(self) -> int | None:
        """The latest offset in the last piece at which another packet could be put in; None if there is none."""
        return self._boundary

    @property
    def is_between_packets(self) -> bool:
        """Whether the last piece ended where a frame and a packet do."""
        return self._frames.is_between_frames and self.stream.is_between_packets

    def advance(self, data: Payload) -> None:
        """Take the next piece.

        Raises:
            MalformedPacket: It is no compressed frame.
        """
        self._boundary, self.ack_position = None, None
        for part in self._frames.advance(data):
            if not isinstance(part, FrameEnd):
                self.stream.advance(part)
                if self.stream.ack_position is not None:
                    self.ack_position = self.stream.ack_position
            elif self.stream.is_between_packets:
                self._boundary = part.offset
                self._next_sequence_id = (part.sequence_id + 1) % 256

    def encode_at_boundary(self, payload: Payload) -> bytes:
        """Write a packet as it would be put in at the latest boundary."""
        # Servers set a packet's sequence id to the frame's whenever they flush; replicas look at the frame's.
        return encode_stored_frames(encode_packet(payload, self._next_sequence_id), self._next_sequence_id)
