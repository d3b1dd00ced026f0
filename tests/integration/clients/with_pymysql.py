"""PyMySQL, and python-mysql-replication, which stands on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql
import pymysql.cursors
from pymysqlreplication import BinLogStreamReader  # type: ignore[import-untyped]
from pymysqlreplication.row_event import WriteRowsEvent  # type: ignore[import-untyped]

from tests.integration.clients.serving import Request, Row, serve


def settings(request: Request) -> dict[str, Any]:
    account = {name: request[name] for name in ("host", "port", "user", "password")}
    if not request["tls"]:
        return account
    ca, cert, key = (request["tls"][name] for name in ("ca", "cert", "key"))
    return account | {"ssl_ca": ca, "ssl_cert": cert, "ssl_key": key, "ssl_verify_identity": True}


def query(request: Request) -> list[Row]:
    with (
        pymysql.connect(**settings(request), cursorclass=pymysql.cursors.DictCursor) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(request["sql"])
        return list(cursor.fetchall())


def read(request: Request) -> Iterator[Row]:
    reader = BinLogStreamReader(
        connection_settings=settings(request),
        server_id=request["server_id"],
        only_events=[WriteRowsEvent],
        only_schemas=[request["schema"]],
        enable_logging=False,
        **({"blocking": True} | request["options"]),
    )
    try:
        for event in reader:
            yield from (row["values"] for row in event.rows)
    finally:
        reader.close()


if __name__ == "__main__":
    serve(query, read)
