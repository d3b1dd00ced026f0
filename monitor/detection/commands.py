"""What a packet from the client's side says: which command it is, and who sends such a command.

A packet is judged by its first bytes and its length, and strictly: in the middle of a stream these checks are all that
tells a command from anything else.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from monitor.detection.statements import Speaker, speaker_of
from wire.binlog import SEMI_SYNC_MAGIC
from wire.commands import Command

_DUMP_LEAST_BYTES = 11
_FILE_NAME = re.compile(rb"[\x20-\x7e\x80-\xff]{1,512}\.\d{6,20}\Z")
_ACK_NAME_OFFSET = 9
_LONGEST_POSITION = 1 << 40
_REGISTER_TAIL_BYTES = 10
_int4_at = struct.Struct("<I").unpack_from
_int8_at = struct.Struct("<Q").unpack_from
_GTID_HEADER_BYTES = 11
# So much of a query says who asks it.
_SQL_LIMIT_BYTES = 4096
# The third field of COM_STMT_EXECUTE: how often, which is always once.
_ONCE = b"\x01\x00\x00\x00"
_SHORT = {Command.COM_QUIT, Command.COM_PING, Command.COM_STATISTICS, Command.COM_DEBUG, Command.COM_RESET_CONNECTION}


class Proof(Enum):
    """What a packet proves."""

    REPLICATION = auto()
    CLIENT = auto()
    """MySQL, and what no replica sends."""
    SETUP = auto()
    """MySQL, and what a replica's set-up has, but others may send."""
    MYSQL = auto()
    """MySQL that anybody may send, who reads the binlog or not."""
    NONE = auto()


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of one packet.

    Attributes:
        proof: what it proves.
        evidence: a few words for people; never any of its content.
        command: its first byte, where that is a command.
        is_strict: whether its form alone can be believed, wherever it stands.
    """

    proof: Proof
    evidence: str = ""
    command: int = -1
    is_strict: bool = False


_NOTHING = Judgement(Proof.NONE)


def judge_command(head: bytes, length: int) -> Judgement:
    """Judge a packet with sequence id 0.

    Args:
        head: its payload, or the first part of a long one.
        length: of the whole payload, as its header says.
    """
    if not head:
        return _NOTHING
    code = head[0]
    judge = _JUDGES.get(code)
    if judge is not None:
        return judge(head, length)
    if code not in _OTHERS or (code in _SHORT and length != 1):
        return _NOTHING
    # COM_CLONE is among them: a donor's data goes over in the clear, but that is no replication stream.
    proof = Proof.MYSQL if code in _SHORT or code == Command.COM_INIT_DB else Proof.CLIENT
    return Judgement(proof, Command(code).name, code)


def _judge_query(head: bytes, length: int) -> Judgement:
    code = Command.COM_QUERY
    is_whole = len(head) >= min(length, _SQL_LIMIT_BYTES)
    match speaker_of(head[1:_SQL_LIMIT_BYTES], is_whole=is_whole):
        case Speaker.REPLICA:
            return Judgement(Proof.REPLICATION, "a query of a replica's set-up", code, is_strict=True)
        case Speaker.SETUP:
            return Judgement(Proof.SETUP, "a query that a replica's set-up has too", code, is_strict=True)
        case Speaker.ANYBODY:
            return Judgement(Proof.MYSQL, "a query that anybody asks", code, is_strict=True)
        case Speaker.CLIENT:
            return Judgement(Proof.CLIENT, "COM_QUERY with SQL of no replica", code, is_strict=length > 5)
    if length == 1:
        return _NOTHING
    # What cannot be read may be a replica's, where it is cut off.
    return Judgement(Proof.CLIENT if is_whole else Proof.MYSQL, "COM_QUERY", code)


def _judge_register(head: bytes, length: int) -> Judgement:
    position = 5
    for _ in ("host", "user", "password"):
        if position >= len(head):
            return _NOTHING
        position += 1 + head[position]
    is_whole = position + _REGISTER_TAIL_BYTES == length == len(head)
    if not is_whole or _int4_at(head, position + 2)[0] != 0:
        return _NOTHING
    return Judgement(Proof.REPLICATION, "COM_REGISTER_SLAVE", Command.COM_REGISTER_SLAVE, is_strict=True)


def _judge_dump(head: bytes, length: int) -> Judgement:
    if length < _DUMP_LEAST_BYTES or length > _DUMP_LEAST_BYTES + 600 or len(head) < _DUMP_LEAST_BYTES:
        return _NOTHING
    name = head[_DUMP_LEAST_BYTES:length].rstrip(b"\0")
    if name and not _FILE_NAME.match(name):
        return _NOTHING
    flags = head[5] | head[6] << 8
    return Judgement(Proof.REPLICATION, "COM_BINLOG_DUMP", Command.COM_BINLOG_DUMP, is_strict=flags < 0x100)


def _judge_dump_gtid(head: bytes, length: int) -> Judgement:
    if len(head) < _GTID_HEADER_BYTES:
        return _NOTHING
    name_bytes = _int4_at(head, 7)[0]
    sizes_at = _GTID_HEADER_BYTES + name_bytes
    if name_bytes > 512 or len(head) < sizes_at + 12:
        return _NOTHING
    if _int4_at(head, sizes_at + 8)[0] != length - sizes_at - 12:
        return _NOTHING
    return Judgement(Proof.REPLICATION, "COM_BINLOG_DUMP_GTID", Command.COM_BINLOG_DUMP_GTID, is_strict=True)


def _judge_ack(head: bytes, length: int) -> Judgement:
    if not _ACK_NAME_OFFSET < length <= len(head) or length > _ACK_NAME_OFFSET + 512:
        return _NOTHING
    if _int8_at(head, 1)[0] >= _LONGEST_POSITION or not _FILE_NAME.match(head[_ACK_NAME_OFFSET:length]):
        return _NOTHING
    return Judgement(Proof.REPLICATION, "a semi-synchronous acknowledgement", is_strict=True)


def _judge_execute(head: bytes, length: int) -> Judgement:
    if length < 10 or len(head) < 10:
        return _NOTHING
    return Judgement(Proof.CLIENT, "COM_STMT_EXECUTE", Command.COM_STMT_EXECUTE, is_strict=head[6:10] == _ONCE)


def _judge_prepare(head: bytes, length: int) -> Judgement:
    is_sql = speaker_of(head[1:_SQL_LIMIT_BYTES]) is not Speaker.UNKNOWN
    return Judgement(Proof.CLIENT, "COM_STMT_PREPARE", Command.COM_STMT_PREPARE, is_strict=is_sql and length > 5)


_JUDGES: dict[int, Callable[[bytes, int], Judgement]] = {
    SEMI_SYNC_MAGIC: _judge_ack,
    Command.COM_QUERY: _judge_query,
    Command.COM_REGISTER_SLAVE: _judge_register,
    Command.COM_BINLOG_DUMP: _judge_dump,
    Command.COM_BINLOG_DUMP_GTID: _judge_dump_gtid,
    Command.COM_STMT_EXECUTE: _judge_execute,
    Command.COM_STMT_PREPARE: _judge_prepare,
}
_OTHERS = frozenset(int(command) for command in Command) - {Command.COM_SLEEP} - _JUDGES.keys()
