"""One direction of a session: order, bounds, fairness, and where it stops."""

import socket

import pytest
import trio
import trio.testing

from proxy.legs import pump as pump_module
from proxy.legs.leg import Leg
from proxy.legs.pump import BUFFER_BYTES, Pump, PumpEnd
from proxy.outcomes import LegClosed
from wire.errors import MalformedPacket


class Pipe:
    """A pump between two socket pairs."""

    def __init__(self, **options: object) -> None:
        self.near, origin = socket.socketpair()
        sink, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.origin, self.sink = Leg(origin, "source"), Leg(sink, "replica")
        self.counted: list[int] = []
        self.pump = Pump(self.origin, self.sink, count=self.counted.append, **options)  # type: ignore[arg-type]

    def __enter__(self) -> "Pipe":
        return self

    def __exit__(self, *_: object) -> None:
        self.near.close()
        self.far.close()
        self.origin.close()
        self.sink.close()

    async def send(self, data: bytes) -> None:
        await Leg.send_all(self._leg(self.near), data)

    async def receive(self, count: int) -> bytes:
        return await self._leg(self.far).receive_exactly(count)

    def _leg(self, sock: socket.socket) -> Leg:
        return Leg(sock, "test")


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked(0.01)


async def test_bytes_arrive_in_order_and_the_end_after_them() -> None:
    data = bytes(range(256)) * 8192
    ends: list[PumpEnd] = []
    with Pipe() as pipe, trio.fail_after(60):

        async def run() -> None:
            ends.append(await pipe.pump.run())

        async def send() -> None:
            await pipe.send(data)
            pipe.near.shutdown(socket.SHUT_WR)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            nursery.start_soon(send)
            assert await pipe.receive(len(data)) == data
    assert ends == [PumpEnd.END_OF_STREAM]
    assert sum(pipe.counted) == len(data)


async def test_a_slow_sink_holds_one_buffer_and_reads_no_further() -> None:
    with Pipe() as pipe, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipe.pump.run)
            accepted = 0
            while True:
                try:
                    accepted += pipe.near.send(bytes(65536))
                except BlockingIOError:
                    await settled()
                    try:
                        accepted += pipe.near.send(bytes(65536))
                    except BlockingIOError:
                        break
            # What the two kernel buffers of each pair hold, and one buffer of ours.
            kernel = 2 * pipe.near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            assert accepted <= kernel * 2 + BUFFER_BYTES
            nursery.cancel_scope.cancel()


async def test_an_idle_pump_holds_no_buffer() -> None:
    with Pipe() as pipe, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipe.pump.run)
            await pipe.send(b"x")
            await pipe.receive(1)
            await settled()
            free = len(pump_module._pool._free)
            view = pump_module._pool.take()
            pump_module._pool.give_back(view)
            assert len(pump_module._pool._free) >= free > 0
            nursery.cancel_scope.cancel()


async def test_a_pause_at_a_quiet_moment_returns_at_once() -> None:
    ends: list[PumpEnd] = []
    with Pipe() as pipe, trio.fail_after(60):

        async def run() -> None:
            ends.append(await pipe.pump.run())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await settled()
            pipe.pump.pause()
        assert ends == [PumpEnd.PAUSED]


async def test_a_pause_loses_nothing_that_was_read() -> None:
    data = bytes(range(256)) * 4096
    with Pipe() as pipe, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipe.pump.run)
            nursery.start_soon(pipe.send, data)
            await settled()
            pipe.pump.pause()
            received = await pipe.receive(BUFFER_BYTES)
            await settled()
            pipe.sink.end_sending()
            rest = bytearray()
            view = memoryview(bytearray(65536))
            while (count := Leg(pipe.far, "test").try_receive(view)) != 0:
                if count > 0:
                    rest += view[:count]
                else:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        got = received + bytes(rest)
        assert data.startswith(got)
        assert sum(pipe.counted) == len(got)


async def test_a_pause_before_the_start_reads_nothing() -> None:
    with Pipe() as pipe:
        await pipe.send(b"x")
        pipe.pump.pause()
        assert await pipe.pump.run() is PumpEnd.PAUSED
        assert pipe.origin.try_receive(memoryview(bytearray(9))) == 1


async def test_a_hot_flow_leaves_the_others_their_turn() -> None:
    with Pipe() as hot, Pipe() as quiet, trio.fail_after(60):
        turns = 0

        async def keep_full() -> None:
            block = bytes(BUFFER_BYTES)
            while True:
                await hot.send(block)

        async def keep_empty() -> None:
            while True:
                await hot.receive(BUFFER_BYTES)

        async with trio.open_nursery() as nursery:
            for task in (hot.pump.run, keep_full, keep_empty, quiet.pump.run):
                nursery.start_soon(task)
            while turns < 50:
                await quiet.send(b"ping")
                assert await quiet.receive(4) == b"ping"
                turns += 1
            nursery.cancel_scope.cancel()
        assert hot.counted


async def test_what_admit_holds_back_is_not_sent() -> None:
    with Pipe(admit=lambda piece: piece[:0]) as pipe, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipe.pump.run)
            await pipe.send(b"secret")
            await settled()
            assert Leg(pipe.far, "test").try_receive(memoryview(bytearray(9))) < 0
            nursery.cancel_scope.cancel()


async def test_what_admit_raises_ends_the_pump() -> None:
    def refuse(_: memoryview) -> memoryview:
        raise MalformedPacket("no")

    with Pipe(admit=refuse) as pipe, trio.fail_after(60):
        await pipe.send(b"x")
        with pytest.raises(MalformedPacket):
            await pipe.pump.run()


async def test_a_sink_that_is_gone_is_named() -> None:
    with Pipe() as pipe, trio.fail_after(60):
        pipe.far.close()
        await pipe.send(b"x")
        with pytest.raises(LegClosed) as closed:
            await pipe.pump.run()
        assert closed.value.leg == "replica"
