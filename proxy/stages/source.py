"""Stage 2, source: dial the source and read its greeting.

The source speaks first, so it is dialled before anything is known of the replica but its address. Through a unix
socket or the loopback the source's host cache plays no part, and a stranger cannot get Binlock's address blocked.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

import trio

from proxy.configuration.addresses import Address, UnixAddress
from proxy.legs.leg import Leg
from proxy.legs.packets import PacketStream
from proxy.outcomes import LegClosed, Reason, SessionRefused, Stage
from proxy.stages.admission import AdmittedPeer
from wire.errors import WireError
from wire.greeting import HandshakeV10
from wire.phases import Sender
from wire.results import ErrPacket, is_err


@dataclass(frozen=True, slots=True)
class GreetingSource:
    """Proof that a source answered on behalf of an admitted peer. Only `connect_source` makes one.

    Attributes:
        payload: the greeting's bytes as they came.
    """

    peer: AdmittedPeer
    stream: PacketStream
    greeting: HandshakeV10
    payload: bytes


async def connect_source(
    peer: AdmittedPeer, address: Address, *, timeout_seconds: float, preamble: bytes = b""
) -> GreetingSource:
    """Dials the source for `peer` and waits for its greeting. The caller closes the leg.

    Args:
        peer: the proof of the stage before.
        address: of the source.
        timeout_seconds: for all of it.
        preamble: what the source is sent first: a PROXY header, or nothing.

    Raises:
        SessionRefused: the source is down, silent, speaks something else, or turns us away with an ERR, whose
            number and text then go to the replica.
    """
    try:
        with trio.fail_after(timeout_seconds):
            leg = Leg(await _dial(address), "source")
            try:
                await leg.send_all(preamble)
                return await _read_greeting(peer, PacketStream(leg, peer=Sender.SOURCE))
            except BaseException:
                leg.close()
                raise
    except trio.TooSlowError as error:
        raise _unreachable(address, f"did not answer within {timeout_seconds:g} s") from error
    except (OSError, LegClosed) as error:
        raise _unreachable(address, _root_cause(error)) from error
    except WireError as error:
        raise _unreachable(address, f"does not speak the MySQL protocol: {error}") from error


async def _dial(address: Address) -> socket.socket:
    if isinstance(address, UnixAddress):
        stream = await trio.open_unix_socket(address.path)
    else:
        stream = await trio.open_tcp_stream(address.host, address.port)
    return socket.socket(fileno=stream.socket.detach())


async def _read_greeting(peer: AdmittedPeer, stream: PacketStream) -> GreetingSource:
    payload = await stream.receive()
    if is_err(payload):
        answer = ErrPacket.parse(payload)
        refusal = SessionRefused(
            Stage.SOURCE,
            Reason.SOURCE_REFUSED,
            f"the source greets with error {answer.code}: {answer.message.decode(errors='replace')}",
        )
        refusal.answer = answer
        raise refusal
    return GreetingSource(peer, stream, HandshakeV10.parse(payload), payload)


def _root_cause(error: BaseException) -> str:
    # trio hides what the kernel said for each address behind "all attempts to connect failed".
    while error.__cause__ is not None:
        error = error.__cause__
    return "; ".join(str(inner) for inner in error.exceptions) if isinstance(error, BaseExceptionGroup) else str(error)


def _unreachable(address: Address, why: str) -> SessionRefused:
    return SessionRefused(
        Stage.SOURCE,
        Reason.SOURCE_UNREACHABLE,
        f"source {address}: {why}",
        told="the source behind this route cannot be reached; see Binlock's log",
    )
