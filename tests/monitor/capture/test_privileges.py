import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.monitor.capture.namespaces import ROOT, in_namespace, ip

NOBODY = "65534"
NOTHING = "0000000000000000"
DROP = """
import sys
from monitor.capture.privileges import PrivilegeError, drop_privileges
try:
    drop_privileges(*sys.argv[1:])
except PrivilegeError as error:
    sys.exit(str(error))
print("dropped", flush=True)
sys.stdin.readline()
"""
WITH_THREAD = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@contextmanager
def dropping(*arguments: str, within: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """A process that has given its privileges up."""
    argv = [*within, sys.executable, "-c", DROP, *arguments]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline()
        assert said == "dropped\n", process.stderr.read()
        yield process
        process.communicate("\n")
    assert process.returncode == 0


def refusal(program: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr.strip()


def status(pid: int) -> dict[str, list[str]]:
    lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: value.split() for name, _, value in lines}


def test_root_becomes_nobody_with_nothing() -> None:
    with dropping(within=["setpriv", "--groups", "1,2", "--inh-caps", "+net_raw", "--"]) as process:
        seen = status(process.pid)
        # A process that may be dumped and traced owns its entry in /proc.
        assert Path(f"/proc/{process.pid}/mem").stat().st_uid == 0
    assert seen["Uid"] == [NOBODY] * 4
    assert seen["Gid"] == [NOBODY] * 4
    assert seen["Groups"] == []
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert seen[name] == [NOTHING], name
    assert seen["NoNewPrivs"] == ["1"]


def test_root_becomes_another_user() -> None:
    with dropping("daemon") as process:
        seen = status(process.pid)
    assert seen["Uid"] == ["1"] * 4
    assert seen["Gid"] == ["1"] * 4
    assert seen["CapEff"] == seen["CapBnd"] == [NOTHING]


def test_a_user_with_the_one_capability_keeps_nothing_but_the_user() -> None:
    within = [
        "setpriv", "--reuid", "1", "--regid", "1", "--clear-groups",
        "--inh-caps", "-all,+net_raw", "--ambient-caps", "-all,+net_raw", "--",
    ]  # fmt: skip
    before = subprocess.run([*within, "cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    assert "CapEff:\t0000000000002000\n" in before
    assert "CapAmb:\t0000000000002000\n" in before
    with dropping(within=within) as process:
        seen = status(process.pid)
        assert Path(f"/proc/{process.pid}/mem").stat().st_uid == 0
    assert seen["Uid"] == ["1"] * 4
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert seen[name] == [NOTHING], name
    assert seen["NoNewPrivs"] == ["1"]


def test_nobody_who_may_nothing_is_let_be() -> None:
    with dropping(within=["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]) as process:
        assert status(process.pid)["NoNewPrivs"] == ["1"]


def test_what_is_no_dropping_is_refused() -> None:
    assert refusal(DROP, "no-such-user") == "there is no user no-such-user to become"
    assert refusal(DROP, "root") == "root is root, or of its group: that gives up nothing"


def test_a_thread_that_keeps_its_own_is_noticed() -> None:
    said = refusal(WITH_THREAD + DROP)
    assert said.startswith("privileges are left: ")
    assert "NoNewPrivs is 0" in said


@pytest.mark.parametrize(
    ("without", "kept"),
    [
        ("os.setgroups", "Groups is "),
        ("os.setresgid", "Gid is 0\t0\t0\t0"),
        ("os.setresuid", "Uid is 0\t0\t0\t0"),
        ("privileges._clear_capabilities", "CapInh is 0000000000000400"),
        ("privileges._empty_bounding_set", "CapBnd is "),
        ("privileges._prctl", "NoNewPrivs is 0"),
    ],
)
def test_a_step_that_does_nothing_is_noticed(without: str, kept: str) -> None:
    program = f"import os\nfrom monitor.capture import privileges\n{without} = lambda *_: None\n{DROP}"
    # With groups and inheritable capabilities to lose.
    within = ["setpriv", "--groups", "1,2", "--inh-caps", "+net_bind_service", "--"]
    result = subprocess.run(
        [*within, sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith("privileges are left: ")
    assert kept in result.stderr


def test_in_a_user_namespace_without_the_user_the_reason_is_given() -> None:
    result = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--", sys.executable, "-c", DROP],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith("cannot give up privileges: ")
    assert "in a user namespace, nobody must be mapped" in result.stderr


@in_namespace
def test_an_open_capture_goes_on_and_no_other_can_be_opened() -> None:
    # Here and not above: this process is one of its own.
    from monitor.capture.interfaces import CaptureError, InterfaceCapture
    from monitor.capture.privileges import drop_privileges
    from tests.monitor.capture.crafted import ethernet, ipv4, key, tcp
    from tests.monitor.capture.namespaces import add_pair

    # Another process, which keeps its privileges, makes the interface anew and sends on it.
    asks, hears = os.pipe()
    answers, says = os.pipe()
    segment, settled = ethernet(ipv4(6, tcp(3306, 1, b"x"))), ethernet(ipv4(6, tcp(3306, 40000, b"x")))
    add_pair()
    if os.fork() == 0:
        from tests.monitor.capture.test_interfaces import Sender

        # So that the pipe ends with the other process.
        os.close(hears)
        while os.read(asks, 1):
            ip("link", "delete", "near")
            add_pair()
            os.write(says, b"1")
            os.read(asks, 1)
            Sender()(segment, settled)
            os.write(says, b"2")
        os._exit(0)
    os.close(says)
    capture = InterfaceCapture("far", frozenset({3306}), sample_1_in=1 << 31)
    capture.open()
    drop_privileges()
    with pytest.raises(CaptureError, match="not permitted to capture on far"):
        InterfaceCapture("far", None).open()
    taken: list[bytes] = []
    for _ in range(2):
        os.write(hears, b"a")
        assert os.read(answers, 1) == b"1"
        capture.poll(1.0)
        assert capture.is_up
        assert capture.retriage([key(3306, 40000)], True) == 1
        os.write(hears, b"b")
        assert os.read(answers, 1) == b"2"
        # The first answer is that the one before is gone.
        for _ in range(2):
            capture.drain(lambda frame, *_: taken.append(frame), 10)
    assert taken == [segment, segment]
    assert capture.statistics() == (2, 0)
    assert capture.is_up
