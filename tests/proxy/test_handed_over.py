"""Sockets of the service manager across reloads: they are never closed, since they could not be opened again."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trio

from proxy.outcomes import ListenError
from proxy.server import Server
from proxy.site import load_site
from tests.proxy.running import Running


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


async def first_byte(address: tuple[str, int]) -> bytes:
    async with await trio.open_tcp_stream(*address) as stream:
        return bytes(await stream.receive_some(1))


async def test_a_route_that_comes_back_has_its_socket_again(running: Running, listening: socket.socket) -> None:
    address = listening.getsockname()
    orders = running.route(listen="{}:{}".format(*address))
    others = running.route("others", listen="127.0.0.2:0")
    running.write(orders, others)
    server = Server(running.path, load_site(running.path), handed_over={"orders": listening})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        assert (await running.until("listening"))["handed_over"] == ["orders"]
        assert await first_byte(address)

        running.write(others)
        assert (await running.hang_up())["routes"] == 1
        assert (await running.until("socket_without_route"))["name"] == "orders"
        # Who connects now waits: the manager holds the socket too, so that nobody can be refused.
        waiting = await trio.open_tcp_stream(*address)
        with trio.move_on_after(0.1) as too_long:
            await waiting.receive_some(1)
        assert too_long.cancelled_caught

        running.write(orders, others)
        await running.hang_up(count=2)
        async with waiting:
            assert await waiting.receive_some(1)

        # Another address is not the socket's; one that a socket has that is in use already is opened beside it.
        running.write(running.route(listen="127.0.0.3:0"), others)
        await running.hang_up(count=3)
        assert running.log.events("socket_without_route")[-1]["name"] == "orders"
        running.write(others)
        await running.hang_up(count=4)
        running.write(running.route(listen="127.0.0.3:0"), others)
        failed = await running.hang_up("reload_failed")
        assert "as 'orders' listens on {}:{}, not on 127.0.0.3:0".format(*address) in str(failed["detail"])

        assert not running.log.events("defect")
        nursery.cancel_scope.cancel()
    server._listeners.close()


async def test_the_endpoints_name_is_no_routes(running: Running, listening: socket.socket) -> None:
    running.write(running.route("admin"))
    server = Server(running.path, load_site(running.path), handed_over={"admin": listening})
    with pytest.raises(ListenError, match="socket 'admin' is the endpoint's; rename the route 'admin'"):
        await server.run()
