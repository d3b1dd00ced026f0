"""`binlock-proxy`: run, check, sessions, health. The only module of the proxy that prints or exits."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from enum import IntEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any

import trio

from endpoint.asking import Unreachable, ask
from endpoint.tls import ClientTls, TlsFileError, TlsFiles
from proxy.configuration.addresses import UnixAddress, parse_address
from proxy.configuration.config import ConfigError, load_config
from proxy.configuration.material import load_leaf, peer_name
from proxy.outcomes import ListenError
from proxy.reporting.logs import log_event
from proxy.server import Server
from proxy.site import Route, admin_files, admin_table, load_site
from supervision.notifier import Notifier, SupervisionError
from supervision.sockets import handed_over_sockets

_DEFAULT_CONFIG = "/etc/binlock/proxy.toml"


class ExitCode(IntEnum):
    """What the programs of this package exit with."""

    OK = 0
    FAILED = 1
    UNUSABLE = 2


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except (ConfigError, ListenError, SupervisionError, _AdminUnreachable) as error:
        print(f"binlock-proxy: {error}", file=sys.stderr)
        return ExitCode.FAILED if isinstance(error, _AdminUnreachable) else ExitCode.UNUSABLE
    except BrokenPipeError:
        return ExitCode.FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="binlock-proxy",
        description="An encrypting sidecar for MySQL and MariaDB replication.",
        epilog="exit codes: 0 done, or healthy; 1 failed, or not healthy; 2 the configuration or the command line "
        "cannot be used",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, summary: str, details: str, *, asks: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=details)
        where = added.add_mutually_exclusive_group()
        where.add_argument(
            "--config",
            type=Path,
            default=Path(_DEFAULT_CONFIG),
            metavar="F",
            help="configuration file, TOML (default: %(default)s)",
        )
        if asks:
            where.add_argument(
                "--admin",
                metavar="ADDRESS",
                help="ask there, and read no configuration: host:port or unix:PATH, as admin.listen has it",
            )
            _add_tls(added)
        added.set_defaults(command=command)
        return added

    add(
        "run",
        _run,
        "serve until SIGTERM",
        "Serves the routes of the configuration. SIGTERM and SIGINT stop accepting, let streams end where nothing is "
        "half-way through, and exit with 0.",
    )
    add(
        "check",
        _check,
        "judge a configuration without serving",
        "Reads the configuration and every file it names, and says what would be served.",
    ).add_argument("--json", action="store_true", help="one JSON object")
    sessions = add(
        "sessions",
        _sessions,
        "list the sessions of a running proxy",
        "Asks the running proxy, at the admin address of the configuration, who is connected.",
        asks=True,
    )
    sessions.add_argument("--json", action="store_true", help="a JSON list")
    health = add(
        "health",
        _health,
        "exit with 0 if a running proxy accepts replicas",
        "For probes: asks /readyz at the admin address of the configuration; --live asks /healthz. With --admin it "
        "depends on no configuration, which may be spoilt while the proxy runs on with what it has read.",
        asks=True,
    )
    health.add_argument("--live", action="store_true", help="only whether the process answers")
    return parser


def _add_tls(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group(
        "with [admin.tls]",
        "what to show to the proxy, and whom to expect; without --admin the defaults are its own files, which do where "
        "its certificate is of its own ca and for clients too, as those of `binlock-certs issue proxy` are",
    ).add_argument
    add("--certificate", type=Path, metavar="F", help="PEM, for clients, of an authority of admin.tls.ca")
    add("--key", type=Path, metavar="F", help="PEM, of that certificate")
    add("--ca", type=Path, metavar="F", help="PEM, who issued admin.tls.certificate")
    add(
        "--server-name",
        metavar="NAME",
        help="that the proxy's certificate must have (default: its own files' name; with --admin the host of ADDRESS)",
    )


def _run(arguments: argparse.Namespace) -> ExitCode:
    # First of all: what nobody took would be mistaken for one of our own.
    handed_over = handed_over_sockets(os.environ)
    notifier = Notifier.from_environment(
        os.environ, lambda error: log_event(logging.WARNING, "notify_failed", detail=str(error))
    )
    site = load_site(arguments.config)
    try:
        trio.run(Server(arguments.config, site, notifier=notifier, handed_over=handed_over).run)
    except* (OSError, ListenError, SupervisionError) as group:
        first = _first(group)
        raise ListenError(
            f"admin: cannot listen on {site.config.admin.listen}: {first}" if isinstance(first, OSError) else str(first)
        ) from None
    return ExitCode.OK


def _check(arguments: argparse.Namespace) -> ExitCode:
    site = load_site(arguments.config)
    routes = [_described(route) for route in site.routes]
    if arguments.json:
        print(json.dumps({"config": str(arguments.config), "routes": routes}, indent=2))
        return ExitCode.OK
    print(f"{arguments.config}: usable")
    for route in routes:
        print(
            f"  route {route['name']}: {route['listen']} ({route['replica_leg']})"
            f" -> {route['source']} ({route['source_leg']})"
        )
        print(f"    policy {route['policy']}; roster: {', '.join(route['roster'])}")
        for leg, not_after in route["certificates_not_after"].items():
            print(f"    {leg} certificate valid until {not_after}")
    return ExitCode.OK


def _described(route: Route) -> dict[str, Any]:
    return {
        "name": route.name,
        "listen": str(route.listen),
        "replica_leg": "MySQL TLS, client certificate required" if route.replica_context else "plaintext",
        "source": str(route.source),
        "source_leg": f"MySQL TLS, verified as {route.source_tls.server_name}" if route.source_tls else "plaintext",
        "policy": route.policy.name,
        "roster": [entry.name for entry in route.roster.entries],
        "certificates_not_after": {
            f"{leg} leg": material.certificate.not_valid_after_utc.isoformat()
            for leg, material in route.materials.items()
            if material.certificate is not None
        },
    }


def _sessions(arguments: argparse.Namespace) -> ExitCode:
    sessions = json.loads(_ask(arguments, "/sessions")[1])
    if arguments.json:
        print(json.dumps(sessions, indent=2))
        return ExitCode.OK
    rows = [{title: shown(session) for title, shown in _COLUMNS.items()} for session in sessions]
    widths = {title: max(len(title), *(len(row[title]) for row in rows)) if rows else len(title) for title in _COLUMNS}
    for row in ({title: title for title in _COLUMNS}, *rows):
        print("  ".join(row[title].ljust(width) for title, width in widths.items()).rstrip())
    return ExitCode.OK


def _text(*names: str, separator: str = " ") -> Callable[[dict[str, Any]], str]:
    return lambda session: separator.join(str(session[name]) for name in names if name in session) or "-"


def _encryption(session: dict[str, Any]) -> str:
    names = ("tls_version", "tls_cipher", "tls_group")
    legs = [
        " ".join(session[f"{leg}_{name}"] for name in names)
        for leg in ("replica", "source")
        if f"{leg}_tls_version" in session
    ]
    return " | ".join(legs) or "-"


def _not_after(session: dict[str, Any]) -> str:
    dates = [
        session[name] for name in ("replica_certificate_not_after", "source_certificate_not_after") if name in session
    ]
    return min(dates)[:16] if dates else "-"


def _bytes(session: dict[str, Any]) -> str:
    size = float(session["bytes_to_replica"])
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


# What a person wants on one line; `--json` has every field.
_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "route": _text("route"),
    "replica": _text("replica"),
    "account": _text("account"),
    "server id": _text("server_id"),
    "peer": _text("peer"),
    "stage": _text("stage"),
    "TLS": _encryption,
    "valid until": _not_after,
    "age": lambda session: str(timedelta(seconds=int(session["age_seconds"]))),
    "sent": _bytes,
    "binlog": _text("binlog_file", "binlog_position", separator=":"),
    "last event": _text("last_event"),
}


def _health(arguments: argparse.Namespace) -> ExitCode:
    status, body = _ask(arguments, "/healthz" if arguments.live else "/readyz")
    print(body.strip())
    return ExitCode.OK if status == HTTPStatus.OK else ExitCode.FAILED


class _AdminUnreachable(Exception):  # noqa: N818
    pass


def _ask(arguments: argparse.Namespace, path: str) -> tuple[int, str]:
    try:
        listen, tls = _configured(arguments) if arguments.admin is None else _told(arguments)
    except TlsFileError as error:
        raise ConfigError(str(error)) from error
    address = parse_address(listen)
    try:
        where = Path(address.path) if isinstance(address, UnixAddress) else (address.host, address.port)
        return ask(where, path, tls)
    except Unreachable as error:
        said = f"no proxy answers at {listen}: {error}; is `binlock-proxy run` running?"
        if tls is not None:
            said += " It wants a certificate for clients: see --certificate, --key, --ca and --server-name"
        elif arguments.admin is not None and not isinstance(address, UnixAddress):
            said += " If it has [admin.tls], say --certificate, --key and --ca"
        raise _AdminUnreachable(said) from error


def _told(arguments: argparse.Namespace) -> tuple[str, ClientTls | None]:
    """Where `--admin` says, and what the command line says to show there."""
    try:
        address = parse_address(arguments.admin)
    except ValueError as error:
        raise ConfigError(f"--admin: {error}") from error
    if not any(_files_and_name(arguments)):
        return arguments.admin, None
    if isinstance(address, UnixAddress):
        raise ConfigError("--admin: a unix socket speaks no TLS, so that no certificate is asked for")
    if None in {arguments.certificate, arguments.key, arguments.ca}:
        raise ConfigError("--admin: TLS takes all of --certificate, --key and --ca")
    shown = TlsFiles(certificate=arguments.certificate, key=arguments.key, ca=arguments.ca)
    return arguments.admin, ClientTls(shown, arguments.server_name or address.host)


def _configured(arguments: argparse.Namespace) -> tuple[str, ClientTls | None]:
    """Where the configuration says, and what is shown to a proxy with `[admin.tls]`: at least its own certificate."""
    config = load_config(arguments.config)
    table, folder = admin_table(config), arguments.config.parent
    if table is None:
        if any(_files_and_name(arguments)):
            raise ConfigError(f"{arguments.config}: admin.tls: is not there, so that no certificate is asked for")
        return config.admin.listen, None
    if (arguments.certificate is None) != (arguments.key is None):
        raise ConfigError("--certificate and --key go together")
    own = admin_files(table, folder)
    shown = TlsFiles(
        certificate=arguments.certificate or own.certificate,
        key=arguments.key or own.key,
        ca=arguments.ca or own.ca,
    )
    return config.admin.listen, ClientTls(shown, arguments.server_name or peer_name(load_leaf(own.certificate)))


def _files_and_name(arguments: argparse.Namespace) -> tuple[Path | str | None, ...]:
    return arguments.certificate, arguments.key, arguments.ca, arguments.server_name


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


if __name__ == "__main__":
    sys.exit(main())
