"""Conversations as they happen, told packet by packet, and conversations that must not happen."""

from collections.abc import Iterator

import pytest

from tests.wire.vectors import (
    ACCESS_DENIED,
    BINLOG_LOST,
    END,
    MARIADB_11_GREETING,
    MARIADB_LOGIN,
    MYSQL_8_GREETING,
    MYSQL_LOGIN,
    MYSQL_LOGIN_OVER_TLS,
    MYSQL_SSL_REQUEST,
    OK,
    OTHER_NONCE,
    SCRAMBLE_20,
    SCRAMBLE_32,
    TOO_MANY_CONNECTIONS,
)
from wire.errors import TruncatedPacket, UnexpectedPacket
from wire.phases import TRANSITIONS, ConnectionPhases, Message, Phase, Sender, classify

REPLICA = Sender.REPLICA
SOURCE = Sender.SOURCE

Step = tuple[Sender, bytes, Message, Phase]
TLS = "TLS established"

FAST = b"\x01\x03"
FULL = b"\x01\x04"
PUBLIC_KEY = b"\x01-----BEGIN PUBLIC KEY-----"
REQUEST_PUBLIC_KEY = b"\x02"
CIPHERTEXT = bytes(256)
CLEARTEXT = b"hunter2\x00"
SWITCH = b"\xfemysql_native_password\x00" + OTHER_NONCE + b"\x00"
QUERY = b"\x03SELECT UNIX_TIMESTAMP()"
REGISTER = b"\x15\x02\x00\x00\x00\x00\x00\x00\xea\x0c" + bytes(8)
DUMP = b"\x12\x04\x00\x00\x00\x00\x00\x02\x00\x00\x00binlog.000001"
DUMP_GTID = b"\x1e\x04\x00\x02\x00\x00\x00" + bytes(4) + b"\x04" + bytes(7) + b"\x08\x00\x00\x00" + bytes(8)
EVENT = b"\x00" + bytes(9) + b"\x13" + bytes(9)
ACK = b"\xef\x2a\x01\x00\x00\x00\x00\x00\x00binlog.000001"
QUIT = b"\x01"

greeting: Step = (SOURCE, MYSQL_8_GREETING, Message.GREETING, Phase.LOGIN)
login: Step = (REPLICA, MYSQL_LOGIN, Message.LOGIN, Phase.AUTH_REPLY)
logged_in: Step = (SOURCE, OK, Message.OK, Phase.COMMAND)
refused: Step = (SOURCE, ACCESS_DENIED, Message.ERROR, Phase.CLOSED)
full: Step = (SOURCE, FULL, Message.AUTH_MORE_DATA, Phase.AUTH_RESPONSE)
quit_: Step = (REPLICA, QUIT, Message.QUIT, Phase.CLOSED)


def response(payload: bytes) -> Step:
    return (REPLICA, payload, Message.AUTH_RESPONSE, Phase.AUTH_REPLY)


def command(payload: bytes) -> Step:
    return (REPLICA, payload, Message.COMMAND, Phase.COMMAND)


def reply(payload: bytes) -> Step:
    return (SOURCE, payload, Message.COMMAND_REPLY, Phase.COMMAND)


PLAIN_LOGIN: list[Step | str] = [greeting, login, logged_in]
TLS_LOGIN: list[Step | str] = [
    greeting,
    (REPLICA, MYSQL_SSL_REQUEST, Message.SSL_REQUEST, Phase.TLS),
    TLS,
    (REPLICA, MYSQL_LOGIN_OVER_TLS, Message.LOGIN, Phase.AUTH_REPLY),
]
DUMPING: list[Step | str] = [
    command(QUERY),
    reply(b"\x01"),
    reply(b"\x03def\x00\x00\x00"),
    reply(b"\x0a1760000000"),
    reply(END),
    command(REGISTER),
    reply(OK),
    (REPLICA, DUMP_GTID, Message.BINLOG_DUMP, Phase.STREAM),
    (SOURCE, EVENT, Message.EVENT, Phase.STREAM),
    (SOURCE, EVENT, Message.EVENT, Phase.STREAM),
]

