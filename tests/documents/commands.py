"""`python -m tests.documents.commands` writes docs/reference-commands.md from the parsers of the four programs."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator

from audit.command_line import _parser as audit_parser
from certs.options.parser import make_parser as certs_parser
from monitor.options import make_parser as monitor_parser
from proxy.command_line import _parser as proxy_parser
from tests.documents.markdown import DOCS

PAGE = DOCS / "reference-commands.md"
_HEAD = """\
# Reference: commands

Made from the programs' own `--help` by `python -m tests.documents.commands`; a test fails where the two differ.
What goes into the files that they read: [configuration.md](configuration.md). Exit codes side by side:
[README](../README.md).
"""


def reference() -> str:
    """The whole page."""
    parsers: list[argparse.ArgumentParser] = [proxy_parser(), monitor_parser(), certs_parser(), audit_parser()]
    return _HEAD + "".join(f"\n{line}".rstrip(" ") for parser in parsers for line in _program(parser)) + "\n"


def _program(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from (f"## {parser.prog}", "")
    yield from _described(parser)
    if not _commands(parser):
        yield from ("```", _usage(parser), "```", "")
    yield from _options(parser)
    yield from _epilog(parser, set())
    said = _paragraphs(parser)
    for command in _commands(parser):
        yield from (f"### {command.prog}", "")
        yield from _described(command)
        yield from ("```", _usage(command), "```", "")
        yield from _options(command)
        yield from _epilog(command, said)


def _commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return list(action.choices.values())
    return []


def _described(parser: argparse.ArgumentParser) -> Iterator[str]:
    if parser.description:
        yield from (*textwrap.wrap(_escaped(" ".join(parser.description.split())), 120), "")


def _usage(parser: argparse.ArgumentParser) -> str:
    """Not argparse's own, of which each version of Python breaks the lines in other places."""
    words = [parser.prog]
    for action in _shown(parser):
        value = _value(action)
        if not action.option_strings:
            plural = {"+": " [...]", "*": " [...]"}.get(str(action.nargs), "")
            word = f"{value}{plural}"
            words.append(f"[{word}]" if action.nargs in {"?", "*"} else word)
            continue
        word = f"{action.option_strings[-1]} {value}".strip()
        words.append(word if action.required else f"[{word}]")
    # A space within an option is no place to break a line.
    line = " ".join(word.replace(" ", "\0") for word in words)
    return "\n".join(textwrap.wrap(line, 110, subsequent_indent="    ", break_on_hyphens=False)).replace("\0", " ")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    shown = list(_shown(parser))
    if not shown:
        return
    yield from ("| option | |", "|---|---|")
    for action in shown:
        name = " ".join([*action.option_strings[-1:], _value(action)]).strip()
        need = "required. " if action.required and action.option_strings else ""
        said = _help(parser, action)
        if action.metavar and (unsaid := [choice for choice in action.choices or () if choice not in said]):
            said += f"; one of {', '.join(action.choices or unsaid)}"
        yield f"| `{_escaped(name)}` | {need}{_escaped(said)} |"
    yield ""


def _shown(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
            continue
        yield action


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.metavar:
        return str(action.metavar)
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper()


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return (action.help or "") % {**vars(action), "prog": parser.prog}


def _paragraphs(parser: argparse.ArgumentParser) -> set[str]:
    return {part.strip() for part in (parser.epilog or "").strip().split("\n\n")}


def _epilog(parser: argparse.ArgumentParser, said: set[str]) -> Iterator[str]:
    """The epilog as it is printed, without what the program's own has said already."""
    parts = [part for part in (parser.epilog or "").strip("\n").split("\n\n") if part.strip() not in {"", *said}]
    if parts:
        yield from ("```", *"\n\n".join(parts).splitlines(), "```", "")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Writes the page."""
    PAGE.write_text(reference())


if __name__ == "__main__":
    main()
