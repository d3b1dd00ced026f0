"""Events about and far above the 16 MiB of one packet: they arrive whole, and no proxy holds one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path

import pytest

from testbed.flavours import Flavour
from testbed.servers import Server
from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.deployments import StartProxy, wait_for_place
from tests.integration.lab import Proxy, Table, replicating
from tests.integration.load import standing_still
from tests.integration.semi_sync import semi_synchronous

every = pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)
FULL_PACKET_BYTES = 0xFFFFFF
MEBIBYTE = 1 << 20
# As large as replica_max_allowed_packet and slave_max_allowed_packet can be.
LARGEST_EVENT_BYTES = 1024 * MEBIBYTE
# What a proxy may hold more while one passes.
GROWTH_BYTES = 64 * MEBIBYTE


@pytest.mark.parametrize("is_semi_sync", [False, True], ids=["asynchronous", "semi-synchronous"])
@every
def test_payloads_about_the_size_of_a_full_packet_arrive_whole(
    pair: Pair, pki: Pki, is_semi_sync: bool, source_side: StartProxy
) -> None:
    proxy = source_side()
    table = pair.table()
    header_bytes = 3 if is_semi_sync else 1  # status byte, semi-synchronous header
    wanted = [FULL_PACKET_BYTES + difference for difference in (-10, -2, -1, 0, 1, 2, 10)]
    with (
        semi_synchronous(pair, timeout_seconds=60) if is_semi_sync else nullcontext(),
        replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)),
    ):
        pair.replica.wait_for_replication()
        around_body = event_bytes(table, 1000) - 1000
        payloads = [header_bytes + event_bytes(table, size - header_bytes - around_body) for size in wanted]
        assert payloads == wanted
        table.insert(1)
        table.assert_same_on(pair.replica)
        session = wait_for_place(proxy, "test", pair.source)
        assert session["bytes_to_replica"] > sum(wanted)


@modern
def test_an_event_of_300_mib_passes_a_tunnel_also_when_it_was_cut_in_the_middle(
    pair: Pair, pki: Pki, source_side: StartProxy, replica_side: StartProxy
) -> None:
    far = source_side()
    near = replica_side(source=f"127.0.0.1:{far.port}")
    with passing_through_both(pair, near, far) as table:
        admitted, expelled = far.routes[0].replicas, [{"identity": "replica-9.example", "accounts": ["repl"]}]
        session = far.stream_of("replica-1.example")
        with standing_still(pair.replica):
            sent = event_bytes(table, 300 * MEBIBYTE)
            pair.source.wait_until(
                lambda: far.stream_of("replica-1.example")["bytes_to_replica"] > session["bytes_to_replica"] + MEBIBYTE,
                what="the first MiB of the event to pass",
            )
            far.change(replicas=expelled)
            ended = far.wait_for_end(session["session"])
        assert ended["reason"] == "not_on_roster"
        assert ended["bytes_to_replica"] - session["bytes_to_replica"] < sent
        far.wait_for_refusal("identity_not_on_roster")
        far.change(replicas=admitted)
        table.assert_same_on(pair.replica)
        assert far.stream_of("replica-1.example")["bytes_to_replica"] > sent


@pytest.mark.soak
@modern
def test_the_largest_event_passes_a_tunnel(
    pair: Pair, pki: Pki, source_side: StartProxy, replica_side: StartProxy
) -> None:
    far = source_side()
    near = replica_side(source=f"127.0.0.1:{far.port}")
    with passing_through_both(pair, near, far) as table:
        around_body = event_bytes(table, 1000) - 1000
        assert event_bytes(table, LARGEST_EVENT_BYTES - around_body) == LARGEST_EVENT_BYTES
        pair.replica.catch_up_with(pair.source, timeout=600)
        table.assert_same_on(pair.replica)
        assert len(far.events("stream_started")) == 1


@contextmanager
def passing_through_both(pair: Pair, near: Proxy, far: Proxy) -> Iterator[Table]:
    """A table of a replica behind two proxies, neither of which grows for the duration."""
    table = pair.table()
    # A transactional engine would write such a row three times.
    pair.source.sql(f"ALTER TABLE {table.schema}.orders ENGINE = MyISAM")
    options = {} if pair.flavour.is_mariadb else {"get_source_public_key": True}
    with (
        allowing_packets_of(LARGEST_EVENT_BYTES, pair.source, pair.replica),
        replicating(pair.replica, near.port, user="repl", **options),
    ):
        pair.replica.wait_for_replication()
        pair.replica.catch_up_with(pair.source)
        before = {proxy: forget_peak(proxy) for proxy in (near, far)}
        yield table
        grown = [peak_bytes(proxy) - resident for proxy, resident in before.items()]
        assert max(grown) < GROWTH_BYTES, grown


def event_bytes(table: Table, body_bytes: int) -> int:
    """Inserts one row; the size of the event that it makes."""
    file, position = table.source.binlog_position()
    table.insert(1, body_bytes)
    names = [row["Log_name"] for row in table.source.sql("SHOW BINARY LOGS")]
    # The file may be full now. MariaDB 11.8 gives a large transaction one of its own, and in every one no positions to
    # the events within.
    sizes = [
        int(following["Pos"] - row["Pos"])
        for name in names[names.index(file) :]
        for row, following in pairwise(
            table.source.sql(f"SHOW BINLOG EVENTS IN '{name}' FROM {position if name == file else 4}")
        )
        if row["Event_type"].startswith("Write_rows")
    ]
    [size] = sizes
    return size


@contextmanager
def allowing_packets_of(size_bytes: int, *servers: Server) -> Iterator[None]:
    """What a server refuses otherwise: a string of this size, and a row with it."""
    former = [server.scalar("SELECT @@GLOBAL.max_allowed_packet") for server in servers]
    for server in servers:
        server.sql(f"SET GLOBAL max_allowed_packet = {size_bytes}")
    try:
        yield
    finally:
        for server, value in zip(servers, former, strict=True):
            server.sql(f"SET GLOBAL max_allowed_packet = {value}")


def forget_peak(proxy: Proxy) -> int:
    """Forgets what the process held at most, see proc_pid_clear_refs(5); returns what it holds now."""
    Path(f"/proc/{proxy.program.pid}/clear_refs").write_text("5")
    return proxy.resident_bytes()


def peak_bytes(proxy: Proxy) -> int:
    """What the process has held at most since."""
    status = Path(f"/proc/{proxy.program.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
