"""docs/configuration.md has every key of the configuration, in its table, with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import FieldInfo, fields

from proxy.configuration.config import (
    AdminTable,
    AdminTlsTable,
    LimitsTable,
    LogTable,
    ReplicaTable,
    RouteTable,
    SourceTable,
    TlsTable,
    load_config,
)
from tests.documents.markdown import DOCS, blocks, rows, section

PAGE = DOCS / "configuration.md"
TABLES: dict[str, list[tuple[str, type[Struct]]]] = {
    "### `[[route]]`": [("", RouteTable)],
    "### `[route.replica_tls]`, `[route.source.tls]`": [("", TlsTable)],
    "### `[route.source]`": [("", SourceTable)],
    "### `[[route.replica]]`: the roster": [("", ReplicaTable)],
    "### `[admin.tls]`": [("", AdminTlsTable)],
    "### `[admin]`, `[log]`, `[limits]`": [("admin.", AdminTable), ("log.", LogTable), ("limits.", LimitsTable)],
}
# Tables within a table: each has its own heading.
TABLES_WITHIN = {"source", "replica", "replica_tls", "tls"}


def documented(title: str) -> dict[str, list[str]]:
    return {key: row[1:] for row in rows(section(PAGE, title)) for key in re.findall(r"`([\w.]+)`", row[0])}


def in_code(title: str) -> dict[str, FieldInfo]:
    return {
        f"{prefix}{field.name}": field
        for prefix, table in TABLES[title]
        for field in fields(table)
        if field.name not in TABLES_WITHIN
    }


@pytest.mark.parametrize("title", TABLES)
def test_every_key_is_there_and_no_other(title: str) -> None:
    # What is unsafe may be explained where the key stands that it loosens.
    named = set(re.findall(r"`(?:(?:admin|log|limits)\.)?(\w+)(?: = true)?`", section(PAGE, title)))
    keys = in_code(title)
    assert documented(title).keys() <= keys.keys()
    missing = {key for key in keys.keys() - documented(title).keys() if key.rpartition(".")[2] not in named}
    assert not missing
    assert all("unsafe_" in key for key in keys.keys() - documented(title).keys())


@pytest.mark.parametrize("title", TABLES)
def test_required_and_defaults_are_those_of_the_code(title: str) -> None:
    for key, field in in_code(title).items():
        said = documented(title).get(key, [""])[0]
        if field.required:
            assert said.startswith("required"), key
        elif isinstance(field.default, bool):
            assert said in {f"`{str(field.default).lower()}`", ""}, key
        elif isinstance(field.default, int | float):
            assert float(said) == field.default, key
        elif isinstance(field.default, str):
            assert said == f'`"{field.default}"`', key


@pytest.mark.parametrize("name", ["deployments.md", "migration.md", "quick-start.md"])
def test_configurations_that_are_shown_whole_can_be_used(name: str, tmp_path: Path) -> None:
    found = [block.text for block in blocks(DOCS / name) if block.language == "toml" and "[[route]]" in block.text]
    assert found
    for text in found:
        path = tmp_path / "proxy.toml"
        path.write_text(text)
        assert load_config(path).route
