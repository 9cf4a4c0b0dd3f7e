"""Cost against attainment: every measured setting, the bounds, and where each policy ran."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpupilot_agent.frontier import pareto
from gpupilot_agent.report.canvas import Tag, marker, sheet, write_tags
from gpupilot_agent.report.look import INK, MUTED, Look
from gpupilot_agent.report.reading import Reading, percent
from gpupilot_agent.results import FrontierPoint

_TICKS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
_LEAST_MISS = 2e-5
_WORST = 0.9

Looks = dict[str, Look]


def frontier_figure(reading: Reading, looks: Looks) -> Figure:
    """Return GPU-hours over the share of requests in time, the latter on a scale of late ones."""
    figure, axes = sheet(4.9)
    tags = []
    for name, look in looks.items():
        _curve(axes, reading.summary.frontiers[name], look)
        score = reading.summary.policies[name]
        share, cost = score.attainment_ratio.mean, score.gpu_hours.mean
        if share is not None and cost is not None:
            _as_run(axes, position(share), cost, score.gpu_hours.ci95, look)
            tags.append(Tag(x=position(share), y=cost, text=name, colour=look.colour))
    _scale(axes, reading)
    axes.set_ylabel("GPU-hours per run")
    axes.set_xlabel("requests within the target, on a scale of the share that is late")
    left, _ = axes.get_xlim()
    write_tags(axes, [tag for tag in tags if tag.x >= left])
    return figure


def position(attainment: float) -> float:
    """Return where an attainment lies on the axis: one unit for each tenfold of late requests."""
    return -math.log10(max(1.0 - attainment, _LEAST_MISS))


def _curve(axes: Axes, points: tuple[FrontierPoint, ...], look: Look) -> None:
    attainment, cost = _arrays(points)
    front = pareto(attainment, cost)
    at = [position(attainment[index]) for index in front]
    axes.plot(at, cost[front], color=look.colour, linestyle=look.line, linewidth=look.width)
    others = marker(look, 3.6) | {"markeredgewidth": 0.9}
    every = [position(share) for share in attainment]
    axes.plot(every, cost, color=look.colour, linestyle="none", alpha=0.65, **others)


def _as_run(
    axes: Axes, at: float, cost: float, ci95: tuple[float | None, float | None], look: Look
) -> None:
    """Draw the setting in the tables large, with its interval of cost."""
    low, high = ci95
    if low is not None and high is not None:
        axes.plot([at, at], [low, high], color=look.colour, linewidth=1.0, alpha=0.3)
    axes.plot(at, cost, color=look.colour, zorder=5, **marker(look, 7.5))


def _arrays(points: tuple[FrontierPoint, ...]) -> tuple[np.ndarray, np.ndarray]:
    known = [
        (point.attainment_ratio.mean, point.gpu_hours.mean)
        for point in points
        if point.attainment_ratio.mean is not None and point.gpu_hours.mean is not None
    ]
    columns = np.array(known, dtype=np.float64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def _scale(axes: Axes, reading: Reading) -> None:
    """Show the decades round the objective; what lies outside is told in the tables."""
    target = position(reading.target)
    places = [
        (position(point.attainment_ratio.mean or 0.0), point.gpu_hours.mean or 0.0)
        for points in reading.summary.frontiers.values()
        for point in points
    ]
    low = max(min([at for at, _ in places] + [target]), position(_WORST))
    high = max([at for at, _ in places] + [target])
    costs = [cost for at, cost in places if at >= low]
    axes.set_xlim(low - 0.06, high + 0.1 * (high - low))
    if costs:
        margin = 0.06 * (max(costs) - min(costs)) or 1.0
        axes.set_ylim(min(costs) - margin, max(costs) + margin)
    ticks = [share for share in _TICKS if low - 0.06 <= position(share) <= high + 0.06]
    axes.set_xticks([position(share) for share in ticks], [percent(share) for share in ticks])
    axes.grid(axis="both")
    axes.axvline(target, color=INK, linewidth=1.0, linestyle=(0, (1, 2)))
    axes.annotate(
        f"objective {percent(reading.target)}",
        (target, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(3, -1),
        textcoords="offset points",
        va="top",
        fontsize=8.0,
        color=MUTED,
    )
