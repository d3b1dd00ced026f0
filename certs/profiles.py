"""What a certificate of each role may do, and how long each kind of thing lives, with the reasons."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier


class Role(StrEnum):
    """Which end of replication a leaf stands for, or that it is no leaf."""

    SOURCE = "source"
    REPLICA = "replica"
    PROXY = "proxy"
    AUTHORITY = "authority"


LEAF_ROLES = (Role.SOURCE, Role.REPLICA, Role.PROXY)

# OpenSSL enforces these at both ends: a replica's stolen key cannot pose as a source, nor the reverse. A
# sidecar answers replicas and dials sources with one certificate, hence both.
EXTENDED_KEY_USAGES: dict[Role, tuple[ObjectIdentifier, ...]] = {
    Role.SOURCE: (ExtendedKeyUsageOID.SERVER_AUTH,),
    Role.REPLICA: (ExtendedKeyUsageOID.CLIENT_AUTH,),
    Role.PROXY: (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
}

# Ten years: replacing the authority means touching every host twice, and its key does not travel.
DEFAULT_AUTHORITY_DAYS = 3650
# Half of that for one below a root: replacing it touches no trust store, since those have the root.
DEFAULT_INTERMEDIATE_DAYS = 1825
# A quarter: short enough that renewal stays a practised routine and a leaked key ages out, long enough that a
# missed renewal is noticed by a monthly look before it stops replication.
DEFAULT_LEAF_DAYS = 90
# A century: beyond this a typing error is likelier than a wish.
MAX_DAYS = 36_500

# Whoever checks revocation refuses every certificate once the list has lapsed, and the list travels by hand.
# A year leaves room for forgetting; a revocation does not wait for it, since a new list supersedes this one
# at once.
REVOCATION_LIST_LIFETIME = timedelta(days=365)

# Hosts whose clock lags must not refuse what was issued a moment ago. Five minutes is Kerberos' usual
# tolerance.
CLOCK_SKEW = timedelta(minutes=5)
# A certificate meant to live for seconds says so exactly; this covers no more than two clocks' rounding.
SHORT_LIVED_SKEW = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Validity:
    """The span in which a certificate or revocation list counts, in whole UTC seconds as X.509 stores it."""

    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long something lives from now on, and how far back it is dated for clocks that lag."""

    length: timedelta
    back_dating: timedelta = CLOCK_SKEW

    @classmethod
    def days(cls, count: int) -> "Lifetime":
        """The ordinary kind."""
        return cls(timedelta(days=count))

    @classmethod
    def seconds(cls, count: int) -> "Lifetime":
        """The short-lived kind, for tests and for credentials that are fetched anew all the time."""
        return cls(timedelta(seconds=count), SHORT_LIVED_SKEW)

    @classmethod
    def of(cls, validity: Validity) -> "Lifetime":
        """The lifetime that a certificate was issued with, as far as its dates show."""
        span = validity.not_after - validity.not_before
        if span > timedelta(days=1):
            return cls.days(round((span - CLOCK_SKEW) / timedelta(days=1)))
        return cls(max(span - SHORT_LIVED_SKEW, timedelta(seconds=1)), SHORT_LIVED_SKEW)

    def around(self, now: datetime) -> Validity:
        """The span when issued at `now`, rounded outwards to whole seconds: `length` is the least it gets."""
        end = now + self.length
        if end.microsecond:
            end = end.replace(microsecond=0) + timedelta(seconds=1)
        return Validity((now - self.back_dating).replace(microsecond=0), end)


def utc_now() -> datetime:
    """The one clock of this package."""
    return datetime.now(UTC)
