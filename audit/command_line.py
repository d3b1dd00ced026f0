"""`binlock-audit`. The only module of the audit that prints or exits."""

from __future__ import annotations

import argparse
import getpass
import importlib.metadata
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import IntEnum
from pathlib import Path, PurePosixPath
from typing import NoReturn

from audit.dsn import Target, parse_dsn
from audit.errors import AuditError, ServerUnreadable
from audit.facts import Role, ServerFacts, Topology, Unreachable
from audit.findings import Finding, Status
from audit.judging import judge
from audit.passwords import password_of
from audit.remedies import Files
from audit.reports.scripts import fix_scripts
from audit.reports.structured import json_document, sarif_document, textfile_lines
from audit.reports.text import printable, table_lines
from audit.sessions import read_sessions

_DESCRIPTION = """\
Reads a source and its replicas over SQL, changes nothing, and says which practices of secure replication they keep:
TLS, certificates, accounts, privileges, channels, binary logs. Every finding comes with its reason and what mends it.
"""
_EPILOG = """\
DSN: mysql://USER@HOST:PORT/?OPTION=VALUE&...
  ssl-ca=F                 authorities that the server's certificate must lead to (default: the system's)
  ssl-cert=F, ssl-key=F    a client certificate, for accounts with REQUIRE X509
  socket=PATH              a unix socket instead of HOST:PORT
  name=NAME                that its certificate is issued for, for the files in fixes (default: HOST)
  password-file=F, password-env=NAME, defaults-file=F
  unsafe-unverified-tls=1  take any certificate
  unsafe-plaintext=1       no TLS at all
  TLS is verified, by authority and by name, unless one of the last two says otherwise. A DSN with a password is
  refused. Without a file or a variable the password is asked for, or empty where nobody can be asked.

URL of --binlock-sessions: unix:PATH, http://127.0.0.1:PORT, https://HOST:PORT/?OPTION=VALUE&...
  ssl-ca=F                 authorities that Binlock's certificate must lead to (default: the system's)
  ssl-cert=F, ssl-key=F    a client certificate, which Binlock requires
  name=NAME                that its certificate must have (default: HOST)
  TLS is always verified here, for the list excuses plaintext.

exit codes:
  0    done, and no finding has a status of --fail-on
  1    a finding has a status of --fail-on
  2    the command line or a file cannot be used, or a server cannot be read; what could be read is reported
  130  interrupted

examples:
  binlock-audit --source 'mysql://auditor@db1.example/?ssl-ca=ca.crt' --replica 'mysql://auditor@db2.example/?ssl-ca=ca.crt'
  binlock-audit --source 'mysql://auditor@localhost/?socket=/run/mysqld/mysqld.sock' --binlock-sessions http://127.0.0.1:9307
  binlock-audit --source ... --password-file pw --textfile /var/lib/node_exporter/binlock_audit.prom
  binlock-audit --source ... --replica ... --fix-script fixes     # then read fixes/*, and run them in order

The GRANTs that the audit needs are in docs/audit.md.
"""


class ExitCode(IntEnum):
    """What the program exits with."""

    OK = 0
    FINDINGS = 1
    UNUSABLE = 2
    INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Argparse whose complaints are one line like every other error's."""

    def error(self, message: str) -> NoReturn:
        raise AuditError(f"{message} (see `{self.prog} --help`)")


