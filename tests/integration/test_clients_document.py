"""docs/clients.md says what the tests of clients try: its tables, its `queries`, and the options that it tells."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.flavours import Flavour
from tests.integration.clients.facts import (
    COMMAND_LINES,
    COMPRESSION,
    DEFAULT_PLUGIN,
    PLAINTEXT,
    QUERIES,
    QUERY_CLIENTS,
    READERS,
    SENDS,
    Client,
    login_failure,
)
from tests.integration.clients.programs import HERE, words

DOCUMENT = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
TRIED_PLUGINS = ("caching_sha2_password", "sha256_password", "ed25519", "parsec")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, flags=re.DOTALL | re.MULTILINE)


def deployments(client: Client, flavour: Flavour) -> str:
    if login_failure(client, DEFAULT_PLUGIN[flavour], encrypted=False):
        return "source-side; " + " and ".join(PLAINTEXT) + " while the source's cache is warm"
    return "all"


def plugin(client: Client, name: str) -> str:
    encrypted, plain = (login_failure(client, name, encrypted=encrypted) is None for encrypted in (True, False))
    return ("yes" if plain else "by TLS") if encrypted else "no"


def rows() -> Iterator[str]:
    for client in Client:
        cells = [deployments(client, flavour) for flavour in Flavour]
        yield " | ".join([client.value, *cells, ", ".join(COMPRESSION.get(client, ())) or "no"])
    for client in QUERY_CLIENTS:
        yield " | ".join([client.value, *(plugin(client, name) for name in TRIED_PLUGINS)])
    for client in Client:
        yield f"{client.value} | " + (", ".join(f"`{sent}`" for sent in SENDS[client]) or "nothing")


def test_the_tables_have_what_was_tried_and_nothing_else() -> None:
    tables = [line for line in DOCUMENT.splitlines() if line.startswith("|")]
    bodies = [line for line in tables if not line.startswith(("|---", "| client"))]
    assert bodies == [f"| {row} |" for row in rows()]


def test_the_queries_are_those_that_were_needed() -> None:
    documented = {}
    for block in blocks("toml"):
        [route] = tomllib.loads(block)["route"]
        documented[route["name"]] = (tuple(route["queries"]), route["replica"][0]["server_ids"])
    assert documented == {
        "python-mysql-replication": (
            QUERIES[Client.PYTHON_MYSQL_REPLICATION],
            [READERS[Client.PYTHON_MYSQL_REPLICATION]],
        ),
        "zongji": (QUERIES[Client.ZONGJI], [READERS[Client.ZONGJI]]),
    }


@pytest.mark.parametrize(("language", "suffix"), [("js", ".mjs"), ("python", ".py")])
def test_the_options_are_those_of_the_clients_that_were_tried(language: str, suffix: str) -> None:
    tried = {line.strip() for path in HERE.glob(f"*{suffix}") for line in path.read_text().splitlines()}
    told = [line.strip() for block in blocks(language) for line in block.splitlines()]
    assert told
    assert [line for line in told if line not in tried] == []


def test_the_words_of_the_command_lines_are_those_that_were_tried() -> None:
    files = {"ca": "ca.crt", "cert": "replica-1.example.crt", "key": "replica-1.example.key"}
    tried = {client: (words(client, files), words(client, None)) for client in COMMAND_LINES}
    [told] = blocks("sh")
    for line in told.splitlines():
        command, _, remark = line.partition("#")
        program, *options = command.split()
        encrypted = "Binlock beside" not in remark
        [client] = [client for client in COMMAND_LINES if client.value in remark]
        assert program == client.value.split()[0]
        mentioned = [option for option in options if not option.startswith(("--host=", "--port=", "--user="))]
        assert mentioned == tried[client][0 if encrypted else 1]
    assert len(told.splitlines()) == 2 * len(COMMAND_LINES)


def test_the_versions_from_npm_are_those_that_were_tried() -> None:
    for name, version in json.loads((HERE / "package.json").read_text())["dependencies"].items():
        assert f"{name} {version}" in DOCUMENT
