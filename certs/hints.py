"""What to paste where after an issue: Binlock's TOML, and the statement for a replica that does TLS."""

from collections.abc import Iterable

from certs.issuing.authority import AuthorityFiles
from certs.issuing.leaves import IssuedLeaf
from certs.profiles import Role
from certs.servers.quoting import sql_text, toml_text


def hint_lines(leaf: IssuedLeaf, authority: AuthorityFiles) -> list[str]:
    """The lines for this leaf's role, file names absolute; empty lines separate the places they belong to."""
    sections = [place(leaf, authority) for place in _PLACES[leaf.role]]
    if leaf.role is not Role.REPLICA and not leaf.subject.hosts:
        sections.append(
            ["# It has no --dns and no --ip name: a replica that verifies its source's name will refuse it."]
        )
    return [line for section in sections for line in ("", *section)]


def _replica_leg(leaf: IssuedLeaf, authority: AuthorityFiles) -> list[str]:
    return [
        "# Binlock beside the source:",
        "[route.replica_tls]",
        *_toml_files(leaf, authority),
    ]


def _source_leg(leaf: IssuedLeaf, authority: AuthorityFiles) -> list[str]:
    return [
        "# Binlock beside the replica:",
        "[route.source.tls]",
        *_toml_files(leaf, authority),
    ]


def _roster(leaf: IssuedLeaf, _authority: AuthorityFiles) -> list[str]:
    if not leaf.subject.identities:
        return ["# It has no --dns and no --uri name, and Binlock's roster knows replicas by those."]
    return [
        "# Binlock beside the source, to let this one in:",
        "[[route.replica]]",
        f"identity = {toml_text(leaf.subject.identities[0])}",
        'accounts = ["repl"]',
    ]


def _replica_statement(leaf: IssuedLeaf, authority: AuthorityFiles) -> list[str]:
    # A CRL that has lapsed stops replication, but so does it at Binlock, and one file serves both.
    settings = {
        "SSL_CA": authority.certificate,
        "SSL_CRL": authority.revocation_list,
        "SSL_CERT": leaf.certificate_file,
        "SSL_KEY": leaf.key_place,
    }
    return [
        "-- The replica, in MySQL 8.0.23 and later. For other versions, and for all that goes with it, see",
        f"-- `binlock-certs mysql-config replica {leaf.subject.label} --server mysql-5.7 --position keep`.",
        "CHANGE REPLICATION SOURCE TO SOURCE_SSL = 1, SOURCE_SSL_VERIFY_SERVER_CERT = 1,",
        *_with_commas(f"  SOURCE_{setting} = {sql_text(path)}" for setting, path in settings.items()),
    ]


def _toml_files(leaf: IssuedLeaf, authority: AuthorityFiles) -> list[str]:
    return [
        f"certificate = {toml_text(leaf.certificate_file)}",
        f"key = {toml_text(leaf.key_place)}",
        f"ca = {toml_text(authority.certificate)}",
        f"crl = [{toml_text(authority.revocation_list)}]",
    ]


_PLACES = {
    Role.SOURCE: (_replica_leg,),
    Role.REPLICA: (_replica_statement, _source_leg, _roster),
    Role.PROXY: (_replica_leg, _source_leg, _roster),
}


def _with_commas(lines: Iterable[str]) -> list[str]:
    *former, last = lines
    return [*(f"{line}," for line in former), f"{last};"]
