"""Stage 5: the names of the verified leaf against the roster."""

import pytest
from cryptography import x509

from certs.builders import build_leaf
from certs.keys import KeyType, generate_key
from certs.names import SubjectNames
from certs.profiles import Role
from proxy.identity import Roster, RosterEntry, VerifiedReplica, certificate_names
from proxy.openssl import Negotiated
from proxy.outcomes import Reason, SessionRefused, Stage
from proxy.tls import EncryptedReplica
from tests.proxy.bench import entry
from tests.proxy.pki import Pki, lasting


def leaf(pki: Pki, *names: x509.GeneralName, common_name: str = "nobody") -> x509.Certificate:
    key = generate_key(KeyType.ED25519)
    subject = SubjectNames(common_name, names)  # type: ignore[arg-type]
    return build_leaf(
        Role.REPLICA,
        subject,
        key.public_key(),
        lasting(),
        authority=pki.authority.certificate,
        authority_key=pki.authority.key,
    )


def verify(certificate: x509.Certificate | None, *entries: RosterEntry) -> VerifiedReplica:
    negotiated = Negotiated(0.0, "TLSv1.3", "c", "g", certificate)
    return Roster(entries).verify_replica(EncryptedReplica(None, b"", negotiated))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["replica-1.example", "REPLICA-1.example", "Replica-1.Example"])
def test_a_dns_name_is_compared_without_case(name: str, pki: Pki) -> None:
    assert verify(leaf(pki, x509.DNSName(name)), entry()).identity == name


@pytest.mark.parametrize(
    "name",
    [
        "replica-1.example.",
        "replica-1",
        "replica-11.example",
        "x.replica-1.example",
        "*.example",
        "replica-1.example\x00",
    ],
)
def test_another_dns_name_is_refused(name: str, pki: Pki) -> None:
    with pytest.raises(SessionRefused) as refused:
        verify(leaf(pki, x509.DNSName(name)), entry())
    assert (refused.value.stage, refused.value.reason) == (Stage.IDENTITY, Reason.IDENTITY_NOT_ON_ROSTER)
    assert refused.value.answer is not None
    assert refused.value.answer.code == 1045


def test_a_wildcard_on_the_roster_is_a_name_like_any_other(pki: Pki) -> None:
    with pytest.raises(SessionRefused):
        verify(leaf(pki, x509.DNSName("replica-1.example")), entry(identity="*.example"))


def test_a_uri_is_compared_exactly(pki: Pki) -> None:
    roster = entry(identity="spiffe://example.org/replica/A")
    assert verify(leaf(pki, x509.UniformResourceIdentifier("spiffe://example.org/replica/A")), roster).identity
    for other in (
        "spiffe://example.org/replica/a",
        "SPIFFE://example.org/replica/A",
        "spiffe://example.org/replica/A/",
    ):
        with pytest.raises(SessionRefused):
            verify(leaf(pki, x509.UniformResourceIdentifier(other)), roster)


def test_a_uri_without_an_authority_is_compared_exactly_too(pki: Pki) -> None:
    with pytest.raises(SessionRefused):
        verify(leaf(pki, x509.UniformResourceIdentifier("urn:replica:a")), entry(identity="urn:replica:A"))


def test_the_common_name_counts_for_nothing(pki: Pki) -> None:
    with pytest.raises(SessionRefused, match=r"other\.example"):
        verify(leaf(pki, x509.DNSName("other.example"), common_name="replica-1.example"), entry())


def test_an_ip_address_or_a_mail_address_is_no_identity(pki: Pki) -> None:
    import ipaddress

    names = (x509.IPAddress(ipaddress.ip_address("10.0.0.1")), x509.RFC822Name("replica-1.example"))
    with pytest.raises(SessionRefused, match="no DNS name or URI"):
        verify(leaf(pki, *names), entry(), entry(identity="10.0.0.1"))


def test_any_of_several_names_will_do(pki: Pki) -> None:
    names = (
        x509.DNSName("first.example"),
        x509.UniformResourceIdentifier("spiffe://x/y"),
        x509.DNSName("replica-1.example"),
    )
    assert verify(leaf(pki, *names), entry()).identity == "replica-1.example"


def test_an_identity_may_have_several_lines_of_the_roster(pki: Pki) -> None:
    entries = (entry("a", accounts=("one",)), entry("b", accounts=("two",)), entry("c", identity="other.example"))
    verified = verify(leaf(pki, x509.DNSName("replica-1.example")), *entries)
    assert [line.name for line in verified.entries] == ["a", "b"]


def test_a_certificate_without_names_is_nobody(pki: Pki) -> None:
    assert certificate_names(pki.authority.certificate) == ()
    with pytest.raises(SessionRefused):
        verify(pki.authority.certificate, entry())


def test_no_certificate_is_nobody() -> None:
    with pytest.raises(SessionRefused):
        verify(None, entry())


def test_a_line_without_an_identity_is_not_for_certificates(pki: Pki) -> None:
    with pytest.raises(SessionRefused):
        verify(leaf(pki, x509.DNSName("replica-1.example")), entry(identity=None))


def test_a_plaintext_leg_may_use_the_lines_without_an_identity_alone() -> None:
    encrypted = EncryptedReplica(None, b"", None)  # type: ignore[arg-type]
    verified = Roster([entry("a", identity=None), entry("b")]).verify_replica(encrypted)
    assert verified.identity is None
    assert [line.name for line in verified.entries] == ["a"]
