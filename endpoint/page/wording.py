"""Amounts, ages and names as a person reads them on the page."""

from __future__ import annotations

from datetime import datetime

_LONGEST_TEXT = 160
_DAY_SECONDS = 86_400
_THOUSANDS = "\N{NARROW NO-BREAK SPACE}"


def shown(text: str) -> str:
    """Text from anywhere: not too long, and without what would turn the direction of the page or hide.

    Controls and marks of direction are spelled out; letters of every script stay.
    """
    cut = text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
    return "".join(
        each if each.isprintable() or each == _THOUSANDS else each.encode("unicode_escape").decode("ascii")
        for each in cut
    )


def shown_bytes(count: float) -> str:
    """A size in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def shown_count(count: int, singular: str, plural: str = "") -> str:
    """A number with its noun: `1 flow`, `12 345 flows`."""
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}".replace(",", _THOUSANDS)


def shown_number(count: int) -> str:
    """A number, its thousands apart."""
    return f"{count:,}".replace(",", _THOUSANDS)


def shown_duration(seconds: float) -> str:
    """A time span in one unit, or in two where the smaller one matters."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < _DAY_SECONDS:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // _DAY_SECONDS} d {whole % _DAY_SECONDS // 3600} h"


def shown_age(moment: datetime, now: datetime) -> str:
    """How long ago something was; clocks of two machines may differ a little, and what they differ is not told."""
    return f"{shown_duration((now - moment).total_seconds())} ago"


def shown_moment(moment: datetime) -> str:
    """Date and time in UTC, to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
