"""Name constraints (RFC 5280, 4.2.1.10): the names that an authority may speak for, as OpenSSL reads them.

DNS names, addresses, URIs and subjects are judged. Constraints on other kinds, such as mail addresses, play no part
between servers, and are only named.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from certs.names import describe_name
from certs.verifying.extensions import extension_of, named

_JUDGED = (x509.DNSName, x509.IPAddress, x509.UniformResourceIdentifier, x509.DirectoryName)
# What OpenSSL takes for a host's name in a common name: labels with at least one dot between them.
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]+(?<!-)(\.(?!-)[A-Za-z0-9_-]+(?<!-))+")


def breaches_of_constraints(chain: Sequence[x509.Certificate]) -> Iterator[str]:
    """Each name of a certificate that one of those above it may not speak for; the leaf comes first in a chain."""
    for place, certificate in enumerate(chain):
        # One that only renewed its own authority is not bound, unless it is the leaf itself.
        if place and certificate.subject == certificate.issuer:
            continue
        for above in chain[place + 1 :]:
            constraints = extension_of(above, x509.NameConstraints)
            if constraints is not None:
                for name in _names_of(certificate, is_leaf=place == 0):
                    if not _may_speak_for(constraints, name):
                        yield f"{named(above)} may not speak for {describe_name(name)}, which {named(certificate)} has"


def unjudged_constraints(chain: Sequence[x509.Certificate]) -> list[str]:
    """The kinds of names, other than those above, that are constrained somewhere."""
    found = {
        type(tree).__name__
        for certificate in chain
        if (constraints := extension_of(certificate, x509.NameConstraints)) is not None
        for tree in (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ()))
        if not isinstance(tree, _JUDGED)
    }
    return sorted(found)


def _names_of(certificate: x509.Certificate, *, is_leaf: bool) -> Iterator[x509.GeneralName]:
    if list(certificate.subject):
        yield x509.DirectoryName(certificate.subject)
    names = list(extension_of(certificate, x509.SubjectAlternativeName) or ())
    yield from (name for name in names if isinstance(name, _JUDGED))
    if is_leaf and not any(isinstance(name, x509.DNSName) for name in names):
        for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
            if _HOST.fullmatch(str(attribute.value)):
                yield x509.DNSName(str(attribute.value))


def _may_speak_for(constraints: x509.NameConstraints, name: x509.GeneralName) -> bool:
    permitted = [tree for tree in constraints.permitted_subtrees or () if type(tree) is type(name)]
    excluded = [tree for tree in constraints.excluded_subtrees or () if type(tree) is type(name)]
    if permitted and not any(_is_within(tree, name) for tree in permitted):
        return False
    return not any(_is_within(tree, name) for tree in excluded)


def _is_within(tree: x509.GeneralName, name: x509.GeneralName) -> bool:
    match tree, name:
        case x509.DNSName(), x509.DNSName():
            return _is_host_below(tree.value.lower(), name.value.lower())
        case x509.IPAddress(), x509.IPAddress():
            return _is_address_in(tree.value, name.value)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            host = (urlsplit(name.value).hostname or "").lower()
            # Here a host stands for itself, and one with a dot before it for all below it.
            return host.endswith(tree.value.lower()) if tree.value.startswith(".") else host == tree.value.lower()
        case x509.DirectoryName(), x509.DirectoryName():
            trunk = [_canonical(part) for part in tree.value.rdns]
            return [_canonical(part) for part in name.value.rdns][: len(trunk)] == trunk
        case _:
            return False


def _is_host_below(tree: str, host: str) -> bool:
    if not tree or host == tree:
        return True
    return host.endswith(tree if tree.startswith(".") else f".{tree}")


def _is_address_in(tree: object, address: object) -> bool:
    if not isinstance(tree, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return False
    return isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address) and address in tree


def _canonical(part: x509.RelativeDistinguishedName) -> frozenset[tuple[str, str]]:
    """Case and runs of spaces do not tell names apart (RFC 5280, 7.1)."""
    return frozenset((item.oid.dotted_string, " ".join(str(item.value).lower().split())) for item in part)
