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

from certs.errors import CertsError
from certs.issuing.authority import Authority
from certs.issuing.index import load_index, serial_text
from certs.issuing.leaves import issue, renew
from certs.issuing.revocation import renew_revocation_list, revoke
from certs.keys import KeyType, parse_key
from certs.names import parse_names
from certs.pem import load_revocation_lists
from certs.profiles import Lifetime, Role

STEPS = {"open", "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename"}
KILLED = 9
LIFETIME = Lifetime.days(90)


def create(folder: Path) -> None:
    Authority.create(folder, name="Test CA", lifetime=Lifetime.days(3650), key_type=KeyType.ECDSA_P256)


def issue_source(folder: Path) -> None:
    issue(Authority.open(folder), Role.SOURCE, parse_names("db1.example"), lifetime=LIFETIME)


def revoke_source(folder: Path) -> None:
    revoke(Authority.open(folder), "db1.example")


def renew_source(folder: Path) -> None:
    renew(Authority.open(folder), "db1.example")


def create_below(folder: Path) -> None:
    parent = Authority.open(folder / "root")
    Authority.create(
        folder / "below", name="Below", lifetime=Lifetime.days(365), key_type=KeyType.ECDSA_P256, parent=parent
    )


def bring_parent_list(folder: Path) -> None:
    authority = Authority.open(folder / "below")
    renew_revocation_list(authority, Lifetime.days(30), parent_list=folder / "root" / "ca.crl")


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


def test_what_a_death_leaves_in_another_folder_is_removed_by_the_next_run_there(tmp_path: Path) -> None:
    def fresh(number: int) -> Path:
        create(tmp_path / str(number))
        return tmp_path / str(number)

    def issue_elsewhere(folder: Path, name: str = "db1.example") -> None:
        issue(Authority.open(folder), Role.SOURCE, parse_names(name), lifetime=LIFETIME, out=folder / "out")

    left = 0
    for folder in steps_of(issue_elsewhere, fresh):
        left += len(list((folder / "out").glob(".binlock-*")))
        issue_elsewhere(folder, "db2.example")
        assert not list((folder / "out").glob(".binlock-*"))
    assert left, "no death left anything, so that this proves nothing"


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


def key_fits(certificate: Path) -> bool:
    key = parse_key(certificate.with_suffix(".key").read_bytes(), where="key")
    return key.public_key() == x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()


@pytest.mark.parametrize("retry_first", [True, False])
def test_renew_in_place_cut_short_anywhere_loses_nothing_and_mends(tmp_path: Path, *, retry_first: bool) -> None:
    def fresh(number: int) -> Path:
        create(tmp_path / str(number))
        issue_source(tmp_path / str(number))
        return tmp_path / str(number)

    folders = steps_of(renew_source, fresh)
    assert len(folders) > 20
    mixed = 0
    for folder in folders:
        former = load_index(folder / "index.json").certificates[0].serial
        mixed += not key_fits(folder / "db1.example.crt")
        # The former pair is there, under its own name or the one that it was kept under.
        kept = folder / f"db1.example.{former}.crt"
        whole = [
            path for path in (kept, folder / "db1.example.crt") if path.with_suffix(".key").exists() and path.exists()
        ]
        serials = [
            serial_text(x509.load_pem_x509_certificate(path.read_bytes()).serial_number)
            for path in whole
            if key_fits(path)
        ]
        assert former in serials
        if retry_first:
            renew_source(folder)
            assert key_fits(folder / "db1.example.crt")
            entered = [entry.serial for entry in load_index(folder / "index.json").certificates]
            current = x509.load_pem_x509_certificate((folder / "db1.example.crt").read_bytes())
            assert serial_text(current.serial_number) == entered[-1]
            assert key_fits(kept)
        assert_usable(folder)
    assert mixed, "no death fell between the two files, so that this proves nothing"


def test_an_authority_below_a_root_cut_short_anywhere_can_be_made_again(tmp_path: Path) -> None:
    def fresh(number: int) -> Path:
        root = tmp_path / str(number) / "root"
        Authority.create(root, name="Root", lifetime=Lifetime.days(3650), key_type=KeyType.ECDSA_P256, path_length=1)
        return tmp_path / str(number)

    folders = steps_of(create_below, fresh)
    assert len(folders) > 20
    for folder in folders:
        refusal = refusal_of(create_below, folder)
        if refusal and "holds an authority already" not in refusal:
            assert "remove them and run it again" in refusal
            for path in (folder / "below").iterdir():
                assert path.name in refusal
                path.unlink()
            create_below(folder)
        assert_usable(folder / "below")
        below = Authority.open(folder / "below")
        entered = {entry.serial for entry in load_index(folder / "root" / "index.json").certificates}
        assert serial_text(below.certificate.serial_number) in entered
        assert_usable(folder / "root")


def test_bringing_the_list_of_above_cut_short_anywhere_leaves_whole_lists(tmp_path: Path) -> None:
    def fresh(number: int) -> Path:
        folder = tmp_path / str(number)
        Authority.create(
            folder / "root", name="Root", lifetime=Lifetime.days(3650), key_type=KeyType.ECDSA_P256, path_length=1
        )
        create_below(folder)
        renew_revocation_list(Authority.open(folder / "root"), Lifetime.days(30))
        return folder

    folders = steps_of(bring_parent_list, fresh)
    assert len(folders) > 12
    for folder in folders:
        issuers = {crl.issuer for crl in load_revocation_lists(folder / "below" / "ca.crl")}
        assert {name.rfc4514_string() for name in issuers} == {"CN=Root", "CN=Below"}
        bring_parent_list(folder)
        assert_usable(folder / "below")
