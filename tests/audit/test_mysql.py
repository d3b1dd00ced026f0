"""The door: nothing is said to a server that offers no TLS."""

from __future__ import annotations

import socket
import threading

import pytest

from audit.dsn import Target
from audit.errors import ServerUnreadable
from audit.mysql import Session
from wire.capabilities import Capability
from wire.framing import encode_packet
from wire.greeting import HandshakeV10

_ALL = Capability((1 << 25) - 1)


def greet(capabilities: Capability) -> tuple[int, list[bytes]]:
    """A server that greets once, and what it is told."""
    listener = socket.create_server(("127.0.0.1", 0))
    told: list[bytes] = []
    greeting = HandshakeV10(
        server_version=b"8.0.0",
        thread_id=1,
        capabilities=capabilities,
        nonce=b"n" * 20,
        plugin=b"caching_sha2_password",
    )

    def serve() -> None:
        with listener, listener.accept()[0] as peer:
            peer.settimeout(60)
            peer.sendall(encode_packet(greeting.serialize(), 0))
            told.append(peer.recv(4096))

    thread = threading.Thread(target=serve)
    thread.start()
    told_after = told
    _threads.append(thread)
    return int(listener.getsockname()[1]), told_after


_threads: list[threading.Thread] = []


@pytest.mark.parametrize("is_unverified", [False, True])
def test_a_greeting_without_tls_is_not_answered(is_unverified: bool) -> None:
    port, told = greet(_ALL & ~Capability.CLIENT_SSL)
    with pytest.raises(ServerUnreadable, match="offers no TLS"):
        Session(Target(host="127.0.0.1", port=port, user="u", is_unverified=is_unverified), "secret")
    _threads.pop().join(10)
    assert told == [b""]


def test_the_look_can_fail_as_plaintext_that_is_asked_for_is_spoken() -> None:
    port, told = greet(_ALL & ~Capability.CLIENT_SSL)
    with pytest.raises(ServerUnreadable):
        Session(Target(host="127.0.0.1", port=port, user="u", is_plaintext=True), "secret")
    _threads.pop().join(10)
    assert b"u\0" in told[0]


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ServerUnreadable, match=f"127.0.0.1:{port}"):
        Session(Target(host="127.0.0.1", port=port, user="u"), "")


COLUMN = b"\x03def\x00\x00\x00\x01v\x00\x0c\x2d\x00\xff\x00\x00\x00\xfd\x00\x00\x00\x00\x00"
EOF = b"\xfe\x00\x00\x02\x00"


@pytest.mark.parametrize(
    "answer",
    [
        (b"\xfb/etc/passwd",),  # LOAD DATA LOCAL: it asks for a file of this host
        (b"\xff",),
        (b"\x01", b"\x03def"),
        (b"\x01", COLUMN, b"no end of columns"),
        (b"\x01", COLUMN, EOF, b"\x02\xff\xff"),  # no UTF-8
        (b"\x01", COLUMN, EOF, b"\xfc\xff\xff"),  # longer than it is
        (b"\xfd\xff\xff\xff",),
        (),
    ],
    ids=["file", "error", "column", "columns", "text", "length", "count", "silence"],
)
def test_an_answer_against_the_protocol_is_told_and_answers_nothing(answer: tuple[bytes, ...]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    greeting = HandshakeV10(
        server_version=b"8.0.0",
        thread_id=1,
        capabilities=_ALL & ~Capability.CLIENT_SSL,
        nonce=b"n" * 20,
        plugin=b"mysql_native_password",
    )
    told: list[bytes] = []

    def serve() -> None:
        with listener, listener.accept()[0] as peer:
            peer.settimeout(60)
            peer.sendall(encode_packet(greeting.serialize(), 0))
            sequence = 2
            while b"version()" not in (said := peer.recv(4096)):  # the login, and what a client sets up
                peer.sendall(encode_packet(b"\0\0\0\2\0\0\0", sequence))
                sequence = 1
                if not said:
                    return
            for number, payload in enumerate(answer, 1):
                peer.sendall(encode_packet(payload, number))
            peer.shutdown(socket.SHUT_WR)
            told.append(peer.recv(4096))

    thread = threading.Thread(target=serve)
    thread.start()
    target = Target(host="127.0.0.1", port=int(listener.getsockname()[1]), user="u", is_plaintext=True)
    with Session(target, "secret") as session, pytest.raises(ServerUnreadable, match=target.name):
        session.rows("SELECT version()")
    thread.join(10)
    assert told[0] in {b"", encode_packet(b"", len(answer) + 1), encode_packet(b"\x01", 0)}  # COM_QUIT at most
