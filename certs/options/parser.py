"""The parser that has all commands."""

import argparse

from certs.options.common import EXIT_CODES, Parser
from certs.options.reading import add_reading_commands
from certs.options.servers import add_mysql_config
from certs.options.signing import add_signing_commands


def make_parser() -> Parser:
    """The parser; `command` in what it returns says which command it is."""
    parser = Parser(
        prog="binlock-certs",
        description="The certificate authority that encrypted replication needs.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_signing_commands(commands)
    add_reading_commands(commands)
    add_mysql_config(commands)
    return parser
