"""The outputs for versions that cannot be started here, against the grammar of their manuals.

The option names below are those of section 16.3.8 and of CHANGE MASTER TO in the MySQL 5.7 manual, and of CHANGE
REPLICATION SOURCE TO in the 8.0 manual. What is started is in tests/integration/test_mysql_config.py.
"""

import re
import tomllib
from collections.abc import Callable

import pytest

from certs.command_line import main
from certs.errors import CertsError
from certs.servers.versions import parse_server

TLS_OF_5_7 = {
    "MASTER_SSL", "MASTER_SSL_CA", "MASTER_SSL_CAPATH", "MASTER_SSL_CERT", "MASTER_SSL_KEY", "MASTER_SSL_CIPHER",
    "MASTER_SSL_CRL", "MASTER_SSL_CRLPATH", "MASTER_SSL_VERIFY_SERVER_CERT", "MASTER_TLS_VERSION",
}  # fmt: skip
OTHERS_OF_5_7 = {"MASTER_HOST", "MASTER_PORT", "MASTER_USER", "MASTER_PASSWORD", "MASTER_RETRY_COUNT",
                 "MASTER_AUTO_POSITION", "MASTER_LOG_FILE", "MASTER_LOG_POS"}  # fmt: skip
OF_MARIADB = (OTHERS_OF_5_7 | TLS_OF_5_7 | {"MASTER_USE_GTID"}) - {
    "MASTER_TLS_VERSION", "MASTER_RETRY_COUNT", "MASTER_AUTO_POSITION"
}  # fmt: skip
SECTION_OF_5_7 = {"ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_crl", "ssl_crlpath", "ssl_cipher", "tls_version",
                  "require_secure_transport"}  # fmt: skip

FILES = ("replica-1.example", "--folder", "/etc/mysql/binlock")
SOURCE = ("--source", "db1.example:3306", "--user", "repl")
# A statement is words, then options of the form NAME = value, where a value is a string, a number or a word.
STATEMENT = re.compile(r"(?P<head>[A-Z ]+)\n(?P<options>(?:  [A-Z_]+ = (?:'(?:[^'\\]|''|\\\\)*'|\d+|slave_pos),?\n)+)")


