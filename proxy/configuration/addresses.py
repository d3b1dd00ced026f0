"""Addresses as they are written in the configuration: `host:port`, `[v6]:port` and `unix:/path`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host (a name or a literal address) and a port from 0 to 65535."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nothing sent there can leave this machine. A name counts only if it is `localhost`."""
        literal = ip_literal(self.host)
        return self.host == "localhost" if literal is None else literal.is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a stream socket in the file system."""

    path: str

    @property
    def is_loopback(self) -> bool:
        """A unix socket never leaves the machine."""
        return True

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def parse_address(text: str) -> Address:
    """Reads `host:port`, `[v6]:port` or `unix:/absolute/path`.

    Raises:
        ValueError: with a text that says what was expected.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(f"{text!r}: a unix socket needs an absolute path, as in unix:/run/mysqld/mysqld.sock")
        return UnixAddress(path)
    host, separator, port_text = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets, as in [2001:db8::1]:3306")
    if not separator or not host or not port_text.isascii() or not port_text.isdigit() or int(port_text) > 65535:
        raise ValueError(f"{text!r}: expected host:port, as in db1.example:3306, or unix:/path/to/socket")
    if ":" not in host and any(not 0 < len(label) < 64 for label in host.removesuffix(".").split(".")):
        raise ValueError(f"{text!r}: {host!r} is no host name")
    return TcpAddress(host, int(port_text))


def ip_literal(text: str) -> IpAddress | None:
    """The address that `text` spells, or None if it is a name. A scope (`%eth0`) is dropped."""
    try:
        return normalised(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def normalised(address: IpAddress) -> IpAddress:
    """An IPv4 address mapped into IPv6 (`::ffff:10.0.0.1`, as a dual-stack listener sees it) as IPv4."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
