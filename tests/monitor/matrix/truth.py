"""What may be said of a case, and what must be: known from the whole recording, not from what the monitor was given.

The recording is taken apart once, from its beginning, where it is certain what each byte is. Of a case it is then known
which of the proofs are still whole in it. This knows nothing of how the monitor looks for them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from backports import zstd

from monitor.segments import Segment
from monitor.verdicts import Verdict
from tests.monitor.matrix.connections import SYN, Connection, Truth, payload_runs
from wire.binlog import SEMI_SYNC_MAGIC, EventHeader
from wire.commands import BinlogDump, BinlogDumpGtid, Command, Query, RegisterReplica, parse_command
from wire.compression import Algorithm, agreed_algorithm
from wire.errors import WireError
from wire.framing import MAX_FRAGMENT_BYTES
from wire.greeting import HandshakeV10
from wire.login import SSL_REQUEST_BYTES, HandshakeResponse41, is_ssl_request

ALLOWED = {
    Truth.REPLICATION: {Verdict.UNDECIDED, Verdict.PLAINTEXT_REPLICATION},
    Truth.LATE_REPLICATION: {Verdict.UNDECIDED, Verdict.PLAINTEXT_CLIENT, Verdict.PLAINTEXT_REPLICATION},
    Truth.CLIENT: {Verdict.UNDECIDED, Verdict.PLAINTEXT_CLIENT},
    Truth.CLIENT_WITH_EVENTS: {Verdict.UNDECIDED, Verdict.PLAINTEXT_CLIENT},
    Truth.TLS: {Verdict.UNDECIDED, Verdict.TLS},
    Truth.FAILED_TLS: {Verdict.UNDECIDED, Verdict.TLS},
    Truth.OTHER: {Verdict.UNDECIDED, Verdict.NOT_MYSQL},
    Truth.OTHER_THEN_TLS: {Verdict.UNDECIDED, Verdict.NOT_MYSQL, Verdict.TLS},
}
# A replica's own variables, which it sets on the source or asks for there; a server's are written with two @.
SETUP_OF_A_REPLICA = re.compile(rb"(?<!@)@(?:master|source|slave|replica|rpl_semi_sync|mariadb_slave)_\w+")
# What moves or changes data; whoever asks the rest may yet become a replica.
BUSINESS = re.compile(
    rb"\s*(?:INSERT|UPDATE|DELETE|REPLACE|CREATE|DROP|ALTER|LOAD|LOCK)\s|\s*SELECT\b.*\sFROM\s",
    re.IGNORECASE | re.DOTALL,
)
RECORDS_IN_A_ROW = 3
EVENTS_IN_A_ROW = 3
APPLICATION_DATA = 23
CHECKSUM_BYTES = 4


class Proof(Enum):
    """What a stretch of bytes proves when it is seen whole."""

    SETUP_QUERY = auto()
    REGISTRATION = auto()
    DUMP = auto()
    ACKNOWLEDGEMENT = auto()
    CHECKED_EVENT = auto()
    EVENT = auto()  # without a checksum, or too large to be one packet
    STATEMENT = auto()  # SQL that is no replica's
    RECORD = auto()


# Each alone must do.
CONCLUSIVE = {Proof.SETUP_QUERY, Proof.REGISTRATION, Proof.DUMP, Proof.ACKNOWLEDGEMENT, Proof.CHECKED_EVENT}


@dataclass(frozen=True)
class Piece:
    """A stretch of one direction.

    Attributes:
        is_asked: whether the client sent it.
        start: of its first byte, counted from the direction's beginning.
        end: behind its last byte.
        proof: what it proves.
        text: the SQL, where it is some.
    """

    is_asked: bool
    start: int
    end: int
    proof: Proof
    text: bytes = b""


class Anatomy:
    """A recording, taken apart.

    Attributes:
        pieces: all that prove anything, by direction and position.
        queries: all that were asked, as `shape_of` gives them.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.queries: set[bytes] = set()
        if connection.truth.is_mysql_in_the_clear:
            self.pieces = list(self._mysql_pieces())
        elif connection.truth is Truth.TLS:
            self.pieces = list(self._tls_pieces())
        else:
            self.pieces = []

    def _mysql_pieces(self) -> Iterator[Piece]:
        asked, answered = self.connection.both
        if not asked:
            return
        greeting = HandshakeV10.parse(answered[4 : 4 + int.from_bytes(answered[:3], "little")])
        login = HandshakeResponse41.parse(asked[4 : 4 + int.from_bytes(asked[:3], "little")])
        capabilities = greeting.capabilities & login.capabilities
        algorithm = agreed_algorithm(capabilities)
        is_dumping = False
        for start, end, payload, sequence_id in packets_of(asked, end_of_login(asked), algorithm):
            proof, text = None, b""
            if is_dumping:
                proof = Proof.ACKNOWLEDGEMENT if payload[:1] == bytes([SEMI_SYNC_MAGIC]) else None
            elif sequence_id == 0 and payload:
                proof, text = self._judge(payload, capabilities)
                is_dumping = proof is Proof.DUMP
            if proof is not None:
                yield Piece(True, start, end, proof, text)
        if is_dumping:
            for start, end, payload, _ in packets_of(answered, end_of_answers(answered), algorithm):
                proof = _judge_event(payload)
                if proof is not None:
                    yield Piece(False, start, end, proof)

    def _judge(self, payload: bytes, capabilities: object) -> tuple[Proof | None, bytes]:
        try:
            command = parse_command(payload, capabilities)  # type: ignore[arg-type]
        except WireError:
            return None, b""
        match command:
            case RegisterReplica():
                return Proof.REGISTRATION, b""
            case BinlogDump() | BinlogDumpGtid():
                return Proof.DUMP, b""
            case Query(text=text):
                self.queries.add(shape_of(text))
                if SETUP_OF_A_REPLICA.search(text) and self.connection.truth.is_replication:
                    return Proof.SETUP_QUERY, text
                return (Proof.STATEMENT if BUSINESS.match(text) else None), text
        if payload[0] == Command.COM_STMT_PREPARE and BUSINESS.match(payload[1:]):
            return Proof.STATEMENT, payload[1:]
        return None, b""

    def _tls_pieces(self) -> Iterator[Piece]:
        client, server = self.connection.client_key, self.connection.server_key
        asked, answered = self.connection.sent[client], self.connection.sent[server]
        starts = {client: 0, server: 0}
        if asked and is_ssl_request(asked[4:8]) and asked[:4] == bytes([SSL_REQUEST_BYTES, 0, 0, 1]):
            starts = {client: 4 + SSL_REQUEST_BYTES, server: 4 + int.from_bytes(answered[:3], "little")}
        for key, start in starts.items():
            at = start
            data = self.connection.sent[key]
            while at + 5 <= len(data):
                end = at + 5 + int.from_bytes(data[at + 3 : at + 5])
                if data[at] == APPLICATION_DATA:
                    yield Piece(key == client, at, end, Proof.RECORD)
                at = end


