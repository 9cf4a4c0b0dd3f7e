"""How a policy does on a fleet it was not trained on, against the classical controller.

A price of lateness decides where on the trade-off a policy ends up, not how good it is. So a
checkpoint is judged by its cost against the classical controller *at the same attainment*, read
from that controller's own frontier over its margin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.actions import NEUTRAL, Controller
from gpupilot_envs.fleet_control import FleetControl
from gpupilot_envs.scenarios import Scenarios

Act = Callable[[NDArray[np.float32]], NDArray[np.int64]]
"""Actions, int64 ``(n, axes)``, for observations, float32 ``(n, fields)``."""

MARGINS = (-1.0, -0.5, 0.0, 0.5, 1.2)
"""Shifts of the classical margin at which its frontier is measured."""

_LEAST_LATE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a policy did on a fleet.

    Attributes:
        late_ratio: Share of requests not answered in time, each service of equal weight.
        cost_ratio: GPU time held over what the mean demand needs.
    """

    late_ratio: float
    cost_ratio: float


def neutral(observations: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the action that is the classical controller, for every service."""
    return np.tile(np.array(NEUTRAL, dtype=np.int64), (len(observations), 1))


def score(
    scenarios: Scenarios,
    act: Act,
    *,
    seed: int,
    services: int,
    steps: int,
) -> Score:
    """Let ``act`` run ``services`` services for ``steps`` decisions; same seed, same services."""
    control = FleetControl(services, scenarios, multiplier=1.0)
    seen = control.reset(np.random.default_rng(seed), stagger=False)
    late = requests = cost = 0.0
    for _ in range(steps):
        step = control.step(act(seen))
        seen = step.observations
        late -= float(step.terms[1].sum())
        cost -= float(step.terms[0].sum())
        requests += float(step.demand.sum())
    return Score(late_ratio=late / max(requests, 1e-9), cost_ratio=cost / (services * steps))


class Yardstick:
    """The classical controller's frontier on a fixed fleet, measured once."""

    def __init__(
        self,
        scenarios: Scenarios,
        controller: Controller,
        *,
        seed: int,
        services: int,
        steps: int,
    ) -> None:
        """Measure the controller at every margin of :data:`MARGINS`."""
        self._scenarios, self._controller = scenarios, controller
        self._seed, self._services, self._steps = seed, services, steps
        scores = [self._score(neutral, margin) for margin in MARGINS]
        self.classical = scores[MARGINS.index(0.0)]
        order = sorted(scores, key=lambda s: s.late_ratio)
        self._late = np.log([max(s.late_ratio, _LEAST_LATE) for s in order])
        self._cost = np.minimum.accumulate([s.cost_ratio for s in order])

    def score(self, act: Act, margin: float = 0.0) -> Score:
        """Return what ``act`` does when the controller under it has its margin moved."""
        return self._score(act, margin)

    def saving(self, found: Score) -> float:
        """Return the share of GPU time saved at equal attainment; minus infinity off the scale."""
        late = np.log(max(found.late_ratio, _LEAST_LATE))
        if not self._late[0] <= late <= self._late[-1]:
            return -np.inf
        return float(1.0 - found.cost_ratio / np.interp(late, self._late, self._cost))

    def margin_for(self, act: Act, late_ratio: float, *, halvings: int = 7) -> float:
        """Return the shift of the margin at which ``act`` is late just ``late_ratio`` of the time.

        Args:
            act: The policy.
            late_ratio: Share of requests that may be late.
            halvings: Bisection steps over -1 to +1.
        """
        low, high = -1.0, 1.0
        for _ in range(halvings):
            middle = 0.5 * (low + high)
            too_late = self._score(act, middle).late_ratio > late_ratio
            low, high = (middle, high) if too_late else (low, middle)
        return high

    def _score(self, act: Act, margin: float) -> Score:
        moved = replace(self._controller, z=max(self._controller.z + margin, 0.0))
        return score(
            self._scenarios.moving(moved),
            act,
            seed=self._seed,
            services=self._services,
            steps=self._steps,
        )
