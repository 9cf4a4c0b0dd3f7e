"""Learning curves over frames with intervals over seeds, and the frontier that was reached."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from gpupilot_agent.fleet_validation import Score, Trade
from gpupilot_agent.report.canvas import sheet
from gpupilot_agent.report.figure_frontier import position
from gpupilot_agent.report.learning_reading import Floats, Learning
from gpupilot_agent.report.look import HAIRLINE, INK, MUTED, Look, looks
from gpupilot_envs.actions import AXES

LEARNED = "learned"
CLASSICAL = "classical"

PRICES = ("-", "--", ":", "-.")

LOOKS: dict[str, Look] = looks({LEARNED: ("ppo", "learned"), CLASSICAL: ("queueing", "tuned")})


def curves_figure(learning: Learning) -> Figure:
    """Return saving, cost, late share and price over frames.

    Thin lines: seeds. Thick: their mean. Shaded: 95 % interval of the mean.
    """
    figure, grid = sheet(4.7, nrows=2, ncols=2, sharex=True)
    (saving, late), (cost, price) = grid
    seeds = learning.seeds
    _curve(saving, learning, [100.0 * seed.column("saving") for seed in seeds])
    _curve(cost, learning, [seed.column("rollout_cost_ratio") for seed in seeds])
    _curve(late, learning, [100.0 * seed.column("rollout_late_ratio") for seed in seeds])
    _prices(price, learning)
    saving.axhline(0.0, color=MUTED, linewidth=0.8, linestyle="--", zorder=1)
    saving.set_title("GPU time saved at equal attainment, validation (%)", loc="left")
    cost.set_title("GPU time over what the mean demand needs, training", loc="left")
    late.set_title("requests late, training, exploring (%)", loc="left")
    price.set_title("price of a late request by objective", loc="left")
    _at_least(saving, 1.0)
    for axes in (late, cost):
        axes.set_ylim(bottom=max(axes.get_ylim()[0], 0.0))
    for axes in (cost, price):
        axes.set_xlabel("service-decisions, millions")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda frames, _: f"{frames / 1e6:g}"))
    for axes in grid.flat:
        axes.grid(axis="y")
        axes.tick_params(length=0)
    return figure


def _at_least(axes: Axes, span: float) -> None:
    """Let an axis show ``span`` or more, so that rounding errors do not look like a curve."""
    low, high = axes.get_ylim()
    missing = max(span - (high - low), 0.0) / 2.0
    axes.set_ylim(low - missing, high + missing)


def trade_figure(learning: Learning) -> Figure:
    """Return the best seed's frontier over the price, beside the classical one over its margin."""
    figure, axes = sheet(3.0, width_in=6.2)
    best = learning.best
    for name, key in ((CLASSICAL, "classical"), (LEARNED, "validation")):
        _frontier(axes, best.frontier(key), LOOKS[name], name)
    at = position(float(learning.config["attainment_ratio"]))
    axes.axvline(at, color=MUTED, linewidth=0.8, linestyle="--", zorder=1)
    axes.annotate(
        " objective", (at, 0.0), xycoords=("data", "axes fraction"), va="bottom", color=MUTED
    )
    shares = [0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999]
    low, high = axes.get_xlim()
    shown = [share for share in shares if low <= position(share) <= high]
    axes.set_xticks([position(s) for s in shown], [f"{100 * s:g} %" for s in shown])
    axes.set_xlim(low, high)
    axes.set_xlabel("requests in time, validation")
    axes.set_ylabel("GPU time / mean demand")
    axes.grid(axis="y")
    axes.tick_params(length=0)
    axes.legend(frameon=False, loc="upper left")
    return figure


def _curve(axes: Axes, learning: Learning, columns: Sequence[Floats]) -> None:
    look, frames = LOOKS[LEARNED], learning.frames
    several = len(columns) > 1
    for trained, column in zip(learning.seeds, columns, strict=True):
        axes.plot(
            trained.column("frames"),
            column,
            color=look.colour,
            linewidth=0.7 if several else look.width,
            alpha=0.35 if several else 1.0,
            marker="" if several else "o",
            markersize=2.5,
        )
    if several:
        _mean(axes, learning, columns, frames, look)


def _mean(
    axes: Axes, learning: Learning, columns: Sequence[Floats], frames: Floats, look: Look
) -> None:
    """Draw the mean over seeds and its interval, where two seeds or more got that far."""
    spreads = learning.together(list(columns))
    known = [(at, s) for at, s in zip(frames.tolist(), spreads, strict=True) if s.ci95]
    at = [frame for frame, _ in known]
    axes.plot(at, [s.mean or 0.0 for _, s in known], color=look.colour, linewidth=look.width)
    ends = np.array([s.ci95 for _, s in known]).reshape(-1, 2)
    axes.fill_between(at, ends[:, 0], ends[:, 1], color=look.colour, alpha=0.14, linewidth=0.0)


def _prices(axes: Axes, learning: Learning) -> None:
    """Draw the mean price over seeds, one line per objective, on a logarithmic scale."""
    look, frames = LOOKS[LEARNED], learning.frames
    for index, objective in enumerate(learning.objectives):
        columns = [_price(trained.rows, index) for trained in learning.seeds]
        means = [spread.mean for spread in learning.together(columns)]
        axes.plot(
            frames,
            np.array([np.nan if mean is None else mean for mean in means]),
            color=look.colour,
            linestyle=PRICES[index % len(PRICES)],
            label=f"{100 * objective:g} %",
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda price, _: f"{price:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.35)
    axes.legend(frameon=False, ncols=len(learning.objectives), loc="upper left", fontsize=7.5)


def _price(rows: Sequence[dict[str, object]], index: int) -> Floats:
    prices = np.array([row["multipliers"] for row in rows], dtype=np.float64)
    column: Floats = prices[:, index]
    return column


def _frontier(axes: Axes, trade: Trade, look: Look, name: str) -> None:
    order: list[Score] = sorted(trade.scores, key=lambda score: score.late_ratio)
    axes.plot(
        [position(1.0 - score.late_ratio) for score in order],
        [score.cost_ratio for score in order],
        color=look.colour,
        linewidth=look.width,
        marker=look.marker,
        markersize=5.0,
        label=name,
    )


def moves_figure(learning: Learning) -> Figure:
    """Return how often each value of each axis was chosen on validation by the best seed."""
    figure, grid = sheet(2.1, ncols=len(AXES), sharey=True)
    actions, look = learning.best.sample.actions, LOOKS[LEARNED]
    for index, (axes, axis) in enumerate(zip(grid, AXES, strict=True)):
        share = np.bincount(actions[:, index], minlength=len(axis.values)) / len(actions)
        axes.bar(range(len(share)), share, color=look.colour, width=0.72)
        axes.set_xticks(range(len(share)), [f"{value:g}" for value in axis.values], rotation=90)
        axes.set_title(f"{axis.name}\n{axis.unit}", loc="left", fontsize=8.0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.tick_params(length=0, labelsize=6.5, labelcolor=INK)
        axes.set_ylim(0.0, 1.0)
        axes.spines["bottom"].set_color(HAIRLINE)
    return figure
