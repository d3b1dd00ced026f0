"""The service manager's protocols, each message and each descriptor."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import trio
import trio.testing

from supervision.journal import for_journal
from supervision.liveness import Pulse, keep_telling
from supervision.notifier import Notifier, SupervisionError
from supervision.sockets import address_text, require_address, require_path
from tests.supervision.manager import Manager

TAKE = """
import os
from supervision.notifier import SupervisionError
from supervision.sockets import address_text, handed_over_sockets
try:
    found = handed_over_sockets(os.environ)
except SupervisionError as error:
    raise SystemExit(str(error))
inherited = [os.get_inheritable(sock.fileno()) for sock in found.values()]
left = [name for name in os.environ if name.startswith("LISTEN_")]
raise SystemExit(f"{ {name: address_text(sock) for name, sock in found.items()} } {inherited} {left}")
"""


@pytest.fixture
def manager(tmp_path: Path) -> Manager:
    return Manager(tmp_path)


def taken(manager: Manager, *sockets: tuple[str, socket.socket], **environment: str) -> str:
    with manager, manager.running("-c", TAKE, sockets=sockets, environment=environment) as process:
        return process.communicate()[1].strip()


def test_sockets_come_by_their_names_and_go_no_further(manager: Manager, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.socket(socket.AF_UNIX) as two:
        two.bind(f"{tmp_path}/s")
        two.listen()
        port = one.getsockname()[1]
        said = taken(manager, ("a", one), ("b", two))
    assert said == f"{ {'a': f'127.0.0.1:{port}', 'b': f'unix:{tmp_path}/s'} } [False, False] []"


def test_where_a_socket_listens_is_written_as_configurations_write_it() -> None:
    for host, shown in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
        with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
            assert address_text(listening) == f"{shown}:{listening.getsockname()[1]}"


def test_sockets_that_no_name_was_given(manager: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        assert taken(manager, ("x", one), LISTEN_FDNAMES="").startswith("{'unknown': ")


@pytest.mark.parametrize(
    ("kind", "environment", "complaint"),
    [
        (socket.SOCK_STREAM, {}, "as 'x' does not listen for streams: its unit needs ListenStream= and Accept=no"),
        (socket.SOCK_DGRAM, {}, "as 'x' does not listen for streams: its unit needs ListenStream= and Accept=no"),
        (socket.SOCK_STREAM, {"LISTEN_FDNAMES": "x:y"}, "LISTEN_FDNAMES has 2 names for 1 descriptors"),
        (socket.SOCK_STREAM, {"LISTEN_FDS": "one"}, "LISTEN_FDS is 'one', which is no number of descriptors"),
    ],
)
def test_what_does_not_listen_is_refused(
    manager: Manager, kind: int, environment: dict[str, str], complaint: str
) -> None:
    with socket.socket(socket.AF_INET, kind) as sock:
        assert complaint in taken(manager, ("x", sock), **environment)


def test_two_sockets_of_one_name_and_no_socket_at_all_are_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        assert "hands over two sockets named 'x'" in taken(Manager(tmp_path), ("x", one), ("x", one))
    argv = [
        "sh",
        "-c",
        'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=x exec "$0" -c "$1" 3< /dev/null',
        sys.executable,
        TAKE,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "as 'x' is no socket: " in done.stderr


def test_a_socket_must_be_where_the_configuration_has_it(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        require_address(four, "x", "127.0.0.1", four.getsockname()[1])
        require_address(four, "x", "127.0.0.1", 0)
        require_address(six, "x", "::1", 0)
        for host, port in (("127.0.0.1", 1), ("127.0.0.2", 0), ("::1", 0)):
            with pytest.raises(SupervisionError, match=r"as 'x' listens on 127\.0\.0\.1:\d+, not on \[?" + host[:3]):
                require_address(four, "x", host, port)
        with pytest.raises(SupervisionError, match=r"not on unix:/run/x: ListenStream= and the configuration"):
            require_path(six, "x", "/run/x")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"{tmp_path}/s")
        require_path(unix, "x", f"{tmp_path}/s")
        with pytest.raises(SupervisionError, match=f"listens on unix:{tmp_path}/s, not on 127"):
            require_address(unix, "x", "127.0.0.1", 1)


def test_a_message_is_one_datagram_whatever_it_says(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "3000000", "OTHER": ""}
    with manager, closing(Notifier.from_environment(environment)) as notifier:
        assert environment == {"OTHER": ""}
        assert notifier.watchdog_seconds == 3
        notifier.ready("one\nWATCHDOG=trigger\x00")
        assert manager.heard() == {"READY": "1", "STATUS": "one WATCHDOG=trigger "}
        notifier.status("x" * 5000)
        assert manager.heard() == {"STATUS": "x" * 500}
        notifier.status("x" * 5000)
        notifier.alive()
        assert manager.heard() == {"WATCHDOG": "1"}


@pytest.mark.parametrize(("process", "seconds"), [("this", 3), ("1", None), ("", 3)])
def test_a_watchdog_is_for_the_process_that_it_names(process: str, seconds: float | None) -> None:
    environment = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()) if process == "this" else process}
    assert Notifier.from_environment(environment).watchdog_seconds == seconds
    assert not environment


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"binlock-test-{os.getpid()}"
        manager.bind(f"\0{name}")
        with closing(Notifier.from_environment({"NOTIFY_SOCKET": f"@{name}"})) as notifier:
            notifier.alive()
        assert manager.recv(100) == b"WATCHDOG=1"


def test_a_manager_that_is_gone_is_complained_of_and_no_more(tmp_path: Path) -> None:
    complaints: list[OSError] = []
    with closing(Notifier.from_environment({"NOTIFY_SOCKET": f"{tmp_path}/gone"}, complaints.append)) as notifier:
        notifier.ready("up")
    assert [type(error) for error in complaints] == [FileNotFoundError]


@pytest.mark.parametrize(
    "environment", [{"NOTIFY_SOCKET": "relative"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}]
)
def test_what_makes_no_sense_is_refused(environment: dict[str, str]) -> None:
    [(name, value)] = environment.items()
    with pytest.raises(SupervisionError, match=f"{name} is '{value}', which is n"):
        Notifier.from_environment(environment)


async def test_signs_of_life_end_when_one_part_stands_still(
    manager: Manager, autojump_clock: trio.testing.MockClock
) -> None:
    silences: list[list[str]] = []
    pulse = Pulse(trio.current_time)

    async def work(part: str, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                pulse.beat(part)
                await trio.sleep(1)

    with manager, closing(Notifier(str(manager.path), watchdog_seconds=8)) as notifier:
        stands_still = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, "goes on", trio.CancelScope())
            nursery.start_soon(work, "stands still", stands_still)
            nursery.start_soon(keep_telling, notifier, pulse, lambda: "up", silences.append)
            await trio.sleep(60)
            assert not silences
            assert manager.heard_of("WATCHDOG")
            stands_still.cancel()
            await trio.sleep(10)
            manager.forget()
            silences.clear()
            await trio.sleep(60)
            nursery.cancel_scope.cancel()
        assert silences
        assert all(parts == ["stands still"] for parts in silences)
        # Nothing was said since; so this is the first that is heard.
        notifier.stopping("over", 1)
        assert "STOPPING" in manager.heard()


async def test_without_a_manager_nothing_is_done() -> None:
    notifier = Notifier.from_environment({})
    notifier.ready("up")
    await keep_telling(notifier, Pulse(), lambda: pytest.fail("nobody asks"), lambda _: None)
    assert not notifier.is_wanted


def test_lines_have_their_level_in_front_in_the_journal_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w") as journal:
        monkeypatch.setattr(sys, "stderr", journal)
        status = os.fstat(journal.fileno())
        plain = logging.Formatter("%(message)s")
        there = for_journal(plain, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        for level, number in (("DEBUG", 7), ("INFO", 6), ("WARNING", 4), ("ERROR", 3)):
            record = logging.makeLogRecord({"levelno": getattr(logging, level), "msg": "one\ntwo"})
            assert there.format(record) == f"<{number}>one\n<{number}>two"
        for elsewhere in ({}, {"JOURNAL_STREAM": f"{status.st_dev}:1"}):
            assert for_journal(plain, elsewhere) is plain
