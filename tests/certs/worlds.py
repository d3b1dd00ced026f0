"""Chains with faults: a root, an authority below it, a leaf, and their lists; none by our builders."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
HOST = "db1.example"
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@cache
def key_of(kind: str) -> Key:
    """One key for each purpose, made once: `root`, `leaf rsa-1024`."""
    match kind.partition(" ")[2]:
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case bits if bits.startswith("rsa-"):
            return rsa.generate_private_key(65537, int(bits.removeprefix("rsa-")))
        case _:
            return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Description:
    """One certificate; `key` and `signer` are names of keys."""

    name: str
    key: str
    signer: str
    begin: datetime = NOW - 30 * DAY
    end: datetime = NOW + 60 * DAY
    authority: bool | None = False
    path_length: int | None = None
    constraints_critical: bool = True
    usages: set[str] | None = field(default_factory=lambda: {"digital_signature"})
    purposes: list[x509.ObjectIdentifier] | None = None
    names: list[x509.GeneralName] | None = None
    names_critical: bool = False
    own_identifier: bool = True
    issuer_identifier: str | None = ""
    """The key that it is made of; empty for the signer's, None for none."""
    further: list[tuple[x509.ExtensionType, bool]] = field(default_factory=list)
    issuer: str = ""
    """The name of who signed it, if that is not whom the key belongs to."""


@dataclass
class ListDescription:
    """One revocation list."""

    issuer: str
    signer: str
    revoked: list[tuple[str, x509.ReasonFlags | None]] = field(default_factory=list)
    begin: datetime = NOW - DAY
    due: datetime = NOW + 30 * DAY
    further: list[tuple[x509.ExtensionType, bool]] = field(default_factory=list)


def authority(name: str, signer: str) -> Description:
    return Description(name, name, signer, authority=True, usages={"key_cert_sign", "crl_sign"}, end=NOW + 3000 * DAY)


@dataclass
class World:
    """Everything that a verification needs; a fault changes it."""

    certificates: dict[str, Description]
    lists: list[ListDescription]
    sent: list[str]
    trusted: list[str]
    host: str = HOST

    @classmethod
    def good(cls) -> World:
        leaf = Description(
            "leaf",
            "leaf",
            "middle",
            purposes=[ExtendedKeyUsageOID.SERVER_AUTH],
            names=[x509.DNSName(HOST), x509.DNSName("*.wild.example"), x509.IPAddress(ip_address("10.0.0.5"))],
        )
        everybody = {"root": authority("root", "root"), "middle": authority("middle", "root"), "leaf": leaf}
        lists = [ListDescription("root", "root"), ListDescription("middle", "middle")]
        return cls(everybody, lists, ["leaf", "middle"], ["root"])

    @property
    def leaf(self) -> Description:
        return self.certificates["leaf"]

    @property
    def middle(self) -> Description:
        return self.certificates["middle"]

    @property
    def root(self) -> Description:
        return self.certificates["root"]

    def build(self) -> tuple[list[x509.Certificate], list[x509.Certificate], list[x509.CertificateRevocationList]]:
        """What is sent, what is trusted, the lists."""
        made: dict[str, x509.Certificate] = {}
        for number, (label, description) in enumerate(self.certificates.items(), 1):
            signers = [other.name for other in self.certificates.values() if other.key == description.signer]
            made[label] = certificate(description, description.issuer or signers[0], number)
        lists = [revocation_list(described, made) for described in self.lists]
        return [made[label] for label in self.sent], [made[label] for label in self.trusted], lists

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        sent, trusted, lists = self.build()
        pem = Encoding.PEM
        (folder / "sent.pem").write_bytes(b"".join(c.public_bytes(pem) for c in sent))
        (folder / "ca.pem").write_bytes(b"".join(c.public_bytes(pem) for c in trusted))
        (folder / "crl.pem").write_bytes(b"".join(crl.public_bytes(pem) for crl in lists))


def name_of(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def hash_for(key: Key) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def certificate(d: Description, issuer: str, serial: int) -> x509.Certificate:
    key, signer = key_of(d.key), key_of(d.signer)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(d.name))
        .issuer_name(name_of(issuer))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(d.begin)
        .not_valid_after(d.end)
    )
    extensions: list[tuple[x509.ExtensionType, bool]] = [*d.further]
    if d.authority is not None:
        extensions.append((x509.BasicConstraints(d.authority, d.path_length), d.constraints_critical))
    if d.usages is not None:
        extensions.append((x509.KeyUsage(**{usage: usage in d.usages for usage in USAGES}), True))
    if d.purposes is not None:
        extensions.append((x509.ExtendedKeyUsage(d.purposes), False))
    if d.names is not None:
        extensions.append((x509.SubjectAlternativeName(d.names), d.names_critical))
    if d.own_identifier:
        extensions.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
    if d.issuer_identifier is not None:
        other = key_of(d.issuer_identifier or d.signer)
        extensions.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(other.public_key()), False))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hash_for(signer))


USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
          "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip


def revocation_list(d: ListDescription, made: dict[str, x509.Certificate]) -> x509.CertificateRevocationList:
    signer = key_of(d.signer)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(made[d.issuer].subject)
        .last_update(d.begin)
        .next_update(d.due)
        .add_extension(x509.CRLNumber(1), False)
    )
    for extension, critical in d.further:
        builder = builder.add_extension(extension, critical)
    for label, reason in d.revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(made[label].serial_number).revocation_date(NOW - DAY)
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(signer, hash_for(signer))


Fault = Callable[[World], object]


def change(who: str, **values: object) -> Fault:
    def apply(world: World) -> None:
        world.certificates[who] = dataclasses.replace(world.certificates[who], **values)  # type: ignore[arg-type]

    return apply


NETWORK = x509.IPAddress(ip_network("10.0.0.0/24"))


def constrain(
    who: str, *, permitted: list[x509.GeneralName] | None = None, excluded: list[x509.GeneralName] | None = None
) -> Fault:
    return lambda world: world.certificates[who].further.append((x509.NameConstraints(permitted, excluded), True))


def change_list(place: int, **values: object) -> Fault:
    def apply(world: World) -> None:
        world.lists[place] = dataclasses.replace(world.lists[place], **values)  # type: ignore[arg-type]

    return apply


def change_world(**values: object) -> Fault:
    def apply(world: World) -> None:
        for name, value in values.items():
            setattr(world, name, value)

    return apply


def drop_list(issuer: str) -> Fault:
    def apply(world: World) -> None:
        world.lists = [described for described in world.lists if described.issuer != issuer]

    return apply


def add_list(described: ListDescription) -> Fault:
    return lambda world: world.lists.append(dataclasses.replace(described))


def add_second_root(world: World) -> None:
    """The root's name and key again, with another span, as after a renewal."""
    world.certificates["older root"] = dataclasses.replace(world.root, end=NOW - DAY, begin=NOW - 900 * DAY)
    world.trusted = ["older root", *world.trusted]


def add_namesake(world: World) -> None:
    """Another authority of the same name, which identifiers tell apart."""
    world.certificates["namesake"] = dataclasses.replace(
        world.root, key="namesake", signer="namesake", issuer_identifier=""
    )
    world.trusted = ["namesake", *world.trusted]


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
PART = x509.IssuingDistributionPoint(
    None, None, only_contains_user_certs=False, only_contains_ca_certs=True, only_some_reasons=None,
    indirect_crl=False, only_contains_attribute_certs=False,
)  # fmt: skip

