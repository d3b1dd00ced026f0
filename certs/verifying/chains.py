"""From a leaf to a root that is trusted, and whether each step may be taken: RFC 5280, 6, as OpenSSL reads it.

OpenSSL is the measure, since MySQL, MariaDB and Binlock all verify with it: tests compare the two on a matrix
of good and bad chains. A chain ends in a self-signed certificate among the trusted ones; an intermediate that is
trusted does not end it.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier

from certs.keys import MIN_RSA_BITS, describe_public_key
from certs.profiles import EXTENDED_KEY_USAGES, Role
from certs.verifying.constraints import breaches_of_constraints, unjudged_constraints
from certs.verifying.extensions import extension_of, key_usage_of, named, subject_key_identifier_of
from certs.verifying.findings import Check, Finding, all_or, failed, passed, warned
from certs.verifying.strictness import breaches

Chain = Sequence[x509.Certificate]

_MOST_CERTIFICATES = 20  # longer than any, and an end to circles
# Those that OpenSSL acts upon when they are critical (X509_supported_extension).
_UNDERSTOOD = {
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.NAME_CONSTRAINTS,
    ExtensionOID.CERTIFICATE_POLICIES,
    ExtensionOID.POLICY_CONSTRAINTS,
    ExtensionOID.POLICY_MAPPINGS,
    ExtensionOID.INHIBIT_ANY_POLICY,
    ExtensionOID.CRL_DISTRIBUTION_POINTS,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
}
_WEAK_HASHES = {"md5", "sha1"}
_WORDS: dict[ObjectIdentifier, str] = {
    ExtendedKeyUsageOID.SERVER_AUTH: "answering as a server (serverAuth)",
    ExtendedKeyUsageOID.CLIENT_AUTH: "connecting as a client (clientAuth)",
}


def build_chain(
    leaf: x509.Certificate, sent: Chain, trusted: Chain, now: datetime
) -> tuple[list[x509.Certificate], str | None]:
    """Follow issuers from the leaf, the trusted ones first.

    Args:
        leaf: where it begins.
        sent: what came with the leaf.
        trusted: what is in the trust file.
        now: of several that would do, one that counts now is taken.

    Returns:
        The chain as far as it could be followed, the leaf first, and why it ends too early, or None.
    """
    chain = [leaf]
    while len(chain) < _MOST_CERTIFICATES:
        last = chain[-1]
        if last in trusted and _issued(last, last):
            return chain, None
        issuer = _issuer_among(trusted, last, now) or _issuer_among(sent, last, now)
        if issuer is None:
            return chain, f"the issuer of {named(last)}, {named_issuer(last)}, is not in the trust file: add it there"
        if issuer in chain:
            return chain, f"{named(last)} signed itself and is not in the trust file: add it there, if you trust it"
        chain.append(issuer)
    return chain, "the chain does not end: its authorities sign each other"


def judge_chain(chain: Chain, role: Role | None, now: datetime) -> Iterator[Finding]:
    """Everything but names and revocation, for a chain that ends where it should."""
    yield from all_or(
        Check.VALIDITY, [*_outside_validity(chain, now)], f"until {min(c.not_valid_after_utc for c in chain):%Y-%m-%d}"
    )
    yield from all_or(Check.AUTHORITIES, [*_unfit_authorities(chain)], "each may sign the one below it")
    if kinds := unjudged_constraints(chain):
        yield warned(
            Check.AUTHORITIES, f"names of the kind {', '.join(kinds)} are constrained, which is not judged here"
        )
    if role is not None:
        wanted = EXTENDED_KEY_USAGES[role]
        yield from all_or(
            Check.PURPOSE, [*_wrong_purposes(chain, wanted)], f"fit for {' and '.join(_WORDS[use] for use in wanted)}"
        )
    kind = describe_public_key(chain[0].public_key())
    yield from all_or(Check.ALGORITHMS, [*_weak_algorithms(chain)], f"strong enough; its own key is {kind}")
    yield from all_or(Check.STRICT, [*breaches(chain)], "holds to RFC 5280, which Binlock's proxy asks for")


def judge_signatures(chain: Chain) -> Finding:
    """Whether each certificate was signed by the next one's key."""
    for below, above in pairwise(chain):
        if not _signed(below, above):
            return failed(
                Check.CHAIN, f"{named(below)} is not signed by the key of {named(above)}: fetch the genuine one"
            )
    return passed(Check.CHAIN, " < ".join(map(named, chain)))


