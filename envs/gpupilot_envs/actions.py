"""What a learned policy may do: a table of moves around the tuned queueing controller.

The inner controller (:mod:`gpupilot_envs.queueing`) turns a forecast into replicas. An action
picks one value of each axis below; the middle of every axis is the controller as it was tuned,
so the neutral action *is* the classical controller and every other one stays in its
neighbourhood. Where a service has gears, the last axis moves the planner that chooses among
them (:mod:`gpupilot_envs.gear_plan`). Discrete residual actions around an analytical controller
are what worked in public work (Autothrottle, NSDI'24: learned targets over a fast inner loop).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.followed import held_base, margin_of, relative_miss
from gpupilot_envs.following import (
    ANCHORS,
    MEAN_WINDOWS_S,
    PERIOD_S,
    Known,
    mean_and_spread,
)
from gpupilot_envs.queueing import Knobs, settle

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One dimension of the action.

    Attributes:
        name: What is moved.
        unit: Unit of the values.
        values: What index 0, 1, ... mean.
        neutral: Index that leaves the classical controller as it is.
        meaning: How a value changes the controller.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    neutral: int
    meaning: str


JUDGED_S = 300.0
"""Seconds of readings before a running mean may stand in for the forecast."""

_JUDGED = JUDGED_S / PERIOD_S

AXES: tuple[Axis, ...] = (
    Axis(
        name="margin",
        unit="standard deviations",
        values=(-2.0, -1.25, -0.75, -0.35, 0.0, 0.35, 0.75, 1.5, 3.0),
        neutral=4,
        meaning="added to the margin z over the forecast (never below 0)",
    ),
    Axis(
        name="hold",
        unit="ratio",
        values=(0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
        neutral=3,
        meaning="times the seconds the largest need is held on the way down",
    ),
    Axis(
        name="lift",
        unit="replicas",
        values=(-1.0, -0.6, -0.3, 0.0, 0.3, 0.6, 1.0),
        neutral=3,
        meaning="added to the need before it is rounded up, times a sixth of it where that is more",
    ),
    Axis(
        name="memory",
        unit="ratio",
        values=(0.0, 0.25, 0.5, 0.75, 1.0),
        neutral=0,
        meaning="share of the hour's decaying peak need that is kept ready whatever comes",
    ),
    Axis(
        name="anchor",
        unit="seconds",
        values=(0.0, *MEAN_WINDOWS_S[:ANCHORS]),
        neutral=0,
        meaning="run for the mean and deviation of so long; 0 leaves it to the controller",
    ),
    Axis(
        name="horizon",
        unit="ratio",
        values=(0.25, 0.5, 1.0, 2.0, 4.0),
        neutral=2,
        meaning="times the seconds ahead for which the rate is forecast; matters while it rises",
    ),
    Axis(
        name="patience",
        unit="ratio",
        values=(0.0, 0.25, 1.0, 4.0),
        neutral=2,
        meaning="times the seconds in which a change of gear must repay itself; 0 keeps the gear",
    ),
)
"""The action: a ``MultiDiscrete`` of one index per axis."""

LIFT_SHARE = 1.0 / 6.0
"""Share of the need that a lift of 1 is at least worth."""

SIZES: tuple[int, ...] = tuple(len(axis.values) for axis in AXES)
NEUTRAL: tuple[int, ...] = tuple(axis.neutral for axis in AXES)
CHOICES = sum(SIZES)
"""Length of a mask, and of a policy's logits: every value of every axis."""

_MARGINS, _HOLDS, _LIFTS, _MEMORIES, _ANCHORS, _HORIZONS, _PATIENCES = (
    np.array(axis.values) for axis in AXES
)
_MARGIN_SPAN = max(abs(value) for value in AXES[0].values)
_HOLD_SPAN = math.log2(1.0 + max(AXES[1].values)) - 1.0
_LIFT_SPAN = max(abs(value) for value in AXES[2].values)
_HORIZON_SPAN = math.log2(max(AXES[5].values))
_PATIENCE_SPAN = math.log2(1.0 + max(AXES[6].values)) - 1.0
_MARGIN_NEUTRAL, _HOLD_NEUTRAL, _LIFT_NEUTRAL, _MEMORY_NEUTRAL, _ANCHOR_NEUTRAL = NEUTRAL[:5]
_HORIZON_NEUTRAL, _PATIENCE_NEUTRAL = NEUTRAL[5:]
_HOLD_AT = SIZES[0]
_LIFT_AT = _HOLD_AT + SIZES[1]
_MEMORY_AT = _LIFT_AT + SIZES[2]
_ANCHOR_AT = _MEMORY_AT + SIZES[3]
_HORIZON_AT = _ANCHOR_AT + SIZES[4]
_PATIENCE_AT = _HORIZON_AT + SIZES[5]


