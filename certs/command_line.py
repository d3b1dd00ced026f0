"""`binlock-certs`: the command line. The only module of the package that prints, asks or exits."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from getpass import getpass
from pathlib import Path

from certs.errors import CertsError
from certs.inventory import moment, show_authority, show_file
from certs.issuing.authority import AskPassphrase, Authority, AuthorityFiles
from certs.issuing.leaves import IssuedLeaf, KeySource, due_for_renewal, issue, renew
from certs.issuing.passphrases import read_passphrase, refuse_short
from certs.issuing.revocation import next_due, renew_revocation_list, revoke
from certs.keys import KeyType, key_type_of
from certs.names import parse_names
from certs.options.parser import make_parser
from certs.pem import load_certificates, load_request, load_revocation_lists
from certs.probing import ClientPair, probe
from certs.profiles import DEFAULT_AUTHORITY_DAYS, DEFAULT_INTERMEDIATE_DAYS, DEFAULT_LEAF_DAYS, Lifetime, Role, utc_now
from certs.report import (
    authority_lines,
    due_line,
    file_lines,
    findings_lines,
    findings_record,
    leaf_lines,
    leaf_record,
    list_lines,
    list_record,
    revoked_record,
)
from certs.servers.config_command import config_lines
from certs.servers.hosts import parse_host_port
from certs.verifying.findings import Finding, is_good
from certs.verifying.key_files import judge_key_file
from certs.verifying.verification import Trust, Wanted, verify

EXIT_DONE = 0
EXIT_FOUND_FAULTS = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` defaults to the process's own arguments."""
    try:
        arguments = make_parser().parse_args(argv)
        code = _COMMANDS[arguments.command](arguments) or EXIT_DONE
        sys.stdout.flush()
    except CertsError as exc:
        print(f"binlock-certs: {' '.join(str(exc).split())}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as exc:
        # Of standard output: what was to be done is done. The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(exc, BrokenPipeError):
            print(f"binlock-certs: cannot write what was done: {exc.strerror}", file=sys.stderr)
        return EXIT_REFUSED
    except SystemExit as exc:  # argparse, after --help
        return EXIT_DONE if exc.code is None else int(exc.code)
    else:
        return code


def _init(arguments: argparse.Namespace) -> None:
    parent = None
    if arguments.parent is not None:
        if arguments.allow_intermediates:
            raise CertsError("an authority below a root signs leaves alone: leave out --allow-intermediates")
        parent = Authority.open(arguments.parent, _ask(arguments.parent_passphrase_file))
    days = arguments.days or (DEFAULT_AUTHORITY_DAYS if parent is None else DEFAULT_INTERMEDIATE_DAYS)
    # A root and the authority below it need two names.
    name = arguments.name or ("Binlock root CA" if arguments.allow_intermediates else "Binlock CA")
    authority = Authority.create(
        arguments.dir,
        name=name,
        lifetime=Lifetime.days(days),
        key_type=KeyType(arguments.key_type),
        passphrase=_new_passphrase(arguments),
        path_length=1 if arguments.allow_intermediates else 0,
        parent=parent,
    )
    files = authority.files
    end = authority.certificate.not_valid_after_utc
    print(f"Made the authority {name!r} ({key_type_of(authority.key)}), good until {moment(end)}:")
    print(f"  {files.certificate}  for every source, replica and proxy to trust")
    print(f"  {files.revocation_list}  the revocation list, to go wherever ca.crt goes")
    print(f"  {files.key}  what signs: it stays here; back up the folder")
    if arguments.allow_intermediates:
        print(f"Next: binlock-certs init --dir FOLDER --name NAME --parent {arguments.dir}")
    else:
        print(f"Next: binlock-certs issue source HOST --dir {arguments.dir}")


def _issue(arguments: argparse.Namespace) -> None:
    subject = parse_names(arguments.name, dns=arguments.dns, ip=arguments.ip, uri=arguments.uri)
    request = None if arguments.csr is None else load_request(arguments.csr)
    authority = _open(arguments)
    leaf = issue(
        authority,
        Role(arguments.role),
        subject,
        lifetime=_lifetime(arguments) or Lifetime.days(DEFAULT_LEAF_DAYS),
        key=KeySource(_key_type(arguments), request),
        out=arguments.out,
    )
    _print_leaf(arguments, leaf, authority, verb="Issued")


def _renew(arguments: argparse.Namespace) -> None:
    named = arguments.name is not None or arguments.serial is not None
    if not named and arguments.within is None:
        raise CertsError("say which: a NAME, --serial, or --within (see `binlock-certs renew --help`)")
    request = None if arguments.csr is None else load_request(arguments.csr)
    if request is not None and not named:
        raise CertsError("a signing request is for one certificate: give its NAME or --serial")
    authority = _open(arguments)
    key = KeySource(_key_type(arguments), request, arguments.same_key)
    lifetime, out = _lifetime(arguments), arguments.out
    if arguments.within is None:
        leaf = renew(authority, arguments.name, serial=arguments.serial, lifetime=lifetime, key=key, out=out)
        _print_leaf(arguments, leaf, authority, verb="Renewed")
        return
    due = due_for_renewal(authority, arguments.name, serial=arguments.serial, within=timedelta(days=arguments.within))
    leaves = [renew(authority, serial=entry.serial, lifetime=lifetime, key=key, out=out) for entry in due]
    if arguments.json:
        print(json.dumps({"renewed": [leaf_record(leaf, authority) for leaf in leaves]}))
        return
    for leaf in leaves:
        _print_leaf(arguments, leaf, authority, verb="Renewed")
    if not leaves:
        print(f"Nothing to do: no certificate ends within {arguments.within} days.")


def _revoke(arguments: argparse.Namespace) -> None:
    if arguments.name is None and arguments.serial is None:
        raise CertsError("say which: a NAME or --serial (see `binlock-certs revoke --help`)")
    authority = _open(arguments)
    revoked = revoke(authority, arguments.name, serial=arguments.serial)
    if arguments.json:
        print(json.dumps(revoked_record(revoked, authority)))
        return
    entry = revoked.entry
    print(f"Revoked the {entry.role} certificate for {', '.join(entry.names) or entry.label}, serial {entry.serial}.")
    _print_lines(list_lines(revoked.revocation_list, authority))


def _crl(arguments: argparse.Namespace) -> None:
    if arguments.if_due is not None and arguments.parent_list is None:
        due = next_due(AuthorityFiles(arguments.dir))
        if due is not None and due > utc_now() + timedelta(days=arguments.if_due):
            print(json.dumps({"next_update": moment(due)}) if arguments.json else due_line(due))
            return
    authority = _open(arguments)
    signed = renew_revocation_list(authority, Lifetime.days(arguments.days), parent_list=arguments.parent_list)
    if arguments.json:
        print(json.dumps({**list_record(signed, authority), "serials": signed.serials}))
        return
    _print_lines(list_lines(signed, authority))


def _show(arguments: argparse.Namespace) -> None:
    if (arguments.dir is None) == (not arguments.files):
        raise CertsError("say what: files, or --dir (see `binlock-certs show --help`)")
    now = utc_now()
    if arguments.dir is not None:
        record = show_authority(AuthorityFiles(arguments.dir), now)
        if arguments.json:
            print(json.dumps(record))
            return
        _print_lines(authority_lines(record, colours=_colours()))
        return
    records = [record for path in arguments.files for record in show_file(path, now)]
    if arguments.json:
        print(json.dumps({"contents": records}))
        return
    for record in records:
        _print_lines(file_lines(record))


def _verify(arguments: argparse.Namespace) -> int:
    lists = [crl for path in arguments.crl for crl in load_revocation_lists(path)]
    trust = Trust(load_certificates(arguments.ca), lists)
    findings = [*(_verify_files if arguments.server is None else _verify_server)(arguments, trust)]
    if arguments.json:
        print(json.dumps(findings_record(findings)))
    else:
        _print_lines(findings_lines(findings, colours=_colours()))
    return EXIT_DONE if is_good(findings) else EXIT_FOUND_FAULTS


def _verify_files(arguments: argparse.Namespace, trust: Trust) -> Iterator[Finding]:
    if arguments.certificate is None:
        raise CertsError("say what: --certificate or --server (see `binlock-certs verify --help`)")
    certificates = load_certificates(arguments.certificate)
    if arguments.key is not None:
        yield from judge_key_file(arguments.key, certificates[0])
    role = None if arguments.role is None else Role(arguments.role)
    yield from verify(certificates, trust, Wanted(role, arguments.name, arguments.days), now=utc_now())


def _verify_server(arguments: argparse.Namespace, trust: Trust) -> Iterator[Finding]:
    if (arguments.certificate is None) != (arguments.key is None):
        raise CertsError("--certificate and --key are shown to the server together: give both, or neither")
    host, port = parse_host_port(arguments.server)
    pair = None if arguments.key is None else ClientPair(arguments.certificate, arguments.key)
    seen = probe(host, port, pair)
    yield from seen.findings
    if seen.certificates:
        wanted = Wanted(Role(arguments.role or Role.SOURCE), arguments.name or host, arguments.days)
        yield from verify(seen.certificates, trust, wanted, now=utc_now())


def _mysql_config(arguments: argparse.Namespace) -> None:
    _print_lines(config_lines(arguments))


def _open(arguments: argparse.Namespace) -> Authority:
    return Authority.open(arguments.dir, _ask(arguments.passphrase_file))


def _ask(file: Path | None) -> AskPassphrase | None:
    """Where a passphrase comes from, should there be one: the file, or else the terminal, or nowhere."""
    if file is not None:
        return lambda _: read_passphrase(file)
    return (lambda path: getpass(f"Passphrase of {path}: ").encode()) if sys.stdin.isatty() else None


def _new_passphrase(arguments: argparse.Namespace) -> bytes | None:
    if arguments.passphrase_file is not None:
        return refuse_short(read_passphrase(arguments.passphrase_file))
    if not arguments.passphrase:
        return None
    if not sys.stdin.isatty():
        raise CertsError("there is no terminal to ask for a passphrase on: give --passphrase-file")
    first = refuse_short(getpass("Passphrase for the new key: ").encode())
    if getpass("The same again: ").encode() != first:
        raise CertsError("the two passphrases differ, and nothing was made: run it again")
    return first


def _lifetime(arguments: argparse.Namespace) -> Lifetime | None:
    if arguments.seconds is not None:
        return Lifetime.seconds(arguments.seconds)
    return None if arguments.days is None else Lifetime.days(arguments.days)


def _key_type(arguments: argparse.Namespace) -> KeyType | None:
    return None if arguments.key_type is None else KeyType(arguments.key_type)


def _print_leaf(arguments: argparse.Namespace, leaf: IssuedLeaf, authority: Authority, *, verb: str) -> None:
    if arguments.json:
        print(json.dumps(leaf_record(leaf, authority)))
    else:
        _print_lines(leaf_lines(leaf, authority, verb=verb))


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "init": _init,
    "issue": _issue,
    "renew": _renew,
    "revoke": _revoke,
    "crl": _crl,
    "show": _show,
    "verify": _verify,
    "mysql-config": _mysql_config,
}
