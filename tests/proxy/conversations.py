"""What the tests of sessions say to each other: commands, events, and a way to read exactly so much."""

from proxy.outcomes import Ending, Reason
from tests.proxy.fakes import (
    REPLICA_CAPABILITIES,
    PacketPeer,
)
from wire.binlog import EventHeader, RotateEvent, SemiSyncAck, serialize_stream_packet
from wire.commands import BinlogDump, Query, RegisterReplica
from wire.framing import encode_packet

QUERY = Query(b"SELECT UNIX_TIMESTAMP()").serialize(REPLICA_CAPABILITIES)
FORBIDDEN = Query(b"SELECT * FROM mysql.user").serialize(REPLICA_CAPABILITIES)
REGISTER = RegisterReplica(server_id=2).serialize()
DUMP = BinlogDump(server_id=2, file=b"binlog.000001").serialize()
ACK = SemiSyncAck(position=4, file=b"binlog.000001").serialize()
QUIT = b"\x01"
SHUTTING_DOWN = Ending(Reason.DRAINED, "shutting down")
EVENTS = b"".join(
    encode_packet(
        serialize_stream_packet(RotateEvent(4, b"binlog.000001").serialize(server_id=1, with_checksum=True)), number
    )
    for number in range(1, 5)
)


def events_of(*bodies: bytes) -> bytes:
    packets = []
    for number, body in enumerate(bodies, start=1):
        header = EventHeader(0, 2, 1, 19 + len(body), 4, 0).serialize()
        packets.append(encode_packet(serialize_stream_packet(header + body), number))
    return b"".join(packets)


async def receive_exactly(peer: PacketPeer, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        got += await peer.receive_some(count - len(got))
    return bytes(got)
