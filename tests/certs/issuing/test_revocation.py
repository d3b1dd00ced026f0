import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.command_line import main
from certs.errors import CertsError
from certs.issuing.authority import Authority
from certs.issuing.index import load_index, parse_index, parse_serial, replace_index, serial_text
from certs.issuing.leaves import issue
from certs.names import parse_names
from certs.profiles import Lifetime, Role
from tests.certs.verifying.test_chains import leaf_of, openssl_verify

Run = Callable[..., str]


def revocation_list(authority: Authority) -> x509.CertificateRevocationList:
    crl = x509.load_pem_x509_crl(authority.files.revocation_list.read_bytes())
    assert crl.is_signature_valid(authority.key.public_key())
    return crl


def number(authority: Authority) -> int:
    extension = revocation_list(authority).extensions.get_extension_for_class(x509.CRLNumber)
    return extension.value.crl_number


@pytest.fixture
def run(authority: Authority, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the authority's folder and returns what it printed."""

    def command(*arguments: str) -> str:
        assert main([*arguments, "--dir", str(authority.files.folder)]) == 0
        return capsys.readouterr().out

    return command


@pytest.fixture
def refusal(authority: Authority, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that is refused and changes nothing, and returns why."""

    def command(*arguments: str) -> str:
        before = {path: path.read_bytes() for path in authority.files.folder.iterdir()}
        assert main([*arguments, "--dir", str(authority.files.folder)]) == 2
        assert {path: path.read_bytes() for path in authority.files.folder.iterdir()} == before
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        return printed.err

    return command


def test_openssl_refuses_what_was_revoked_and_nothing_else(authority: Authority, run: Run) -> None:
    leaf, other = leaf_of(authority, Role.REPLICA, "r1.example"), leaf_of(authority, Role.REPLICA, "r2.example")
    printed = run("revoke", "r1.example")
    serial = serial_text(leaf.certificate.serial_number)
    assert f"Revoked the replica certificate for DNS:r1.example, serial {serial}." in printed
    assert str(authority.files.revocation_list) in printed
    assert "certificate revoked" in openssl_verify(authority, leaf).stderr
    assert openssl_verify(authority, other).returncode == 0
    shown = subprocess.run(
        ["openssl", "crl", "-noout", "-text", "-in", authority.files.revocation_list, "-CAfile",
         authority.files.certificate],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"Serial Number: {serial.upper()}" in shown.stdout
    assert "X509v3 CRL Number: \n                2\n" in shown.stdout
    assert "verify OK" in shown.stderr


def test_the_number_grows_and_revocations_accumulate(authority: Authority, run: Run) -> None:
    serials = [serial_text(leaf_of(authority, Role.REPLICA, f"r{n}.example").certificate.serial_number) for n in (1, 2)]
    for n in (1, 2):
        run("revoke", f"r{n}.example")
    assert {serial_text(entry.serial_number) for entry in revocation_list(authority)} == set(serials)
    run("crl")
    assert number(authority) == load_index(authority.files.index).revocation_list_number == 4
    assert len(revocation_list(authority)) == 2


def test_the_index_says_when(authority: Authority, run: Run) -> None:
    leaf_of(authority, Role.SOURCE, "db1.example")
    assert load_index(authority.files.index).certificates[0].revoked is None
    answer = json.loads(run("revoke", "DB1.example", "--json"))
    [entry] = load_index(authority.files.index).certificates
    assert entry.revoked is not None
    assert timedelta(0) <= datetime.now(UTC) - entry.revoked < timedelta(seconds=30)
    [listed] = revocation_list(authority)
    assert listed.revocation_date_utc == entry.revoked
    assert answer == {
        "role": "source",
        "names": ["DNS:db1.example"],
        "serial": entry.serial,
        "revoked": f"{entry.revoked:%Y-%m-%dT%H:%M:%SZ}",
        "crl": str(authority.files.revocation_list),
        "number": 2,
        "this_update": answer["this_update"],
        "next_update": answer["next_update"],
    }


def test_crl_moves_its_own_end_and_never_past_the_authoritys(authority: Authority, run: Run) -> None:
    answer = json.loads(run("crl", "--days", "30", "--json"))
    crl = revocation_list(authority)
    assert crl.next_update_utc == datetime.fromisoformat(answer["next_update"])
    assert crl.last_update_utc == datetime.fromisoformat(answer["this_update"])
    assert timedelta(days=29) < crl.next_update_utc - datetime.now(UTC) <= timedelta(days=30, seconds=1)
    assert (answer["number"], answer["serials"]) == (2, [])
    assert "Signed revocation list 3 with 0 on it" in run("crl", "--days", "36500")
    assert revocation_list(authority).next_update_utc == authority.certificate.not_valid_after_utc
    assert authority.files.revocation_list.stat().st_mode & 0o777 == 0o644


def test_a_missing_or_damaged_list_is_made_anew(authority: Authority, run: Run) -> None:
    leaf = leaf_of(authority, Role.REPLICA, "r1.example")
    run("revoke", "r1.example")
    authority.files.revocation_list.write_bytes(b"damaged")
    run("crl")
    assert "certificate revoked" in openssl_verify(authority, leaf).stderr
    authority.files.revocation_list.unlink()
    run("revoke", "r1.example")
    assert "certificate revoked" in openssl_verify(authority, leaf).stderr


def test_a_successor_of_the_same_name_stands(authority: Authority, run: Run, refusal: Run, tmp_path: Path) -> None:
    former = leaf_of(authority, Role.REPLICA, "r1.example")
    run("revoke", "r1.example")
    assert "was revoked already, at 20" in refusal("revoke", "r1.example")
    names = parse_names("r1.example")
    successor = issue(authority, Role.REPLICA, names, lifetime=Lifetime.days(9), out=tmp_path / "new")
    assert openssl_verify(authority, successor).returncode == 0
    assert "certificate revoked" in openssl_verify(authority, former).stderr
    run("revoke", "r1.example")
    assert "certificate revoked" in openssl_verify(authority, successor).stderr


def test_several_of_one_name_are_told_apart_by_serial(
    authority: Authority, run: Run, refusal: Run, tmp_path: Path
) -> None:
    first = leaf_of(authority, Role.REPLICA, "r1.example")
    names = parse_names("r1.example")
    second = issue(authority, Role.REPLICA, names, lifetime=Lifetime.days(9), out=tmp_path / "new")
    refused = refusal("revoke", "r1.example")
    assert "2 certificates have the name 'r1.example': choose one with --serial: " in refused
    serials = [serial_text(leaf.certificate.serial_number) for leaf in (first, second)]
    assert all(serial in refused for serial in serials)
    assert "no certificate was issued here with the name 'r2.example' and" in refusal(
        "revoke", "r2.example", "--serial", serials[1]
    )
    colons = ":".join(serials[1][at : at + 2] for at in range(0, len(serials[1]), 2)).upper()
    run("revoke", "--serial", colons)
    assert openssl_verify(authority, first).returncode == 0
    assert "certificate revoked" in openssl_verify(authority, second).stderr
    assert "was revoked already" in refusal("revoke", "--serial", serials[1])


def test_what_cannot_be_revoked_is_said_and_changes_nothing(authority: Authority, refusal: Run) -> None:
    assert "no certificate was issued here with the name 'nobody.example'" in refusal("revoke", "nobody.example")
    assert "no certificate was issued here with the name 'no body'" in refusal("revoke", "no body")
    assert "is not a serial number" in refusal("revoke", "--serial", "xyz")
    assert "no certificate was issued here with the serial number 0abc" in refusal("revoke", "--serial", "abc")
    assert "say which: a NAME or --serial" in refusal("revoke")
    assert "is not a whole number" in refusal("crl", "--days", "0")
    issue(authority, Role.REPLICA, parse_names("r1.example"), lifetime=Lifetime(timedelta(seconds=-1)))
    assert "expired at 20" in refusal("revoke", "r1.example")


def test_an_entry_stays_listed_past_its_expiry_and_leaves_the_list_in_the_end(authority: Authority, run: Run) -> None:
    leaf_of(authority, Role.REPLICA, "r1.example")
    run("revoke", "r1.example")
    index = load_index(authority.files.index)
    [entry] = index.certificates
    for days, listed in ((-1, 1), (-366, 0)):
        end = (datetime.now(UTC) + timedelta(days=days)).isoformat()
        content = authority.files.index.read_text().replace(entry.not_after.isoformat().replace("+00:00", "Z"), end)
        replace_index(authority.files.index, parse_index(content.encode(), where="index.json"))
        run("crl")
        assert len(revocation_list(authority)) == listed
        replace_index(authority.files.index, index)


@pytest.mark.parametrize("text", ["", "0x", "1g", "::"])
def test_a_serial_that_is_none(text: str) -> None:
    with pytest.raises(CertsError, match="is not a serial number"):
        parse_serial(text)


@pytest.mark.parametrize("text", ["0A:BC", "abc", "0ABC", " 0abc\n", "0x0abc"])
def test_a_serial_as_people_paste_it(text: str) -> None:
    assert parse_serial(text) == "0abc"
