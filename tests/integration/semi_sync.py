"""Commits that wait for a replica, in both dialects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from tests.integration.conftest import Pair
from tests.integration.lab import Table

WaitPoint = Literal["AFTER_SYNC", "AFTER_COMMIT"]


class SemiSync:
    """What a pair says of itself while its commits are semi-synchronous."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        words = ("master", "slave") if pair.flavour.is_mariadb else ("source", "replica")
        self.prefixes = tuple(f"rpl_semi_sync_{word}" for word in words)

    def status(self, what: str) -> str:
        """One of the source's status variables, by what follows the prefix."""
        [row] = self._pair.source.sql(f"SHOW GLOBAL STATUS LIKE '{self.prefixes[0]}_{what}'")
        return str(row["Value"])

    def count(self, what: str) -> int:
        return int(self.status(what))

    def counts(self) -> tuple[int, int]:
        """How many commits were acknowledged, and how many did not wait to the end."""
        return self.count("yes_tx"), self.count("no_tx")

    def acknowledgements_received(self) -> int:
        """By the source, ever; 0 where it does not count them, which is MySQL."""
        return self.count("get_ack") if self._pair.flavour.is_mariadb else 0

    def enable_replica(self) -> None:
        """As it is after a restart, when the setting is gone; it is read when the I/O thread starts."""
        self._pair.replica.stop_replication()
        self._pair.replica.sql(f"SET GLOBAL {self.prefixes[1]}_enabled = 1")
        self._pair.replica.start_replication()

    def wait_for_replica(self) -> None:
        self._pair.replica.wait_for_replication()
        # One that has left counts as a client until the source writes to it, or its successor asks for the stream.
        dumps = "SELECT COUNT(*) = 1 FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
        self._pair.source.wait_until(
            lambda: self._pair.source.scalar(dumps) and self.count("clients") == 1,
            what="the source to know its semi-synchronous replica",
        )

    def settle(self, table: Table) -> None:
        """Until no acknowledgement is on its way: one more may have been asked for while the replica caught up."""
        table.insert(1)
        self._pair.source.wait_until(lambda: self.status("status") == "ON", what="semi-synchronous replication")
        # This commit waits for the answer that comes behind all the others.
        table.insert(1)

    def wait_for_waiting_commit(self) -> None:
        """Wait until one commit waits for its acknowledgement.

        Raises:
            TimeoutError: none does; with all that the source says.
        """
        try:
            self._pair.source.wait_until(lambda: self.count("wait_sessions") == 1, what="the commit to wait")
        except TimeoutError as error:
            said = self._pair.source.sql(f"SHOW GLOBAL STATUS LIKE '{self.prefixes[0]}%%'")
            running = self._pair.source.sql("SHOW FULL PROCESSLIST")
            raise TimeoutError(f"{error}; {said}; {running}") from None


@contextmanager
def semi_synchronous(pair: Pair, *, timeout_seconds: int, wait_point: WaitPoint = "AFTER_SYNC") -> Iterator[SemiSync]:
    """Commits wait for the replica for the duration; it must connect within it."""
    semi_sync = SemiSync(pair)
    ends = list(zip((pair.source, pair.replica), semi_sync.prefixes, strict=True))
    if not pair.flavour.is_mariadb:
        # It stays, disabled, for it cannot be uninstalled while a connection lingers.
        for server, prefix in ends:
            if not server.sql("SELECT 1 FROM information_schema.plugins WHERE plugin_name = %s", prefix):
                server.sql(f"INSTALL PLUGIN {prefix} SONAME 'semisync_{prefix.rpartition('_')[2]}.so'")
    pair.source.sql(f"SET GLOBAL {semi_sync.prefixes[0]}_timeout = {timeout_seconds * 1000}")
    pair.source.sql(f"SET GLOBAL {semi_sync.prefixes[0]}_wait_point = {wait_point}")
    for server, prefix in ends:
        server.sql(f"SET GLOBAL {prefix}_enabled = 1")
    try:
        yield semi_sync
    finally:
        for server, prefix in ends:
            server.sql(f"SET GLOBAL {prefix}_enabled = 0")
