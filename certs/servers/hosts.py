"""Addresses as people type them: `db1.example:3306`, `10.0.0.5:3306`, `[2001:db8::5]:3306`."""

import re

from certs.errors import CertsError

_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]']+)):(\d{1,5})")


def parse_host_port(text: str) -> tuple[str, int]:
    """The host, without brackets, and the port."""
    match = _HOST_PORT.fullmatch(text)
    if match is None or not 1 <= int(match[3]) <= 65_535:
        raise CertsError(f"{text!r} is not HOST:PORT: write it like db1.example:3306 or [2001:db8::5]:3306")
    return match[1] or match[2], int(match[3])