def main(argv: Sequence[str] | None = None) -> int:
    """Audits, and returns the exit code; `argv` defaults to the process's own arguments."""
    try:
        code = int(_run(_parser().parse_args(argv)))
        sys.stdout.flush()
    except AuditError as error:
        print(f"binlock-audit: {printable(str(error))}", file=sys.stderr)
        return ExitCode.UNUSABLE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except OSError as error:
        # Of standard output. The interpreter flushes once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"binlock-audit: cannot write the report: {error.strerror}", file=sys.stderr)
        return ExitCode.UNUSABLE
    except SystemExit as exit_request:  # argparse, after --help
        return ExitCode.OK if exit_request.code is None else int(exit_request.code)
    else:
        return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="binlock-audit",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--source", required=True, metavar="DSN", help="the source")
    add("--replica", action="append", default=[], metavar="DSN", help="a replica; may be given more than once")
    add("--password-file", type=Path, metavar="F", help="holds the password for every DSN that names none")
    add("--password-env", metavar="NAME", help="the environment variable that holds it")
    add(
        "--defaults-file", type=Path, metavar="F", help="a my.cnf whose [client] section fills in what a DSN leaves out"
    )
    add(
        "--binlock-sessions",
        action="append",
        default=[],
        metavar="FILE|URL",
        help="what Binlock carries, which explains connections on loopback: a file of `binlock-proxy sessions --json`, "
        "or a URL; may be given more than once",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    output.add_argument("--sarif", action="store_true", help="print SARIF 2.1.0 instead of a table")
    add(
        "--textfile",
        type=Path,
        metavar="F",
        help="also write metrics for node_exporter's textfile collector, atomically",
    )
    add("--fix-script", type=Path, metavar="DIR", help="also write scripts that mend the findings; nothing is run")
    add(
        "--fix-files",
        type=PurePosixPath,
        default=PurePosixPath("/etc/mysql/binlock"),
        metavar="DIR",
        help="where, on the servers, fixes expect ca.crt, ca.crl, NAME.crt and NAME.key, as `binlock-certs issue` "
        "names them (default: %(default)s)",
    )
    add(
        "--fail-on",
        action="append",
        choices=[status.value for status in Status if status is not Status.PASS],
        metavar="STATUS",
        help="exit with 1 on warn, fail or unknown; may be given more than once (default: fail)",
    )
    return parser


def _run(arguments: argparse.Namespace) -> ExitCode:
    source = _target(arguments.source, arguments)
    replicas = [_target(text, arguments) for text in arguments.replica]
    sessions = [session for where in arguments.binlock_sessions for session in read_sessions(where)]
    servers: list[ServerFacts] = []
    unreachable: list[Unreachable] = []
    ask = getpass.getpass if sys.stdin.isatty() else None
    for target, role in ((source, Role.SOURCE), *((replica, Role.REPLICA) for replica in replicas)):
        try:
            servers.append(_read(target, role, ask))
        except ServerUnreadable as error:
            print(f"binlock-audit: {printable(str(error))}", file=sys.stderr)
            unreachable.append(Unreachable(target.name, role, str(error)))
    topology = Topology(tuple(servers), tuple(unreachable), tuple(sessions))
    findings = judge(topology, Files(arguments.fix_files))
    _report(findings, arguments)
    if unreachable:
        return ExitCode.UNUSABLE
    unwanted = set(arguments.fail_on or [Status.FAIL.value])
    return ExitCode.FINDINGS if any(finding.status.value in unwanted for finding in findings) else ExitCode.OK


def _target(text: str, arguments: argparse.Namespace) -> Target:
    target = parse_dsn(text, defaults_file=arguments.defaults_file)
    if target.password_file is None and target.password_env is None:
        return replace(target, password_file=arguments.password_file, password_env=arguments.password_env)
    return target


def _read(target: Target, role: Role, ask: Callable[[str], str] | None) -> ServerFacts:
    # Loaded here, as PyMySQL is an extra, and --help is there without it.
    try:
        from audit.collecting import read_server  # noqa: PLC0415
        from audit.mysql import Session  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise AuditError(f"{error.name} is missing: install it with `pip install 'binlock[audit]'`") from error
    with Session(target, password_of(target, ask=ask)) as session:
        return read_server(session, role)


def _report(findings: list[Finding], arguments: argparse.Namespace) -> None:
    if arguments.fix_script is not None:
        _write_scripts(findings, arguments.fix_script)
    if arguments.textfile is not None:
        _write_textfile(findings, arguments.textfile)
    if arguments.json:
        print(json.dumps(json_document(findings), indent=2))
    elif arguments.sarif:
        print(json.dumps(sarif_document(findings, importlib.metadata.version("binlock")), indent=2))
    else:
        is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        for line in table_lines(findings, is_coloured=is_coloured):
            print(line)


def _write_scripts(findings: list[Finding], folder: Path) -> None:
    """Writes all scripts, or none where one of them would overwrite a file."""
    scripts = fix_scripts(findings)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise AuditError(f"{folder}: not empty, and nothing is overwritten: name a folder that is")
        for name, text in scripts.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise AuditError(f"{folder}: {error.strerror}") from error


def _write_textfile(findings: list[Finding], path: Path) -> None:
    """Puts the file in place by rename: node_exporter reads whenever it likes, and as another user."""
    text = "\n".join(textfile_lines(findings, time.time())) + "\n"
    try:
        descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            Path(fresh).chmod(0o644)
            Path(fresh).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(fresh).unlink()
            raise
    except OSError as error:
        raise AuditError(f"{path}: {error.strerror}") from error
