"""Binlock's route for a deployment: the TOML that goes with a server's settings."""

from collections.abc import Sequence
from dataclasses import dataclass

from certs.errors import CertsError
from certs.servers.mysql_config import TlsFiles
from certs.servers.quoting import toml_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route whose one leg is MySQL TLS.

    Attributes:
        name: of the route.
        listen: `host:port`.
        allow: networks that replicas come from.
        source: `unix:/path` or `host:port`.
        account: the replication account.
        identity: the name in the replica's certificate; None beside the replica, whose leg shows none.
        server_id: the replica's, or any.
    """

    name: str
    listen: str
    allow: Sequence[str]
    source: str
    account: str
    identity: str | None
    server_id: int | None = None


def source_side(route: Route, files: TlsFiles) -> list[str]:
    """Beside the source: replicas come with TLS and a certificate."""
    if route.identity is None:
        raise CertsError(
            "beside the source Binlock admits replicas by name: give --identity, the name that one was issued for"
        )
    return [
        "# Binlock beside the source.",
        *_head(route),
        "",
        "[route.replica_tls]",
        *_files(files),
        "",
        "[route.source]",
        f"address = {toml_text(route.source)}",
        "",
        "[[route.replica]]",
        f"identity = {toml_text(route.identity)}",
        *_roster(route),
    ]


def replica_side(route: Route, files: TlsFiles) -> list[str]:
    """Beside the replica, which comes over loopback without TLS; the source has TLS of its own."""
    if route.source.startswith("unix:"):
        raise CertsError("beside the replica the source is elsewhere: give --source HOST:PORT")
    return [
        "# Binlock beside the replica, which connects to it without SSL options. In MySQL an account with",
        "# caching_sha2_password then needs GET_SOURCE_PUBLIC_KEY = 1 (before 8.0.23 GET_MASTER_PUBLIC_KEY = 1).",
        *_head(route),
        "",
        "[route.source]",
        f"address = {toml_text(route.source)}",
        "",
        "[route.source.tls]",
        *_files(files),
        "",
        "[[route.replica]]",
        f"name = {toml_text(route.name)}",
        *_roster(route),
    ]


def _head(route: Route) -> list[str]:
    networks = ", ".join(map(toml_text, route.allow))
    return [
        "[[route]]",
        f"name = {toml_text(route.name)}",
        f"listen = {toml_text(route.listen)}",
        f"allow = [{networks}]",
    ]


def _files(files: TlsFiles) -> list[str]:
    if files.ca is None:
        raise CertsError("Binlock takes its trust anchors from one file: give --ca in place of --capath")
    lists = [path for path in (files.crl, files.crl_folder) if path is not None]
    lines = [f"certificate = {toml_text(files.certificate)}", f"key = {toml_text(files.key)}"]
    lines.append(f"ca = {toml_text(files.ca)}")
    return [*lines, f"crl = [{', '.join(map(toml_text, lists))}]"] if lists else lines


def _roster(route: Route) -> list[str]:
    lines = [f"accounts = [{toml_text(route.account)}]"]
    return lines if route.server_id is None else [*lines, f"server_ids = [{route.server_id}]"]
