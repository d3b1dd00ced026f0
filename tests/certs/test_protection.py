"""Passphrases, and authorities below a root."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from certs.command_line import main
from certs.keys import is_encrypted
from certs.pem import load_certificates, load_revocation_lists
from testbed.fetch import bundle

WORDS = "correct horse battery"
Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str | Path, code: int = 0) -> str:
        assert main([*map(str, arguments)]) == code
        answer = capsys.readouterr()
        assert WORDS not in answer.out + answer.err
        return answer.err if code else answer.out

    return command


@pytest.fixture
def words(tmp_path: Path) -> Path:
    file = tmp_path / "words"
    file.write_text(f"{WORDS}\n")
    file.chmod(0o600)
    return file


def openssl_verify(certificate: Path, ca: Path, crl: Path) -> subprocess.CompletedProcess[str]:
    command = [*bundle("openssl").command("openssl"), "verify", "-x509_strict", "-crl_check_all", "-auth_level", "2"]
    trust = ["-CAfile", str(ca), "-CRLfile", str(crl), "-untrusted", str(certificate)]
    return subprocess.run([*command, *trust, str(certificate)], capture_output=True, text=True, check=False)


def test_a_key_with_a_passphrase_signs_with_it_and_not_without(run: Run, words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    run("init", "--dir", folder, "--passphrase-file", words)
    content = (folder / "ca.key").read_bytes()
    assert is_encrypted(content)
    assert (folder / "ca.key").stat().st_mode & 0o777 == 0o400
    signing: list[tuple[str | Path, ...]] = [
        ("issue", "source", "db1.example"), ("renew", "db1.example", "--replace"), ("revoke", "db1.example"), ("crl",)
    ]  # fmt: skip
    for arguments in signing[:2]:
        assert "give --passphrase-file" in run(*arguments, "--dir", folder, code=2)
        run(*arguments, "--dir", folder, "--passphrase-file", words)
    serial = json.loads(run("show", "--dir", folder, "--json"))["certificates"][0]["serial"]
    run("revoke", "--serial", serial, "--dir", folder, "--passphrase-file", words)
    run("crl", "--dir", folder, "--passphrase-file", words)
    # OpenSSL opens it with the passphrase and with no other.
    openssl = [*bundle("openssl").command("openssl"), "pkey", "-noout", "-in", str(folder / "ca.key"), "-passin"]
    assert subprocess.run([*openssl, f"file:{words}"], check=False, capture_output=True).returncode == 0
    assert subprocess.run([*openssl, "pass:another"], check=False, capture_output=True).returncode != 0


def test_bad_passphrases_are_refused(run: Run, words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    short = tmp_path / "short"
    short.write_text("secret\n")
    short.chmod(0o600)
    assert "of 6 characters can be guessed" in run("init", "--dir", folder, "--passphrase-file", short, code=2)
    short.write_text("\nsecond line\n")
    assert "no passphrase in its first line" in run("init", "--dir", folder, "--passphrase-file", short, code=2)
    words.chmod(0o644)
    assert "open to other accounts" in run("init", "--dir", folder, "--passphrase-file", words, code=2)
    assert not folder.exists()
    words.chmod(0o600)
    assert "no terminal to ask" in run("init", "--dir", folder, "--passphrase", code=2)
    run("init", "--dir", folder, "--passphrase-file", words)
    short.write_text("wrong horse battery\n")
    refused = run("crl", "--dir", folder, "--passphrase-file", short, code=2)
    assert "does not open with this passphrase" in refused
    assert "wrong horse" not in refused


def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    def on_terminal(*arguments: str, answers: list[str]) -> tuple[int, str]:
        child, terminal = pty.fork()
        if child == 0:
            os.execv(sys.executable, [sys.executable, "-m", "certs", *arguments])  # noqa: S606
        printed = b""
        while True:
            try:
                printed += os.read(terminal, 1024)
            except OSError:  # the child has closed it
                break
            # What is typed before it asks is thrown away.
            if printed.endswith(b": ") and answers:
                os.write(terminal, f"{answers.pop(0)}\n".encode())
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed.decode()

    folder = str(tmp_path / "ca")
    code, printed = on_terminal("init", "--dir", folder, "--passphrase", answers=[WORDS, "another horse battery"])
    assert (code, Path(folder).exists()) == (2, False)
    assert "the two passphrases differ" in printed
    code, printed = on_terminal("init", "--dir", folder, "--passphrase", answers=[WORDS, WORDS])
    assert code == 0, printed
    code, printed = on_terminal("crl", "--dir", folder, answers=[WORDS])
    assert code == 0, printed
    assert WORDS not in printed
    assert f"Passphrase of {folder}/ca.key: " in printed


@pytest.fixture
def site(run: Run, tmp_path: Path) -> Path:
    run("init", "--dir", tmp_path / "root", "--name", "Root", "--allow-intermediates")
    run(
        "init",
        "--dir",
        tmp_path / "ca",
        "--name",
        "Orders CA",
        "--parent",
        tmp_path / "root",
        "--key-type",
        "ecdsa-p384",
    )
    return tmp_path


def test_an_authority_below_a_root_gives_out_whole_chains(run: Run, site: Path) -> None:
    run("issue", "source", "db1.example", "--dir", site / "ca")
    leaf = site / "ca" / "db1.example.crt"
    assert [c.subject.rfc4514_string() for c in load_certificates(leaf)] == ["CN=db1.example", "CN=Orders CA"]
    assert [c.subject.rfc4514_string() for c in load_certificates(site / "ca" / "ca.crt")] == [
        "CN=Orders CA",
        "CN=Root",
    ]
    for ca in (site / "ca" / "ca.crt", site / "root" / "ca.crt"):
        answer = openssl_verify(leaf, ca, site / "ca" / "ca.crl")
        assert answer.returncode == 0, answer.stderr
    run("renew", "db1.example", "--dir", site / "ca", "--replace")
    assert len(load_certificates(leaf)) == 2


def test_revoking_at_either_level_reaches_the_leaf(run: Run, site: Path) -> None:
    authority, root = site / "ca", site / "root"
    for name in ("db1.example", "db2.example"):
        run("issue", "source", name, "--dir", authority)
    run("revoke", "db1.example", "--dir", authority)

    def refused(name: str) -> str:
        return openssl_verify(authority / f"{name}.crt", authority / "ca.crt", authority / "ca.crl").stderr

    assert "certificate revoked" in refused("db1.example")
    assert refused("db2.example") == ""
    printed = run("revoke", "Orders CA", "--dir", root)
    assert "Revoked the authority certificate for Orders CA" in printed
    assert refused("db2.example") == ""  # until the root's list is brought
    run("crl", "--dir", authority, "--parent-list", root / "ca.crl")
    assert "certificate revoked" in refused("db2.example")
    numbers = [
        crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        for crl in load_revocation_lists(authority / "ca.crl")
    ]
    assert numbers == [3, 2]


def test_lists_are_refreshed_when_one_is_due(run: Run, site: Path) -> None:
    authority, root = site / "ca", site / "root"
    assert "Nothing to do: the first list is due by 20" in run("crl", "--dir", authority, "--if-due", "30")
    run("crl", "--dir", root, "--days", "10")
    answer = json.loads(run("crl", "--dir", authority, "--parent-list", root / "ca.crl", "--json"))
    assert answer["parent_next_update"] < answer["next_update"]
    # The root's is due now, and only the root can mend that; this one's own is signed at any rate.
    assert "Signed revocation list 3" in run("crl", "--dir", authority, "--if-due", "30")
    run("crl", "--dir", authority, "--days", "5")
    assert "Signed" in run("crl", "--dir", authority, "--if-due", "7")
    (authority / "ca.crl").unlink()
    assert "Signed" in run("crl", "--dir", authority, "--if-due", "7")


def test_what_cannot_stand_below_is_refused(run: Run, site: Path, tmp_path: Path) -> None:
    root, other = site / "root", tmp_path / "other"
    run("init", "--dir", other)
    new = tmp_path / "new"
    for parent in (other, site / "ca"):
        assert "may not sign another" in run("init", "--dir", new, "--name", "New", "--parent", parent, code=2)
    assert "holds an authority already" in run("init", "--dir", root, "--name", "New", "--parent", root, code=2)
    assert "the name of the authority above" in run("init", "--dir", new, "--name", "Root", "--parent", root, code=2)
    assert "would outlive" in run("init", "--dir", new, "--days", "9999", "--parent", root, code=2)
    both = ("--parent", root, "--allow-intermediates")
    assert "signs leaves alone" in run("init", "--dir", new, *both, code=2)
    assert not new.exists()
    lists = ("--parent-list", other / "ca.crl")
    assert "which is no authority above this one" in run("crl", "--dir", site / "ca", *lists, code=2)
    assert "is a root: leave out" in run("crl", "--dir", other, *lists, code=2)
    assert "make its successor with" in run("renew", "Orders CA", "--dir", root, "--replace", code=2)
