"""`binlock-certs`: the command line. The only module of the package that prints or exits."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from certs.authority import Authority, IssuedLeaf, SignedRevocationList
from certs.errors import CertsError
from certs.hints import hint_lines
from certs.index import serial_text
from certs.keys import KeyType, key_type_of
from certs.names import parse_names
from certs.profiles import (
    DEFAULT_AUTHORITY_DAYS,
    DEFAULT_LEAF_DAYS,
    MAX_DAYS,
    REVOCATION_LIST_LIFETIME,
    Lifetime,
    Role,
)

EXIT_DONE = 0
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

_EXIT_CODES = """exit codes:
  0    done
  2    refused or failed, or used wrongly; one line on standard error says why and what to do
  130  interrupted
"""

_INIT_EPILOG = f"""DIR is made if need be, and then holds:
  ca.crt      what every source, replica and proxy trusts
  ca.key      what signs; keep it here, and in a backup
  ca.crl      the signed revocation list, empty at first, good for {REVOCATION_LIST_LIFETIME.days} days
  index.json  every certificate that was issued

example:
  binlock-certs init --dir authority --name "Orders replication CA"

{_EXIT_CODES}"""

_ISSUE_EPILOG = f"""roles:
  source   answers replicas: a source, or Binlock in front of one (serverAuth)
  replica  dials a source: a replica, or Binlock in front of one (clientAuth)
  proxy    does both with one certificate (serverAuth and clientAuth)

examples:
  binlock-certs issue source db1.example --dir authority --ip 10.20.0.1
  binlock-certs issue replica spiffe://example/replica/1 --dir authority --out replica-1
  binlock-certs issue proxy gateway.example --dir authority --days 30 --json

{_EXIT_CODES}"""

_REVOKE_EPILOG = f"""Writes ca.crl anew. Bring it to wherever the former one went: Binlock notices by
itself and ends the live session of that certificate.

examples:
  binlock-certs revoke replica-1.example --dir authority
  binlock-certs revoke --serial 0a1b2c --dir authority

{_EXIT_CODES}"""

_CRL_EPILOG = f"""Whoever checks revocation refuses every certificate of the authority once its list has
lapsed: run this before, and bring the new list to wherever the former one went.

example:
  binlock-certs crl --dir authority --days 90

