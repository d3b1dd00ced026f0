"""The phases of a connection, as one table.

Two rules:

* Everything that affects a transition is in this file: the table, and the classifiers that name a packet's
  message.
* This file does not know which side we play. A proxy holds one `ConnectionPhases` per leg and enforces, a
  monitor holds one per flow and watches, a fake server holds one and plays the source; the table is the
  same.

Each phase is named for what is awaited. What the table does not have may not happen. Three things make it
less regular than "one asks, the other answers":

* A source that shuts down, or has waited too long, sends an ERR whoever's turn it is.
* In caching_sha2_password the source may speak twice in a row: AuthMoreData 0x03, "the cached hash matched",
  is followed by the OK without the replica speaking. After any other AuthMoreData, a public key or 0x04,
  "send the password", the replica speaks. Hence FAST_AUTH_OK is a message of its own.
* A command is answered by any number of packets, and counting them takes a parser for result sets, which is
  no part of this package. In COMMAND both sides speak, and what the source says is its own affair. LOAD DATA
  LOCAL is the one exchange that does not fit: its file contents fail as commands, which is the safe way
  round. Replication has no use for it.

With CLIENT_COMPRESS or zstd agreed upon, packets after the final OK are inside compressed frames, and the
table says nothing about those.
"""

from collections.abc import Callable
from enum import Enum, auto

from wire.authentication import (
    AUTH_MORE_DATA_HEADER,
    AUTH_NEXT_FACTOR_HEADER,
    AUTH_SWITCH_HEADER,
    CACHING_SHA2_FAST_OK,
)
from wire.binlog import SEMI_SYNC_MAGIC
from wire.commands import Command, command_of
from wire.datatypes import Payload
from wire.errors import TruncatedPacket, UnexpectedPacket
from wire.greeting import PROTOCOL_VERSION
from wire.login import is_ssl_request
from wire.results import OK_HEADER, is_eof, is_err


class Phase(Enum):
    """What is awaited."""

    GREETING = "the source's greeting"
    LOGIN = "the replica's login or its request for TLS"
    TLS = "the end of the TLS handshake"
    LOGIN_OVER_TLS = "the replica's login over TLS"
    AUTH_REPLY = "the source's answer to an authentication response"
    AUTH_RESPONSE = "the replica's authentication response"
    COMMAND = "the replica's command, or more of the source's answer"
    STREAM = "the source's events, and the replica's acknowledgements"
    CLONE = "the clone plugin's own conversation"
    CLOSED = "the end of the connection"


class Sender(Enum):
    """Who speaks."""

    REPLICA = "the replica"
    SOURCE = "the source"


class Message(Enum):
    """What a packet is, as far as transitions depend on it."""

    GREETING = auto()
    SSL_REQUEST = auto()
    LOGIN = auto()
    OK = auto()
    ERROR = auto()
    AUTH_SWITCH = auto()
    OLD_AUTH_SWITCH = auto()
    AUTH_MORE_DATA = auto()
    AUTH_NEXT_FACTOR = auto()
    FAST_AUTH_OK = auto()
    AUTH_RESPONSE = auto()
    COMMAND = auto()
    CHANGE_USER = auto()
    BINLOG_DUMP = auto()
    CLONE = auto()
    QUIT = auto()
    COMMAND_REPLY = auto()
    EVENT = auto()
    STREAM_END = auto()
    SEMI_SYNC_ACK = auto()
    CLONE_DATA = auto()


