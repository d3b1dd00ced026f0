"""MySQL packets over a leg: framing, sequence ids and phases, enforced while a connection is set up.

Each leg counts its own sequence ids. TLS costs a packet on one leg that the other never sees, and bridged
authentication costs more; because every packet gets the number that its own leg expects next, no offset between
the legs has to be kept. Replicas and sources check these numbers, so does this.
"""

from __future__ import annotations

from proxy.legs.leg import Leg
from wire.errors import MalformedPacket
from wire.framing import HEADER_BYTES, PacketDecoder, encode_packet
from wire.phases import ConnectionPhases, Sender

# A greeting or a login has some hundred bytes; connection attributes may add 64 KiB
# (performance_schema_session_connect_attrs_size). Far below the 16 MiB at which a payload is split.
CONNECTION_PHASE_LIMIT_BYTES = 1 << 20


class PacketStream:
    """One leg of a session during the connection phase.

    Attributes:
        leg: the connection; replaced when TLS begins on it.
        phases: what is awaited on this leg.
    """

    __slots__ = ("_next_sequence_id", "_peer", "_self", "leg", "phases")

    def __init__(self, leg: Leg, *, peer: Sender) -> None:
        self.leg = leg
        self.phases = ConnectionPhases()
        self._peer = peer
        self._self = Sender.SOURCE if peer is Sender.REPLICA else Sender.REPLICA
        self._next_sequence_id = 0

    async def receive(self) -> bytes:
        """The payload of the peer's next packet; reads not one byte beyond it.

        Raises:
            WireError: the packet is not one that may come now, is too large, or is out of order.
            LegClosed: the connection ended.
        """
        decoder = PacketDecoder(CONNECTION_PHASE_LIMIT_BYTES)
        header = await self.leg.receive_exactly(HEADER_BYTES)
        # At once: what is no MySQL packet at all seldom has as many bytes as it seems to announce.
        if header[3] != self._next_sequence_id:
            raise MalformedPacket(f"sequence id {header[3]} where {self._next_sequence_id} was due")
        decoder.feed(header)
        while (packet := decoder.next_packet()) is None:
            decoder.feed(await self.leg.receive_exactly(decoder.bytes_needed()))
        self.phases.observe(self._peer, packet.payload)
        self._next_sequence_id = (packet.sequence_id + 1) % 256
        return packet.payload

    async def send(self, payload: bytes) -> None:
        """Sends a packet with the number that the peer expects.

        Raises:
            WireError: the packet must not be sent in this phase.
            LegClosed: the connection ended.
        """
        self.phases.observe(self._self, payload)
        data = encode_packet(payload, self._next_sequence_id)
        self._next_sequence_id = (self._next_sequence_id + 1) % 256
        await self.leg.send_all(data)
