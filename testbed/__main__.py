"""`python -m testbed`: real servers for Binlock's demonstration, tests and benchmarks."""

import argparse
import sys
from pathlib import Path

from testbed.fetch import RECIPES, SERVERS, FetchError, fetch
from testbed.node import packages


def run_fetch(arguments: argparse.Namespace) -> int:
    """Fetch what the command line names."""
    names = list(RECIPES) if "all" in arguments.names else arguments.names or list(SERVERS)
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        print(f"testbed: there is no bundle {unknown[0]!r}; there are {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    try:
        fetch(names, lambda line: print(line, file=sys.stderr, flush=True))
    except FetchError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("testbed: interrupted; what was complete stays, the rest starts over next time", file=sys.stderr)
        return 130
    return 0


def run_packages(arguments: argparse.Namespace) -> int:
    """Install the packages of a folder."""
    try:
        place = packages(arguments.folder)
    except FetchError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.folder}: in {place}", file=sys.stderr)
    return 0


def main() -> int:
    """Run one command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m testbed", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    fetching = commands.add_parser("fetch", help="bring database servers and peers from Debian into a private folder")
    fetching.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(RECIPES)}, or all (default: {', '.join(SERVERS)})",
    )
    fetching.set_defaults(run=run_fetch)
    installing = commands.add_parser("packages", help="install a folder's npm packages into the private folder")
    installing.add_argument("folder", metavar="FOLDER", type=Path, help="has a package.json and a package-lock.json")
    installing.set_defaults(run=run_packages)
    arguments = parser.parse_args()
    status: int = arguments.run(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
