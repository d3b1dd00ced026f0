"""A picture to draw on, in pixels from its upper left corner, and what it looks like."""

import functools
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font
from matplotlib.patches import FancyBboxPatch
from PIL import Image

PAGE, PANEL, EDGE, TEXT, FAINT, GRID = "#111217", "#1a1d23", "#2c3038", "#d8d9df", "#9a9ca6", "#2b2e36"
_DPI = 100

mpl.use("agg")


@dataclass(frozen=True, slots=True)
class Box:
    """A place on the picture, in pixels."""

    x: float
    y: float
    width: float
    height: float

    def inside(self, left: float, top: float, right: float, bottom: float) -> "Box":
        """What is left of it within margins."""
        return Box(self.x + left, self.y + top, self.width - left - right, self.height - top - bottom)


class Canvas:
    """The picture."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=PAGE)
        self._axes = self._figure.add_axes((0, 0, 1, 1))
        self._axes.set_xlim(0, width)
        self._axes.set_ylim(height, 0)
        self._axes.axis("off")

    def panel(self, box: Box) -> None:
        """A panel's ground."""
        corners = FancyBboxPatch(
            (box.x, box.y), box.width, box.height,
            boxstyle="round,pad=0,rounding_size=4", facecolor=PANEL, edgecolor=EDGE, linewidth=0.8,
        )  # fmt: skip
        self._axes.add_patch(corners)

    def rectangle(self, box: Box, colour: str, opacity: float = 1.0) -> None:
        """A filled rectangle."""
        self._axes.fill_between(
            (box.x, box.x + box.width), box.y, box.y + box.height, color=colour, alpha=opacity, linewidth=0
        )

    def line(self, x: float, y: float, width: float, colour: str = EDGE) -> None:
        """A thin horizontal line."""
        self._axes.plot((x, x + width), (y, y), color=colour, linewidth=0.7)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12,
        colour: str = TEXT,
        is_bold: bool = False,
        align: str = "left",
        room: float = 0,
    ) -> None:
        """One line of text, by its middle's height.

        Args:
            x: of its beginning, middle or end, as `align` says.
            y: of its middle.
            text: what to write.
            size: height in pixels.
            colour: of the letters.
            is_bold: bold.
            align: left, center or right.
            room: in pixels; longer text is cut off. 0 for any length.
        """
        self._axes.text(
            x, y, shortened(text, room, size, is_bold=is_bold) if room else text,
            fontsize=size * 72 / _DPI, color=colour, fontweight="bold" if is_bold else "normal",
            horizontalalignment=align, verticalalignment="center_baseline", parse_math=False,
        )  # fmt: skip

    def chart(self, box: Box) -> Axes:
        """Axes that fill a place."""
        axes = self._figure.add_axes(
            (
                box.x / self.width,
                1 - (box.y + box.height) / self.height,
                box.width / self.width,
                box.height / self.height,
            )
        )
        axes.set_facecolor(PANEL)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.tick_params(colors=FAINT, labelsize=10.5 * 72 / _DPI, length=0, pad=4)
        axes.grid(visible=True, color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        return axes

    def save(self, path: Path) -> None:
        """Writes it as PNG with few colours, which keeps it small."""
        self._figure.savefig(path, dpi=_DPI, facecolor=PAGE)
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def width_of(text: str, size: float, *, is_bold: bool = False) -> float:
    """How wide a text is, in pixels."""
    font = _font("bold" if is_bold else "normal")
    font.set_size(size, 72)
    font.set_text(text)
    return float(font.get_width_height()[0]) / 64


def shortened(text: str, room: float, size: float, *, is_bold: bool = False) -> str:
    """A text, cut off if it is wider than so many pixels."""
    if width_of(text, size, is_bold=is_bold) <= room:
        return text
    while text and width_of(text + "…", size, is_bold=is_bold) > room:
        text = text[:-1].rstrip()
    return text + "…"


@functools.cache
def _font(weight: str) -> FT2Font:
    return get_font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))