def named_issuer(certificate: x509.Certificate) -> str:
    """Its issuer for people."""
    return certificate.issuer.rfc4514_string() or "one without a name"


def _issuer_among(certificates: Chain, below: x509.Certificate, now: datetime) -> x509.Certificate | None:
    candidates = [above for above in certificates if _issued(above, below)]

    def rank(above: x509.Certificate) -> tuple[bool, bool, datetime]:
        counts = above.not_valid_before_utc <= now < above.not_valid_after_utc
        return _signed(below, above), counts, above.not_valid_after_utc

    return max(candidates, key=rank, default=None)


def _issued(above: x509.Certificate, below: x509.Certificate) -> bool:
    """Whether names, and identifiers where both have one, say so; the signature is judged later."""
    if above.subject != below.issuer:
        return False
    identifier = extension_of(below, x509.AuthorityKeyIdentifier)
    own = subject_key_identifier_of(above)
    return identifier is None or identifier.key_identifier in (None, own) or own is None


def _signed(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except Exception:  # noqa: BLE001 - unknown algorithms raise all kinds, and none of them is a good signature
        return False
    return True


def _outside_validity(chain: Chain, now: datetime) -> Iterator[str]:
    for certificate in chain:
        if certificate.not_valid_after_utc < now:
            yield f"{named(certificate)} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: renew it"
        if certificate.not_valid_before_utc > now:
            begin = certificate.not_valid_before_utc
            yield f"{named(certificate)} counts from {begin:%Y-%m-%d %H:%M} UTC on: wait, or set the clock"


def _unfit_authorities(chain: Chain) -> Iterator[str]:
    yield from (f"{fault}: issue it under another" for fault in breaches_of_constraints(chain))
    below = 0  # authorities between this one and the leaf, but for those that only renewed their own key
    for place, certificate in enumerate(chain):
        for extension in certificate.extensions:
            if extension.critical and extension.oid not in _UNDERSTOOD:
                yield f"{named(certificate)} has a critical extension {extension.oid.dotted_string} that nobody knows"
        if place == 0:
            continue
        constraints = extension_of(certificate, x509.BasicConstraints)
        usage = key_usage_of(certificate)
        # OpenSSL lets a root of the first version pass, which has no extensions, where it is not strict.
        is_old_root = certificate.version is x509.Version.v1 and place == len(chain) - 1
        if not (constraints.ca if constraints else is_old_root):
            yield f"{named(certificate)} is no authority (no CA:TRUE), and signed {named(chain[place - 1])}: issue anew"
        if usage is not None and not usage.key_cert_sign:
            yield f"{named(certificate)} may not sign certificates (keyCertSign): renew it with that"
        if place > 1 and constraints and constraints.path_length is not None and below > constraints.path_length:
            yield f"{named(certificate)} allows {constraints.path_length} authorities below it, and there are {below}"
        if certificate.subject != certificate.issuer:
            below += 1


def _wrong_purposes(chain: Chain, wanted: Sequence[ObjectIdentifier]) -> Iterator[str]:
    """OpenSSL asks every certificate of a chain, not the leaf alone."""
    for use in wanted:
        for certificate in chain:
            uses = extension_of(certificate, x509.ExtendedKeyUsage)
            if uses is not None and use not in uses:
                yield f"{named(certificate)} is not for {_WORDS[use]}: issue one for the role"
        usage = key_usage_of(chain[0])
        if usage is None:
            continue
        # A server may also decrypt, or agree on a key; a client only signs.
        fits = usage.digital_signature or usage.key_agreement
        if use == ExtendedKeyUsageOID.SERVER_AUTH:
            fits = fits or usage.key_encipherment
        if not fits:
            yield f"the key usage of {named(chain[0])} does not let it do TLS (digitalSignature): issue it anew"


def _weak_algorithms(chain: Chain) -> Iterator[str]:
    for place, certificate in enumerate(chain):
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
            yield f"{named(certificate)} has an RSA key of {key.key_size} bits, and {MIN_RSA_BITS} are the least"
        algorithm = certificate.signature_hash_algorithm
        is_anchor = place == len(chain) - 1  # it is trusted as it is; nobody looks at its signature
        if algorithm is not None and algorithm.name in _WEAK_HASHES and not is_anchor:
            yield f"{named(certificate)} is signed with {algorithm.name}, which is broken: issue it anew"
