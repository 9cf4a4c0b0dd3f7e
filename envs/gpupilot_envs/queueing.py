"""The queueing controller: how many replicas a rate forecast, its margin and a backlog need.

Everything is a pure function of the readings and of six plain numbers, so that a classical
policy, the learned policy that moves these numbers, and a compiled loop over thousands of
services run the very same code. Rates become replicas by dividing by what one replica carries
within the objective (``slo_rps``): needs are dimensionless and one setting fits any service.

Forecast: Holt's linear exponential smoothing (C. C. Holt, 1957; Hyndman and Athanasopoulos,
*Forecasting: Principles and Practice*, 3rd ed., section 8.2) on unevenly spaced readings.
Margin: ``z`` standard deviations of the forecast's own recent errors, or their conformal
quantile (Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled

AT, WINDOW, RATE, PENDING = 0, 1, 3, 12
"""Columns of ``History.matrix()`` the kernels read; literals, because compiled code is cached."""

ROUNDING = 1e-9
"""A need this little above a whole number is that whole number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """The numbers that tune the controller, and that the learned policy moves.

    Attributes:
        z: Margin in standard deviations of the forecast error, 0 or more.
        hold_s: Seconds over which the largest need is kept on the way down.
        horizon_s: How far ahead to forecast: time to a ready pod plus one decision period.
        alpha: Weight of the newest reading in the level, above 0 to 1.
        beta: Weight of the newest slope in the trend, 0 (no trend) to 1.
        drain_s: Seconds within which a backlog must be gone.
        conformal: Whether the margin is a quantile of the errors instead of ``z`` sigmas.
        anchor_miss: A running mean of the rate stands in for the forecast while its errors are
            below this share of the forecast's, 0 (never) to 1; read by
            :func:`gpupilot_envs.actions.decode` alone.
    """

    z: float = 2.0
    hold_s: float = 120.0
    horizon_s: float = 45.0
    alpha: float = 0.5
    beta: float = 0.0
    drain_s: float = 15.0
    conformal: bool = False
    anchor_miss: float = 0.0


@compiled
def smooth(
    rows: NDArray[np.float64],
    start: int,
    count: int,
    alpha: float,
    beta: float,
    level: NDArray[np.float64],
    trend: NDArray[np.float64],
) -> None:
    """Fill ``level`` (rps) and ``trend`` (rps per second) after each of ``count`` readings.

    Rows are taken from ``start`` round the ring. A reading without a rate changes nothing; before
    the first rate both are NaN. The first ``1 / alpha`` rates weigh equally, so that the level
    is unbiased from the start.
    """
    size, seen = rows.shape[0], 0
    at_s, now_level, now_trend = 0.0, np.nan, 0.0
    for i in range(count):
        row = (start + i) % size
        rate = rows[row, RATE]
        if not np.isnan(rate):
            seen += 1
            elapsed_s = rows[row, AT] - at_s
            if seen == 1:
                now_level = rate
            elif elapsed_s > 0.0:
                expected = now_level + now_trend * elapsed_s
                weight = max(alpha, 1.0 / seen)
                new_level = expected + weight * (rate - expected)
                slope = (new_level - now_level) / elapsed_s
                now_trend += beta * (slope - now_trend)
                now_level = max(0.0, new_level)
            at_s = rows[row, AT]
        level[i], trend[i] = now_level, now_trend


@compiled
def forecast_errors(
    rows: NDArray[np.float64],
    start: int,
    count: int,
    horizon_s: float,
    level: NDArray[np.float64],
    trend: NDArray[np.float64],
    errors: NDArray[np.float64],
) -> int:
    """Fill ``errors`` with rate minus the forecast made ``horizon_s`` before; return how many.

    While the history is shorter than the horizon, the oldest forecast stands in.
    """
    size, found, made = rows.shape[0], 0, 0
    for i in range(1, count):
        row = (start + i) % size
        at_s = rows[row, AT]
        while made + 1 < i and (
            np.isnan(level[made]) or rows[(start + made + 1) % size, AT] <= at_s - horizon_s
        ):
            made += 1
        rate = rows[row, RATE]
        if np.isnan(rate) or np.isnan(level[made]):
            continue
        ahead_s = at_s - rows[(start + made) % size, AT]
        errors[found] = rate - max(0.0, level[made] + trend[made] * ahead_s)
        found += 1
    return found


