"""Whether an observation looks like those a policy was trained on.

Three cheap looks. A box that nearly all training observations lie in, field by field. Their
Mahalanobis distance, for combinations never seen of values that were. And, where a bundle holds
several networks, how far apart their answers are: networks that were trained alike agree where
they have seen data and drift apart where they have not (deep ensembles: Lakshminarayanan et al.,
NeurIPS 2017). What follows from the verdict is the guardrail's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.forward import linear
from gpupilot_envs.compiled import compiled
from gpupilot_envs.observation import FIELDS, HIGH, LOW

Floats = NDArray[np.float32]

OUTSIDE_MAX = 0.001
"""Share of the training observations that the three looks together may call strange."""

SLACK = 0.05
"""Widening of the box on every side, as a share of its width, and of the other two bounds."""

_LEAST_WIDTH = 0.01
"""Least width of the box in a field, as a share of the field's range; also the least deviation
that a distance is measured in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Familiar:
    """What a policy has seen.

    Attributes:
        low: Least familiar value of every field, float32, shape ``(len(FIELDS),)``.
        high: Largest familiar value of every field, same shape.
        whitening: Turns an observation into uncorrelated numbers of deviation 1 each, float32,
            shape ``(len(FIELDS), len(FIELDS))``.
        centre: What the mean observation turns into, float32, shape ``(len(FIELDS),)``.
        distance_max: Largest familiar distance from the mean, in deviations.
        spread_max: Largest familiar disagreement, see :func:`spread`; infinite for one network.
    """

    low: Floats
    high: Floats
    whitening: Floats
    centre: Floats
    distance_max: float
    spread_max: float = np.inf

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[Any]], bounds: Mapping[str, Any]) -> Familiar:
        """Return what :meth:`arrays` and :meth:`bounds` gave.

        Raises:
            KeyError: One of them is missing.
            ValueError: One of them has another shape or makes no sense.
        """
        width = len(FIELDS)
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("low", "high", "centre"), (width,))
        shapes["whitening"] = (width, width)
        found = {
            name: np.ascontiguousarray(arrays[f"familiar_{name}"], dtype=np.float32)
            for name in shapes
        }
        for name, shape in shapes.items():
            if found[name].shape != shape or not np.isfinite(found[name]).all():
                raise ValueError(f"familiar_{name} is not {shape} finite numbers")
        spread_max = bounds["spread_max"]
        return cls(
            **found,
            distance_max=float(bounds["distance_max"]),
            spread_max=np.inf if spread_max is None else float(spread_max),
        )

    def arrays(self) -> dict[str, Floats]:
        """Return the arrays by their names in a bundle's file."""
        names = ("low", "high", "whitening", "centre")
        return {f"familiar_{name}": getattr(self, name) for name in names}

    def bounds(self) -> dict[str, float | None]:
        """Return the bounds as JSON knows them: ``None`` is infinity."""
        finite = bool(np.isfinite(self.spread_max))
        return {
            "distance_max": self.distance_max,
            "spread_max": self.spread_max if finite else None,
        }

    def distances(self, observations: Floats) -> Floats:
        """Return the Mahalanobis distance of each from the mean, shape ``(n,)``."""
        return lengths(linear(observations, self.whitening, self.centre))

    def strange(self, observations: Floats, spreads: Floats) -> NDArray[np.bool_]:
        """Return which observations lie outside, shape ``(n,)``.

        Args:
            observations: Shape ``(n, len(FIELDS))``.
            spreads: :func:`spread` of each, shape ``(n,)``.
        """
        near = (self.distances(observations) <= self.distance_max) & (spreads <= self.spread_max)
        return outside(observations, self.low, self.high) | ~near

    def why(self, observation: Floats, disagreement: float) -> str:
        """Return what is strange about one observation, in a few words; empty if nothing."""
        found = [
            f"{field.name} {value:.3g} is not in {low:.3g} to {high:.3g}"
            for field, value, low, high in zip(
                FIELDS, observation.tolist(), self.low.tolist(), self.high.tolist(), strict=True
            )
            if not low <= value <= high
        ]
        (distance,) = self.distances(observation[None, :]).tolist()
        if not distance <= self.distance_max:
            found.append(f"fields {distance:.3g} deviations off, at most {self.distance_max:.3g}")
        if not disagreement <= self.spread_max:
            found.append(f"networks {disagreement:.3g} apart, at most {self.spread_max:.3g}")
        return ", ".join(found)


def fit(observations: Floats, spreads: Floats) -> Familiar:
    """Return the tightest bounds around a policy's training.

    The box cuts the same share off every side of every field, as large a share as leaves at most
    a third of :data:`OUTSIDE_MAX` of the observations outside; the bounds on distance and on
    disagreement leave another third each. All get :data:`SLACK`.

    Args:
        observations: What the policy saw in training, shape ``(n, len(FIELDS))``.
        spreads: :func:`spread` of each, shape ``(n,)``; all zero for one network.
    """
    share = OUTSIDE_MAX / 3.0
    low, high = _box(observations, share)
    margin = SLACK * np.maximum(high - low, _LEAST_WIDTH * (HIGH - LOW))
    whitening, centre = _whitening(observations)
    distances = lengths(linear(observations, whitening, centre))
    largest = float(np.quantile(spreads, 1.0 - share))
    return Familiar(
        low=np.maximum(low - margin, LOW).astype(np.float32),
        high=np.minimum(high + margin, HIGH).astype(np.float32),
        whitening=whitening,
        centre=centre,
        # nothing is strange that is no farther than one deviation in every field
        distance_max=max(float(np.quantile(distances, 1.0 - share)), len(low) ** 0.5)
        * (1.0 + SLACK),
        spread_max=largest * (1.0 + SLACK) if largest > 0.0 else np.inf,
    )


def _whitening(observations: Floats) -> tuple[Floats, Floats]:
    """Return matrix and offset that make the observations uncorrelated, of mean 0, deviation 1."""
    mean = observations.mean(axis=0, dtype=np.float64)
    covariance = np.cov(observations.T.astype(np.float64))
    covariance += np.diag((_LEAST_WIDTH * (HIGH - LOW).astype(np.float64)) ** 2)
    matrix = np.linalg.cholesky(np.linalg.inv(covariance))
    return (
        np.ascontiguousarray(matrix, dtype=np.float32),
        np.ascontiguousarray(-mean @ matrix, dtype=np.float32),
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
def lengths(rows: Floats) -> Floats:
    """Return the Euclidean length of every row, shape ``(n,)``."""
    out = np.empty(rows.shape[0], dtype=np.float32)
    for i in range(rows.shape[0]):
        total = np.float32(0.0)
        for j in range(rows.shape[1]):
            total += rows[i, j] * rows[i, j]
        out[i] = np.sqrt(total)
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
