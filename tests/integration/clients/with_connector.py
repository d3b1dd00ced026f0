"""mysql-connector-python, as its C extension and as pure Python."""

from __future__ import annotations

# Before anything else loads an OpenSSL: the extension needs the one in its wheel, which Debian 12's would displace.
import _mysql_connector  # type: ignore[import-not-found]  # noqa: F401

# isort: split
from typing import Any

import mysql.connector

from tests.integration.clients.serving import Request, Row, serve


def settings(request: Request) -> dict[str, Any]:
    account = {name: request[name] for name in ("host", "port", "user", "password")}
    account |= {"use_pure": request["client"].endswith("pure"), "compress": request["compress"]}
    if not request["tls"]:
        return account
    ca, cert, key = (request["tls"][name] for name in ("ca", "cert", "key"))
    return account | {"ssl_ca": ca, "ssl_cert": cert, "ssl_key": key, "ssl_verify_identity": True}


def query(request: Request) -> list[Row]:
    with mysql.connector.connect(**settings(request)) as connection, connection.cursor(dictionary=True) as cursor:
        cursor.execute(request["sql"])
        return list(cursor.fetchall())


if __name__ == "__main__":
    serve(query)
