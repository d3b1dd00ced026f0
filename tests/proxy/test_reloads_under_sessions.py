"""Reloads of a running server that has sessions: those that it still admits are not touched, the others end."""

import itertools
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.serialization import Encoding

from proxy import server as server_module
from proxy.openssl import Negotiated
from proxy.outcomes import Ending
from proxy.server import Server
from proxy.sessions import SessionRecord
from proxy.site import Route, load_site
from proxy.standing import fallen
from tests.proxy.fakes import OK
from tests.proxy.pki import Pki
from tests.proxy.running import PLAIN_LINE, QUERY, TLS_LINE, TLS_TABLE, Running, say_goodbye, serving
from wire.results import ErrPacket


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
