"""How a replica's backlog moves within a step, and what its requests feel meanwhile.

The mean backlog ``w`` (requests waiting over the saturation rate, seconds) follows

    dw/dt = load - 1 + d(load) / w

which has the fitted steady state as its fixed point below saturation, grows as a fluid above it,
drains as a fluid after it, and starts like a diffusion, ``sqrt(2 d t)``, at load 1. It is the
pointwise-stationary fluid flow approximation (Wang, Tipper and Banerjee, IEEE INFOCOM 1996) with
the heavy-traffic form of the steady backlog, its constant read from the event level load by load.
One implicit Euler step solves it for any step length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.fleet.lookup import (
    level_position,
    load_position,
    read_level,
    read_slack,
    read_steady,
)
from gpupilot_envs.fleet.table import Level, Steady

Floats = NDArray[np.float64]

_DIFFUSION = int(Steady.DIFFUSION)
_BACKLOG = int(Steady.BACKLOG_S)
_IN_TIME = int(Steady.IN_TIME)
_ERRORS = int(Steady.ERRORS)
_P50 = int(Steady.LOG_P50)
_QUEUE = int(Steady.QUEUE_S)
_BATCH = int(Steady.BATCH)
_BUSY = int(Steady.BUSY)
_COMPUTE = int(Steady.COMPUTE_S)
_SLOPE = int(Steady.IN_TIME_SLOPE)
_SLOPES = 4
_LEVEL_IN_TIME = int(Level.IN_TIME_INTEGRAL)
_LEVEL_P50 = int(Level.LOG_P50)

NOTICEABLE = 0.02
"""Backlog beyond the steady state, as a share of the target, below which it is not felt."""

_LEAST_LOAD = 0.1

_SETTLED = 0.8
"""Share of the steady backlog from which on a rising backlog counts as steady."""


_REACH = (-0.12, 1.16, 1.78)
"""Median, 95th and 99th percentile of a folded normal number less its mean, over its scale."""

_REACH_ADRIFT = (0.0, 1.645, 2.326)
"""The same of a normal number."""


@inlined
def advance(
    steady: Floats,
    slack: Floats,
    levels: Floats,
    plant: np.void,
    profile: int,
    burst: float,
    load: float,
    backlog_s: float,
    span_s: float,
    felt: Floats,
) -> float:
    """Let ``span_s`` seconds pass at one load; return the backlog at their end.

    Args:
        steady: See :class:`FleetTables`.
        slack: See :class:`FleetTables`.
        levels: See :class:`FleetTables`.
        plant: Constants of the service.
        profile: Which profile.
        burst: Burstiness as a position on its axis.
        load: Arrival rate over saturation rate of each replica.
        backlog_s: Backlog at the start.
        span_s: Length of the step.
        felt: Receives the means over the step, one per column of :class:`Steady`.
    """
    position = load_position(load)
    read_steady(steady, profile, burst, position, felt)
    usual = felt[_BACKLOG]
    target_s = plant["target_s"]
    pulled = backlog_s + span_s * (load - 1.0)
    later = 0.5 * (pulled + np.sqrt(pulled * pulled + 4.0 * felt[_DIFFUSION] * span_s))
    if load > plant["steady_load_max"]:
        share = 1.0
        if plant["loses"] > 0.0 and later > usual:
            share = min(max((usual - backlog_s) / max(later - backlog_s, 1e-12), 0.0), 1.0)
            later = usual
        if share > 0.0:
            _grow(levels, plant, profile, burst, load, backlog_s, later, share, felt)
    elif backlog_s - usual > NOTICEABLE * target_s:
        _drain(slack, plant, profile, burst, position, load, backlog_s - usual, span_s, felt)
    elif later < _SETTLED * usual:
        _grow(levels, plant, profile, burst, load, backlog_s, later, 1.0, felt)
    reached: float = later
    return reached


@compiled
def _drain(
    slack: Floats,
    plant: np.void,
    profile: int,
    burst: float,
    position: float,
    load: float,
    excess_s: float,
    span_s: float,
    felt: Floats,
) -> None:
    """Mix the draining of a backlog beyond the steady state into ``felt``."""
    speed = max(1.0 - load, 1e-6)
    busy_s = min(excess_s / speed, span_s)
    left_s = max(excess_s - speed * busy_s, 0.0)
    share = busy_s / span_s
    target_s = plant["target_s"]
    gone = excess_s - left_s
    above = read_slack(slack, profile, burst, position, excess_s, target_s)
    below = read_slack(slack, profile, burst, position, left_s, target_s)
    felt[_IN_TIME] = share * (above - below) / gone + (1.0 - share) * felt[_IN_TIME]
    felt[_QUEUE] += share * 0.5 * (excess_s + left_s)
    felt[_BUSY] = share + (1.0 - share) * felt[_BUSY]
    _fill_batches(plant, share, felt)
    for k in range(3):
        late = max(excess_s - speed * (1.0 - _quantile(k)) * span_s, 0.0)
        # an answer shows the wait of when its request came: the backlog was larger then
        felt[_P50 + k] = np.log(np.exp(felt[_P50 + k]) + late / max(load, _LEAST_LOAD))


@compiled
def _grow(
    levels: Floats,
    plant: np.void,
    profile: int,
    burst: float,
    load: float,
    backlog_s: float,
    later_s: float,
    share: float,
    felt: Floats,
) -> None:
    """Mix a backlog on its way between two levels into ``felt``, with the weight ``share``."""
    level_max_s = plant["level_max_s"]
    low = min(backlog_s, later_s)
    high = max(backlog_s, later_s, low + 1e-3 * plant["target_s"])
    at_low = level_position(low, level_max_s)
    at_high = level_position(high, level_max_s)
    in_time = (
        read_level(levels, profile, burst, at_high, _LEVEL_IN_TIME)
        - read_level(levels, profile, burst, at_low, _LEVEL_IN_TIME)
    ) / (high - low)
    felt[_IN_TIME] = share * in_time + (1.0 - share) * felt[_IN_TIME]
    felt[_ERRORS] *= 1.0 - share
    felt[_QUEUE] = share * 0.5 * (low + high) / min(load, 1.0) + (1.0 - share) * felt[_QUEUE]
    _fill_batches(plant, share * min(max(high - felt[_BACKLOG], 0.0) / (high - low), 1.0), felt)
    wander_s, drift = _wander(felt[_DIFFUSION], load, high)
    for k in range(3):
        # an answer shows the wait of when its request came: the backlog was smaller then
        reached = (low + _quantile(k) * (high - low)) / max(load, 1.0)
        at = level_position(reached, level_max_s)
        log_s = read_level(levels, profile, burst, at, _LEVEL_P50 + k)
        if reached > level_max_s:
            log_s = np.log(np.exp(log_s) + reached - level_max_s)
        if load > 1.0 and k > 0:
            far_s = wander_s * (_REACH[k] + (_REACH_ADRIFT[k] - _REACH[k]) * drift)
            along_s = (_quantile(k) - 0.5) * (high - low)
            strayed_s = 0.5 * (low + high) + np.sqrt(far_s * far_s + along_s * along_s)
            log_s = max(log_s, np.log(plant["idle_latency_s"] + strayed_s / load))
        felt[_P50 + k] = share * log_s + (1.0 - share) * felt[_P50 + k]


@compiled
def _wander(diffusion: float, load: float, backlog_s: float) -> tuple[float, float]:
    """Return how far a growing backlog strays from its mean, and how much of the mean is drift.

    A reflected Brownian motion from 0 has the mean ``0.8 sqrt(2 d t)`` without drift and
    ``(load - 1) t`` with much; the time since it began follows from the mean it has reached.
    """
    drift_s = max(load - 1.0, 0.0)
    began_s = backlog_s * backlog_s / max(backlog_s * drift_s + 1.28 * diffusion, 1e-12)
    wander_s = np.sqrt(2.0 * diffusion * began_s)
    return wander_s, drift_s * began_s / max(drift_s * began_s + wander_s, 1e-12)


@compiled
def _fill_batches(plant: np.void, share: float, felt: Floats) -> None:
    """Let a share of the requests be served in full batches, whatever the arrivals do."""
    felt[_BATCH] += share * (plant["full_batch"] - felt[_BATCH])
    felt[_COMPUTE] += share * (plant["full_compute_s"] - felt[_COMPUTE])
    for k in range(_SLOPES):
        felt[_SLOPE + k] *= 1.0 - share


@compiled
def _quantile(k: int) -> float:
    return 0.5 if k == 0 else 0.95 if k == 1 else 0.99
