"""The account that a replica logs in with, and roles for those who look after replication."""

from dataclasses import dataclass
from enum import StrEnum

from certs.errors import CertsError
from certs.servers.mysql_config import PASSWORD_PLACEHOLDER
from certs.servers.quoting import sql_text
from certs.servers.versions import ServerVersion

# RFC 5280, appendix A.1: a longer name has no common name, and thus no subject to require.
_MAX_COMMON_NAME_CHARACTERS = 64
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Requirement(StrEnum):
    """What the server asks of the connection before the password counts."""

    SSL = "ssl"
    X509 = "x509"
    SUBJECT = "subject"
    NONE = "none"


class ReplicationRole(StrEnum):
    """Roles by what replication needs; nobody needs more than one of them."""

    REPLICA = "replication_replica"
    MONITOR = "replication_monitor"
    ADMIN = "replication_admin"


@dataclass(frozen=True, slots=True)
class Account:
    """A replication account.

    Attributes:
        user: its name.
        host: from where, as the server writes it; `10.20.%` for a network.
        requirement: what its connections must show.
        subject: with `SUBJECT`, the certificate's subject as the servers write it: `/CN=replica-1.example`.
        issuer: with `SUBJECT`, the authority's subject in the same form; optional.
    """

    user: str
    host: str
    requirement: Requirement = Requirement.X509
    subject: str | None = None
    issuer: str | None = None

    def __post_init__(self) -> None:
        if self.requirement is Requirement.NONE and self.host not in _LOCAL_HOSTS:
            raise CertsError(
                f"an account for {self.host!r} that may come unencrypted: use --require x509, or, for Binlock over the "
                "unix socket, --host localhost"
            )
        if self.requirement is not Requirement.SUBJECT and (self.subject or self.issuer):
            raise CertsError("--subject and --issuer belong to --require subject: add it, or leave them out")
        if self.requirement is Requirement.SUBJECT and not self.subject:
            raise CertsError("--require subject needs to know which: give --subject, such as /CN=replica-1.example")

    def __str__(self) -> str:
        return f"{sql_text(self.user)}@{sql_text(self.host)}"

    @property
    def clause(self) -> str:
        """What stands behind REQUIRE."""
        if self.requirement is not Requirement.SUBJECT:
            return self.requirement.upper()
        issuer = f" AND ISSUER {sql_text(self.issuer)}" if self.issuer else ""
        return f"SUBJECT {sql_text(self.subject or '')}{issuer}"


def subject_of(name: str) -> str:
    """The subject, as servers write it, of what `issue` makes for a name."""
    if len(name) > _MAX_COMMON_NAME_CHARACTERS:
        raise CertsError(f"{name!r} is too long for a subject, so that its certificate has none: use --require x509")
    return f"/CN={name}"


def account_statements(server: ServerVersion, account: Account, *, exists: bool, with_role: bool) -> list[str]:
    """The statements for a source, or for a replica that may become one.

    Args:
        server: its version.
        account: whom to let in.
        exists: the account is there already, and is only to be held to more.
        with_role: the privilege comes with `replication_replica`, which `role_statements` makes.
    """
    remarks = [f"-- {server}, on the source."]
    if account.host == "%":
        remarks.append("-- '%' lets it come from anywhere: name the replicas' network if you can.")
    if exists:
        # It replicates. Without IF EXISTS it stops every replica that has no such account; with it, a name that is
        # wrong here is a warning, which is therefore shown.
        return [*remarks, f"ALTER USER IF EXISTS {account} REQUIRE {account.clause};", "SHOW WARNINGS;"]
    create = f"CREATE USER {account} IDENTIFIED BY {sql_text(PASSWORD_PLACEHOLDER)} REQUIRE {account.clause};"
    if not with_role:
        return [*remarks, create, f"GRANT REPLICATION SLAVE ON *.* TO {account};"]
    _refuse_without_roles(server)
    return [*remarks, create, *grant_role(server, ReplicationRole.REPLICA, account)]


def grant_role(server: ServerVersion, role: ReplicationRole, account: Account) -> list[str]:
    """Give a role to an account, in force from its next login on."""
    name = sql_text(role)
    default = (
        f"SET DEFAULT ROLE {name} FOR {account};" if server.is_mariadb else f"SET DEFAULT ROLE {name} TO {account};"
    )
    return [f"GRANT {name} TO {account};", default]


def role_statements(server: ServerVersion) -> list[str]:
    """The roles, each with the least that its holder needs."""
    _refuse_without_roles(server)
    lines = [f"-- {server}: for replicas, for those who watch replication, for those who start, stop and change it."]
    for role, privileges in _privileges(server).items():
        lines += [f"CREATE ROLE {sql_text(role)};", f"GRANT {', '.join(privileges)} ON *.* TO {sql_text(role)};"]
    return lines


def _privileges(server: ServerVersion) -> dict[ReplicationRole, tuple[str, ...]]:
    if server.is_mariadb and server.has_finer_privileges:
        return {
            ReplicationRole.REPLICA: ("REPLICATION SLAVE",),
            ReplicationRole.MONITOR: ("BINLOG MONITOR", "REPLICA MONITOR"),
            ReplicationRole.ADMIN: ("REPLICATION SLAVE ADMIN", "REPLICA MONITOR"),
        }
    admin = "REPLICATION_SLAVE_ADMIN" if server.has_finer_privileges else "SUPER"
    return {
        ReplicationRole.REPLICA: ("REPLICATION SLAVE",),
        ReplicationRole.MONITOR: ("REPLICATION CLIENT",),
        ReplicationRole.ADMIN: (admin, "REPLICATION CLIENT"),
    }


def _refuse_without_roles(server: ServerVersion) -> None:
    if not server.has_roles:
        raise CertsError(f"{server} has no roles: grant the privilege itself, without --role")
