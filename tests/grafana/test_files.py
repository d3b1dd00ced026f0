"""The files in grafana/: what the program writes, what Grafana's types allow, what each server takes."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grafana.__main__ import FOLDER, files
from testbed.fetch import bundle
from testbed.node import NODE, packages
from tests.grafana.conftest import BOARDS
from tests.grafana.promql import CHECKING

ROOT = FOLDER.parent
COMPOSE = ROOT / "compose.yaml"
Board = dict[str, Any]
STRICT = [
    "--moduleResolution",
    "bundler",
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "--target",
    "es2022",
    "--module",
    "esnext",
]


def test_the_dashboards_are_what_the_program_writes() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")} == files()


def test_the_program_says_when_one_is_not_current() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "grafana", "--check"], cwd=ROOT.parent, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def literals(board: Board) -> str:
    """A dashboard as TypeScript: literals that have to have the types of both versions of Grafana's schema."""
    frame = {key: value for key, value in board.items() if key != "panels"}
    bare = {key: value for key, value in frame.items() if key != "annotations"}
    lines = [
        'import type { Frame, FrameOf11, PanelOf11, Panels } from "./shapes";',
        f"export const frame = {json.dumps(frame)} satisfies Frame;",
        f"export const frameOf11 = {json.dumps(bare)} satisfies FrameOf11;",
    ]
    for panel in board["panels"]:
        name, text = f"panel{panel['id']}", json.dumps(panel)
        lines.append(f"export const {name} = {text} satisfies Panels[{panel['type']!r}];")
        lines.append(f"export const {name}Of11 = {text} satisfies PanelOf11;")
    return "\n".join(lines)


def complaints_of_the_compiler(folder: Path, boards: dict[str, Board]) -> list[str]:
    """What TypeScript says, a line for each complaint."""
    place = packages(CHECKING)
    (folder / "node_modules").symlink_to(place / "node_modules")
    (folder / "shapes.ts").write_text((CHECKING / "shapes.ts").read_text())
    for name, board in boards.items():
        (folder / f"{name}.ts").write_text(literals(board))
    tsc: list[str | Path] = [
        NODE,
        place / "node_modules/typescript/bin/tsc",
        *STRICT,
        *(f"{name}.ts" for name in boards),
    ]
    done = subprocess.run(tsc, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or done.stdout, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith(" ")]


def of_kind(board: Board, kind: str) -> Any:
    return next(panel for panel in board["panels"] if panel["type"] == kind)


# A name for the file, and what Grafana would not understand.
MISTAKES: dict[str, Callable[[Board], object]] = {
    "tooltip": lambda board: board.update(graphTooltip=7),
    "mode": lambda board: of_kind(board, "stat")["options"].update(graphMode="areas"),
    "option": lambda board: of_kind(board, "table")["options"].update(showHeaders=True),
    "style": lambda board: of_kind(board, "timeseries")["fieldConfig"]["defaults"]["custom"].update(drawStyle="lines"),
    "query": lambda board: of_kind(board, "stat")["targets"][0].update(expr=1),
    "refresh": lambda board: board["templating"]["list"][1].update(refresh=9),
    "annotation": lambda board: board["annotations"]["list"][0].update(enabled=True),
    "place": lambda board: of_kind(board, "stat")["gridPos"].pop("x"),
    "missing": lambda board: board.pop("schemaVersion"),
}


def test_the_dashboards_and_no_mistakes_have_the_types_of_grafanas_schema(tmp_path: Path) -> None:
    boards = {}
    for name, mistake in MISTAKES.items():
        boards[name] = copy.deepcopy(BOARDS["binlock-proxy"])
        mistake(boards[name])
    # One run for both: most of its time is the schema's.
    complaints = complaints_of_the_compiler(tmp_path, BOARDS | boards)
    assert {complaint.partition(".ts(")[0] for complaint in complaints} == set(MISTAKES), complaints


def test_the_dashboards_are_of_the_version_that_the_schema_is_of() -> None:
    script = (
        "const { createRequire } = require('module');"
        "console.log(createRequire(process.argv[1] + '/')('@grafana/schema').defaultDashboard.schemaVersion)"
    )
    done = subprocess.run([NODE, "-e", script, packages(CHECKING)], capture_output=True, text=True, check=True)
    assert {board["schemaVersion"] for board in BOARDS.values()} == {int(done.stdout)}


@pytest.mark.parametrize("version", ["prometheus", "prometheus-sid"])
def test_prometheus_takes_its_configuration(version: str) -> None:
    check = [*bundle(version).command("promtool"), "check", "config", str(ROOT / "prometheus.yml")]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def composed(text: str) -> subprocess.CompletedProcess[str]:
    """What Docker Compose makes of a file beside the others, without a daemon."""
    argv = [*bundle("docker-compose").command("docker-compose"), "--file", "-", "--project-directory", str(ROOT)]
    return subprocess.run(
        [*argv, "config", "--format", "json"], input=text, capture_output=True, text=True, check=False
    )


def test_compose_takes_its_file_and_all_that_it_opens_is_on_loopback() -> None:
    done = composed(COMPOSE.read_text())
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert set(services) == {"prometheus", "alertmanager", "grafana"}
    for name, service in services.items():
        assert service["image"].rpartition(":")[2] not in {"", "latest"}, name
        assert "ports" not in service, name
        assert (service["network_mode"], service["read_only"], service["cap_drop"]) == ("host", True, ["ALL"]), name
        for volume in service["volumes"]:
            if volume["type"] == "bind":
                assert volume["read_only"], volume
                assert Path(volume["source"]).exists(), volume
        listening = [word for word in service.get("command") or [] if ".listen-address=" in word]
        assert all(word.endswith("=") or "=127.0.0.1:" in word for word in listening), listening
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_a_word_that_compose_does_not_know_is_found() -> None:
    assert composed(COMPOSE.read_text().replace("read_only:", "readonly:")).returncode != 0


def provisioned(path: str) -> Any:
    """A file of Grafana's provisioning, read by the parser of Docker Compose, which keeps what begins with x-."""
    text = "".join(f"  {line}\n" for line in (ROOT / "provisioning" / path).read_text().splitlines())
    done = composed(f"services: {{}}\nx-file:\n{text}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["x-file"]


def test_grafana_is_told_where_prometheus_and_the_dashboards_are() -> None:
    services = json.loads(composed(COMPOSE.read_text()).stdout)["services"]
    [source] = provisioned("datasources/prometheus.yaml")["datasources"]
    [address] = [word for word in services["prometheus"]["command"] if word.startswith("--web.listen-address=")]
    assert source["url"] == f"http://{address.partition('=')[2]}"
    assert (source["type"], source["access"], source["isDefault"]) == ("prometheus", "proxy", True)
    [provider] = provisioned("dashboards/binlock.yaml")["providers"]
    targets = {volume["target"]: volume["source"] for volume in services["grafana"]["volumes"]}
    assert targets[provider["options"]["path"]] == str(FOLDER)
    assert targets["/etc/grafana/provisioning"] == str(ROOT / "provisioning")
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (FOLDER / home.relative_to(provider["options"]["path"])).exists()


def test_the_document_names_every_dashboard_and_shows_its_picture() -> None:
    document = (ROOT.parent / "docs" / "dashboards.md").read_text()
    for uid in BOARDS:
        picture = f"pictures/dashboard-{uid.removeprefix('binlock-')}.png"
        assert f"| `{uid}` |" in document
        assert f"]({picture})" in document
        assert (ROOT.parent / "docs" / picture).exists()
