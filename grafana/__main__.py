"""`python -m grafana`: writes dashboards/*.json. `--check` only says whether they are current."""

import argparse
import json
import sys
from pathlib import Path

from grafana.boards import certificates, monitor, overview, proxy
from grafana.style import Json

FOLDER = Path(__file__).parent / "dashboards"


def files() -> dict[str, str]:
    """The content of each file, by its name."""
    boards: list[Json] = [module.board() for module in (overview, proxy, monitor, certificates)]
    return {f"{board['uid']}.json": json.dumps(board, indent=2, ensure_ascii=False) + "\n" for board in boards}


def main() -> int:
    """The exit status: 1 if `--check` finds a file that is not what the program writes."""
    parser = argparse.ArgumentParser(prog="python -m grafana", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a file is not current")
    arguments = parser.parse_args()
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    wanted = files()
    if arguments.check:
        stale = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        for name in stale:
            print(f"grafana/dashboards/{name} is not what the program writes: run python -m grafana", file=sys.stderr)
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for name in found.keys() - wanted.keys():
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
