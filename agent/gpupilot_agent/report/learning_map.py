"""What a policy does over load, trend and error budget: its partial dependence on the three.

Each point of the map asks the policy about every decision of a sample with load, trend and budget
replaced and all else as it was met on validation, and averages the moves (Friedman, "Greedy
function approximation", Annals of Statistics 2001, section 8.2). Fields that follow from the three
follow: the classical need from the load, the newest rates from the trend.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.bundle import Bundle
from gpupilot_agent.training_sample import Sample
from gpupilot_envs.actions import CHOICES, NEUTRAL, SIZES
from gpupilot_envs.following import PERIOD_S
from gpupilot_envs.observation import FIELDS, HIGH, LOW, RATE_BLOCKS

Floats = NDArray[np.float64]
Seen = NDArray[np.float32]

LOADS: Floats = np.linspace(0.2, 1.4, 25)
"""Newest rate over what all replicas carry at the objective."""

TRENDS: Floats = np.linspace(-0.5, 0.5, 17)
"""Mean rate of a minute over that of five minutes, less 1."""

BUDGETS: tuple[tuple[float, str], ...] = (
    (1.0, "untouched"),
    (0.0, "used up"),
    (-2.0, "overdrawn threefold"),
)
"""Error budget left of the last hour, in allowed late requests, and how to call it."""

SAMPLED = 120
"""Decisions of the sample that are asked about again at every point."""

_AT = {field.name: index for index, field in enumerate(FIELDS)}
_READINGS_IN_5_MIN = 300.0 / PERIOD_S
_READINGS_IN_1_MIN = 60.0 / PERIOD_S


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyMap:
    """Mean moves of a policy.

    Attributes:
        moves: Mean index over neutral, -1 at the first value of an axis and 1 at its last, shape
            ``(axes, budgets, trends, loads)``.
        changed: Share of the sample in which anything but the neutral action is chosen, shape
            ``(budgets, trends, loads)``.
    """

    moves: Floats
    changed: Floats


def policy_map(bundle: Bundle, sample: Sample) -> PolicyMap:
    """Return what a policy does on the grid of :data:`LOADS`, :data:`TRENDS`, :data:`BUDGETS`."""
    every = max(len(sample.observations) // SAMPLED, 1)
    seen = sample.observations[::every]
    rows, loads = np.tile(seen, (len(LOADS), 1)), np.repeat(LOADS, len(seen))
    free = np.ones((len(rows), CHOICES), dtype=np.bool_)
    moves = np.empty((len(SIZES), len(BUDGETS), len(TRENDS), len(LOADS)))
    changed = np.empty(moves.shape[1:])
    for b, (budget, _) in enumerate(BUDGETS):
        for t, trend in enumerate(TRENDS.tolist()):
            asked = supposed(rows, load=loads, trend=trend, budget=budget)
            actions = bundle.act(asked, free).reshape(len(LOADS), len(seen), -1)
            moves[:, b, t] = moved(actions).mean(axis=1).T
            changed[b, t] = (actions != np.array(NEUTRAL)).any(axis=2).mean(axis=1)
    return PolicyMap(moves=moves, changed=changed)


def moved(actions: NDArray[np.int64]) -> Floats:
    """Return how far every action is from neutral, -1 to 1, shape ``(..., axes)`` as given."""
    neutral, last = np.array(NEUTRAL), np.array(SIZES) - 1
    above = (actions - neutral) / np.maximum(last - neutral, 1)
    below = (actions - neutral) / np.maximum(neutral, 1)
    return np.asarray(np.where(actions >= neutral, above, below), dtype=np.float64)


def supposed(seen: Seen, *, load: Floats | float, trend: float, budget: float) -> Seen:
    """Return the observations as they would be at another load, trend and budget."""
    out = seen.copy()

    def put(name: str, value: Seen | Floats | float) -> None:
        out[:, _AT[name]] = value

    ahead = seen[:, _AT["load_forecast"]] / np.maximum(seen[:, _AT["load_running"]], 0.05)
    gap = load + seen[:, _AT["margin_share"]] - 1.0
    put("load_running", load)
    put("load_ready", load)
    put("load_forecast", load * ahead)
    put("gap_instant", gap)
    put("gap_held", np.maximum(gap, seen[:, _AT["gap_held"]]))
    put("peak_gap", np.maximum(gap, seen[:, _AT["peak_gap"]]))
    put("trend_1_5", trend)
    for block, reading in enumerate(_middles()):
        put(f"rate_block_{block}", trend * _ramp(reading))
    put("budget_left", budget)
    clipped: Seen = np.clip(out, LOW, HIGH)
    return clipped


def _middles() -> list[float]:
    return [0.5 * (a + b) for a, b in pairwise(RATE_BLOCKS)]


def _ramp(reading: float) -> float:
    """Return how far a straight line is above its 5 min mean, that of 1 min being 1 above it."""
    middle = 0.5 * _READINGS_IN_5_MIN
    return (middle - reading) / (middle - 0.5 * _READINGS_IN_1_MIN)
