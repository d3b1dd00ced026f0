import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.errors import CertsError
from certs.issuing.authority import Authority
from certs.issuing.index import Index, IssuedCertificate, load_index, parse_index, serial_text
from certs.issuing.leaves import KeySource, issue
from certs.keys import KeyType, generate_key, serialize_key
from certs.names import parse_names
from certs.profiles import Lifetime, Role, utc_now

LIFETIME = Lifetime.days(90)
SOURCE = parse_names("db1.example", ip=["10.0.0.5"])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


def test_the_folder_holds_what_it_should_with_the_right_modes(authority: Authority) -> None:
    issue(authority, Role.SOURCE, SOURCE, lifetime=LIFETIME)
    assert authority.files.folder.stat().st_mode & 0o777 == 0o700
    assert modes(authority.files.folder) == {
        "ca.crt": 0o644,
        "ca.key": 0o400,
        "ca.crl": 0o644,
        "index.json": 0o644,
        "db1.example.crt": 0o644,
        "db1.example.key": 0o600,
    }


def test_the_root_may_sign_leaves_and_lists_and_nothing_more(authority: Authority) -> None:
    extensions = authority.certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature


def test_the_first_revocation_list_is_empty_signed_and_good_for_a_year(authority: Authority) -> None:
    revocation_list = x509.load_pem_x509_crl(authority.files.revocation_list.read_bytes())
    assert len(revocation_list) == 0
    assert revocation_list.is_signature_valid(authority.key.public_key())
    assert revocation_list.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 1
    assert load_index(authority.files.index).revocation_list_number == 1
    left = revocation_list.next_update_utc
    assert left is not None
    assert timedelta(days=364) < left - utc_now() <= timedelta(days=365, seconds=1)


def test_the_revocation_list_does_not_outlive_a_short_authority(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path, name="Short", lifetime=Lifetime.days(2), key_type=KeyType.ED25519)
    revocation_list = x509.load_pem_x509_crl(authority.files.revocation_list.read_bytes())
    assert revocation_list.next_update_utc == authority.certificate.not_valid_after_utc


@pytest.mark.parametrize("kind", KeyType)
def test_a_leaf_has_the_extensions_of_its_role(authority: Authority, kind: KeyType) -> None:
    leaf = issue(authority, Role.PROXY, SOURCE, lifetime=LIFETIME, key=KeySource(kind)).certificate
    extensions = leaf.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.key_encipherment == (kind is KeyType.RSA_3072)
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    issuer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == own
    assert list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == list(SOURCE.names)


def test_ordinary_leaves_are_dated_back_for_lagging_clocks_and_short_lived_ones_hardly(
    authority: Authority,
) -> None:
    now = utc_now()
    ordinary = issue(authority, Role.SOURCE, parse_names("a.example"), lifetime=LIFETIME).certificate
    short = issue(authority, Role.SOURCE, parse_names("b.example"), lifetime=Lifetime.seconds(7)).certificate
    assert timedelta(minutes=4) < now - ordinary.not_valid_before_utc <= timedelta(minutes=5, seconds=1)
    assert timedelta(0) <= now - short.not_valid_before_utc <= timedelta(seconds=5)
    assert timedelta(seconds=7) <= short.not_valid_after_utc - now < timedelta(seconds=10)


def test_the_index_remembers_every_issue(authority: Authority, tmp_path: Path) -> None:
    first = issue(authority, Role.SOURCE, SOURCE, lifetime=LIFETIME).certificate
    second = issue(
        authority, Role.REPLICA, parse_names("spiffe://example.org/r/1"), lifetime=LIFETIME, out=tmp_path / "out" / "r1"
    ).certificate
    assert load_index(authority.files.index).certificates == (
        IssuedCertificate(
            serial=serial_text(first.serial_number),
            role=Role.SOURCE,
            label="db1.example",
            names=("DNS:db1.example", "IP:10.0.0.5"),
            not_before=first.not_valid_before_utc,
            not_after=first.not_valid_after_utc,
            file="db1.example.crt",
        ),
        IssuedCertificate(
            serial=serial_text(second.serial_number),
            role=Role.REPLICA,
            label="spiffe://example.org/r/1",
            names=("URI:spiffe://example.org/r/1",),
            not_before=second.not_valid_before_utc,
            not_after=second.not_valid_after_utc,
            file=str((tmp_path / "out" / "r1" / "example.org-r-1.crt").resolve()),
        ),
    )


