"""Colours, thresholds and value mappings: what a number looks like.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people with any of the usual colour
deficiencies tell apart. A state never shows by its colour alone: it has a text, too.
"""

from typing import Any

Json = dict[str, Any]

GREEN = "#009E73"
SKY = "#56B4E9"
BLUE = "#0072B2"
YELLOW = "#F0E442"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#999999"

GOOD, WARNING, BAD, PLAIN = GREEN, ORANGE, VERMILION, SKY

DAY_SECONDS = 86_400

# What series are drawn in on every dashboard, by their legend. Names that sites choose get Grafana's palette.
COLOURS = {
    "to the replica": BLUE,
    "to the source": ORANGE,
    "half": SKY,
    "95 %": ORANGE,
    "99 %": VERMILION,
}
LABEL_COLOURS = {
    "{{verdict}}": {
        "tls": GREEN,
        "plaintext-replication": VERMILION,
        "plaintext-client": ORANGE,
        "not-mysql": SKY,
        "undecided": GREY,
    },
    "{{outcome}}": {"ended": BLUE, "refused": VERMILION},
    "{{decision}}": {"admitted": GREEN, "refused": VERMILION, "would_refuse": ORANGE},
}


def thresholds(*steps: tuple[float, str], base: str = PLAIN) -> Json:
    """Colours from a value on, the lowest first; below the first it is `base`."""
    written: list[Json] = [{"color": base, "value": None}]
    written += [{"color": colour, "value": value} for value, colour in steps]
    return {"mode": "absolute", "steps": written}


NEUTRAL = thresholds()
BAD_FROM_ONE = thresholds((1, BAD), base=GOOD)
WARNING_FROM_ONE = thresholds((1, WARNING), base=GOOD)
GOOD_FROM_ONE = thresholds((1, GOOD), base=BAD)
# The days at which the alerts on certificates and CRLs change their severity.
SECONDS_LEFT = thresholds((DAY_SECONDS, ORANGE), (7 * DAY_SECONDS, SKY), (30 * DAY_SECONDS, GREEN), base=VERMILION)


def values(texts: dict[str, tuple[str, str]]) -> list[Json]:
    """What is shown in the place of single values.

    Args:
        texts: by value: text and colour.
    """
    options = {
        value: {"text": text, "color": colour, "index": index}
        for index, (value, (text, colour)) in enumerate(texts.items())
    }
    return [{"type": "value", "options": options}]


def values_and_above(texts: dict[str, tuple[str, str]], least: float, text: str, colour: str) -> list[Json]:
    """As `values`, and one text for everything from `least` on."""
    rest = {"from": least, "to": None, "result": {"text": text, "color": colour, "index": len(texts)}}
    return [*values(texts), {"type": "range", "options": rest}]


YES_OR_NO = values({"0": ("no", BAD), "1": ("yes", GOOD)})
UP_OR_DOWN = values({"0": ("down", BAD), "1": ("up", GOOD)})
NONE_AT_ZERO = values({"0": ("none", GOOD)})
CONNECTED = values_and_above({"0": ("gone", BAD)}, 1, "connected", GOOD)
# Log_event_type of MySQL and MariaDB; the rest keep their number.
EVENT_TYPES = values(
    {
        str(code): (text, PLAIN)
        for code, text in (
            (2, "2 query"),
            (4, "4 rotate"),
            (15, "15 format description"),
            (16, "16 commit (XID)"),
            (19, "19 table map"),
            (27, "27 heartbeat"),
            (30, "30 rows written"),
            (31, "31 rows updated"),
            (32, "32 rows deleted"),
            (33, "33 GTID"),
            (34, "34 anonymous GTID"),
            (35, "35 previous GTIDs"),
            (40, "40 transaction payload"),
            (41, "41 heartbeat"),
            (42, "42 tagged GTID"),
            (160, "160 annotated rows"),
            (161, "161 binlog checkpoint"),
            (162, "162 GTID (MariaDB)"),
            (163, "163 GTID list (MariaDB)"),
        )
    }
)
