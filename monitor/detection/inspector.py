"""One flow judged: what its two directions show, and the verdict that follows.

`FlowInspector` is given the bytes of both directions, in order and with their holes, and keeps a `Flow` current. What
each reader reads comes back to it as packets; a packet either proves something, or says nothing. The rules:

* Anything that only replication sends makes the flow `plaintext-replication`, whatever else was seen.
* Anything that no replica sends makes it `plaintext-client`, until there is more.
* Records that can only be TLS make it `tls`; a request for TLS does not, and neither does a suite without encryption.
* A beginning that is no MySQL makes it `not-mysql`.
* Everything else is `undecided`. What is seen later can settle it.
"""

from datetime import datetime

from monitor.detection.commands import Proof, judge_command
from monitor.detection.events import is_of_a_system_schema, schema_of_column, see_event
from monitor.detection.foreign import name_of_beginning
from monitor.detection.handshake import CertificateReader, HandshakeReader
from monitor.detection.opening import Side
from monitor.detection.reader import DirectionReader, Mode, is_cut
from monitor.detection.registry import UNENCRYPTED
from monitor.verdicts import Flow, Verdict
from wire.capabilities import Capability
from wire.commands import Command
from wire.compression import agreed_algorithm
from wire.errors import WireError
from wire.greeting import PROTOCOL_VERSION, HandshakeV10
from wire.login import SSL_REQUEST_BYTES, HandshakeResponse41, is_ssl_request
from wire.results import ERR_HEADER, OK_HEADER

_MOST_EVIDENCE = 16
# rpl_replica.cc connect_to_master: what a MySQL replica says of itself in its login.
_ROLE_ATTRIBUTE, _REPLICA_ROLE = b"_client_role", b"binary_log_listener"
# After so much, more is not going to change what is known, and the flow need not be looked into for a while.
_ENOUGH_RECORDS = 24
# What a server offers whose greeting was not seen.
_ANY_CAPABILITIES = Capability(0xFFFF_FFFF)
_ENOUGH_BYTES = 256 * 1024
_ENOUGH_CLIENT_BYTES = 1024 * 1024
_MOST_BYTES = 40 * 1024 * 1024
_PROVING_EVENTS = 2


def unread_certificate(der: bytes) -> datetime | None:  # noqa: ARG001 - the signature of a `CertificateReader`
    """For who does not need to know when a certificate expires."""
    return None


