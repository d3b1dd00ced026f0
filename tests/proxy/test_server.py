"""Reloads of a running server: all of a new configuration or nothing, and no session that it admits is touched."""

import itertools
import logging
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.serialization import Encoding

from certs.profiles import Role
from proxy import server as server_module
from proxy.configuration.addresses import TcpAddress
from proxy.listeners import Listeners
from proxy.openssl import Negotiated
from proxy.outcomes import Ending, ListenError
from proxy.reporting.logs import logger
from proxy.server import Server
from proxy.sessions import SessionRecord
from proxy.site import Route, load_site
from proxy.standing import fallen
from tests.proxy.bench import GIVE_UP_SECONDS, EventLog, make_route
from tests.proxy.conversations import DUMP, EVENTS, receive_exactly
from tests.proxy.fakes import OK, REPLICA_CAPABILITIES, FakeReplica, FakeSource, PacketPeer
from tests.proxy.pki import Pki
from wire.commands import Query
from wire.results import ErrPacket

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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_WATCH_SECONDS", 0.03)
    monkeypatch.setattr(server_module, "_SUPERVISION_SECONDS", 0.02)


@pytest.fixture
async def running(
    tmp_path: Path, log: EventLog, pki: Pki, quick: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    """Files of a TLS route are there; nothing runs before `serving`."""
    for name, path in (
        ("p.crt", pki.proxy.certificate_file),
        ("p.key", pki.proxy.key_file),
        ("ca.crt", pki.authority.file),
    ):
        shutil.copy(path, tmp_path / name)
    (tmp_path / "ca.crl").write_bytes(pki.crl.public_bytes(Encoding.PEM))
    monkeypatch.setattr(server_module, "set_up_logging", lambda *_: None)  # the log goes to the test
    with trio.fail_after(GIVE_UP_SECONDS):
        source = FakeSource(stream=EVENTS)
        async with source.listening():
            yield Running(tmp_path, source, log)


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


# What starts a reload.


async def test_sighup_reloads(running: Running) -> None:
    running.write(running.route())
    async with serving(running):
        done = await running.hang_up()
        assert done["routes"] == 1
        assert running.metric("config_last_reload_success") == 1


async def test_a_changed_configuration_is_noticed_without_a_signal(running: Running) -> None:
    running.write(running.route())
    async with serving(running):
        running.write(running.route(), running.route("others", listen="127.0.0.2:0"))
        await running.until("files_changed")
        assert (await running.until("reloaded"))["routes"] == 2
        assert not running.log.events("signal")


@pytest.mark.parametrize("name", ["p.crt", "ca.crt", "ca.crl"])
async def test_a_file_that_the_configuration_names_is_noticed_too(name: str, running: Running) -> None:
    running.write(running.route(lines=TLS_LINE, tls=TLS_TABLE))
    async with serving(running):
        new = running.folder / "new"
        shutil.copy(running.folder / name, new)
        new.replace(running.folder / name)
        await running.until("reloaded")


async def test_a_change_is_read_once(running: Running) -> None:
    running.write(running.route())
    async with serving(running):
        running.write(running.route())
        await running.until("reloaded")
        await trio.sleep(0.2)
        assert len(running.log.events("reloaded")) == 1


async def test_nothing_is_reloaded_where_nothing_changed(running: Running) -> None:
    running.write(running.route())
    async with serving(running):
        await trio.sleep(0.2)
        assert not running.log.events("files_changed")


async def test_a_file_that_is_written_in_two_halves_settles_first(running: Running) -> None:
    running.write(running.route())
    async with serving(running):
        whole = running.path.read_text()
        running.path.write_text(whole[: len(whole) // 2])
        with running.path.open("a") as file:
            file.write(whole[len(whole) // 2 :])
        await running.until("reloaded")
        assert not running.log.events("reload_failed")


async def test_a_swap_of_the_folder_behind_the_links_is_noticed(running: Running, pki: Pki) -> None:
    """As Kubernetes updates a mounted secret."""
    for number in (1, 2):
        (running.folder / f"..{number}").mkdir()
        (running.folder / f"..{number}" / "ca.crl").write_bytes(pki.crl.public_bytes(Encoding.PEM))
    (running.folder / "..data").symlink_to("..1")
    (running.folder / "ca.crl").unlink()
    (running.folder / "ca.crl").symlink_to("..data/ca.crl")
    running.write(running.route(lines=TLS_LINE, tls=TLS_TABLE))
    async with serving(running):
        (running.folder / "..data_tmp").symlink_to("..2")
        (running.folder / "..data_tmp").replace(running.folder / "..data")
        await running.until("reloaded")


# All or nothing.


async def assert_kept(running: Running, *said: str) -> None:
    """The reload failed and says why everywhere; what ran before still runs."""
    failed = await running.until("reload_failed")
    assert all(text in str(failed["detail"]) for text in said), failed
    assert not running.log.events("reloaded")
    assert running.metric("config_last_reload_success") == 0
    status, text = await running.ready()
    assert status == 200
    assert text == f"ready; the last reload failed: {failed['detail']}\n"
    replica = await running.connect()
    assert await replica.log_in() == OK


async def test_a_certificate_without_its_key_keeps_the_old_pair_until_both_are_there(
    running: Running, pki: Pki
) -> None:
    running.write(running.route(lines=TLS_LINE, tls=TLS_TABLE))
    new = pki.authority.issue(Role.PROXY, "renewed.example")
    async with serving(running):
        shutil.copy(new.certificate_file, running.folder / "p.crt")
        failed = await running.until("reload_failed")
        assert f"{running.folder}/p.key: key: does not belong to the certificate in" in str(failed["detail"])
        assert running.metric("config_last_reload_success") == 0
        assert (await running.ready())[1].startswith("ready; the last reload failed: ")
        assert "proxy.example" in await name_of_server(running, pki)
        shutil.copy(new.key_file, running.folder / "p.key")
        await running.until("reloaded")
        assert running.metric("config_last_reload_success") == 1
        assert await running.ready() == (200, "ready\n")
        assert "renewed.example" in await name_of_server(running, pki)


async def name_of_server(running: Running, pki: Pki) -> str:
    replica = await running.connect(pki=pki)
    assert await replica.log_in() == OK
    assert isinstance(replica.peer.stream, trio.SSLStream)
    return str(replica.peer.stream.getpeercert())


async def test_broken_toml_keeps_what_runs(running: Running) -> None:
    running.write(running.route())
    async with serving(running):
        running.path.write_text("[[route")
        os.kill(os.getpid(), signal.SIGHUP)
        await assert_kept(running, str(running.path), "not valid TOML")


async def test_a_configuration_that_is_gone_keeps_what_runs(running: Running) -> None:
    running.write(running.route())
    async with serving(running):
        running.path.unlink()
        await assert_kept(running, str(running.path), "cannot be read")


async def test_a_port_that_is_taken_keeps_what_runs_and_opens_nothing(running: Running) -> None:
    running.write(running.route())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with serving(running):
            other = running.route("others", listen="127.0.0.2:0")
            busy = running.route("busy", listen=f"127.0.0.1:{port}")
            running.write(running.route(allow="10.0.0.0/8"), other, busy)
            await running.hang_up("reload_failed")
            await assert_kept(running, "route 'busy'", f"cannot listen on 127.0.0.1:{port}")
            assert running.server is not None
            assert list(running.server._listeners.addresses()) == ["route_orders"]


@pytest.mark.parametrize("name", ["p.crt", "p.key", "ca.crt", "ca.crl"])
async def test_an_empty_file_keeps_the_old_one(name: str, running: Running, pki: Pki) -> None:
    running.write(running.route(lines=TLS_LINE, tls=TLS_TABLE))
    async with serving(running):
        (running.folder / name).write_bytes(b"")
        failed = await running.until("reload_failed")
        assert f"{running.folder}/{name}: " in str(failed["detail"])
        assert "proxy.example" in await name_of_server(running, pki)


async def test_whatever_goes_wrong_in_a_reload_what_runs_goes_on(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.write(running.route())
    async with serving(running):

        def fails(_: Path) -> None:
            raise RuntimeError("of all things")

        replica = await running.streaming()
        monkeypatch.setattr(server_module, "load_site", fails)
        await running.hang_up("reload_failed")
        await assert_kept(running, "of all things")
        await say_goodbye(replica)
        assert (await running.until("session_ended"))["reason"] == "closed"
        assert len(running.log.events("defect")) == 1
        running.log.records[:] = [record for record in running.log.records if record.getMessage() != "defect"]


# Listeners and sessions.


async def test_a_new_route_is_listened_on_and_an_old_one_is_closed(running: Running) -> None:
    running.write(running.route(), running.route("old", listen="127.0.0.2:0"))
    async with serving(running):
        old_port, kept_port = running.port("old"), running.port()
        running.write(running.route(), running.route("new", listen="127.0.0.3:0"))
        await running.hang_up()
        assert running.port() == kept_port
        with pytest.raises(OSError, match="attempts to connect"):
            await trio.open_tcp_stream("127.0.0.2", old_port)
        async with await trio.open_tcp_stream("127.0.0.3", running.port("new")) as stream:
            assert (await stream.receive_some(5))[4] == 0x0A


async def test_sessions_of_a_route_that_is_kept_are_untouched(running: Running) -> None:
    running.write(running.route())
    async with serving(running):
        streaming, idle = await running.streaming(), await running.connect()
        assert await idle.log_in() == OK
        for count in range(1, 6):
            assert (await running.hang_up(count=count))["sessions_ended"] == 0
        assert await idle.command(QUERY) == OK
        assert running.server is not None
        assert len(running.server.registry) == 2
        assert not running.log.events("session_ended")
        await say_goodbye(streaming)
        assert (await running.until("session_ended"))["reason"] == "closed"


async def test_sessions_of_a_route_that_is_gone_end_with_an_err_and_the_others_do_not(running: Running) -> None:
    running.write(running.route(), running.route("old", listen="localhost:0"))
    async with serving(running):
        gone, kept = await running.streaming("old"), await running.streaming()
        running.write(running.route())
        assert (await running.hang_up())["sessions_ended"] == 1
        answer = ErrPacket.parse((await gone.peer.receive_packet(any_sequence_id=True)).payload)
        assert (answer.code, answer.message) == (1053, b"Binlock: there is no route old any more")
        assert (await running.until("session_ended"))["route"] == "old"
        assert running.metric("sessions_ended_total", route="old", reason="route_changed") == 1
        await say_goodbye(kept)
        assert (await running.until("session_ended", 2))["reason"] == "closed"


async def test_a_session_that_cannot_be_judged_again_ends_and_the_others_do_not(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = fallen

    def judge_or_fail(record: SessionRecord, route: Route | None) -> Ending | None:
        if record.route == "odd":
            raise RuntimeError("a defect")
        return judge(record, route)

    monkeypatch.setattr(server_module, "fallen", judge_or_fail)
    running.write(running.route(), running.route("odd", listen="localhost:0"))
    async with serving(running):
        await running.streaming("odd")
        kept = await running.streaming()
        assert (await running.hang_up())["sessions_ended"] == 1
        ended = await running.until("session_ended")
        assert (ended["route"], ended["reason"]) == ("odd", "untrusted")
        await say_goodbye(kept)
        assert (await running.until("session_ended", 2))["reason"] == "closed"
        assert len(running.log.events("defect")) == 1
        running.log.records[:] = [record for record in running.log.records if record.getMessage() != "defect"]


async def test_a_revoked_replica_is_told_and_others_are_untouched(running: Running, pki: Pki) -> None:
    running.write(running.route(lines=TLS_LINE, tls=TLS_TABLE), running.route("plain", listen="localhost:0"))
    async with serving(running):
        revoked, kept = await running.streaming(pki=pki), await running.streaming("plain")
        crl = pki.authority.crl(pki.replica)
        (running.folder / "ca.crl").write_bytes(crl.public_bytes(Encoding.PEM))
        answer = ErrPacket.parse((await revoked.peer.receive_packet(any_sequence_id=True)).payload)
        assert answer.code == 1045
        assert b"revoked" in answer.message
        ended = await running.until("session_ended")
        assert (ended["reason"], ended["identity"]) == ("revoked", "replica-1.example")
        await say_goodbye(kept)
        assert (await running.until("session_ended", 2))["reason"] == "closed"


async def test_a_certificate_that_expires_while_the_stream_runs_ends_it(running: Running, pki: Pki) -> None:
    running.write(running.route())
    async with serving(running):
        replica = await running.streaming()
        assert running.server is not None
        [record] = running.server.registry
        record.replica_tls = Negotiated(0.0, "TLSv1.3", "c", "g", (pki.expired_replica.certificate,))
        answer = ErrPacket.parse((await replica.peer.receive_packet(any_sequence_id=True)).payload)
        assert answer.code == 1045
        assert (await running.until("session_ended"))["reason"] == "expired"


async def test_whether_sessions_stand_is_looked_at_several_times_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """By this clock, which no other program slows down: "within a second" has time to spare."""
    path = tmp_path / "proxy.toml"
    path.write_text(
        '[[route]]\nname = "orders"\nlisten = "127.0.0.1:0"\nallow = ["127.0.0.0/8"]\n'
        f'[route.source]\naddress = "127.0.0.1:1"\n{PLAIN_LINE}'
    )
    server = Server(path, load_site(path))
    looks = [trio.current_time()]
    monkeypatch.setattr(server, "_look_after_sessions", lambda: looks.append(trio.current_time()))
    with trio.move_on_after(5):
        await server._supervise()
    assert max(later - former for former, later in itertools.pairwise(looks)) <= 0.25
    assert len(looks) >= 20


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"allow": "10.0.0.0/8"}, "not_allowed"), ({"lines": PLAIN_LINE.replace('"repl"', '"other"')}, "not_on_roster")],
)
async def test_a_session_that_logs_in_across_a_reload_is_judged_under_the_new_route(
    change: dict[str, str], reason: str, running: Running
) -> None:
    running.write(running.route())
    async with serving(running):
        replica = await running.connect()
        greeting = await replica.receive_greeting()
        running.write(running.route(**change))
        assert (await running.hang_up())["sessions_ended"] == 0
        await replica.authenticate(greeting)
        assert (await running.until("session_ended"))["reason"] == reason


async def test_what_begins_after_a_reload_is_judged_under_the_new_configuration(running: Running) -> None:
    running.write(running.route())
    async with serving(running):
        running.write(running.route(allow="10.0.0.0/8"))
        await running.hang_up()
        replica = await running.connect()
        assert ErrPacket.parse(await replica.peer.receive()).code == 1130


async def test_new_limits_hold_for_what_begins_after_them(running: Running) -> None:
    running.write(running.route())
    async with serving(running):
        first = await running.connect()
        assert await first.log_in() == OK
        running.write(running.route(), head="[limits]\nsessions = 1\n")
        await running.hang_up()
        second = await running.connect()
        assert ErrPacket.parse(await second.peer.receive()).code == 1040
        assert await first.command(QUERY) == OK


# The rest of the configuration.


async def test_the_log_level_changes(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[tuple[str, str]] = []
    monkeypatch.setattr(server_module, "set_up_logging", lambda level, style: levels.append((level, style)))
    running.write(running.route())
    async with serving(running):
        running.write(running.route(), head='[log]\nlevel = "debug"\nformat = "text"\n')
        await running.hang_up()
    assert levels == [("info", "json"), ("debug", "text")]


def test_setting_up_the_log_again_changes_its_level(log: EventLog) -> None:
    from proxy.reporting.logs import set_up_logging

    for level, number in (("debug", logging.DEBUG), ("error", logging.ERROR)):
        set_up_logging(level, "json")
        assert logger.level == number
        assert len(logger.handlers) == 1


async def test_a_change_of_the_admin_address_is_said_to_need_a_restart(running: Running) -> None:
    running.write(running.route())
    async with serving(running):
        new = running.path.read_text().replace("admin.sock", "other.sock")
        running.path.write_text(new)
        await running.hang_up()
        assert "admin" in str(running.log.events("restart_needed")[0]["detail"])
        assert (await running.ready())[0] == 200


async def test_certificates_that_are_gone_leave_the_metrics(running: Running) -> None:
    running.write(running.route(lines=TLS_LINE, tls=TLS_TABLE))
    async with serving(running):
        labels = {"route": "orders", "role": "replica_leg"}
        assert running.metric("certificate_not_after_timestamp_seconds", **labels)
        running.write(running.route())
        await running.hang_up()
        assert running.metric("certificate_not_after_timestamp_seconds", **labels) is None


# Listeners by themselves.


async def test_a_replica_that_is_taken_off_the_roster_is_not_shown_as_gone(running: Running) -> None:
    two = PLAIN_LINE + '[[route.replica]]\nname = "two"\naccounts = ["other"]\n'
    running.write(running.route(lines=two))
    async with serving(running):
        assert running.metric("replica_connected", route="orders", replica="two") == 0
        await running.streaming()
        running.write(running.route(lines=two.replace(PLAIN_LINE, "")))
        assert (await running.hang_up())["sessions_ended"] == 1
        await running.until("session_ended")
        assert running.metric("replica_connected", route="orders", replica="one") is None
        assert running.metric("replica_connected", route="orders", replica="two") == 0


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
