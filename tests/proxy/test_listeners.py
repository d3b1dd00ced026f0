"""Listeners by themselves."""

import socket
from collections.abc import Callable

import pytest
import trio
import trio.testing

from proxy.configuration.addresses import TcpAddress
from proxy.listeners import Listeners
from proxy.outcomes import ListenError
from proxy.site import Route
from tests.proxy.bench import make_route


async def test_a_replica_that_comes_while_its_listener_is_closed_harms_nobody() -> None:
    """Both in one turn of the event loop: whichever of the two is served first."""

    async def serve_one(sock: socket.socket, _: Route) -> None:
        sock.close()

    address = TcpAddress("127.0.0.1", 0)
    route = make_route(listen=address)
    for _ in range(40):
        listeners = Listeners(lambda _: route)
        near, far = socket.socketpair()
        with near, far, trio.fail_after(5):
            async with trio.open_nursery() as acceptors, trio.open_nursery() as sessions:
                listeners.serve(listeners.prepare([route]), acceptors, sessions, serve_one)
                port = int(listeners.addresses()["route_test"].rpartition(":")[2])

                async def close_when_told() -> None:
                    await trio.lowlevel.wait_readable(near)  # noqa: B023 - over before the next turn
                    listeners.commit({})  # noqa: B023

                sessions.start_soon(close_when_told)
                await trio.testing.wait_all_tasks_blocked()
                with socket.create_connection(("127.0.0.1", port)):
                    far.send(b"x")
                    await trio.testing.wait_all_tasks_blocked()


def test_what_was_opened_for_a_configuration_that_cannot_be_is_closed_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        routes = [make_route(), make_route(name="busy", listen=TcpAddress("127.0.0.1", taken.getsockname()[1]))]
        listeners = Listeners(lambda _: None)
        opened: list[socket.socket] = []
        with pytest.MonkeyPatch.context() as patch:
            from proxy import listeners as module

            listen: Callable[[Route], socket.socket] = module._listen

            def note(route: Route) -> socket.socket:
                opened.append(listen(route))
                return opened[-1]

            patch.setattr(module, "_listen", note)
            with pytest.raises(ListenError, match="route 'busy'"):
                listeners.prepare(routes)
        assert [sock.fileno() for sock in opened] == [-1]


async def test_a_listener_that_is_closed_before_it_was_first_looked_at_harms_nobody() -> None:
    async def serve_one(sock: socket.socket, _: Route) -> None:
        sock.close()

    listeners = Listeners(lambda _: None)
    with trio.fail_after(5):
        async with trio.open_nursery() as acceptors, trio.open_nursery() as sessions:
            listeners.serve(listeners.prepare([make_route()]), acceptors, sessions, serve_one)
            listeners.commit({})
    assert not listeners.is_open
