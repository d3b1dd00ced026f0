"""The audit on real servers: a sloppy pair fails, what the audit says mends it, and it replicates afterwards."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.flavours import Flavour
from testbed.servers import Server
from tests.integration.audit_stand import STRONG, WEAK, SloppyPair, least_privilege, run_audit, run_script, statuses
from tests.integration.audit_table import expected
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import BIN, PASSWORD, Proxy, replicating

StartProxy = Callable[..., Proxy]
every = pytest.mark.parametrize("flavour", list(Flavour), ids=lambda flavour: flavour.value)
every_pair = pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)


def of(report: dict[str, Any], check: str) -> list[dict[str, Any]]:
    return [finding for finding in report["findings"] if finding["check"] == check]


def assert_files_are_those_of(server: Server, section: str) -> None:
    settings = dict(line.split(" = ") for line in section.splitlines() if " = " in line and line.startswith("ssl_"))
    running = {row["Variable_name"]: row["Value"] for row in server.sql("SHOW GLOBAL VARIABLES LIKE 'ssl%'")}
    for name in ("ssl_ca", "ssl_cert", "ssl_key", "ssl_crl"):
        assert running[name] == settings[name]


@every
def test_a_sloppy_pair_fails_and_the_fixes_mend_it(flavour: Flavour, tmp_path: Path) -> None:
    with SloppyPair(tmp_path, flavour) as pair:
        code, report = pair.audit_as_root("--fix-script", str(tmp_path / "fixes"))
        assert code == 1
        assert statuses(report) == expected(flavour)
        # Recognised in what the server stores of it, whatever the plugin.
        repl = [finding for finding in of(report, "account-password") if finding["subject"] == "repl@%"]
        assert ["common one" in finding["reason"] for finding in repl] == [True, True]
        # Passwords, what is stored of them, and the words that were tried are nobody's to read.
        text = json.dumps(report) + "".join(path.read_text() for path in (tmp_path / "fixes").iterdir())
        assert WEAK not in text
        assert "$A$" not in text

        # What only a person can decide, and then everything else.
        pair.forget_tried()
        pair.audit_as_root("--fix-script", str(tmp_path / "further-fixes"))
        pair.issue_files()
        pair.make_auditors()
        pair.apply(tmp_path / "further-fixes")
        pair.reconnect()
        pair.prove_that_it_replicates()
        # Accounts have one name on both servers, so that what is said of them later stops no replica.
        account = f"repl@'{pair.replica_host.address}'"
        pair.source.sql(f"ALTER USER {account} REQUIRE X509")
        pair.prove_that_it_replicates()

        # The settings that binlock-certs prints name the same files, and are no worse.
        assert_files_are_those_of(pair.source, pair.configured("source", pair.source))
        run_script(pair.replica, pair.configured("replica", pair.replica, "--position", "keep"))
        pair.prove_that_it_replicates()

        # Whoever has all rights, on the spot.
        code, report = pair.audit_as_root()
        left = {check: status for check, status in statuses(report).items() if status != "pass"}
        assert left.pop("source-backup") == "unknown"
        # The account that the audit is given reads mysql.user; MariaDB shows the expiry over TLS alone.
        assert left.pop("accounts-user-table") == "fail"
        assert left.pop("tls-certificate-expiry", "unknown") == "unknown"
        assert not left, report
        # Whoever has few, over the network.
        code, report = pair.audit_over_tls()
        assert code == 0
        left = {check: status for check, status in statuses(report).items() if status != "pass"}
        assert left == {"tls-key-file": "unknown", "source-backup": "unknown"}, report
        assert "over verified TLS" in of(report, "audit-connection")[0]["reason"]

        if flavour.is_mariadb:  # whose read_only does not hold root back
            return
        # A replica that takes no writes from anybody is mended too, and goes back to that.
        pair.make_late_account()
        code, report = pair.audit_as_root("--fix-script", str(tmp_path / "late-fixes"))
        assert [f["server"] for f in of(report, "account-require") if f["status"] == "fail"] == [
            str(pair.replica.socket_path)
        ]
        pair.apply(tmp_path / "late-fixes")
        _, report = pair.audit_as_root()
        assert {f["status"] for f in of(report, "account-require") + of(report, "replica-read-only")} == {"pass"}
        pair.prove_that_it_replicates()


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Flavour], Server]]:
    """A server as it comes, for each flavour."""
    servers: dict[Flavour, Server] = {}

    def start(flavour: Flavour) -> Server:
        if flavour not in servers:
            servers[flavour] = Server(tmp_path_factory.mktemp("bare") / "server", flavour, server_id=9).start()
            servers[flavour].sql(f"CREATE USER nobody@'%' IDENTIFIED BY '{PASSWORD}'")
        return servers[flavour]

    yield start
    for server in servers.values():
        server.kill()


@every
def test_what_may_not_be_read_is_unknown_and_says_what_would_allow_it(
    flavour: Flavour, bare: Callable[[Flavour], Server], tmp_path: Path
) -> None:
    server = bare(flavour)
    (tmp_path / "pw").write_text(PASSWORD)
    dsn = f"mysql://nobody@localhost/?socket={server.socket_path}&password-file={tmp_path}/pw"
    server.sql("CREATE USER IF NOT EXISTS nobody@localhost IDENTIFIED BY %s", PASSWORD)
    _, before = run_audit("--source", dsn, "--replica", dsn, "--json")
    found = statuses(before)
    for check in ("accounts-root", "account-require", "source-dumps", "replica-tls", "accounts-user-table"):
        assert found[check] == "unknown"
        assert all(finding["fix"]["note"] for finding in of(before, check)), check
    # What it says is what it takes.
    grants = {
        statement.strip()
        for finding in before["findings"]
        if finding["status"] == "unknown"
        for statement in finding["fix"]["note"].split(";")
        if "GRANT" in statement and "backup_history" not in statement
    }
    for grant in grants:
        server.sql(grant[grant.index("GRANT") :])
    _, after = run_audit("--source", dsn, "--replica", dsn, "--json")
    unread = {check for check, status in statuses(after).items() if status == "unknown"}
    assert unread <= {"source-dumps", "source-backup", "tls-key-file", "tls-certificate-expiry"}
    assert "no replica is connected now" in of(after, "source-dumps")[0]["reason"]


def test_a_server_without_tls_is_told_nothing(bare: Callable[[Flavour], Server]) -> None:
    server = bare(Flavour.MARIADB_10_11)
    dsn = f"mysql://nobody@127.0.0.1:{server.port}/"
    failures = int(server.sql("SHOW GLOBAL STATUS LIKE 'Access_denied_errors'")[0]["Value"])
    done = audit("--source", f"{dsn}?ssl-ca=/dev/null", check=False)
    assert done.returncode == 2
    done = audit("--source", dsn, check=False)
    assert done.returncode == 2
    assert "offers no TLS" in done.stderr
    assert int(server.sql("SHOW GLOBAL STATUS LIKE 'Access_denied_errors'")[0]["Value"]) == failures
    done = audit("--source", f"{dsn}?unsafe-plaintext=1&password-env=PW", check=False, environment={"PW": PASSWORD})
    assert "FAIL" in done.stdout.upper()
    assert "over plaintext" in done.stdout


@pytest.mark.parametrize("pair", [Flavour.MYSQL_9_7, Flavour.MARIADB_11_8], indirect=True, ids=lambda f: f.value)
def test_a_certificate_is_verified_by_authority_and_by_name(pair: Pair, pki: Pki, foreign: Any) -> None:
    pair.source.sql("CREATE USER IF NOT EXISTS looker@'%%' IDENTIFIED BY %s", PASSWORD)
    there = f"mysql://looker@127.0.0.1:{pair.source.port}/?password-env=PW"
    environment = {"PW": PASSWORD}
    for options, complaint in (
        (f"&ssl-ca={foreign.ca}", "certificate"),
        ("", "certificate"),  # the system's authorities
    ):
        done = audit("--source", there + options, check=False, environment=environment)
        assert done.returncode == 2
        assert complaint in done.stderr
        assert PASSWORD not in done.stderr
    # The certificate names 127.0.0.1 and localhost; 127.0.0.2 is another name of the same host.
    elsewhere = there.replace("127.0.0.1", "127.0.0.2")
    pair_ca = f"&ssl-ca={pki.authority.ca}"
    report = json.loads(audit("--json", "--source", there + pair_ca, environment=environment, check=False).stdout)
    assert of(report, "audit-connection")[0]["status"] == "pass"
    done = audit("--json", "--source", elsewhere + pair_ca, environment=environment, check=False)
    assert done.returncode == 2
    done = audit("--json", "--source", f"{there}&unsafe-unverified-tls=1", environment=environment, check=False)
    assert of(json.loads(done.stdout), "audit-connection")[0]["status"] == "warn"


def audit(
    *words: str, check: bool = True, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "binlock-audit", *words], capture_output=True, text=True, check=check, stdin=subprocess.DEVNULL,
        env=environment or {}, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "source_leg"),
    [
        (Flavour.MYSQL_9_7, "unix"),
        (Flavour.MYSQL_9_7, "tcp"),
        (Flavour.MARIADB_10_11, "unix"),
        (Flavour.MARIADB_11_8, "tcp"),
    ],
    indirect=["pair"],
    ids=lambda value: getattr(value, "value", value),
)
def test_binlocks_connection_on_loopback_is_explained(
    pair: Pair, pki: Pki, source_side: StartProxy, source_leg: str
) -> None:
    source = f"127.0.0.1:{pair.source.port}" if source_leg == "tcp" else f"unix:{pair.source.socket_path}"
    proxy = source_side(source=source)
    dsn = f"mysql://root@localhost/?socket={pair.source.socket_path}"
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        proxy.stream_of("replica-1.example")
        _, by_attributes = run_audit("--source", dsn, "--json")
        _, by_sessions = run_audit(
            "--source", dsn, "--json", "--binlock-sessions", f"http://127.0.0.1:{proxy.admin_port}"
        )
    for report, witness in ((by_attributes, "connection attributes"), (by_sessions, "/sessions")):
        [dump] = of(report, "source-dumps")
        assert dump["status"] == "pass", dump
        assert "Binlock, route test, for replica-1.example" in dump["reason"]
        assert witness in dump["reason"]
        assert "over TLSv1.3" in dump["reason"]
    [transport] = of(by_attributes, "transport-required")
    assert transport["status"] == ("warn" if source_leg == "tcp" else "fail")


@every_pair
def test_without_its_attributes_the_sessions_explain_it(
    pair: Pair, pki: Pki, source_side: StartProxy, tmp_path: Path
) -> None:
    proxy = source_side(source=f"127.0.0.1:{pair.source.port}", more={"connection_attributes": False})
    dsn = f"mysql://root@localhost/?socket={pair.source.socket_path}"
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        proxy.stream_of("replica-1.example")
        _, unexplained = run_audit("--source", dsn, "--json")
        shown = subprocess.run(
            [BIN / "binlock-proxy", "sessions", "--config", proxy.config, "--json"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        (tmp_path / "sessions.json").write_text(shown.stdout)
        _, explained = run_audit("--source", dsn, "--json", "--binlock-sessions", str(tmp_path / "sessions.json"))
    [dump] = of(unexplained, "source-dumps")
    assert dump["status"] == "warn"
    assert "--binlock-sessions" in dump["fix"]["note"]
    [dump] = of(explained, "source-dumps")
    assert dump["status"] == "pass"


@every_pair
def test_a_replica_whose_binlock_encrypts_for_it_is_no_fault(pair: Pair, replica_side: StartProxy) -> None:
    proxy = replica_side()
    dsns = [f"mysql://root@localhost/?socket={server.socket_path}" for server in (pair.source, pair.replica)]
    words = ["--source", dsns[0], "--replica", dsns[1], "--json"]
    options = {} if pair.flavour.is_mariadb else {"get_source_public_key": True}
    with replicating(pair.replica, proxy.port, user="repl", **options):
        pair.replica.wait_for_replication()
        proxy.stream_of("local")
        _, unexplained = run_audit(*words)
        _, explained = run_audit(*words, "--binlock-sessions", f"http://127.0.0.1:{proxy.admin_port}/sessions")
    assert of(unexplained, "replica-tls")[0]["status"] == "fail"
    for check in ("replica-tls", "replica-ca", "replica-verify", "replica-certificate"):
        assert of(explained, check)[0]["status"] == "pass"
    assert "goes on over TLSv1.3" in of(explained, "replica-tls")[0]["reason"]
    # As the source sees it, over TLS.
    assert of(explained, "source-dumps")[0]["status"] == "pass"


@every
def test_the_least_privilege_of_the_documents_reads_all_there_is(
    flavour: Flavour, bare: Callable[[Flavour], Server], tmp_path: Path
) -> None:
    server = bare(flavour)
    server.sql("DROP USER IF EXISTS auditor@localhost")
    for statement in least_privilege(flavour, "auditor@localhost"):
        server.sql(statement.replace(" REQUIRE SSL", ""))
    (tmp_path / "pw").write_text(STRONG)
    dsn = f"mysql://auditor@localhost/?socket={server.socket_path}&password-file={tmp_path}/pw"
    _, report = run_audit("--source", dsn, "--replica", dsn, "--json")
    denied = [finding for finding in report["findings"] if "denied" in finding["reason"].lower()]
    assert not denied, denied


def test_without_the_column_of_passwords_they_alone_are_unknown(
    bare: Callable[[Flavour], Server], tmp_path: Path
) -> None:
    server = bare(Flavour.MYSQL_9_7)
    server.sql("CREATE USER IF NOT EXISTS replicating@'10.0.0.1' IDENTIFIED BY %s", PASSWORD)
    server.sql("GRANT REPLICATION SLAVE ON *.* TO replicating@'10.0.0.1'")
    server.sql("DROP USER IF EXISTS discreet@localhost")
    columns = server.sql("SHOW COLUMNS FROM mysql.user")
    seen = ", ".join(f"`{row['Field']}`" for row in columns if row["Field"] != "authentication_string")
    for statement in least_privilege(Flavour.MYSQL_9_7, "discreet@localhost"):
        columns_only = statement.replace("SELECT ON mysql.user", f"SELECT ({seen}) ON mysql.user")
        server.sql(columns_only.replace(" REQUIRE SSL", ""))
    (tmp_path / "pw").write_text(STRONG)
    dsn = f"mysql://discreet@localhost/?socket={server.socket_path}&password-file={tmp_path}/pw"
    _, report = run_audit("--source", dsn, "--json")
    found = {
        finding["check"]: finding["status"] for finding in report["findings"] if "replicating" in finding["subject"]
    }
    assert found.pop("account-password") == "unknown"
    assert "unknown" not in found.values()
    assert found["account-require"] == "fail"


@pytest.mark.parametrize("flavour", [Flavour.MARIADB_10_11, Flavour.MARIADB_11_8], ids=lambda flavour: flavour.value)
def test_mariadbs_privileges_without_a_column_are_read(flavour: Flavour, bare: Callable[[Flavour], Server]) -> None:
    server = bare(flavour)
    beyond = {
        "BINLOG ADMIN",
        "BINLOG REPLAY",
        "CONNECTION ADMIN",
        "FEDERATED ADMIN",
        "READ_ONLY ADMIN",
        "REPLICATION MASTER ADMIN",
        "REPLICATION SLAVE ADMIN",
        "SET USER",
    }
    server.sql("CREATE USER IF NOT EXISTS broad@'10.0.0.1' IDENTIFIED BY %s", PASSWORD)
    server.sql(f"GRANT REPLICATION SLAVE, SLAVE MONITOR, {', '.join(beyond)} ON *.* TO broad@'10.0.0.1'")
    _, report = run_audit("--source", f"mysql://root@localhost/?socket={server.socket_path}", "--json")
    [found] = [f for f in of(report, "account-privileges") if f["subject"] == "broad@10.0.0.1"]
    [statement] = found["fix"]["sql"]
    assert set(statement.removeprefix("REVOKE ").partition(" ON ")[0].split(", ")) == beyond
    server.sql(statement)
    _, report = run_audit("--source", f"mysql://root@localhost/?socket={server.socket_path}", "--json")
    [found] = [f for f in of(report, "account-privileges") if f["subject"] == "broad@10.0.0.1"]
    assert found["status"] == "pass"


ODD_NAMES = (
    "o'brien",
    'quo"te',
    "back\\slash",
    "trail\\",
    "tick`y",
    "ünïcode",
    "per%cent",
    "a\nDROP DATABASE shop; --",
)
ODD_GRANTS = (
    "CREATE USER ''@'%'",
    "GRANT REPLICATION SLAVE ON *.* TO ''@'%'",
    "CREATE USER broad@'%' IDENTIFIED BY 'broad'",
    "GRANT REPLICATION SLAVE ON *.* TO broad@'%'",
    "GRANT SELECT (id), UPDATE (id) ON shop.orders TO broad@'%'",
    "GRANT INSERT ON shop.orders TO broad@'%' WITH GRANT OPTION",
    "GRANT DROP ON shop.* TO broad@'%' WITH GRANT OPTION",
    "GRANT EXECUTE ON PROCEDURE shop.total TO broad@'%'",
    "GRANT PROXY ON root@localhost TO broad@'%'",
    "CREATE ROLE 'in''ner'",
    "CREATE ROLE outer_role",
    "GRANT FILE ON *.* TO 'in''ner'",
    "GRANT 'in''ner' TO outer_role",
    "GRANT outer_role TO broad@'%'",
)


@pytest.mark.parametrize("flavour", [Flavour.MYSQL_9_7, Flavour.MARIADB_11_8], ids=lambda flavour: flavour.value)
def test_odd_accounts_are_mended_whatever_a_backslash_means(flavour: Flavour, tmp_path: Path) -> None:
    with Server(tmp_path / "server", flavour, server_id=9, options={"sql_mode": "NO_BACKSLASH_ESCAPES"}) as server:
        setup = (
            "SET SESSION sql_mode = ''", "CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)",
            "CREATE PROCEDURE shop.total() SELECT 1", *ODD_GRANTS,
        )  # fmt: skip
        with server.connection() as connection, connection.cursor() as cursor:
            for statement in setup:
                cursor.execute(statement)
            for name in ODD_NAMES:
                cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY 'common'", (name,))
                cursor.execute("GRANT REPLICATION SLAVE ON *.* TO %s@'%%'", (name,))
        dsn = f"mysql://root@localhost/?socket={server.socket_path}"
        _, before = run_audit("--source", dsn, "--json", "--fix-script", str(tmp_path / "fixes"))
        beyond = [f for f in of(before, "account-privileges") if f["status"] == "fail"]
        assert [finding["subject"] for finding in beyond] == ["broad@%"]
        for script in sorted((tmp_path / "fixes").glob("*.sql")):
            # The files of TLS are not there.
            lines = [line for line in script.read_text().splitlines() if not re.search("ssl_|tls_| TLS;", line)]
            text = "\n".join(lines).replace("<host or network of the replicas>", "10.9.9.9")
            run_script(server, re.sub("-- fill in: (?=RENAME)", "", text))
        _, after = run_audit("--source", dsn, "--json")
        assert server.sql("SHOW DATABASES LIKE 'shop'")
        found = statuses(after)
        for check in ("accounts-anonymous", "account-privileges", "account-require", "account-role", "account-host"):
            assert found[check] == "pass", of(after, check)
        assert {f["subject"].rpartition("@")[0] for f in of(after, "account-require")} == {"broad", *ODD_NAMES}
