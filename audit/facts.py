"""What was read of the servers: plain values, filled by `collecting`, judged by `checks`."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from audit.versions import ServerVersion

# MariaDB's read_only has more words than ON from 12.1 on.
_ON = frozenset({"ON", "1", "YES", "FORCE", "TRUE", "NO_LOCK", "NO_LOCK_NO_ADMIN"})
# Manual, "String Literals". What ends a line would end a comment before a statement, too.
_ESCAPES = str.maketrans({"\\": r"\\", "'": "''", "\n": r"\n", "\t": r"\t", "\r": r"\r", "\0": r"\0", "\x1a": r"\Z"})
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Role(enum.StrEnum):
    """What a server is in the replication that is audited."""

    SOURCE = "source"
    REPLICA = "replica"


class Transport(enum.StrEnum):
    """How the audit itself came in."""

    VERIFIED_TLS = "verified TLS"
    UNVERIFIED_TLS = "unverified TLS"
    UNIX_SOCKET = "unix socket"
    PLAINTEXT = "plaintext"


@dataclass(frozen=True)
class Unread:
    """A fact that could not be had.

    Attributes:
        reason: why, for a person.
        remedy: the GRANT or the setting that would allow it; empty where nothing would.
    """

    reason: str
    remedy: str = ""


@dataclass(frozen=True, order=True)
class AccountName:
    """A user and a host, as in `mysql.user`; a MariaDB role has no host."""

    user: str
    host: str

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" if self.host else self.user

    @property
    def sql(self) -> str:
        """As a statement has it."""
        return f"{quoted(self.user)}@{quoted(self.host)}" if self.host else quoted(self.user)

    @property
    def is_local(self) -> bool:
        """Whether it lets in nobody from the network."""
        return self.host.lower() in LOCAL_HOSTS

    @property
    def is_anybody(self) -> bool:
        """Whether a server with skip_grant_tables calls whoever logs in so; MariaDB gives no name at all."""
        return self.user == "skip-grants user" or not self.host

    @property
    def is_internal(self) -> bool:
        """Whether the server made it for itself; nobody can log in as such a one."""
        return self.user.startswith("mysql.") or self.user == "mariadb.sys"


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account or a role.

    Attributes:
        plugin: of its authentication.
        ssl_type: `` none, `ANY` REQUIRE SSL, `X509`, `SPECIFIED` a subject, an issuer or a cipher.
        has_password: None where the audit may not see, or where the plugin knows no passwords.
        guessed: which common password it has; empty for none of those; None where that was not tried.
        is_locked: None where the server does not say.
        privileges: global ones, as GRANT names them, without those of roles.
        grantable: whether it may hand them on (WITH GRANT OPTION).
        schema_privileges: by what stands behind ON, such as "`shop`.*".
        roles: those that were granted to it.
    """

    name: AccountName
    plugin: str = ""
    ssl_type: str = ""
    has_password: bool | None = None
    guessed: str | None = None
    is_locked: bool | None = None
    is_role: bool = False
    privileges: frozenset[str] = frozenset()
    grantable: bool = False
    schema_privileges: Mapping[str, frozenset[str]] = field(default_factory=dict)
    roles: tuple[AccountName, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dump:
    """A replica's connection, as the source sees it.

    Attributes:
        thread: the connection id.
        host: where from; a name where the server resolves names; without the port.
        transport: `SSL/TLS`, `TCP/IP` or `Socket` in the server's words; None where it does not say.
        tls_version: of an encrypted one, where the server says so.
        binlock: what Binlock says of its replica (`peer`, `replica`, `route`, `tls_version`...); empty for none.
    """

    thread: int
    user: str
    host: str
    transport: str | None
    tls_version: str = ""
    binlock: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_local(self) -> bool:
        """Whether it stays on the source's host."""
        return self.transport == "Socket" or is_loopback(self.host)


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A connection that a replica is configured with.

    Attributes:
        name: of the channel or connection; empty for the default one.
        lag_seconds: None where the server does not know.
        get_public_key: None where the dialect has no such option.
        tls_versions: None where the dialect has no such option.
        ciphersuites: of TLS 1.3; None where there is no such option, or it was not set.
    """

    name: str
    host: str
    port: int
    user: str
    io_running: str
    sql_running: str
    error: str
    lag_seconds: int | None
    has_tls: bool
    verifies: bool
    ca: str = ""
    crl: str = ""
    certificate: str = ""
    key: str = ""
    ciphers: str = ""
    ciphersuites: str | None = None
    tls_versions: str | None = None
    get_public_key: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The certificate that the server shows.

    Attributes:
        sha256: of its DER form, hexadecimal.
        is_auto_generated: made by the server for itself, as its text says.
    """

    sha256: str
    is_auto_generated: bool


@dataclass(frozen=True, kw_only=True)
class KeyFile:
    """The server's key, seen from the same host.

    Attributes:
        mode: permission bits.
    """

    path: str
    mode: int


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """All that was read of one server.

    Attributes:
        name: how messages call it, `host:port` or the socket's path.
        issued_name: that its certificate is, or is to be, issued for; empty where nothing says so.
        address: that the audit dialled; None for a unix socket.
        account: whom the audit logged in as.
        now: the server's own clock.
        variables: global ones, by lower-case name.
        status: of this session and of the server, by lower-case name.
        plugins: active plugins and components, by lower-case name.
        backup: when the last one ended that the server remembers; None for none.
    """

    name: str
    role: Role
    version: ServerVersion
    transport: Transport
    issued_name: str
    address: str | None
    account: AccountName
    now: datetime
    variables: Mapping[str, str]
    status: Mapping[str, str]
    plugins: frozenset[str] | Unread
    certificate: Certificate | Unread
    key_file: KeyFile | Unread
    accounts: tuple[Account, ...] | Unread
    dumps: tuple[Dump, ...] | Unread
    channels: tuple[Channel, ...] | Unread
    backup: datetime | Unread | None
    keyring: bool | Unread

    def variable(self, *names: str) -> str | None:
        """The first of these variables that the server has."""
        return next((self.variables[name] for name in names if name in self.variables), None)

    def is_on(self, *names: str) -> bool:
        """Whether the first of these variables that there is is on."""
        return (self.variable(*names) or "").upper() in _ON


@dataclass(frozen=True)
class Unreachable:
    """A server that could not be read at all."""

    name: str
    role: Role
    reason: str


@dataclass(frozen=True)
class ProxySession:
    """A stream that Binlock says it carries: one object of `/sessions`.

    Attributes:
        peer: address and port that the replica connects from.
        tls_version: of the replica's leg; empty for plaintext.
        source_tls_version: of the leg to the source; empty for plaintext.
    """

    route: str
    replica: str
    peer: str
    account: str
    tls_version: str
    source_tls_version: str

    @property
    def peer_host(self) -> str:
        """The peer without its port."""
        return self.peer.rpartition(":")[0].strip("[]")


@dataclass(frozen=True)
class Topology:
    """Everything that is judged together: one source, its replicas, and what Binlock carries between them."""

    servers: tuple[ServerFacts, ...]
    unreachable: tuple[Unreachable, ...] = ()
    sessions: tuple[ProxySession, ...] = ()

    @property
    def source(self) -> ServerFacts | None:
        """The source, unless it could not be read."""
        return next((server for server in self.servers if server.role is Role.SOURCE), None)

    def is_source(self, server: ServerFacts) -> bool:
        """Whether a server is the source, be it in another role: two servers may replicate from each other."""
        return self.source is not None and self.source.name == server.name

    @property
    def replicas(self) -> tuple[ServerFacts, ...]:
        """The replicas that could be read."""
        return tuple(server for server in self.servers if server.role is Role.REPLICA)

    def dumps(self) -> tuple[Dump, ...]:
        """Every connection of a replica that any of the servers sees; a replica may have replicas too."""
        return tuple(dump for server in self.servers if not isinstance(server.dumps, Unread) for dump in server.dumps)

    def channels(self) -> tuple[Channel, ...]:
        """What all replicas replicate from."""
        return tuple(
            channel
            for replica in self.replicas
            if not isinstance(replica.channels, Unread)
            for channel in replica.channels
        )


def quoted(text: str) -> str:
    """A string literal on one line; the session's NO_BACKSLASH_ESCAPES must be off, as it is by default."""
    return f"'{text.translate(_ESCAPES)}'"


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address, is this very host."""
    if host.lower() in LOCAL_HOSTS or host == "":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
