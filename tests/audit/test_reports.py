"""Findings in each form, and the scripts."""

from __future__ import annotations

import json
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from audit.catalogue import CHECKS
from audit.facts import AccountName, Role, Topology, Unreachable
from audit.findings import Finding, Status
from audit.judging import judge
from audit.reports.scripts import fix_scripts
from audit.reports.structured import json_document, sarif_document, textfile_lines
from audit.reports.text import table_lines
from tests.audit.facts_of import CHANNEL, DUMP, FILES, REPL, ROLE, ROOT, findings, replica, source

HOSTILE = "evil\x1b[2J\nDROP DATABASE shop; -- "


def sloppy() -> list[Finding]:
    account = replace(REPL, name=AccountName("repl", "%"), ssl_type="", guessed="repl")
    bad = source(
        accounts=(ROOT, ROLE, account),
        dumps=(replace(DUMP, transport="TCP/IP"),),
        variables={"ssl_crl": "", "require_secure_transport": "OFF", "binlog_checksum": "NONE"},
    )
    plain = replace(CHANNEL, has_tls=False, ca="", verifies=False)
    return findings(bad, replica(channels=(plain,), variables={"super_read_only": "OFF"}))


def test_the_table_has_the_worst_first_with_what_mends_it() -> None:
    lines = list(table_lines(sloppy(), is_coloured=False))
    text = "\n".join(lines)
    assert lines[0] == "source source:3306  MySQL 9.7.4"
    ranks = [line.split()[0] for line in lines[1 : lines.index("")] if line.startswith("  ") and line[2] != " "]
    order = ["fail", "warn", "unknown", "pass"]
    assert ranks == sorted(ranks, key=order.index)
    assert "SQL: ALTER USER 'repl'@'%' REQUIRE SSL;" in text
    assert "CIS MySQL 9.7 v1.0.0 8.2" in text
    assert "16.3.8: the source requires encryption of the account" in text
    assert lines[-1].endswith(" pass")
    assert "\x1b" not in text
    assert "\x1b[1;31mfail" in "\n".join(table_lines(sloppy(), is_coloured=True))


def test_what_a_server_says_moves_no_cursor_and_ends_no_comment() -> None:
    channel = replace(CHANNEL, host=HOSTILE, error=HOSTILE, io_running="No", has_tls=False)
    places = {f"`{HOSTILE}`.*": frozenset({"DROP"}), "`mysql`.*": frozenset({"SELECT"})}
    account = replace(REPL, name=AccountName(HOSTILE, "%"), has_password=False, ssl_type="", schema_privileges=places)
    found = findings(source(accounts=(account,)), replica(channels=(channel,), accounts=(account,)))
    assert all(line.isprintable() for line in table_lines(found, is_coloured=False))
    for script in fix_scripts(found).values():
        assert not [line for line in script.splitlines() if line.startswith("DROP")]
        assert "\x1b" not in script


def test_json_has_everything() -> None:
    document = json.loads(json.dumps(json_document(sloppy())))
    assert document["summary"]["fail"] == sum(finding["status"] == "fail" for finding in document["findings"])
    [require, _] = [finding for finding in document["findings"] if finding["check"] == "account-require"]
    assert require["fix"]["sql"] == ["ALTER USER 'repl'@'%' REQUIRE SSL"]
    assert require["cis"] == {"benchmark": "CIS MySQL 9.7 v1.0.0", "id": "8.2"}
    assert require["subject"] == "repl@%"


def test_sarif_has_a_rule_for_each_check_and_a_result_for_each_finding() -> None:
    found = sloppy()
    document = json.loads(json.dumps(sarif_document(found, "1.0")))
    [run] = document["runs"]
    assert document["version"] == "2.1.0"
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == list(CHECKS)
    assert len(run["results"]) == len(found)
    for result, finding in zip(run["results"], found, strict=True):
        assert rules[result["ruleIndex"]] == result["ruleId"] == finding.check.id
        # SARIF 2.1.0, 3.27.10: a level other than none goes with the kind fail alone.
        assert (result["level"] == "none") == (result["kind"] != "fail")
        assert (finding.status in {Status.FAIL, Status.WARN}) == (result["kind"] == "fail")
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]


def test_the_textfile_counts_every_check_in_every_status() -> None:
    found = sloppy()
    text = "\n".join(textfile_lines(found, 1.5e9)) + "\n"
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = {(s.labels["check"], s.labels["status"]): s.value for s in families["binlock_audit_check"].samples}
    assert samples.keys() == {(check, status.value) for check in CHECKS for status in Status}
    assert sum(samples.values()) == len(found)
    assert samples["account-require", "fail"] == 1
    assert families["binlock_audit_last_run_timestamp_seconds"].samples[0].value == 1.5e9
    assert families["binlock_audit_servers_unreadable"].samples[0].value == 0


def test_a_server_that_cannot_be_read_is_in_every_report() -> None:
    found = judge(Topology((), (Unreachable("db:3306", Role.SOURCE, "nobody answers"),)), FILES)
    assert "nobody answers" in "\n".join(table_lines(found, is_coloured=False))
    assert json_document(found)["summary"] == {"pass": 0, "warn": 0, "fail": 0, "unknown": 1}
    assert "binlock_audit_servers_unreadable 1" in list(textfile_lines(found, 0))
    assert fix_scripts(found) == {}


