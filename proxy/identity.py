"""Stage 5, identity: the verified leaf's subject alternative names against the roster. Never the common name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509

from proxy.outcomes import Reason, SessionRefused, Stage
from proxy.tls import EncryptedReplica


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterEntry:
    """One line of the roster.

    Attributes:
        name: the label of the metrics.
        identity: a DNS name or URI of the certificate; None on a plaintext leg, where none can be verified.
        accounts: the MySQL accounts that it may log in with.
        server_ids: the server ids that it may register; empty for any.
    """

    name: str
    identity: str | None
    accounts: frozenset[str]
    server_ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class VerifiedReplica:
    """Proof that the replica's certificate is on the roster. Only `Roster.verify_replica` makes one.

    Attributes:
        identity: the name that matched; None on a plaintext leg.
        entries: the lines of the roster that this identity may use.
    """

    encrypted: EncryptedReplica
    identity: str | None
    entries: tuple[RosterEntry, ...]


class Roster:
    """Who may replicate over a route, and as whom."""

    def __init__(self, entries: Iterable[RosterEntry]) -> None:
        self._entries = tuple(entries)

    @property
    def entries(self) -> tuple[RosterEntry, ...]:
        """Every line, in the order of the configuration."""
        return self._entries

    def verify_replica(self, encrypted: EncryptedReplica) -> VerifiedReplica:
        """Finds the lines for the certificate that was verified in the handshake.

        Raises:
            SessionRefused: the roster has none of the certificate's names.
        """
        if encrypted.negotiated is None:
            return VerifiedReplica(encrypted, None, tuple(entry for entry in self._entries if entry.identity is None))
        names = certificate_names(encrypted.negotiated.peer_leaf)
        for name in names:
            entries = tuple(
                entry for entry in self._entries if entry.identity is not None and _same(entry.identity, name)
            )
            if entries:
                return VerifiedReplica(encrypted, name, entries)
        shown = ", ".join(names) or "no DNS name or URI"
        raise SessionRefused(
            Stage.IDENTITY,
            Reason.IDENTITY_NOT_ON_ROSTER,
            f"the certificate names {shown}, and the roster has none of that",
            told=f"the certificate of {shown} is not on the roster of this route",
        )


def certificate_names(leaf: x509.Certificate | None) -> tuple[str, ...]:
    """The DNS names and URIs of a certificate's SAN, in its order (RFC 5280 section 4.2.1.6)."""
    if leaf is None:
        return ()
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name.value for name in names if isinstance(name, x509.DNSName | x509.UniformResourceIdentifier))


def _same(wanted: str, name: str) -> bool:
    # DNS names compare without case (RFC 4343); a URI's path does not.
    return wanted == name if ":" in wanted else wanted.lower() == name.lower()
