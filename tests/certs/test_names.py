from typing import TypedDict

import pytest

from certs.errors import CertsError
from certs.names import parse_names


class Names(TypedDict, total=False):
    dns: list[str]
    ip: list[str]
    uri: list[str]


@pytest.mark.parametrize(
    ("label", "described"),
    [
        ("db1.example", "DNS:db1.example"),
        ("DB1.Example", "DNS:db1.example"),
        ("localhost", "DNS:localhost"),
        ("mysql_source", "DNS:mysql_source"),
        ("10.0.0.5", "IP:10.0.0.5"),
        ("2001:DB8::5", "IP:2001:db8::5"),
        ("spiffe://Example.org/Replica/1", "URI:spiffe://Example.org/Replica/1"),
    ],
)
def test_the_kind_of_a_label_shows(label: str, described: str) -> None:
    assert parse_names(label).describe() == [described]


def test_names_are_joined_with_the_label_first_and_each_once() -> None:
    subject = parse_names(
        "db1.example", dns=["db2.example", "DB1.example"], ip=["10.0.0.5"], uri=["mysql://db1.example:3306"]
    )
    assert subject.describe() == [
        "DNS:db1.example",
        "DNS:db2.example",
        "IP:10.0.0.5",
        "URI:mysql://db1.example:3306",
    ]
    assert subject.identities == ("db1.example", "db2.example", "mysql://db1.example:3306")
    assert subject.hosts == ("db1.example", "db2.example", "10.0.0.5")


@pytest.mark.parametrize(
    ("label", "stem"),
    [
        ("db1.example", "db1.example"),
        ("2001:db8::5", "2001-db8--5"),
        ("spiffe://example.org/replica/1", "example.org-replica-1"),
        ("spiffe://example.org/../../etc", "example.org-..-..-etc"),
        ("spiffe://example.org/" + "r" * 300, "example.org-" + "r" * 188),
    ],
)
def test_a_label_makes_a_file_name(label: str, stem: str) -> None:
    assert parse_names(label).file_stem == stem


@pytest.mark.parametrize(
    ("label", "more", "message"),
    [
        ("", {}, "not a DNS name"),
        ("db1..example", {}, "not a DNS name"),
        ("db1.example.", {}, "not a DNS name"),
        ("-db1", {}, "not a DNS name"),
        ("a" * 64, {}, "not a DNS name"),
        (".".join(["abc"] * 64), {}, "not a DNS name"),
        ("../db1", {}, "not a DNS name"),
        ("db1\n", {}, "not a DNS name"),
        ("*.example", {}, "wildcard.*issue one for each host"),
        ("bücher.example", {}, "xn--"),
        ("10.0.0.256", {}, "neither an address nor a DNS name"),
        ("fe80::1%eth0", {}, "names an interface"),
        ("spiffe://", {}, "not a URI"),
        ("://host", {}, "not a URI"),
        ("spiffe://example.org/a b", {}, "not a URI"),
        ("spiffe://[::1/a", {}, "not a URI"),
        ("spiffe://a/1", {"uri": ["spiffe://a/2"]}, "one certificate for each"),
        ("db1", {"ip": ["10.0.0.0/8"]}, "not an IP address: give one"),
        ("db1", {"dns": ["10.0.0.1"]}, "neither an address nor a DNS name"),
        ("db1", {"uri": ["db1"]}, "not a URI"),
        ("ca", {}, "choose another"),
        ("spiffe://ca", {}, "choose another"),
        ("x://..", {}, "choose another"),
    ],
)
def test_a_bad_name_is_refused_with_what_to_do(label: str, more: Names, message: str) -> None:
    with pytest.raises(CertsError, match=message):
        parse_names(label, **more)
