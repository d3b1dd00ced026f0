"""A whole server in the test's own process, to be reloaded."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
import trio.testing

from proxy.server import Server
from proxy.site import load_site
from tests.proxy.bench import EventLog
from tests.proxy.conversations import DUMP, EVENTS, receive_exactly
from tests.proxy.fakes import OK, REPLICA_CAPABILITIES, FakeReplica, FakeSource, PacketPeer
from tests.proxy.pki import Pki
from wire.commands import Query

QUERY = Query(b"SELECT UNIX_TIMESTAMP()").serialize(REPLICA_CAPABILITIES)
PLAIN_LINE = '[[route.replica]]\nname = "one"\naccounts = ["repl"]\n'
TLS_LINE = '[[route.replica]]\nidentity = "replica-1.example"\naccounts = ["repl"]\n'
TLS_TABLE = '[route.replica_tls]\ncertificate = "p.crt"\nkey = "p.key"\nca = "ca.crt"\ncrl = ["ca.crl"]\n'


@dataclass
class Running:
    """A server in this process, its configuration, and replicas that connect to it."""

    folder: Path
    source: FakeSource
    log: EventLog
    server: Server | None = None
    peers: list[PacketPeer] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "proxy.toml"

    def route(
        self,
        name: str = "orders",
        *,
        listen: str = "127.0.0.1:0",
        allow: str = "127.0.0.0/8",
        lines: str = PLAIN_LINE,
        tls: str = "",
    ) -> str:
        return (
            f'[[route]]\nname = "{name}"\nlisten = "{listen}"\nallow = ["{allow}"]\n{tls}'
            f'[route.source]\naddress = "{self.source.address}"\n{lines}'
        )

    def write(self, *routes: str, head: str = "") -> None:
        """As an editor does: a new file, renamed over the old."""
        new = self.folder / "new.toml"
        new.write_text(f'[admin]\nlisten = "unix:{self.folder}/admin.sock"\n{head}' + "".join(routes))
        new.replace(self.path)

    def metric(self, name: str, **labels: str) -> float | None:
        assert self.server is not None
        return self.server._metrics.registry.get_sample_value(f"binlock_proxy_{name}", labels)

    def port(self, name: str = "orders") -> int:
        assert self.server is not None
        return int(self.server._listeners.addresses()[f"route_{name}"].rpartition(":")[2])

    async def connect(self, name: str = "orders", pki: Pki | None = None) -> FakeReplica:
        peer = PacketPeer(await trio.open_tcp_stream("127.0.0.1", self.port(name)))
        self.peers.append(peer)
        return FakeReplica(peer, tls=None if pki is None else pki.client(pki.replica))

    async def streaming(self, name: str = "orders", pki: Pki | None = None) -> FakeReplica:
        replica = await self.connect(name, pki)
        assert await replica.log_in() == OK
        await replica.send_command(DUMP)
        await receive_exactly(replica.peer, len(EVENTS))
        return replica

    async def until(self, name: str, count: int = 1) -> dict[str, object]:
        """Waits for so many events of that name, and returns the last."""
        while len(self.log.events(name)) < count:  # noqa: ASYNC110 - the log tells nobody
            await trio.sleep(0.002)
        return self.log.events(name)[count - 1]

    async def hang_up(self, event: str = "reloaded", count: int = 1) -> dict[str, object]:
        os.kill(os.getpid(), signal.SIGHUP)
        return await self.until(event, count)

    async def ready(self) -> tuple[int, str]:
        async with await trio.open_unix_socket(str(self.folder / "admin.sock")) as stream:
            await stream.send_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join([piece async for piece in stream])
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body.decode()


async def say_goodbye(replica: FakeReplica) -> None:
    await replica.send_command(b"\x01")
    await replica.peer.wait_closed()
    await replica.peer.say_goodbye()


@asynccontextmanager
async def serving(running: Running) -> AsyncIterator[None]:
    running.server = Server(running.path, load_site(running.path))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.server.run)
        await running.until("listening")
        try:
            yield
            assert not running.log.events("defect")
        finally:
            for peer in running.peers:
                await peer.close()
            running.server._listeners.close()
            nursery.cancel_scope.cancel()
