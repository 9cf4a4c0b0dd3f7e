"""The reward: GPU time, late requests, churn and restarts, named, relative to the demand.

Minimise GPU time subject to the attainment target. The Lagrangian of that problem prices a late
request with a multiplier that training raises while the constraint is violated and lowers while
there is slack (dual ascent; Ray, Achiam and Amodei, "Benchmarking Safe Exploration in Deep
Reinforcement Learning", 2019), so nobody has to weigh milliseconds against GPUs by hand.

Both terms are divided by the *mean* demand of the episode, not by that of the interval: then the
return of an episode is exactly ``-(cost ratio + multiplier * late ratio)`` per interval, and a
quiet interval is not worth more than a busy one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MULTIPLIER_MIN = 3.0
"""Least price of a late request, in GPU time per request; well above 1, so saturation never pays.

At a price below 1 it would be cheaper to answer a request late than to hold the replica that
answers it in time.
"""

MULTIPLIER_MAX = 3000.0
"""Largest price; beyond it the reward is only lateness and the policy buys the whole quota."""

FIRST_PRICE = 0.25
"""A first guess of the price is this over the share that may be late.

Cost rises about linearly in the logarithm of the late share, by a quarter of the mean demand per
factor e; where that is the price of lateness, its optimum is the objective.
"""


def first_price(attainment_ratio: float) -> float:
    """Return a first guess of the price of a late request for an objective."""
    guess = FIRST_PRICE / max(1.0 - attainment_ratio, 1e-6)
    return min(max(guess, MULTIPLIER_MIN), MULTIPLIER_MAX)


CHURN_WEIGHT = 0.01
"""Price of changing as many replicas as the mean demand needs, in GPU time of one interval."""


RESTART_GPU_S = 5.0
"""Price of a pod replaced by one of another gear, in GPU-seconds, core-seconds on a CPU.

Both generations are billed while the new one starts; this is for what no meter shows: connections
that move, caches that are cold, an API server that is busy.
"""


def restart_gpu_seconds(pods: float) -> float:
    """Return what replacing ``pods`` pods counts where settings or policies are chosen."""
    return RESTART_GPU_S * pods


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTerms:
    """The named parts of one interval's reward, each 0 or less.

    Attributes:
        gpu_cost: Minus GPU-seconds held over GPU-seconds the mean demand needs at the objective;
            about -1 to -2 for a good controller, ``-replicas_max / demand`` at worst.
        lateness: Minus the multiplier times late requests over mean requests; 0 when all are in
            time, ``-multiplier`` when an average interval is all late.
        churn: Minus :data:`CHURN_WEIGHT` times replicas changed over replicas the demand needs.
        restarts: Minus :data:`RESTART_GPU_S` times pods replaced, over the same GPU-seconds.
    """

    gpu_cost: float
    lateness: float
    churn: float
    restarts: float

    @property
    def total(self) -> float:
        """The reward: the sum of the terms."""
        return self.gpu_cost + self.lateness + self.churn + self.restarts


def reward_terms(
    *,
    gpu_seconds: float,
    late_requests: float,
    replicas_changed: float,
    interval_s: float,
    demand_rps: float,
    slo_rps: float,
    multiplier: float,
    pods_replaced: float = 0.0,
    gpu_share: float = 1.0,
) -> RewardTerms:
    """Return the terms of one interval of one service.

    Args:
        gpu_seconds: GPU time held in the interval, starting and draining pods included.
        late_requests: Requests not answered within the target: late, rejected, failed, timed out.
        replicas_changed: Absolute change of the replica count at the start of the interval.
        interval_s: Length of the interval in seconds.
        demand_rps: Mean arrival rate of the episode.
        slo_rps: What one replica carries at the objective.
        multiplier: Price of a late request, :data:`MULTIPLIER_MIN` to :data:`MULTIPLIER_MAX`.
        pods_replaced: Pods replaced by pods of another gear.
        gpu_share: Share of a GPU (cores on a CPU) of the replica that carries ``slo_rps``.
    """
    arrays = reward_arrays(
        gpu_seconds=np.array([gpu_seconds]),
        late_requests=np.array([late_requests]),
        replicas_changed=np.array([replicas_changed]),
        interval_s=interval_s,
        demand_rps=np.array([demand_rps]),
        slo_rps=np.array([slo_rps]),
        multiplier=multiplier,
        pods_replaced=np.array([pods_replaced]),
        gpu_share=np.array([gpu_share]),
    )
    gpu_cost, lateness, churn, restarts = (float(value) for value in arrays[:, 0])
    return RewardTerms(gpu_cost=gpu_cost, lateness=lateness, churn=churn, restarts=restarts)


def reward_arrays(
    *,
    gpu_seconds: NDArray[np.float64],
    late_requests: NDArray[np.float64],
    replicas_changed: NDArray[np.float64],
    interval_s: float,
    demand_rps: NDArray[np.float64],
    slo_rps: NDArray[np.float64],
    multiplier: float | NDArray[np.float64],
    pods_replaced: NDArray[np.float64],
    gpu_share: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the terms of many services, float64, shape ``(4, n)``: cost, late, churn, restarts.

    The arguments are those of :func:`reward_terms` with one value per service, shape ``(n,)``;
    the multiplier may be one for all.
    """
    demand = np.maximum(demand_rps, 1e-9)
    demand_replicas = demand / slo_rps
    needed_s = interval_s * demand_replicas * gpu_share
    terms = np.empty((4, len(demand)))
    terms[0] = -gpu_seconds / needed_s
    terms[1] = -multiplier * late_requests / (interval_s * demand)
    terms[2] = -CHURN_WEIGHT * replicas_changed / np.maximum(demand_replicas, 1.0)
    terms[3] = -RESTART_GPU_S * pods_replaced / needed_s
    return terms


def ascend(
    multiplier: float, *, late_ratio: float, allowed_ratio: float, rate: float = 0.05
) -> float:
    """Return the multiplier after one step of dual ascent on the attainment constraint.

    The step is multiplicative, ``exp(rate * (late / allowed - 1))`` with the bracket bounded to
    -1..2, so that a single burst of lateness cannot throw the price out of its range.

    Args:
        multiplier: Price before the step.
        late_ratio: Share of requests late since the last step, 0 to 1.
        allowed_ratio: Share the objective allows, above 0.
        rate: Step size in log price per unit of relative violation.
    """
    violation = min(late_ratio / allowed_ratio - 1.0, 2.0)
    moved = multiplier * float(np.exp(rate * violation))
    return min(max(moved, MULTIPLIER_MIN), MULTIPLIER_MAX)
