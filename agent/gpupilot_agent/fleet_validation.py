"""How a policy does on a fleet it was not trained on, against the classical controller.

A price of lateness decides where on the trade-off a policy ends up, not how good it is. So a
policy is run at several prices, the classical controller at several margins, and their costs are
compared *at the same attainment*, read from the two frontiers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.actions import NEUTRAL
from gpupilot_envs.controller import Controller
from gpupilot_envs.fleet_control import FleetControl
from gpupilot_envs.objective import first_price
from gpupilot_envs.scenarios import Scenarios

Floats = NDArray[np.float64]

Act = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.int64]]
"""Actions, int64 ``(n, axes)``, for observations, float32 ``(n, fields)``, and masks."""

MARGINS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
"""Shifts of the classical margin at which its frontier is measured."""

PRICES = (4.0, 16.0, 60.0, 240.0, 1000.0)
"""Prices of a late request at which a policy's frontier is measured."""

LEVELS = 5
"""Late shares, evenly spaced in their logarithm over what both reach, at which costs are read."""

_LEAST_LATE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a policy did on a fleet.

    Attributes:
        late_ratio: Share of requests not answered in time, each service of equal weight.
        cost_ratio: GPU time held and the price of pods replaced, over what the mean demand needs.
    """

    late_ratio: float
    cost_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A frontier: scores from late and cheap to in time and dear.

    Attributes:
        knobs: Price or margin behind each score.
        scores: One score per knob.
    """

    knobs: tuple[float, ...]
    scores: tuple[Score, ...]

    def log_late(self) -> Floats:
        """Return the logarithm of the late share of each score, ascending."""
        return np.sort(np.log([max(s.late_ratio, _LEAST_LATE) for s in self.scores]))

    def cost(self, log_late: Floats) -> Floats:
        """Return the least cost at these late shares; NaN beyond what was measured."""
        order = sorted(self.scores, key=lambda s: s.late_ratio)
        costs = np.minimum.accumulate([s.cost_ratio for s in order])
        return np.interp(log_late, self.log_late(), costs, left=np.nan, right=np.nan)

    def knob_for(self, late_ratio: float) -> float:
        """Return the knob at which just ``late_ratio`` is late; the nearest measured beyond."""
        pairs = sorted((s.late_ratio, k) for s, k in zip(self.scores, self.knobs, strict=True))
        logs = np.log([max(late, _LEAST_LATE) for late, _ in pairs])
        wanted = np.log(max(late_ratio, _LEAST_LATE))
        return float(np.exp(np.interp(wanted, logs, np.log([knob for _, knob in pairs]))))


