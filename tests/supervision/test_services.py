"""The real programs under a small service manager: what they say, and the sockets that they take over."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monitor.capture.namespaces import in_namespace, ip
from tests.supervision.manager import Manager, refusal

CONFIG = """
[admin]
listen = "unix:{folder}/admin.sock"
[limits]
drain_seconds = 7
{more}
[[route]]
name = "orders"
listen = "127.0.0.1:{port}"
allow = ["127.0.0.0/8"]
[route.source]
address = "unix:{folder}/nobody.sock"
[[route.replica]]
name = "one"
accounts = ["repl"]
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path) as manager:
        yield manager


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def configure(folder: Path, listening: socket.socket, more: str = "") -> Path:
    path = folder / "proxy.toml"
    path.write_text(CONFIG.format(folder=folder, port=listening.getsockname()[1], more=more))
    return path


def event(process: subprocess.Popen[str], name: str) -> dict[str, object]:
    assert process.stderr is not None
    for line in process.stderr:
        found: dict[str, object] = json.loads(line)
        if found["event"] == name:
            return found
    raise AssertionError(name)


def answer_to(connection: socket.socket) -> bytes:
    """What the proxy says to a replica whose source is down: an ERR packet."""
    connection.settimeout(30)
    return connection.recv(4096)


def test_the_proxy_tells_its_whole_life(manager: Manager, listening: socket.socket, tmp_path: Path) -> None:
    path = configure(tmp_path, listening)
    run = ("-m", "proxy", "run", "--config", path)
    with socket.socket(socket.AF_UNIX) as admin, socket.create_connection(listening.getsockname()) as early:
        admin.bind(f"{tmp_path}/admin.sock")
        admin.listen()
        sockets = [("orders", listening), ("admin", admin)]
        with manager.running(*run, sockets=sockets, watchdog_seconds=1) as process:
            assert event(process, "listening")["handed_over"] == ["orders", "admin"]
            assert manager.heard() == {"READY": "1", "STATUS": "1 route, 0 sessions"}
            # It came before the program was there, and waited.
            assert b"the source behind this route cannot be reached" in answer_to(early)
            assert manager.heard_of("WATCHDOG") == {"WATCHDOG": "1"}

            before = time.monotonic_ns() // 1000
            process.send_signal(signal.SIGHUP)
            reloading = manager.heard_of("RELOADING")
            assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            assert manager.heard_of("READY")["STATUS"] == "1 route, 0 sessions"

            # It is noticed without a signal, and told all the same.
            configure(tmp_path, listening, more="session = 1")
            manager.heard_of("RELOADING")
            failed = manager.heard_of("READY")["STATUS"]
            assert failed.startswith(f"1 route, 0 sessions; the last reload failed: {path}: unknown key 'session'")

            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            manager.forget()
            process.send_signal(signal.SIGCONT)
            assert manager.heard() == {"WATCHDOG": "1"}

            process.send_signal(signal.SIGTERM)
            stopping = manager.heard_of("STOPPING")
            assert stopping["STATUS"] == "draining: 0 sessions left"
            assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 7_000_000
            assert process.wait() == 0

        configure(tmp_path, listening)
        # Between two runs nobody is refused, and the next one takes care of them.
        with (
            socket.create_connection(listening.getsockname()) as waiting,
            manager.running(*run, sockets=sockets) as process,
        ):
            assert b"the source behind this route cannot be reached" in answer_to(waiting)
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0


def test_sockets_for_another_process_are_not_taken(manager: Manager, listening: socket.socket, tmp_path: Path) -> None:
    """So it listens by itself; and when it says that it is ready, it is."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        path = configure(tmp_path, free)
        address = free.getsockname()
    with manager.running(
        "-m", "proxy", "run", "--config", path, sockets=[("orders", listening)],
        environment={"LISTEN_PID": "1"},
    ) as process:  # fmt: skip
        assert "READY" in manager.heard()
        process.send_signal(signal.SIGHUP)
        with socket.create_connection(address) as replica, socket.socket(socket.AF_UNIX) as admin:
            admin.connect(f"{tmp_path}/admin.sock")
            assert b"the source behind this route cannot be reached" in answer_to(replica)
        assert manager.heard_of("RELOADING")
        assert "handed_over" not in event(process, "listening")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_socket_that_is_no_routes_is_an_error_that_says_what_to_do(
    manager: Manager, listening: socket.socket, tmp_path: Path
) -> None:
    run = ("-m", "proxy", "run", "--config", configure(tmp_path, listening))
    with manager.running(*run, sockets=[("order", listening)]) as process:
        said = refusal(process)
    assert (
        "a socket named 'order', and there is no such route: FileDescriptorName= must be one of orders, admin" in said
    )
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = other.getsockname()[1], listening.getsockname()[1]
        with manager.running(*run, sockets=[("orders", other)]) as process:
            said = refusal(process)
    assert "as 'orders' listens on 127.0.0.1:{}, not on 127.0.0.1:{}: ListenStream=".format(*ports) in said


@in_namespace
def test_the_monitor_tells_its_whole_life() -> None:
    import tempfile

    ip("link", "set", "lo", "up")
    with (
        tempfile.TemporaryDirectory() as folder,
        Manager(Path(folder)) as manager,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        address = "{}:{}".format(*listening.getsockname())
        run = ("-m", "monitor", "run", "--user", "", "--interface", "lo", "--listen", address)
        with manager.running(*run, sockets=[("endpoint", listening)], watchdog_seconds=3) as process:
            status = "watching lo: 0 of 0 flows replicate in the clear"
            assert manager.heard() == {"READY": "1", "STATUS": status}
            assert event(process, "started")["listen"] == [address]
            manager.heard_of("WATCHDOG")
            # With nothing to do it is alive too.
            manager.heard_of("WATCHDOG")
            ip("link", "set", "lo", "down")
            assert manager.heard_of("STATUS")["STATUS"] == status.replace("lo:", "lo (down):")
            manager.heard_of("WATCHDOG")
            process.send_signal(signal.SIGTERM)
            assert "EXTEND_TIMEOUT_USEC" in manager.heard_of("STOPPING")
            assert process.wait() == 0
        with manager.running(*run, sockets=[("metrics", listening)]) as process:
            assert "a socket named 'metrics': FileDescriptorName= must be endpoint" in refusal(process)
