"""The configuration file: TOML, read whole at start, every error with the file, the key and the reason.

The structures mirror the file key by key (see docs/configuration.md). What needs more than one key to judge (a
plaintext leg that leaves the machine, a roster without identities) is judged by `_judge_route`.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from proxy.configuration.addresses import Address, TcpAddress, parse_address
from proxy.sql.queries import BadPattern, CustomQueries

# AEAD with forward secrecy only; OpenSSL's names (openssl-ciphers(1), section "TLS v1.2 cipher suites").
DEFAULT_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
# RFC 8446 section B.4, without the CCM suites.
DEFAULT_CIPHERSUITES = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
# Hybrid post-quantum first (draft-ietf-tls-ecdhe-mlkem), then the classical curves that MySQL's own OpenSSL knows.
DEFAULT_GROUPS = ("X25519MLKEM768", "X25519", "P-256", "P-384")

TlsVersion = Literal["TLSv1.2", "TLSv1.3"]
PolicyName = Literal["replication", "backup", "any"]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
ProxyProtocolVersion = Literal["v1", "v2"]
ServerId = Annotated[int, msgspec.Meta(ge=1, le=0xFFFFFFFF)]


class ConfigError(Exception):
    """The configuration cannot be used. The text names the file, the key and the reason, and says what to do."""


class _Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    pass


class TlsTable(_Table, frozen=True):
    """`[route.replica_tls]` and `[route.source.tls]`: what one TLS leg presents, trusts and accepts."""

    ca: str
    certificate: str | None = None
    key: str | None = None
    crl: tuple[str, ...] = ()
    versions: tuple[TlsVersion, ...] = ("TLSv1.2", "TLSv1.3")
    ciphers: tuple[str, ...] = DEFAULT_CIPHERS
    ciphersuites: tuple[str, ...] = DEFAULT_CIPHERSUITES
    groups: tuple[str, ...] = DEFAULT_GROUPS
    server_name: str | None = None


class SourceTable(_Table, frozen=True):
    """`[route.source]`: where the source listens, and TLS towards it."""

    address: str
    tls: TlsTable | None = None
    unsafe_plaintext: bool = False
    send_proxy_protocol: ProxyProtocolVersion | None = None


class ReplicaTable(_Table, frozen=True):
    """`[[route.replica]]`: one line of the roster."""

    accounts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    identity: str | None = None
    name: str | None = None
    server_ids: tuple[ServerId, ...] = ()
    addresses: tuple[str, ...] | None = None


class RouteTable(_Table, frozen=True):
    """`[[route]]`: one listener and the source behind it."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    listen: str
    allow: tuple[str, ...]
    source: SourceTable
    replica: tuple[ReplicaTable, ...]
    replica_tls: TlsTable | None = None
    policy: PolicyName = "replication"
    queries: tuple[str, ...] = ()
    unsafe_queries: tuple[str, ...] = ()
    enforce: bool = True
    connection_attributes: bool = True
    proxy_protocol_from: tuple[str, ...] = ()
    unsafe_plaintext_listen: bool = False


class AdminTlsTable(_Table, frozen=True):
    """`[admin.tls]`: what the admin endpoint shows, and whose certificates it lets in."""

    certificate: str
    key: str
    ca: str
    crl: tuple[str, ...] = ()


class AdminTable(_Table, frozen=True):
    """`[admin]`: the HTTP listener for `/metrics`, `/healthz`, `/readyz` and `/sessions`."""

    listen: str = "127.0.0.1:9307"
    tls: AdminTlsTable | None = None
    unsafe_listen: bool = False


