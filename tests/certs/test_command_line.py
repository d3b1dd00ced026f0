import json
import os
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from certs.command_line import main
from certs.issuing.index import serial_text

COMMANDS = ("init", "issue", "renew", "revoke", "crl", "show", "verify", "mysql-config")
EXPECTED = {
    "source": ("[route.replica_tls]",),
    "replica": ("CHANGE REPLICATION SOURCE TO", "[route.source.tls]", "[[route.replica]]"),
    "proxy": ("[route.replica_tls]", "[route.source.tls]", "[[route.replica]]"),
}


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["init", "--dir", str(tmp_path / "ca")]) == 0
    capsys.readouterr()
    return tmp_path / "ca"


def test_init_says_what_it_made_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--name", "Orders CA", "--days", "365", "--key-type", "ed25519"]
    assert main(["init", "--dir", str(tmp_path / "ca"), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "Made the authority 'Orders CA' (ed25519), good until " in printed
    assert f"Next: binlock-certs issue source HOST --dir {tmp_path / 'ca'}" in printed
    certificate = x509.load_pem_x509_certificate((tmp_path / "ca" / "ca.crt").read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=Orders CA"


@pytest.mark.parametrize("role", EXPECTED)
def test_issue_prints_the_lines_to_paste(folder: Path, role: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["issue", role, "host.example", "--dir", str(folder), "--ip", "10.0.0.5", "10.0.0.6"]) == 0
    printed = capsys.readouterr().out
    assert f"Issued a {role} certificate for DNS:host.example, IP:10.0.0.5, IP:10.0.0.6," in printed
    for line in EXPECTED[role]:
        assert line in printed


def test_the_toml_to_paste_is_toml_that_names_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / 'with "quotes", it\'s \\ ü'
    assert main(["init", "--dir", str(folder)]) == 0
    capsys.readouterr()
    assert main(["issue", "proxy", "proxy.example", "--dir", str(folder)]) == 0
    pasted = "[[route]]\n" + capsys.readouterr().out.partition("\n\n")[2]
    route = tomllib.loads(pasted)["route"][0]
    assert route["replica_tls"] == route["source"]["tls"]
    assert route["replica_tls"] == {
        "certificate": str(folder / "proxy.example.crt"),
        "key": str(folder / "proxy.example.key"),
        "ca": str(folder / "ca.crt"),
        "crl": [str(folder / "ca.crl")],
    }
    assert route["replica"][0]["identity"] == "proxy.example"
    assert main(["issue", "replica", "replica.example", "--dir", str(folder)]) == 0
    quoted = str(folder / "ca.crt").replace("\\", "\\\\").replace("'", "''")
    assert f"SOURCE_SSL_CA = '{quoted}'" in capsys.readouterr().out


def test_a_name_that_cannot_do_its_work_is_remarked_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["issue", "replica", "10.0.0.5", "--dir", str(folder)]) == 0
    assert "roster knows replicas by those" in capsys.readouterr().out
    assert main(["issue", "source", "spiffe://example.org/db1", "--dir", str(folder)]) == 0
    assert "verifies its source's name will refuse it" in capsys.readouterr().out


def test_json_names_the_files_the_serial_and_the_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    arguments = ["--uri", "spiffe://example.org/r/1", "--seconds", "60", "--out", str(out), "--json"]
    assert main(["issue", "replica", "r1.example", "--dir", str(folder), *arguments]) == 0
    answer = json.loads(capsys.readouterr().out)
    certificate = x509.load_pem_x509_certificate(Path(answer["certificate"]).read_bytes())
    assert answer == {
        "role": "replica",
        "names": ["DNS:r1.example", "URI:spiffe://example.org/r/1"],
        "certificate": str(out / "r1.example.crt"),
        "key": str(out / "r1.example.key"),
        "ca": str(folder / "ca.crt"),
        "crl": str(folder / "ca.crl"),
        "serial": serial_text(certificate.serial_number),
        "not_before": answer["not_before"],
        "not_after": answer["not_after"],
    }
    assert datetime.fromisoformat(answer["not_after"]) == certificate.not_valid_after_utc
    assert 0 < (certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds() < 62


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND (see `binlock-certs --help`)"),
        (["isue"], "invalid choice: 'isue'"),
        (["init"], "required: --dir (see `binlock-certs init --help`)"),
        (["init", "--dir", "{}"], "holds an authority already"),
        (["init", "--dir", "x", "--key-type", "dsa"], "choose from 'ecdsa-p256', 'ecdsa-p384'"),
        (["init", "--dir", "x", "--days", "0"], "'0' is not a whole number from 1 to 36500"),
        (["init", "--dir", "x", "--days", "9" * 5000], "is not a whole number from 1 to 36500"),
        (["init", "--dir", "x", "--nam", "y"], "unrecognized arguments: --nam y"),
        (["issue", "sourc", "db1", "--dir", "{}"], "choose from 'source', 'replica', 'proxy'"),
        (["issue", "source", "db 1", "--dir", "{}"], "'db 1' is not a DNS name"),
        (["issue", "source", "db1", "--dir", "{}/none"], "holds no authority (no ca.crt)"),
        (["issue", "source", "db1", "--dir", "{}", "--days", "1", "--seconds", "1"], "not allowed with"),
        (["issue", "source", "db1", "--dir", "{}", "--seconds", "1.5"], "is not a whole number"),
        (["issue", "source", "db1", "--dir", "{}", "--days", "4000"], "would outlive its authority"),
        (["issue", "source", "db1", "--dir", "{}", "--out", "{}/ca.crt"], "cannot make the folder"),
    ],
)
def test_what_is_refused_is_one_line_and_exit_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main([argument.replace("{}", str(folder)) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("binlock-certs: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_tells_the_exit_codes(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert "exit codes:\n  0    done\n  1    verify: a check failed\n  2    refused" in capsys.readouterr().out


def test_both_ways_of_starting_it(tmp_path: Path) -> None:
    folder = str(tmp_path / "ca")
    script = Path(sys.executable).with_name("binlock-certs")
    made = subprocess.run([script, "init", "--dir", folder], capture_output=True, text=True, check=False)
    assert (made.returncode, made.stderr) == (0, "")
    again = subprocess.run(
        [sys.executable, "-m", "certs", "init", "--dir", folder], capture_output=True, text=True, check=False
    )
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith(f"binlock-certs: {folder} holds an authority already")


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_reader_that_leaves_is_no_bug(folder: Path, buffered: str) -> None:
    command = [sys.executable, "-m", "certs", "show", "--dir", str(folder)]
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == b""
        assert program.wait(30) == 2


def test_a_root_and_the_authority_below_it_are_made_without_a_thought_for_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--dir", str(tmp_path / "root"), "--allow-intermediates"]) == 0
    assert main(["init", "--dir", str(tmp_path / "authority"), "--parent", str(tmp_path / "root")]) == 0
    assert main(["show", "--dir", str(tmp_path / "authority")]) == 0
    assert "CN=Binlock CA < CN=Binlock root CA" in capsys.readouterr().out
