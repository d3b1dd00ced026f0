"""Sockets that are opened, shared, taken, and left behind."""

import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from endpoint.answers import alive
from endpoint.listening import open_tcp_sockets, open_unix_socket
from endpoint.serving import Endpoint
from tests.endpoint.client import GIVE_UP_SECONDS, Client, no_defect


@asynccontextmanager
async def serving_at(path: Path) -> AsyncIterator[Client]:
    listening = open_unix_socket(path)
    with trio.fail_after(GIVE_UP_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Endpoint({"/alive": alive}, on_defect=no_defect).run, [listening])
            yield Client(str(path))
            nursery.cancel_scope.cancel()


async def test_a_unix_socket_is_for_this_user_and_group_only(tmp_path: Path) -> None:
    async with serving_at(tmp_path / "a.sock") as client:
        assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == 0o660
        assert (await client.get("/alive"))[2] == b"ok\n"


async def test_a_socket_that_a_killed_process_left_behind_is_replaced(tmp_path: Path) -> None:
    async with serving_at(tmp_path / "a.sock"):
        pass
    assert (tmp_path / "a.sock").exists()
    async with serving_at(tmp_path / "a.sock") as client:
        assert (await client.get("/alive"))[0] == 200


async def test_a_socket_on_which_another_process_answers_is_in_use(tmp_path: Path) -> None:
    async with serving_at(tmp_path / "a.sock"):
        with pytest.raises(OSError, match="in use"):
            open_unix_socket(tmp_path / "a.sock")


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.sock").write_text("precious")
    with pytest.raises(OSError, match="in use"):
        open_unix_socket(tmp_path / "a.sock")
    assert (tmp_path / "a.sock").read_text() == "precious"


async def test_a_port_is_served_until_the_endpoint_is_cancelled() -> None:
    listening = open_tcp_sockets("127.0.0.1", 0)
    [address] = [sock.getsockname() for sock in listening]
    with trio.fail_after(GIVE_UP_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Endpoint({"/alive": alive}, on_defect=no_defect).run, listening)
            assert (await Client(address).get("/alive"))[0] == 200
            nursery.cancel_scope.cancel()
    assert [sock.fileno() for sock in listening] == [-1]


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        open_tcp_sockets(*taken.getsockname())