def action_table() -> list[dict[str, object]]:
    """Return the axes as plain data; a policy bundle must carry exactly this table."""
    return [{**asdict(axis), "values": list(axis.values)} for axis in AXES]


def axes_table() -> str:
    """Return the action space as a Markdown table for the documentation."""
    head = "| axis | unit | values (neutral in bold) | meaning |\n|---|---|---|---|\n"
    rows = []
    for axis in AXES:
        shown = [
            f"**{value:g}**" if index == axis.neutral else f"{value:g}"
            for index, value in enumerate(axis.values)
        ]
        rows.append(f"| `{axis.name}` | {axis.unit} | {', '.join(shown)} | {axis.meaning} |\n")
    return head + "".join(rows)


def knobs_row(knobs: Knobs) -> NDArray[np.float64]:
    """Return the controller's setting as the kernels read it, float64, one per KNOB_FIELDS."""
    values = asdict(knobs)
    return np.array([float(values[name]) for name in KNOB_FIELDS], dtype=np.float64)


KNOB_FIELDS: tuple[str, ...] = (
    "z",
    "hold_s",
    "horizon_s",
    "alpha",
    "beta",
    "drain_s",
    "conformal",
    "anchor_miss",
)
"""Columns of :func:`knobs_row`."""


_COUNT = int(Known.COUNT)
_BASE = int(Known.BASE)
_AHEAD = int(Known.AHEAD)
_LEVEL = int(Known.LEVEL)
_TREND = int(Known.TREND)
_PEAK_BASE = int(Known.PEAK_BASE)

_Z, _HOLD_S, _HORIZON_S, _CONFORMAL, _ANCHOR_MISS = 0, 1, 2, 6, 7
"""Columns of :func:`knobs_row` that are read where an action is carried out."""


@compiled
def advise(
    ring: Floats,
    ordered: Floats,
    known: Floats,
    slo_rps: float,
    knobs: Floats,
    running: int,
    advice: Floats,
) -> None:
    """Fill what the classical controller makes of the readings.

    Args:
        ring: See :mod:`gpupilot_envs.following` for this and the next two.
        ordered: Forecast errors, ascending.
        known: Plain numbers.
        slo_rps: What one replica carries at the objective.
        knobs: :func:`knobs_row` of the controller.
        running: Replicas the service was last told to run.
        advice: Receives forecast in requests/s; replicas needed now, not rounded; replicas it
            would ask for; margin in requests/s; replicas needed at the hour's decaying peak.
            NaN but for ``running`` before the first rate.
    """
    base = known[_BASE]
    if known[_COUNT] == 0.0 or np.isnan(base):
        advice[:] = np.nan
        advice[2] = running
        return
    anchor = _stand_in(knobs[_ANCHOR_MISS], known)
    if anchor >= 0:
        mean, spread = mean_and_spread(known, anchor)
        ahead, margin = mean, knobs[_Z] * spread
        base += mean - known[_AHEAD]
        held = base
    else:
        ahead, margin = (
            known[_AHEAD],
            margin_of(knobs[_Z], knobs[_CONFORMAL] != 0.0, ordered, known),
        )
        held = held_base(knobs[_HOLD_S], ring, known)
    need = (base + margin) / slo_rps
    advice[0] = ahead
    advice[1] = need
    advice[2] = settle(running, need, (held + margin) / slo_rps)
    advice[3] = margin
    advice[4] = (known[_PEAK_BASE] + margin) / slo_rps


@compiled
def decode(
    action: NDArray[np.int64],
    ring: Floats,
    ordered: Floats,
    known: Floats,
    slo_rps: float,
    knobs: Floats,
    running: int,
) -> int:
    """Return the replicas an action asks for.

    Args:
        action: One index per axis of :data:`AXES`, int64, shape ``(len(AXES),)``.
        ring: See :func:`advise` for this and the rest.
        ordered: Forecast errors, ascending.
        known: Plain numbers.
        slo_rps: What one replica carries at the objective.
        knobs: :func:`knobs_row` of the tuned controller.
        running: Replicas the service was last told to run.
    """
    base = known[_BASE]
    if known[_COUNT] == 0.0 or np.isnan(base):
        return running
    z = max(knobs[_Z] + _MARGINS[action[0]], 0.0)
    margin = margin_of(z, knobs[_CONFORMAL] != 0.0, ordered, known)
    floor = _MEMORIES[action[3]] * (known[_PEAK_BASE] + margin) / slo_rps
    anchor = action[4] - 1 if action[4] > 0 else _stand_in(knobs[_ANCHOR_MISS], known)
    if anchor >= 0:
        mean, spread = mean_and_spread(known, anchor)
        need = base + (mean - known[_AHEAD]) + z * spread
        need = max(_lifted(need / slo_rps, action[2]), floor)
        return max(settle(running, need, need), 0)
    held = held_base(knobs[_HOLD_S] * _HOLDS[action[1]], ring, known)
    now = base if action[5] == _HORIZON_NEUTRAL else _foreseen(action[5], knobs, known)
    need = max(_lifted((now + margin) / slo_rps, action[2]), floor)
    held_need = max(_lifted((held + margin) / slo_rps, action[2]), need)
    return max(settle(running, need, held_need), 0)