class LogTable(_Table, frozen=True):
    """`[log]`: one line an event, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class LimitsTable(_Table, frozen=True):
    """`[limits]`: what bounds a peer that is slow, silent or many."""

    # A replica gives up after replica_net_timeout (60 s); a login takes well under a second even across a continent.
    connection_phase_seconds: Seconds = 10
    source_connect_seconds: Seconds = 5
    # Each costs a connection on the source, whose own default for max_connections is 151.
    unauthenticated_sessions: Count = 100
    unauthenticated_sessions_per_address: Count = 20
    sessions: Count = 10_000
    drain_seconds: Seconds = 10
    # RFC 8446 section 5.5: 2^24.5 records keep the advantage against AES-GCM at 2^-57. The rest is room for the
    # moment between reaching this and ending.
    tls_key_records: Annotated[int, msgspec.Meta(ge=1000, le=2**24)] = 2**23
    session_max_age_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0


class Config(_Table, frozen=True):
    """The whole file."""

    route: Annotated[tuple[RouteTable, ...], msgspec.Meta(min_length=1)]
    admin: AdminTable = AdminTable()
    log: LogTable = LogTable()
    limits: LimitsTable = LimitsTable()


def load_config(path: Path) -> Config:
    """Reads and judges a configuration file. Relative paths in it start at the file's own folder.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or asks for something that cannot or must not be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        config = msgspec.toml.decode(text, type=Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explained(str(error))}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    names = [route.name for route in config.route]
    listens = [route.listen for route in config.route]
    try:
        _refuse_repetition("route.name", names)
        _refuse_repetition("route.listen", [listen for listen in listens if not listen.endswith(":0")])
        _judge_admin(config.admin)
        for route in config.route:
            _judge_route(route)
    except _KeyFault as fault:
        raise ConfigError(f"{path}: {fault}") from fault
    return config


class _KeyFault(Exception):  # noqa: N818
    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")


def _judge_admin(admin: AdminTable) -> None:
    address = _address("admin.listen", admin.listen)
    if not address.is_loopback and admin.tls is None and not admin.unsafe_listen:
        raise _KeyFault(
            "admin.listen",
            f"{admin.listen} can be reached from other machines, and the sessions and addresses it shows with it; "
            "listen on 127.0.0.1 or a unix socket, add [admin.tls], or set admin.unsafe_listen = true",
        )
    if admin.tls is not None and not isinstance(address, TcpAddress):
        raise _KeyFault(
            "admin.tls", "a unix socket is guarded by its mode, 0660; leave tls out, or listen on host:port"
        )


def _judge_route(route: RouteTable) -> None:
    where = f"route {route.name!r}"
    listen = _address(f"{where}: listen", route.listen)
    if not isinstance(listen, TcpAddress):
        raise _KeyFault(f"{where}: listen", "a replica cannot connect to a unix socket; give host:port")
    if route.replica_tls is None and not listen.is_loopback and not route.unsafe_plaintext_listen:
        raise _KeyFault(
            f"{where}: listen",
            f"{route.listen} is a plaintext leg that leaves the machine; listen on 127.0.0.1, add "
            "[route.replica_tls], or set unsafe_plaintext_listen = true",
        )
    source = _address(f"{where}: source.address", route.source.address)
    if route.source.tls is None and not source.is_loopback and not route.source.unsafe_plaintext:
        raise _KeyFault(
            f"{where}: source.address",
            f"{route.source.address} is a plaintext leg that leaves the machine; use a unix socket or 127.0.0.1, add "
            "[route.source.tls], or set source.unsafe_plaintext = true",
        )
    if not route.allow:
        raise _KeyFault(
            f"{where}: allow",
            "is empty, so that no replica could connect; name networks such as 10.20.0.0/16",
        )
    _judge_networks(f"{where}: allow", route.allow)
    _judge_networks(f"{where}: proxy_protocol_from", route.proxy_protocol_from)
    _judge_queries(where, route)
    _judge_tls(where, route)
    _judge_roster(where, route)


def _judge_queries(where: str, route: RouteTable) -> None:
    for key, patterns, unsafe_patterns in (
        ("queries", route.queries, ()),
        ("unsafe_queries", (), route.unsafe_queries),
    ):
        if route.policy == "any" and (patterns or unsafe_patterns):
            raise _KeyFault(f"{where}: {key}", "adds nothing to policy = 'any'; leave it out, or choose another policy")
        try:
            CustomQueries(patterns, unsafe_patterns=unsafe_patterns)
        except BadPattern as error:
            raise _KeyFault(f"{where}: {key}", str(error)) from error


def _judge_tls(where: str, route: RouteTable) -> None:
    for key, table in (("replica_tls", route.replica_tls), ("source.tls", route.source.tls)):
        if table is not None:
            _judge_allowlists(f"{where}: {key}", table)
    if (tls := route.replica_tls) is not None:
        if tls.certificate is None or tls.key is None:
            raise _KeyFault(f"{where}: replica_tls", "needs certificate and key, which replicas verify")
        if tls.server_name is not None:
            raise _KeyFault(f"{where}: replica_tls.server_name", "belongs to [route.source.tls]")
    if (tls := route.source.tls) is not None:
        if (tls.certificate is None) != (tls.key is None):
            raise _KeyFault(f"{where}: source.tls", "certificate and key go together")
        if not isinstance(_address("source.address", route.source.address), TcpAddress) and tls.server_name is None:
            raise _KeyFault(f"{where}: source.tls.server_name", "is needed to verify a source behind a unix socket")


