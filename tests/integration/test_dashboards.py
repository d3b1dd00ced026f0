"""Every query of every dashboard has an answer, on two versions of Prometheus, of a site where it all happens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from grafana.drawing.answers import Answers, Window, named
from tests.integration.dashboard_run import BOARDS, PICTURES, DashboardSite, asked, draw_one, live
from tests.integration.observed import VERSIONS

Answered = dict[str, dict[str, Answers]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Window, Answered]]:
    with DashboardSite(tmp_path_factory.mktemp("dashboards") / "site") as site:
        window = live(site, 10)
        yield window, {version: asked(site, version, window) for version in VERSIONS}


def nothing_said(uid: str, answered: Answers) -> list[str]:
    """The queries without a series that has a number."""
    return [
        f"{panel['title']}: {target['expr']}"
        for panel in BOARDS[uid]["panels"]
        for target, found in zip(panel.get("targets", []), answered[panel["id"]], strict=True)
        if not any(math.isfinite(value) for series in found for _, value in series.points)
    ]


@pytest.mark.parametrize("uid", BOARDS)
def test_a_query_without_an_answer_is_found(uid: str) -> None:
    silent: Answers = {panel["id"]: [[] for _ in panel.get("targets", [])] for panel in BOARDS[uid]["panels"]}
    assert len(nothing_said(uid, silent)) == sum(len(each) for each in silent.values()) > 10


@pytest.mark.parametrize("uid", BOARDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_query_has_an_answer(run: tuple[Window, Answered], version: str, uid: str) -> None:
    assert nothing_said(uid, run[1][version][uid]) == []


@pytest.mark.parametrize("uid", BOARDS)
def test_every_series_has_a_name_and_no_two_of_a_panel_have_the_same(run: tuple[Window, Answered], uid: str) -> None:
    for panel in BOARDS[uid]["panels"]:
        if panel["type"] in {"timeseries", "state-timeline"}:
            names = [
                named(series, target["legendFormat"])
                for target, found in zip(panel["targets"], run[1][""][uid][panel["id"]], strict=True)
                for series in found
            ]
            assert all(names), panel["title"]
            assert sorted(set(names)) == sorted(names), panel["title"]


def test_a_picture_is_drawn(run: tuple[Window, Answered], tmp_path: Path) -> None:
    window, answered = run
    path = draw_one("binlock-overview", answered["-sid"], window, tmp_path)
    with Image.open(path) as picture:
        assert picture.width == 1500
        assert len(picture.getcolors() or []) > 20


@pytest.mark.parametrize("uid", BOARDS)
def test_a_picture_is_committed_of_each_dashboard(uid: str) -> None:
    path = PICTURES / f"dashboard-{uid.removeprefix('binlock-')}.png"
    assert 20_000 < path.stat().st_size < 200_000
