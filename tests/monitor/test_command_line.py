"""`binlock-monitor`: what it prints, and what it exits with."""

import gzip
import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from monitor.command_line import main
from monitor.verdicts import Verdict
from tests.monitor.capture.crafted import SYN, ethernet, ipv4, tcp
from tests.monitor.capture.namespaces import ROOT, in_namespace, ip
from tests.monitor.test_service import from_replica

SECRET = b"binlog.secret.000007"
_BODY = b"\x12" + struct.pack("<IHI", 4, 0, 77) + SECRET
DUMP = len(_BODY).to_bytes(3, "little") + b"\x00" + _BODY
SYNS = ethernet(ipv4(6, tcp(40009, 3306, flags=SYN), source="10.0.0.9", destination="10.0.0.1"))
ORDERED = ["plaintext-replication", "undecided", "plaintext-client", "tls", "not-mysql"]


def pcap(*frames: bytes, cut: int = 0) -> bytes:
    """A classic capture file, one packet a second; `cut` bytes are missing at its end."""
    whole = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for number, frame in enumerate(frames):
        whole += struct.pack("<IIII", 1_700_000_000 + number, 0, len(frame), len(frame)) + frame
    return whole[: len(whole) - cut]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "one.pcap"
    path.write_bytes(pcap(from_replica(DUMP), SYNS))
    return path


