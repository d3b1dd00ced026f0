"""Reads accounts, roles and privileges, from the tables of `mysql` as far as the audit may see them."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from audit.facts import Account, AccountName, Unread
from audit.guessing import guess
from audit.mysql import Absent, Denied, Row, Session
from audit.versions import ServerVersion

# The columns of mysql.user and mysql.db whose names are not the privilege's own with underscores.
_NAMES = {
    "create_tmp_table": "CREATE TEMPORARY TABLES",
    "repl_slave": "REPLICATION SLAVE",
    "repl_client": "REPLICATION CLIENT",
    "show_db": "SHOW DATABASES",
    "delete_history": "DELETE HISTORY",
}
# Words of SET columns that GRANT spells otherwise.
_SPELT = {"GRANT": "GRANT OPTION", "DELETE VERSIONING ROWS": "DELETE HISTORY"}
# MariaDB's privileges that have no column: sql/privilege.h, the bits of `access` in mysql.global_priv.
_MARIADB_BITS = {
    30: "SET USER",
    31: "FEDERATED ADMIN",
    32: "CONNECTION ADMIN",
    33: "READ_ONLY ADMIN",
    34: "REPLICATION SLAVE ADMIN",
    35: "REPLICATION MASTER ADMIN",
    36: "BINLOG ADMIN",
    37: "BINLOG REPLAY",
    38: "SLAVE MONITOR",
}
# Plugins to which the server's own table of passwords means nothing.
_NO_PASSWORD = frozenset({"auth_socket", "unix_socket", "mysql_no_login", "gssapi", "pam", "authentication_ldap_sasl"})


def read_accounts(session: Session, version: ServerVersion, auditor: AccountName) -> tuple[Account, ...] | Unread:
    """Every account and role, or why they cannot be read."""
    tables = ["user", "db", "tables_priv", "procs_priv", "proxies_priv"]
    if version.is_mariadb:
        tables += ["global_priv", "roles_mapping"]
    elif version.is_mysql(8):
        tables += ["global_grants", "role_edges"]
    remedy = " ".join(f"GRANT SELECT ON mysql.{table} TO {auditor.sql};" for table in tables)
    try:
        users = session.rows(_select_users(session))
        schema = _schema_privileges(session)
        roles = _granted_roles(session, version)
        dynamic = _dynamic_privileges(session, version)
        priv = _global_priv(session, version)
    except (Denied, Absent) as error:
        return Unread(str(error), remedy)
    role_names = {role for granted in roles.values() for role in granted}
    return tuple(
        _account(row, version, schema=schema, roles=roles, dynamic=dynamic, priv=priv, role_names=role_names)
        for row in users
    )


def _select_users(session: Session) -> str:
    """All columns that there are and that the audit may read: a GRANT may leave out those that hold hashes."""
    rows = session.rows(
        "SELECT column_name AS name FROM information_schema.columns"
        " WHERE table_schema = 'mysql' AND table_name = 'user'"
    )
    columns = [f"`{row['name']}`" for row in rows if str(row["name"]).replace("_", "").isalnum()]
    if not columns:
        raise Denied("mysql.user may not be read")
    return f"SELECT {', '.join(columns)} FROM mysql.user"  # noqa: S608 - names of columns, checked


def _privilege(column: str) -> str:
    stem = column.removesuffix("_priv")
    return _NAMES.get(stem, stem.replace("_", " ").upper())


def _privileges(row: Mapping[str, Any]) -> frozenset[str]:
    held = (column for column, value in row.items() if column.endswith("_priv") and value == "Y")
    return frozenset(_privilege(column) for column in held if column != "grant_priv")


def _name(row: Row, user: str = "user", host: str = "host") -> AccountName:
    return AccountName(str(row[user] or ""), str(row[host] or ""))


def _schema_privileges(session: Session) -> dict[AccountName, dict[str, frozenset[str]]]:
    """By what stands behind ON in a GRANT: a schema, a table, a routine, somebody to stand in for."""
    found: dict[AccountName, dict[str, frozenset[str]]] = defaultdict(dict)
    for row in session.rows("SELECT * FROM mysql.db"):
        grant = {"GRANT OPTION"} if row.get("grant_priv") == "Y" else frozenset[str]()
        found[_name(row)][f"{_identifier(row['db'])}.*"] = _privileges(row) | grant
    for row in session.rows("SELECT user, host, db, table_name, table_priv, column_priv FROM mysql.tables_priv"):
        words = {*_words(row["table_priv"]), *_words(row["column_priv"])}
        found[_name(row)][f"{_identifier(row['db'])}.{_identifier(row['table_name'])}"] = frozenset(words)
    for row in session.rows("SELECT user, host, db, routine_name, routine_type, proc_priv FROM mysql.procs_priv"):
        place = f"{row['routine_type']} {_identifier(row['db'])}.{_identifier(row['routine_name'])}"
        found[_name(row)][place] = frozenset(_words(row["proc_priv"]))
    for row in session.rows("SELECT user, host, proxied_user, proxied_host FROM mysql.proxies_priv"):
        proxied = AccountName(str(row["proxied_user"]), str(row["proxied_host"]))
        found[_name(row)][proxied.sql] = frozenset({"PROXY"})
    return found


def _identifier(name: object) -> str:
    return "`" + str(name).replace("`", "``") + "`"


def _words(value: object) -> set[str]:
    """Of a SET column, which PyMySQL gives as text or as a set."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, set | frozenset) else ()
    words = {str(part).upper() for part in parts if part}
    return {_SPELT.get(word, word) for word in words}


