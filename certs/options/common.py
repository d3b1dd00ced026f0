"""What the commands' options share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from certs.errors import CertsError
from certs.keys import KeyType
from certs.profiles import MAX_DAYS

EXIT_CODES = """exit codes:
  0    done
  1    verify: a check failed
  2    refused or failed, or used wrongly; one line on standard error says why and what to do
  130  interrupted
"""


class Parser(argparse.ArgumentParser):
    """Argparse whose complaints are one line like every other error's."""

    def error(self, message: str) -> NoReturn:
        """Raise rather than print and exit."""
        raise CertsError(f"{message} (see `{self.prog} --help`)")


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Parser]  # noqa: SLF001 - what argparse calls it
else:
    Commands = argparse.Action


def add_command(commands: Commands, name: str, *, what: str, description: str, epilog: str) -> Parser:
    """A command, known to the runner by its name."""
    parser = commands.add_parser(
        name,
        help=what,
        description=description,
        epilog=f"{epilog}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=name)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def add_folder(parser: argparse.ArgumentParser, *, signs: bool = True) -> None:
    """`--dir`, and the passphrase of the key in it, where it signs."""
    parser.add_argument("--dir", type=Path, required=True, metavar="DIR", help="the authority's folder")
    if signs:
        add_passphrase_file(parser, "--passphrase-file", "the authority's key")


def add_passphrase_file(parser: argparse.ArgumentParser, option: str, whose: str) -> None:
    """An option for a passphrase; none is ever an argument itself, since every process can read those."""
    parser.add_argument(
        option,
        type=Path,
        metavar="FILE",
        help=f"file with the passphrase of {whose}, for its owner alone to read (default: asked for on a terminal)",
    )


def add_key_type(parser: argparse._ActionsContainer, *, default: KeyType | None, default_text: str) -> None:
    """`--key-type`."""
    parser.add_argument(
        "--key-type",
        choices=[str(key_type) for key_type in KeyType],
        default=default,
        metavar="KIND",
        help=f"{', '.join(KeyType)} (default: {default_text})",
    )


def add_lifetime(parser: argparse.ArgumentParser, *, default: int | None, default_text: str) -> None:
    """`--days` or `--seconds`."""
    lifetime = parser.add_mutually_exclusive_group()
    lifetime.add_argument("--days", type=days, default=default, metavar="N", help=f"lifetime (default: {default_text})")
    lifetime.add_argument("--seconds", type=seconds, metavar="N", help="lifetime, for tests and the short-lived")


def days(text: str) -> int:
    """A number of days."""
    return _whole_number(text, 1, MAX_DAYS)


def days_or_none(text: str) -> int:
    """A number of days, 0 for none."""
    return _whole_number(text, 0, MAX_DAYS)


def seconds(text: str) -> int:
    """A number of seconds."""
    return _whole_number(text, 1, MAX_DAYS * 86_400)


def port(text: str) -> int:
    """A TCP port."""
    return _whole_number(text, 1, 65_535)


def server_id(text: str) -> int:
    """What a server calls itself."""
    return _whole_number(text, 1, 2**32 - 1)


def _whole_number(text: str, minimum: int, maximum: int) -> int:
    fits = text.isascii() and text.isdigit() and len(text) <= len(str(maximum))
    if not (fits and minimum <= int(text) <= maximum):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {minimum} to {maximum}")
    return int(text)
