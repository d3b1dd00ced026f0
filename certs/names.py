"""The names in a certificate: what a person types, checked and turned into subject alternative names.

Verifiers look at the subject alternative names only; the common name is for people who read a certificate.
One name is the *label*: it gives the files their name and the common name its text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from cryptography import x509

from certs.errors import CertsError

Name = x509.DNSName | x509.IPAddress | x509.UniformResourceIdentifier

# RFC 1035, 2.3.4. Underscores make no host name by the RFC, but container networks hand them out and OpenSSL
# compares them like any other character.
_DNS_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_DNS_NAME_CHARACTERS = 253
# RFC 3986, 2: what may stand in a URI at all.
_URI = re.compile(r"[A-Za-z0-9:/?#\[\]@!$&'()*+,;=._~%-]+")
# File systems stop at 255 bytes, and ".crt" has to fit; a DNS name may be nearly as long.
_MAX_FILE_STEM_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class SubjectNames:
    """The names of one leaf; `parse_names` makes it."""

    label: str
    names: tuple[Name, ...]

    @property
    def file_stem(self) -> str:
        """The label as a file name without extension: `spiffe://example.org/r/1` gives `example.org-r-1`."""
        bare = self.label.partition("://")[2] or self.label
        return re.sub(r"[^A-Za-z0-9._-]", "-", bare).strip("-.")[:_MAX_FILE_STEM_CHARACTERS]

    @property
    def identities(self) -> tuple[str, ...]:
        """The names that Binlock's roster can know a replica by: DNS and URI, in the order given."""
        return tuple(name.value for name in self.names if not isinstance(name, x509.IPAddress))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that a replica can dial and verify: DNS and addresses, in the order given."""
        return tuple(str(name.value) for name in self.names if not isinstance(name, x509.UniformResourceIdentifier))

    def describe(self) -> list[str]:
        """Each name with its kind, as OpenSSL prints them: `DNS:db1.example`."""
        return [describe_name(name) for name in self.names]


_KIND: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.UniformResourceIdentifier: "URI",
}


def describe_name(name: x509.GeneralName) -> str:
    """A name with its kind: `DNS:db1.example`; of a kind that is not used here, the kind and what is in it."""
    return f"{_KIND.get(type(name), type(name).__name__)}:{name.value}"


def parse_names(
    label: str, *, dns: Sequence[str] = (), ip: Sequence[str] = (), uri: Sequence[str] = ()
) -> SubjectNames:
    """Check every name and join them, the label first, each once."""
    first = parse_label(label)
    names = dict.fromkeys((first, *map(parse_dns, dns), *map(parse_ip, ip), *map(parse_uri, uri)))
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    if len(uris) > 1 and any(value.startswith("spiffe://") for value in uris):
        raise CertsError(
            "a certificate with a spiffe:// name may hold that one URI only (X.509-SVID, section 2): "
            "issue one certificate for each"
        )
    subject = SubjectNames(str(first.value), tuple(names))
    if subject.file_stem in ("", "ca"):
        raise CertsError(f"{label!r} cannot name a certificate, since its files would be mistaken: choose another")
    return subject


def parse_described(label: str, described: Sequence[str]) -> SubjectNames:
    """What `SubjectNames.describe` wrote, read again."""
    kinds: dict[str, list[str]] = {"DNS": [], "IP": [], "URI": []}
    for text in described:
        kind, _, value = text.partition(":")
        kinds[kind].append(value)
    return parse_names(label, dns=kinds["DNS"], ip=kinds["IP"], uri=kinds["URI"])


def parse_label(text: str) -> Name:
    """A name whose kind shows: a URI holds `://`, an address parses as one, the rest is DNS."""
    if "://" in text:
        return parse_uri(text)
    try:
        ip_address(text)
    except ValueError:
        return parse_dns(text)
    return parse_ip(text)


def parse_dns(text: str) -> x509.DNSName:
    """A host name, in lower case. No wildcards: one stolen key would stand for every host."""
    name = text.lower()
    labels = name.split(".")
    if "*" in name:
        raise CertsError(f"{text!r} is a wildcard, and one key would stand for every host: issue one for each host")
    if not name.isascii():
        raise CertsError(f"{text!r} is not plain ASCII: give the name in its xn-- form")
    if len(name) > _MAX_DNS_NAME_CHARACTERS or not all(map(_DNS_LABEL.fullmatch, labels)):
        raise CertsError(f"{text!r} is not a DNS name: use letters, digits and hyphens between single dots")
    if labels[-1].isdigit():
        raise CertsError(f"{text!r} is neither an address nor a DNS name (those do not end in a number): correct it")
    return x509.DNSName(name)


def parse_ip(text: str) -> x509.IPAddress:
    """One address, IPv4 or IPv6, never a network."""
    try:
        address = ip_address(text)
    except ValueError:
        raise CertsError(f"{text!r} is not an IP address: give one address, such as 10.0.0.5 or 2001:db8::5") from None
    if "%" in text:
        raise CertsError(f"{text!r} names an interface, which means nothing on another host: leave out the % part")
    return x509.IPAddress(address)


def parse_uri(text: str) -> x509.UniformResourceIdentifier:
    """A URI with scheme and host, such as a SPIFFE identity; kept as typed: URIs compare by character."""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if not (parts.scheme and parts.netloc and _URI.fullmatch(text)):
        raise CertsError(f"{text!r} is not a URI with scheme and host: write it like spiffe://example.org/replica/1")
    return x509.UniformResourceIdentifier(text)
