"""The site: everything that one configuration file comes to, ready to serve and never changed afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from endpoint.tls import ServerTls, TlsFileError, TlsFiles
from proxy.configuration.addresses import Address, TcpAddress, parse_address
from proxy.configuration.config import Config, ConfigError, ProxyProtocolVersion, RouteTable, TlsTable, load_config
from proxy.configuration.material import TlsMaterial, crl_files, load_material, material_files
from proxy.openssl import (
    Context,
    TlsSettingsError,
    client_context,
    require_verifiable,
    server_context,
)
from proxy.sql.queries import CustomQueries
from proxy.stages.admission import Allowlist
from proxy.stages.authentication import SourceTls
from proxy.stages.identity import Roster, RosterEntry
from proxy.stages.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One listener and the source behind it.

    Attributes:
        replica_context: None for a plaintext replica leg.
        enforce: False in observe mode.
        connection_attributes: whether the source is told who connects.
        load_balancers: those whose connections begin with a PROXY header; None if there are none.
        send_proxy_protocol: None to tell the source nothing.
        source_tls: None for a plaintext source leg.
        materials: what each TLS leg (`replica`, `source`) was made from, for the expiry metrics.
    """

    name: str
    listen: TcpAddress
    allowlist: Allowlist
    roster: Roster
    policy: Policy
    enforce: bool
    connection_attributes: bool
    load_balancers: Allowlist | None
    send_proxy_protocol: ProxyProtocolVersion | None
    replica_context: Context | None
    source: Address
    source_tls: SourceTls | None
    materials: dict[str, TlsMaterial]


@dataclass(frozen=True, slots=True)
class AdminTls:
    """`[admin.tls]`: as the endpoint uses it, and as it was judged."""

    server: ServerTls
    material: TlsMaterial


@dataclass(frozen=True, slots=True)
class Site:
    """Every route, and the settings that they share.

    Attributes:
        files: every file and folder that it was made from; if one changes, so may the site.
        admin: what the admin endpoint's TLS was made from; None without.
    """

    config: Config
    routes: tuple[Route, ...]
    files: tuple[Path, ...]
    admin: AdminTls | None = None

    def route(self, name: str) -> Route | None:
        """The route of that name."""
        return next((route for route in self.routes if route.name == name), None)


def load_site(path: Path) -> Site:
    """Reads a configuration file and all it names.

    Raises:
        ConfigError: anything in it cannot be used.
    """
    config = load_config(path)
    files = [path]
    for tls in (admin_table(config), *(tls for table in config.route for tls in (table.replica_tls, table.source.tls))):
        files.extend(material_files(tls, path.parent) if tls is not None else ())
    routes = tuple(_build_route(table, path) for table in config.route)
    return Site(config, routes, tuple(files), _build_admin(config, path))


def admin_table(config: Config) -> TlsTable | None:
    """`[admin.tls]` as a TLS leg has it; None without."""
    table = config.admin.tls
    if table is None:
        return None
    return TlsTable(ca=table.ca, certificate=table.certificate, key=table.key, crl=table.crl)


def admin_files(table: TlsTable, folder: Path) -> TlsFiles:
    """Where the files of `[admin.tls]` are.

    Raises:
        ConfigError: a folder of CRLs cannot be read.
    """
    return TlsFiles(
        certificate=folder / (table.certificate or ""),
        key=folder / (table.key or ""),
        ca=folder / table.ca,
        crl=tuple(file for crl in table.crl for file in crl_files(folder / crl)),
    )


def _build_admin(config: Config, path: Path) -> AdminTls | None:
    table = admin_table(config)
    if table is None:
        return None
    try:
        # The first says more of what is wrong.
        material = load_material(table, path.parent)
        return AdminTls(ServerTls(admin_files(table, path.parent)), material)
    except (ConfigError, TlsFileError) as error:
        raise ConfigError(f"{path}: admin.tls: {error}") from error


def _build_route(table: RouteTable, path: Path) -> Route:
    folder = path.parent
    materials: dict[str, TlsMaterial] = {}
    replica_context = None
    source_tls = None
    source = parse_address(table.source.address)
    listen = parse_address(table.listen)
    if not isinstance(listen, TcpAddress):
        raise ConfigError(f"{path}: route {table.name!r}: listen: {listen} is not host:port")
    try:
        if table.replica_tls is not None:
            materials["replica"] = load_material(table.replica_tls, folder)
            replica_context = server_context(materials["replica"])
        if table.source.tls is not None:
            materials["source"] = load_material(table.source.tls, folder)
            name = table.source.tls.server_name or (source.host if isinstance(source, TcpAddress) else "")
            require_verifiable(name)
            source_tls = SourceTls(client_context(materials["source"]), name)
    except (ConfigError, TlsSettingsError) as error:
        raise ConfigError(f"{path}: route {table.name!r}: {error}") from error
    return Route(
        name=table.name,
        listen=listen,
        allowlist=Allowlist(table.allow),
        roster=Roster(
            RosterEntry(
                name=replica.name or replica.identity or "",
                identity=replica.identity,
                accounts=frozenset(replica.accounts),
                server_ids=frozenset(replica.server_ids),
                addresses=None if replica.addresses is None else Allowlist(replica.addresses),
            )
            for replica in table.replica
        ),
        policy=Policy(table.policy, CustomQueries(table.queries, unsafe_patterns=table.unsafe_queries)),
        enforce=table.enforce,
        connection_attributes=table.connection_attributes,
        load_balancers=Allowlist(table.proxy_protocol_from) if table.proxy_protocol_from else None,
        send_proxy_protocol=table.source.send_proxy_protocol,
        replica_context=replica_context,
        source=source,
        source_tls=source_tls,
        materials=materials,
    )
