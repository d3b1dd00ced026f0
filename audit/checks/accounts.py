"""Judges accounts: those of the whole server, and each that replicates, also on replicas, which may be promoted."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from audit.facts import Account, AccountName, ServerFacts, Topology, Unread, quoted
from audit.findings import Fix, Verdict, When, failed, passed, unknown, warned
from audit.versions import ServerVersion

REPLICATION = "REPLICATION SLAVE"
# What a replica may need: the dump, and to look at how it goes.
_FIT_FOR_REPLICAS = frozenset({REPLICATION, "REPLICATION CLIENT", "SLAVE MONITOR", "USAGE", "GROUP_REPLICATION_STREAM"})
_ADMINISTRATION = frozenset({"SUPER", "CREATE USER"})
_OLD_PLUGINS = frozenset({"mysql_old_password"})
_WEAK_PLUGINS = frozenset({"mysql_native_password", "mysql_clear_password"})
_USER_TABLES = frozenset({"`mysql`.*", "`mysql`.`user`", "`mysql`.`global_priv`"})
_ROLE = "replication_replica"
# MariaDB's role that everybody has, from 10.11 on.
_PUBLIC = AccountName("PUBLIC", "")
_OF_ACCOUNTS = (
    "account-password",
    "account-plugin",
    "account-super",
    "account-privileges",
    "account-role",
    "account-require",
    "account-certificate",
    "account-unused",
    "account-host",
)


def judge_accounts(server: ServerFacts, topology: Topology) -> Iterator[Verdict]:
    """Accounts of any server, and of them those that replicate."""
    yield _password_policy(server)
    accounts = server.accounts
    if isinstance(accounts, Unread):
        for check in ("accounts-root", "accounts-anonymous", "accounts-user-table"):
            yield unknown(check, accounts.reason, accounts.remedy)
        for check in _OF_ACCOUNTS:
            yield unknown(check, accounts.reason, accounts.remedy)
        return
    yield _root(server, accounts)
    yield _anonymous(server, accounts)
    held = _Privileges(accounts)
    replicating = _replicating(server, accounts, held, topology)
    yield _user_table(server, held, replicating)
    for account in replicating:
        yield from _judge_replication_account(account, held, server, topology)


@dataclass(frozen=True)
class _Privileges:
    """What accounts hold, by themselves and by their roles."""

    accounts: tuple[Account, ...]

    @property
    def _by_name(self) -> Mapping[AccountName, Account]:
        return {account.name: account for account in self.accounts}

    def roles_of(self, account: Account) -> list[Account]:
        """Every role of an account, also those that come through roles."""
        found: dict[AccountName, Account] = {}
        waiting = [*account.roles, _PUBLIC]
        while waiting:
            role = self._by_name.get(waiting.pop())
            if role is not None and role.name not in found:
                found[role.name] = role
                waiting += role.roles
        return list(found.values())

    def administers(self, account: Account) -> bool:
        """Whether it runs the server; what such a one holds is not for a script to take away."""
        return self.of(account) >= _ADMINISTRATION

    def of(self, account: Account) -> frozenset[str]:
        """All global privileges."""
        return account.privileges.union(*(role.privileges for role in self.roles_of(account)))


def _replicating(
    server: ServerFacts, accounts: tuple[Account, ...], held: _Privileges, topology: Topology
) -> list[Account]:
    """The accounts for replicas.

    Not root, whose use by replicas has a check of its own, nor whoever runs the audit, nor an administrator as whom no
    replica logs in: mending those would take the administrator's privileges away.
    """
    users = _users_in_use(topology)

    def is_for_replicas(account: Account) -> bool:
        name = account.name
        # Those without a name are to go altogether.
        if account.is_role or name.is_internal or name.user in {"root", ""} or name == server.account:
            return False
        return name.user in users or (REPLICATION in held.of(account) and not held.administers(account))

    return [account for account in accounts if is_for_replicas(account)]


def _users_in_use(topology: Topology) -> frozenset[str]:
    """Users that replicate now, as any of the servers has it."""
    return frozenset({dump.user for dump in topology.dumps()} | {channel.user for channel in topology.channels()})


def _password_policy(server: ServerFacts) -> Verdict:
    check = "accounts-password-policy"
    if isinstance(server.plugins, Unread):
        return unknown(check, server.plugins.reason)
    known = ("validate_password", "component_validate_password", "simple_password_check", "cracklib_password_check")
    active = [name for name in known if name in server.plugins]
    # The variables of a component are there for those who may not read mysql.component.
    if active or "validate_password.policy" in server.variables:
        return passed(check, ", ".join(active) or "component_validate_password")
    if server.version.is_mariadb:
        statement = "INSTALL SONAME 'simple_password_check'"
    elif server.version.is_mysql(8):
        statement = "INSTALL COMPONENT 'file://component_validate_password'"
    else:
        statement = "INSTALL PLUGIN validate_password SONAME 'validate_password.so'"
    return warned(check, "any password will do: no validation is installed", Fix(statements=(statement,)))


def _root(server: ServerFacts, accounts: tuple[Account, ...]) -> Verdict:
    remote = [
        account.name
        for account in accounts
        if account.name.user == "root" and not account.name.is_local and not account.is_locked
    ]
    if not remote:
        return passed("accounts-root", "root logs in from this host alone")
    fix = Fix(statements=tuple(_lock(name, server.version) for name in remote))
    return failed("accounts-root", f"{', '.join(map(str, remote))}: root is the name that everybody tries", fix)


def _lock(name: AccountName, version: ServerVersion) -> str:
    return f"ALTER USER {name.sql} ACCOUNT LOCK" if version.has_account_lock else f"DROP USER {name.sql}"


def _anonymous(server: ServerFacts, accounts: tuple[Account, ...]) -> Verdict:
    if server.account.is_anybody:
        note = Fix(note="restart it without the option")
        return failed("accounts-anonymous", "skip_grant_tables is on: whoever connects may do everything", note)
    found = [account.name for account in accounts if not account.name.user and not account.is_role]
    if not found:
        return passed("accounts-anonymous", "there are none")
    fix = Fix(statements=tuple(f"DROP USER {name.sql}" for name in found))
    return failed("accounts-anonymous", f"{', '.join(map(str, found))}: nobody needs to give a name", fix)


def _user_table(server: ServerFacts, held: _Privileges, replicating: list[Account]) -> Verdict:
    readers: list[str] = []
    statements: list[str] = []
    for account in held.accounts:
        name = account.name
        if name.is_internal or name == server.account or name.user == "root":
            continue
        places = [
            place for place, words in account.schema_privileges.items() if place in _USER_TABLES and "SELECT" in words
        ]
        if "SELECT" in account.privileges:
            places.append("*.*")
        if places:
            readers.append(str(name))
        # What goes beyond replication is taken away there, and twice would be an error.
        if account not in replicating and not held.administers(account):
            statements += [f"REVOKE SELECT ON {place} FROM {name.sql}" for place in places]  # noqa: S608 - printed, never run
    but = f"besides root and {server.account}, as which the audit reads"
    if not readers:
        return passed("accounts-user-table", f"nobody {but}")
    reason = f"{', '.join(readers)} may read mysql.user, {but}"
    return failed(
        "accounts-user-table", reason, Fix(statements=tuple(statements), note="grant what each needs by schema")
    )


def _judge_replication_account(
    account: Account, held: _Privileges, server: ServerFacts, topology: Topology
) -> Iterator[Verdict]:
    accounts = held.accounts
    yield _password(account)
    yield _plugin(account, server.version)
    yield _super(account, held)
    yield _privileges(account, held)
    if server.version.has_roles:
        yield _role(account, held, server.version)
    yield from _require(account)
    yield _unused(account, server, topology)
    yield _host(account, accounts, server, topology)


def _new_password(account: Account, version: ServerVersion | None = None) -> str:
    if version is not None and version.is_mariadb:
        return f"ALTER USER {account.name.sql} IDENTIFIED VIA ed25519 USING PASSWORD('<new password>')"
    way = "WITH caching_sha2_password " if version is not None and version.is_mysql(8) else ""
    return f"ALTER USER {account.name.sql} IDENTIFIED {way}BY '<new password>'"


def _password(account: Account) -> Verdict:
    subject = str(account.name)
    fix = Fix(statements=(_new_password(account),), note="tell the replica too: CHANGE ... SOURCE_PASSWORD")
    if account.has_password is None:
        if account.plugin in {"auth_socket", "unix_socket", "gssapi", "pam", "mysql_no_login"}:
            return passed("account-password", f"{account.plugin} needs none", subject=subject)
        reason = "the audit may not see whether there is one"
        return unknown("account-password", reason, "GRANT SELECT on mysql.user with all its columns", subject=subject)
    if not account.has_password:
        return failed("account-password", "it has none", fix, subject=subject)
    if account.guessed is None:
        reason = f"there is one, of {account.plugin}; whether it is a common one was not tried"
        return passed("account-password", reason, subject=subject)
    if account.guessed:
        return failed("account-password", "it is a common one, or made from the account's name", fix, subject=subject)
    return passed("account-password", "there is one, and it is none of the common ones", subject=subject)


def _plugin(account: Account, version: ServerVersion) -> Verdict:
    subject, plugin = str(account.name), account.plugin or "mysql_native_password"
    load = ("INSTALL SONAME 'auth_ed25519'",) if version.is_mariadb else ()
    fix = Fix(
        statements=(*load, _new_password(account, version)), note="tell the replica too: CHANGE ... SOURCE_PASSWORD"
    )
    if plugin in _OLD_PLUGINS:
        return failed("account-plugin", f"{plugin} is broken", fix, subject=subject)
    if plugin in _WEAK_PLUGINS and (version.is_mysql(8) or version.is_mariadb):
        return warned("account-plugin", f"{plugin}: what is stored is SHA-1 without salt", fix, subject=subject)
    return passed("account-plugin", plugin, subject=subject)


def _super(account: Account, held: _Privileges) -> Verdict:
    subject = str(account.name)
    if "SUPER" not in held.of(account):
        return passed("account-super", "it has none", subject=subject)
    return failed("account-super", "it may do nearly everything", _revoke(account, held, {"SUPER"}), subject=subject)


def _revoke(account: Account, held: _Privileges, privileges: set[str]) -> Fix:
    """Takes privileges away, and roles that have them."""
    if held.administers(account):
        return Fix(note="an administrator's account: give replicas one of their own, with REPLICATION SLAVE alone")
    own = sorted(account.privileges & privileges)
    statements = [f"REVOKE {', '.join(own)} ON *.* FROM {account.name.sql}"] if own else []
    statements += [
        f"REVOKE {role.name.sql} FROM {account.name.sql}"
        for role in held.roles_of(account)
        if role.name in account.roles and held.of(role) & privileges
    ]
    return Fix(statements=tuple(statements))


def _privileges(account: Account, held: _Privileges) -> Verdict:
    subject = str(account.name)
    # SUPER has a check of its own.
    beyond = set(held.of(account)) - _FIT_FOR_REPLICAS - {"SUPER"}
    places = {place: words for place, words in account.schema_privileges.items() if words}
    roles = {place for role in held.roles_of(account) for place, words in role.schema_privileges.items() if words}
    if not beyond and not places and not roles and not account.grantable:
        return passed("account-privileges", "REPLICATION SLAVE, and nothing that replicas do not need", subject=subject)
    if held.administers(account):
        fix = _revoke(account, held, beyond)
        return failed("account-privileges", "a replica logs in as an administrator", fix, subject=subject)
    statements = list(_revoke(account, held, beyond).statements)
    statements += [
        f"REVOKE {', '.join(sorted(words))} ON {place} FROM {account.name.sql}" for place, words in places.items()
    ]
    if account.grantable:
        statements.append(f"REVOKE GRANT OPTION ON *.* FROM {account.name.sql}")
    shown = [*sorted(beyond)[:4], *sorted({*places, *roles})[:2]]
    more = len(beyond) + len(places) + len(roles) - len(shown)
    text = ", ".join(shown) + (f" and {more} more" if more > 0 else "") or "GRANT OPTION"
    return failed(
        "account-privileges", f"beyond replication: {text}", Fix(statements=tuple(statements)), subject=subject
    )


def _role(account: Account, held: _Privileges, version: ServerVersion) -> Verdict:
    subject, name = str(account.name), account.name.sql
    if REPLICATION not in account.privileges:
        by = [str(role.name) for role in held.roles_of(account) if REPLICATION in role.privileges]
        return passed("account-role", f"by the role {', '.join(by)}" if by else "it has no privilege", subject=subject)
    role = quoted(_ROLE)
    # MariaDB sets the default role of others with FOR, and makes whoever runs this the role's administrator.
    default = f"SET DEFAULT ROLE {role} {'FOR' if version.is_mariadb else 'TO'} {name}"
    statements = (
        f"CREATE ROLE IF NOT EXISTS {role}",
        f"GRANT REPLICATION SLAVE ON *.* TO {role}",
        f"GRANT {role} TO {name}",
        default,
        f"REVOKE REPLICATION SLAVE ON *.* FROM {name}",
    )
    return warned(
        "account-role", "REPLICATION SLAVE is granted to it directly", Fix(statements=statements), subject=subject
    )


def _require(account: Account) -> Iterator[Verdict]:
    subject, name = str(account.name), account.name.sql
    strict = account.ssl_type in {"X509", "SPECIFIED"}
    fix = Fix(
        statements=(f"ALTER USER {name} REQUIRE X509",), when=When.LAST, note="the replica needs a certificate first"
    )
    if account.name.is_local and not account.ssl_type:
        # A unix socket is no TLS: REQUIRE would lock Binlock's out, and nothing leaves the host.
        local = "it logs in from this host alone, as Binlock does beside a source"
        yield passed("account-require", local, subject=subject)
        yield passed("account-certificate", local, subject=subject)
        return
    if not account.ssl_type:
        require = Fix(statements=(f"ALTER USER {name} REQUIRE SSL",), when=When.LAST)
        yield failed("account-require", "REQUIRE NONE: it may log in in the clear", require, subject=subject)
    else:
        yield passed("account-require", f"REQUIRE {account.ssl_type.replace('ANY', 'SSL')}", subject=subject)
    if strict:
        yield passed("account-certificate", f"REQUIRE {account.ssl_type}", subject=subject)
    else:
        yield warned("account-certificate", "whoever has the password is let in, from any host", fix, subject=subject)


def _unused(account: Account, server: ServerFacts, topology: Topology) -> Verdict:
    subject = str(account.name)
    if account.is_locked:
        return passed("account-unused", "it is locked", subject=subject)
    if account.name.user in _users_in_use(topology):
        return passed("account-unused", "it replicates now", subject=subject)
    # A replica's accounts are for the day when it is the source: what counts is whether they are used there.
    busy = topology.source or server
    if isinstance(busy.dumps, Unread):
        return unknown("account-unused", busy.dumps.reason, busy.dumps.remedy, subject=subject)
    fix = Fix(statements=(_lock(account.name, server.version),))
    return warned("account-unused", "no replica uses it now", fix, subject=subject)


def _host(account: Account, accounts: tuple[Account, ...], server: ServerFacts, topology: Topology) -> Verdict:
    subject, host = str(account.name), account.name.host
    if host not in {"%", ""}:
        return passed("account-host", f"from {host}", subject=subject)
    # Of all servers, so that the account keeps one name everywhere: a later ALTER USER stops a replica without it.
    wanted = AccountName(
        account.name.user, _host_for({d.host for d in topology.dumps() if d.user == account.name.user})
    )
    if wanted in {other.name for other in accounts}:
        statement, note = _lock(account.name, server.version), f"{wanted} is there already, and is to be used"
    else:
        statement, note = f"RENAME USER {account.name.sql} TO {wanted.sql}", ""
    fix = Fix(statements=(statement,), when=When.LAST, note=note)
    return failed("account-host", "it may log in from anywhere", fix, subject=subject)


def _host_for(seen: set[str]) -> str:
    """The narrowest host that has all of these; MySQL and MariaDB take a network as address/netmask."""
    if len(seen) == 1:
        return next(iter(seen)) or "localhost"
    try:
        networks = [ipaddress.ip_network(host) for host in seen]
    except ValueError:
        networks = []
    if not networks or any(network.version != 4 for network in networks):
        return "<host or network of the replicas>"
    common = networks[0]
    while not all(common.supernet_of(network) for network in networks):  # type: ignore[arg-type]
        common = common.supernet()
    return f"{common.network_address}/{common.netmask}"