def test_concurrent_issues_all_reach_the_index(authority: Authority) -> None:
    def work(number: int) -> None:
        issue(
            Authority.open(authority.files.folder),
            Role.REPLICA,
            parse_names(f"replica-{number}.example"),
            lifetime=LIFETIME,
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    labels = {entry.label for entry in load_index(authority.files.index).certificates}
    assert labels == {f"replica-{number}.example" for number in range(8)}


def test_nothing_is_overwritten(authority: Authority) -> None:
    folder = authority.files.folder
    issue(authority, Role.SOURCE, SOURCE, lifetime=LIFETIME)
    before = contents(folder)
    with pytest.raises(CertsError, match=r"db1\.example\.crt exists .* move it and its key away"):
        issue(authority, Role.SOURCE, SOURCE, lifetime=LIFETIME)
    with pytest.raises(CertsError, match="holds an authority already"):
        Authority.create(folder, name="Again", lifetime=LIFETIME, key_type=KeyType.ECDSA_P256)
    assert contents(folder) == before


def test_a_key_without_its_certificate_is_not_overwritten_either(authority: Authority) -> None:
    (authority.files.folder / "db1.example.key").write_bytes(b"precious")
    with pytest.raises(CertsError, match="remove it and run this again"):
        issue(authority, Role.SOURCE, SOURCE, lifetime=LIFETIME)
    assert (authority.files.folder / "db1.example.key").read_bytes() == b"precious"


def test_a_certificate_that_cannot_be_written_takes_its_key_along(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def refuse_certificates(source: Path, target: Path) -> None:
        if target.suffix == ".crt":
            raise OSError(28, "No space left on device")
        link(source, target)

    monkeypatch.setattr(os, "link", refuse_certificates)
    with pytest.raises(CertsError, match="No space left"):
        issue(authority, Role.SOURCE, SOURCE, lifetime=LIFETIME)
    monkeypatch.undo()
    assert set(contents(authority.files.folder)) == {"ca.crt", "ca.key", "ca.crl", "index.json"}
    issue(authority, Role.SOURCE, SOURCE, lifetime=LIFETIME)


def test_a_leaf_does_not_outlive_its_authority(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path, name="Short", lifetime=Lifetime.days(30), key_type=KeyType.ECDSA_P256)
    with pytest.raises(CertsError, match=r"would outlive its authority.*--days (29|30) or fewer"):
        issue(authority, Role.SOURCE, SOURCE, lifetime=LIFETIME)
    issue(authority, Role.SOURCE, SOURCE, lifetime=Lifetime.days(29))


def test_an_authority_that_cannot_sign_is_not_opened(authority: Authority, tmp_path: Path) -> None:
    files = authority.files
    with pytest.raises(CertsError, match=r"holds no authority .*binlock-certs init"):
        Authority.open(tmp_path)

    files.key.chmod(0o644)
    with pytest.raises(CertsError, match="chmod 0400"):
        Authority.open(files.folder)

    files.key.write_bytes(serialize_key(generate_key(KeyType.ECDSA_P256)))
    files.key.chmod(0o400)
    with pytest.raises(CertsError, match="does not belong to"):
        Authority.open(files.folder)

    files.key.unlink()
    with pytest.raises(CertsError, match="cannot read"):
        Authority.open(files.folder)

    files.certificate.write_bytes(b"not PEM")
    with pytest.raises(CertsError, match="not a PEM certificate: restore"):
        Authority.open(files.folder)


def test_an_expired_authority_is_not_opened(tmp_path: Path) -> None:
    Authority.create(tmp_path, name="Past", lifetime=Lifetime(timedelta(seconds=-60)), key_type=KeyType.ED25519)
    with pytest.raises(CertsError, match=r"expired on .* make a new one"):
        Authority.open(tmp_path)


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines"])
def test_an_authority_needs_a_name_that_fits(tmp_path: Path, name: str) -> None:
    with pytest.raises(CertsError, match="1 to 64 printable"):
        Authority.create(tmp_path / "a", name=name, lifetime=LIFETIME, key_type=KeyType.ED25519)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged .*restore it from your backup"),
        (b"{}", "is damaged"),
        (b'{"format": 1, "certificates": [{"serial": 1}]}', "is damaged"),
        (b'{"format": 1, "certificates": "\xff"}', "is damaged"),
        (b'{"format": 2, "certificates": {}}', "has format 2.*use a newer one"),
    ],
)
def test_an_index_that_is_not_understood_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(CertsError, match=message):
        parse_index(content, where="index.json")


def test_an_index_with_fields_of_later_versions_is_read() -> None:
    assert parse_index(b'{"format": 1, "later": true}', where="index.json") == Index()


@pytest.mark.parametrize(("serial", "text"), [(1, "01"), (0xABC, "0abc"), (0x1234, "1234")])
def test_a_serial_is_written_in_whole_bytes(serial: int, text: str) -> None:
    assert serial_text(serial) == text


def test_a_clock_that_is_before_the_authority_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Authority.create(tmp_path, name="Later", lifetime=LIFETIME, key_type=KeyType.ED25519)
    monkeypatch.setattr("certs.issuing.authority.utc_now", lambda: utc_now() - timedelta(days=20_000))
    with pytest.raises(CertsError, match=r"the clock of this host says 19\d\d-.*: set the clock"):
        Authority.open(tmp_path)