Print = Callable[..., str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Print:
    def run(*arguments: str) -> str:
        assert main(["mysql-config", *arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return run


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Print:
    def run(*arguments: str) -> str:
        assert main(["mysql-config", *arguments]) == 2
        answer = capsys.readouterr()
        assert (answer.out, answer.err.count("\n")) == ("", 1)
        return answer.err

    return run


def parse(text: str) -> tuple[str, dict[str, str]]:
    """The one statement with options that a text has, and everything around it checked."""
    lines = "".join(f"{line}\n" for line in text.splitlines() if not line.startswith("--"))
    before, statement, after = lines.partition(";\n")[0], *lines.partition(";\n")[2].rpartition(";\n")[0].split(";\n")
    match = STATEMENT.fullmatch(statement + "\n")
    assert match, statement
    word = before.partition(" ")[2]
    assert (before, after) == (f"STOP {word}", f"START {word}")
    options = [line.strip().rstrip(",").split(" = ", 1) for line in match["options"].splitlines()]
    assert all(line.endswith(",") for line in match["options"].splitlines()[:-1])
    assert len(dict(options)) == len(options)
    return f"{word}: {match['head']}", dict(options)


@pytest.mark.parametrize(
    ("version", "statement", "unknown", "known"),
    [
        ("mysql-5.7.9", "SLAVE: CHANGE MASTER TO", {"MASTER_TLS_VERSION"}, {"MASTER_SSL_CRL"}),
        ("mysql-5.7", "SLAVE: CHANGE MASTER TO", {"MASTER_TLS_CIPHERSUITES"}, {"MASTER_TLS_VERSION"}),
        ("mysql-8.0.18", "SLAVE: CHANGE MASTER TO", {"MASTER_TLS_CIPHERSUITES"}, set()),
        ("mysql-8.0.19", "SLAVE: CHANGE MASTER TO", set(), {"MASTER_TLS_CIPHERSUITES"}),
        ("mysql-8.0.22", "REPLICA: CHANGE MASTER TO", set(), {"MASTER_TLS_CIPHERSUITES"}),
        ("mysql-8.0.23", "REPLICA: CHANGE REPLICATION SOURCE TO", {"MASTER_SSL"}, {"SOURCE_TLS_CIPHERSUITES"}),
        ("mysql-8.0", "REPLICA: CHANGE REPLICATION SOURCE TO", set(), {"SOURCE_SSL_VERIFY_SERVER_CERT"}),
        ("mysql-8.4", "REPLICA: CHANGE REPLICATION SOURCE TO", set(), {"SOURCE_AUTO_POSITION"}),
        ("mariadb-10.5", "SLAVE: CHANGE MASTER TO", {"MASTER_TLS_VERSION", "MASTER_RETRY_COUNT"}, {"MASTER_USE_GTID"}),
    ],
)
def test_each_version_has_its_own_words(
    printed: Print, version: str, statement: str, unknown: set[str], known: set[str]
) -> None:
    head, options = parse(printed("replica", *FILES, *SOURCE, "--server", version))
    assert head == statement
    assert known <= options.keys()
    assert not unknown & options.keys()
    assert len({name.partition("_")[0] for name in options}) == 1


@pytest.mark.parametrize(
    ("version", "grammar"), [("mysql-5.7", TLS_OF_5_7 | OTHERS_OF_5_7), ("mariadb-10.6", OF_MARIADB)]
)
@pytest.mark.parametrize("position", ["gtid", "file", "keep"])
def test_nothing_stands_there_that_the_grammar_does_not_have(
    printed: Print, version: str, grammar: set[str], position: str
) -> None:
    _, options = parse(printed("replica", *FILES, *SOURCE, "--server", version, "--position", position))
    assert options.keys() <= grammar
    # The seven settings of the manual's section are all said, be it to clear them.
    assert TLS_OF_5_7 & grammar <= options.keys()
    assert (options["MASTER_SSL"], options["MASTER_SSL_VERIFY_SERVER_CERT"]) == ("1", "1")
    assert ("MASTER_HOST" in options) == (position != "keep")


def test_the_values_are_where_they_belong(printed: Print) -> None:
    folders = (
        "--capath",
        "/etc/ca's",
        "--crlpath",
        "/etc/crls",
        "--tls-version",
        "TLSv1.2",
        "--cipher",
        "A",
        "--cipher",
        "B",
    )
    _, options = parse(printed("replica", *FILES, *SOURCE, "--server", "mysql-5.7", *folders))
    assert options == {
        "MASTER_HOST": "'db1.example'",
        "MASTER_PORT": "3306",
        "MASTER_USER": "'repl'",
        "MASTER_PASSWORD": "'<password>'",
        "MASTER_RETRY_COUNT": "86400",
        "MASTER_AUTO_POSITION": "1",
        "MASTER_SSL": "1",
        "MASTER_SSL_CA": "''",
        "MASTER_SSL_CAPATH": "'/etc/ca''s'",
        "MASTER_SSL_CERT": "'/etc/mysql/binlock/replica-1.example.crt'",
        "MASTER_SSL_KEY": "'/etc/mysql/binlock/replica-1.example.key'",
        "MASTER_SSL_CRL": "''",
        "MASTER_SSL_CRLPATH": "'/etc/crls'",
        "MASTER_SSL_CIPHER": "'A:B'",
        "MASTER_TLS_VERSION": "'TLSv1.2'",
        "MASTER_SSL_VERIFY_SERVER_CERT": "1",
    }


def test_mysql_is_told_what_gtids_take(printed: Print) -> None:
    for version, position, told in (
        ("mysql-8.4", "gtid", True),
        ("mysql-8.4", "file", False),
        ("mariadb-10.11", "gtid", False),
    ):
        text = printed("replica", *FILES, *SOURCE, "--server", version, "--position", position)
        assert ("gtid_mode is ON at both ends" in text) == told


def test_5_7_is_told_that_it_looks_at_the_common_name(printed: Print) -> None:
    assert "common name" in printed("replica", *FILES, *SOURCE, "--server", "mysql-5.7")
    assert "common name" not in printed("replica", *FILES, *SOURCE, "--server", "mysql-8.0")


@pytest.mark.parametrize("version", ["mysql-5.7", "mysql-8.0.15", "mysql-8.4", "mariadb-10.6"])
def test_the_section_has_settings_of_its_version(printed: Print, version: str) -> None:
    text = printed("source", *FILES, "--server", version, "--ca", "/etc/my ca#1.crt")
    [title, *lines] = [line for line in text.splitlines() if not line.startswith("#")]
    settings = dict(line.split(" = ", 1) for line in lines)
    assert title == "[mysqld]"
    assert settings.keys() - {"tls_ciphersuites"} <= SECTION_OF_5_7
    assert ("tls_ciphersuites" in settings) == (version == "mysql-8.4")
    assert settings["tls_version"] == ("TLSv1.2" if version in {"mysql-5.7", "mysql-8.0.15"} else "TLSv1.2,TLSv1.3")
    assert settings["ssl_ca"] == '"/etc/my ca#1.crt"'
    reload = {"mysql-8.4": "ALTER INSTANCE RELOAD TLS", "mariadb-10.6": "FLUSH SSL"}.get(version, "at a restart")
    assert reload in text


def test_accounts_as_the_manual_has_them(printed: Print) -> None:
    who = ("--server", "mysql-5.7", "--user", "repl", "--host", "%.example.com")
    assert printed("account", *who, "--require", "ssl").splitlines()[1:] == [
        "CREATE USER 'repl'@'%.example.com' IDENTIFIED BY '<password>' REQUIRE SSL;",
        "GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%.example.com';",
    ]
    assert printed("account", *who, "--require", "ssl", "--existing").splitlines()[1:] == [
        "ALTER USER IF EXISTS 'repl'@'%.example.com' REQUIRE SSL;",
        "SHOW WARNINGS;",
    ]
    subject = ("--require", "subject", "--subject", "/CN=r1", "--issuer", "/CN=It's")
    assert "REQUIRE SUBJECT '/CN=r1' AND ISSUER '/CN=It''s';" in printed("account", *who, *subject)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("replica", *FILES, *SOURCE), "this needs --server, such as mysql-8.4"),
        (("replica", *FILES, *SOURCE, "--server", "mysql-5.6"), "older than mysql-5.7"),
        (("replica", *FILES, *SOURCE, "--server", "8.0"), "'8.0' is no server"),
        (("replica", *FILES, "--user", "repl", "--server", "mysql-8.0"), "this needs --source HOST:PORT"),
        (("replica", *FILES, "--user", "r", "--source", "db1", "--server", "mysql-8.0"), "'db1' is not HOST:PORT"),
        (("replica", "r1", "--folder", "certs", *SOURCE, "--server", "mysql-8.0"), "is no complete path"),
        (("replica", *SOURCE, "--server", "mysql-8.0"), "NAME, or --certificate and --key"),
        (("source", *FILES, "--server", "mysql-5.7", "--tls-version", "TLSv1.3"), "not offered for MySQL 5.7"),
        (("source", *FILES, "--server", "mariadb-11.8", "--ciphersuite", "X"), "MariaDB 11.8 has no setting for"),
        (("source", *FILES, "--server", "mysql-8.4", "--tls-version", "TLSv1"), "choose from TLSv1.2, TLSv1.3"),
        (("source", *FILES, "--server", "mysql-8.4", "--ca", '/a"b'), "cannot stand in an option file"),
        (("roles", "--server", "mysql-5.7"), "MySQL 5.7 has no roles"),
        (("account", "--server", "mysql-5.7", "--user", "r", "--host", "h", "--role"), "MySQL 5.7 has no roles"),
        (
            ("account", "--server", "mysql-8.4", "--user", "r", "--host", "%", "--require", "none"),
            "may come unencrypted",
        ),
        (("account", "--server", "mysql-8.4", "--user", "r", "--host", "h", "--require", "subject"), "give --subject"),
        (("account", "--server", "mysql-8.4", "--user", "r", "--host", "h", "--subject", "x"), "belong to --require"),
        (("route", *FILES, *SOURCE), "nothing is allowed by default: give --allow"),
        (("route", *FILES, *SOURCE, "--allow", "10.0.0.0/8"), "give --identity"),
    ],
)
def test_what_is_refused_says_what_to_do(refusal: Print, arguments: tuple[str, ...], message: str) -> None:
    assert message in refusal(*arguments)


