"""What is known of a service, kept up to date reading by reading at constant cost.

The queueing controller of :mod:`gpupilot_envs.queueing` looks through its whole history at every
decision. Deciding for thousands of services every few seconds, that would cost more than the
rest together; so level, trend, forecast errors and needs are carried from reading to reading.
On a history no longer than the ring the answers are those of ``queueing.needs``, bit for bit;
beyond it the smoothing has no beginning, where ``needs`` starts afresh at its oldest reading.

Three arrays are carried per service: a ring with one column per reading, the forecast errors in the
ring in ascending order, and plain numbers. Copy them and the decisions after the copy are the
same; lose them and :func:`follow` over the history makes new ones.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.queueing import AT, PENDING, RATE, WINDOW
from gpupilot_envs.signals import SIGNAL_INDEX

Floats = NDArray[np.float64]

PERIOD_S = 5.0
"""Seconds between decisions, and the window of each reading."""

HISTORY_S = 960.0
"""Seconds that the ring looks back on: errors are counted and needs are held no longer."""

HISTORY_ROWS = round(HISTORY_S / PERIOD_S)
"""Readings in the ring."""

BUDGET_WINDOW_S = 3600.0
"""Time constant of the decaying window over which the error budget is counted."""

PEAK_WINDOW_S = 3600.0
"""Time constant with which the largest need is forgotten."""

MEAN_WINDOWS_S = (60.0, 300.0, 900.0, 3600.0)
"""Time constants of the running means of the rate."""

ANCHORS = 3
"""The first so many of them can stand in for the forecast, see :data:`.actions.AXES`."""

SKILL_WINDOW_S = 900.0
"""Time constant over which forecast and means are compared."""


class Ring(IntEnum):
    """Rows of the ring: what is kept of every reading, one column each.

    What is looked through lies side by side: a look back touches a few lines of the cache.
    """

    AT = 0
    RATE = 1
    LEVEL = 2
    TREND = 3
    BASE = 4
    """Forecast and backlog in requests/s, without a margin; NaN before the first rate."""
    ERROR = 5
    """Rate less what was forecast for now a horizon ago; NaN where either is missing."""
    MEAN = 6
    """The running means that can stand in for the forecast, as they were then."""


class Known(IntEnum):
    """Plain numbers carried per service."""

    NEWEST = 0
    """Ring slot of the newest reading, -1 before the first."""
    COUNT = 1
    """Readings in the ring."""
    SEEN = 2
    """Rates read so far."""
    LEVEL_AT = 3
    LEVEL = 4
    TREND = 5
    MADE = 6
    """Ring slot of the forecast that the next error is taken against."""
    ERRORS = 7
    SQUARES = 8
    """Number of the errors in the ring, and the sum of their squares."""
    AHEAD = 9
    """Forecast in requests/s."""
    BASE = 10
    """Forecast and backlog in requests/s."""
    WINDOW = 11
    PEAK_BASE = 12
    PEAK_RATE = 13
    RECENT_PEAK = 14
    """Largest base over an hour, largest rate over an hour and over 10 min, decaying."""
    REQUESTS = 15
    LATE_REQUESTS = 16
    RECENT_REQUESTS = 17
    RECENT_LATE = 18
    """Requests and late requests, decaying over an hour and over 5 min."""
    BUSY_NOW = 19
    BURSTS = 20
    QUIET_S = 21
    IDLE = 22
    IDLE_WEIGHT = 23
    """Whether in a burst, bursts in the last hour, seconds since one, share of time near idle."""
    MEANS = 24
    """Weight, sum and sum of squares of the rate for each of :data:`MEAN_WINDOWS_S`."""
    MISSES = MEANS + 3 * len(MEAN_WINDOWS_S)
    """Squared errors of the forecast and of each mean that can stand in for it, decaying."""


_NEWEST = int(Known.NEWEST)
_COUNT = int(Known.COUNT)
_SEEN = int(Known.SEEN)
_LEVEL_AT = int(Known.LEVEL_AT)
_LEVEL = int(Known.LEVEL)
_TREND = int(Known.TREND)
_MADE = int(Known.MADE)
_ERRORS = int(Known.ERRORS)
_SQUARES = int(Known.SQUARES)
_AHEAD = int(Known.AHEAD)
_BASE = int(Known.BASE)
_WINDOW = int(Known.WINDOW)
_PEAK_BASE = int(Known.PEAK_BASE)
_PEAK_RATE = int(Known.PEAK_RATE)
_RECENT_PEAK = int(Known.RECENT_PEAK)
_REQUESTS = int(Known.REQUESTS)
_LATE_REQUESTS = int(Known.LATE_REQUESTS)
_RECENT_REQUESTS = int(Known.RECENT_REQUESTS)
_RECENT_LATE = int(Known.RECENT_LATE)
_BUSY_NOW = int(Known.BUSY_NOW)
_BURSTS = int(Known.BURSTS)
_QUIET_S = int(Known.QUIET_S)
_IDLE = int(Known.IDLE)
_IDLE_WEIGHT = int(Known.IDLE_WEIGHT)
_MEANS = int(Known.MEANS)
_MISSES = int(Known.MISSES)
KNOWN = _MISSES + 1 + ANCHORS
"""Length of the plain numbers."""

_RING_AT, _RING_RATE, _RING_LEVEL, _RING_TREND, _RING_BASE, _RING_ERROR, _RING_MEAN = (
    int(c) for c in Ring
)
RING = _RING_MEAN + ANCHORS
"""Rows of the ring."""

_ATTAINMENT = SIGNAL_INDEX["attainment_ratio"]
_MEAN_DECAYS = np.array([math.exp(-PERIOD_S / window_s) for window_s in MEAN_WINDOWS_S])
_HOUR_DECAY = math.exp(-PERIOD_S / BUDGET_WINDOW_S)
_PEAK_DECAY = math.exp(-PERIOD_S / PEAK_WINDOW_S)
_TEN_MINUTES_DECAY = math.exp(-PERIOD_S / 600.0)
_SKILL_DECAY = math.exp(-PERIOD_S / SKILL_WINDOW_S)
_FIVE_MINUTES_DECAY = math.exp(-PERIOD_S / 300.0)

BURST_BEGINS, BURST_ENDS, NEAR_IDLE = 0.5, 0.25, 0.1
"""Shares of the hour's peak rate: above the first a burst begins, below the second it is over."""


