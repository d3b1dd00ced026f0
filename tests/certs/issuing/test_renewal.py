import json
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from certs.command_line import main
from certs.issuing.authority import Authority
from certs.issuing.index import load_index, serial_text
from certs.keys import parse_key
from testbed.fetch import bundle

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(authority: Authority, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command with --json on the authority's folder."""

    def command(*arguments: str | Path) -> dict[str, Any]:
        code = main([*map(str, arguments), "--dir", str(authority.files.folder), "--json"])
        answer = capsys.readouterr()
        assert code == 0, answer.err
        return dict(json.loads(answer.out))

    return command


@pytest.fixture
def refusal(authority: Authority, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that is refused and changes nothing, and returns why."""

    def command(*arguments: str | Path) -> str:
        before = {path: path.read_bytes() for path in authority.files.folder.iterdir()}
        assert main([*map(str, arguments), "--dir", str(authority.files.folder)]) == 2
        assert {path: path.read_bytes() for path in authority.files.folder.iterdir()} == before
        return capsys.readouterr().err

    return command


def load(path: str | Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def public_key_in(path: str | Path) -> PublicKeyTypes:
    return parse_key(Path(path).read_bytes(), where=str(path)).public_key()


def identity_of(certificate: x509.Certificate) -> tuple[object, ...]:
    kinds = (x509.SubjectAlternativeName, x509.ExtendedKeyUsage, x509.KeyUsage)
    return certificate.subject, *(certificate.extensions.get_extension_for_class(kind).value for kind in kinds)


def is_accepted(authority: Authority, certificate: str | Path) -> bool:
    files = authority.files
    openssl = bundle("openssl").command("openssl")
    trust = ["-CAfile", str(files.certificate), "-CRLfile", str(files.revocation_list), "-untrusted", str(certificate)]
    done = subprocess.run(
        [*openssl, "verify", "-x509_strict", "-crl_check_all", *trust, str(certificate)],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def request(folder: Path, *names: str, kind: str = "P-256") -> Path:
    """A signing request and its key by openssl, as a host makes them."""
    folder.mkdir(exist_ok=True)
    curve = ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{kind}"]
    asked = ["-addext", f"subjectAltName={','.join(names)}"] if names else []
    openssl = bundle("openssl").command("openssl")
    subprocess.run(
        [*openssl, "req", "-new", *curve, "-noenc", "-subj", "/", *asked, "-keyout", folder / "host.key", "-out",
         folder / "host.csr"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "host.csr"


def test_a_successor_is_the_same_in_all_but_key_serial_and_span(authority: Authority, run: Run, tmp_path: Path) -> None:
    former = run("issue", "proxy", "db1.example", "--ip", "10.0.0.5", "--uri", "https://db1.example/", "--days", "30")
    latter = run("renew", "DB1.example", "--out", tmp_path / "new")
    old, new = load(former["certificate"]), load(latter["certificate"])
    assert identity_of(old) == identity_of(new)
    assert old.serial_number != new.serial_number
    assert public_key_in(former["key"]) != public_key_in(latter["key"]) == new.public_key()
    spans = [each.not_valid_after_utc - each.not_valid_before_utc for each in (old, new)]
    assert abs(spans[0] - spans[1]) <= timedelta(seconds=1)
    assert [entry.serial for entry in load_index(authority.files.index).certificates] == [
        serial_text(each.serial_number) for each in (old, new)
    ]
    # The overlap: both count, and revoking the one leaves the other.
    assert is_accepted(authority, former["certificate"])
    assert is_accepted(authority, latter["certificate"])
    run("revoke", "--serial", serial_text(old.serial_number))
    assert not is_accepted(authority, former["certificate"])
    assert is_accepted(authority, latter["certificate"])


def test_replaced_in_place_the_former_pair_is_kept_beside(authority: Authority, run: Run) -> None:
    former = run("issue", "source", "db1.example")
    pair = [Path(former[file]).read_bytes() for file in ("certificate", "key")]
    latter = run("renew", "db1.example", "--replace")
    assert (latter["certificate"], latter["key"]) == (former["certificate"], former["key"])
    assert [Path(path).read_bytes() for path in latter["kept"]] == pair
    assert [Path(path).name for path in latter["kept"]] == [
        f"db1.example.{former['serial']}.crt", f"db1.example.{former['serial']}.key"
    ]  # fmt: skip
    modes = {path.name: path.stat().st_mode & 0o777 for path in authority.files.folder.glob("db1.example*")}
    assert {mode for name, mode in modes.items() if name.endswith(".key")} == {0o600}
    assert public_key_in(latter["key"]) == load(latter["certificate"]).public_key()


def test_the_same_key_again(run: Run, refusal: Callable[..., str]) -> None:
    former = run("issue", "source", "db1.example", "--key-type", "ecdsa-p384")
    key = Path(former["key"]).read_bytes()
    run("renew", "db1.example", "--replace", "--same-key")
    assert Path(former["key"]).read_bytes() == key
    assert load(former["certificate"]).public_key() == public_key_in(former["key"])
    latter = run("renew", "db1.example", "--replace")
    kind = public_key_in(latter["key"])
    assert isinstance(kind, ec.EllipticCurvePublicKey)
    assert isinstance(kind.curve, ec.SECP384R1)
    Path(former["certificate"]).unlink()
    assert "give --csr" in refusal("renew", "db1.example", "--replace", "--same-key")
    assert "is not there any more" in refusal("renew", "db1.example", "--replace")


def test_all_that_is_due_is_renewed_once(run: Run, authority: Authority) -> None:
    for name, days in (("a.example", "10"), ("b.example", "60"), ("c.example", "12"), ("d.example", "5")):
        run("issue", "replica", name, "--days", days)
    run("revoke", "d.example")
    renewed = run("renew", "--within", "20", "--days", "90", "--replace")["renewed"]
    assert [record["names"] for record in renewed] == [["DNS:a.example"], ["DNS:c.example"]]
    assert run("renew", "--within", "20", "--replace") == {"renewed": []}
    assert run("renew", "b.example", "--within", "20", "--replace") == {"renewed": []}
    assert len(run("renew", "b.example", "--within", "61", "--replace")["renewed"]) == 1
    assert len(load_index(authority.files.index).certificates) == 7


def test_what_cannot_be_renewed_is_said(
    authority: Authority, run: Run, refusal: Callable[..., str], tmp_path: Path
) -> None:
    assert "no certificate was issued here with the name 'x.example'" in refusal("renew", "x.example", "--replace")
    assert "say which: a NAME, --serial, or --within" in refusal("renew", "--replace")
    run("issue", "replica", "r1.example")
    assert "one of the arguments --out --replace is required" in refusal("renew", "r1.example")
    run("issue", "source", "r1.example", "--out", tmp_path / "other")
    assert "'r1.example' stands for different certificates: choose" in refusal("renew", "r1.example", "--replace")
    run("issue", "replica", "r2.example")
    assert "exists and is never overwritten" in refusal(
        "renew", "r2.example", "--out", run("crl")["crl"][: -len("/ca.crl")]
    )
    run("revoke", "r2.example")
    assert "was revoked: `binlock-certs issue` a new one" in refusal("renew", "r2.example", "--replace")


@pytest.mark.parametrize("kind", ["P-256", "P-384"])
def test_a_request_is_signed_and_its_key_stays(authority: Authority, run: Run, tmp_path: Path, kind: str) -> None:
    csr = request(tmp_path / "host", "DNS:r1.example", kind=kind)
    made = run("issue", "replica", "r1.example", "--ip", "10.0.0.5", "--csr", csr)
    assert made["key"] is None
    assert not list(authority.files.folder.glob("r1.example*.key"))
    certificate = load(made["certificate"])
    assert certificate.public_key() == public_key_in(tmp_path / "host" / "host.key")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["r1.example"]
    assert is_accepted(authority, made["certificate"])


def test_a_request_asks_for_nothing_that_was_not_said_here(refusal: Callable[..., str], tmp_path: Path) -> None:
    csr = request(tmp_path / "host", "DNS:r1.example", "DNS:db1.example", "email:a@b.example")
    refused = refusal("issue", "replica", "r1.example", "--csr", csr)
    assert "asks for DNS:db1.example, RFC822Name:a@b.example as well" in refused
    broken = tmp_path / "broken.csr"
    broken.write_text(csr.read_text().replace("\nMI", "\nAA", 1))
    assert "is not a PEM signing request" in refusal("issue", "replica", "r1.example", "--csr", broken)
    assert "it holds PRIVATE KEY" in refusal("issue", "replica", "r1.example", "--csr", tmp_path / "host" / "host.key")
    weak = request(tmp_path / "weak", kind="secp256k1")
    assert "a kind of key that is not used here" in refusal("issue", "replica", "r1.example", "--csr", weak)
    body = csr.read_text().splitlines()
    last = body[-2]
    body[-2] = last[:-8] + ("AAAA" if last[-8:-4] != "AAAA" else "BBBB") + last[-4:]  # within the signature
    (tmp_path / "forged.csr").write_text("\n".join(body) + "\n")
    assert "is not signed by the key in it" in refusal(
        "issue", "replica", "r1.example", "--csr", tmp_path / "forged.csr"
    )


def test_what_came_as_a_request_is_renewed_as_one(
    run: Run, refusal: Callable[..., str], tmp_path: Path, authority: Authority
) -> None:
    run("issue", "replica", "r1.example", "--csr", request(tmp_path / "first"))
    assert "is on its own host: give --csr, or --same-key" in refusal("renew", "r1.example", "--replace")
    same = run("renew", "r1.example", "--replace", "--same-key")
    assert same["key"] is None
    assert load(same["certificate"]).public_key() == public_key_in(tmp_path / "first" / "host.key")
    other = run("renew", "r1.example", "--replace", "--csr", request(tmp_path / "second"))
    assert load(other["certificate"]).public_key() == public_key_in(tmp_path / "second" / "host.key")
    assert all(entry.requested for entry in load_index(authority.files.index).certificates)