# What may be different; some of it is no fault at all.
VARIATIONS: dict[str, Fault] = {
    "all good": change_world(),
    # the way to the root
    "middle not sent": change_world(sent=["leaf"]),
    "root sent too": lambda world: world.sent.append("root"),
    "middle trusted too": lambda world: world.trusted.append("middle"),
    "middle alone trusted": change_world(trusted=["middle"]),
    "leaf trusted alone": change_world(trusted=["leaf"]),
    "leaf by the root": change("leaf", signer="root"),
    "leaf signed itself": change("leaf", signer="leaf"),
    "older root beside": add_second_root,
    "namesake beside": add_namesake,
    "leaf names another issuer key": change("leaf", issuer_identifier="stranger"),
    "leaf forged": change("leaf", signer="stranger", issuer="middle", issuer_identifier="middle"),
    "leaf forged without identifier": change("leaf", signer="stranger", issuer="middle", issuer_identifier=None),
    "middle forged": change("middle", signer="stranger", issuer="root", issuer_identifier="root"),
    "no identifiers in leaf": change("leaf", own_identifier=False, issuer_identifier=None),
    "no identifier in middle": change("middle", own_identifier=False),
    # spans
    "leaf expired": change("leaf", end=NOW - DAY),
    "leaf not yet": change("leaf", begin=NOW + DAY),
    "middle expired": change("middle", end=NOW - DAY),
    "root expired": change("root", end=NOW - DAY),
    # rights
    "middle is no authority": change("middle", authority=False, usages={"digital_signature"}),
    "middle without constraints": change("middle", authority=None),
    "middle may not sign certificates": change("middle", usages={"crl_sign"}),
    "middle may not sign lists": change("middle", usages={"key_cert_sign"}),
    "middle without usage": change("middle", usages=None),
    "constraints not critical": change("middle", constraints_critical=False),
    "root allows none below": change("root", path_length=0),
    "root allows one below": change("root", path_length=1),
    "middle allows none below": change("middle", path_length=0),
    "leaf has an unknown critical extension": change("leaf", further=[(UNKNOWN, True)]),
    "leaf has an unknown extension": change("leaf", further=[(UNKNOWN, False)]),
    "leaf may sign certificates": change("leaf", usages={"digital_signature", "key_cert_sign"}),
    # names that authorities may speak for
    "middle speaks for example": constrain("middle", permitted=[x509.DNSName("example"), NETWORK]),
    "middle speaks for its own subject": constrain("middle", permitted=[x509.DirectoryName(name_of("LEAF "))]),
    "middle speaks for others": constrain("middle", permitted=[x509.DNSName("other.example"), NETWORK]),
    "root speaks for another network": constrain("root", permitted=[x509.IPAddress(ip_network("10.1.0.0/16"))]),
    "root speaks for other subjects": constrain("root", permitted=[x509.DirectoryName(name_of("others"))]),
    "middle does not speak for the host": constrain("middle", excluded=[x509.DNSName("db1.example")]),
    "middle does not speak for a wildcard": constrain("middle", excluded=[x509.DNSName(".wild.example")]),
    "middle does not speak for addresses": constrain("middle", excluded=[x509.IPAddress(ip_network("0.0.0.0/0"))]),
    "root speaks for mail alone": constrain("root", permitted=[x509.RFC822Name("example")]),
    "leaf is constrained itself": constrain("leaf", permitted=[x509.DNSName("other.example")]),
    # purpose
    "leaf for clients": change("leaf", purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]),
    "leaf for anything": change("leaf", purposes=None),
    "leaf without usage": change("leaf", usages=None),
    "leaf for encipherment": change("leaf", usages={"key_encipherment"}),
    "leaf for lists alone": change("leaf", usages={"crl_sign"}),
    "middle for clients": change("middle", purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]),
    "middle for servers": change("middle", purposes=[ExtendedKeyUsageOID.SERVER_AUTH]),
    # keys
    "leaf of RSA 2048": change("leaf", key="leaf rsa-2048"),
    "leaf of RSA 1024": change("leaf", key="leaf rsa-1024"),
    "leaf of Ed25519": change("leaf", key="leaf ed25519"),
    "leaf of P-384": change("leaf", key="leaf p384"),
    # names
    "another host": change_world(host="db2.example"),
    "host of the wildcard": change_world(host="a.wild.example"),
    "host below the wildcard": change_world(host="a.b.wild.example"),
    "wildcard for all of example": change("leaf", names=[x509.DNSName("*.example")]),
    "host by address": change_world(host="10.0.0.5"),
    "another address": change_world(host="10.0.0.6"),
    "leaf without names": change("leaf", names=None),
    "leaf by common name alone": change("leaf", name=HOST, names=None),
    "leaf without subject": change("leaf", name=""),
    # lists
    "no list of middle": drop_list("middle"),
    "no list of root": drop_list("root"),
    "leaf revoked": change_list(1, revoked=[("leaf", None)]),
    "leaf revoked for its key": change_list(1, revoked=[("leaf", x509.ReasonFlags.key_compromise)]),
    "leaf's revocation taken back": change_list(1, revoked=[("leaf", x509.ReasonFlags.remove_from_crl)]),
    "middle revoked": change_list(0, revoked=[("middle", None)]),
    "root revoked": change_list(0, revoked=[("root", None)]),
    "list of middle lapsed": change_list(1, due=NOW - timedelta(hours=1), begin=NOW - 3 * DAY),
    "list of root not yet": change_list(0, begin=NOW + DAY),
    "list of middle forged": change_list(1, signer="stranger"),
    "list of middle in part": change_list(1, further=[(PART, True)]),
    "newer list has the leaf": add_list(
        ListDescription("middle", "middle", [("leaf", None)], begin=NOW - timedelta(hours=2))
    ),
    "older list has the leaf": add_list(ListDescription("middle", "middle", [("leaf", None)], begin=NOW - 9 * DAY)),
    "list of tomorrow beside": add_list(ListDescription("middle", "middle", [("leaf", None)], begin=NOW + DAY)),
    "lapsed list beside": add_list(ListDescription("middle", "middle", begin=NOW - 9 * DAY, due=NOW - 8 * DAY)),
}
