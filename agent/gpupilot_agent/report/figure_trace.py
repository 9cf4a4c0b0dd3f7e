"""One trace: demand, and row by row what every policy ran and which requests were late."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gpupilot_agent.report.canvas import sheet
from gpupilot_agent.report.look import DEMAND, HAIRLINE, INK, LATE, MUTED, Look
from gpupilot_agent.report.reading import Reading, percent
from gpupilot_agent.report.series import POINT_S, Strip

_GAP_S = 300.0
_LATE_SEEN = 0.002
_LATE_FULL = 0.25

Strips = dict[str, list[Strip]]


def panel_figure(reading: Reading, looks: dict[str, Look], trace: str, strips: Strips) -> Figure:
    """Return one row per policy: demand in replicas as an area, ready replicas as a line.

    Minutes in which requests were late are red: the darker, the larger their share, full from a
    quarter of the minute's requests on.
    """
    names = list(strips)
    figure, rows = sheet(
        0.55 + 0.52 * len(names), nrows=len(names), sharex=True, sharey=True, squeeze=False
    )
    capacity_rps = float(reading.summary.config["capacity"]["slo_rps"])
    offsets = _offsets(strips[names[0]])
    top = _top(strips, capacity_rps)
    for axes, name in zip(rows[:, 0], names, strict=True):
        _row(axes, strips[name], offsets, looks[name], capacity_rps, top)
        _words(axes, reading, trace, name, looks[name])
    _clock(rows[-1, 0], strips[names[0]], offsets)
    return figure


def _offsets(strips: Sequence[Strip]) -> list[float]:
    """Return where each window starts on the figure's axis: one behind the other."""
    lengths = [float(strip.at_s[-1]) + 0.5 * POINT_S + _GAP_S for strip in strips]
    return [0.0, *np.cumsum(lengths)[:-1].tolist()]


def _top(strips: Strips, capacity_rps: float) -> float:
    """Return the highest demand, or twice the usual replicas where one policy towers."""
    every = [strip for each in strips.values() for strip in each]
    demand = max(float(strip.rate_rps.max()) for strip in every) / capacity_rps
    usual = float(np.quantile(np.concatenate([strip.replicas_ready for strip in every]), 0.98))
    return 1.35 * max(demand, usual, 1.0)


def _row(
    axes: Axes,
    strips: Sequence[Strip],
    offsets: Sequence[float],
    look: Look,
    capacity_rps: float,
    top: float,
) -> None:
    for strip, offset in zip(strips, offsets, strict=True):
        at = strip.at_s + offset
        axes.fill_between(
            at, strip.rate_rps / capacity_rps, color=DEMAND, linewidth=0.0, step="mid"
        )
        axes.step(
            at, strip.replicas_ready, where="mid", color=look.colour, linewidth=look.width * 0.8
        )
        for minute, share in zip(at, strip.late_ratio, strict=True):
            if share > _LATE_SEEN:
                strength = 0.2 + 0.7 * min(share / _LATE_FULL, 1.0)
                half = 0.5 * POINT_S
                axes.axvspan(
                    minute - half, minute + half, color=LATE, alpha=strength, linewidth=0, zorder=0
                )
    axes.set_ylim(0.0, top)
    axes.tick_params(length=0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(HAIRLINE)


def _words(axes: Axes, reading: Reading, trace: str, name: str, look: Look) -> None:
    score = reading.summary.traces[trace][name]
    share, cost = score.attainment_ratio.mean or 0.0, score.gpu_hours.mean or 0.0
    axes.set_ylabel(
        name, rotation=0, ha="right", va="center", color=look.colour, fontsize=8.5, labelpad=8
    )
    kept = LATE if not reading.meets(score) else INK
    for height, text, colour in ((0.66, percent(share), kept), (0.28, f"{cost:.2f} GPU h", MUTED)):
        axes.annotate(
            text,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.0,
            color=colour,
            annotation_clip=False,
        )


def _clock(axes: Axes, strips: Sequence[Strip], offsets: Sequence[float]) -> None:
    """Label the start of every window with its day and hour on the trace's clock."""
    labels = [_when(strip.start_s) for strip in strips]
    axes.set_xticks(list(offsets), labels, ha="left")
    end = offsets[-1] + float(strips[-1].at_s[-1]) + 0.5 * POINT_S
    axes.set_xlim(offsets[0], end)


def _when(start_s: float) -> str:
    minutes = round(start_s / 60.0)
    return f"day {minutes // 1440 + 1}, {minutes // 60 % 24:02d}:{minutes % 60:02d}"
