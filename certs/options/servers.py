"""Options of mysql-config."""

import argparse

from certs.options.common import Commands, add_command, server_id
from certs.servers.accounts import Requirement

_EPILOG = """what:
  source   the [mysqld] section of a source, and of a replica that may become one
  replica  CHANGE REPLICATION SOURCE TO or CHANGE MASTER TO, as the version has it
  account  CREATE USER with REQUIRE, and its grant
  roles    CREATE ROLE for replicas, for those who watch replication, for those who change it
  route    Binlock's part: the route of a proxy beside the source or beside the replica

Printed to standard output, for exactly the version that --server names; one without its last number counts as
the latest of its series. Files are named as they are on the server's host: NAME.crt, NAME.key, ca.crt and
ca.crl in --folder, or as the options say. Passwords are left open, as '<password>'. A server that is a source
and a replica needs a certificate for both: `binlock-certs issue proxy NAME`.

examples:
  binlock-certs mysql-config source db1.example --server mysql-8.4
  binlock-certs mysql-config replica replica-1.example --server mariadb-10.11 --folder /etc/mysql/binlock \\
      --source db1.example:3306 --user repl
  binlock-certs mysql-config account --server mysql-5.7 --user repl --host '10.20.%' --require ssl
  binlock-certs mysql-config account --server mysql-9.7 --user repl --host '10.20.%' --require subject \\
      --subject /CN=replica-1.example
  binlock-certs mysql-config route db1.example --folder /etc/binlock --beside source --listen 0.0.0.0:3307 \\
      --allow 10.20.0.0/16 --source unix:/run/mysqld/mysqld.sock --user repl --identity replica-1.example
"""


def add_mysql_config(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "mysql-config",
        what="write what servers and Binlock are told",
        description="Write settings and statements that encrypt and verify replication, for one server version.",
        epilog=_EPILOG,
    )
    whats = ("source", "replica", "account", "roles", "route")
    parser.add_argument("what", choices=whats, metavar="|".join(whats), help="see below")
    parser.add_argument("name", nargs="?", metavar="NAME", help="whose certificate it is, for the files in --folder")
    parser.add_argument("--server", metavar="VERSION", help="mysql-5.7, mysql-8.0.22, mysql-9.7, mariadb-10.11 ...")
    _add_files(parser)
    _add_limits(parser)
    _add_replica(parser)
    _add_account(parser)
    _add_route(parser)


def _add_files(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("files, by their complete paths on the server's host")
    files.add_argument(
        "--folder",
        metavar="FOLDER",
        help="where all of them are; the options below override it "
        "(default: /etc/mysql/binlock; for a route /etc/binlock)",
    )
    for option, what in (
        ("--certificate", "the certificate, with the authorities that are sent along"),
        ("--key", "its key"),
        ("--ca", "what it trusts"),
        ("--capath", "a folder of that, prepared with `openssl rehash`"),
        ("--crl", "what is revoked"),
        ("--crlpath", "a folder of that"),
    ):
        files.add_argument(option, metavar="PATH", help=what)
    files.add_argument("--no-crl", action="store_true", help="name no revocation list with --folder")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    limits = parser.add_argument_group("TLS of source and replica")
    limits.add_argument("--tls-version", action="append", default=[], metavar="V", help="TLSv1.2, TLSv1.3; repeatable")
    limits.add_argument("--cipher", action="append", default=[], metavar="C", help="of TLS 1.2; repeatable")
    limits.add_argument("--ciphersuite", action="append", default=[], metavar="C", help="of TLS 1.3; repeatable")


def _add_replica(parser: argparse.ArgumentParser) -> None:
    replica = parser.add_argument_group("replica, route")
    replica.add_argument("--source", metavar="HOST:PORT", help="the source; for a route also unix:/path")
    replica.add_argument("--user", help="the replication account")
    replica.add_argument(
        "--position",
        choices=("gtid", "file", "keep"),
        default="gtid",
        help="where a replica begins; keep changes its encryption and nothing else (default: %(default)s)",
    )


def _add_account(parser: argparse.ArgumentParser) -> None:
    account = parser.add_argument_group("account")
    account.add_argument("--host", help="from where, as the server writes it: '10.20.%%', or localhost for Binlock")
    account.add_argument(
        "--require",
        choices=[str(requirement) for requirement in Requirement],
        default=str(Requirement.X509),
        help="what a connection must show; none for a local host alone (default: %(default)s)",
    )
    account.add_argument("--subject", help="with --require subject: such as /CN=replica-1.example")
    account.add_argument("--issuer", help="and its authority: such as '/CN=Binlock CA'")
    account.add_argument("--existing", action="store_true", help="ALTER USER: the account is there already")
    account.add_argument("--role", action="store_true", help="grant the role replication_replica, see `roles`")


def _add_route(parser: argparse.ArgumentParser) -> None:
    route = parser.add_argument_group("route")
    route.add_argument("--beside", choices=("source", "replica"), default="source", help="(default: %(default)s)")
    route.add_argument("--route", default="orders", metavar="NAME", help="its name (default: %(default)s)")
    route.add_argument("--listen", metavar="HOST:PORT", help="where replicas connect")
    route.add_argument("--allow", action="append", default=[], metavar="NET", help="where from; repeatable")
    route.add_argument("--identity", metavar="NAME", help="beside a source: the name in the replica's certificate")
    route.add_argument("--server-id", type=server_id, metavar="N", help="the replica's; any unless given")
