"""`show` and `verify` from the command line, on files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certs.command_line import main
from certs.verifying.findings import Check

Run = Callable[..., Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str | Path, code: int = 0) -> Any:
        assert main([*map(str, arguments)]) == code, capsys.readouterr()
        answer = capsys.readouterr()
        if code == 2:
            assert answer.out == ""
            return answer.err
        return json.loads(answer.out) if "--json" in arguments else answer.out

    return command


@pytest.fixture
def site(run: Run, tmp_path: Path) -> Path:
    run("init", "--dir", tmp_path, "--name", "Orders CA")
    run("issue", "source", "db1.example", "--ip", "10.0.0.5", "--dir", tmp_path)
    run("issue", "replica", "spiffe://example.org/r/1", "--dir", tmp_path, "--days", "10")
    return tmp_path


def trusting(site: Path, name: str = "db1.example") -> tuple[str | Path, ...]:
    return (
        "verify", "--ca", site / "ca.crt", "--crl", site / "ca.crl", "--certificate", site / f"{name}.crt",
        "--key", site / f"{name}.key",
    )  # fmt: skip


def test_show_lists_what_was_issued_and_how_it_stands(run: Run, site: Path) -> None:
    run("issue", "proxy", "old.example", "--seconds", "1", "--dir", site)
    run("issue", "replica", "gone.example", "--dir", site)
    run("issue", "replica", "soon.example", "--days", "60", "--dir", site)
    run("revoke", "gone.example", "--dir", site)
    content = (site / "index.json").read_text()
    shown = run("show", "--dir", site, "--json")
    states = {entry["label"]: entry["state"] for entry in shown["certificates"]}
    del states["old.example"]  # on a busy machine it may or may not have ended
    assert states == {
        "db1.example": "valid", "spiffe://example.org/r/1": "valid", "gone.example": "revoked", "soon.example": "valid"
    }  # fmt: skip
    assert (shown["authority"], shown["crl_number"], shown["key_has_passphrase"]) == ("CN=Orders CA", 2, False)
    assert shown["crl_days_left"] in {364, 365}
    (site / "ca.key").unlink()  # it is not needed to look
    printed = run("show", "--dir", site)
    assert printed.startswith("CN=Orders CA (ecdsa secp256r1), until 20")
    assert "DNS:db1.example, IP:10.0.0.5" in printed
    assert (site / "index.json").read_text() == content


def test_what_ends_soon_is_told(run: Run, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    from certs import command_line
    from certs.profiles import utc_now

    for days, state in ((0, "valid"), (8, "ending"), (11, "expired")):
        monkeypatch.setattr(command_line, "utc_now", lambda days=days: utc_now() + timedelta(days=days))
        [_, entry] = run("show", "--dir", site, "--json")["certificates"]
        assert entry["state"] == state


def test_show_says_what_is_in_files_and_no_secret(run: Run, site: Path) -> None:
    files = [site / name for name in ("db1.example.crt", "ca.crt", "ca.crl", "db1.example.key")]
    shown = run("show", *files, "--json")["contents"]
    assert [record["kind"] for record in shown] == ["certificate", "authority", "revocation list", "private key"]
    assert shown[0]["names"] == ["DNS:db1.example", "IP:10.0.0.5"]
    assert shown[0]["purposes"] == ["serverAuth"]
    assert (shown[3]["key_type"], shown[3]["mode"]) == ("ecdsa secp256r1", "0600")
    secret = (site / "db1.example.key").read_text().splitlines()[1]
    printed = run("show", *files)
    assert secret not in printed
    assert f"{files[0]}: certificate\n  subject: CN=db1.example\n" in printed
    assert "say what: files, or --dir" in run("show", code=2)
    assert "no certificate, list, request or key" in run("show", site / "index.json", code=2)


def test_verify_passes_what_is_good(run: Run, site: Path) -> None:
    answer = run(*trusting(site), "--role", "source", "--name", "10.0.0.5", "--days", "80", "--json")
    assert answer["good"]
    assert {check["verdict"] for check in answer["checks"]} == {"pass"}
    assert [check["check"] for check in answer["checks"]] == [
        check for check in Check if check not in {Check.TLS, Check.CLIENT}
    ]
    printed = run(*trusting(site), "--role", "source", "--name", "db1.example")
    assert "pass  name         stands for DNS:db1.example\n" in printed
    assert "\033" not in printed
    replica = trusting(site, "example.org-r-1")
    assert run(*replica, "--role", "replica", "--name", "spiffe://example.org/r/1", "--json")["good"]


@pytest.mark.parametrize(
    ("options", "check", "words"),
    [
        (("--name", "db2.example"), "name", "does not stand for DNS:db2.example, it has DNS:db1.example"),
        (("--name", "spiffe://example.org/r/2"), "name", "does not stand for URI:"),
        (("--role", "replica"), "purpose", "is not for connecting as a client"),
        (("--role", "proxy"), "purpose", "is not for connecting as a client"),
        (("--days", "91"), "days-left", "renew it"),
    ],
)
def test_verify_says_what_is_not(run: Run, site: Path, options: tuple[str, ...], check: str, words: str) -> None:
    answer = run(*trusting(site), *options, "--json", code=1)
    [failed] = [each for each in answer["checks"] if each["verdict"] == "fail"]
    assert failed["check"] == check
    assert words in failed["detail"]
    assert f"fail  {check}" in run(*trusting(site), *options, code=1)


def test_verify_looks_at_the_key_file(run: Run, site: Path) -> None:
    key = site / "db1.example.key"
    other = (*trusting(site)[:-1], site / "example.org-r-1.key")
    assert "belongs to another certificate" in run(*other, code=1)
    key.chmod(0o640)
    assert "is open to other accounts (mode 0640)" in run(*trusting(site), code=1)
    key.chmod(0o600)
    words = site / "words"
    words.write_text("correct horse battery\n")
    words.chmod(0o600)
    run("init", "--dir", site / "other", "--passphrase-file", words)
    assert "servers read keys unattended" in run(*trusting(site)[:-1], site / "other" / "ca.key", code=1)
    assert "is not a PEM private key" in run(*trusting(site)[:-1], words, code=1)


def test_without_a_list_it_says_that_nobody_looked(run: Run, site: Path) -> None:
    arguments = ("verify", "--ca", site / "ca.crt", "--certificate", site / "db1.example.crt")
    assert "warn  revocation   not checked: give --crl" in run(*arguments)
    run("revoke", "db1.example", "--dir", site)
    assert "CN=db1.example was revoked on 20" in run(*arguments, "--crl", site / "ca.crl", code=1)
    assert "say what: --certificate or --server" in run(*arguments[:3], code=2)