def read_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[dict[str, Any]]:
    main(["read", "--json", *map(str, arguments)])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_is_one_object_a_line_with_the_fields_of_the_contract(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replication, opening = read_json(capsys, capture)
    assert replication["evidence"]
    assert {name: replication[name] for name in replication if name != "evidence"} == {
        "file": str(capture),
        "client": "10.0.0.2:40000",
        "server": "10.0.0.1:3306",
        "verdict": "plaintext-replication",
        "mid_stream": True,
        "incomplete": False,
        "compressed": False,
        "packets": 1,
        "bytes": len(DUMP),
        "first_seen": "2023-11-14T22:13:20.000+00:00",
        "last_seen": "2023-11-14T22:13:20.000+00:00",
    }
    assert (opening["verdict"], opening["client"]) == ("undecided", "10.0.0.9:40009")


def test_the_table_has_the_worst_first_and_counts_each_verdict(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["read", str(capture)]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[1].startswith("plaintext-replication  10.0.0.2:40000")
    assert [line.split() for line in lines[-5:]] == [
        [str(count), verdict] for count, verdict in zip([1, 1, 0, 0, 0], ORDERED, strict=True)
    ]
    assert said.err == ""
    assert "\x1b" not in said.out


def test_the_file_stands_beside_each_flow_where_there_are_several(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["read", str(capture)])
    assert "one.pcap" not in capsys.readouterr().out
    main(["read", str(capture), str(capture)])
    assert capsys.readouterr().out.count("one.pcap") == 4


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_same_file_comes_to_the_same_output(
    form: list[str], capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for _ in range(2):
        main(["read", *form, str(capture)])
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != ""
    assert SECRET.decode() not in outputs[0]


@pytest.mark.parametrize(
    ("fail_on", "code"),
    [
        ([], 0),
        (["plaintext-replication"], 1),
        (["tls"], 0),
        (["tls", "undecided"], 1),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_fail_on_decides_the_exit_code(
    fail_on: list[str], code: int, form: list[str], capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [word for verdict in fail_on for word in ("--fail-on", verdict)]
    assert main(["read", *form, *options, str(capture)]) == code
    assert "plaintext-replication" in capsys.readouterr().out


def test_ports_choose_what_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ports.pcap"
    path.write_bytes(
        pcap(
            *(
                ethernet(ipv4(6, tcp(40000, port, DUMP), source="10.0.0.2", destination="10.0.0.1"))
                for port in (3306, 3307, 3308)
            )
        )
    )

    def servers(*options: str) -> list[str]:
        return [flow["server"].rpartition(":")[2] for flow in read_json(capsys, *options, path)]

    assert servers() == ["3306"]
    assert servers("--port", "3307", "--port", "3308") == ["3307", "3308"]
    assert servers("--port", "any") == ["3306", "3307", "3308"]


def test_masking_is_fresh_each_run_unless_there_is_a_key(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file = tmp_path / "mask.key"
    key_file.write_text("correct horse battery staple\n")
    masked = [read_json(capsys, *options, capture)[0] for options in [["--mask"]] * 2]
    keyed = [read_json(capsys, "--mask-key-file", key_file, capture)[0] for _ in range(2)]
    assert masked[0]["client"] != masked[1]["client"]
    assert keyed[0] == keyed[1]
    for flow in (*masked, *keyed):
        assert re.fullmatch(r"host-[0-9a-f]{10}:3306", flow["server"])
        assert "10.0.0" not in json.dumps(flow)


def test_gzip_is_read_and_standard_input_too(capture: Path, tmp_path: Path) -> None:
    packed = tmp_path / "one.pcap.gz"
    packed.write_bytes(gzip.compress(capture.read_bytes()))
    with packed.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-m", "monitor", "read", "--json", "-"], stdin=stdin, capture_output=True, check=True
        )
    assert json.loads(done.stdout.splitlines()[0])["verdict"] == "plaintext-replication"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_of_a_damaged_file_all_that_can_be_read_is_shown_and_the_exit_code_says_so(
    form: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap(from_replica(DUMP), SYNS, cut=10))
    assert main(["read", *form, str(path)]) == 2
    said = capsys.readouterr()
    assert "plaintext-replication" in said.out
    assert said.err.startswith(f"binlock-monitor: {path}: ")
    assert said.err.count("\n") == 1
    assert main(["read", "--fail-on", "plaintext-replication", str(path)]) == 1


def test_a_file_that_is_none_keeps_the_others_from_nothing(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("no capture\n")
    assert main(["read", str(tmp_path / "absent"), str(tmp_path / "text"), str(capture)]) == 2
    said = capsys.readouterr()
    assert "plaintext-replication  10.0.0.2:40000" in said.out
    assert [line.startswith("binlock-monitor: ") for line in said.err.splitlines()] == [True, True]
    assert "absent: No such file" in said.err


def test_a_reader_that_leaves_is_no_traceback(capture: Path) -> None:
    program = [sys.executable, "-m", "monitor", "read", "--json", *[str(capture)] * 2000]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.readline()
        reading.stdout.close()
        assert reading.stderr.read() == b""
    assert reading.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required"),
        (["fly"], "invalid choice"),
        (["read"], "required: FILE"),
        (["read", "--fail-on", "nonsense", "x"], "invalid choice: 'nonsense'"),
        (["read", "--port", "0", "x"], "'0' is neither a port, 1 to 65535, nor any"),
        (["read", "--port", "65536", "x"], "neither a port"),
        (["run"], "required: --interface"),
        (["run", "--interface", "lo", "--listen", "9308"], "'9308' is not HOST:PORT"),
        (["run", "--interface", "lo", "--listen", "::1:9308"], "stands in brackets"),
        (["run", "--interface", "lo", "--buffer-mib", "0"], "not a number from 1 to 1024"),
    ],
)
def test_a_wrong_command_line_exits_with_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_key_file_that_is_no_secret_is_refused(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("x")
    assert main(["read", "--mask-key-file", str(tmp_path / "key"), str(capture)]) == 2
    assert "holds 1 bytes" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["run"], ["read"]])
def test_help_has_examples_or_commands_and_every_verdict(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--help"])
    assert exit_.value.code == 0
    said = capsys.readouterr().out
    assert all(verdict.value in said for verdict in Verdict)
    assert not command or "examples:\n" in said


def run_once(*arguments: str, within: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    program = [*within, sys.executable, "-m", "monitor", "run", *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def test_an_interface_that_is_not_there_is_named() -> None:
    done = run_once("--interface", "nosuch0", "--listen", "127.0.0.1:0")
    assert done.returncode == 2
    assert done.stderr.startswith("binlock-monitor: there is no interface nosuch0")
    assert done.stderr.count("\n") == 1


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]  # noqa: UP031
        done = run_once("--interface", "lo", "--listen", address)
    assert done.returncode == 2
    assert done.stderr.startswith(f"binlock-monitor: cannot listen on {address}: ")


@in_namespace
def test_a_user_who_is_not_there_is_named() -> None:
    ip("link", "set", "lo", "up")
    done = run_once("--interface", "lo", "--listen", "127.0.0.1:0", "--user", "nosuchuser")
    assert done.returncode == 2
    assert done.stderr.startswith("binlock-monitor: there is no user nosuchuser")


def test_who_may_not_capture_is_told_what_it_takes() -> None:
    # In a user namespace of its own nobody has a capability outside it.
    done = run_once("--interface", "lo", "--listen", "127.0.0.1:0", within=["unshare", "--user"])
    assert done.returncode == 2
    assert "not permitted" in done.stderr
    assert "CAP_NET_RAW" in done.stderr
    assert done.stderr.count("\n") == 1