def shape_of(text: bytes) -> bytes:
    """A statement without its values."""
    return re.sub(rb"'[^']*'|\d+", b"?", text).strip().lower()


def end_of_login(asked: bytes | bytearray) -> int:
    """Where the client's first command begins: packets of the login carry sequence ids from 1 on."""
    at = 0
    while at + 4 <= len(asked) and asked[at + 3] != 0:
        at += 4 + int.from_bytes(asked[at : at + 3], "little")
    return at


def end_of_answers(answered: bytes | bytearray) -> int:
    """Where what the server answers to the first command begins: behind the OK, or the error, that ends the login."""
    at = 4 + int.from_bytes(answered[:3], "little")
    while at + 4 < len(answered):
        first = answered[at + 4]
        at += 4 + int.from_bytes(answered[at : at + 3], "little")
        if first in {0x00, 0xFF}:
            break
    return at


def packets_of(data: bytes, at: int, algorithm: Algorithm | None) -> Iterator[tuple[int, int, bytes, int]]:
    """Each packet from there on: where its bytes begin and end, its payload, its sequence id.

    In a compressed session its bytes are those of all frames that hold a part of it.
    """
    if algorithm is None:
        yield from _split(data, at)
        return
    contents, spans = bytearray(), []
    while at + 7 <= len(data):
        end = at + 7 + int.from_bytes(data[at : at + 3], "little")
        if end > len(data):
            break
        body = data[at + 7 : end]
        if any(data[at + 4 : at + 7]):
            body = zlib.decompress(body) if algorithm is Algorithm.ZLIB else zstd.decompress(body)
        spans.append((len(contents), len(contents) + len(body), at, end))
        contents += body
        at = end
    frame = 0
    for start, end, payload, sequence_id in _split(bytes(contents), 0):
        while spans[frame][1] <= start:
            frame += 1
        last = frame
        while spans[last][1] < end:
            last += 1
        yield spans[frame][2], spans[last][3], payload, sequence_id


def _split(data: bytes, at: int) -> Iterator[tuple[int, int, bytes, int]]:
    """Continuations of a payload of 16 MiB are passed over."""
    continues = False
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 3], "little")
        end = at + 4 + length
        if end > len(data):
            return
        if not continues:
            yield at, end, data[at + 4 : end], data[at + 3]
        continues = length == MAX_FRAGMENT_BYTES
        at = end


