"""A sheet to draw on: fonts, axes and how a figure becomes a themed SVG and a PNG."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from gpupilot_agent.report.look import HAIRLINE, INK, MUTED, PAPER, Look, themed

WIDTH_IN = 9.2
"""Width of every figure; the page scales it to its column."""

PNG_DPI = 160

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


def sheet(height_in: float, **grid: Any) -> tuple[Figure, Any]:
    """Return a figure of the common width and its axes, as ``plt.subplots`` does."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**grid)


def render(figure: Figure, name: str, drawn: Iterable[Look]) -> Picture:
    """Return the figure as a picture; the same figure always gives the same bytes."""
    vector, raster = io.StringIO(), io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(vector, format="svg", metadata={"Date": None}, transparent=True)
    figure.savefig(raster, format="png", dpi=PNG_DPI, facecolor=PAPER, metadata={"Software": None})
    svg = vector.getvalue()
    inline = svg[svg.index("<svg") :]
    return Picture(name=name, svg=themed(inline, drawn), png=raster.getvalue())


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


def apart(positions: list[float], least: float, low: float, high: float) -> list[float]:
    """Return positions moved as little as needed to lie ``least`` apart within low to high."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    placed = list(positions)
    for before, after in itertools.pairwise(order):
        placed[after] = max(placed[after], placed[before] + least)
    if order and placed[order[-1]] > high:
        placed[order[-1]] = high
        for after, before in zip(order[::-1], order[-2::-1], strict=False):
            placed[before] = min(placed[before], placed[after] - least)
    return [max(low, at) for at in placed]


def label(axes: Axes, x: float, y: float, text: str, **style: Any) -> Text:
    """Write small text at a point in data coordinates, over everything else."""
    return axes.text(x, y, text, **{"fontsize": 8.0, "zorder": 6, "va": "center", **style})
