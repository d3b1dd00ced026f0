"""Stage 5: the names of the verified leaf against the roster."""

import ipaddress
from dataclasses import dataclass

import pytest
from cryptography import x509

from certs.issuing.builders import build_leaf
from certs.keys import KeyType, generate_key
from certs.names import SubjectNames
from certs.profiles import Role
from proxy.openssl import Negotiated
from proxy.outcomes import Reason, SessionRefused, Stage
from proxy.stages.admission import AdmittedPeer, Allowlist
from proxy.stages.identity import Roster, RosterEntry, VerifiedReplica, certificate_names
from proxy.stages.objections import Objections
from proxy.stages.tls import EncryptedReplica
from tests.proxy.bench import enforced, entry
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


@dataclass(frozen=True)
class Connected:
    """As much of the stages before as the roster looks at: from where the replica connects."""

    peer: AdmittedPeer

    @property
    def source(self) -> "Connected":
        return self


def connected(negotiated: Negotiated | None, host: str = "10.20.0.7") -> EncryptedReplica:
    address = ipaddress.ip_address(host)
    peer = Allowlist(["0.0.0.0/0", "::/0"]).admit(address, 1)
    return EncryptedReplica(Connected(peer), b"", negotiated)  # type: ignore[arg-type]


def verify(
    certificate: x509.Certificate | None,
    *entries: RosterEntry,
    host: str = "10.20.0.7",
    objections: Objections | None = None,
) -> VerifiedReplica:
    negotiated = Negotiated(0.0, "TLSv1.3", "c", "g", () if certificate is None else (certificate,))
    return Roster(entries).verify_replica(connected(negotiated, host), objections or enforced())


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


WILDCARD = "*.replicas.example"


@pytest.mark.parametrize(
    "name", ["a.replicas.example", "A.REPLICAS.example", "xn--a.replicas.example", "*.replicas.example"]
)
def test_a_wildcard_on_the_roster_stands_for_one_leading_label(name: str, pki: Pki) -> None:
    assert verify(leaf(pki, x509.DNSName(name)), entry(identity=WILDCARD)).identity == name


@pytest.mark.parametrize("roster", ["*.replicas.example", "*.Replicas.Example", "*.REPLICAS.EXAMPLE"])
def test_a_wildcard_is_compared_without_case(roster: str, pki: Pki) -> None:
    assert verify(leaf(pki, x509.DNSName("a.replicas.example")), entry(identity=roster)).identity


@pytest.mark.parametrize(
    "name",
    [
        "replicas.example",
        ".replicas.example",
        "a.b.replicas.example",
        "areplicas.example",
        "a.xreplicas.example",
        "a.replicas.example.",
        "a.replicas.example.org",
        "a.replicas",
        "example",
        "",
    ],
)
def test_a_wildcard_stands_for_no_fewer_and_no_more(name: str, pki: Pki) -> None:
    with pytest.raises(SessionRefused):
        verify(leaf(pki, x509.DNSName(name)), entry(identity=WILDCARD))


def test_a_wildcard_in_the_certificate_is_no_wildcard(pki: Pki) -> None:
    with pytest.raises(SessionRefused):
        verify(leaf(pki, x509.DNSName("*.replicas.example")), entry(identity="a.replicas.example"))


def test_a_wildcard_on_the_roster_never_stands_for_a_uri(pki: Pki) -> None:
    with pytest.raises(SessionRefused):
        verify(leaf(pki, x509.UniformResourceIdentifier("spiffe://a.replicas.example")), entry(identity=WILDCARD))


def test_a_uri_is_not_taken_for_the_dns_name_that_is_spelled_alike(pki: Pki) -> None:
    with pytest.raises(SessionRefused):
        verify(leaf(pki, x509.UniformResourceIdentifier("a.replicas.example")), entry(identity=WILDCARD))
    with pytest.raises(SessionRefused):
        verify(leaf(pki, x509.DNSName("spiffe://x/y")), entry(identity="spiffe://x/y"))


# Its addresses.


@pytest.mark.parametrize("host", ["10.20.0.7", "10.20.255.255", "2001:db8:20::1"])
def test_an_identity_is_admitted_from_the_addresses_of_its_line(host: str, pki: Pki) -> None:
    line = entry(addresses=("10.20.0.0/16", "2001:db8:20::/48"))
    assert verify(leaf(pki, x509.DNSName("replica-1.example")), line, host=host).entries == (line,)


