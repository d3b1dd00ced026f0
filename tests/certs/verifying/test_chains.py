import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store
from OpenSSL import SSL

from certs.issuing.authority import Authority
from certs.issuing.builders import build_revocation_list
from certs.issuing.leaves import IssuedLeaf, KeySource, issue
from certs.keys import KeyType
from certs.names import parse_names
from certs.profiles import Lifetime, Role
from testbed.fetch import bundle
from tests.certs.handshakes import shake_hands, shake_hands_with_pyopenssl

LIFETIME = Lifetime.days(90)


def leaf_of(authority: Authority, role: Role, name: str, **names: list[str]) -> IssuedLeaf:
    return issue(authority, role, parse_names(name, **names), lifetime=LIFETIME)


def openssl_verify(authority: Authority, leaf: IssuedLeaf, *options: str) -> subprocess.CompletedProcess[str]:
    openssl = bundle("openssl").command("openssl")
    files = authority.files
    trust = ["-CAfile", str(files.certificate), "-CRLfile", str(files.revocation_list)]
    return subprocess.run(
        [*openssl, "verify", "-x509_strict", "-crl_check_all", *trust, *options, str(leaf.certificate_file)],
        capture_output=True,
        text=True,
        check=False,
    )


PURPOSES = {Role.SOURCE: {"sslserver"}, Role.REPLICA: {"sslclient"}, Role.PROXY: {"sslserver", "sslclient"}}


@pytest.mark.parametrize("authority_kind", KeyType)
@pytest.mark.parametrize("leaf_kind", [None, KeyType.RSA_3072])
def test_openssl_verifies_every_role_strictly_and_for_its_purpose_only(
    tmp_path: Path, authority_kind: KeyType, leaf_kind: KeyType | None
) -> None:
    authority = Authority.create(
        tmp_path / "authority", name="Test CA", lifetime=Lifetime.days(3650), key_type=authority_kind
    )
    for role, allowed in PURPOSES.items():
        leaf = issue(authority, role, parse_names(f"{role}.example"), lifetime=LIFETIME, key=KeySource(leaf_kind))
        for purpose in ("sslserver", "sslclient"):
            result = openssl_verify(authority, leaf, "-purpose", purpose)
            assert (result.returncode == 0) == (purpose in allowed), (role, purpose, result.stderr)


def test_openssl_verifies_names_of_every_kind(authority: Authority) -> None:
    leaf = leaf_of(authority, Role.PROXY, "db1.example", dns=["db2.example"], ip=["10.0.0.5", "2001:db8::5"])
    for option, name in (
        ("-verify_hostname", "db1.example"),
        ("-verify_hostname", "db2.example"),
        ("-verify_ip", "10.0.0.5"),
        ("-verify_ip", "2001:db8::5"),
    ):
        assert openssl_verify(authority, leaf, option, name).returncode == 0, name
    assert openssl_verify(authority, leaf, "-verify_hostname", "db3.example").returncode != 0


@pytest.mark.parametrize("name", ["spiffe://example.org/" + "r" * 300, ".".join(["a" * 60] * 4)])
def test_a_name_too_long_for_the_common_name_still_makes_a_strict_certificate(authority: Authority, name: str) -> None:
    leaf = leaf_of(authority, Role.REPLICA, name)
    assert not list(leaf.certificate.subject)
    result = openssl_verify(authority, leaf)
    assert result.returncode == 0, result.stderr


def test_openssl_refuses_a_leaf_that_a_later_list_revokes(authority: Authority) -> None:
    leaf = leaf_of(authority, Role.REPLICA, "replica-1.example")
    assert openssl_verify(authority, leaf).returncode == 0
    now = datetime.now(UTC)
    entry = (
        x509.RevokedCertificateBuilder()
        .serial_number(leaf.certificate.serial_number)
        .revocation_date(now - timedelta(seconds=1))
        .build()
    )
    revocation_list = build_revocation_list(
        2,
        LIFETIME.around(now),
        authority=authority.certificate,
        authority_key=authority.key,
        revoked=[entry],
    )
    authority.files.revocation_list.write_bytes(revocation_list.public_bytes(Encoding.PEM))
    assert "certificate revoked" in openssl_verify(authority, leaf).stderr


def test_a_leaf_that_lives_for_seconds_verifies_at_once_and_not_after(authority: Authority) -> None:
    leaf = issue(authority, Role.SOURCE, parse_names("db1.example"), lifetime=Lifetime.seconds(5))
    assert openssl_verify(authority, leaf).returncode == 0
    late = int(leaf.certificate.not_valid_after_utc.timestamp()) + 1
    assert "certificate has expired" in openssl_verify(authority, leaf, "-attime", str(late)).stderr


def test_cryptography_verifies_both_directions(authority: Authority) -> None:
    builder = PolicyBuilder().store(Store([authority.certificate]))
    source = leaf_of(authority, Role.SOURCE, "db1.example")
    replica = leaf_of(authority, Role.REPLICA, "replica-1.example")
    builder.build_server_verifier(x509.DNSName("db1.example")).verify(source.certificate, [])
    verified = builder.build_client_verifier().verify(replica.certificate, [])
    assert verified.subjects == [x509.DNSName("replica-1.example")]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", KeyType)
def test_both_legs_do_mutual_tls(tmp_path: Path, kind: KeyType, version: ssl.TLSVersion) -> None:
    authority = Authority.create(tmp_path / "authority", name="Test CA", lifetime=Lifetime.days(3650), key_type=kind)
    source = leaf_of(authority, Role.SOURCE, "db1.example", ip=["10.0.0.5"])
    replica = leaf_of(authority, Role.REPLICA, "spiffe://example.org/replica/1")
    proxy = leaf_of(authority, Role.PROXY, "proxy.example")
    shake_hands(authority, server=proxy, client=replica, dialled="proxy.example", version=version)
    shake_hands(authority, server=source, client=proxy, dialled="db1.example", version=version)
    shake_hands(authority, server=source, client=proxy, dialled="10.0.0.5", version=version)
    shake_hands_with_pyopenssl(authority, server=proxy, client=replica)
    shake_hands_with_pyopenssl(authority, server=source, client=proxy)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_is_refused_the_wrong_way_round(authority: Authority, version: ssl.TLSVersion) -> None:
    source = leaf_of(authority, Role.SOURCE, "db1.example")
    replica = leaf_of(authority, Role.REPLICA, "replica-1.example")
    proxy = leaf_of(authority, Role.PROXY, "proxy.example")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(unsuitable|unsupported) certificate purpose"):
        shake_hands(authority, server=replica, client=proxy, dialled="replica-1.example", version=version)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(unsuitable|unsupported) certificate purpose"):
        shake_hands(authority, server=proxy, client=source, dialled="proxy.example", version=version)
    for server, client in ((replica, proxy), (proxy, source)):
        with pytest.raises(SSL.Error):
            shake_hands_with_pyopenssl(authority, server=server, client=client)


def test_a_certificate_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority.create(
        tmp_path / "other", name="Test CA", lifetime=Lifetime.days(100), key_type=KeyType.ECDSA_P256
    )
    proxy = leaf_of(authority, Role.PROXY, "proxy.example")
    stranger = leaf_of(other, Role.REPLICA, "replica-1.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(
            authority,
            server=proxy,
            client=stranger,
            dialled="proxy.example",
            version=ssl.TLSVersion.TLSv1_3,
        )
