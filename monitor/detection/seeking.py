"""The search for a place to read on from, in bytes that come bit by bit."""

from monitor.detection.search import Found, search

# So much is searched without a result before the direction is only looked at now and then: more than what may be left
# of a packet in whose middle the search began.
_SEARCH_BUDGET_BYTES = 18 * 1024 * 1024
# So much is searched again with every byte that comes.
_LITTLE_BYTES = 1024


class Seeker:
    """Searches the runs of one direction: bytes without a hole.

    Attributes:
        searched_bytes: how much was searched without a result.
        is_fresh: whether nothing of this run was looked at, so that it may be the connection's beginning.
        is_anchored: whether the bytes that are searched begin where the run does.
    """

    __slots__ = ("_is_inner", "_is_no_packet", "_search_at_bytes", "is_anchored", "is_fresh", "searched_bytes")

    def __init__(self, *, is_inner: bool) -> None:
        """Begins.

        Args:
            is_inner: whether the bytes came out of others: then they are never the connection's first.
        """
        self._is_inner = is_inner
        self.searched_bytes = 0
        self.is_fresh = not is_inner
        self.go_on()

    def begin_run(self) -> None:
        """A new run of bytes begins."""
        self.go_on()
        self.is_fresh = not self._is_inner

    def go_on(self, *, is_no_packet: bool = False) -> None:
        """Searches the same run further.

        Args:
            is_no_packet: whether it is known that no packet begins with the first byte.
        """
        self.is_anchored = False
        self._is_no_packet = is_no_packet
        self._search_at_bytes = 0

    def hurry(self) -> None:
        """Nothing more of this run will come: what was put off is searched the next time."""
        self._search_at_bytes = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether it has searched for long enough."""
        return self.searched_bytes >= _SEARCH_BUDGET_BYTES

    def look(self, buffer: bytearray) -> Found | None:
        """Searches the buffer, and removes from its front what is of no more use.

        Returns:
            The place that was found, with which the buffer now begins; `offset` is from where it began before.
        """
        if len(buffer) < self._search_at_bytes:
            return None
        found, keep_from = search(
            bytes(buffer),
            in_frames=self._is_inner,
            is_anchored=self.is_anchored,
            packets_from=int(self._is_no_packet),
        )
        if found is not None:
            self._search_at_bytes = 0
            self._is_no_packet = False
            del buffer[: found.offset]
            return found
        self.searched_bytes += keep_from
        self.is_anchored &= not keep_from
        self._is_no_packet &= not keep_from
        del buffer[:keep_from]
        kept_bytes = len(buffer)
        # Much is kept for a candidate that is long; not every byte is a reason to look at it again.
        self._search_at_bytes = kept_bytes + (kept_bytes // 16 if kept_bytes > _LITTLE_BYTES else 0)
        return None