def test_scripts_go_from_the_source_over_the_replicas_to_what_locks_out() -> None:
    scripts = fix_scripts(sloppy())
    assert list(scripts) == [
        "1-source-source_3306.sql",
        "2-replica-replica_3306.sql",
        "3-replica-replica_3306.sql",
        "3-source-source_3306.sql",
    ]
    assert all(script.startswith("SET SESSION sql_log_bin = 0;\n") for script in scripts.values())
    first, second, _, last = scripts.values()
    # Kept for later starts only after the server could use it.
    assert first.rstrip().splitlines()[-3:] == [
        "SET GLOBAL ssl_crl = '/tls/ca.crl';",
        "ALTER INSTANCE RELOAD TLS;",
        "SET PERSIST ssl_crl = '/tls/ca.crl';",
    ]
    # One CHANGE for all that its channel lacks.
    assert second.count("CHANGE REPLICATION SOURCE TO") == 1
    assert "SOURCE_SSL = 1, SOURCE_SSL_CA = '/tls/ca.crt', SOURCE_SSL_VERIFY_SERVER_CERT = 1" in second
    assert "require_secure_transport" in last
    assert "binlog_checksum" in last
    assert "binlog_checksum" not in first
    assert last.index("REQUIRE SSL") < last.index("REQUIRE X509") < last.index("RENAME USER")
    # What needs a value of a person's waits as a comment.
    assert "-- fill in: ALTER USER 'repl'@'%' IDENTIFIED BY '<new password>';" in first
    assert not [line for line in first.splitlines() if "<" in line and not line.startswith("--")]


def test_a_server_that_keeps_every_practice_gets_no_script() -> None:
    assert fix_scripts(findings(source(), replica())) == {}


def test_where_nobody_may_write_the_script_opens_and_closes_the_server() -> None:
    old = replace(REPL, name=AccountName("old", "10.0.0.2"))
    for is_on in ("ON", "OFF"):
        found = findings(source(), replica(accounts=(ROOT, ROLE, old), variables={"super_read_only": is_on}))
        lines = fix_scripts(found)["2-replica-replica_3306.sql"].splitlines()
        switched = [line for line in lines if "super_read_only" in line and not line.startswith("--")]
        assert lines[0] == "SET SESSION sql_log_bin = 0;"
        closing = [f"SET GLOBAL super_read_only = {word};" for word in ("OFF", "ON")]
        assert switched == (closing if is_on == "ON" else [])
        assert "ALTER USER 'old'@'10.0.0.2' ACCOUNT LOCK;" in lines


def test_a_channel_is_not_stopped_for_a_change_that_waits_for_a_value() -> None:
    found = findings(source(), replica(channels=(replace(CHANNEL, key=""),), issued_name=""))
    script = fix_scripts(found)["2-replica-replica_3306.sql"]
    assert "-- fill in: STOP REPLICA FOR CHANNEL '';" in script
    assert "SOURCE_SSL_KEY = '/tls/<name>.key'" in script
    assert not [line for line in script.splitlines()[1:] if not line.startswith("--")]


def test_the_table_says_that_sql_replicates() -> None:
    hint = "SET SESSION sql_log_bin = 0"
    assert any(hint in line for line in table_lines(sloppy(), is_coloured=False))
    assert not any(hint in line for line in table_lines(findings(source(), replica()), is_coloured=False))


def test_a_server_in_both_roles_is_there_in_both() -> None:
    found = findings(source(name="db:1"), replica(name="db:1"))
    assert [line.partition("  ")[0] for line in table_lines(found, is_coloured=False) if line[:1].isalpha()] == [
        "source db:1",
        "replica db:1",
    ]


def test_what_a_name_has_in_it_stays_in_the_name() -> None:
    account = replace(REPL, name=AccountName("a\nb\\", "10.0.0.2"), ssl_type="")
    script = fix_scripts(findings(source(accounts=(ROOT, ROLE, account))))["3-source-source_3306.sql"]
    assert script.startswith("SET SESSION sql_log_bin = 0;\nSET SESSION sql_mode = '';\n")
    assert "ALTER USER 'a\\nb\\\\'@'10.0.0.2' REQUIRE SSL;" in script


def test_no_two_servers_share_a_script() -> None:
    found = findings(*(replica(name=name, variables={"super_read_only": "OFF"}) for name in ("/a/b", "/a_b", "/a/b_")))
    last = [name for name in fix_scripts(found) if name.startswith("3-")]
    assert sorted(last) == ["3-replica-a_b-2.sql", "3-replica-a_b-3.sql", "3-replica-a_b.sql"]


def test_what_is_done_on_a_server_in_one_role_is_not_done_again_in_the_other() -> None:
    old = replace(REPL, name=AccountName("old", "10.0.0.2"))
    both = {"name": "a:1", "accounts": (ROOT, ROLE, old), "variables": {"super_read_only": "OFF"}}
    scripts = fix_scripts(findings(source(**both), replica(**both)))
    lock = "ALTER USER 'old'@'10.0.0.2' ACCOUNT LOCK;"
    assert [name for name, script in scripts.items() if lock in script] == ["1-source-a_1.sql"]
