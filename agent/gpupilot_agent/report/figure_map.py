"""The policy's map: one heat map per axis of the action and state of the error budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from gpupilot_agent.report.canvas import sheet
from gpupilot_agent.report.learning_map import BUDGETS, LOADS, TRENDS, PolicyMap
from gpupilot_agent.report.look import HAIRLINE
from gpupilot_envs.actions import AXES

SHADES = LinearSegmentedColormap.from_list(
    "moves", ["#0b62c4", "#7fb0e6", "#eef0f2", "#e58bc4", "#b4007a"]
)
"""From less than the classical controller, blue, to more, magenta; grey is the same."""


def map_figure(found: PolicyMap) -> Figure:
    """Return load to the right, trend upwards; a row per axis, a column per error budget."""
    rows = len(AXES)
    figure, grid = sheet(
        0.6 + 1.62 * rows, nrows=rows, ncols=len(BUDGETS), sharex=True, sharey=True
    )
    for axis, line in enumerate(grid):
        image = None
        for budget, axes in enumerate(line):
            image = _heat(axes, found.moves[axis, budget])
        _legend(figure, image, line, axis)
        line[0].set_ylabel(f"{AXES[axis].name}\ntrend of the minute")
    for budget, axes in enumerate(grid[0]):
        left, called = BUDGETS[budget]
        axes.set_title(f"error budget {called} ({left:g})", loc="left")
    for axes in grid[-1]:
        axes.set_xlabel("load / capacity of all replicas")
    return figure


def _heat(axes: Axes, moves: np.ndarray) -> object:
    image = axes.imshow(
        moves,
        origin="lower",
        aspect="auto",
        extent=(LOADS[0], LOADS[-1], TRENDS[0], TRENDS[-1]),
        cmap=SHADES,
        vmin=-1.0,
        vmax=1.0,
        interpolation="nearest",
    )
    axes.axvline(1.0, color=HAIRLINE, linewidth=0.8)
    axes.axhline(0.0, color=HAIRLINE, linewidth=0.8)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.tick_params(length=0)
    return image


def _legend(figure: Figure, image: object, line: Sequence[Axes], axis: int) -> None:
    """Label the colours of a row with the values of its axis."""
    neutral, values = AXES[axis].neutral, AXES[axis].values
    ends = {-1.0: values[0], 0.0: values[neutral], 1.0: values[-1]}
    if neutral == 0:
        del ends[-1.0]
    bar = figure.colorbar(image, ax=list(line), ticks=list(ends), fraction=0.03, pad=0.01)  # type: ignore[arg-type]
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{ends[round(at)]:g}"))
    bar.ax.set_ylim(min(ends), 1.0)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.set_label(AXES[axis].unit, fontsize=7.5)
