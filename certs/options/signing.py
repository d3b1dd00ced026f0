"""Options of the commands that sign: init, issue, renew, revoke, crl."""

import argparse
from pathlib import Path

from certs.keys import KeyType
from certs.options.common import (
    Commands,
    Parser,
    add_command,
    add_folder,
    add_json,
    add_key_type,
    add_lifetime,
    add_passphrase_file,
    days,
)
from certs.profiles import (
    DEFAULT_AUTHORITY_DAYS,
    DEFAULT_INTERMEDIATE_DAYS,
    DEFAULT_LEAF_DAYS,
    LEAF_ROLES,
    REVOCATION_LIST_LIFETIME,
)

_INIT_EPILOG = f"""DIR is made if need be, and then holds:
  ca.crt      what every source, replica and proxy trusts
  ca.key      what signs; keep it here, and in a backup
  ca.crl      the signed revocation list, empty at first, good for {REVOCATION_LIST_LIFETIME.days} days
  index.json  every certificate that was issued

With --parent it is an authority below another: ca.crt then has the root's certificate as well, and ca.crl
the root's list; peers are given those two files all the same. The root's folder is needed again only to
revoke an authority and to sign its list anew: keep it offline.

examples:
  binlock-certs init --dir authority --name "Orders replication CA"
  binlock-certs init --dir authority --passphrase-file ca.passphrase
  binlock-certs init --dir root --name "Root" --allow-intermediates
  binlock-certs init --dir authority --name "Orders replication CA" --parent root
"""

_ISSUE_EPILOG = """roles:
  source   answers replicas: a source, or Binlock in front of one (serverAuth)
  replica  dials a source: a replica, or Binlock in front of one (clientAuth)
  proxy    does both with one certificate (serverAuth and clientAuth): Binlock, or a server that is a source and
           a replica

With --csr no key is made here: the request's is signed, and the names are those given here. A request that
asks for others is refused.

examples:
  binlock-certs issue source db1.example --dir authority --ip 10.20.0.1
  binlock-certs issue replica spiffe://example/replica/1 --dir authority --out replica-1
  binlock-certs issue proxy gateway.example --dir authority --days 30 --json
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj / -keyout r2.key -out r2.csr
  binlock-certs issue replica r2.example --dir authority --csr r2.csr
"""

_RENEW_EPILOG = """The successor has the same role, names and lifetime, and a new key. Until the former one
ends both count, so that hosts can be given theirs one after the other. Revoke the former one only if its key is lost.

Where it goes is said, since nothing is overwritten silently: --out for a folder, or --replace for the place of
the former one, which is kept beside it as NAME.SERIAL.crt and NAME.SERIAL.key.

With --within and no NAME every certificate that ends in that time is renewed, once; those that have ended
are left alone. Run daily, this keeps a folder fresh.

examples:
  binlock-certs renew db1.example --dir authority --out for-db1
  binlock-certs renew replica-1.example --dir authority --replace --same-key
  binlock-certs renew --within 30 --dir authority --replace
"""

_REVOKE_EPILOG = """Writes ca.crl anew. Bring it to wherever the former one went: Binlock notices by
itself and ends the live session of that certificate.

examples:
  binlock-certs revoke replica-1.example --dir authority
  binlock-certs revoke --serial 0a1b2c --dir authority
"""

_CRL_EPILOG = """Whoever checks revocation refuses every certificate of the authority once its list has
lapsed: run this before, and bring the new list to wherever the former one went. With --if-due, run it as
often as you like. Below a root the root's list lapses too: sign that one with --dir of the root, and bring
it here with --parent-list.

examples:
  binlock-certs crl --dir authority --days 90
  binlock-certs crl --dir authority --if-due 30
  binlock-certs crl --dir authority --parent-list root/ca.crl
"""


def add_signing_commands(commands: Commands) -> None:
    """Add the five."""
    _add_init(commands)
    _add_issue(commands)
    _add_renew(commands)
    _add_revoke(commands)
    _add_crl(commands)


