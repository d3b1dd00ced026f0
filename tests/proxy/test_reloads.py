"""Reloads of a running server: what starts one, and that all of a new configuration comes into force, or nothing."""

import logging
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.serialization import Encoding

from certs.profiles import Role
from proxy import server as server_module
from proxy.reporting.logs import logger
from tests.proxy.bench import EventLog
from tests.proxy.fakes import OK
from tests.proxy.pki import Pki
from tests.proxy.running import PLAIN_LINE, TLS_LINE, TLS_TABLE, Running, say_goodbye, serving

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


async def test_a_replica_that_is_taken_off_the_roster_is_not_shown_as_gone(running: Running) -> None:
    two = PLAIN_LINE + '[[route.replica]]\nname = "two"\naccounts = ["other"]\n'
    running.write(running.route(lines=two))
    async with serving(running):
        assert running.metric("replica_connected", route="orders", replica="two") == 0
        assert running.metric("replica_streams_total", route="orders", replica="two") == 0
        await running.streaming()
        running.write(running.route(lines=two.replace(PLAIN_LINE, "")))
        assert (await running.hang_up())["sessions_ended"] == 1
        await running.until("session_ended")
        assert running.metric("replica_connected", route="orders", replica="one") is None
        assert running.metric("replica_connected", route="orders", replica="two") == 0