TRANSITIONS: dict[tuple[Phase, Sender, Message], Phase] = {
    (Phase.GREETING, Sender.SOURCE, Message.GREETING): Phase.LOGIN,
    (Phase.GREETING, Sender.SOURCE, Message.ERROR): Phase.CLOSED,
    (Phase.LOGIN, Sender.REPLICA, Message.SSL_REQUEST): Phase.TLS,
    (Phase.LOGIN, Sender.REPLICA, Message.LOGIN): Phase.AUTH_REPLY,
    (Phase.LOGIN, Sender.SOURCE, Message.ERROR): Phase.CLOSED,
    # TLS is left by `tls_established`, for no packet travels in it.
    (Phase.LOGIN_OVER_TLS, Sender.REPLICA, Message.LOGIN): Phase.AUTH_REPLY,
    (Phase.LOGIN_OVER_TLS, Sender.SOURCE, Message.ERROR): Phase.CLOSED,
    (Phase.AUTH_REPLY, Sender.SOURCE, Message.OK): Phase.COMMAND,
    (Phase.AUTH_REPLY, Sender.SOURCE, Message.ERROR): Phase.CLOSED,
    (Phase.AUTH_REPLY, Sender.SOURCE, Message.FAST_AUTH_OK): Phase.AUTH_REPLY,
    (Phase.AUTH_REPLY, Sender.SOURCE, Message.AUTH_MORE_DATA): Phase.AUTH_RESPONSE,
    (Phase.AUTH_REPLY, Sender.SOURCE, Message.AUTH_SWITCH): Phase.AUTH_RESPONSE,
    (Phase.AUTH_REPLY, Sender.SOURCE, Message.OLD_AUTH_SWITCH): Phase.AUTH_RESPONSE,
    (Phase.AUTH_REPLY, Sender.SOURCE, Message.AUTH_NEXT_FACTOR): Phase.AUTH_RESPONSE,
    (Phase.AUTH_RESPONSE, Sender.REPLICA, Message.AUTH_RESPONSE): Phase.AUTH_REPLY,
    (Phase.AUTH_RESPONSE, Sender.SOURCE, Message.ERROR): Phase.CLOSED,
    (Phase.COMMAND, Sender.REPLICA, Message.COMMAND): Phase.COMMAND,
    (Phase.COMMAND, Sender.REPLICA, Message.CHANGE_USER): Phase.AUTH_REPLY,
    (Phase.COMMAND, Sender.REPLICA, Message.BINLOG_DUMP): Phase.STREAM,
    (Phase.COMMAND, Sender.REPLICA, Message.CLONE): Phase.CLONE,
    (Phase.COMMAND, Sender.REPLICA, Message.QUIT): Phase.CLOSED,
    (Phase.COMMAND, Sender.SOURCE, Message.COMMAND_REPLY): Phase.COMMAND,
    (Phase.STREAM, Sender.SOURCE, Message.EVENT): Phase.STREAM,
    (Phase.STREAM, Sender.SOURCE, Message.STREAM_END): Phase.CLOSED,
    (Phase.STREAM, Sender.SOURCE, Message.ERROR): Phase.CLOSED,
    (Phase.STREAM, Sender.REPLICA, Message.SEMI_SYNC_ACK): Phase.STREAM,
    (Phase.STREAM, Sender.REPLICA, Message.QUIT): Phase.CLOSED,
    (Phase.CLONE, Sender.REPLICA, Message.CLONE_DATA): Phase.CLONE,
    (Phase.CLONE, Sender.SOURCE, Message.CLONE_DATA): Phase.CLONE,
    # A polite replica says goodbye to a source that has ended the stream.
    (Phase.CLOSED, Sender.REPLICA, Message.QUIT): Phase.CLOSED,
}


class ConnectionPhases:
    """Where one connection stands, from its first packet on."""

    __slots__ = ("_phase",)

    def __init__(self) -> None:
        self._phase = Phase.GREETING

    @property
    def phase(self) -> Phase:
        """What is awaited now."""
        return self._phase

    def observe(self, sender: Sender, payload: Payload) -> Message:
        """Take the next packet and move on.

        Args:
            sender: Who sent it.
            payload: Its whole payload; of a packet of the stream, more than eight bytes of it are enough.

        Returns:
            What the packet was.

        Raises:
            UnexpectedPacket: The table has no such message here. The phase stays.
            TruncatedPacket: The payload is empty where an empty one says nothing. The phase stays.
        """
        message = classify(self._phase, sender, payload)
        following = TRANSITIONS.get((self._phase, sender, message))
        if following is None:
            raise _unexpected(self._phase, sender, payload, f"{message.name}, ")
        self._phase = following
        return message

    def tls_established(self) -> None:
        """Note that the TLS handshake has succeeded.

        Raises:
            UnexpectedPacket: No request for TLS came before it.
        """
        if self._phase is not Phase.TLS:
            raise UnexpectedPacket(f"waiting for {self._phase.value}, and a TLS handshake ended")
        self._phase = Phase.LOGIN_OVER_TLS


def classify(phase: Phase, sender: Sender, payload: Payload) -> Message:
    """Say what a packet is, given what is awaited and who speaks.

    Raises:
        UnexpectedPacket: This sender may say nothing now, or nothing that begins so.
        TruncatedPacket: The payload is empty where an empty one says nothing.
    """
    classifier = _CLASSIFIERS.get((phase, sender))
    if classifier is None:
        raise _unexpected(phase, sender, payload)
    if not payload and (phase, sender) not in _MAY_BE_EMPTY:
        raise TruncatedPacket(f"waiting for {phase.value}, and {sender.value} sent an empty packet")
    message = classifier(payload)
    if message is None:
        raise _unexpected(phase, sender, payload)
    return message


