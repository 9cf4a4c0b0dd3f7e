"""Whether an observation looks like those a policy was trained on.

Two cheap looks: a box that nearly all training observations lie in, field by field, and, where a
bundle holds several networks, how far apart their answers are. Networks that were trained alike
agree where they have seen data and drift apart where they have not (deep ensembles:
Lakshminarayanan et al., NeurIPS 2017). What follows from the verdict is the guardrail's to say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.observation import FIELDS, HIGH, LOW

Floats = NDArray[np.float32]

OUTSIDE_MAX = 0.001
"""Share of the training observations that may be called strange by either look."""

SLACK = 0.05
"""Widening of the box on every side, as a share of its width."""

_LEAST_WIDTH = 0.01
"""Least width of the box in a field, as a share of the field's range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Familiar:
    """What a policy has seen.

    Attributes:
        low: Least familiar value of every field, float32, shape ``(len(FIELDS),)``.
        high: Largest familiar value of every field, same shape.
        spread_max: Largest familiar disagreement, see :func:`spread`; infinite for one network.
    """

    low: Floats
    high: Floats
    spread_max: float = np.inf

    def strange(self, observations: Floats, spreads: Floats) -> NDArray[np.bool_]:
        """Return which observations lie outside, shape ``(n,)``.

        Args:
            observations: Shape ``(n, len(FIELDS))``.
            spreads: :func:`spread` of each, shape ``(n,)``.
        """
        return outside(observations, self.low, self.high) | ~(spreads <= self.spread_max)

    def why(self, observation: Floats, disagreement: float) -> str:
        """Return what is strange about one observation, in a few words; empty if nothing."""
        found = [
            f"{field.name} {value:.3g} is not in {low:.3g} to {high:.3g}"
            for field, value, low, high in zip(
                FIELDS, observation.tolist(), self.low.tolist(), self.high.tolist(), strict=True
            )
            if not low <= value <= high
        ]
        if not disagreement <= self.spread_max:
            found.append(f"networks {disagreement:.3g} apart, at most {self.spread_max:.3g}")
        return ", ".join(found)


def fit(observations: Floats, spreads: Floats) -> Familiar:
    """Return the smallest box, and the least bound on disagreement, around a policy's training.

    The box cuts the same share off every side of every field, as large a share as leaves at most
    half of :data:`OUTSIDE_MAX` of the observations outside; the bound on disagreement leaves the
    other half. Both get :data:`SLACK`.

    Args:
        observations: What the policy saw in training, shape ``(n, len(FIELDS))``.
        spreads: :func:`spread` of each, shape ``(n,)``; all zero for one network.
    """
    low, high = _box(observations, OUTSIDE_MAX / 2.0)
    margin = SLACK * np.maximum(high - low, _LEAST_WIDTH * (HIGH - LOW))
    largest = np.quantile(spreads, 1.0 - OUTSIDE_MAX / 2.0)
    return Familiar(
        low=np.maximum(low - margin, LOW).astype(np.float32),
        high=np.minimum(high + margin, HIGH).astype(np.float32),
        spread_max=float(largest * (1.0 + SLACK)) if largest > 0.0 else np.inf,
    )


def _box(observations: Floats, outside_max: float) -> tuple[Floats, Floats]:
    """Return the tightest box of equal quantiles that leaves at most that share outside."""
    ordered = np.sort(observations, axis=0)
    count = len(ordered)
    cut, step = 0, count // 2
    while step:
        low, high = ordered[cut + step], ordered[count - 1 - cut - step]
        if outside(observations, low, high).mean() <= outside_max:
            cut += step
        step //= 2
    return ordered[cut], ordered[count - 1 - cut]


@compiled
def outside(observations: Floats, low: Floats, high: Floats) -> NDArray[np.bool_]:
    """Return which observations have a field outside its bounds, or not a number at all."""
    out = np.zeros(observations.shape[0], dtype=np.bool_)
    for i in range(observations.shape[0]):
        strange = False
        for j in range(observations.shape[1]):
            value = observations[i, j]
            strange |= not (low[j] <= value <= high[j])
        out[i] = strange
    return out


@compiled
def spread(logits: Floats, mean: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Return how far apart several networks are, per observation, shape ``(n,)``.

    The root mean square, over networks and actions, of the difference between a network's logit
    and the mean one, after taking from each axis what all its values share: a softmax does not
    see that part.

    Args:
        logits: Of every network, shape ``(networks, n, sizes.sum())``.
        mean: Their mean, shape ``(n, sizes.sum())``.
        sizes: How many values each axis has.
    """
    networks, n, outputs = logits.shape
    out = np.zeros(n, dtype=np.float32)
    for i in range(n):
        squares = np.float32(0.0)
        for member in range(networks):
            start = 0
            for size in sizes:
                total, total_squares = np.float32(0.0), np.float32(0.0)
                for j in range(start, start + size):
                    apart = logits[member, i, j] - mean[i, j]
                    total += apart
                    total_squares += apart * apart
                squares += total_squares - total * total / np.float32(size)
                start += size
        out[i] = np.sqrt(max(squares, np.float32(0.0)) / np.float32(networks * outputs))
    return out