def fresh_rows(services: int) -> tuple[Floats, Floats, Floats]:
    """Return ring, ordered errors and plain numbers of services of which nothing is known."""
    ring = np.full((services, RING, HISTORY_ROWS), np.nan)
    ordered = np.zeros((services, HISTORY_ROWS))
    known = np.zeros((services, KNOWN))
    known[:, Known.NEWEST] = -1.0
    for unknown in (Known.LEVEL, Known.AHEAD, Known.BASE):
        known[:, unknown] = np.nan
    known[:, Known.QUIET_S] = PEAK_WINDOW_S
    return ring, ordered, known


@compiled
def follow(
    row: Floats,
    alpha: float,
    beta: float,
    horizon_s: float,
    drain_s: float,
    ring: Floats,
    ordered: Floats,
    known: Floats,
) -> None:
    """Take in one reading, in place.

    Args:
        row: :meth:`Signals.row`, NaN where unanswered.
        alpha: See :class:`gpupilot_envs.queueing.Knobs` for this and the next three.
        beta: Weight of the newest slope in the trend.
        horizon_s: How far ahead to forecast.
        drain_s: Seconds within which a backlog must be gone.
        ring: One column per reading, shape ``(RING, HISTORY_ROWS)``.
        ordered: Forecast errors in the ring, ascending, shape ``(HISTORY_ROWS,)``.
        known: Plain numbers, shape ``(KNOWN,)``.
    """
    slot = _next_slot(ring, ordered, known)
    now_s, rate = row[AT], row[RATE]
    _smooth(now_s, rate, alpha, beta, known)
    level, trend = known[_LEVEL], known[_TREND]
    pending = row[PENDING]
    ahead = max(level, level + trend * horizon_s)
    base = ahead + (0.0 if np.isnan(pending) else pending / drain_s)
    known[_AHEAD], known[_BASE], known[_WINDOW] = ahead, base, row[WINDOW]
    ring[_RING_AT, slot], ring[_RING_RATE, slot] = now_s, rate
    ring[_RING_LEVEL, slot], ring[_RING_TREND, slot], ring[_RING_BASE, slot] = level, trend, base
    ring[_RING_ERROR, slot] = np.nan
    error = _error(now_s, rate, horizon_s, slot, ring, known)
    if error == error:
        ring[_RING_ERROR, slot] = error
        _insert(error, ordered, known)
        _compare(rate, error, int(known[_MADE]), ring, known)
    _remember_rate(rate, base, row[_ATTAINMENT], known)
    for k in range(ANCHORS):
        ring[_RING_MEAN + k, slot] = mean_and_spread(known, k)[0]


