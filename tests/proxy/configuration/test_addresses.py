"""Addresses as the configuration writes them."""

import ipaddress

import pytest

from proxy.configuration.addresses import Address, TcpAddress, UnixAddress, ip_literal, normalised, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db1.example:3306", TcpAddress("db1.example", 3306)),
        ("127.0.0.1:0", TcpAddress("127.0.0.1", 0)),
        ("0.0.0.0:65535", TcpAddress("0.0.0.0", 65535)),  # noqa: S104
        ("[2001:db8::1]:3306", TcpAddress("2001:db8::1", 3306)),
        ("[fe80::1%eth0]:3306", TcpAddress("fe80::1%eth0", 3306)),
        ("unix:/run/mysqld/mysqld.sock", UnixAddress("/run/mysqld/mysqld.sock")),
    ],
)
def test_reads_and_writes_each_form(text: str, expected: Address) -> None:
    assert parse_address(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        "host:",
        ":3306",
        "host:x",
        "host:-1",
        "host:65536",
        "host:3306x",
        "host: 3306",
        "host:٣",
        "[]:1",
    ],
)
def test_refuses_what_is_no_address_and_shows_one(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port, as in db1.example:3306"):  # noqa: RUF043
        parse_address(text)


@pytest.mark.parametrize("text", ["::1:3306", "2001:db8::1:3306", "::3306"])
def test_refuses_an_ipv6_address_without_brackets(text: str) -> None:
    with pytest.raises(ValueError, match="needs brackets"):
        parse_address(text)


@pytest.mark.parametrize("text", ["unix:", "unix:mysqld.sock", "unix:./x"])
def test_refuses_a_relative_unix_socket(text: str) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        parse_address(text)


@pytest.mark.parametrize(
    "text", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "[::ffff:127.0.0.1]:1", "unix:/x"]
)
def test_knows_what_stays_on_the_machine(text: str) -> None:
    assert parse_address(text).is_loopback


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1", "db1.example:1", "localhost.example:1", "128.0.0.1:1"],
)
def test_takes_everything_else_for_leaving_it(text: str) -> None:
    assert not parse_address(text).is_loopback


def test_a_mapped_address_is_its_ipv4_address() -> None:
    assert normalised(ipaddress.ip_address("::ffff:10.0.0.1")) == ipaddress.ip_address("10.0.0.1")


def test_a_name_is_no_literal() -> None:
    assert ip_literal("db1.example") is None
    assert ip_literal("fe80::1%eth0") == ipaddress.ip_address("fe80::1")
