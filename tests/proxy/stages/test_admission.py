"""Stage 1: addresses against the allowlist."""

import ipaddress

import pytest

from proxy.outcomes import Reason, SessionRefused, Stage
from proxy.stages.admission import AdmittedPeer, Allowlist
from proxy.stages.preamble import caller_at

NETWORKS = ("10.20.0.0/16", "192.0.2.7", "2001:db8:20::/48", "fe80::/10", "::1")


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("10.20.0.0", "10.20.0.0:7"),
        ("10.20.255.255", "10.20.255.255:7"),
        ("192.0.2.7", "192.0.2.7:7"),
        ("2001:db8:20::", "[2001:db8:20::]:7"),
        ("2001:db8:20:ffff:ffff:ffff:ffff:ffff", "[2001:db8:20:ffff:ffff:ffff:ffff:ffff]:7"),
        ("::ffff:10.20.1.2", "10.20.1.2:7"),
        ("fe80::1%eth0", "[fe80::1]:7"),
        ("::1", "[::1]:7"),
    ],
)
def test_admits_an_address_of_its_networks(host: str, shown: str) -> None:
    caller = caller_at(host, 7)
    peer = Allowlist(NETWORKS).admit(caller.address, caller.port)
    assert isinstance(peer, AdmittedPeer)
    assert str(peer) == shown


@pytest.mark.parametrize(
    "host",
    ["10.19.255.255", "10.21.0.0", "192.0.2.6", "192.0.2.8", "2001:db8:21::", "::ffff:10.21.0.0", "::2", "::10.20.1.2",
     "64:ff9b::10.20.1.2", "127.0.0.1"],
)  # fmt: skip
def test_refuses_every_other_and_tells_the_replica_its_address(host: str) -> None:
    with pytest.raises(SessionRefused) as refused:
        Allowlist(NETWORKS).admit(caller_at(host, 7).address, 7)
    assert (refused.value.stage, refused.value.reason) == (Stage.ADMISSION, Reason.ADDRESS_NOT_ALLOWED)
    assert refused.value.answer is not None
    assert refused.value.answer.code == 1130


def test_an_ipv4_network_does_not_admit_the_ipv6_address_with_the_same_bits() -> None:
    with pytest.raises(SessionRefused):
        Allowlist(["0.0.0.0/0"]).admit(ipaddress.ip_address("2001:db8::1"), 1)


def test_an_empty_list_admits_nobody() -> None:
    with pytest.raises(SessionRefused):
        Allowlist([]).admit(ipaddress.ip_address("127.0.0.1"), 1)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "2001:db8::1/32", "x", "10.0.0.0/33", ""])
def test_refuses_what_is_no_network(network: str) -> None:
    with pytest.raises(ValueError, match="."):  # noqa: RUF043
        Allowlist([network])
