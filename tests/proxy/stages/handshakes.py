"""A TLS handshake with Python's own ssl as the other end, and what became of it."""

import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import trio

from proxy.legs.leg import Leg
from proxy.openssl import (
    Context,
    Negotiated,
    TlsEngine,
    TlsFailed,
)
from proxy.outcomes import Reason
from proxy.stages.tls import _refused_handshake, _refused_source
from tests.proxy.pki import Leaf, Pki

TWELVE, THIRTEEN = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@dataclass
class Outcome:
    """What became of a handshake, as either end saw it."""

    negotiated: Negotiated | None = None
    failed: TlsFailed | None = None
    peer_error: ssl.SSLError | OSError | None = None
    peer_version: str | None = None
    peer_cipher: str | None = None

    @property
    def reason(self) -> Reason:
        assert self.failed is not None, self
        return _refused_handshake(self.failed).reason

    @property
    def source_reason(self) -> Reason:
        assert self.failed is not None, self
        return _refused_source(self.failed, "name").reason


Prepare = Callable[[socket.socket], None]


def loopback_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    return one, other


async def shake(engine: TlsEngine, sock: socket.socket) -> Negotiated:
    leg = Leg(sock, "replica")
    while (want := engine.shake_hands()) is not None:
        await leg.wait(want)
    return engine.negotiated(0.0)


async def read_to_end(engine: TlsEngine, sock: socket.socket) -> None:
    leg = Leg(sock, "replica")
    while (received := engine.read_into(memoryview(bytearray(16)))) != 0:
        if received < 0:
            await leg.wait(received)


async def meet(
    peer_context: ssl.SSLContext,
    make_engine: Callable[[socket.socket], TlsEngine],
    *,
    server_side: bool = False,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
    then: Callable[[ssl.SSLSocket], None] | None = None,
    in_order: bool = False,
) -> Outcome:
    """One handshake between Binlock's engine and a blocking peer in a thread.

    A session that does not end `in_order`, with a close_notify from either side, is one that nobody may resume.
    """
    ours, theirs = loopback_pair()
    outcome = Outcome()
    theirs.settimeout(60)

    def peer() -> None:
        try:
            with peer_context.wrap_socket(
                theirs, server_side=server_side, server_hostname=name, session=session
            ) as tls:
                outcome.peer_version, outcome.peer_cipher = tls.version(), (tls.cipher() or ("",))[0]
                # A server's refusal of the certificate comes after the handshake in TLS 1.3.
                if tls.recv(1) and then is not None:
                    then(tls)
                if in_order:
                    tls.unwrap()
        except (ssl.SSLError, OSError) as error:
            outcome.peer_error = error

    with trio.fail_after(60), contextlib.closing(ours), contextlib.closing(theirs):
        ours.setblocking(False)
        engine = make_engine(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, peer)
            try:
                outcome.negotiated = await shake(engine, ours)
                engine.write(memoryview(b"x"))
            except TlsFailed as error:
                outcome.failed = error
            if in_order and outcome.failed is None:
                await read_to_end(engine, ours)
            if outcome.failed is not None or then is None or in_order:
                engine.say_goodbye()
                with contextlib.suppress(OSError):
                    ours.shutdown(socket.SHUT_WR)
    return outcome


async def as_server(context: Context, peer: ssl.SSLContext, **options: object) -> Outcome:
    return await meet(peer, lambda sock: TlsEngine.accepting(context, sock), **options)  # type: ignore[arg-type]


async def as_client(context: Context, peer: ssl.SSLContext, name: str = "localhost") -> Outcome:
    return await meet(peer, lambda sock: TlsEngine.connecting(context, sock, name), server_side=True)


def replica(pki: Pki, leaf: Leaf | None = None, *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = pki.client(leaf or pki.replica)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context