@inlined
def _next_slot(ring: Floats, ordered: Floats, known: Floats) -> int:
    """Move on to the slot of the oldest reading and forget what it held."""
    size = ring.shape[1]
    slot = int(known[_NEWEST]) + 1
    if slot == size:
        slot = 0
    if known[_COUNT] == size:
        if known[_MADE] == slot:
            known[_MADE] = slot + 1 if slot + 1 < size else 0
        gone = ring[_RING_ERROR, slot]
        if gone == gone:
            _remove(gone, ordered, known)
    else:
        known[_COUNT] += 1.0
    known[_NEWEST] = slot
    return slot


@inlined
def _smooth(now_s: float, rate: float, alpha: float, beta: float, known: Floats) -> None:
    """Update level and trend as ``queueing.smooth`` does."""
    if rate == rate:
        known[_SEEN] += 1.0
        elapsed_s = now_s - known[_LEVEL_AT]
        if known[_SEEN] == 1.0:
            known[_LEVEL] = rate
        elif elapsed_s > 0.0:
            expected = known[_LEVEL] + known[_TREND] * elapsed_s
            weight = max(alpha, 1.0 / known[_SEEN])
            level = expected + weight * (rate - expected)
            slope = (level - known[_LEVEL]) / elapsed_s
            known[_TREND] += beta * (slope - known[_TREND])
            known[_LEVEL] = max(0.0, level)
        known[_LEVEL_AT] = now_s


@inlined
def _error(
    now_s: float, rate: float, horizon_s: float, slot: int, ring: Floats, known: Floats
) -> float:
    """Return the error of the forecast made a horizon ago, NaN where there is none."""
    size, made = ring.shape[1], int(known[_MADE])
    if known[_COUNT] == 1.0:
        known[_MADE] = slot
        return np.nan
    while True:
        after = made + 1 if made + 1 < size else 0
        if after == slot:
            break
        if not (np.isnan(ring[_RING_LEVEL, made]) or ring[_RING_AT, after] <= now_s - horizon_s):
            break
        made = after
    known[_MADE] = made
    level, since_s = ring[_RING_LEVEL, made], now_s - ring[_RING_AT, made]
    if np.isnan(rate) or np.isnan(level):
        return np.nan
    error: float = rate - max(0.0, level + ring[_RING_TREND, made] * since_s)
    return error