def _granted_roles(session: Session, version: ServerVersion) -> dict[AccountName, tuple[AccountName, ...]]:
    found: dict[AccountName, tuple[AccountName, ...]] = defaultdict(tuple)
    if version.is_mariadb:
        for row in session.rows("SELECT user, host, role, admin_option FROM mysql.roles_mapping"):
            # Whoever makes a role is its administrator, which is no use of it.
            if row["admin_option"] != "Y":
                found[_name(row)] += (AccountName(str(row["role"]), ""),)
    elif version.is_mysql(8):
        for row in session.rows("SELECT from_user, from_host, to_user, to_host FROM mysql.role_edges"):
            found[_name(row, "to_user", "to_host")] += (_name(row, "from_user", "from_host"),)
    return found


def _dynamic_privileges(session: Session, version: ServerVersion) -> dict[AccountName, set[str]]:
    found: dict[AccountName, set[str]] = defaultdict(set)
    if version.is_mysql(8):
        for row in session.rows("SELECT user, host, priv FROM mysql.global_grants"):
            found[_name(row)].add(str(row["priv"]).upper())
    return found


def _global_priv(session: Session, version: ServerVersion) -> dict[AccountName, dict[str, Any]]:
    """What MariaDB's view mysql.user leaves out; empty where the audit may not see it."""
    if not version.is_maria(10, 4):
        return {}
    found: dict[AccountName, dict[str, Any]] = {}
    with contextlib.suppress(Denied, Absent):
        wanted = "JSON_EXTRACT(Priv, '$.access') AS access, JSON_EXTRACT(Priv, '$.account_locked') AS locked"
        for row in session.rows(f"SELECT user, host, {wanted} FROM mysql.global_priv"):  # noqa: S608 - a constant
            access = json.loads(row["access"]) if row["access"] else 0
            found[_name(row)] = {"access": int(access), "locked": str(row["locked"]).lower() in {"true", "1"}}
    return found


def _account(
    row: Row,
    version: ServerVersion,
    *,
    schema: Mapping[AccountName, Mapping[str, frozenset[str]]],
    roles: Mapping[AccountName, tuple[AccountName, ...]],
    dynamic: Mapping[AccountName, set[str]],
    priv: Mapping[AccountName, Mapping[str, Any]],
    role_names: set[AccountName],
) -> Account:
    name = _name(row)
    more = priv.get(name, {})
    access = int(more.get("access", 0))
    plugin = str(row.get("plugin") or "")
    stored = _text(row.get("authentication_string")) or _text(row.get("password"))
    is_visible = "authentication_string" in row or "password" in row
    locked = row.get("account_locked")
    # MySQL keeps roles among the accounts; one that was granted to nobody is known by how CREATE ROLE makes it.
    is_bare = locked == "Y" and row.get("password_expired") == "Y" and is_visible and not stored
    is_role = row.get("is_role") == "Y" or (not version.is_mariadb and (name in role_names or is_bare))
    privileges = _privileges(row) | dynamic.get(name, set())
    privileges |= {word for bit, word in _MARIADB_BITS.items() if access >> bit & 1}
    # To try those of the slow plugins takes a second, and nobody asks about accounts that do not replicate.
    is_tried = plugin in {"", "mysql_native_password"} or "REPLICATION SLAVE" in privileges or name in roles
    is_tried = is_tried and is_visible and not is_role and name.user != "root"
    return Account(
        name=name,
        plugin=plugin,
        ssl_type=str(row.get("ssl_type") or ""),
        has_password=bool(stored) if is_visible and plugin not in _NO_PASSWORD else None,
        guessed=guess(name.user, plugin, stored) if stored and is_tried else None,
        is_locked=str(locked) == "Y" if locked is not None else more.get("locked"),
        is_role=is_role,
        privileges=privileges,
        grantable=row.get("grant_priv") == "Y",
        schema_privileges=dict(schema.get(name, {})),
        roles=roles.get(name, ()),
    )


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
