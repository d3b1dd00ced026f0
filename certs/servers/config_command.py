"""`mysql-config`: from its arguments to the lines that it prints."""

import argparse
from collections.abc import Callable

from certs.errors import CertsError
from certs.names import parse_names
from certs.servers.accounts import Account, Requirement, account_statements, role_statements
from certs.servers.hosts import parse_host_port
from certs.servers.mysql_config import Source, TlsFiles, TlsLimits, replica_statements, source_section
from certs.servers.routes import Route, replica_side, source_side
from certs.servers.versions import ServerVersion, parse_server

# Where the files of a host are, unless it is said otherwise; those of `issue`, under the names that it gave them.
DEFAULT_SERVER_FOLDER = "/etc/mysql/binlock"
DEFAULT_PROXY_FOLDER = "/etc/binlock"


def config_lines(arguments: argparse.Namespace) -> list[str]:
    """What `mysql-config` prints.

    Raises:
        CertsError: something is missing, or the server's version does not have it.
    """
    return _WRITERS[arguments.what](arguments)


def _source(arguments: argparse.Namespace) -> list[str]:
    server = _server(arguments)
    return source_section(server, _files(arguments), _limits(arguments, server))


def _replica(arguments: argparse.Namespace) -> list[str]:
    server = _server(arguments)
    files, limits = _files(arguments), _limits(arguments, server)
    if arguments.position == "keep":
        return replica_statements(server, files, limits, None)
    host, port = parse_host_port(_needed(arguments.source, "--source HOST:PORT"))
    source = Source(host, port, _needed(arguments.user, "--user"))
    return replica_statements(server, files, limits, source, by_gtid=arguments.position == "gtid")


def _account(arguments: argparse.Namespace) -> list[str]:
    account = Account(
        _needed(arguments.user, "--user"),
        _needed(arguments.host, "--host"),
        Requirement(arguments.require),
        arguments.subject,
        arguments.issuer,
    )
    return account_statements(_server(arguments), account, exists=arguments.existing, with_role=arguments.role)


def _roles(arguments: argparse.Namespace) -> list[str]:
    return role_statements(_server(arguments))


def _route(arguments: argparse.Namespace) -> list[str]:
    beside_source = arguments.beside == "source"
    # Plaintext is for loopback alone.
    listen = arguments.listen or ("0.0.0.0:3307" if beside_source else "127.0.0.1:3307")
    allow = arguments.allow or ([] if beside_source else ["127.0.0.0/8"])
    if not allow:
        raise CertsError("nothing is allowed by default: give --allow, the network that the replicas come from")
    route = Route(
        name=arguments.route,
        listen=listen,
        allow=allow,
        source=_needed(arguments.source, "--source"),
        account=_needed(arguments.user, "--user"),
        identity=arguments.identity,
        server_id=arguments.server_id,
    )
    return (source_side if beside_source else replica_side)(route, _files(arguments))


_WRITERS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "source": _source,
    "replica": _replica,
    "account": _account,
    "roles": _roles,
    "route": _route,
}


def _server(arguments: argparse.Namespace) -> ServerVersion:
    return parse_server(_needed(arguments.server, "--server, such as mysql-8.4 or mariadb-10.11"))


def _files(arguments: argparse.Namespace) -> TlsFiles:
    folder = arguments.folder
    if folder is None and arguments.certificate is None and arguments.key is None:
        folder = DEFAULT_PROXY_FOLDER if arguments.what == "route" else DEFAULT_SERVER_FOLDER
    folder = None if folder is None else folder.rstrip("/")
    stem = None if arguments.name is None else parse_names(arguments.name).file_stem

    def place(given: str | None, name: str | None) -> str | None:
        return given or (f"{folder}/{name}" if folder is not None and name is not None else None)

    certificate = place(arguments.certificate, None if stem is None else f"{stem}.crt")
    key = place(arguments.key, None if stem is None else f"{stem}.key")
    missing = "NAME, or --certificate and --key"
    has_list = arguments.no_crl or arguments.crlpath is not None
    return TlsFiles(
        ca=place(arguments.ca, None if arguments.capath else "ca.crt"),
        certificate=_needed(certificate, missing),
        key=_needed(key, missing),
        crl=arguments.crl if has_list else place(arguments.crl, "ca.crl"),
        ca_folder=arguments.capath,
        crl_folder=arguments.crlpath,
    )


def _limits(arguments: argparse.Namespace, server: ServerVersion) -> TlsLimits:
    return TlsLimits.of(server, tuple(arguments.tls_version), tuple(arguments.cipher), tuple(arguments.ciphersuite))


def _needed(value: str | None, what: str) -> str:
    if not value:
        raise CertsError(f"this needs {what} (see `binlock-certs mysql-config --help`)")
    return value
