"""The process dies before each single step that touches the file system, and the authority stays usable.

An audit hook in a forked child counts the steps, so that a write which somebody adds is covered without being
named here.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from certs.authority import Authority
from certs.errors import CertsError
from certs.index import load_index, serial_text
from certs.keys import KeyType
from certs.leaves import issue
from certs.names import parse_names
from certs.profiles import Lifetime, Role
from certs.revocation import renew_revocation_list, revoke

STEPS = {"open", "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename"}
KILLED = 9
LIFETIME = Lifetime.days(90)


def create(folder: Path) -> None:
    Authority.create(folder, name="Test CA", lifetime=Lifetime.days(3650), key_type=KeyType.ECDSA_P256)


def issue_source(folder: Path) -> None:
    issue(Authority.open(folder), Role.SOURCE, parse_names("db1.example"), lifetime=LIFETIME)


def revoke_source(folder: Path) -> None:
    revoke(Authority.open(folder), "db1.example")


def survives(work: Callable[[Path], None], folder: Path, *, step: int) -> bool:
    """Do the work in a child that dies before the given step; True if it had fewer steps than that."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, KILLED)
        return code == 0
    left = step

    def die(event: str, _arguments: object) -> None:
        nonlocal left
        if event in STEPS:
            left -= 1
            if left == 0:
                os._exit(KILLED)

    try:
        sys.addaudithook(die)
        work(folder)
        os._exit(0)
    finally:
        os._exit(1)


def steps_of(work: Callable[[Path], None], folder_of: Callable[[int], Path]) -> list[Path]:
    """The folders that a death before each step of the work left behind, the last one undisturbed."""
    folders: list[Path] = []
    while True:
        folders.append(folder_of(len(folders)))
        if survives(work, folders[-1], step=len(folders)):
            return folders


def refusal_of(work: Callable[[Path], None], folder: Path) -> str:
    """What the work answers when it is tried again; empty if it succeeds."""
    try:
        work(folder)
    except CertsError as exc:
        return str(exc)
    return ""


def assert_usable(folder: Path) -> None:
    leaf = issue(Authority.open(folder), Role.REPLICA, parse_names("replica-1.example"), lifetime=LIFETIME)
    entered = {entry.serial for entry in load_index(folder / "index.json").certificates}
    assert serial_text(leaf.certificate.serial_number) in entered
    for path in folder.glob("*.example.crt"):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        assert serial_text(certificate.serial_number) in entered
    assert not list(folder.glob(".binlock-*"))


def test_init_cut_short_anywhere_can_be_done_again_as_it_says(tmp_path: Path) -> None:
    folders = steps_of(create, lambda number: tmp_path / str(number))
    assert len(folders) > 12
    for folder in folders:
        refusal = refusal_of(create, folder)
        if refusal and "holds an authority already" not in refusal:
            assert "remove them and run it again" in refusal
            for path in folder.iterdir():
                assert path.name in refusal
                path.unlink()
            create(folder)
        assert_usable(folder)


@pytest.mark.parametrize("retry_first", [True, False])
def test_issue_cut_short_anywhere_leaves_a_usable_authority(tmp_path: Path, *, retry_first: bool) -> None:
    def fresh(number: int) -> Path:
        create(tmp_path / str(number))
        return tmp_path / str(number)

    folders = steps_of(issue_source, fresh)
    assert len(folders) > 12
    for folder in folders:
        if retry_first:
            refusal = refusal_of(issue_source, folder)
            if "remove it and run this again" in refusal:
                (folder / "db1.example.key").unlink()
                issue_source(folder)
            else:
                assert not refusal or "exists and is never overwritten" in refusal
            assert (folder / "db1.example.key").exists()
        assert_usable(folder)


@pytest.mark.parametrize("retry_first", [True, False])
def test_revoke_cut_short_anywhere_is_never_forgotten(tmp_path: Path, *, retry_first: bool) -> None:
    def fresh(number: int) -> Path:
        create(tmp_path / str(number))
        issue_source(tmp_path / str(number))
        return tmp_path / str(number)

    folders = steps_of(revoke_source, fresh)
    assert len(folders) > 8
    for folder in folders:
        [entry] = load_index(folder / "index.json").certificates
        begun = entry.revoked is not None
        if retry_first:
            assert refusal_of(revoke_source, folder) == "" or "was revoked already" in refusal_of(revoke_source, folder)
            begun = True
        signed = renew_revocation_list(Authority.open(folder), Lifetime.days(30))
        assert signed.serials == ((entry.serial,) if begun else ())
        former = x509.load_pem_x509_crl((folder / "ca.crl").read_bytes())
        assert former.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == signed.number
        assert_usable(folder)
