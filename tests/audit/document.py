"""The tables of docs/audit.md that come from the code; tests hold the document to them."""

from __future__ import annotations

from audit.catalogue import CHECKS, Benchmark


def table_of_checks() -> list[str]:
    columns = [Benchmark.MYSQL_9, Benchmark.MYSQL_8, Benchmark.MARIADB]
    lines = [
        "| check | severity | what must hold | practice | MySQL 9.7 | MySQL 5.7, 8.0 | MariaDB 10.6 |",
        "|---|---|---|---|---|---|---|",
    ]
    for check in CHECKS.values():
        ids = " | ".join(check.cis.get(benchmark, "") for benchmark in columns)
        lines.append(
            f"| `{check.id}` | {check.severity} | {check.title} | {check.practice} | {ids} |".replace("|  |", "| |")
        )
    return [line.replace("|  |", "| |") for line in lines]
