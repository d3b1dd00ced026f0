"""`binlock-proxy`: what it prints, what it exits with, and a whole life of `run` in a process of its own."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from proxy.command_line import main
from tests.proxy.configuration.test_config import PLAIN, tls_text
from tests.proxy.pki import Pki


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def config(folder: Path, *, listen: int = 0, admin: str | None = None, more: str = "") -> Path:
    path = folder / "proxy.toml"
    head = f'[admin]\nlisten = "{admin or f"unix:{folder}/admin.sock"}"\n{more}'
    path.write_text(head + PLAIN.replace("127.0.0.1:0", f"127.0.0.1:{listen}"))
    return path


@contextmanager
def running(path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", "run", "--config", str(path)], stderr=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(20, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
        watchdog.cancel()


def next_event(process: "subprocess.Popen[str]", name: str) -> dict[str, object]:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        event: dict[str, object] = json.loads(line)
        if event["event"] == name:
            return event
    raise AssertionError(seen)


def test_check_says_what_would_be_served(pki: Pki, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text(tls_text(pki))
    assert main(["check", "--config", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"{path}: usable" in said
    assert "route orders: 0.0.0.0:3307 (MySQL TLS, client certificate required) -> 127.0.0.1:3306 (plaintext)" in said
    assert "policy replication; roster: replica-1.example" in said


def test_check_speaks_json(pki: Pki, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text(tls_text(pki))
    assert main(["check", "--json", "--config", str(path)]) == 0
    [route] = json.loads(capsys.readouterr().out)["routes"]
    assert route["certificates_not_after"] == {"replica leg": pki.proxy.certificate.not_valid_after_utc.isoformat()}


@pytest.mark.parametrize("command", ["check", "run", "health", "sessions"])
def test_an_unusable_configuration_exits_with_2_and_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, more="[limits]\nsession = 1\n")
    assert main([command, "--config", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"binlock-proxy: {path}: unknown key 'session' in limits; did you mean 'sessions'?")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["run", "--fast"], ["run", "--admin", "a:1"], ["health", "--admin", "a:1", "--config", "f"]],
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: binlock-proxy" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["health", "sessions"])
def test_without_a_running_proxy_it_fails_and_asks_the_obvious(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--config", str(config(tmp_path))]) == 1
    said = capsys.readouterr().err
    assert f"no proxy answers at unix:{tmp_path}/admin.sock" in said
    assert "is `binlock-proxy run` running?" in said


SPOILT = "[admin\n"


@pytest.mark.parametrize("is_tcp", [False, True])
def test_by_its_address_a_proxy_is_asked_whatever_its_file_holds_by_now(
    is_tcp: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = f"127.0.0.1:{free_port()}" if is_tcp else f"unix:{tmp_path}/admin.sock"
    path = config(tmp_path, admin=admin)
    with running(path) as process:
        next_event(process, "listening")
        path.write_text(SPOILT)
        next_event(process, "reload_failed")
        for command in ("health", "sessions"):
            assert main([command, "--config", str(path)]) == 2
            assert f"{path}: not valid TOML" in capsys.readouterr().err
        path.unlink()
        assert main(["health", "--admin", admin]) == 0
        assert capsys.readouterr().out.startswith("ready; the last reload failed: ")
        assert main(["health", "--live", "--admin", admin]) == 0
        assert main(["sessions", "--json", "--admin", admin]) == 0
        assert capsys.readouterr().out == "ok\n[]\n"


@pytest.mark.parametrize("command", ["health", "sessions"])
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--admin", "127.0.0.1:1"], 1, "no proxy answers at 127.0.0.1:1: "),
        (["--admin", "unix:/run/none"], 1, "no proxy answers at unix:/run/none: [Errno 2] No such file or directory; "),
        (["--admin", "9307"], 2, "--admin: '9307': expected host:port"),
        (["--admin", "127.0.0.1:1", "--ca", "c"], 2, "--admin: TLS takes all of --certificate, --key and --ca"),
        (
            ["--admin", "127.0.0.1:1", "--server-name", "a"],
            2,
            "--admin: TLS takes all of --certificate, --key and --ca",
        ),
        (["--admin", "unix:/run/none", "--ca", "c"], 2, "--admin: a unix socket speaks no TLS"),
        (
            ["--admin", "127.0.0.1:1", "--certificate", "/c", "--key", "/k", "--ca", "/a"],
            2,
            "/c: certificate: cannot be read: No such file or directory",
        ),
    ],
)
def test_an_address_that_cannot_be_asked_is_named(
    command: str, arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, *arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith(f"binlock-proxy: {said}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_runs_until_it_is_told_to_stop(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path)
    with running(path) as process:
        listening = next_event(process, "listening")
        assert "route_orders" in listening
        [admin] = cast("list[str]", listening["admin"])
        assert main(["health", "--admin", admin]) == 0
        assert main(["health", "--config", str(path)]) == 0
        assert main(["health", "--live", "--config", str(path)]) == 0
        assert main(["sessions", "--json", "--config", str(path)]) == 0
        assert capsys.readouterr().out == "ready\nready\nok\n[]\n"
        process.send_signal(number)
        assert next_event(process, "draining")["sessions"] == 0
        next_event(process, "stopped")
        assert process.wait() == 0


def test_a_drain_ends_a_session_and_waits_no_longer_than_it_must(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as source:
        path = config(tmp_path, listen=port)
        text = path.read_text().replace("unix:/run/mysqld/mysqld.sock", "127.0.0.1:%d" % source.getsockname()[1])  # noqa: UP031
        path.write_text(text)
        with running(path) as process:
            next_event(process, "listening")
            with socket.create_connection(("127.0.0.1", port)) as replica:
                dialled, _ = source.accept()
                with dialled:
                    process.send_signal(signal.SIGTERM)
                    assert next_event(process, "draining")["sessions"] == 1
                    assert next_event(process, "session_refused")["reason"] == "drained"
                assert b"Binlock: shutting down" in replica.recv(4096)
                assert process.wait() == 0


def test_a_port_that_is_taken_is_an_error_that_names_route_and_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(config(tmp_path, listen=port)) as process:
            _, said = process.communicate()
    assert process.returncode == 2
    assert f"route 'orders': cannot listen on 127.0.0.1:{port}" in said
    assert "in use" in said


def test_an_admin_address_that_is_taken_is_an_error_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]  # noqa: UP031
        with running(config(tmp_path, admin=address)) as process:
            _, said = process.communicate()
    assert f"binlock-proxy: admin: cannot listen on {address}" in said
    assert "Traceback" not in said
    assert process.returncode == 2