@inlined
def _stand_in(anchor_miss: float, known: Floats) -> int:
    """Return which running mean the controller takes for the forecast, -1 for none."""
    if anchor_miss <= 0.0 or known[_COUNT] < _JUDGED:
        return -1
    best, least = -1, math.log(anchor_miss)
    for k in range(ANCHORS):
        miss = relative_miss(known, k)
        if miss < least:
            best, least = k, miss
    return best


@inlined
def _foreseen(index: int, knobs: Floats, known: Floats) -> float:
    """Return the newest base with the rate forecast for another time ahead; held ones stay."""
    level, backlog = known[_LEVEL], known[_BASE] - known[_AHEAD]
    ahead_s = knobs[_HORIZON_S] * _HORIZONS[index]
    return float(max(level, level + known[_TREND] * ahead_s) + backlog)


@compiled
def patience(action: NDArray[np.int64]) -> float:
    """Return the factor of an action on the time in which a change of gear must repay itself."""
    return float(_PATIENCES[action[6]])


@inlined
def _lifted(need: float, index: int) -> float:
    """Return the need as the lift of an action moves it: in whole or large services alike."""
    return float(need + _LIFTS[index] * max(1.0, LIFT_SHARE * need))


@compiled
def allow(
    known: Floats,
    advice: Floats,
    replicas_max: float,
    running: int,
    movable: bool,
    mask: NDArray[np.bool_],
) -> None:
    """Fill which values of which axis can be chosen now; the neutral one always can.

    Without a rate nothing else can: there is nothing to move. Where the classical ask is already
    all that is allowed, what would ask for more cannot. A share of the peak that the need
    exceeds anyway cannot either, nor can another horizon while the rate does not rise: they would
    change nothing.

    Args:
        known: Plain numbers, see :mod:`gpupilot_envs.following`.
        advice: See :func:`advise`.
        replicas_max: Most replicas of the service.
        running: Replicas the service was last told to run.
        movable: Whether another gear would be cheaper and may be taken now.
        mask: Receives one flag per value, axis after axis, shape ``(CHOICES,)``.
    """
    blind = known[_COUNT] == 0.0 or np.isnan(advice[1])
    full = not blind and advice[2] >= replicas_max and running >= replicas_max
    for k in range(_HOLD_AT):
        mask[k] = k == _MARGIN_NEUTRAL or not (blind or (full and k > _MARGIN_NEUTRAL))
    for k in range(_LIFT_AT - _HOLD_AT):
        mask[_HOLD_AT + k] = k == _HOLD_NEUTRAL or not (blind or (full and k > _HOLD_NEUTRAL))
    for k in range(_MEMORY_AT - _LIFT_AT):
        mask[_LIFT_AT + k] = k == _LIFT_NEUTRAL or not (blind or (full and k > _LIFT_NEUTRAL))
    for k in range(_HORIZON_AT - _ANCHOR_AT):
        mask[_ANCHOR_AT + k] = k == _ANCHOR_NEUTRAL or not (blind or full)
    for k in range(_ANCHOR_AT - _MEMORY_AT):
        idle = blind or full or _MEMORIES[k] * advice[4] <= advice[1]
        mask[_MEMORY_AT + k] = k == _MEMORY_NEUTRAL or not idle
    level_off = blind or not known[_TREND] > 0.0
    for k in range(_PATIENCE_AT - _HORIZON_AT):
        more = full and k > _HORIZON_NEUTRAL
        mask[_HORIZON_AT + k] = k == _HORIZON_NEUTRAL or not (level_off or more)
    for k in range(mask.shape[0] - _PATIENCE_AT):
        mask[_PATIENCE_AT + k] = k == _PATIENCE_NEUTRAL or (movable and not blind)


@compiled
def remember(action: NDArray[np.int64], before: Floats) -> None:
    """Write the action into ``before`` as one number in -1..1 per axis, 0 where neutral."""
    before[0] = _MARGINS[action[0]] / _MARGIN_SPAN
    before[1] = (math.log2(1.0 + _HOLDS[action[1]]) - 1.0) / _HOLD_SPAN
    before[2] = _LIFTS[action[2]] / _LIFT_SPAN
    before[3] = _MEMORIES[action[3]]
    before[4] = action[4] / (len(_ANCHORS) - 1.0)
    before[5] = math.log2(_HORIZONS[action[5]]) / _HORIZON_SPAN
    before[6] = (math.log2(1.0 + _PATIENCES[action[6]]) - 1.0) / _PATIENCE_SPAN
