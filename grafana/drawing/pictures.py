"""A whole dashboard, on its own grid."""

from datetime import UTC, datetime
from pathlib import Path

from grafana.drawing.answers import Answers, Window
from grafana.drawing.canvas import FAINT, TEXT, Box, Canvas
from grafana.drawing.charts import draw_stat, draw_table, draw_timeline, draw_timeseries
from grafana.style import Json

_DRAW = {"stat": draw_stat, "timeseries": draw_timeseries, "table": draw_table, "state-timeline": draw_timeline}
_WIDTH, _HEAD, _FOOT, _GAP = 1500, 66, 34, 8
# Grafana's unit of height, with the gap.
_UNIT = 38
_CAPTION = (
    "Drawn by Binlock's own program from what a real Prometheus answered to this dashboard's queries, on the "
    "dashboard's own grid. It is not Grafana's rendering."
)


def draw(board: Json, answered: Answers, window: Window, path: Path) -> None:
    """Draws a dashboard.

    Args:
        board: as Grafana has it.
        answered: to its queries.
        window: the time it shows.
        path: of the PNG file.
    """
    units = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    canvas = Canvas(_WIDTH, _HEAD + units * _UNIT + _FOOT)
    canvas.text(_GAP + 6, 22, board["title"], size=20, is_bold=True)
    begin, end = (datetime.fromtimestamp(seconds, UTC) for seconds in (window.start, window.end))
    canvas.text(
        _WIDTH - _GAP - 6,
        22,
        f"{begin:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC",
        size=12.5,
        colour=FAINT,
        align="right",
    )
    canvas.text(_GAP + 6, 48, board["description"], size=12.5, colour=FAINT, room=_WIDTH - 2 * _GAP - 12)
    unit = (_WIDTH - _GAP) / 24
    for panel in board["panels"]:
        place = panel["gridPos"]
        box = Box(
            _GAP + place["x"] * unit,
            _HEAD + place["y"] * _UNIT,
            place["w"] * unit - _GAP,
            place["h"] * _UNIT - _GAP,
        )
        if panel["type"] == "row":
            canvas.text(box.x + 4, box.y + box.height / 2, f"▾  {panel['title']}", size=14.5, is_bold=True)
            continue
        canvas.panel(box)
        canvas.text(
            box.x + 12, box.y + 16, panel["title"], size=13, colour=TEXT, is_bold=True, room=(box.width - 20) * 0.95
        )
        _DRAW[panel["type"]](canvas, box.inside(0, 32, 0, 4), panel, answered[panel["id"]], window)
    canvas.text(_GAP + 6, canvas.height - 17, _CAPTION, size=11.5, colour=FAINT)
    canvas.save(path)