CONVERSATIONS: dict[str, list[Step | str]] = {
    "plaintext login, mysql_native_password": [
        (SOURCE, MARIADB_11_GREETING, Message.GREETING, Phase.LOGIN),
        (REPLICA, MARIADB_LOGIN, Message.LOGIN, Phase.AUTH_REPLY),
        logged_in,
        quit_,
    ],
    "login over TLS": [*TLS_LOGIN, logged_in, quit_],
    "TLS asked for in four bytes": [
        greeting,
        (REPLICA, MYSQL_SSL_REQUEST[:4], Message.SSL_REQUEST, Phase.TLS),
        TLS,
        (REPLICA, MYSQL_LOGIN_OVER_TLS, Message.LOGIN, Phase.AUTH_REPLY),
        logged_in,
    ],
    "the second login may come without CLIENT_SSL": [*TLS_LOGIN[:3], login, logged_in],
    "caching_sha2_password, known to the cache": [
        *TLS_LOGIN,
        (SOURCE, FAST, Message.FAST_AUTH_OK, Phase.AUTH_REPLY),
        logged_in,
    ],
    "caching_sha2_password, known to the cache, and yet refused": [
        *TLS_LOGIN,
        (SOURCE, FAST, Message.FAST_AUTH_OK, Phase.AUTH_REPLY),
        refused,
    ],
    "caching_sha2_password in full over TLS": [*TLS_LOGIN, full, response(CLEARTEXT), logged_in],
    "caching_sha2_password in full with RSA": [
        greeting,
        login,
        full,
        response(REQUEST_PUBLIC_KEY),
        (SOURCE, PUBLIC_KEY, Message.AUTH_MORE_DATA, Phase.AUTH_RESPONSE),
        response(CIPHERTEXT),
        logged_in,
    ],
    "caching_sha2_password in full with a key file": [greeting, login, full, response(CIPHERTEXT), logged_in],
    "switch of plugin": [
        greeting,
        login,
        (SOURCE, SWITCH, Message.AUTH_SWITCH, Phase.AUTH_RESPONSE),
        response(SCRAMBLE_20),
        logged_in,
    ],
    "switch of plugin, and an empty password": [
        greeting,
        login,
        (SOURCE, SWITCH, Message.AUTH_SWITCH, Phase.AUTH_RESPONSE),
        response(b""),
        refused,
    ],
    "switch to caching_sha2_password, known to the cache": [
        greeting,
        login,
        (
            SOURCE,
            b"\xfecaching_sha2_password\x00" + OTHER_NONCE + b"\x00",
            Message.AUTH_SWITCH,
            Phase.AUTH_RESPONSE,
        ),
        response(SCRAMBLE_32),
        (SOURCE, FAST, Message.FAST_AUTH_OK, Phase.AUTH_REPLY),
        logged_in,
    ],
    "request for a password hash from before 4.1": [
        greeting,
        login,
        (SOURCE, b"\xfe", Message.OLD_AUTH_SWITCH, Phase.AUTH_RESPONSE),
        response(b"EDCBA@\x5f\x00"),
        logged_in,
    ],
    "parsec, which MariaDB sends without escaping it": [
        greeting,
        login,
        (SOURCE, b"\xfeparsec\x00" + bytes(range(32)), Message.AUTH_SWITCH, Phase.AUTH_RESPONSE),
        response(b""),
        (SOURCE, b"P\x00" + bytes(18), Message.AUTH_MORE_DATA, Phase.AUTH_RESPONSE),
        response(bytes(96)),
        logged_in,
    ],
    "two factors": [
        *TLS_LOGIN,
        (SOURCE, FAST, Message.FAST_AUTH_OK, Phase.AUTH_REPLY),
        (
            SOURCE,
            b"\x02authentication_webauthn_client\x00\x00",
            Message.AUTH_NEXT_FACTOR,
            Phase.AUTH_RESPONSE,
        ),
        response(b"assertion"),
        logged_in,
    ],
    "error in place of a greeting": [(SOURCE, TOO_MANY_CONNECTIONS, Message.ERROR, Phase.CLOSED)],
    "error in answer to the login": [greeting, login, refused],
    "error over TLS": [*TLS_LOGIN, refused],
    "the source grows tired of waiting for the login": [greeting, refused],
    "the source grows tired of waiting for the login over TLS": [*TLS_LOGIN[:3], refused],
    "the source grows tired of waiting for the password": [*TLS_LOGIN, full, refused],
    "registration and dump": [*PLAIN_LOGIN, *DUMPING],
    "MariaDB's dump": [
        *PLAIN_LOGIN,
        (REPLICA, DUMP, Message.BINLOG_DUMP, Phase.STREAM),
        (SOURCE, EVENT, Message.EVENT, Phase.STREAM),
    ],
    "semi-synchronous replication": [
        *TLS_LOGIN,
        logged_in,
        *DUMPING,
        (SOURCE, b"\x00\xef\x01" + EVENT[1:], Message.EVENT, Phase.STREAM),
        (REPLICA, ACK, Message.SEMI_SYNC_ACK, Phase.STREAM),
        (SOURCE, b"\x00\xef\x00" + EVENT[1:], Message.EVENT, Phase.STREAM),
        quit_,
    ],
    "dump of a binary log that is gone": [
        *PLAIN_LOGIN,
        (REPLICA, DUMP, Message.BINLOG_DUMP, Phase.STREAM),
        (SOURCE, BINLOG_LOST, Message.ERROR, Phase.CLOSED),
    ],
    "dump that does not wait, and a polite goodbye": [
        *PLAIN_LOGIN,
        (REPLICA, DUMP, Message.BINLOG_DUMP, Phase.STREAM),
        (SOURCE, EVENT, Message.EVENT, Phase.STREAM),
        (SOURCE, END, Message.STREAM_END, Phase.CLOSED),
        quit_,
    ],
    "commands that do not wait for their answers": [
        *PLAIN_LOGIN,
        command(QUERY),
        command(b"\x0e"),
        reply(OK),
        reply(OK),
    ],
    "a command that fails": [*PLAIN_LOGIN, command(QUERY), reply(ACCESS_DENIED), command(QUERY)],
    "change of user": [
        *PLAIN_LOGIN,
        (REPLICA, b"\x11other\x00\x00", Message.CHANGE_USER, Phase.AUTH_REPLY),
        (SOURCE, SWITCH, Message.AUTH_SWITCH, Phase.AUTH_RESPONSE),
        response(SCRAMBLE_20),
        logged_in,
        command(QUERY),
    ],
    "clone": [
        *PLAIN_LOGIN,
        (REPLICA, b"\x20", Message.CLONE, Phase.CLONE),
        (SOURCE, OK, Message.CLONE_DATA, Phase.CLONE),
        (REPLICA, b"\x01\x00\x01\x00\x00", Message.CLONE_DATA, Phase.CLONE),
        (SOURCE, b"\x05", Message.CLONE_DATA, Phase.CLONE),
    ],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_follows_a_conversation(name: str) -> None:
    connection = ConnectionPhases()
    for step in CONVERSATIONS[name]:
        if isinstance(step, str):
            connection.tls_established()
            assert connection.phase is Phase.LOGIN_OVER_TLS
        else:
            sender, payload, message, phase = step
            assert connection.observe(sender, payload) is message
            assert connection.phase is phase


def test_a_connection_begins_with_the_greeting() -> None:
    assert ConnectionPhases().phase is Phase.GREETING


IMPOSSIBLE: dict[str, tuple[list[Step | str], Sender, bytes]] = {
    "the replica speaks first": ([], REPLICA, MYSQL_LOGIN),
    "something else than MySQL greets": ([], SOURCE, b"SSH-2.0-OpenSSH_9.2"),
    "a greeting of another version": ([], SOURCE, b"\x09" + MYSQL_8_GREETING[1:]),
    "two greetings": ([greeting], SOURCE, MYSQL_8_GREETING),
    "success before any login": ([greeting], SOURCE, OK),
    "a packet inside the TLS handshake": (TLS_LOGIN[:2], REPLICA, MYSQL_LOGIN),
    "an error inside the TLS handshake": (TLS_LOGIN[:2], SOURCE, ACCESS_DENIED),
    "success before the login over TLS": (TLS_LOGIN[:3], SOURCE, OK),
    "a command before the login is answered": (PLAIN_LOGIN[:2], REPLICA, QUERY),
    "a second login": (PLAIN_LOGIN[:2], REPLICA, MYSQL_LOGIN),
    "a dump that does not wait for the login's answer": (PLAIN_LOGIN[:2], REPLICA, DUMP),
    "the replica answers a fast success": (
        [*TLS_LOGIN, (SOURCE, FAST, Message.FAST_AUTH_OK, Phase.AUTH_REPLY)],
        REPLICA,
        CLEARTEXT,
    ),
    "success while the password is awaited": ([*TLS_LOGIN, full], SOURCE, OK),
    "another question while the password is awaited": ([*TLS_LOGIN, full], SOURCE, SWITCH),
    "a command that does not exist": (PLAIN_LOGIN, REPLICA, b"\x7fwhat"),
    "an acknowledgement before the stream": (PLAIN_LOGIN, REPLICA, ACK),
    "a query during the stream": ([*PLAIN_LOGIN, *DUMPING], REPLICA, QUERY),
    "a change of user during the stream": ([*PLAIN_LOGIN, *DUMPING], REPLICA, b"\x11root\x00\x00"),
    "a second dump during the stream": ([*PLAIN_LOGIN, *DUMPING], REPLICA, DUMP),
    "a goodbye with something behind it": ([*PLAIN_LOGIN, *DUMPING], REPLICA, QUIT + b"x"),
    "no event in the stream": ([*PLAIN_LOGIN, *DUMPING], SOURCE, b"\x0a\x00\x00"),
    "an end too long to be one": ([*PLAIN_LOGIN, *DUMPING], SOURCE, b"\xfe" + bytes(8)),
    "the source speaks after the end": ([*PLAIN_LOGIN, quit_], SOURCE, OK),
    "the replica speaks after the end": ([*PLAIN_LOGIN, quit_], REPLICA, QUERY),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_refuses_what_must_not_happen(name: str) -> None:
    before, sender, payload = IMPOSSIBLE[name]
    connection = arrived(before)
    phase = connection.phase
    with pytest.raises(UnexpectedPacket):
        connection.observe(sender, payload)
    assert connection.phase is phase


def test_a_refusal_says_what_was_expected_and_what_came() -> None:
    connection = arrived([*PLAIN_LOGIN, *DUMPING])
    with pytest.raises(UnexpectedPacket) as refusal:
        connection.observe(REPLICA, b"\x03DROP TABLE accounts")
    assert str(refusal.value) == (
        "waiting for the source's events, and the replica's acknowledgements, "
        "and the replica sent a packet beginning with 0x03"
    )


def test_a_refusal_names_the_message_that_came() -> None:
    connection = arrived([*TLS_LOGIN, full])
    with pytest.raises(UnexpectedPacket, match="sent AUTH_SWITCH, a packet beginning with 0xFE"):
        connection.observe(SOURCE, SWITCH)
    with pytest.raises(UnexpectedPacket, match="the source sent an empty packet"):
        arrived(TLS_LOGIN[:2]).observe(SOURCE, b"")


@pytest.mark.parametrize("before", [[], [greeting], PLAIN_LOGIN, TLS_LOGIN])
def test_tls_is_established_only_after_a_request(before: list[Step | str]) -> None:
    connection = arrived(before)
    with pytest.raises(UnexpectedPacket, match="TLS handshake"):
        connection.tls_established()


def test_only_an_authentication_response_may_be_empty_from_the_replica() -> None:
    for phase in (Phase.LOGIN, Phase.LOGIN_OVER_TLS, Phase.COMMAND, Phase.STREAM, Phase.CLOSED):
        with pytest.raises(TruncatedPacket):
            classify(phase, REPLICA, b"")
    assert classify(Phase.AUTH_RESPONSE, REPLICA, b"") is Message.AUTH_RESPONSE


def test_every_phase_is_reached_and_only_closed_and_clone_are_ends() -> None:
    reached = {Phase.GREETING, Phase.LOGIN_OVER_TLS, *TRANSITIONS.values()}
    assert reached == set(Phase)
    left = {phase for (phase, _, _), following in TRANSITIONS.items() if following is not phase}
    assert set(Phase) - left == {Phase.TLS, Phase.CLOSED, Phase.CLONE}


def test_every_message_is_in_the_table() -> None:
    assert {message for _, _, message in TRANSITIONS} == set(Message)


def test_every_row_of_the_table_happens_in_a_conversation() -> None:
    assert set(rows_seen()) == set(TRANSITIONS)


def rows_seen() -> Iterator[tuple[Phase, Sender, Message]]:
    for conversation in CONVERSATIONS.values():
        connection = ConnectionPhases()
        for step in conversation:
            if isinstance(step, str):
                connection.tls_established()
            else:
                yield connection.phase, step[0], connection.observe(step[0], step[1])


def arrived(conversation: list[Step | str]) -> ConnectionPhases:
    connection = ConnectionPhases()
    for step in conversation:
        if isinstance(step, str):
            connection.tls_established()
        else:
            connection.observe(step[0], step[1])
    return connection
