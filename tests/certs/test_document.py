"""docs/certificates.md: its tables are made of the code.

`python -m tests.certs.test_document` writes them anew.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from certs.options.parser import make_parser
from certs.servers.versions import parse_server
from certs.verifying.findings import Check

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "certificates.md"
MEANINGS = {
    Check.TLS: "the port offers TLS within MySQL's protocol, and which version and cipher come of it",
    Check.KEY: "the key file is its owner's alone, opens without a passphrase, and belongs to the certificate",
    Check.CHAIN: "issuers and signatures lead to a self-signed root in `--ca`",
    Check.VALIDITY: "every certificate of the chain counts now",
    Check.AUTHORITIES: "each may sign what it signed: basicConstraints, keyCertSign, path length, name constraints, "
    "critical extensions",
    Check.PURPOSE: "with `--role`: extended key usage of the whole chain, key usage of the leaf",
    Check.ALGORITHMS: "no RSA below 2048 bits, no SHA-1 or MD5",
    Check.STRICT: "RFC 5280 to the letter, as Binlock's proxy asks",
    Check.REVOCATION: "with `--crl`: a current, genuine list of every authority, and nobody of the chain on one",
    Check.NAME: "with `--name`: a DNS name (wildcards for one label), an address or a URI of the SAN",
    Check.DAYS_LEFT: "until the first of the chain and the lists in use ends; fewer than 14 warn",
    Check.CLIENT: "the server does not turn away what this end shows",
}
VERSIONS = (
    "mysql-5.7",
    "mysql-8.0.18",
    "mysql-8.0.22",
    "mysql-8.0.23",
    "mysql-8.4",
    "mysql-9.7",
    "mariadb-10.11",
    "mariadb-11.8",
)


def checks() -> Iterator[str]:
    yield "| check | passes if |"
    yield "|---|---|"
    for check in Check:
        yield f"| `{check}` | {MEANINGS[check]} |"


def versions() -> Iterator[str]:
    yield "| `--server` | statement | start | TLS 1.3 | `TLS_CIPHERSUITES` | roles | renewed files |"
    yield "|---|---|---|---|---|---|---|"
    for text in VERSIONS:
        server = parse_server(text)
        suites = f"`{server.word}_TLS_CIPHERSUITES`" if server.has_replica_ciphersuites else "no"
        reload = f"`{server.reload_tls}`" if server.reload_tls else "restart"
        yes = {True: "yes", False: "no"}
        yield (
            f"| `{text}` | `{server.change_source}` | `START {server.replica}` | {yes[server.has_tls_1_3]} | {suites} "
            f"| {yes[server.has_roles]} | {reload} |"
        )


TABLES = {"checks": checks, "versions": versions}


def with_tables(text: str) -> str:
    for name, lines in TABLES.items():
        before, mark, after = text.partition(f"<!-- {name} -->\n")
        rest = after[re.match(r"(\|.*\n)*", after).end() :]  # type: ignore[union-attr]
        text = before + mark + "".join(f"{line}\n" for line in lines()) + rest
    return text


def test_every_check_is_explained() -> None:
    assert MEANINGS.keys() == set(Check)


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_what_the_code_says(name: str) -> None:
    text = DOCUMENT.read_text()
    assert f"<!-- {name} -->" in text
    assert with_tables(text) == text, "run python -m tests.certs.test_document"


def test_every_command_and_no_other_is_listed() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \|", DOCUMENT.read_text().partition("## The authority")[0], re.MULTILINE)
    help_text = make_parser().format_help()
    assert listed == re.findall(r"^    ([a-z-]+)\b", help_text, re.MULTILINE)


def examples() -> Iterator[str]:
    parser = make_parser()
    texts = [(ROOT / name).read_text() for name in ("README.md", "docs/certificates.md")]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for command in re.findall(r"^    ([a-z-]+)\b", parser.format_help(), re.MULTILINE):
            with pytest.raises(SystemExit):
                parser.parse_args([command, "--help"])
    for text in (*texts, printed.getvalue()):
        joined = text.replace("\\\n", " ")
        yield from (match[1] for match in re.finditer(r"^ *binlock-certs (\w.*)$", joined, re.MULTILINE))


def test_every_example_is_understood() -> None:
    found = [shlex.split(example, comments=True) for example in examples()]
    for words in found:
        make_parser().parse_args(words)
    assert len(found) > 30
    assert {words[0] for words in found} >= {
        "init",
        "issue",
        "renew",
        "revoke",
        "crl",
        "show",
        "verify",
        "mysql-config",
    }


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
