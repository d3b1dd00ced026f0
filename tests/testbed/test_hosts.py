import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.capture import PacketCapture
from testbed.flavours import Flavour
from testbed.hosts import Host, Network
from testbed.pcap import Hit, clear_text_hits, tcp_streams
from testbed.programs import Program, ProgramError, listening_ports, popen
from testbed.servers import Server

SHOUT = """
import socket
listener = socket.create_server(("::", 4000), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    connection, _ = listener.accept()
    with connection:
        while received := connection.recv(65536):
            connection.sendall(received.upper())
"""


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(ipv6="fd77::/64") as network:
        network.add_host("source")
        network.add_host("replica")
        yield network


@pytest.fixture
def shouting(network: Network, tmp_path: Path) -> Iterator[Host]:
    host = network.hosts["source"]
    with Program([sys.executable, "-c", SHOUT], log=tmp_path / "log", host=host) as program:
        program.wait_for_port(4000)
        yield host


def test_a_program_finds_other_hosts_by_name(network: Network) -> None:
    source, replica = network.hosts["source"], network.hosts["replica"]
    words = ["sh", "-c", "ls /run/netns; nsenter --net=/run/netns/source cat /proc/net/fib_trie"]
    with popen(words, place=replica.naming(source), stdout=subprocess.PIPE) as process:
        names, *table = process.communicate()[0].decode().splitlines()
    assert names == "source"
    assert any(source.address in line for line in table)
    assert not any(replica.address in line for line in table)
    # The machine's own folder has not changed.
    assert not Path("/run/netns/source").exists()


def test_hosts_reach_one_another_by_tcp_and_a_capture_sees_it(network: Network, shouting: Host, tmp_path: Path) -> None:
    replica = network.hosts["replica"]
    assert (shouting.address, replica.address) == ("10.77.0.2", "10.77.0.3")
    assert shouting.address6 is not None
    at_bridge, at_host = network.open_capture(tmp_path / "bridge"), replica.open_capture(tmp_path / "host")
    for address in (shouting.address, shouting.address6):
        with replica.open_connection(address, 4000) as connection:
            assert connection.getpeername()[0] == address
            connection.sendall(b"needle")
            assert connection.recv(100) == b"NEEDLE"
    for capture in (at_bridge, at_host):
        path = capture.stop()
        assert capture.packets > 0 == capture.dropped
        seen = [(hit.needle, hit.source) for hit in clear_text_hits(path, [b"needle", b"NEEDLE", b"thread"])]
        assert len(seen) == 4
        assert (b"NEEDLE", "10.77.0.2:4000") in seen
        assert (b"NEEDLE", "[fd77::2]:4000") in seen


def test_a_captured_stream_is_put_together_in_order(network: Network, shouting: Host, tmp_path: Path) -> None:
    replica = network.hosts["replica"]
    sent = b"".join(b"%07d " % number for number in range(100_000))
    with (
        replica.open_capture(tmp_path / "pcap") as capture,
        replica.open_connection(shouting.address, 4000) as connection,
    ):
        back = bytearray()
        for start in range(0, len(sent), 50_000):
            connection.sendall(sent[start : start + 50_000])
            while len(back) < min(start + 50_000, len(sent)):
                back += connection.recv(65536)
    assert bytes(back) == sent
    assert [stream.runs for stream in tcp_streams(capture.path)] == [(sent,), (sent,)]


def test_an_unplugged_host_is_silent_until_it_is_plugged(network: Network, shouting: Host) -> None:
    with network.hosts["replica"].open_connection(shouting.address, 4000) as connection:
        shouting.unplug()
        connection.sendall(b"x")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        shouting.plug()
        connection.settimeout(10)
        assert connection.recv(1) == b"X"


def test_failures_on_a_host_have_their_reason(network: Network, tmp_path: Path) -> None:
    replica = network.hosts["replica"]
    with pytest.raises(ConnectionError, match=r"replica to 10\.77\.0\.2 port 4001: ConnectionRefusedError"):
        replica.open_connection("10.77.0.2", 4001)
    with pytest.raises(ProgramError, match="on replica: status 2: ls:"):
        replica.run(["ls", "/no/such/file"])
    with pytest.raises(ProgramError, match=r"cannot capture on eth7: .*no interface"):
        replica.open_capture(tmp_path / "pcap", interface="eth7")


def test_servers_on_hosts_share_a_port_and_replicate(network: Network, folder: Path) -> None:
    at_source, at_replica = network.hosts["source"], network.hosts["replica"]
    with (
        Server(folder / "s", Flavour.MARIADB_10_11, server_id=1, host=at_source, port=3306) as source,
        Server(folder / "r", Flavour.MARIADB_10_11, server_id=2, host=at_replica, port=3306) as replica,
    ):
        assert listening_ports(source.pid) == {3306}
        source.create_replication_account("repl", "secret", host=at_replica.address)
        replica.replicate_from(host=at_source.address, port=3306, user="repl", password="secret")
        source.sql("CREATE DATABASE shop")
        replica.catch_up_with(source)
        assert replica.sql("SHOW DATABASES LIKE 'shop'")


def test_the_machines_own_loopback_can_be_captured_by_root_alone(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        with pytest.raises(ProgramError, match="cannot capture on lo"):
            PacketCapture(tmp_path / "pcap").start()
        return
    with (
        PacketCapture(tmp_path / "pcap") as capture,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as connection,
    ):
        ends = [f"127.0.0.1:{end[1]}" for end in (connection.getsockname(), connection.getpeername())]
        connection.sendall(b"needle")
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(100) == b"needle"
    assert Hit(b"needle", *ends) in clear_text_hits(capture.path, [b"needle"])


def test_nothing_is_left_when_a_network_closes() -> None:
    with Network() as network:
        host = network.add_host("only")
        holder = Path(host.command([])[1].removeprefix("--net=")).parent.parent
        assert holder.exists()
    assert not holder.exists()
