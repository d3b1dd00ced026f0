import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from testbed.programs import Program, ProgramError, listening_ports
from testbed.servers import free_port

LISTEN = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('up'); s.accept()"


def python(text: str, *arguments: object) -> list[str]:
    return [sys.executable, "-u", "-c", text, *map(str, arguments)]


def test_a_program_is_waited_for_by_port_and_log_and_ended(tmp_path: Path) -> None:
    port = free_port()
    with Program(python(LISTEN, port), log=tmp_path / "log") as program:
        program.wait_for_port(port)
        assert program.wait_for_log("up") == "up"
        assert program.running
        assert program.terminate() == -signal.SIGTERM
        assert port not in listening_ports(os.getpid())
        program.start()
        program.wait_for_log("up")
    assert program.exit_status == -signal.SIGKILL


def test_a_program_that_ends_early_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with (
        Program(python("raise SystemExit('no such key')"), log=tmp_path / "log") as program,
        pytest.raises(ProgramError, match=r"status 1 before port 9 to listen(.|\n)*no such key"),
    ):
        program.wait_for_port(9)


def test_waiting_in_vain_ends(tmp_path: Path) -> None:
    with (
        Program(["sleep", "60"], log=tmp_path / "log") as program,
        pytest.raises(TimeoutError, match="'never'"),
    ):
        program.wait_for_log("never", timeout=0.1)


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="no program no-such-thing"):
        Program(["no-such-thing"], log=tmp_path / "log").start()


def test_a_program_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    program = Program(["sleep", "60"], log=tmp_path / "log")
    thread = threading.Thread(target=program.start)
    thread.start()
    thread.join()
    with pytest.raises(ProgramError, match="still runs"):
        program.wait(timeout=0.2)
    program.kill()


def test_a_program_dies_with_the_process_that_started_it() -> None:
    start = (
        "import pathlib, time; from testbed.programs import Program;"
        "program = Program(['sleep', '60'], log=pathlib.Path('/dev/null'));"
        "print(program.start().pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(python(start), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = Path("/proc") / parent.stdout.readline().decode().strip()
        assert child.exists()
        parent.kill()
    deadline = time.monotonic() + 10
    while child.exists() and "Z" not in (child / "stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