@pytest.mark.parametrize("host", ["10.21.0.7", "2001:db8:21::1"])
def test_an_identity_is_refused_from_another_address(host: str, pki: Pki) -> None:
    line = entry(addresses=("10.20.0.0/16", "2001:db8:20::/48"))
    with pytest.raises(SessionRefused) as refused:
        verify(leaf(pki, x509.DNSName("replica-1.example")), line, host=host)
    assert (refused.value.stage, refused.value.reason) == (Stage.IDENTITY, Reason.ADDRESS_NOT_ON_ROSTER)
    assert refused.value.answer is not None
    assert refused.value.answer.code == 1045
    assert f"may not connect from {host}" in refused.value.answer.message.decode()


def test_a_line_without_addresses_is_for_all_that_the_route_allows(pki: Pki) -> None:
    assert verify(leaf(pki, x509.DNSName("replica-1.example")), entry(), host="192.0.2.1").identity


def test_only_the_lines_that_have_the_address_may_be_used(pki: Pki) -> None:
    lines = (entry("here", addresses=("10.20.0.0/16",)), entry("elsewhere", addresses=("10.30.0.0/16",)), entry("any"))
    verified = verify(leaf(pki, x509.DNSName("replica-1.example")), *lines)
    assert [line.name for line in verified.entries] == ["here", "any"]


def test_a_line_of_a_plaintext_leg_has_addresses_too() -> None:
    roster = Roster([entry("a", identity=None, addresses=("10.30.0.0/16",))])
    with pytest.raises(SessionRefused) as refused:
        roster.verify_replica(connected(None), enforced())
    assert refused.value.reason is Reason.ADDRESS_NOT_ON_ROSTER


# Observe mode.


def test_in_observe_mode_a_stranger_goes_on_under_the_first_of_its_names(pki: Pki) -> None:
    noted: list[SessionRefused] = []
    stranger = leaf(pki, x509.DNSName("first.example"), x509.DNSName("second.example"))
    verified = verify(stranger, entry(), objections=Objections(enforce=False, note=noted.append))
    assert (verified.identity, verified.entries) == ("first.example", ())
    assert [refusal.reason for refusal in noted] == [Reason.IDENTITY_NOT_ON_ROSTER]


def test_in_observe_mode_an_identity_at_another_address_keeps_its_lines(pki: Pki) -> None:
    noted: list[SessionRefused] = []
    line = entry(addresses=("10.30.0.0/16",))
    verified = verify(
        leaf(pki, x509.DNSName("replica-1.example")), line, objections=Objections(enforce=False, note=noted.append)
    )
    assert (verified.identity, verified.entries) == ("replica-1.example", (line,))
    assert [refusal.reason for refusal in noted] == [Reason.ADDRESS_NOT_ON_ROSTER]


def test_in_observe_mode_nothing_is_noted_where_nothing_would_be_refused(pki: Pki) -> None:
    noted: list[SessionRefused] = []
    verify(
        leaf(pki, x509.DNSName("replica-1.example")), entry(), objections=Objections(enforce=False, note=noted.append)
    )
    assert not noted


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


def test_a_certificate_with_several_names_has_the_lines_of_all_of_them(pki: Pki) -> None:
    names = (x509.DNSName("second.example"), x509.DNSName("a.replicas.example"), x509.DNSName("first.example"))
    first, second = entry("first", identity="first.example"), entry("second", identity="second.example")
    wildcard, other = entry("any", identity="*.replicas.example"), entry("other", identity="other.example")
    verified = verify(leaf(pki, *names), first, wildcard, other, second)
    # In the order of the certificate, as the first was before.
    assert verified.entries == (second, wildcard, first)
    assert verified.names == ("second.example", "a.replicas.example", "first.example")
    assert verified.identity == "second.example"
    assert [verified.identity_under(line) for line in verified.entries] == list(verified.names)


def test_a_line_that_two_names_have_counts_once(pki: Pki) -> None:
    names = (x509.DNSName("a.replicas.example"), x509.DNSName("b.replicas.example"))
    line = entry(identity=WILDCARD)
    verified = verify(leaf(pki, *names), line)
    assert verified.entries == (line,)
    assert verified.identity_under(line) == "a.replicas.example"


def test_names_that_the_roster_does_not_have_are_left_out(pki: Pki) -> None:
    names = (x509.DNSName("stranger.example"), x509.DNSName("replica-1.example"))
    assert verify(leaf(pki, *names), entry()).names == ("replica-1.example",)


def test_of_several_names_those_count_that_may_come_from_there(pki: Pki) -> None:
    names = (x509.DNSName("first.example"), x509.DNSName("second.example"))
    here = entry("here", identity="second.example", addresses=("10.20.0.0/16",))
    elsewhere = entry("elsewhere", identity="first.example", addresses=("10.30.0.0/16",))
    assert verify(leaf(pki, *names), elsewhere, here).entries == (here,)


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
    verified = Roster([entry("a", identity=None), entry("b")]).verify_replica(connected(None), enforced())
    assert verified.identity is None
    assert [line.name for line in verified.entries] == ["a"]
