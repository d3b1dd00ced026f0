"""Replication statements in both dialects, and one shape for what both answer."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed.flavours import Flavour

# Value of an option in a CHANGE ... TO statement; a bool is written as 0 or 1.
Option = str | int | float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplicaTls:
    """What a replica is told about TLS towards its source; None leaves the server's default."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    crl: Path | None = None
    verify_server_cert: bool = True
    cipher: str | None = None
    tls_version: str | None = None  # MySQL only
    ciphersuites: str | None = None  # MySQL only


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplicaStatus:
    """SHOW REPLICA STATUS by what both dialects have; `raw` is the whole row under the server's own names."""

    io_running: str  # "Yes", "Connecting" or "No"; MariaDB also says "Preparing"
    sql_running: str
    last_io_errno: int
    last_io_error: str
    last_sql_errno: int
    last_sql_error: str
    seconds_behind: int | None
    source_log_file: str
    read_source_log_pos: int
    executed_gtids: str
    raw: Mapping[str, Any]

    @property
    def running(self) -> bool:
        """Whether both threads run and the connection to the source stands."""
        return self.io_running == "Yes" and self.sql_running == "Yes"

    @property
    def errors(self) -> str:
        """Both threads' last errors, for a person to read; empty when there are none."""
        return "; ".join(
            f"{errno} {error}"
            for errno, error in (
                (self.last_io_errno, self.last_io_error),
                (self.last_sql_errno, self.last_sql_error),
            )
            if errno
        )


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The words that differ."""

    start: str
    stop: str
    reset: str
    status: str
    binlog_status: str
    executed_gtids: str
    wait_for_gtids: str
    status_words: tuple[str, str]  # of SHOW REPLICA STATUS: what the replica and the source are called
    gtid_column: str


MYSQL = Dialect(
    start="START REPLICA",
    stop="STOP REPLICA",
    reset="RESET REPLICA ALL",
    status="SHOW REPLICA STATUS",
    binlog_status="SHOW BINARY LOG STATUS",
    executed_gtids="SELECT @@GLOBAL.gtid_executed AS gtids",
    wait_for_gtids="SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s) AS missed",
    status_words=("Replica", "Source"),
    gtid_column="Executed_Gtid_Set",
)
MARIADB = Dialect(
    start="START SLAVE",
    stop="STOP SLAVE",
    reset="RESET SLAVE ALL",
    status="SHOW ALL SLAVES STATUS",  # has Gtid_Slave_Pos, which SHOW SLAVE STATUS has not
    binlog_status="SHOW MASTER STATUS",
    executed_gtids="SELECT @@GLOBAL.gtid_current_pos AS gtids",
    wait_for_gtids="SELECT MASTER_GTID_WAIT(%s, %s) AS missed",
    status_words=("Slave", "Master"),
    gtid_column="Gtid_Slave_Pos",
)


def dialect(flavour: Flavour) -> Dialect:
    """The dialect of a flavour."""
    return MARIADB if flavour.is_mariadb else MYSQL


def change_source(
    flavour: Flavour,
    *,
    host: str,
    port: int,
    user: str,
    password: str,
    auto_position: bool,
    position: tuple[str, int] | None,
    tls: ReplicaTls | None,
    get_source_public_key: bool,
    connect_retry_seconds: int,
    retry_count: int | None,
    bind: str | None,
    heartbeat_period: float | None,
    compression: str = "uncompressed",
) -> tuple[str, list[Option]]:
    """CHANGE REPLICATION SOURCE TO or CHANGE MASTER TO with placeholders, and their values.

    Raises:
        ValueError: the dialect has no such option.
    """
    word = "MASTER" if flavour.is_mariadb else "SOURCE"
    options: dict[str, Option] = {
        f"{word}_HOST": host,
        f"{word}_PORT": port,
        f"{word}_USER": user,
        f"{word}_PASSWORD": password,
        f"{word}_CONNECT_RETRY": connect_retry_seconds,
    }
    if bind is not None:
        options[f"{word}_BIND"] = bind
    if heartbeat_period is not None:
        options[f"{word}_HEARTBEAT_PERIOD"] = heartbeat_period
    if not flavour.is_mariadb:
        # The server's own 10 would end replication ten seconds after its source went away.
        options["SOURCE_RETRY_COUNT"] = retry_count or 86400
    elif retry_count is not None:
        raise ValueError("MariaDB takes the number of retries as a server option: master-retry-count")
    if position is not None:
        options[f"{word}_LOG_FILE"], options[f"{word}_LOG_POS"] = position
    options |= _tls_options(flavour, word, tls)
    if flavour.is_mariadb:
        using = "slave_pos" if auto_position else "no"
        keyword = f", MASTER_USE_GTID = {using}"
        command = "CHANGE MASTER TO"
        if compression == "zstd":
            raise ValueError("MariaDB has no zstd in its protocol")
    else:
        options["SOURCE_COMPRESSION_ALGORITHMS"] = compression
        options["SOURCE_AUTO_POSITION"] = auto_position
        options["GET_SOURCE_PUBLIC_KEY"] = get_source_public_key
        keyword = ""
        command = "CHANGE REPLICATION SOURCE TO"
    assignments = ", ".join(f"{name} = %s" for name in options)
    return f"{command} {assignments}{keyword}", list(options.values())


def _tls_options(flavour: Flavour, word: str, tls: ReplicaTls | None) -> dict[str, Option]:
    """Every option is written, since the server keeps what an earlier statement said."""
    if tls is None:
        # Verification alone would turn TLS on in MariaDB 11.8.
        return {f"{word}_SSL": 0, f"{word}_SSL_VERIFY_SERVER_CERT": 0}
    options: dict[str, Option] = {
        f"{word}_SSL": 1,
        f"{word}_SSL_CA": str(tls.ca or ""),
        f"{word}_SSL_CERT": str(tls.cert or ""),
        f"{word}_SSL_KEY": str(tls.key or ""),
        f"{word}_SSL_CRL": str(tls.crl or ""),
        f"{word}_SSL_CIPHER": tls.cipher or "",
        f"{word}_SSL_VERIFY_SERVER_CERT": int(tls.verify_server_cert),
    }
    if flavour.is_mariadb:
        if tls.tls_version or tls.ciphersuites:
            raise ValueError("MariaDB's CHANGE MASTER has neither a TLS version nor TLS 1.3 ciphersuites")
        return options
    options["SOURCE_TLS_VERSION"] = tls.tls_version or ""
    if tls.ciphersuites is not None:
        options["SOURCE_TLS_CIPHERSUITES"] = tls.ciphersuites  # the empty string would allow none
    return options


def parse_status(flavour: Flavour, row: Mapping[str, Any]) -> ReplicaStatus:
    """The row of SHOW REPLICA STATUS or SHOW ALL SLAVES STATUS."""
    words = dialect(flavour)
    replica, source = words.status_words
    return ReplicaStatus(
        io_running=row[f"{replica}_IO_Running"],
        sql_running=row[f"{replica}_SQL_Running"],
        last_io_errno=row["Last_IO_Errno"],
        last_io_error=row["Last_IO_Error"],
        last_sql_errno=row["Last_SQL_Errno"],
        last_sql_error=row["Last_SQL_Error"],
        seconds_behind=row[f"Seconds_Behind_{source}"],
        source_log_file=row[f"{source}_Log_File"],
        read_source_log_pos=row[f"Read_{source}_Log_Pos"],
        executed_gtids=row[words.gtid_column].replace("\n", ""),
        raw=row,
    )
