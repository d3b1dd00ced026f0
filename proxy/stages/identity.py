"""Stage 5, identity: the verified leaf's subject alternative names against the roster. Never the common name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509

from proxy.configuration.addresses import IpAddress
from proxy.outcomes import Reason, SessionRefused, Stage
from proxy.stages.admission import Allowlist
from proxy.stages.objections import Objections
from proxy.stages.tls import EncryptedReplica


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterEntry:
    """One line of the roster.

    Attributes:
        name: the label of the metrics.
        identity: a DNS name or URI of the certificate; None on a plaintext leg, where none can be verified.
        accounts: the MySQL accounts that it may log in with.
        server_ids: the server ids that it may register; empty for any.
        addresses: the networks that it may connect from; None for any that the route allows.
    """

    name: str
    identity: str | None
    accounts: frozenset[str]
    server_ids: frozenset[int]
    addresses: Allowlist | None = None

    def has_name(self, name: str) -> bool:
        """Whether a name of a certificate is this line's: exactly, or under its one leading wildcard label."""
        if self.identity is None:
            return False
        if ":" in self.identity or ":" in name:
            # A URI: no DNS name has a colon, and a wildcard label is for DNS names only.
            return self.identity == name
        wanted, given = self.identity.lower(), name.lower()
        if wanted.startswith("*."):
            # One label and no more, as RFC 9525 section 6.3 has it the other way round.
            label, _, parent = given.partition(".")
            return bool(label) and parent == wanted[2:]
        return wanted == given

    def is_at(self, address: IpAddress) -> bool:
        """Whether this line may be used from an address."""
        return self.addresses is None or address in self.addresses


# Whom the roster does not have, in observe mode; the label of the metrics.
UNLISTED = RosterEntry(name="unlisted", identity=None, accounts=frozenset(), server_ids=frozenset())


@dataclass(frozen=True, slots=True)
class VerifiedReplica:
    """Proof that the replica's certificate is on the roster. Only `Roster.verify_replica` makes one.

    Attributes:
        names: those of its certificate that are on the roster; in observe mode, where none is, the certificate's first;
            none on a plaintext leg.
        entries: the lines of the roster that it may use: those of all these names.
    """

    encrypted: EncryptedReplica
    names: tuple[str, ...]
    entries: tuple[RosterEntry, ...]

    def identity_under(self, entry: RosterEntry) -> str | None:
        """The name by which a line has it; the first one where none does, None on a plaintext leg."""
        return next((name for name in self.names if entry.has_name(name)), self.identity)

    @property
    def identity(self) -> str | None:
        """The first of its names, until the account says which line counts; None on a plaintext leg."""
        return self.names[0] if self.names else None


class Roster:
    """Who may replicate over a route, and as whom."""

    def __init__(self, entries: Iterable[RosterEntry]) -> None:
        self._entries = tuple(entries)

    @property
    def entries(self) -> tuple[RosterEntry, ...]:
        """Every line, in the order of the configuration."""
        return self._entries

    def verify_replica(self, encrypted: EncryptedReplica, objections: Objections) -> VerifiedReplica:
        """Finds the lines for the certificate that was verified in the handshake, and for its address.

        Raises:
            SessionRefused: the roster has none of the certificate's names, or not from there.
        """
        address = encrypted.greeted.source.peer.address
        names = () if encrypted.negotiated is None else certificate_names(encrypted.negotiated.peer_leaf)
        listed, entries = self.lines_for(names, is_verified=encrypted.negotiated is not None)
        here = tuple(entry for entry in entries if entry.is_at(address))
        shown = ", ".join(listed or names) or "no DNS name or URI"
        if not entries:
            objections.raise_or_note(
                SessionRefused(
                    Stage.IDENTITY,
                    Reason.IDENTITY_NOT_ON_ROSTER,
                    f"the certificate names {shown}, and the roster has none of that",
                    told=f"the certificate of {shown} is not on the roster of this route",
                )
            )
        elif not here:
            objections.raise_or_note(
                SessionRefused(
                    Stage.IDENTITY,
                    Reason.ADDRESS_NOT_ON_ROSTER,
                    f"the roster does not have {shown} at {address}",
                    told=f"{shown} may not connect from {address} on this route",
                )
            )
        return VerifiedReplica(encrypted, listed or names[:1], here or entries)

    def lines_for(self, names: Iterable[str], *, is_verified: bool) -> tuple[tuple[str, ...], tuple[RosterEntry, ...]]:
        """Those of a certificate's names that are on the roster, and the lines of all of them, in their order.

        Args:
            names: of the certificate.
            is_verified: False on a plaintext leg, whose lines have no identity.
        """
        if not is_verified:
            return (), tuple(entry for entry in self._entries if entry.identity is None)
        found = {name: [entry for entry in self._entries if entry.has_name(name)] for name in names}
        listed = tuple(name for name, entries in found.items() if entries)
        return listed, tuple(dict.fromkeys(entry for name in listed for entry in found[name]))


def certificate_names(leaf: x509.Certificate | None) -> tuple[str, ...]:
    """The DNS names and URIs of a certificate's SAN, in its order (RFC 5280 section 4.2.1.6)."""
    if leaf is None:
        return ()
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    # A URI has a scheme and so a colon, a DNS name has none: what is of the wrong form could pass for the other kind.
    return tuple(
        name.value
        for name in names
        if (isinstance(name, x509.DNSName) and ":" not in name.value)
        or (isinstance(name, x509.UniformResourceIdentifier) and ":" in name.value)
    )