OBJECTIVES = (0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
"""Attainments for which a bundle carries a price."""

SHARED_DOUBT = 2.0
"""Factor by which a price shared by many kinds of services may leave the rule of thumb.

A mean over all kinds is ruled by those that no price serves in time; followed further, it would
make every other service pay for capacity that it has no use for.
"""


def priced_objectives(found: Trade, *, one_kind: bool) -> tuple[tuple[float, float], ...]:
    """Return the price of a late request by objective, as a bundle carries it.

    Args:
        found: Frontier over the price.
        one_kind: Whether it was measured on services of one objective, all of one kind.
    """
    prices = []
    for ratio in OBJECTIVES:
        price, guess = found.knob_for(1.0 - ratio), first_price(ratio)
        if not one_kind:
            price = min(max(price, guess / SHARED_DOUBT), guess * SHARED_DOUBT)
        prices.append((ratio, price))
    return tuple(prices)


def neutral(
    observations: NDArray[np.float32],
    masks: NDArray[np.bool_],  # noqa: ARG001
) -> NDArray[np.int64]:
    """Return the action that is the classical controller, for every service."""
    return np.tile(np.array(NEUTRAL, dtype=np.int64), (len(observations), 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What every service of a fleet paid, means over its decisions, each of shape ``(n,)``.

    Attributes:
        cost: GPU time held over what the mean demand needs, restarts of pods included.
        late: Requests not answered in time, over those of a mean interval.
        requests: Requests that arrived, over the same.
        priced: Cost, priced lateness and churn: what a policy is to minimise.
        telling: Whose lateness tells a price, see :attr:`FleetControl.too_tight`.
    """

    cost: Floats
    late: Floats
    requests: Floats
    priced: Floats
    telling: NDArray[np.bool_]

    def score(self) -> Score:
        """Return the mean over all services that tell something, over all where none does."""
        here = self.telling if self.telling.any() else ~self.telling
        late, requests = float(self.late[here].sum()), float(self.requests[here].sum())
        return Score(
            late_ratio=late / max(requests, 1e-9), cost_ratio=float(self.cost[here].mean())
        )


def paid(
    scenarios: Scenarios,
    act: Act,
    *,
    seed: int,
    services: int,
    steps: int,
    price: float | Floats = 25.0,
) -> Paid:
    """Let ``act`` run ``services`` services for ``steps`` decisions; same seed, same services.

    Args:
        scenarios: Draws them; their own factors on the price are left out.
        act: The policy.
        seed: Of the services and everything about them.
        services: How many.
        steps: Decisions of each.
        price: Of a late request: one for all, or one per objective of the scenarios.
    """
    control = FleetControl(services, scenarios.priced_alike(), multiplier=price)
    seen = control.reset(np.random.default_rng(seed), stagger=False)
    cost, late, requests, priced = np.zeros((4, services))
    telling = ~control.too_tight
    for _ in range(steps):
        step = control.step(act(seen, control.masks))
        seen = step.observations
        cost -= step.terms[[0, 3]].sum(axis=0)
        late -= step.terms[1] / control.price
        requests += step.demand
        priced -= step.terms.sum(axis=0)
    means = (each / steps for each in (cost, late, requests, priced))
    return Paid(
        **dict(zip(("cost", "late", "requests", "priced"), means, strict=True)), telling=telling
    )


def score(
    scenarios: Scenarios,
    act: Act,
    *,
    seed: int,
    services: int,
    steps: int,
    price: float = 25.0,
) -> Score:
    """Return the mean of what :func:`paid` says."""
    found = paid(scenarios, act, seed=seed, services=services, steps=steps, price=price)
    return found.score()


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
        margins: Sequence[float] = MARGINS,
    ) -> None:
        """Measure the controller at every shift of its margin, whatever the price."""
        self._scenarios = scenarios
        self._seed, self._services, self._steps = seed, services, steps
        self.classical = Trade(
            knobs=tuple(margins),
            scores=tuple(
                self.score(neutral, controller=replace(controller, z=z, z_per_log_price=0.0))
                for z in (max(controller.z + shift, 0.0) for shift in margins)
            ),
        )

    def score(
        self, act: Act, *, price: float = 25.0, controller: Controller | None = None
    ) -> Score:
        """Return what ``act`` does on the fleet when every late request has this price."""
        moved = self._scenarios if controller is None else self._scenarios.moving(controller)
        return score(
            moved,
            act,
            seed=self._seed,
            services=self._services,
            steps=self._steps,
            price=price,
        )

    def trade(self, act: Act, prices: Sequence[float] = PRICES) -> Trade:
        """Return the frontier of ``act`` over the price."""
        return Trade(
            knobs=tuple(prices), scores=tuple(self.score(act, price=price) for price in prices)
        )

    def saving(self, found: Trade) -> float:
        """Return the mean share of GPU time saved at equal attainment.

        Minus infinity where the two frontiers do not meet.
        """
        ours, theirs = found.log_late(), self.classical.log_late()
        low, high = max(ours[0], theirs[0]), min(ours[-1], theirs[-1])
        if low > high:
            return -np.inf
        at = np.linspace(low, high, LEVELS)
        return float((1.0 - found.cost(at) / self.classical.cost(at)).mean())
