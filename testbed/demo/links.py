"""A link: one replica, the deployment between it and the source, and how to see its state."""

import dataclasses
import enum
from typing import Any

import pymysql

from testbed.demo.sidecars import Sidecar
from testbed.hosts import Host
from testbed.replication import ReplicaTls
from testbed.servers import Server

SCHEMA = "demo_shop"
TABLE = f"{SCHEMA}.demo_orders"
PASSWORD = "correct horse battery"
# Whose certificate the source holds the account to, for those of its connections that replicate.
REQUIRED_SUBJECT = """
SELECT CONVERT(account.x509_subject USING utf8mb4)
FROM performance_schema.threads AS thread JOIN mysql.user AS account
  ON (account.user, account.host) = (thread.processlist_user, thread.processlist_host)
WHERE account.user = %s AND thread.processlist_command LIKE 'Binlog Dump%%'"""


class Deployment(enum.StrEnum):
    """Where Binlock stands."""

    SOURCE_SIDE = "source-side"
    REPLICA_SIDE = "replica-side"
    TUNNEL = "tunnel"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinkState:
    """A link at one moment; None or an empty text for what could not be learnt.

    Attributes:
        identity: whom the source's side took the replica for: the SAN of its certificate.
        tls_version: of the leg that crosses the network, as are `cipher` and `group`.
        relayed: bytes from source to replica in this session.
    """

    name: str
    deployment: Deployment
    rows: int | None = None
    io_running: str = ""
    sql_running: str = ""
    errors: str = ""
    identity: str = ""
    tls_version: str = ""
    cipher: str = ""
    group: str = ""
    relayed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Link:
    """One replica and its way to the source.

    Attributes:
        account: the replication account on the source, for this replica only.
        identity: the name in the certificate that the source's side must see.
        connect_to: where the replica's own connection goes: address and port.
        tls: what the replica itself is told about TLS; None for plaintext to the proxy on its own host.
        sidecar: the proxy at one end of the leg that crosses the network.
        leg: which of that proxy's legs it is: `replica` or `source`.
        source: the server at the end of it all.
    """

    name: str
    deployment: Deployment
    host: Host
    replica: Server
    account: str
    identity: str
    connect_to: tuple[str, int]
    tls: ReplicaTls | None
    sidecar: Sidecar
    leg: str
    source: Server

    def start_replication(self) -> None:
        """Point the replica at the source and start; returns at once."""
        address, port = self.connect_to
        self.replica.replicate_from(
            host=address,
            port=port,
            user=self.account,
            password=PASSWORD,
            tls=self.tls,
            # caching_sha2_password sends the password over a plaintext connection under the server's RSA key only.
            get_source_public_key=self.tls is None,
        )

    def state(self) -> LinkState:
        """How it stands now; never raises because something does not answer."""
        state = LinkState(name=self.name, deployment=self.deployment)
        try:
            status = self.replica.replica_status()
            state = dataclasses.replace(
                state, io_running=status.io_running, sql_running=status.sql_running, errors=status.errors
            )
            # Rows are only ever added, one number each: as good as COUNT(*), without reading the table every second.
            state = dataclasses.replace(state, rows=int(self.replica.scalar(f"SELECT MAX(id) FROM {TABLE}") or 0))
        except LookupError:
            pass  # not told to replicate yet
        except pymysql.err.ProgrammingError:
            state = dataclasses.replace(state, rows=0)  # the table has not arrived yet
        except (OSError, pymysql.err.MySQLError) as error:
            state = dataclasses.replace(state, errors=f"the replica does not answer: {error}")
        return dataclasses.replace(state, **self._transport())

    def _transport(self) -> dict[str, Any]:
        """The fields of a state that the proxy's `/sessions` has, and whom the source's side sees."""
        try:
            sessions = self.sidecar.sessions()
        except OSError:
            return {}
        mine = [row for row in sessions if row.get("replica") == self.name and row.get("stage") == "relay"]
        if not mine:
            return {}
        newest = max(mine, key=lambda row: int(row["session"]))
        shown = {field: newest.get(f"{self.leg}_tls_{field}", "") for field in ("version", "cipher", "group")}
        return {
            "identity": newest.get("identity", "") if self.leg == "replica" else self._required_identity(),
            "tls_version": shown["version"],
            "cipher": shown["cipher"],
            "group": shown["group"],
            "relayed": newest["bytes_to_replica"],
        }

    def _required_identity(self) -> str:
        """What mysqld knows about the holder of this link's connection, where mysqld itself ends the TLS."""
        try:
            subject = self.source.scalar(REQUIRED_SUBJECT, self.account)
        except (OSError, pymysql.err.MySQLError):
            return ""
        return str(subject or "").removeprefix("/CN=")