{_EXIT_CODES}"""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` defaults to the process's own arguments."""
    try:
        arguments = _make_parser().parse_args(argv)
        run: Callable[[argparse.Namespace], None] = arguments.run
        run(arguments)
    except CertsError as exc:
        print(f"binlock-certs: {' '.join(str(exc).split())}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SystemExit as exc:  # argparse, after --help
        return EXIT_DONE if exc.code is None else int(exc.code)
    return EXIT_DONE


class _Parser(argparse.ArgumentParser):
    """Argparse whose complaints are one line like every other error's."""

    def error(self, message: str) -> NoReturn:
        raise CertsError(f"{message} (see `{self.prog} --help`)")


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="binlock-certs",
        description="The certificate authority that encrypted replication needs.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_init(commands)
    _add_issue(commands)
    _add_revoke(commands)
    _add_crl(commands)
    return parser


def _add_init(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "init",
        help="make an authority",
        description="Make a certificate authority in a folder that holds none.",
        epilog=_INIT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_folder(parser)
    parser.add_argument("--name", default="Binlock CA", help="common name of the authority (default: %(default)s)")
    parser.add_argument(
        "--days",
        type=_days,
        default=DEFAULT_AUTHORITY_DAYS,
        metavar="N",
        help="lifetime (default: %(default)s)",
    )
    _add_key_type(parser, default=KeyType.ECDSA_P256, default_text="ecdsa-p256")
    parser.set_defaults(run=_run_init)


def _add_issue(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "issue",
        help="make a key and a certificate for a source, a replica or a proxy",
        description="Make a key and sign a certificate for it. Existing files are never overwritten.",
        epilog=_ISSUE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("role", choices=[str(role) for role in Role], metavar="source|replica|proxy", help="see below")
    parser.add_argument(
        "name",
        metavar="NAME",
        help="the name that peers verify: a DNS name, an IP address, or a URI (with ://)",
    )
    _add_folder(parser)
    for option, what in (("--dns", "DNS names"), ("--ip", "IP addresses"), ("--uri", "URIs")):
        parser.add_argument(option, action="extend", nargs="+", default=[], metavar="N", help=f"further {what}")
    lifetime = parser.add_mutually_exclusive_group()
    lifetime.add_argument(
        "--days", type=_days, default=DEFAULT_LEAF_DAYS, metavar="N", help="lifetime (default: %(default)s)"
    )
    lifetime.add_argument("--seconds", type=_seconds, metavar="N", help="lifetime, for tests and the short-lived")
    _add_key_type(parser, default=None, default_text="that of the authority")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where the two files go, made if need be (default: DIR)"
    )
    _add_json(parser)
    parser.set_defaults(run=_run_issue)


def _add_revoke(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "revoke",
        help="revoke a certificate and sign the list that says so",
        description="Revoke one certificate, for good, and sign a revocation list that has it.",
        epilog=_REVOKE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the name that it was issued for")
    parser.add_argument("--serial", metavar="S", help="its serial number, hexadecimal; tells several of one name apart")
    _add_folder(parser)
    _add_json(parser)
    parser.set_defaults(run=_run_revoke)


def _add_crl(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "crl",
        help="sign the revocation list anew",
        description="Sign the revocation list anew, with all that is revoked, so that it is good for longer.",
        epilog=_CRL_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_folder(parser)
    parser.add_argument(
        "--days",
        type=_days,
        default=REVOCATION_LIST_LIFETIME.days,
        metavar="N",
        help="until the next one is due (default: %(default)s)",
    )
    _add_json(parser)
    parser.set_defaults(run=_run_crl)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, metavar="DIR", help="the authority's folder")


def _add_key_type(parser: argparse.ArgumentParser, *, default: KeyType | None, default_text: str) -> None:
    parser.add_argument(
        "--key-type",
        choices=[str(key_type) for key_type in KeyType],
        default=default,
        metavar="KIND",
        help=f"{', '.join(KeyType)} (default: {default_text})",
    )


def _days(text: str) -> int:
    return _whole_number(text, MAX_DAYS)


def _seconds(text: str) -> int:
    return _whole_number(text, MAX_DAYS * 86_400)


def _whole_number(text: str, maximum: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(maximum)) and 1 <= int(text) <= maximum):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {maximum}")
    return int(text)


def _run_init(arguments: argparse.Namespace) -> None:
    authority = Authority.create(
        arguments.dir,
        name=arguments.name,
        lifetime=Lifetime.days(arguments.days),
        key_type=KeyType(arguments.key_type),
    )
    files = authority.files
    end = authority.certificate.not_valid_after_utc
    print(f"Made the authority {arguments.name!r} ({key_type_of(authority.key)}), good until {_text(end)}:")
    print(f"  {files.certificate}  for every source, replica and proxy to trust")
    print(f"  {files.revocation_list}  the revocation list, to go wherever ca.crt goes")
    print(f"  {files.key}  what signs: it stays here; back up the folder")
    print(f"Next: binlock-certs issue source HOST --dir {arguments.dir}")


def _run_issue(arguments: argparse.Namespace) -> None:
    subject = parse_names(arguments.name, dns=arguments.dns, ip=arguments.ip, uri=arguments.uri)
    authority = Authority.open(arguments.dir)
    short_lived = arguments.seconds is not None
    leaf = authority.issue(
        Role(arguments.role),
        subject,
        lifetime=Lifetime.seconds(arguments.seconds) if short_lived else Lifetime.days(arguments.days),
        key_type=None if arguments.key_type is None else KeyType(arguments.key_type),
        out=arguments.out,
    )
    if arguments.json:
        print(json.dumps(_summary(leaf, authority)))
        return
    certificate = leaf.certificate
    print(f"Issued a {leaf.role} certificate for {', '.join(subject.describe())},")
    serial = serial_text(certificate.serial_number)
    print(f"good until {_text(certificate.not_valid_after_utc)}, serial {serial}:")
    print(f"  {leaf.certificate_file}")
    print(f"  {leaf.key_file}  to be moved to its host, for its owner alone to read")
    for line in hint_lines(leaf, authority.files):
        print(line)


def _run_revoke(arguments: argparse.Namespace) -> None:
    if arguments.name is None and arguments.serial is None:
        raise CertsError("say which: a NAME or --serial (see `binlock-certs revoke --help`)")
    authority = Authority.open(arguments.dir)
    revoked = authority.revoke(arguments.name, serial=arguments.serial)
    entry, signed = revoked.entry, revoked.revocation_list
    if arguments.json:
        names = {"role": str(entry.role), "names": entry.names, "serial": entry.serial}
        when = {"revoked": None if entry.revoked is None else _text(entry.revoked)}
        print(json.dumps({**names, **when, **_list_summary(signed, authority)}))
        return
    print(f"Revoked the {entry.role} certificate for {', '.join(entry.names)}, serial {entry.serial}.")
    _print_list(signed, authority)


def _run_crl(arguments: argparse.Namespace) -> None:
    authority = Authority.open(arguments.dir)
    signed = authority.renew_revocation_list(Lifetime.days(arguments.days))
    if arguments.json:
        print(json.dumps({**_list_summary(signed, authority), "serials": signed.serials}))
        return
    _print_list(signed, authority)


def _print_list(signed: SignedRevocationList, authority: Authority) -> None:
    print(f"Signed revocation list {signed.number} with {len(signed.serials)} on it, the next due by")
    print(f"{_text(signed.validity.not_after)}:")
    print(f"  {authority.files.revocation_list}  to go wherever the former one went")


def _list_summary(signed: SignedRevocationList, authority: Authority) -> dict[str, object]:
    return {
        "crl": str(authority.files.revocation_list),
        "number": signed.number,
        "this_update": _text(signed.validity.not_before),
        "next_update": _text(signed.validity.not_after),
    }


def _summary(leaf: IssuedLeaf, authority: Authority) -> dict[str, object]:
    return {
        "role": str(leaf.role),
        "names": leaf.subject.describe(),
        "certificate": str(leaf.certificate_file),
        "key": str(leaf.key_file),
        "ca": str(authority.files.certificate),
        "crl": str(authority.files.revocation_list),
        "serial": serial_text(leaf.certificate.serial_number),
        "not_before": _text(leaf.certificate.not_valid_before_utc),
        "not_after": _text(leaf.certificate.not_valid_after_utc),
    }


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
