"""Which server to read, how to get in, and where its password is: `mysql://user@host:port/?ssl-ca=...`."""

from __future__ import annotations

import configparser
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from audit.errors import AuditError

DEFAULT_PORT = 3306
_OPTIONS = (
    "name",
    "socket",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "password-file",
    "password-env",
    "defaults-file",
    "unsafe-unverified-tls",
    "unsafe-plaintext",
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server to read.

    Attributes:
        issued_name: the name that the server's certificate is issued for; empty: to be found out.
        socket: a unix socket's path; instead of host and port.
        ca: authorities that the server's certificate must lead to; None for those of the system.
        certificate, key: to show to a server that requires one.
        password_file, password_env: where the password is; neither: the prompt.
        defaults_password: from a defaults file.
        is_unverified: TLS to whoever answers.
        is_plaintext: no TLS at all.
    """

    host: str = "localhost"
    port: int = DEFAULT_PORT
    user: str = ""
    issued_name: str = ""
    socket: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    password_file: Path | None = None
    password_env: str | None = None
    defaults_password: str | None = None
    is_unverified: bool = False
    is_plaintext: bool = False

    @property
    def name(self) -> str:
        """How messages call it."""
        if self.socket is not None:
            return str(self.socket)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Target({self.name})"  # a password of a defaults file is in no message


def parse_dsn(text: str, *, defaults_file: Path | None = None) -> Target:
    """Reads a DSN.

    Args:
        text: as given on the command line.
        defaults_file: an option file, unless the DSN names its own.

    Raises:
        AuditError: it cannot be used, or has a password in it, which a command line shows to every user of the host.
    """
    if not text.startswith(("mysql://", "mariadb://")):
        raise AuditError("a server is given as mysql://USER@HOST:PORT/?OPTION=VALUE (see `binlock-audit --help`)")
    try:
        parts = urlsplit(text)
        port = parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        # urllib's own text would repeat what may have a password in it.
        raise AuditError("a DSN cannot be read: look at its port, its brackets and its options") from None
    if parts.password is not None:
        raise AuditError(
            "a DSN must have no password, for everybody on this host could read it: use ?password-file=F or "
            "?password-env=NAME, or type it when asked"
        )
    if parts.path not in ("", "/") or parts.fragment:
        raise AuditError("a DSN names no database: it ends with HOST:PORT/ and options")
    refuse_unknown(options, _OPTIONS, "a DSN")
    target = Target(host=parts.hostname or "localhost", port=port or DEFAULT_PORT, user=unquote(parts.username or ""))
    defaults_file = path_of(options, "defaults-file") or defaults_file
    if defaults_file is not None:
        target = with_defaults(target, defaults_file, is_host_given=parts.hostname is not None)
    target = replace(
        target,
        issued_name=options.get("name", ""),
        socket=path_of(options, "socket") or target.socket,
        ca=path_of(options, "ssl-ca") or target.ca,
        certificate=path_of(options, "ssl-cert") or target.certificate,
        key=path_of(options, "ssl-key") or target.key,
        password_file=path_of(options, "password-file"),
        password_env=options.get("password-env"),
        is_unverified=_flag(options, "unsafe-unverified-tls"),
        is_plaintext=_flag(options, "unsafe-plaintext"),
    )
    if not target.user:
        raise AuditError(f"no user for {target.name}: mysql://USER@HOST:PORT/")
    return target


def with_defaults(target: Target, path: Path, *, is_host_given: bool) -> Target:
    """Fills in what the `[client]` section of an option file says (manual, "Using Option Files").

    What the DSN says itself wins. `!include` lines are not followed.

    Raises:
        AuditError: the file cannot be read.
    """
    parser = configparser.ConfigParser(allow_no_value=True, interpolation=None, strict=False)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        parser.read_string("\n".join(line for line in lines if not line.lstrip().startswith("!")))
    except (OSError, UnicodeDecodeError) as error:
        raise AuditError(f"{path}: {getattr(error, 'strerror', None) or 'not text'}") from error
    except configparser.Error:
        raise AuditError(f"{path}: not an option file with [client] and NAME=VALUE lines") from None
    section = parser["client"] if parser.has_section("client") else {}
    values = {name.replace("_", "-"): (value or "").strip("\"'") for name, value in section.items()}
    port = values.get("port", "")
    if port and not port.isdigit():
        raise AuditError(f"{path}: the port is not a number")
    target = replace(
        target,
        user=target.user or values.get("user", ""),
        ca=path_of(values, "ssl-ca"),
        certificate=path_of(values, "ssl-cert"),
        key=path_of(values, "ssl-key"),
        defaults_password=values.get("password"),
    )
    if is_host_given:
        return target
    return replace(
        target,
        host=values.get("host", target.host),
        port=int(port or target.port),
        socket=None if "host" in values else path_of(values, "socket"),
    )


def refuse_unknown(options: Iterable[str], known: Sequence[str], whose: str) -> None:
    """That there is no option but these.

    Raises:
        AuditError: there is one.
    """
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise AuditError(f"{whose} has no option {name!r}: {hint}")


def path_of(options: Mapping[str, str], name: str) -> Path | None:
    """The file that an option names; None without."""
    return Path(options[name]) if options.get(name) else None


def _flag(options: dict[str, str], name: str) -> bool:
    value = options.get(name, "0")
    if value not in {"0", "1", ""}:
        raise AuditError(f"{name} is 0 or 1")
    return name in options and value != "0"
