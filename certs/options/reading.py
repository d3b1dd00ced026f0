"""Options of the commands that look and change nothing: show, verify."""

from pathlib import Path

from certs.options.common import Commands, add_command, add_json, days_or_none
from certs.profiles import LEAF_ROLES
from certs.verifying.verification import WARN_DAYS

_SHOW_EPILOG = """Keys are told by their kind alone.

examples:
  binlock-certs show --dir authority
  binlock-certs show for-db1/db1.example.crt ca.crl
"""

_VERIFY_EPILOG = f"""Checks that the key fits; chain and signatures up to a self-signed root in --ca; that each
counts now; that each authority may sign; the purpose that --role needs; keys and signatures that are not
weak; X509_STRICT, which Binlock's proxy asks for; with --crl, revocation of the whole chain, with a current
list for each authority; the name; the days left of the first thing that ends (fewer than {WARN_DAYS} are a
warning).

With --server it connects once, asks for TLS as a replica does, and does not log in. mysqld counts that as a
connection that was broken off: a hundred of them without a login in between (max_connect_errors) block this
host. --certificate and --key are then what this end shows.

examples:
  binlock-certs verify --ca ca.crt --crl ca.crl --role replica --certificate r1.crt --key r1.key --name r1.example
  binlock-certs verify --ca ca.crt --crl ca.crl --role source --server db1.example:3306 --days 30
"""


def add_reading_commands(commands: Commands) -> None:
    """Add the two."""
    show = add_command(
        commands,
        "show",
        what="list what an authority issued, or what is in files",
        description="List what an authority issued, or what is in PEM files.",
        epilog=_SHOW_EPILOG,
    )
    show.add_argument("files", nargs="*", type=Path, metavar="FILE", help="certificates, lists, requests, keys")
    show.add_argument("--dir", type=Path, metavar="DIR", help="an authority's folder")
    add_json(show)

    verify = add_command(
        commands,
        "verify",
        what="judge a certificate in files or on a server's port",
        description="Judge a certificate as its peers would, in files or on a server's port, with reasons.",
        epilog=_VERIFY_EPILOG,
    )
    verify.add_argument("--certificate", type=Path, metavar="FILE", help="the leaf, and the authorities sent with it")
    verify.add_argument("--key", type=Path, metavar="FILE", help="its key")
    verify.add_argument("--server", metavar="HOST:PORT", help="a MySQL, MariaDB or Binlock port to look at")
    verify.add_argument("--ca", type=Path, required=True, metavar="FILE", help="what the peers trust")
    verify.add_argument(
        "--crl", type=Path, action="append", default=[], metavar="FILE", help="what they know to be revoked; repeatable"
    )
    verify.add_argument(
        "--role", choices=[str(role) for role in LEAF_ROLES], help="whose it is (with --server: source)"
    )
    verify.add_argument("--name", help="the name that peers dial or look up (with --server: HOST)")
    verify.add_argument(
        "--days", type=days_or_none, default=0, metavar="N", help="fewer days left are a failure (default: none)"
    )
    add_json(verify)
