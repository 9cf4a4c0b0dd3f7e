"""A sheet to draw on: fonts, axes and how a figure becomes a themed SVG and a PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gpupilot_agent.report.look import HAIRLINE, INK, MUTED, PAPER, Look, themed

WIDTH_IN = 9.2
"""Width of a figure over the whole column of the page, which scales it."""

PNG_DPI = 160

_METADATA = re.compile("<metadata>.*?</metadata>", re.DOTALL)

_STYLE: dict[Any, Any] = {
    "axes.edgecolor": HAIRLINE,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.0,
    "figure.facecolor": "none",
    "font.size": 8.5,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": HAIRLINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": HAIRLINE,
    "ytick.labelcolor": MUTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A finished figure.

    Attributes:
        name: File name without ending.
        svg: Inline SVG whose colours are CSS variables.
        png: The same for light paper.
    """

    name: str
    svg: str
    png: bytes


@contextmanager
def style() -> Iterator[None]:
    """Draw and render inside this block; the reader's own matplotlib settings stay as they were."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def sheet(height_in: float, width_in: float = WIDTH_IN, **grid: Any) -> tuple[Figure, Any]:
    """Return a figure and its axes, as ``plt.subplots`` does."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**grid)


def render(figure: Figure, name: str, drawn: Iterable[Look]) -> Picture:
    """Return the figure as a picture; the same figure always gives the same bytes."""
    raster = io.BytesIO()
    svg = inline(figure, name, drawn)
    figure.savefig(raster, format="png", dpi=PNG_DPI, facecolor=PAPER, metadata={"Software": None})
    return Picture(name=name, svg=svg, png=raster.getvalue())


def inline(figure: Figure, name: str, drawn: Iterable[Look]) -> str:
    """Return the figure as an SVG for a page, its colours CSS variables; always the same bytes."""
    vector = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(vector, format="svg", metadata={"Date": None}, transparent=True)
    svg = vector.getvalue()
    return themed(_METADATA.sub("", svg[svg.index("<svg") :]), drawn)


def marker(look: Look, size: float = 6.5) -> dict[str, Any]:
    """Return the marker of a policy as keyword arguments of ``plot``."""
    larger = size * 1.7 if look.marker == "*" else size
    return {
        "marker": look.marker,
        "markersize": larger,
        "markeredgecolor": look.colour,
        "markerfacecolor": look.colour if look.filled else PAPER,
        "markeredgewidth": 1.3,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A name to write beside a point.

    Attributes:
        x: Of the point, data coordinates.
        y: Of the point, data coordinates.
        text: The name.
        colour: Of the text.
    """

    x: float
    y: float
    text: str
    colour: str


def write_tags(axes: Axes, tags: Sequence[Tag], *, size: float = 8.0) -> None:
    """Write every name beside its point where it covers no other name and no other point."""
    figure = axes.get_figure()
    if figure is None:
        return
    figure.canvas.draw()
    scale = 72.0 / figure.dpi
    at = [scale * axes.transData.transform((tag.x, tag.y)) for tag in tags]
    taken = [_Box(float(x) - 5.0, float(y) - 5.0, 10.0, 10.0) for x, y in at]
    for tag, (x, y) in zip(tags, at, strict=True):
        width = 0.56 * size * len(tag.text)
        box, offset = min(
            (_candidate(float(x), float(y), width, size, place) for place in _PLACES),
            key=lambda found: sum(found[0].overlap(other) for other in taken),
        )
        taken.append(box)
        axes.annotate(
            tag.text,
            (tag.x, tag.y),
            xytext=offset,
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=tag.colour,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.7, "pad": 0.8},
            zorder=7,
        )


_PLACES = [
    (side, 11.0 * step)
    for step in (0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0)
    for side in ("right", "left")
]


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    low: float
    width: float
    height: float

    def overlap(self, other: _Box) -> float:
        wide = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        high = min(self.low + self.height, other.low + other.height) - max(self.low, other.low)
        return max(wide, 0.0) * max(high, 0.0)


def _candidate(
    x: float, y: float, width: float, size: float, place: tuple[str, float]
) -> tuple[_Box, tuple[float, float]]:
    side, rise = place
    shift = 8.0 if side == "right" else -8.0 - width
    box = _Box(x + shift, y + rise - 0.6 * size, width, 1.2 * size)
    return box, (shift, rise)