@compiled
def largest(values: NDArray[np.float64], count: int, place: int) -> float:
    """Return the value at ``place`` from the top, 1 for the largest, of the first ``count``.

    A quantile near the top is a few insertions; sorting would cost more than the rest of a need.
    """
    top = np.full(place, -np.inf)
    for i in range(count):
        value, at = values[i], place - 1
        if value <= top[at]:
            continue
        while at > 0 and top[at - 1] < value:
            top[at] = top[at - 1]
            at -= 1
        top[at] = value
    return float(top[place - 1])


@compiled
def margin_rps(errors: NDArray[np.float64], count: int, z: float, conformal: bool) -> float:
    """Return the margin over the forecast, requests per second, 0 or more.

    Conformal: the smallest error that at least the share Phi(z) of the next errors stays below;
    where there are too few errors to tell, the larger of the largest error and ``z`` sigmas.
    """
    total = 0.0
    for i in range(count):
        total += errors[i] * errors[i]
    gaussian = z * sqrt(total / count) if count > 0 else 0.0
    if not conformal or count == 0:
        return gaussian
    rank = int(np.ceil((count + 1) * 0.5 * (1.0 + erf(z / sqrt(2.0)))))
    highest = largest(errors, count, max(count - rank + 1, 1))
    return max(gaussian, highest) if rank > count else max(0.0, highest)


@compiled
def needs(
    rows: NDArray[np.float64],
    start: int,
    count: int,
    slo_rps: float,
    z: float,
    hold_s: float,
    horizon_s: float,
    alpha: float,
    beta: float,
    drain_s: float,
    conformal: bool,
) -> tuple[float, float, float, float]:
    """Return ``(need, held_need, forecast_rps, margin_rps)``; NaN when no rate was ever read.

    ``need`` is ``(forecast + margin) / slo_rps + backlog / (slo_rps * drain_s)`` in replicas at
    the newest reading; ``held_need`` is the largest over the last ``hold_s`` seconds. The
    forecast is the larger of the level and its projection: capacity must carry the rate on the
    way as well as at the horizon. A missing backlog adds nothing.

    Args:
        rows: Readings, shape ``(size, len(SIGNAL_FIELDS))``, C-contiguous: ``History.matrix()``
            or a ring buffer.
        start: Row of the oldest reading.
        count: Readings to use, at most ``size``, oldest first from ``start``.
        slo_rps: What one replica carries within the objective.
        z: Margin in standard deviations; see :class:`Knobs` for this and the rest.
        hold_s: See :class:`Knobs`.
        horizon_s: See :class:`Knobs`.
        alpha: See :class:`Knobs`.
        beta: See :class:`Knobs`.
        drain_s: See :class:`Knobs`.
        conformal: See :class:`Knobs`.
    """
    level, trend, errors = np.empty(count), np.empty(count), np.empty(count)
    smooth(rows, start, count, alpha, beta, level, trend)
    if count == 0 or np.isnan(level[count - 1]):
        return np.nan, np.nan, np.nan, np.nan
    newest = (start + count - 1) % rows.shape[0]
    found = forecast_errors(rows, start, count, horizon_s, level, trend, errors)
    if found > 0:
        margin = margin_rps(errors, found, z, conformal)
    else:
        margin = z * sqrt(level[count - 1] / rows[newest, WINDOW])
    now_s, need, held, forecast = rows[newest, AT], 0.0, 0.0, 0.0
    for i in range(count - 1, -1, -1):
        row = (start + i) % rows.shape[0]
        if np.isnan(level[i]) or (i < count - 1 and rows[row, AT] < now_s - hold_s):
            break
        ahead = max(level[i], level[i] + trend[i] * horizon_s)
        pending = rows[row, PENDING]
        backlog = 0.0 if np.isnan(pending) else pending / drain_s
        need_then = (ahead + backlog + margin) / slo_rps
        held = max(held, need_then)
        if i == count - 1:
            need, forecast = need_then, ahead
    return need, held, forecast, margin


@compiled
def settle(current: int, need: float, held_need: float) -> int:
    """Return the replicas to run: up to ``need`` at once, down only as far as ``held_need``.

    NaN needs keep ``current``.
    """
    if np.isnan(need) or np.isnan(held_need):
        return current
    least = int(np.ceil(need - ROUNDING))
    most = int(np.ceil(held_need - ROUNDING))
    return max(least, min(current, max(least, most)))
