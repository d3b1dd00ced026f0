"""Who connects, told by load balancers and to sources; and that those who only connect keep nobody out."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

import pytest

from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.lab import Forwarder, Proxy, replicating

StartProxy = Callable[..., Proxy]
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)
_REPLICA, _STRANGER, _LOAD_BALANCER = "127.0.0.5", "127.0.0.6", "127.0.0.9"


@modern
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_behind_a_load_balancer_the_replicas_own_address_is_judged_and_shown(
    pair: Pair, pki: Pki, source_side: StartProxy, version: str
) -> None:
    proxy = source_side(allow=[_REPLICA], more={"proxy_protocol_from": [_LOAD_BALANCER]})
    table = pair.table()
    tls = pki.authority.replica_tls(pki.replica)
    # A host with an address of its own, whatever the replica can be told to bind to, and the load balancer behind it.
    with Forwarder(proxy.port, address=_LOAD_BALANCER, header=version) as balancer:  # type: ignore[arg-type]
        with Forwarder(balancer.port, address=_STRANGER) as stranger:
            with replicating(pair.replica, stranger.port, user="repl", tls=tls):
                refusal = proxy.wait_for_refusal("address_not_allowed")
            assert (refusal["peer"].partition(":")[0], refusal["via"]) == (_STRANGER, _LOAD_BALANCER)
        with (
            Forwarder(balancer.port, address=_REPLICA) as host,
            replicating(pair.replica, host.port, user="repl", tls=tls),
        ):
            table.insert(10)
            table.assert_same_on(pair.replica)
            session = proxy.stream_of("replica-1.example")
            assert (session["peer"].partition(":")[0], session["via"]) == (_REPLICA, _LOAD_BALANCER)
            # A reload judges the address that was claimed, not the load balancer's.
            assert proxy.change(allow=[_REPLICA, "10.0.0.0/8"])["sessions_ended"] == 0
            assert proxy.change(allow=[_STRANGER])["sessions_ended"] == 1
            assert proxy.wait_for_end(session["session"])["reason"] == "not_allowed"


def test_a_header_from_anywhere_else_is_not_believed(pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(allow=[_REPLICA, "127.0.0.1"], more={"proxy_protocol_from": [_LOAD_BALANCER]})
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        connection.sendall(f"PROXY TCP4 {_REPLICA} 127.0.0.1 1 2\r\n".encode())
        refusal = proxy.wait_for_refusal("protocol_error")
    assert refusal["peer"].startswith("127.0.0.1:")


def test_a_load_balancer_without_a_header_is_turned_away(pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(allow=["127.0.0.0/8"], more={"proxy_protocol_from": [_LOAD_BALANCER]})
    with (
        Forwarder(proxy.port, address=_LOAD_BALANCER) as balancer,
        socket.create_connection(("127.0.0.1", balancer.port)) as connection,
    ):
        connection.sendall(b"\x01" * 32)
        assert "PROXY header" in proxy.wait_for_refusal("protocol_error")["detail"]


@pytest.mark.parametrize("pair", [MODERN[1]], indirect=True, ids=lambda flavour: flavour.value)
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("leg", ["tcp", "unix", "tls"])
def test_mariadb_as_the_source_is_told_who_connects(
    pair: Pair, pki: Pki, source_side: StartProxy, leg: str, version: str
) -> None:
    tcp = f"127.0.0.1:{pair.source.port}"
    source = {"unix": f"unix:{pair.source.socket_path}"}.get(leg, tcp)
    source_tls = pki.source_tls() if leg == "tls" else None
    pair.source.sql("SET GLOBAL proxy_protocol_networks = '127.0.0.1,localhost'")
    proxy = source_side(source=source, source_tls=source_tls, source_more={"send_proxy_protocol": version})
    try:
        with (
            Forwarder(proxy.port, address=_REPLICA) as host,
            replicating(pair.replica, host.port, user="repl", tls=pki.authority.replica_tls(pki.replica)),
        ):
            pair.replica.wait_for_replication()
            [row] = pair.source.sql("SELECT host FROM information_schema.processlist WHERE user = 'repl'")
            assert row["host"] == proxy.stream_of("replica-1.example")["peer"]
            assert row["host"].startswith(f"{_REPLICA}:")
    finally:
        pair.source.sql("SET GLOBAL proxy_protocol_networks = ''")


@modern
def test_a_flood_of_connections_that_trickle_keeps_no_replica_out(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    proxy = source_side()
    stop = threading.Event()
    flood: list[socket.socket] = []

    def dial(address: str) -> None:
        sock = socket.create_connection(("127.0.0.1", proxy.port), source_address=(address, 0))
        sock.setblocking(False)
        flood.append(sock)

    def trickle() -> None:
        # A byte of a login packet at a time, and those that were sent away come again.
        while not stop.wait(0.05):
            for number, sock in enumerate(flood[:200]):
                try:
                    sock.send(b"\x20")
                except BlockingIOError:
                    continue
                except OSError:
                    sock.close()
                    with contextlib.suppress(OSError):
                        dial(f"127.0.1.{number % 10}")
                        flood[number] = flood.pop()

    for _ in range(200):
        dial("127.0.0.66")
    proxy.wait_for_refusal("too_many_sessions")
    # Then from ten addresses, each within what one may have, together beyond what all may have.
    for number in range(200):
        dial(f"127.0.1.{number % 10}")
    flooding = threading.Thread(target=trickle)
    flooding.start()
    table = pair.table()
    try:
        with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
            pair.replica.wait_for_replication()
            table.insert(10)
            table.assert_same_on(pair.replica)
            assert flooding.is_alive()
            unauthenticated = "SELECT COUNT(*) <= 100 FROM information_schema.processlist WHERE user LIKE 'unauth%'"
            pair.source.wait_until(unauthenticated, what="no more strangers at the source than may be")
    finally:
        stop.set()
        flooding.join(30)
        for sock in flood:
            sock.close()