def _unexpected(phase: Phase, sender: Sender, payload: Payload, named: str = "") -> UnexpectedPacket:
    beginning = f"a packet beginning with 0x{payload[0]:02X}" if payload else "an empty packet"
    return UnexpectedPacket(f"waiting for {phase.value}, and {sender.value} sent {named}{beginning}")


def _greeting(payload: Payload) -> Message | None:
    if is_err(payload):
        return Message.ERROR
    return Message.GREETING if payload[0] == PROTOCOL_VERSION else None


def _login(payload: Payload) -> Message:
    return Message.SSL_REQUEST if is_ssl_request(payload) else Message.LOGIN


def _login_over_tls(_payload: Payload) -> Message:
    # The same capabilities come a second time, usually with CLIENT_SSL; here the bit asks for nothing.
    return Message.LOGIN


def _auth_reply(payload: Payload) -> Message:
    first = payload[0]
    if first == OK_HEADER:
        return Message.OK
    if is_err(payload):
        return Message.ERROR
    if first == AUTH_SWITCH_HEADER:
        return Message.OLD_AUTH_SWITCH if len(payload) == 1 else Message.AUTH_SWITCH
    if bytes(payload) == _FAST_AUTH_OK:
        return Message.FAST_AUTH_OK
    if first == AUTH_NEXT_FACTOR_HEADER and b"\x00" in bytes(payload):
        return Message.AUTH_NEXT_FACTOR
    # MariaDB sends a plugin's data as it is, unless it could be taken for one of the first three.
    return Message.AUTH_MORE_DATA


def _auth_response(_payload: Payload) -> Message:
    return Message.AUTH_RESPONSE


def _command(payload: Payload) -> Message:
    return _COMMANDS_THAT_LEAD_ELSEWHERE.get(command_of(payload), Message.COMMAND)


def _command_reply(_payload: Payload) -> Message:
    return Message.COMMAND_REPLY


def _stream(payload: Payload) -> Message | None:
    if payload[0] == OK_HEADER:
        return Message.EVENT
    if is_err(payload):
        return Message.ERROR
    return Message.STREAM_END if is_eof(payload) else None


def _stream_backwards(payload: Payload) -> Message | None:
    if payload[0] == SEMI_SYNC_MAGIC:
        return Message.SEMI_SYNC_ACK
    return _quit(payload)


def _quit(payload: Payload) -> Message | None:
    return Message.QUIT if payload[0] == Command.COM_QUIT and len(payload) == 1 else None


def _clone(_payload: Payload) -> Message:
    return Message.CLONE_DATA


_FAST_AUTH_OK = bytes([AUTH_MORE_DATA_HEADER, CACHING_SHA2_FAST_OK])

# An empty authentication response is how an empty password is answered.
_MAY_BE_EMPTY = frozenset(
    {
        (Phase.AUTH_RESPONSE, Sender.REPLICA),
        (Phase.COMMAND, Sender.SOURCE),
        (Phase.CLONE, Sender.REPLICA),
        (Phase.CLONE, Sender.SOURCE),
    }
)

_COMMANDS_THAT_LEAD_ELSEWHERE = {
    Command.COM_CHANGE_USER: Message.CHANGE_USER,
    Command.COM_BINLOG_DUMP: Message.BINLOG_DUMP,
    Command.COM_BINLOG_DUMP_GTID: Message.BINLOG_DUMP,
    Command.COM_CLONE: Message.CLONE,
    Command.COM_QUIT: Message.QUIT,
}

_CLASSIFIERS: dict[tuple[Phase, Sender], Callable[[Payload], Message | None]] = {
    (Phase.GREETING, Sender.SOURCE): _greeting,
    (Phase.LOGIN, Sender.REPLICA): _login,
    (Phase.LOGIN, Sender.SOURCE): _auth_reply,
    (Phase.LOGIN_OVER_TLS, Sender.REPLICA): _login_over_tls,
    (Phase.LOGIN_OVER_TLS, Sender.SOURCE): _auth_reply,
    (Phase.AUTH_REPLY, Sender.SOURCE): _auth_reply,
    (Phase.AUTH_RESPONSE, Sender.REPLICA): _auth_response,
    (Phase.AUTH_RESPONSE, Sender.SOURCE): _auth_reply,
    (Phase.COMMAND, Sender.REPLICA): _command,
    (Phase.COMMAND, Sender.SOURCE): _command_reply,
    (Phase.STREAM, Sender.SOURCE): _stream,
    (Phase.STREAM, Sender.REPLICA): _stream_backwards,
    (Phase.CLONE, Sender.REPLICA): _clone,
    (Phase.CLONE, Sender.SOURCE): _clone,
    (Phase.CLOSED, Sender.REPLICA): _quit,
}
