"""What the monitor says of a flow: one verdict, and the evidence that led to it."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Verdict(StrEnum):
    """One a flow, always.

    `PLAINTEXT_CLIENT` is MySQL in the clear that is proven to be something else than replication.
    """

    TLS = "tls"
    PLAINTEXT_REPLICATION = "plaintext-replication"
    PLAINTEXT_CLIENT = "plaintext-client"
    NOT_MYSQL = "not-mysql"
    UNDECIDED = "undecided"


@dataclass(slots=True)
class TlsFacts:
    """What a handshake shows. Empty, or None, where it was not seen.

    Attributes:
        version: such as `TLSv1.3`.
        cipher: the suite by its name in the IANA registry, or its number.
        group: of the key exchange, by its name in the registry, or its number.
        certificate_not_after: of the server's certificate; TLS 1.3 does not show it.
    """

    version: str = ""
    cipher: str = ""
    group: str = ""
    certificate_not_after: datetime | None = None


@dataclass(slots=True)
class Flow:
    """One TCP connection as far as it was seen.

    Attributes:
        number: counts flows up from 1 within one run.
        client: address and port that asked, "address:port", an IPv6 address in brackets.
        server: address and port that answered.
        verdict: as things stand.
        evidence: what was seen that bears on the verdict, in the order in which it was seen; never data.
        mid_stream: whether the beginning of the connection was not seen.
        is_incomplete: whether packets of it were lost before they could be looked at.
        packets: how many were seen.
        bytes: of TCP payload, both directions.
        is_compressed: whether the MySQL protocol is compressed.
        tls: what the handshake shows.
        first_seconds: when the first packet passed, since the epoch.
        last_seconds: when the last one did.
        is_over: whether the connection has ended, or is no longer watched.
    """

    number: int
    client: str
    server: str
    verdict: Verdict = Verdict.UNDECIDED
    evidence: list[str] = field(default_factory=list)
    mid_stream: bool = True
    is_incomplete: bool = False
    packets: int = 0
    bytes: int = 0
    is_compressed: bool = False
    tls: TlsFacts = field(default_factory=TlsFacts)
    first_seconds: float = 0.0
    last_seconds: float = 0.0
    is_over: bool = False
