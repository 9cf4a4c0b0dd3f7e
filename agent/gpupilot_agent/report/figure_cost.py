"""What keeping the objective costs: the picture of the first screen, and the same by trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpupilot_agent.report.canvas import marker, sheet
from gpupilot_agent.report.look import HAIRLINE, INK, LATE, MUTED, Look
from gpupilot_agent.report.reading import Reading, percent
from gpupilot_agent.results import Metric

Looks = dict[str, Look]

HERO_IN = 5.6
"""Width of the first picture: it shares the row with the findings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    name: str
    cost: float
    low: float | None
    high: float | None
    note: str
    missed: bool


def cost_figure(reading: Reading, looks: Looks) -> Figure:
    """Return GPU-hours per policy at one attainment, cheapest on top, bounds as lines.

    A policy without a value there stands with what it spent as it ran, and with the share it
    kept.
    """
    rows = _rows(reading)
    figure, axes = sheet(0.85 + 0.25 * len(rows), HERO_IN)
    for at, row in enumerate(rows):
        _row(axes, at, row, looks[row.name])
    _bounds(axes, reading, looks, len(rows))
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(len(rows) - 0.4, -0.9)
    axes.margins(x=0.12)
    axes.set_xlim(left=0.0)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(
        f"GPU-hours per run at {percent(reading.level)} within {reading.latency_ms:g} ms; "
        "line: 95 % interval"
    )
    return figure


def trace_figure(reading: Reading, looks: Looks) -> Figure:
    """Return cost trace by trace relative to the policy in focus; a cross missed the target."""
    traces = list(reading.summary.traces)
    figure, axes = sheet(1.25 + 0.3 * len(traces))
    focus = reading.focus
    for at, trace in enumerate(traces):
        axes.axhline(at, color=HAIRLINE, linewidth=0.6, zorder=0)
        base = reading.summary.traces[trace][focus].gpu_hours.mean or 1.0
        for name, look in looks.items():
            score = reading.summary.traces[trace][name]
            cost = (score.gpu_hours.mean or 0.0) / base - 1.0
            met = reading.meets(score)
            shown = marker(look) if met else marker(look, 4.0) | {"alpha": 0.45}
            axes.plot(cost * 100.0, at, linestyle="none", zorder=4 if met else 3, **shown)
            if not met:
                axes.plot(cost * 100.0, at, linestyle="none", zorder=3, **_cross(look.colour))
    for name, look in looks.items():
        axes.plot([], [], label=name, color=look.colour, linestyle="none", **marker(look))
    axes.plot([], [], label="missed the target", linestyle="none", **_cross(MUTED))
    axes.axvline(0.0, color=MUTED, linewidth=0.8, zorder=1)
    axes.set_yticks(range(len(traces)), traces)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(len(traces) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"GPU-hours relative to {focus} in %, every policy as it ran")
    figure.legend(loc="outside upper left", ncols=6, frameon=False, fontsize=7.5)
    return figure


def _rows(reading: Reading) -> list[_Row]:
    level = f"{reading.level:g}"
    read = reading.summary.at_attainment.get(level, {})
    intervals = reading.summary.at_attainment_ci95.get(level, {})
    rows = []
    for name in reading.contestants:
        cost = read.get(name)
        score = reading.summary.policies[name]
        if cost is not None:
            low, high = intervals[name]
            rows.append(_Row(name=name, cost=cost, low=low, high=high, note="", missed=False))
        elif score.gpu_hours.mean is not None:
            rows.append(_as_run(name, score.gpu_hours, score.attainment_ratio, reading.level))
    return sorted(rows, key=lambda row: (row.missed, row.cost))


def _as_run(name: str, cost: Metric, attainment: Metric, level: float) -> _Row:
    kept = attainment.mean or 0.0
    return _Row(
        name=name,
        cost=cost.mean or 0.0,
        low=cost.ci95[0],
        high=cost.ci95[1],
        note=f"as it ran: {percent(kept)}",
        missed=kept < level,
    )


def _row(axes: Axes, at: int, row: _Row, look: Look) -> None:
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [at, at], color=look.colour, linewidth=2.0, alpha=0.55)
    drawn = marker(look, 7.5)
    if row.note:
        drawn["markerfacecolor"] = "none"
    axes.plot(row.cost, at, color=look.colour, zorder=5, **drawn)
    right = max(row.cost, row.high or 0.0)
    text = f"{row.cost:.2f}" + (f"   {row.note}" if row.note else "")
    axes.annotate(
        text,
        (right, at),
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.0,
        color=LATE if row.missed else INK,
    )


def _bounds(axes: Axes, reading: Reading, looks: Looks, rows: int) -> None:
    read = reading.summary.at_attainment.get(f"{reading.level:g}", {})
    bounds = [name for name, (_, role) in reading.roles.items() if role == "bound"]
    costs = sorted((cost, name) for name in bounds if (cost := read.get(name)) is not None)
    for at, (cost, name) in enumerate(costs):
        look = looks[name]
        axes.plot(
            [cost, cost],
            [-0.45, rows - 0.5],
            color=look.colour,
            linestyle=look.line,
            linewidth=look.width,
            zorder=1,
        )
        # the cheapest is named to its left, so that two close bounds can both be read
        side = "center" if len(costs) == 1 else "right" if at == 0 else "left"
        axes.text(cost, -0.7, f"{name} {cost:.2f}", ha=side, color=MUTED, fontsize=7.5)


def _cross(colour: str) -> dict[str, Any]:
    return {"marker": "x", "markersize": 5.5, "color": colour, "markeredgewidth": 1.1}
