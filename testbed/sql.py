"""What root can ask of a server over its unix socket, whatever network namespace the server runs in."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pymysql.cursors
from pymysql.connections import Connection
from pymysql.constants import CLIENT

POLL_SECONDS = 0.05
READ_SECONDS = 300


class SqlAccess:
    """Statements as root without a password, each on a connection of its own, so that any thread may ask.

    Attributes:
        socket_path: the server's unix socket.
    """

    socket_path: Path

    @contextlib.contextmanager
    def connection(self, *, database: str | None = None, multi_statements: bool = False) -> Iterator["Connection[Any]"]:
        """A connection in autocommit, closed at the end.

        Raises:
            OSError: the server does not listen.
        """
        connection = pymysql.connect(
            user="root",
            database=database,
            autocommit=True,
            charset="utf8mb4",
            cursorclass=pymysql.cursors.DictCursor,
            client_flag=CLIENT.MULTI_STATEMENTS if multi_statements else 0,
            read_timeout=READ_SECONDS,
            defer_connect=True,
        )
        # PyMySQL leaves a socket open that it could not connect.
        with socket.socket(socket.AF_UNIX) as unix_socket:
            unix_socket.connect(str(self.socket_path))
            connection.connect(unix_socket)
            with connection:
                yield connection

    def sql(self, statement: str, *arguments: Any, database: str | None = None) -> list[dict[str, Any]]:
        """Run one statement; `%s` stands for each argument.

        Returns:
            The rows by column name; [] for a statement that has no result.
        """
        with self.connection(database=database) as connection, connection.cursor() as cursor:
            # Without arguments PyMySQL leaves a per cent sign alone.
            cursor.execute(statement, arguments or None)
            return list(cursor.fetchall())

    def scalar(self, statement: str, *arguments: Any) -> Any:
        """The first column of the first row; None without a row."""
        rows = self.sql(statement, *arguments)
        return next(iter(rows[0].values())) if rows else None

    def execute_script(self, script: str, *, database: str | None = None) -> None:
        """Run statements separated by semicolons, on one connection."""
        with (
            self.connection(database=database, multi_statements=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(script)
            while cursor.nextset():
                pass

    def wait_until(self, condition: Callable[[], object] | str, *, timeout: float = 60, what: str = "") -> None:
        """Poll until a function returns something true, or an SQL statement's first value is true.

        Raises:
            TimeoutError: not within `timeout` seconds; the text has what `describe_state` says.
        """
        deadline = time.monotonic() + timeout
        while not (self.scalar(condition) if isinstance(condition, str) else condition()):
            if time.monotonic() > deadline:
                wanted = what or (condition if isinstance(condition, str) else "a condition")
                raise TimeoutError(f"{self} waited {timeout} s for {wanted}{self.describe_state()}")
            time.sleep(POLL_SECONDS)

    def describe_state(self) -> str:
        """What a person needs to know when waiting was in vain."""
        return ""

    def table_checksums(self, schema: str) -> dict[str, int]:
        """CHECKSUM TABLE of every table of a schema; comparable between servers of one product."""
        listing = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = %s"
        names = sorted(row["name"] for row in self.sql(listing, schema))
        if not names:
            return {}
        rows = self.sql("CHECKSUM TABLE " + ", ".join(f"`{schema}`.`{name}`" for name in names))
        return {name: row["Checksum"] for name, row in zip(names, rows, strict=True)}

    def row_count(self, table: str) -> int:
        """The number of rows of `schema.table`."""
        return int(self.scalar(f"SELECT COUNT(*) FROM {table}"))
