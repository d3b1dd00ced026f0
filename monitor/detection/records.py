"""TLS records followed through one direction: whether they are records at all, and whether anything in them is hidden.

RFC 8446 sections 5.1 and D.4, RFC 5246 section 6.2. Five bytes of header tell where the next record begins, so a record
costs its header. The first ones are looked into all the same: a suite that encrypts nothing has records too.
"""

from monitor.detection.commands import judge_command
from monitor.detection.events import see_event
from monitor.detection.handshake import CLIENT_HELLO, SERVER_HELLO, HandshakeReader
from wire.framing import HEADER_BYTES, MAX_FRAGMENT_BYTES

RECORD_HEADER_BYTES = 5
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
# So many records are looked into.
_PEEKED_RECORDS = 16
# So many in a row, each where the one before said, are no accident.
_PROVING_RECORDS = 3


class RecordReader:
    """Follows the records of one direction.

    Attributes:
        handshake: reads what is not encrypted yet.
        count: how many records began.
        encrypted: how many of them hold what is encrypted.
        is_certain: whether the first one was a hello.
        is_anchored: whether the first one began where a run of bytes did.
        overhead_bytes: by how much a record is longer than what it carries, where it encrypts nothing; otherwise None.
    """

    __slots__ = ("_is_switched", "count", "encrypted", "handshake", "is_anchored", "is_certain", "overhead_bytes")

    def __init__(self, handshake: HandshakeReader, *, is_certain: bool, is_anchored: bool) -> None:
        self.handshake = handshake
        self.count = 0
        self.encrypted = 0
        self.is_certain = is_certain
        self.is_anchored = is_anchored
        self.overhead_bytes: int | None = None
        self._is_switched = False

    @property
    def is_proof(self) -> bool:
        """Whether this is TLS and nothing else: something is encrypted, and the records began where they should."""
        return self.encrypted > 0 and (self.is_certain or self.is_anchored or self.count >= _PROVING_RECORDS)

    def wants(self, content_type: int, record_bytes: int) -> int:
        """How many bytes of a record, its header included, must be there before `take`."""
        is_read = (
            content_type == HANDSHAKE
            or self.overhead_bytes is not None
            or (content_type == APPLICATION_DATA and self.encrypted < _PEEKED_RECORDS)
        )
        return record_bytes if is_read else RECORD_HEADER_BYTES

    def take(self, content_type: int, content: bytes) -> bytes:
        """Takes a record.

        Args:
            content_type: from its header.
            content: as far as `wants` asked for it; nothing where a hole has swallowed it.

        Returns:
            What it carries, if that is not encrypted; otherwise nothing.
        """
        self.count += 1
        if content_type == CHANGE_CIPHER_SPEC:
            self._is_switched = True
        elif content_type == HANDSHAKE:
            if not content:
                self.handshake.end()
            elif self._is_switched and not _is_hello(content):
                # The Finished of TLS 1.2.
                self.encrypted += 1
                self.handshake.end()
            else:
                self.handshake.feed(content)
        elif content_type == APPLICATION_DATA:
            self.handshake.end()
            self.encrypted += 1
            if self.overhead_bytes is None and content and _is_readable(content):
                self.overhead_bytes = 0
            if self.overhead_bytes is not None:
                return content[: len(content) - self.overhead_bytes]
        return b""


def _is_hello(content: bytes) -> bool:
    """Whether an unencrypted hello is all of a record: in TLS 1.3 one may follow a ChangeCipherSpec."""
    return content[0] in {CLIENT_HELLO, SERVER_HELLO} and int.from_bytes(content[1:4]) == len(content) - 4


def _is_readable(content: bytes) -> bool:
    """Whether a MySQL packet begins a record that should be encrypted."""
    if len(content) <= HEADER_BYTES:
        return False
    length, payload = int.from_bytes(content[:3], "little"), content[HEADER_BYTES:]
    if see_event(payload[:length], length) is not None:
        return length <= len(payload) or length == MAX_FRAGMENT_BYTES
    return content[3] == 0 and length <= len(payload) and judge_command(payload[:length], length).is_strict