def _judge_event(payload: bytes) -> Proof | None:
    if payload[:1] != b"\x00":
        return None
    for offset in (1, 3):
        if offset == 3 and payload[1:2] != bytes([SEMI_SYNC_MAGIC]):
            continue
        event = payload[offset:]
        try:
            size = EventHeader.parse(event).event_size_bytes
        except WireError:
            continue
        if size == len(event):
            is_checked = zlib.crc32(event[:-CHECKSUM_BYTES]) == int.from_bytes(event[-CHECKSUM_BYTES:], "little")
            return Proof.CHECKED_EVENT if is_checked else Proof.EVENT
        if len(payload) == MAX_FRAGMENT_BYTES and size > len(event):
            return Proof.EVENT
    return None


@dataclass(frozen=True)
class Expectation:
    """Of one flow of a case.

    Attributes:
        allowed: what may be said at any time.
        required: what must be said at the end; None where it may stay undecided.
        reason: why that is.
    """

    allowed: frozenset[Verdict]
    required: Verdict | None
    reason: str = ""


class Oracle:
    """Knows what is true of every recorded connection."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._anatomies = {connection.name: Anatomy(connection) for connection in connections}
        self.setup_queries = frozenset(
            query
            for connection in connections
            if connection.truth is Truth.REPLICATION
            for query in self._anatomies[connection.name].queries
        )

    def expect(self, connection: Connection, segments: Sequence[Segment], first: dict[bytes, int]) -> Expectation:
        """What may and what must be said of the connection when these segments of it are seen.

        Args:
            connection: as recorded, perhaps under other ports.
            segments: what is left of it.
            first: the sequence number of each direction's first byte, in these segments.
        """
        allowed = frozenset(ALLOWED[connection.truth])
        keys = {True: connection.client_key, False: connection.server_key}
        runs = {is_asked: _spans(segments, key, first[key]) for is_asked, key in keys.items()}
        seen = [piece for piece in self._anatomies[connection.name].pieces if _covers(runs[piece.is_asked], piece)]
        is_whole = _is_whole(connection, segments, runs)
        if connection.truth.is_replication:
            reason = _replication_shown(seen, is_whole=is_whole)
            return Expectation(allowed, Verdict.PLAINTEXT_REPLICATION if reason else None, reason)
        if connection.truth is Truth.CLIENT_WITH_EVENTS and not is_whole:
            # Whoever joins within such a blob sees events, and nothing that would tell them from a stream of them.
            return Expectation(allowed | {Verdict.PLAINTEXT_REPLICATION}, None)
        if connection.truth in {Truth.CLIENT, Truth.CLIENT_WITH_EVENTS}:
            statements = [piece for piece in seen if piece.proof is Proof.STATEMENT]
            shown = any(shape_of(piece.text) not in self.setup_queries for piece in statements)
            return Expectation(allowed, Verdict.PLAINTEXT_CLIENT if shown else None, "a client's statement")
        if connection.truth is Truth.TLS:
            reason = "whole" if is_whole else _records_shown(seen)
            return Expectation(allowed, Verdict.TLS if reason else None, reason)
        if connection.truth is Truth.OTHER:
            return Expectation(allowed, Verdict.NOT_MYSQL if is_whole else None, "whole")
        return Expectation(allowed, None)


Spans = list[tuple[int, int]]


def _spans(segments: Sequence[Segment], key: bytes, first: int) -> Spans:
    return [(at, at + len(data)) for at, data in payload_runs(list(segments), key, first)]


def _covers(spans: Spans, piece: Piece) -> bool:
    return any(start <= piece.start and piece.end <= end for start, end in spans)


def _is_whole(connection: Connection, segments: Sequence[Segment], runs: dict[bool, Spans]) -> bool:
    """Nothing is missing of what was said, nor of how it began."""
    begun = {segment.key for segment in segments if segment.flags & SYN}
    return len(begun) == 2 and all(
        runs[key == connection.client_key] == ([(0, len(data))] if data else [])
        for key, data in connection.sent.items()
    )


def _replication_shown(seen: list[Piece], *, is_whole: bool) -> str:
    for piece in seen:
        if piece.proof in CONCLUSIVE:
            return f"{piece.proof.name} at {piece.start}"
    events = [piece for piece in seen if piece.proof is Proof.EVENT]
    if is_whole and events:
        return "EVENT of a whole connection"
    return f"{EVENTS_IN_A_ROW} EVENTs in a row" if _in_a_row(events) >= EVENTS_IN_A_ROW else ""


def _records_shown(seen: list[Piece]) -> str:
    return f"{RECORDS_IN_A_ROW} records in a row" if _in_a_row(seen) >= RECORDS_IN_A_ROW else ""


def _in_a_row(pieces: list[Piece]) -> int:
    """How many follow upon each other at most."""
    longest = current = 0
    last: Piece | None = None
    for piece in pieces:
        follows = last is not None and piece.is_asked == last.is_asked and piece.start == last.end
        current = current + 1 if follows else 1
        longest = max(longest, current)
        last = piece
    return longest