def _judge_allowlists(where: str, table: TlsTable) -> None:
    for field in ("versions", "groups"):
        if not getattr(table, field):
            raise _KeyFault(
                f"{where}.{field}", "is empty, so that no handshake could succeed; leave it out for the default"
            )
    if "TLSv1.2" in table.versions and not table.ciphers:
        raise _KeyFault(f"{where}.ciphers", "is empty while TLSv1.2 is allowed")
    if "TLSv1.3" in table.versions and not table.ciphersuites:
        raise _KeyFault(f"{where}.ciphersuites", "is empty while TLSv1.3 is allowed")


def _judge_roster(where: str, route: RouteTable) -> None:
    if not route.replica:
        raise _KeyFault(
            f"{where}: replica", "the roster is empty, so that nobody could log in; add a [[route.replica]]"
        )
    for replica in route.replica:
        _judge_identity(f"{where}: replica.identity", replica.identity)
        if replica.addresses is not None:
            _judge_networks(f"{where}: replica.addresses", replica.addresses)
            if not replica.addresses:
                raise _KeyFault(f"{where}: replica.addresses", "is empty; leave it out for any that the route allows")
        if route.replica_tls is not None and replica.identity is None:
            raise _KeyFault(
                f"{where}: replica.identity",
                f"is missing for accounts {', '.join(replica.accounts)}; name the certificate's SAN",
            )
        if route.replica_tls is None and replica.identity is not None:
            raise _KeyFault(
                f"{where}: replica.identity",
                f"{replica.identity!r} cannot be verified on a plaintext leg; leave it out and give a name instead",
            )
        if replica.identity is None and replica.name is None:
            raise _KeyFault(f"{where}: replica.name", "is needed where there is no identity; it labels the metrics")
    _refuse_repetition(f"{where}: replica.name", [replica.name or replica.identity or "" for replica in route.replica])


def _judge_networks(key: str, networks: tuple[str, ...]) -> None:
    for network in networks:
        try:
            parsed = ipaddress.ip_network(network)
        except ValueError as error:
            raise _KeyFault(key, f"{error}; write a network such as 10.20.0.0/16 or one address") from error
        if isinstance(parsed, ipaddress.IPv6Network) and parsed.network_address.ipv4_mapped is not None:
            raise _KeyFault(key, f"{network}: write an IPv4 network as such, without ::ffff:")


def _judge_identity(key: str, identity: str | None) -> None:
    if identity is None:
        return
    if not identity.isascii() or not identity.strip():
        raise _KeyFault(
            key, f"{identity!r} is no DNS name and no URI; write a name outside ASCII as its A-label (xn--...)"
        )
    if "*" in identity and (
        "://" in identity or "*" in identity[1:] or not identity.startswith("*.") or "." not in identity[2:]
    ):
        raise _KeyFault(
            key, f"{identity!r}: a wildcard stands for one whole leading label of a DNS name, as in *.replicas.example"
        )


def _refuse_repetition(key: str, values: list[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise _KeyFault(key, f"{value!r} is given more than once")


def _address(key: str, text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise _KeyFault(key, str(error)) from error


def _explained(message: str) -> str:
    """What msgspec says, with the nearest known key added where a key is unknown."""
    unknown = re.search(r"unknown field `([^`]+)`(?: - at `\$\.?([^`]*)`)?", message)
    if unknown is None:
        return message.replace("$.", "").replace("`$`", "the file")
    field, path = unknown.group(1), unknown.group(2) or ""
    table = _table_at(re.sub(r"\[[^\]]*\]", "", path))
    near = difflib.get_close_matches(field, table.__struct_fields__, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(table.__struct_fields__)}"
    return f"unknown key {field!r}{f' in {path}' if path else ''}; {hint}"


def _table_at(path: str) -> type[_Table]:
    tables: dict[str, type[_Table]] = {
        "": Config,
        "admin": AdminTable,
        "admin.tls": AdminTlsTable,
        "log": LogTable,
        "limits": LimitsTable,
        "route": RouteTable,
        "route.replica": ReplicaTable,
        "route.replica_tls": TlsTable,
        "route.source": SourceTable,
        "route.source.tls": TlsTable,
    }
    return tables.get(path, Config)