@inlined
def _place(value: float, ordered: Floats, count: int) -> int:
    """Return how many of the first ``count`` errors are less than ``value``."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _insert(error: float, ordered: Floats, known: Floats) -> None:
    count = int(known[_ERRORS])
    place = _place(error, ordered, count)
    for k in range(count, place, -1):
        ordered[k] = ordered[k - 1]
    ordered[place] = error
    known[_ERRORS] += 1.0
    known[_SQUARES] += error * error


@compiled
def _remove(error: float, ordered: Floats, known: Floats) -> None:
    count = int(known[_ERRORS])
    for k in range(_place(error, ordered, count), count - 1):
        ordered[k] = ordered[k + 1]
    known[_ERRORS] -= 1.0
    known[_SQUARES] -= error * error


@inlined
def _compare(rate: float, error: float, made: int, ring: Floats, known: Floats) -> None:
    """Add the squared error of the forecast, and of the means that were known when it was made."""
    known[_MISSES] = known[_MISSES] * _SKILL_DECAY + error * error
    for k in range(ANCHORS):
        miss = rate - ring[_RING_MEAN + k, made]
        known[_MISSES + 1 + k] = known[_MISSES + 1 + k] * _SKILL_DECAY + miss * miss


@inlined
def _remember_rate(rate: float, base: float, attainment: float, known: Floats) -> None:
    """Update peaks, means, bursts and the budget; a missing rate only lets them fade."""
    known[_PEAK_BASE] *= _PEAK_DECAY
    known[_PEAK_RATE] *= _PEAK_DECAY
    known[_RECENT_PEAK] *= _TEN_MINUTES_DECAY
    known[_REQUESTS] *= _HOUR_DECAY
    known[_LATE_REQUESTS] *= _HOUR_DECAY
    known[_RECENT_REQUESTS] *= _FIVE_MINUTES_DECAY
    known[_RECENT_LATE] *= _FIVE_MINUTES_DECAY
    known[_BURSTS] *= _HOUR_DECAY
    if base > known[_PEAK_BASE]:
        known[_PEAK_BASE] = base
    if rate != rate:
        return
    known[_PEAK_RATE] = max(known[_PEAK_RATE], rate)
    known[_RECENT_PEAK] = max(known[_RECENT_PEAK], rate)
    if attainment == attainment:
        requests = rate * PERIOD_S
        late = requests * (1.0 - attainment)
        known[_REQUESTS] += requests
        known[_LATE_REQUESTS] += late
        known[_RECENT_REQUESTS] += requests
        known[_RECENT_LATE] += late
    _remember_burst(rate, known)
    for k in range(len(_MEAN_DECAYS)):
        at, decay = _MEANS + 3 * k, _MEAN_DECAYS[k]
        known[at] = known[at] * decay + 1.0
        known[at + 1] = known[at + 1] * decay + rate
        known[at + 2] = known[at + 2] * decay + rate * rate


@inlined
def _remember_burst(rate: float, known: Floats) -> None:
    peak = known[_PEAK_RATE]
    if known[_BUSY_NOW] == 0.0 and rate > BURST_BEGINS * peak:
        known[_BUSY_NOW] = 1.0
        known[_BURSTS] += 1.0
    elif known[_BUSY_NOW] == 1.0 and rate < BURST_ENDS * peak:
        known[_BUSY_NOW] = 0.0
    known[_QUIET_S] = 0.0 if known[_BUSY_NOW] == 1.0 else known[_QUIET_S] + PERIOD_S
    known[_IDLE] = known[_IDLE] * _HOUR_DECAY + (1.0 if rate < NEAR_IDLE * peak else 0.0)
    known[_IDLE_WEIGHT] = known[_IDLE_WEIGHT] * _HOUR_DECAY + 1.0


@inlined
def mean_and_spread(known: Floats, window: int) -> tuple[float, float]:
    """Return running mean and deviation of the rate; NaN before the first rate.

    Args:
        known: Plain numbers.
        window: Index into :data:`MEAN_WINDOWS_S`.
    """
    at = _MEANS + 3 * window
    weight = known[at]
    mean = known[at + 1] / weight if weight > 0.0 else np.nan
    spread = math.sqrt(max(known[at + 2] / weight - mean * mean, 0.0)) if weight > 0.0 else np.nan
    return mean, spread
