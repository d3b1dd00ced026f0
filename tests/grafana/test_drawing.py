"""What the pictures show is what Grafana would: values with units, rows of tables, names of series."""

import math

import pytest

from grafana import style
from grafana.drawing.answers import Series, Window, answers, named, substituted
from grafana.drawing.canvas import shortened, width_of
from grafana.drawing.tables import columns
from grafana.drawing.units import colour_of, formatted, mapped
from grafana.panels import Column, Query, stat, table
from grafana.queries import in_range, proxy, rate

NOW_SECONDS = 1_700_000_000.0
WINDOW = Window(start=NOW_SECONDS - 600, end=NOW_SECONDS, step=5, rate=60)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0, "s", "0 s"),
        (0.00042, "s", "420 µs"),
        (0.042, "s", "42 ms"),
        (90, "s", "1.5 min"),
        (86_400, "s", "1 day"),
        (-3 * 86_400, "s", "-3 days"),
        (3 * 604_800, "s", "3 weeks"),
        (512, "bytes", "512 B"),
        (1536, "bytes", "1.5 KiB"),
        (2_500_000, "Bps", "2.5 MB/s"),
        (0.25, "percentunit", "25 %"),
        (0.5, "cps", "0.5 c/s"),
        (12, "short", "12"),
        (1234, "short", "1.23 K"),
        (1234, "none", "1234"),
        (NOW_SECONDS * 1000, "dateTimeAsIso", "2023-11-14 22:13:20"),
        ((NOW_SECONDS - 120) * 1000, "dateTimeFromNow", "2 min ago"),
        (math.nan, "s", "-"),
    ],
)
def test_a_value_is_written_with_its_unit(value: float, unit: str, shown: str) -> None:
    assert formatted(value, unit, NOW_SECONDS) == shown


def test_a_value_is_mapped_by_itself_or_by_its_range_and_coloured_by_the_threshold_that_it_reaches() -> None:
    assert mapped(0.0, style.CONNECTED) == ("gone", style.BAD)
    assert mapped(3.0, style.CONNECTED) == ("connected", style.GOOD)
    assert mapped(0.5, style.CONNECTED) is None
    days = [colour_of(count * style.DAY_SECONDS, style.SECONDS_LEFT) for count in (-1, 1, 8, 31)]
    assert days == [style.VERMILION, style.ORANGE, style.SKY, style.GREEN]


def test_variables_are_chosen_before_a_question_is_asked() -> None:
    assert substituted(rate(proxy("sessions_total")), WINDOW) == (
        'rate(binlock_proxy_sessions_total{job=~".+", instance=~".+", route=~".+"}[60s])'
    )
    assert substituted(in_range("a"), WINDOW) == "increase(a[600s])"


def test_what_is_of_one_moment_is_asked_of_the_end() -> None:
    panel = stat("Title", "What it says.", [Query("up")])
    asked: list[tuple[str, float]] = []

    def at(expression: str, seconds: float) -> list[dict[str, object]]:
        asked.append((expression, seconds))
        return [{"metric": {"__name__": "up", "job": "a"}, "value": [seconds, "1"]}]

    found = answers({"panels": [{"id": 7, **panel}]}, WINDOW, at, lambda *_: pytest.fail("asked over time"))
    assert asked == [("up", NOW_SECONDS)]
    assert found == {7: [[Series({"job": "a"}, [(NOW_SECONDS, 1.0)])]]}


def test_a_series_is_named_by_its_labels() -> None:
    series = Series({"replica": "a", "route": "r"}, [(1, 2.0), (2, math.nan)])
    assert named(series, "{{replica}} ({{route}})") == "a (r)"
    assert series.last == 2.0


def test_rows_of_several_queries_with_the_same_labels_are_one_and_sorted() -> None:
    panel = table(
        "Title",
        "What it says.",
        [Query("a"), Query("b"), Query("c")],
        [
            Column("replica", "Replica"),
            Column("leg", "Leg"),
            Column("Value #A", "Stream", mappings=style.CONNECTED),
            Column("Value #C", "Left", unit="s", thresholds=style.SECONDS_LEFT),
        ],
        sort_by="Left",
        hidden=["Value #B"],
    )

    def one(value: float, **labels: str) -> Series:
        return Series(labels, [(NOW_SECONDS, value)])

    answered = [
        [one(1, replica="late"), one(0, replica="gone"), one(2, replica="early")],
        [one(1, replica="late", leg="TLSv1.3"), one(1, replica="early", leg="TLSv1.2")],
        [one(9e6, replica="late"), one(60, replica="early")],
    ]
    shown = {column.title: list(column.cells) for column in columns(panel, answered, NOW_SECONDS)}
    assert shown == {
        "Replica": [("early", ""), ("late", ""), ("gone", "")],
        "Leg": [("TLSv1.2", ""), ("TLSv1.3", ""), ("", "")],
        "Stream": [("connected", style.GOOD), ("connected", style.GOOD), ("gone", style.BAD)],
        "Left": [("1 min", style.VERMILION), ("14.9 weeks", style.GREEN), ("", "")],
    }


def test_a_text_that_is_too_wide_is_cut_off() -> None:
    long = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    assert shortened("short", 100, 12) == "short"
    cut = shortened(long, 100, 12)
    assert cut.endswith("…")
    assert long.startswith(cut[:-1])
    assert width_of(cut, 12) <= 100 < width_of(long, 12)