class FlowInspector:
    """Judges one flow.

    Attributes:
        flow: what is said of it; its verdict, evidence and TLS facts are kept current.
        readers: of the two directions, in the order in which the flow counts them.
    """

    def __init__(
        self,
        flow: Flow,
        *,
        sides: tuple[Side | None, Side | None],
        starts: tuple[bool, bool],
        not_after_of: CertificateReader,
    ) -> None:
        """Begins.

        Args:
            flow: is kept current.
            sides: who sends each direction, where that is known.
            starts: whether the next byte of each direction is its first.
            not_after_of: reads when a DER certificate expires.
        """
        self.flow = flow
        self._not_after_of = not_after_of
        self._bytes = 0
        self._is_replication = self._has_events = self._is_client = self._is_mysql = self._is_foreign = False
        self._is_tls = False
        self._offered = _ANY_CAPABILITIES
        self._is_setup = self._has_login = self._has_quit = self._has_hole = False
        self.readers = self._new_readers(sides, starts)

    def look_again(self) -> None:
        """Begins anew in the middle of the flow; what is known stays known."""
        self._bytes = 0
        self._has_hole = True
        first, second = self.readers
        self.readers = self._new_readers((first.side, second.side), (False, False))

    def _new_readers(
        self, sides: tuple[Side | None, Side | None], starts: tuple[bool, bool]
    ) -> tuple[DirectionReader, DirectionReader]:
        first, second = (
            DirectionReader(self, side=side, is_start=is_start) for side, is_start in zip(sides, starts, strict=True)
        )
        return first, second

    @property
    def client_direction(self) -> int | None:
        """Which of the two directions comes from the client; None if nothing has told."""
        for index, reader in enumerate(self.readers):
            if reader.side is Side.CLIENT:
                return index
            if reader.side is Side.SERVER:
                return 1 - index
        return None

    @property
    def buffered_bytes(self) -> int:
        """How much is held to read on."""
        return self.readers[0].buffered_bytes + self.readers[1].buffered_bytes

    @property
    def has_seen_enough(self) -> bool:
        """Whether the flow need not be looked into for a while."""
        verdict, seen = self.flow.verdict, self._bytes
        if verdict is Verdict.PLAINTEXT_REPLICATION:
            return self._has_events or seen >= _ENOUGH_BYTES
        if verdict is Verdict.TLS:
            records = [reader.records.count for reader in self.readers if reader.records is not None]
            return sum(records) >= _ENOUGH_RECORDS or seen >= _ENOUGH_BYTES
        if verdict is Verdict.NOT_MYSQL:
            return True
        if verdict is Verdict.PLAINTEXT_CLIENT:
            return seen >= _ENOUGH_CLIENT_BYTES
        if seen < _ENOUGH_CLIENT_BYTES:
            return False
        is_exhausted = any(reader.is_exhausted or reader.mode is Mode.FOREIGN for reader in self.readers)
        return is_exhausted or seen >= _MOST_BYTES

    def feed(self, direction: int, data: bytes) -> None:
        """Takes the next bytes of a direction."""
        self._bytes += len(data)
        reader = self.readers[direction]
        reader.feed(data)
        self._note_records(reader)
        packets = reader.inner or reader
        if packets.events == 1 and packets.is_between_packets and packets.mode is Mode.PACKETS:
            # One event that ends exactly where the bytes do.
            self._note_stream(packets)
        self._decide()

    def lose(self, direction: int, count: int) -> None:
        """Takes notice of a hole in a direction."""
        self.flow.is_incomplete = self._has_hole = True
        self._finish(direction)
        self.readers[direction].lose(count)

    def end(self) -> None:
        """The connection is over."""
        for direction in range(len(self.readers)):
            self._finish(direction)
        # A session that was watched from login to COM_QUIT and asked nothing of a replica's was none.
        if self._has_login and self._has_quit and not (self._has_hole or self._is_setup or self._is_replication):
            self._is_client = True
        self._decide()

    def _finish(self, direction: int) -> None:
        """A run of bytes ends: what was put off until more would come is judged."""
        self.readers[direction].finish()
        self.feed(direction, b"")

    # What the readers report.

    def new_handshake(self, reader: DirectionReader) -> HandshakeReader:  # noqa: ARG002 - the same for both directions
        """As in `Observer`."""
        return HandshakeReader(self.flow.tls, self._not_after_of)

    def saw_foreign(self, reader: DirectionReader, name: str) -> None:
        """As in `Observer`."""
        self._is_foreign = True
        side = "client" if reader.side is Side.CLIENT else "server"
        self._note(f"the {side} begins with {name}")

    def saw_records_break_off(self, reader: DirectionReader) -> None:
        """As in `Observer`."""
        if reader.records is not None and (reader.is_certain or reader.records.is_proof):
            self._note("TLS records break off")
            self._is_tls = False

    def saw_packet(self, reader: DirectionReader, sequence_id: int, length: int, head: bytes) -> bool:
        """As in `Observer`."""
        if reader.side is not Side.CLIENT and self._saw_server_packet(reader, sequence_id, length, head):
            return True
        return reader.side is not Side.SERVER and self._saw_client_packet(reader, sequence_id, length, head)

    def _saw_server_packet(self, reader: DirectionReader, sequence_id: int, length: int, head: bytes) -> bool:
        seen = see_event(head, length)
        if seen is not None:
            reader.events += 1
            if reader.is_certain or seen.is_checked or reader.events >= _PROVING_EVENTS:
                self._note_stream(reader)
            return True
        reader.events = 0
        if reader.is_certain and reader.packets == 1:
            return self._saw_greeting(reader, length, head)
        schema = schema_of_column(head)
        if schema is not None:
            self._take_side(reader, Side.SERVER)
            self._is_mysql = True
            if not is_of_a_system_schema(schema):
                self._is_client = True
                self._note("a result with columns of a table")
            return True
        if not reader.is_certain or not head:
            return False
        self._saw_login_answer(reader, sequence_id, head)
        return True

    def _saw_greeting(self, reader: DirectionReader, length: int, head: bytes) -> bool:
        if head[:1] == bytes([ERR_HEADER]):
            self._note("the server refuses to talk")
            return True
        if is_cut(head, length):
            return True
        try:
            greeting = HandshakeV10.parse(head)
        except WireError:
            greeting = None
        if greeting is None or head[0] != PROTOCOL_VERSION:
            reader.be_foreign(name_of_beginning(head))
            return False
        self._take_side(reader, Side.SERVER)
        self._is_mysql = True
        self._offered = greeting.capabilities
        self._note("MariaDB's greeting" if greeting.is_mariadb else "MySQL's greeting")
        reader.expects_tls = True
        self.flow.mid_stream = False
        return True

    def _saw_login_answer(self, reader: DirectionReader, sequence_id: int, head: bytes) -> None:
        """What a server says before commands begin: the login's end decides where compression does."""
        if reader.is_logged_in or sequence_id < 2:
            return
        if head[0] == OK_HEADER:
            reader.is_logged_in = True
            self._has_login = True
            self._note("a login in the clear")
        elif head[0] == ERR_HEADER:
            self._note("a login in the clear, refused")

    def _saw_client_packet(self, reader: DirectionReader, sequence_id: int, length: int, head: bytes) -> bool:
        if reader.is_certain and reader.packets == 1 and sequence_id == 1:
            return self._saw_login(reader, length, head)
        if reader.is_certain and sequence_id == 2 and reader.packets == 2 and len(head) > SSL_REQUEST_BYTES:
            return self._saw_login_behind_request(length, head)
        if sequence_id:
            return reader.is_certain
        judgement = judge_command(head, length)
        if judgement.proof is Proof.NONE or not (reader.is_certain or judgement.is_strict):
            return judgement.proof is not Proof.NONE
        self._take_side(reader, Side.CLIENT)
        self._is_mysql = True
        self._has_quit |= judgement.command == Command.COM_QUIT
        self._is_setup |= judgement.proof is Proof.SETUP
        self._is_client |= judgement.proof is Proof.CLIENT
        self._is_replication |= judgement.proof is Proof.REPLICATION
        self._note(judgement.evidence)
        return True

    def _saw_login(self, reader: DirectionReader, length: int, head: bytes) -> bool:
        if is_ssl_request(head) and length in {4, SSL_REQUEST_BYTES}:
            self._take_side(reader, Side.CLIENT)
            self._is_mysql = True
            self._note("a request for TLS")
            reader.expects_tls = True
            return True
        if is_cut(head, length):
            return True
        try:
            login = HandshakeResponse41.parse(head)
        except WireError:
            reader.be_foreign(name_of_beginning(head))
            return False
        self._take_side(reader, Side.CLIENT)
        self._is_mysql = True
        self._read_login(login)
        return True

    def _saw_login_behind_request(self, length: int, head: bytes) -> bool:
        """The request for TLS was not meant: the login follows as it is."""
        try:
            login = HandshakeResponse41.parse(head[:length])
        except WireError:
            return True
        self._note("a login in the clear behind a request for TLS")
        self._read_login(login)
        return True

    def _read_login(self, login: HandshakeResponse41) -> None:
        self._note("a login in the clear")
        self._has_login = True
        if login.attributes.get(_ROLE_ATTRIBUTE) == _REPLICA_ROLE:
            self._is_replication = True
            self._note("a replica's login")
        compresses = agreed_algorithm(login.capabilities & self._offered) is not None
        self.flow.is_compressed = compresses
        for one in self.readers:
            one.compression = compresses

    def _note_stream(self, reader: DirectionReader) -> None:
        self._take_side(reader, Side.SERVER)
        self._is_replication = self._has_events = self._is_mysql = True
        self._note("the event stream")

    def _note_records(self, reader: DirectionReader) -> None:
        records = reader.records
        if reader.mode is not Mode.RECORDS or records is None:
            return
        if records.handshake.is_client or records.handshake.is_server:
            self._take_side(reader, Side.CLIENT if records.handshake.is_client else Side.SERVER)
        if records.handshake.cipher in UNENCRYPTED:
            for one in self.readers:
                if one.records is not None:
                    one.records.overhead_bytes = UNENCRYPTED[records.handshake.cipher]
        if records.overhead_bytes is not None:
            self._is_tls = False
            self._note("TLS records that encrypt nothing")
        elif not self._is_tls and records.is_proof:
            self._is_tls = True
            self._note("encrypted TLS records")

    def _take_side(self, reader: DirectionReader, side: Side) -> None:
        first, second = self.readers
        is_first = reader is first or reader is first.inner
        other_side = Side.SERVER if side is Side.CLIENT else Side.CLIENT
        for one, its_side in ((first, side if is_first else other_side), (second, other_side if is_first else side)):
            one.side = its_side
            if one.inner is not None:
                one.inner.side = its_side

    def _note(self, evidence: str) -> None:
        if evidence not in self.flow.evidence and len(self.flow.evidence) < _MOST_EVIDENCE:
            self.flow.evidence.append(evidence)

    def _decide(self) -> None:
        if self._is_replication:
            self.flow.verdict = Verdict.PLAINTEXT_REPLICATION
        elif self._is_client:
            self.flow.verdict = Verdict.PLAINTEXT_CLIENT
        elif self._is_tls:
            self.flow.verdict = Verdict.TLS
        elif self._is_foreign and not self._is_mysql:
            self.flow.verdict = Verdict.NOT_MYSQL
        else:
            self.flow.verdict = Verdict.UNDECIDED
