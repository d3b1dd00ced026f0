"""The whole judgement of a certificate, whether it comes from files or from a server's port."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import NameOID

from certs.names import Name, describe_name, parse_label
from certs.profiles import Role
from certs.verifying.chains import Chain, build_chain, judge_chain, judge_signatures
from certs.verifying.extensions import extension_of
from certs.verifying.findings import Check, Finding, failed, passed, warned
from certs.verifying.lists import RevocationLists, judge_revocation, lists_in_use

# A fortnight: two weekends and the days between, for somebody to notice.
WARN_DAYS = 14


@dataclass(frozen=True, slots=True)
class Trust:
    """What a verifier has: the content of its CA file and of its revocation lists."""

    certificates: Chain
    lists: RevocationLists = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is expected of a certificate.

    Attributes:
        role: whose certificate it is; None accepts any purpose.
        name: the name that peers dial or look up, if that is to be checked.
        days: fewer days left are a failure.
    """

    role: Role | None = None
    name: str | None = None
    days: int = 0


def verify(certificates: Chain, trust: Trust, wanted: Wanted, *, now: datetime) -> Iterator[Finding]:
    """Judge a certificate as its peers would, and say more than they do.

    Args:
        certificates: the leaf, and what comes with it.
        trust: what the peers have.
        wanted: what they expect.
        now: the time to judge it for.
    """
    leaf, *sent = certificates
    chain, gap = build_chain(leaf, sent, trust.certificates, now)
    yield judge_signatures(chain) if gap is None else failed(Check.CHAIN, gap)
    yield from judge_chain(chain, wanted.role, now)
    if gap is None:
        yield from judge_revocation(chain, trust.lists, now)
    if wanted.name is not None:
        yield _judge_name(leaf, wanted.name)
    yield _judge_days_left(chain, lists_in_use(chain, trust.lists, now), wanted.days, now)


def _judge_name(leaf: x509.Certificate, text: str) -> Finding:
    name = parse_label(text)
    alternatives = extension_of(leaf, x509.SubjectAlternativeName)
    names: Sequence[x509.GeneralName] = [] if alternatives is None else list(alternatives)
    if any(_matches(name, own) for own in names):
        return passed(Check.NAME, f"stands for {describe_name(name)}")
    common = [str(part.value).lower() for part in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    has_dns = any(isinstance(own, x509.DNSName) for own in names)
    if isinstance(name, x509.DNSName) and not has_dns and name.value in common:
        return warned(
            Check.NAME,
            f"{text} is its common name alone: MySQL takes that, Binlock and MariaDB's newer clients do not; "
            "issue one that has it as an alternative name",
        )
    has = ", ".join(map(describe_name, names)) or "no alternative names"
    return failed(Check.NAME, f"does not stand for {describe_name(name)}, it has {has}: issue one that does")


def _matches(name: Name, own: x509.GeneralName) -> bool:
    if type(name) is not type(own):
        return False
    if not isinstance(own, x509.DNSName):
        return bool(name.value == own.value)
    wanted, pattern = str(name.value), own.value.lower()
    first, _, rest = wanted.partition(".")
    # A wildcard stands for one whole label, and never for all of a top-level domain.
    return wanted == pattern or (bool(first) and "." in rest and pattern == f"*.{rest}")


def _judge_days_left(chain: Chain, lists: RevocationLists, days: int, now: datetime) -> Finding:
    ends = [certificate.not_valid_after_utc for certificate in chain]
    ends += [crl.next_update_utc for crl in lists if crl.next_update_utc is not None]
    left = min(ends) - now
    text = f"{left // timedelta(days=1)} until the first of certificates and lists ends, on {min(ends):%Y-%m-%d}"
    if left < timedelta(days=days) or left < timedelta(0):
        return failed(Check.DAYS_LEFT, f"{text}: renew it")
    span = chain[0].not_valid_after_utc - chain[0].not_valid_before_utc
    # What lives for a few days only is fetched anew all the time: it is late in the last third of its life.
    if left < min(timedelta(days=WARN_DAYS), span / 3):
        return warned(Check.DAYS_LEFT, f"{text}: renew it soon")
    return passed(Check.DAYS_LEFT, text)
