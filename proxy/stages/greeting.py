"""Stage 3, greeting: the source's own greeting goes to the replica, with one bit of it decided here.

Thread id, nonce and plugin stay: a MariaDB replica kills its connection by the thread id it was greeted with, and
every challenge-response plugin signs the nonce.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.legs.packets import PacketStream
from proxy.outcomes import Reason, SessionRefused, Stage
from proxy.stages.source import GreetingSource
from wire.capabilities import Capability
from wire.greeting import with_tls_offered


@dataclass(frozen=True, slots=True)
class GreetedReplica:
    """Proof that the replica has the source's greeting. Only `relay_greeting` makes one."""

    source: GreetingSource
    replica: PacketStream


async def relay_greeting(
    source: GreetingSource, *, replica: PacketStream, offers_tls: bool, source_needs_tls: bool
) -> GreetedReplica:
    """Sends the greeting on.

    Args:
        source: the proof of the stage before.
        replica: the accepted connection.
        offers_tls: whether the replica leg speaks TLS, whatever the source itself can do.
        source_needs_tls: whether the source leg must.

    Raises:
        SessionRefused: the source leg must be TLS, and the source does not offer it. Nobody has seen a greeting yet.
    """
    if source_needs_tls and not source.greeting.capabilities & Capability.CLIENT_SSL:
        raise SessionRefused(
            Stage.GREETING,
            Reason.SOURCE_WITHOUT_TLS,
            "the source does not offer TLS, or something on the way has taken the offer out of its greeting",
            told="the source does not offer TLS, which this route requires",
        )
    await replica.send(with_tls_offered(source.payload, offers_tls))
    return GreetedReplica(source, replica)
