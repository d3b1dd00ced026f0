"""IP fragments put together again, within limits: whoever sends fragments chooses how many and how large.

A datagram is whole when every byte of it is there; a gap is never filled. Fragments that overlap and disagree are
refused with all of their datagram, as RFC 5722 has it for IPv6; the same fragment twice, as a mirror port may show it,
does no harm.
"""

from dataclasses import dataclass, field

# RFC 791 and RFC 8200 let a receiver wait for 15 and 60 seconds. Linux waits for 30.
_MOST_SECONDS = 30.0
_MOST_DATAGRAMS = 1024
_MOST_BYTES = 4 << 20
_MOST_DATAGRAM_BYTES = 65535


@dataclass(slots=True)
class _Datagram:
    """What has come of one."""

    first_seconds: float
    header: bytes = b""
    pieces: dict[int, bytes] = field(default_factory=dict)
    received_bytes: int = 0
    total_bytes: int | None = None

    def whole(self) -> bytes | None:
        """All of it, if nothing is missing."""
        if self.total_bytes is None or self.received_bytes < self.total_bytes:
            return None
        return b"".join(self.pieces[offset] for offset in sorted(self.pieces))


class Fragments:
    """Datagrams of which something is missing.

    Attributes:
        reassembled: how many became whole.
        dropped: how many did not: too old, too many, too large, or contradictory.
    """

    def __init__(self) -> None:
        self.reassembled = 0
        self.dropped = 0
        # In the order in which they began, so the oldest goes first.
        self._datagrams: dict[bytes, _Datagram] = {}
        self._bytes = 0

    def take(
        self, key: bytes, *, offset: int, data: bytes, header: bytes, is_last: bool, time_seconds: float
    ) -> tuple[bytes, bytes] | None:
        """Adds a fragment.

        Args:
            key: the same for all fragments of a datagram, and for no other's.
            offset: where `data` belongs, in bytes.
            data: all that the fragment holds.
            header: what stands before the data, wanted of the first fragment.
            is_last: whether nothing comes behind it.
            time_seconds: when it passed.

        Returns:
            The header of the first fragment and all data, once nothing is missing.
        """
        self._forget_old(time_seconds)
        datagram = self._datagrams.get(key)
        if datagram is None:
            datagram = self._datagrams[key] = _Datagram(time_seconds)
        if not self._add(datagram, offset, data, is_last=is_last):
            self._forget(key)
            self.dropped += 1
            return None
        if offset == 0:
            datagram.header = header
        data_in_order = datagram.whole()
        if data_in_order is not None:
            self._forget(key)
            self.reassembled += 1
            return datagram.header, data_in_order
        while len(self._datagrams) > _MOST_DATAGRAMS or self._bytes > _MOST_BYTES:
            self._forget(next(iter(self._datagrams)))
            self.dropped += 1
        return None

    def _add(self, datagram: _Datagram, offset: int, data: bytes, *, is_last: bool) -> bool:
        """Whether the fragment fits to those that are there."""
        end = offset + len(data)
        if not data or end > _MOST_DATAGRAM_BYTES or datagram.pieces.get(offset, data) != data:
            return False
        if is_last and datagram.total_bytes not in {None, end}:
            return False
        if offset in datagram.pieces:
            return True
        if any(start < end and offset < start + len(piece) for start, piece in datagram.pieces.items()):
            return False
        if is_last:
            datagram.total_bytes = end
        datagram.pieces[offset] = data
        datagram.received_bytes += len(data)
        self._bytes += len(data)
        return datagram.total_bytes is None or max(datagram.pieces) < datagram.total_bytes

    def _forget_old(self, time_seconds: float) -> None:
        while self._datagrams:
            key, oldest = next(iter(self._datagrams.items()))
            if time_seconds - oldest.first_seconds <= _MOST_SECONDS:
                return
            self._forget(key)
            self.dropped += 1

    def _forget(self, key: bytes) -> None:
        self._bytes -= self._datagrams.pop(key).received_bytes
