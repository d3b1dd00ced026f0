"""The bench's fake ends hold a proper conversation, alone and through a real proxy. Nothing is timed here."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.competitors import Bench, binlock, direct, make_certificates, start_source
from bench.conversation import (
    ACKNOWLEDGEMENT,
    PING_PACKET_BYTES,
    ConversationError,
    Order,
    dump,
    events_chunk,
    ping_packet,
    serve_until_dump,
)
from bench.ratios import ratio
from bench.replica_end import measure_bulk, measure_idle, measure_ping
from testbed.servers import free_port
from wire.binlog import SemiSyncAck, StreamPacket
from wire.framing import PacketDecoder


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    with contextlib.ExitStack() as stack:
        made = Bench(folder, make_certificates(folder / "certificates"), free_port(), stack)
        start_source(made)
        yield made


@pytest.mark.parametrize("event_bytes", [200, 8192])
def test_a_chunk_is_whole_packets_of_whole_events(event_bytes: int) -> None:
    chunk = events_chunk(event_bytes)
    decoder = PacketDecoder(1 << 20)
    decoder.feed(chunk)
    sequence_ids = []
    while (packet := decoder.next_packet()) is not None:
        assert len(packet.payload) == 1 + event_bytes
        sequence_ids.append(packet.sequence_id)
    assert not len(decoder)
    assert sequence_ids == [number % 256 for number in range(len(sequence_ids))]
    assert sequence_ids[-1] == 255, "so that the chunk can be sent again behind itself"
    first = StreamPacket.parse(chunk[4:], semi_sync=False)
    assert isinstance(first, StreamPacket)
    assert first.header.event_size_bytes == event_bytes


def test_a_ping_is_what_a_semi_synchronous_commit_sends() -> None:
    packet = ping_packet()
    assert len(packet) == PING_PACKET_BYTES
    event = StreamPacket.parse(packet[4:], semi_sync=True)
    assert isinstance(event, StreamPacket)
    assert event.ack_wanted
    decoder = PacketDecoder(1024)
    decoder.feed(ACKNOWLEDGEMENT)
    answer = decoder.next_packet()
    assert answer is not None
    assert answer.sequence_id == 0
    assert SemiSyncAck.parse(answer.payload).position > 0


@pytest.mark.parametrize("order", [Order("bulk", 200), Order("ping"), Order("idle")])
def test_the_order_travels_in_the_dump_command(order: Order) -> None:
    here, there = socket.socketpair()
    seen: list[Order] = []
    with here, there:
        thread = threading.Thread(target=lambda: seen.append(serve_until_dump(there)))
        thread.start()
        dump(here, order)
        thread.join(10)
    assert seen == [order]


def test_an_unknown_order_is_an_error() -> None:
    with pytest.raises(ConversationError, match="no order"):
        Order.from_file_name(b"binlog.000001")


@pytest.mark.parametrize("topology", ["direct", "source-side", "tunnel"])
def test_the_ends_converse_through_a_real_proxy(bench: Bench, topology: str) -> None:
    running = {
        "direct": direct,
        "source-side": binlock().start_source_side,
        "tunnel": binlock().start_tunnel,
    }[topology](bench)
    bulk = measure_bulk(running.door.connect, running.pids, event_bytes=200, seconds=0.05)
    assert bulk.megabytes_per_second > 0
    pings = measure_ping(running.door.connect, running.pids, count=10)
    assert len(pings.nanoseconds) == 10
    idle = measure_idle(running.door.connect, running.pids, sessions=3)
    assert len(idle.kibibytes_per_session) == len(running.pids)
    said = "".join(path.read_text() for path in Path(bench.folder).glob("*.log"))
    assert "Traceback" not in said


def test_a_ratio_is_taken_within_each_round() -> None:
    spread = ratio([10, 40, 30], [10, 20, 30])
    assert spread is not None
    assert (spread.middle, spread.least, spread.most) == (1, 1, 2)
    assert ratio([1.0], [0.0]) is None
