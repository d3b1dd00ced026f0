"""Each judge: a server that keeps every practice passes, and each fault alone is found, with what mends it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.catalogue import CHECKS
from audit.facts import Account, AccountName, Certificate, Dump, KeyFile, ProxySession, Transport, Unread
from audit.findings import Status
from audit.remedies import file_stem, statements_of
from certs.names import parse_names
from tests.audit.facts_of import (
    CHANNEL,
    DUMP,
    GOOD_VARIABLES,
    NOW,
    REPL,
    ROLE,
    ROOT,
    findings,
    judged,
    replica,
    source,
)

SESSION = ProxySession("orders", "replica-1", "10.0.0.2:5000", "repl", "TLSv1.3", "")


def test_whoever_keeps_every_practice_passes() -> None:
    found = findings(source(), replica())
    assert {finding.check.id for finding in found if finding.status is not Status.PASS} == set()
    # All that MySQL 9 can be asked.
    assert {finding.check.id for finding in found} == CHECKS.keys() - {"replica-repository"}


def accounts(**changes: Any) -> dict[str, Any]:
    return {"accounts": (ROOT, ROLE, replace(REPL, **changes))}


SOURCE_FAULTS = [
    ("audit-connection", "fail", {"transport": Transport.PLAINTEXT}, ""),
    ("audit-connection", "warn", {"transport": Transport.UNVERIFIED_TLS}, ""),
    ("server-version", "fail", {"version": "8.0.42"}, ""),
    ("server-version", "unknown", {"version": "13.4.1-MariaDB"}, ""),
    ("server-version", "unknown", {"version": "nonsense"}, ""),
    ("tls-enabled", "fail", {"variables": {"have_ssl": "DISABLED"}}, "SET PERSIST ssl_cert"),
    ("tls-enabled", "fail", {"variables": {"tls_version": ""}}, "SET PERSIST tls_version = 'TLSv1.2,TLSv1.3'"),
    ("tls-versions", "fail", {"variables": {"tls_version": "TLSv1,TLSv1.2"}}, "SET PERSIST tls_version"),
    ("tls-versions", "fail", {"variables": {"tls_version": "TLSv1.1,TLSv1.3"}}, "SET PERSIST tls_version"),
    ("tls-ciphers", "fail", {"status": {"ssl_cipher_list": "TLS_AES_128_GCM_SHA256:AES128-SHA"}}, "ssl_cipher"),
    ("tls-certificate", "fail", {"certificate": Certificate(sha256="a", is_auto_generated=True)}, "ssl_cert"),
    ("tls-certificate-expiry", "warn", {"status": {"ssl_server_not_after": "Jun 20 00:00:00 2026 GMT"}}, ""),
    ("tls-certificate-expiry", "fail", {"status": {"ssl_server_not_after": "May 20 00:00:00 2026 GMT"}}, ""),
    ("tls-crl", "warn", {"variables": {"ssl_crl": ""}}, "SET PERSIST ssl_crl = '/tls/ca.crl'"),
    ("tls-key-file", "unknown", {"key_file": Unread("far away")}, ""),
    ("transport-required", "fail", {"variables": {"require_secure_transport": "OFF"}}, "require_secure_transport = ON"),
    ("network-ports", "warn", {"variables": {"mysqlx_bind_address": "*", "mysqlx_port": "33060"}}, ""),
    ("binlog-encryption", "warn", {"variables": {"binlog_encryption": "OFF"}}, "SET PERSIST binlog_encryption = ON"),
    ("binlog-checksum", "fail", {"variables": {"binlog_checksum": "NONE"}}, "SET PERSIST binlog_checksum = CRC32"),
    ("accounts-root", "fail", {"accounts": (ROOT, replace(ROOT, name=AccountName("root", "%")))}, "ACCOUNT LOCK"),
    ("accounts-anonymous", "fail", {"accounts": (ROOT, Account(name=AccountName("", "%")))}, "DROP USER ''@'%'"),
    ("accounts-password-policy", "warn", {"plugins": frozenset()}, "INSTALL COMPONENT"),
    ("account-password", "fail", accounts(has_password=False), "IDENTIFIED BY '<new password>'"),
    ("account-password", "fail", accounts(guessed="repl123"), "IDENTIFIED BY '<new password>'"),
    ("account-password", "unknown", accounts(has_password=None), ""),
    ("account-plugin", "warn", accounts(plugin="mysql_native_password"), "WITH caching_sha2_password"),
    ("account-plugin", "fail", accounts(plugin="mysql_old_password"), "WITH caching_sha2_password"),
    ("account-super", "fail", accounts(privileges=frozenset({"SUPER"})), "REVOKE SUPER ON *.*"),
    ("account-privileges", "fail", accounts(privileges=frozenset({"FILE"})), "REVOKE FILE ON *.* FROM 'repl'@"),
    ("account-privileges", "fail", accounts(grantable=True), "REVOKE GRANT OPTION"),
    ("account-privileges", "fail", accounts(schema_privileges={"`a`.*": frozenset({"DROP"})}), "REVOKE DROP ON `a`.*"),
    ("account-role", "warn", accounts(privileges=frozenset({"REPLICATION SLAVE"}), roles=()), "SET DEFAULT ROLE"),
    ("account-require", "fail", accounts(ssl_type=""), "REQUIRE SSL"),
    ("account-certificate", "warn", accounts(ssl_type="ANY"), "REQUIRE X509"),
    ("account-unused", "warn", accounts(name=AccountName("old", "10.0.0.2")), "ACCOUNT LOCK"),
    ("account-host", "fail", accounts(name=AccountName("repl", "%")), "RENAME USER 'repl'@'%' TO 'repl'@'10.0.0.2'"),
    ("source-dumps", "fail", {"dumps": (replace(DUMP, transport="TCP/IP"),)}, ""),
    ("source-dumps", "unknown", {"dumps": ()}, ""),
    ("source-checksum-verified", "warn", {"variables": {"source_verify_checksum": "OFF"}}, "verify_checksum = ON"),
    ("source-retention", "fail", {"variables": {"log_bin": "OFF"}}, ""),
    ("source-retention", "warn", {"variables": {"binlog_expire_logs_seconds": "3600"}}, "= 604800"),
    ("source-semi-sync", "warn", {"variables": {"rpl_semi_sync_source_enabled": None}}, "INSTALL PLUGIN"),
    ("source-backup", "warn", {"backup": NOW - timedelta(days=30)}, ""),
    ("source-backup", "unknown", {"backup": None}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("check", "status", "changes", "fix"), SOURCE_FAULTS)
def test_each_fault_of_a_source_is_found(check: str, status: str, changes: dict[str, Any], fix: str) -> None:
    found = judged(check, source(**changes), replica())
    assert found.status.value == status, found
    assert found.version is not None
    assert any(fix in statement for statement in statements_of(found.fix, found.version)) or not fix, found.fix


def channel(**changes: Any) -> dict[str, Any]:
    return {"channels": (replace(CHANNEL, **changes),)}


REPLICA_FAULTS = [
    ("replica-running", "fail", channel(io_running="Connecting"), ""),
    ("replica-running", "fail", {"channels": ()}, ""),
    ("replica-tls", "fail", channel(has_tls=False), "SOURCE_SSL = 1"),
    ("replica-ca", "fail", channel(ca=""), "SOURCE_SSL_CA = '/tls/ca.crt'"),
    ("replica-verify", "fail", channel(verifies=False), "SOURCE_SSL_VERIFY_SERVER_CERT = 1"),
    ("replica-crl", "warn", channel(crl=""), "SOURCE_SSL_CRL = '/tls/ca.crl'"),
    ("replica-certificate", "warn", channel(key=""), "SOURCE_SSL_KEY = '/tls/replica.example.key'"),
    ("replica-ciphers", "warn", channel(ciphers=""), "SOURCE_SSL_CIPHER = "),
    ("replica-ciphers", "fail", channel(ciphers="AES128-SHA"), "SOURCE_SSL_CIPHER = "),
    ("replica-tls-versions", "fail", channel(tls_versions="TLSv1.1,TLSv1.2"), "SOURCE_TLS_VERSION = "),
    ("replica-public-key", "warn", channel(get_public_key=True), "GET_SOURCE_PUBLIC_KEY = 0"),
    ("replica-public-key", "fail", channel(get_public_key=True, has_tls=False), "GET_SOURCE_PUBLIC_KEY = 0"),
    ("replica-account", "fail", channel(user="root"), ""),
    ("replica-read-only", "fail", {"variables": {"super_read_only": "OFF"}}, "super_read_only = ON"),
    ("replica-read-only", "warn", {"variables": {"super_read_only": "OFF", "read_only": "ON"}}, "super_read_only = ON"),
    ("replica-checksum", "warn", {"variables": {"replica_sql_verify_checksum": "OFF"}}, "verify_checksum = ON"),
    ("replica-semi-sync", "warn", {"variables": {"rpl_semi_sync_replica_enabled": "OFF"}}, "= ON"),
    ("replica-repository", "warn", {"version": "5.7.44", "variables": {"master_info_repository": "FILE"}}, "= TABLE"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "status", "changes", "fix"), REPLICA_FAULTS)
def test_each_fault_of_a_replica_is_found(check: str, status: str, changes: dict[str, Any], fix: str) -> None:
    found = judged(check, source(), replica(**changes))
    assert found.status.value == status, found
    assert found.version is not None
    assert any(fix in statement for statement in statements_of(found.fix, found.version)) or not fix, found.fix


def test_every_check_is_shown_to_find_something() -> None:
    elsewhere = {"tls-certificate-shared", "accounts-user-table", "network-bind-address"}
    shown = {row[0] for row in (*SOURCE_FAULTS, *REPLICA_FAULTS)}
    assert shown | elsewhere == CHECKS.keys()


def test_one_certificate_for_two_servers_is_found_on_both() -> None:
    same = Certificate(sha256="ab" * 32, is_auto_generated=False)
    found = findings(source(certificate=same), replica(certificate=same))
    assert [f.status for f in found if f.check.id == "tls-certificate-shared"] == [Status.FAIL, Status.FAIL]


def test_a_key_file_that_others_read() -> None:
    found = judged("tls-key-file", source(key_file=KeyFile(path="/tls/k", mode=0o640)))
    assert found.status is Status.FAIL
    assert found.fix.commands == ("chmod 0600 /tls/k",)


def test_where_a_server_listens_is_where_its_replicas_connect() -> None:
    everywhere = {"variables": {"bind_address": "*"}, "address": None}
    assert judged("network-bind-address", source(**everywhere), replica()).fix.settings == (
        "bind_address = 10.0.0.1,127.0.0.1",
    )
    # A guess that would cut off the replicas is not made.
    assert "<" in judged("network-bind-address", source(**everywhere)).fix.settings[0]


def test_readers_of_the_user_table_are_named_but_not_root_nor_the_audit() -> None:
    app = Account(name=AccountName("app", "%"), schema_privileges={"`mysql`.*": frozenset({"SELECT"})})
    auditor = Account(name=AccountName("auditor", "10.0.0.9"), privileges=frozenset({"SELECT"}))
    found = judged("accounts-user-table", source(accounts=(ROOT, app, auditor)))
    assert found.status is Status.FAIL
    assert found.fix.statements == ("REVOKE SELECT ON `mysql`.* FROM 'app'@'%'",)
    assert judged("accounts-user-table", source(accounts=(ROOT, auditor))).status is Status.PASS


def test_no_fix_touches_root_or_the_account_of_the_audit() -> None:
    auditor = replace(ROOT, name=AccountName("auditor", "10.0.0.9"))
    dumping = (replace(DUMP, user="root"), replace(DUMP, user="auditor"))
    found = findings(source(accounts=(ROOT, auditor), dumps=dumping), replica(**channel(user="root")))
    statements = [statement for finding in found for statement in finding.fix.statements]
    assert not [statement for statement in statements if "'root'@'localhost'" in statement or "'auditor'" in statement]


def test_no_script_takes_an_administrators_privileges_away() -> None:
    dba = replace(ROOT, name=AccountName("dba", "%"))
    idle = findings(source(accounts=(ROOT, ROLE, REPL, dba)))
    assert not [finding for finding in idle if finding.subject == "dba@%"]
    found = findings(source(accounts=(ROOT, dba), dumps=(replace(DUMP, user="dba"),)))
    for check in ("account-super", "account-privileges", "accounts-user-table"):
        [finding] = [finding for finding in found if finding.check.id == check]
        assert finding.status is Status.FAIL
        assert not finding.fix.statements


def test_an_account_for_the_unix_socket_needs_no_tls() -> None:
    local = accounts(name=AccountName("repl", "localhost"), ssl_type="")
    for check in ("account-require", "account-certificate", "account-host"):
        assert judged(check, source(**local)).status is Status.PASS


def test_a_lag_near_the_end_of_what_is_kept_is_found() -> None:
    found = judged("source-retention", source(), replica(**channel(lag_seconds=400_000)))
    assert found.status is Status.FAIL


LOCAL = replace(DUMP, host="localhost", transport="TCP/IP")


def test_a_dump_on_loopback_is_a_question_and_the_sessions_answer_it() -> None:
    assert judged("source-dumps", source(dumps=(LOCAL,))).status is Status.WARN
    explained = judged("source-dumps", source(dumps=(LOCAL,)), sessions=(SESSION,))
    assert explained.status is Status.PASS
    assert "replica-1 at 10.0.0.2:5000 over TLSv1.3" in explained.reason


def test_a_session_explains_one_dump_and_no_more() -> None:
    twice = (LOCAL, replace(LOCAL, thread=8))
    found = [f for f in findings(source(dumps=twice), sessions=(SESSION,)) if f.check.id == "source-dumps"]
    assert [finding.status for finding in found] == [Status.PASS, Status.WARN]


def test_a_session_explains_neither_another_account_nor_what_crosses_the_network() -> None:
    other = replace(LOCAL, user="somebody")
    assert judged("source-dumps", source(dumps=(other,)), sessions=(SESSION,)).status is Status.WARN
    remote = replace(DUMP, transport="TCP/IP", binlock={"peer": "10.0.0.2:5000", "tls_version": "TLSv1.3"})
    assert judged("source-dumps", source(dumps=(remote,)), sessions=(SESSION,)).status is Status.FAIL
    # Nor does what crosses the network use up the session.
    found = [f for f in findings(source(dumps=(remote, LOCAL)), sessions=(SESSION,)) if f.check.id == "source-dumps"]
    assert [finding.status for finding in found] == [Status.FAIL, Status.PASS]


def test_a_plaintext_leg_of_binlocks_own_is_found_through_it() -> None:
    plain = replace(SESSION, tls_version="")
    found = judged("source-dumps", source(dumps=(LOCAL,)), sessions=(plain,))
    assert found.status is Status.FAIL
    assert judged("source-dumps", source(dumps=(LOCAL,)), sessions=(replace(plain, peer="127.0.0.1:5"),)).status is (
        Status.PASS
    )


def test_what_the_server_does_not_say_may_follow_from_the_account() -> None:
    silent = (Dump(thread=1, user="repl", host="10.0.0.2", transport=None),)
    assert judged("source-dumps", source(dumps=silent)).status is Status.PASS
    assert judged("source-dumps", source(dumps=silent, **accounts(ssl_type=""))).status is Status.UNKNOWN


def test_several_hosts_become_their_network() -> None:
    dumps = tuple(replace(DUMP, host=host) for host in ("10.0.1.9", "10.0.2.7"))
    found = judged("account-host", source(dumps=dumps, **accounts(name=AccountName("repl", "%"))))
    assert found.fix.statements == ("RENAME USER 'repl'@'%' TO 'repl'@'10.0.0.0/255.255.252.0'",)


def test_what_one_role_brings_counts_as_held() -> None:
    broad = replace(ROLE, privileges=frozenset({"REPLICATION SLAVE", "FILE"}))
    found = judged("account-privileges", source(accounts=(ROOT, broad, REPL)))
    assert found.status is Status.FAIL
    assert found.fix.statements == ("REVOKE 'replication_replica'@'%' FROM 'repl'@'10.0.0.2'",)


def test_semi_sync_is_not_proposed_for_several_channels_of_mysql() -> None:
    several = (CHANNEL, replace(CHANNEL, name="other"))
    off = {"variables": {"rpl_semi_sync_replica_enabled": "OFF"}, "channels": several}
    assert judged("replica-semi-sync", replica(**off)).fix.statements == ()


VERSIONS = st.one_of(
    st.sampled_from(["5.7.44", "8.0.20", "8.4.1", "9.7.4", "10.11.8-MariaDB", "12.9.9-MariaDB"]), st.text()
)


@settings(max_examples=60, deadline=None)
@given(
    VERSIONS,
    st.dictionaries(
        st.sampled_from([*GOOD_VARIABLES, "expire_logs_days", "have_ssl", "extra_port"]), st.none() | st.text()
    ),
    st.dictionaries(st.sampled_from(["ssl_server_not_after", "ssl_cipher_list"]), st.text()),
)
def test_whatever_a_server_says_the_judges_answer(
    version: str, variables: dict[str, str | None], status: dict[str, str]
) -> None:
    strange: dict[str, Any] = {"version": version, "variables": variables, "status": status}
    for finding in findings(source(**strange), replica(**strange)):
        assert finding.reason
        if finding.version is not None:
            statements_of(finding.fix, finding.version)


def test_an_account_is_judged_on_replicas_too_and_gets_one_name_everywhere() -> None:
    anywhere = accounts(name=AccountName("repl", "%"))
    found = [f for f in findings(source(**anywhere), replica(**anywhere)) if f.check.id == "account-host"]
    assert [finding.role.value for finding in found] == ["source", "replica"]
    assert {finding.fix.statements for finding in found} == {("RENAME USER 'repl'@'%' TO 'repl'@'10.0.0.2'",)}
    # On a replica nobody uses it, and somebody does on the source.
    assert judged("account-unused", source(**anywhere), replica(**anywhere)).status is Status.PASS


def test_a_name_that_is_taken_is_not_given_again() -> None:
    both = (ROOT, ROLE, REPL, replace(REPL, name=AccountName("repl", "%")))
    assert judged("account-host", source(accounts=both)).fix.statements == ("ALTER USER 'repl'@'%' ACCOUNT LOCK",)


@pytest.mark.parametrize(
    ("version", "variables", "versions"),
    [("5.7.44", {}, ["TLSv1.2"]), ("8.0.15", {}, ["TLSv1.2"]), ("5.6.24", {"tls_version": None}, []),
     ("10.11.8-MariaDB", {}, ["TLSv1.2,TLSv1.3"])],
)  # fmt: skip
def test_no_server_is_told_a_version_of_tls_that_it_does_not_know(
    version: str, variables: dict[str, str | None], versions: list[str]
) -> None:
    found = judged("tls-enabled", source(version=version, variables={"have_ssl": "DISABLED", **variables}))
    told = [line.partition(" = ")[2] for line in found.fix.settings if line.startswith("tls_version")]
    assert told == versions


@pytest.mark.parametrize(
    "name",
    ["DB1.example", "spiffe://Example.org/replica/1", "10.0.0.5", "2001:DB8:0::5", "a_b.c", "a" * 63 + ".example"],
)
def test_files_are_named_as_binlock_certs_names_them(name: str) -> None:
    assert file_stem(name) == parse_names(name).file_stem


def test_a_role_that_comes_through_a_role_is_taken_away_with_the_first() -> None:
    broad = replace(ROLE, name=AccountName("broad", "%"), privileges=frozenset({"FILE"}))
    through = replace(ROLE, name=AccountName("through", "%"), privileges=frozenset(), roles=(broad.name,))
    account = replace(REPL, roles=(ROLE.name, through.name))
    found = judged("account-privileges", source(accounts=(ROOT, ROLE, broad, through, account)))
    assert found.fix.statements == ("REVOKE 'through'@'%' FROM 'repl'@'10.0.0.2'",)


def test_an_account_without_a_name_is_dropped_and_not_mended_as_well() -> None:
    nobody = replace(REPL, name=AccountName("", "%"), privileges=frozenset({"REPLICATION SLAVE"}))
    found = findings(source(accounts=(ROOT, nobody)))
    assert [f.check.id for f in found if "''@'%'" in "".join(f.fix.statements)] == ["accounts-anonymous"]


@pytest.mark.parametrize("name", [AccountName("skip-grants user", "skip-grants host"), AccountName("", "")])
def test_a_server_without_grants_fails(name: AccountName) -> None:
    found = judged("accounts-anonymous", source(account=name))
    assert found.status is Status.FAIL
    assert "skip_grant_tables" in found.reason


def test_what_everybody_may_counts_for_everybody() -> None:
    public = Account(name=AccountName("PUBLIC", ""), is_role=True, privileges=frozenset({"REPLICATION SLAVE"}))
    app = Account(name=AccountName("app", "%"), has_password=True, guessed="")
    found = findings(source(version="11.8.2-MariaDB", accounts=(ROOT, public, app)), replica())
    assert [f.status for f in found if (f.check.id, f.subject) == ("account-host", "app@%")] == [Status.FAIL]


def test_two_servers_that_replicate_from_each_other() -> None:
    both = {"name": "a:1", "variables": {"super_read_only": "OFF"}}
    found = findings(source(**both), replica(name="b:1"), replica(**both))
    [writable] = [f for f in found if f.check.id == "replica-read-only" and f.server == "a:1"]
    assert (writable.status, writable.fix.statements) == (Status.WARN, ())
    shared = [f for f in found if f.check.id == "tls-certificate-shared" and f.role.value == "source"]
    assert [finding.status for finding in shared] == [Status.PASS]
