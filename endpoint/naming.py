"""What a request may call this endpoint, where only what runs on this machine is meant to reach it.

A page from elsewhere can have its own name resolve to 127.0.0.1, and a browser then lets it read what answers there
("DNS rebinding"). It cannot choose what its browser sends as `Host`: that name.
"""

from __future__ import annotations

import ipaddress


def is_loopback(address: object) -> bool:
    """Whether a socket's own address, as `getsockname` has it, is one that no other machine reaches."""
    if not isinstance(address, tuple):
        return False
    return ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback


def may_be_called(host: str) -> bool:
    """Whether a `Host` header (RFC 9110, section 7.2) is an address, or a name that nobody elsewhere can own.

    Args:
        host: with or without a port; empty where the client sent none, as clients of HTTP/1.0 do.
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
    name = name.rstrip(".").lower()
    if "." not in name or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
