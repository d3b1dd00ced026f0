"""The write load: small transactions with rows that are easy to recognise in a packet."""

import random
import secrets
import threading
import time
from typing import Self

from testbed.demo.links import TABLE
from testbed.servers import Server

ROWS_A_SECOND = 300
LARGEST_TRANSACTION_ROWS = 6
TRANSACTIONS_PER_UPDATE = 10
BODY_BYTES = (20, 400)
# A source that stalls is not punished with all that it missed.
LONGEST_DEBT_SECONDS = 1


class Load:
    """Writes in a thread of its own until stopped. A context manager: starts on entry, is stopped on exit.

    Attributes:
        rows: how many were inserted and committed.
        updates: how many were changed and committed.
        error: what ended it early; None otherwise.
    """

    def __init__(self, source: Server, marker: str) -> None:
        """Nothing is written yet.

        Args:
            source: where to write.
            marker: stands in every row.
        """
        self.rows = 0
        self.updates = 0
        self.error: Exception | None = None
        self._source = source
        self._marker = marker
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo load", daemon=True)

    def stop(self) -> None:
        """Finish the transaction at hand and end; a second call does nothing."""
        self._stopping.set()
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._write()
        except Exception as error:  # noqa: BLE001 - whoever reads the verdict is told
            self.error = error

    def _write(self) -> None:
        due = time.monotonic()
        transactions = 0
        with self._source.connection() as connection, connection.cursor() as cursor:
            while not self._stopping.is_set():
                bodies = [self._body() for _ in range(1 + secrets.randbelow(LARGEST_TRANSACTION_ROWS))]
                transactions += 1
                updating = transactions % TRANSACTIONS_PER_UPDATE == 0 and self.rows > 0
                connection.begin()
                cursor.execute(f"INSERT INTO {TABLE} (body) VALUES {', '.join(['(%s)'] * len(bodies))}", bodies)
                if updating:
                    number = 1 + secrets.randbelow(self.rows)
                    cursor.execute(f"UPDATE {TABLE} SET body = %s WHERE id = %s", (self._body(), number))
                connection.commit()
                self.rows += len(bodies)
                self.updates += updating
                due = max(due + len(bodies) / ROWS_A_SECOND, time.monotonic() - LONGEST_DEBT_SECONDS)
                self._stopping.wait(max(0.0, due - time.monotonic()))

    def _body(self) -> str:
        return f"{self._marker} {secrets.token_hex(random.randint(*BODY_BYTES) // 2)}"  # noqa: S311 - a length
