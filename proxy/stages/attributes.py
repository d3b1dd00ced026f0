"""What the source is told of a replica: connection attributes, in `performance_schema.session_connect_attrs`.

The source sees Binlock's address and Binlock's TLS. These say whose connection it really is.
"""

from __future__ import annotations

from proxy.stages.identity import RosterEntry, VerifiedReplica

# No peer may send one of these itself.
RESERVED_PREFIX = b"_binlock_"
# A server keeps 512 bytes (performance_schema_session_connect_attrs_size), and MySQL takes some of them to say how much
# it dropped: the six at their longest come to 461.
_LONGEST_VALUE = 100
_CUT = "..."


def connection_attributes(verified: VerifiedReplica, entry: RosterEntry, route: str) -> dict[bytes, bytes]:
    """The attributes of one login, the most telling first: what a server has no room for, it drops from the end.

    Args:
        verified: the proof of who it is.
        entry: the line of the roster that its account has chosen.
        route: the route's name.
    """
    negotiated = verified.encrypted.negotiated
    said = {
        "peer": str(verified.encrypted.greeted.source.peer),
        "replica": entry.name,
        "identity": verified.identity_under(entry),
        "route": route,
        "tls_version": None if negotiated is None else negotiated.version,
        "tls_cipher": None if negotiated is None else negotiated.cipher,
    }
    return {RESERVED_PREFIX + name.encode(): _encoded(value) for name, value in said.items() if value}


def _encoded(value: str) -> bytes:
    # A source reads attributes in the character set of the login, which may have only ASCII in common with ours.
    encoded = value.encode("ascii", errors="backslashreplace").decode()
    # A name of a certificate cannot end so: what was cut is taken for nobody else.
    cut = encoded if len(encoded) <= _LONGEST_VALUE else encoded[: _LONGEST_VALUE - len(_CUT)] + _CUT
    return cut.encode()
