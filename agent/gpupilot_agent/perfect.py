"""What no policy can beat: a proven lower bound on the cost of an attainment, from every arrival.

Per second and replica count, the fewest requests that can come late are known from isolated
seconds: no backlog, an even split, an idle replica. The cheapest way to spend a budget of late
requests under that table is a dynamic programme with a Lagrange multiplier, and every multiplier
gives a bound (:func:`~gpupilot_agent.oracle.lagrangian`). The values add over windows and runs: the
bound lets a policy spend its whole budget wherever it is worth most. It holds for replicas alone,
with cold starts of mean length, up to the noise of the measured curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.evaluation import Design
from gpupilot_agent.oracle import LateCurve, isolated_second_curve, lagrangian, late_table
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.capacity import Capacity

Floats = NDArray[np.float64]

PRICES: tuple[float, ...] = (0.0, *np.geomspace(1e-3, 1e2, 26).tolist())
"""GPU-seconds one late request may be worth; each gives a bound, the largest counts."""

_WORTH = np.array(PRICES) / 3600.0

TOLERANCE = 0.01
"""Share by which a run may lie below the bound: cold starts that were luckier than their mean, and
pods that begin to serve within a second."""

_POINTS = 97
_REPEATS = 60


def duals(
    per_second: Floats,
    *,
    profile: ServiceProfile,
    capacity: Capacity,
    targets: Targets,
    limits: Limits,
    gpu_share: float,
) -> tuple[float, ...]:
    """Return the least of cost plus price times lateness at each of :data:`PRICES`, in GPU-hours.

    Args:
        per_second: Requests in each scored second, shape ``(seconds,)``.
        profile: The service.
        capacity: Its capacity.
        targets: The objective.
        limits: Bounds of the replicas.
        gpu_share: Share of a GPU that a replica holds, above 0 to 1.
    """
    curve = fewest_late(profile, capacity, targets)
    table = late_table(per_second, curve, interval_s=1.0, replicas_max=limits.replicas_max)
    values = lagrangian(
        table,
        np.array(PRICES) / gpu_share,
        interval_s=1.0,
        cold_start_s=profile.cold_start_s.mean,
        replicas_min=limits.replicas_min,
    )
    return tuple((values * gpu_share / 3600.0).tolist())


@lru_cache(maxsize=8)
def fewest_late(profile: ServiceProfile, capacity: Capacity, targets: Targets) -> LateCurve:
    """Return the share of a second's requests that an idle replica is late for, at the least.

    The convex minorant of the measured counts: an uneven split of requests over replicas, or a
    reading between two measured loads, can then only be later.
    """
    measured = isolated_second_curve(
        profile, capacity, targets, seed=0, points=_POINTS, repeats=_REPEATS
    )
    counts = _convex_minorant(measured.requests, measured.requests * measured.shares)
    shares = np.divide(counts, measured.requests, out=np.zeros_like(counts), where=counts > 0.0)
    return LateCurve(requests=measured.requests, shares=shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dual:
    """The bound on the cost of all runs together, as measured and on every resample.

    Attributes:
        values: Least GPU-hours per run plus price times lateness, ``(prices, 1 + RESAMPLES)``.
        requests: Requests per run, shape ``(1 + RESAMPLES,)``.
    """

    values: Floats
    requests: Floats

    @classmethod
    def of(cls, values: Sequence[Floats], requests: Floats, design: Design, *, runs: int) -> Dual:
        """Draw the bound from columns, one per price; see :meth:`Design.total`."""
        total = design.total()
        return cls(
            values=np.stack([total(column) for column in values]) / runs,
            requests=total(requests) / runs,
        )

    def least(self, attainment: float | Floats) -> Floats:
        """Return the GPU-hours per run no policy can go below at an attainment."""
        late = (1.0 - np.asarray(attainment)) * self.requests
        return np.asarray((self.values - _WORTH[:, None] * late).max(axis=0), dtype=np.float64)


def least_of_window(values: Sequence[float], late: float) -> float:
    """Return the GPU-hours no policy can go below with so many late requests, in one window."""
    return float((np.array(values) - _WORTH * late).max())


def _convex_minorant(x: Floats, y: Floats) -> Floats:
    """Return the largest convex function through or below the points, at ``x`` (Andrew 1979)."""
    kept: list[int] = []
    for index in range(len(x)):
        while len(kept) > 1 and _above(x, y, kept[-2], kept[-1], index):
            kept.pop()
        kept.append(index)
    return np.asarray(np.interp(x, x[kept], y[kept]), dtype=np.float64)


def _above(x: Floats, y: Floats, left: int, middle: int, right: int) -> bool:
    chord = (y[right] - y[left]) * (x[middle] - x[left])
    return bool((y[middle] - y[left]) * (x[right] - x[left]) >= chord)
