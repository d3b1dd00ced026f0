"""Dialects."""

from __future__ import annotations

import pytest

from audit.catalogue import CHECKS, Benchmark, benchmark_for
from audit.facts import quoted
from audit.remedies import change_source, set_variable
from audit.versions import ServerVersion


@pytest.mark.parametrize(
    ("text", "product", "number", "is_known"),
    [
        ("5.7.44-log", "MySQL", (5, 7, 44), True),
        ("8.0.36-28 Percona", "MySQL", (8, 0, 36), True),
        ("5.5.5-10.11.8-MariaDB-log", "MariaDB", (10, 11, 8), True),
        ("11.8.2-MariaDB", "MariaDB", (11, 8, 2), True),
        ("26.1.0", "MySQL", (26, 1, 0), False),
        ("", "MySQL", (0, 0, 0), False),
    ],
)
def test_versions_are_read(text: str, product: str, number: tuple[int, int, int], is_known: bool) -> None:
    version = ServerVersion.parse(text)
    assert (version.product, version.number, version.is_known) == (product, number, is_known)


@pytest.mark.parametrize(
    ("version", "channel", "statements"),
    [
        ("9.7.4", "", [
            "STOP REPLICA FOR CHANNEL ''",
            "CHANGE REPLICATION SOURCE TO SOURCE_SSL = 1, GET_SOURCE_PUBLIC_KEY = 0 FOR CHANNEL ''",
            "START REPLICA FOR CHANNEL ''",
        ]),
        ("8.0.22", "c", [
            "STOP REPLICA FOR CHANNEL 'c'",
            "CHANGE MASTER TO MASTER_SSL = 1, GET_MASTER_PUBLIC_KEY = 0 FOR CHANNEL 'c'",
            "START REPLICA FOR CHANNEL 'c'",
        ]),
        ("5.7.44", "", [
            "STOP SLAVE FOR CHANNEL ''",
            "CHANGE MASTER TO MASTER_SSL = 1, GET_MASTER_PUBLIC_KEY = 0 FOR CHANNEL ''",
            "START SLAVE FOR CHANNEL ''",
        ]),
        ("10.11.1-MariaDB", "c", [
            "STOP SLAVE 'c'",
            "CHANGE MASTER 'c' TO MASTER_SSL = 1, GET_MASTER_PUBLIC_KEY = 0",
            "START SLAVE 'c'",
        ]),
    ],
)  # fmt: skip
def test_each_dialect_has_its_words(version: str, channel: str, statements: list[str]) -> None:
    options = {"SSL": "1", "GET_PUBLIC_KEY": "0"}
    assert change_source(ServerVersion.parse(version), channel, options, is_running=True) == statements
    assert change_source(ServerVersion.parse(version), channel, options, is_running=False) == statements[:-1]


def test_what_a_server_cannot_keep_goes_to_its_configuration() -> None:
    assert set_variable(ServerVersion.parse("8.0.1"), "read_only", "ON").kept == ()
    assert set_variable(ServerVersion.parse("5.7.1"), "read_only", "ON").kept == ("read_only = ON",)


def test_literals_end_where_they_end() -> None:
    assert quoted("a'; DROP USER root; -- \\") == "'a''; DROP USER root; -- \\\\'"


def test_each_server_has_its_benchmark_or_none() -> None:
    found = {
        text: benchmark_for(ServerVersion.parse(text)) for text in ("5.7.1", "8.0.1", "8.4.1", "9.7.1", "11.4-MariaDB")
    }
    assert list(found.values()) == [Benchmark.MYSQL_8, Benchmark.MYSQL_8, None, Benchmark.MYSQL_9, Benchmark.MARIADB]
    assert CHECKS["account-super"].cis == {
        Benchmark.MYSQL_9: "9.3", Benchmark.MYSQL_8: "9.4", Benchmark.MARIADB: "9.3"
    }  # fmt: skip
