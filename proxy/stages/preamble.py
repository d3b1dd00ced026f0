"""Who connects: asked of a load balancer in front, told to a source behind, by the PROXY protocol.

A header is taken from the addresses that the route names and from no other, and from those it is required: a peer that
could choose to send one could choose its own address.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from proxy.configuration.addresses import IpAddress, normalised
from proxy.configuration.config import ProxyProtocolVersion
from proxy.legs.leg import Leg
from proxy.protocol.proxy_protocol import Endpoints, PreambleDecoder, serialize_preamble
from proxy.stages.admission import AdmittedPeer, Allowlist


@dataclass(frozen=True, slots=True)
class Caller:
    """Who connects, not yet judged.

    Attributes:
        address, port: the replica's own.
        via: the load balancer in between, or None.
    """

    address: IpAddress
    port: int
    via: str | None = None


def caller_at(host: str, port: int) -> Caller:
    """The peer as the kernel names it."""
    return Caller(normalised(ipaddress.ip_address(host.partition("%")[0])), port)


async def read_preamble(leg: Leg, caller: Caller, load_balancers: Allowlist | None) -> Caller:
    """Takes a load balancer's PROXY header.

    Args:
        leg: the accepted connection.
        caller: its peer.
        load_balancers: those that send one; None if there are none.

    Raises:
        WireError: a load balancer's connection begins with something else.
        LegClosed: the connection ended.
    """
    if load_balancers is None or caller.address not in load_balancers:
        return caller
    decoder = PreambleDecoder()
    while (needed := decoder.bytes_needed()) > 0:
        decoder.feed(await leg.receive_exactly(needed))
    if decoder.endpoints is None:
        return caller
    address, port = decoder.endpoints.source
    return Caller(normalised(address), port, via=str(caller.address))


def preamble_for(peer: AdmittedPeer, version: ProxyProtocolVersion | None, local: Caller) -> bytes:
    """The PROXY header that tells the source who connects; nothing where it is to be told nothing.

    Args:
        peer: the replica.
        version: of the protocol that the source understands.
        local: our own end of the replica's connection.
    """
    if version is None:
        return b""
    return serialize_preamble(Endpoints((peer.address, peer.port), (local.address, local.port)), version)
