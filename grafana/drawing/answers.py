"""What a Prometheus answers to the queries of a dashboard, with Grafana's variables in their place."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana.style import Json

# As Prometheus' API has them: at a time; from, to and every so many seconds.
AskInstant = Callable[[str, float], list[dict[str, Any]]]
AskRange = Callable[[str, float, float, float], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer.

    Attributes:
        labels: without the metric's name.
        points: time in seconds since the epoch, and value; one point if the question was of one moment.
    """

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        """The last value; NaN if there is none."""
        return next((value for _, value in reversed(self.points) if not math.isnan(value)), math.nan)


@dataclass(frozen=True, slots=True)
class Window:
    """The time that is shown.

    Attributes:
        start: in seconds since the epoch.
        end: likewise; what is asked of one moment is asked of this.
        step: seconds between two points.
        rate: seconds over which a rate is taken: Grafana takes four scrape intervals at least.
    """

    start: float
    end: float
    step: float
    rate: float


# By panel's number: for each of its queries, the series.
Answers = dict[int, list[list[Series]]]


def substituted(expression: str, window: Window) -> str:
    """An expression with everything chosen."""
    durations = {"__rate_interval": f"{window.rate:.0f}s", "__range": f"{window.end - window.start:.0f}s"}
    return re.sub(r"\$(\w+)", lambda found: durations.get(found[1], ".+"), expression)


def answers(board: Json, window: Window, at: AskInstant, over: AskRange) -> Answers:
    """All that a dashboard shows.

    Args:
        board: as Grafana has it.
        window: the time.
        at: asks of one moment.
        over: asks of a stretch of time.
    """
    found: Answers = {}
    for panel in board["panels"]:
        found[panel["id"]] = [
            [
                _series(each)
                for each in (
                    at(substituted(target["expr"], window), window.end)
                    if target["instant"]
                    else over(substituted(target["expr"], window), window.start, window.end, window.step)
                )
            ]
            for target in panel.get("targets", [])
        ]
    return found


def named(series: Series, legend: str) -> str:
    """What a series is called."""
    if legend == "__auto":
        return ", ".join(f"{label}={value}" for label, value in series.labels.items()) or "value"
    return re.sub(r"\{\{(\w+)\}\}", lambda found: series.labels.get(found[1], ""), legend)


def _series(result: Mapping[str, Any]) -> Series:
    labels = {label: value for label, value in result["metric"].items() if label != "__name__"}
    points = result["values"] if "values" in result else [result["value"]]
    return Series(labels, [(float(time), float(value)) for time, value in points])
