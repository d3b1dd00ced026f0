"""Protocols that are not MySQL, by how a connection begins.

At the true beginning of a connection anything that is no greeting and no login is not MySQL; naming the protocol only
helps whoever reads the report.
"""

import re

_BEGINNINGS = (
    (re.compile(rb"SSH-\d"), "SSH"),
    (re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|CONNECT|TRACE) \S* ?|HTTP/\d|PRI \* HTTP/2"), "HTTP"),
    (re.compile(rb"\x00\x00[\x00-\x27].(?:\x00\x03\x00\x00|\x04\xd2\x16[\x2e-\x30])", re.DOTALL), "PostgreSQL"),
    (re.compile(rb"[RNS](?:\x00\x00\x00.|\Z)", re.DOTALL), "PostgreSQL"),
    (re.compile(rb"\*\d+\r\n\$|[+\-:$]\S*.*\r\n", re.DOTALL), "Redis"),
    (re.compile(rb".{12}(?:\xd4\x07|\xdd\x07|\x01\x00)\x00\x00", re.DOTALL), "MongoDB"),
    (re.compile(rb"RFB \d{3}\."), "VNC"),
    (re.compile(rb"220[ -]"), "SMTP or FTP"),
)
ANYTHING = "another protocol"


def name_of_beginning(data: bytes) -> str:
    """Name the protocol whose connection begins so."""
    return next((name for pattern, name in _BEGINNINGS if pattern.match(data)), ANYTHING)