def _add_init(commands: Commands) -> None:
    parser = add_command(
        commands,
        "init",
        what="make an authority",
        description="Make a certificate authority in a folder that holds none.",
        epilog=_INIT_EPILOG,
    )
    add_folder(parser, signs=False)
    parser.add_argument(
        "--name", help="common name of the authority (default: Binlock CA; with --allow-intermediates Binlock root CA)"
    )
    parser.add_argument(
        "--days",
        type=days,
        metavar="N",
        help=f"lifetime (default: {DEFAULT_AUTHORITY_DAYS}; below a root {DEFAULT_INTERMEDIATE_DAYS})",
    )
    add_key_type(parser, default=KeyType.ECDSA_P256, default_text="ecdsa-p256")
    protection = parser.add_mutually_exclusive_group()
    protection.add_argument(
        "--passphrase", action="store_true", help="protect the key with a passphrase, asked for on the terminal"
    )
    protection.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="the same, with the first line of a file"
    )
    parser.add_argument(
        "--allow-intermediates", action="store_true", help="it may sign authorities below itself, with --parent"
    )
    parser.add_argument("--parent", type=Path, metavar="DIR", help="folder of the root that signs this authority")
    add_passphrase_file(parser, "--parent-passphrase-file", "the root's key")


def _add_issue(commands: Commands) -> None:
    parser = add_command(
        commands,
        "issue",
        what="make a key and a certificate for a source, a replica or a proxy",
        description="Make a key and sign a certificate for it. Existing files are never overwritten.",
        epilog=_ISSUE_EPILOG,
    )
    roles = [str(role) for role in LEAF_ROLES]
    parser.add_argument("role", choices=roles, metavar="|".join(roles), help="see below")
    parser.add_argument(
        "name",
        metavar="NAME",
        help="the name that peers verify: a DNS name, an IP address, or a URI (with ://)",
    )
    add_folder(parser)
    for option, what in (("--dns", "DNS names"), ("--ip", "IP addresses"), ("--uri", "URIs")):
        parser.add_argument(option, action="extend", nargs="+", default=[], metavar="N", help=f"further {what}")
    add_lifetime(parser, default=DEFAULT_LEAF_DAYS, default_text="%(default)s")
    _add_key_source(parser, default_text="that of the authority")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where the two files go, made if need be (default: DIR)"
    )
    add_json(parser)


def _add_renew(commands: Commands) -> None:
    parser = add_command(
        commands,
        "renew",
        what="issue the successor of a certificate",
        description="Issue the successor of a certificate, for the same role and names, beside the former one.",
        epilog=_RENEW_EPILOG,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the name that it was issued for")
    parser.add_argument("--serial", metavar="S", help="its serial number, hexadecimal; tells several of one name apart")
    parser.add_argument(
        "--within", type=days, metavar="N", help="only what ends within so many days; without NAME, all of that"
    )
    add_folder(parser)
    add_lifetime(parser, default=None, default_text="that of the former one")
    _add_key_source(parser, default_text="that of the former one").add_argument(
        "--same-key", action="store_true", help="sign the former key again: only the certificate changes"
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="FOLDER", help="where the files go, made if need be")
    place.add_argument(
        "--replace", action="store_true", help="put them in place of the former ones, which are kept beside them"
    )
    add_json(parser)


def _add_key_source(parser: Parser, *, default_text: str) -> "argparse._MutuallyExclusiveGroup":
    source = parser.add_mutually_exclusive_group()
    add_key_type(source, default=None, default_text=default_text)
    source.add_argument(
        "--csr", type=Path, metavar="FILE", help="signing request, PEM: its key is signed, and stays where it is"
    )
    return source


def _add_revoke(commands: Commands) -> None:
    parser = add_command(
        commands,
        "revoke",
        what="revoke a certificate and sign the list that says so",
        description="Revoke one certificate, for good, and sign a revocation list that has it.",
        epilog=_REVOKE_EPILOG,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the name that it was issued for")
    parser.add_argument("--serial", metavar="S", help="its serial number, hexadecimal; tells several of one name apart")
    add_folder(parser)
    add_json(parser)


def _add_crl(commands: Commands) -> None:
    parser = add_command(
        commands,
        "crl",
        what="sign the revocation list anew",
        description="Sign the revocation list anew, with all that is revoked, so that it is good for longer.",
        epilog=_CRL_EPILOG,
    )
    add_folder(parser)
    parser.add_argument(
        "--days",
        type=days,
        default=REVOCATION_LIST_LIFETIME.days,
        metavar="N",
        help="until the next one is due (default: %(default)s)",
    )
    parser.add_argument(
        "--if-due", type=days, metavar="N", help="do nothing unless a list lapses within so many days, or is missing"
    )
    parser.add_argument(
        "--parent-list", type=Path, metavar="FILE", help="ca.crl of the authority above, to be handed on with this one"
    )
    add_json(parser)