def test_a_route_is_toml_with_the_files(printed: Print) -> None:
    common = ("--allow", "10.0.0.0/8", "--identity", "r1", "--server-id", "2")
    [route] = tomllib.loads(printed("route", *FILES, *SOURCE, *common))["route"]
    assert route["replica_tls"]["crl"] == ["/etc/mysql/binlock/ca.crl"]
    assert route["replica"] == [{"identity": "r1", "accounts": ["repl"], "server_ids": [2]}]
    assert "crl" not in tomllib.loads(printed("route", *FILES, *SOURCE, *common, "--no-crl"))["route"][0]["replica_tls"]


def test_where_files_are_unless_it_is_said(printed: Print) -> None:
    _, options = parse(printed("replica", "R1.example", *SOURCE, "--server", "mysql-8.4"))
    assert options["SOURCE_SSL_KEY"] == "'/etc/mysql/binlock/r1.example.key'"
    route = tomllib.loads(printed("route", "r1", *SOURCE, "--allow", "10.0.0.0/8", "--identity", "r2"))["route"][0]
    assert route["replica_tls"]["ca"] == "/etc/binlock/ca.crt"
    # Whoever names files names all of them.
    own = ("--certificate", "/c", "--key", "/k", "--ca", "/a")
    assert parse(printed("replica", *own, *SOURCE, "--server", "mysql-8.4"))[1]["SOURCE_SSL_CRL"] == "''"


def test_a_version_without_its_last_number_is_the_latest_of_its_series() -> None:
    assert parse_server("mysql-8.0").word == "SOURCE"
    assert (str(parse_server("MariaDB-10.11")), str(parse_server("mysql-8.0.22"))) == ("MariaDB 10.11", "MySQL 8.0.22")
    with pytest.raises(CertsError, match="is no server"):
        parse_server("mysql-8")
