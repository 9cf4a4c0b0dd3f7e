"""What a learned policy may do: a table of moves around the tuned queueing controller.

The inner controller (:mod:`gpupilot_envs.queueing`) turns a forecast into replicas. An action
picks one value of each axis below; the middle of every axis is the controller as it was tuned,
so the neutral action *is* the classical controller and every other one stays in its
neighbourhood. Discrete residual actions around an analytical controller are what worked in
public work (Autothrottle, NSDI'24: learned targets over a fast inner loop).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.observation import PERIOD_S
from gpupilot_envs.queueing import Knobs, needs, settle


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """The classical controller the actions move around, as tuned for services of any cold start.

    The fields are those of the ``queueing`` and ``predictive`` baselines; see
    :class:`gpupilot_envs.queueing.Knobs`.

    Attributes:
        z: Margin in standard deviations of the forecast error.
        hold_s: Seconds over which the largest need is kept on the way down.
        lead_ratio: Forecast horizon as a multiple of cold start plus one decision interval.
        alpha: Weight of the newest reading in the level.
        beta: Weight of the newest slope in the trend; 0 for no trend.
        drain_s: Seconds within which a backlog must be gone.
        conformal: Whether the margin is a quantile of the errors.
    """

    z: float = 1.5
    hold_s: float = 120.0
    lead_ratio: float = 1.0
    alpha: float = 0.6
    beta: float = 0.2
    drain_s: float = 15.0
    conformal: bool = True

    def knobs(self, cold_start_s: float) -> Knobs:
        """Return the setting for a service whose pods take ``cold_start_s`` to answer."""
        return Knobs(
            z=self.z,
            hold_s=self.hold_s,
            horizon_s=self.lead_ratio * (cold_start_s + PERIOD_S),
            alpha=self.alpha,
            beta=self.beta,
            drain_s=self.drain_s,
            conformal=self.conformal,
        )


AXES: tuple[Axis, ...] = (
    Axis(
        name="margin",
        unit="standard deviations",
        values=(-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0),
        neutral=3,
        meaning="added to the margin z over the forecast (never below 0)",
    ),
    Axis(
        name="hold",
        unit="ratio",
        values=(0.0, 0.5, 1.0, 2.0),
        neutral=2,
        meaning="times the seconds the largest need is held on the way down",
    ),
    Axis(
        name="lift",
        unit="replicas",
        values=(-0.7, -0.35, 0.0, 0.35, 0.7),
        neutral=2,
        meaning="added to the need before it is rounded up: how bold the rounding is",
    ),
)
"""The action: a ``MultiDiscrete`` of one index per axis."""

SIZES: tuple[int, ...] = tuple(len(axis.values) for axis in AXES)
NEUTRAL: tuple[int, ...] = tuple(axis.neutral for axis in AXES)

_MARGINS = np.array(AXES[0].values)
_HOLDS = np.array(AXES[1].values)
_LIFTS = np.array(AXES[2].values)
_MARGIN_SPAN = max(abs(value) for value in AXES[0].values)
_HOLD_SPAN = max(abs(value - 1.0) for value in AXES[1].values)
_LIFT_SPAN = max(abs(value) for value in AXES[2].values)


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
    """Return the controller's setting as the kernels read it, float64, shape ``(7,)``.

    Order: ``z, hold_s, horizon_s, alpha, beta, drain_s, conformal``.
    """
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
)
"""Columns of :func:`knobs_row`."""


@compiled
def advise(
    rows: NDArray[np.float64],
    start: int,
    count: int,
    slo_rps: float,
    knobs: NDArray[np.float64],
    running: int,
    advice: NDArray[np.float64],
) -> None:
    """Fill what the classical controller makes of the readings, float64, shape ``(3,)``.

    Forecast in requests/s; replicas needed at the newest reading, not rounded; replicas it would
    ask for. NaN, NaN and ``running`` before the first rate.
    """
    need, held, forecast_rps, _ = needs(
        rows,
        start,
        count,
        slo_rps,
        knobs[0],
        knobs[1],
        knobs[2],
        knobs[3],
        knobs[4],
        knobs[5],
        knobs[6] != 0.0,
    )
    advice[0] = forecast_rps
    advice[1] = need
    advice[2] = settle(running, need, held)


@compiled
def decode(
    action: NDArray[np.int64],
    rows: NDArray[np.float64],
    start: int,
    count: int,
    slo_rps: float,
    knobs: NDArray[np.float64],
    running: int,
) -> int:
    """Return the replicas an action asks for.

    Args:
        action: One index per axis of :data:`AXES`, int64, shape ``(3,)``.
        rows: Readings as a ring, shape ``(capacity, len(SIGNAL_FIELDS))``.
        start: Row of the oldest reading.
        count: Readings in the ring.
        slo_rps: What one replica carries at the objective.
        knobs: :func:`knobs_row` of the tuned controller.
        running: Replicas the service was last told to run.
    """
    need, held, _, _ = needs(
        rows,
        start,
        count,
        slo_rps,
        max(knobs[0] + _MARGINS[action[0]], 0.0),
        knobs[1] * _HOLDS[action[1]],
        knobs[2],
        knobs[3],
        knobs[4],
        knobs[5],
        knobs[6] != 0.0,
    )
    lift = _LIFTS[action[2]]
    return max(settle(running, need + lift, held + lift), 0)


@compiled
def remember(action: NDArray[np.int64], before: NDArray[np.float64]) -> None:
    """Write the action into ``before`` as three numbers in -1..1, 0 where neutral."""
    before[0] = _MARGINS[action[0]] / _MARGIN_SPAN
    before[1] = (_HOLDS[action[1]] - 1.0) / _HOLD_SPAN
    before[2] = _LIFTS[action[2]] / _LIFT_SPAN
