"""The hindsight oracle: the cheapest plan of replicas when every arrival is known beforehand.

A dynamic programme over decision intervals. State: replicas that serve. A replica that begins to
serve was started one cold start earlier and is billed from then on; as stopping it and starting
it anew costs at least as much as keeping it through a gap shorter than a cold start, charging
every rise with ``cold_start_s`` replica-seconds is exact, not an approximation. A budget for
late requests enters by a Lagrange multiplier found by bisection.

What the bound ignores: backlog carried from second to second, chance in the balancing between
replicas, pods that drain, fail or wait for a GPU, cooldowns and the other rules of the guardrail
except the steps and bounds. All of these only cost, so with a table of lateness that is itself a
lower bound (:func:`capacity_curve`, :func:`isolated_second_curve`) no policy that changes at the
edges of the same intervals, under cold starts that take their mean, can be cheaper at the same
lateness than :attr:`Plan.bound_replica_s`. A policy with shorter periods or a lucky start may be,
by a fraction of an interval per change.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.serving.measure import measure
from gpupilot_envs.workload.arrivals import ExactArrivals

Floats = NDArray[np.float64]

_BISECTIONS = 40
_DEAREST = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class LateCurve:
    """Share of one second's requests that come late, by how many one replica received.

    Attributes:
        requests: Requests that arrive at one replica within one second, ascending from 0.
        shares: Share late, 0 to 1, same shape; linear in between, the last value beyond.
    """

    requests: Floats
    shares: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cheapest plan found and how far from the optimum it can be.

    Attributes:
        replicas: Replicas to ask for in each interval, cold starts included, shape ``(T,)``.
        serving: Replicas that serve in each interval, shape ``(T,)``.
        cost_replica_s: Replica-seconds billed by the plan.
        late_requests: Requests the table calls late under the plan.
        late_share: The same as a share of all requests, 0 when there are none.
        bound_replica_s: No plan within the budget costs less, by the Lagrange dual.
        price_replica_s: Replica-seconds one late request was worth.
    """

    replicas: NDArray[np.int64]
    serving: NDArray[np.int64]
    cost_replica_s: float
    late_requests: float
    late_share: float
    bound_replica_s: float
    price_replica_s: float


def capacity_curve(saturation_rps: float, latency_s: float) -> LateCurve:
    """Return the lateness that mere throughput enforces: a lower bound whatever the batching.

    Requests of one second are in time only when done ``latency_s`` after its end, so at least
    ``1 - saturation (1 + latency) / requests`` of them are late.

    Args:
        saturation_rps: Most requests per second one replica can execute.
        latency_s: Latency target.
    """
    most = saturation_rps * (1.0 + latency_s)
    # A chord of this concave curve lies below it: interpolation keeps the bound a bound.
    beyond = most * np.geomspace(1.0, 64.0, 129)
    requests = np.concatenate([[0.0], beyond])
    return LateCurve(requests=requests, shares=np.concatenate([[0.0], 1.0 - most / beyond]))


def isolated_second_curve(
    profile: ServiceProfile,
    capacity: Capacity,
    targets: Targets,
    *,
    seed: int,
    points: int = 24,
    repeats: int = 100,
) -> LateCurve:
    """Return the lateness of single seconds met by an idle replica, measured at the event level.

    Each point is the mean over ``repeats`` seconds with the same number of requests at random
    times, far enough apart that none inherits a backlog. Tighter than :func:`capacity_curve`,
    because it knows the batcher; still a lower bound up to the noise of the measurement, because
    an inherited backlog and an uneven split between replicas only add lateness.

    Args:
        profile: The service.
        capacity: Its capacity, for the range of loads.
        targets: The objective.
        seed: Seed of arrival times and service noise.
        points: Loads measured, from none to three times saturation.
        repeats: Seconds measured per load.
    """
    loads = np.unique(np.round(np.linspace(0.0, 3.0 * capacity.saturation_rps, points)))
    random = np.random.default_rng(seed)
    shares = np.zeros(len(loads))
    for index, load in enumerate(loads):
        if load > 0.0:
            spacing_s = 2.0 + load / capacity.saturation_rps
            starts_s = np.arange(repeats) * spacing_s
            offsets_s = np.sort(random.random((repeats, int(load))), axis=1)
            ledger = measure(
                profile,
                replicas=1,
                arrivals=ExactArrivals((starts_s[:, None] + offsets_s).ravel()),
                duration_s=float(repeats * spacing_s),
                targets=targets,
                seed=seed,
            )
            shares[index] = 1.0 - ledger.in_time / ledger.requests
    # Noise must not make more load look better than less.
    return LateCurve(requests=loads, shares=np.maximum.accumulate(shares))


@compiled
def _late_table(
    per_second: Floats, seconds: int, requests: Floats, shares: Floats, replicas_max: int
) -> Floats:
    intervals = (len(per_second) + seconds - 1) // seconds
    table = np.zeros((intervals, replicas_max + 1))
    for second in range(len(per_second)):
        count = per_second[second]
        if count <= 0.0:
            continue
        row = table[second // seconds]
        row[0] += count
        for n in range(1, replicas_max + 1):
            row[n] += count * np.interp(count / n, requests, shares)
    return table


def late_table(
    per_second: Floats, curve: LateCurve, *, interval_s: float, replicas_max: int
) -> Floats:
    """Return late requests by interval and serving replicas, shape ``(T, replicas_max + 1)``.

    Args:
        per_second: True number of requests in each second, shape ``(seconds,)``.
        curve: Lateness of one second.
        interval_s: Length of a decision interval, whole seconds.
        replicas_max: Most replicas.

    Raises:
        InputInvalid: ``interval_s`` is not a whole number of seconds above 0.
    """
    if interval_s < 1.0 or interval_s != int(interval_s):
        raise InputInvalid("interval_s", interval_s, "a whole number of seconds, 1 or more")
    counts = np.ascontiguousarray(per_second, dtype=np.float64)
    return _late_table(counts, int(interval_s), curve.requests, curve.shares, replicas_max)


@compiled
def _cheapest(
    table: Floats,
    price: float,
    interval_s: float,
    cold_start_s: float,
    least: int,
    up_max: int,
    down_max: int,
    initial: int,
    free_start: bool,
    chosen: NDArray[np.int64],
) -> float:
    """Fill ``chosen`` with the serving replicas that minimise cost plus price times lateness.

    With ``free_start`` pods may have been started before the first interval, for nothing.
    """
    intervals, width = table.shape
    value, after = np.zeros(width), np.empty(width)
    best = np.zeros((intervals, width), dtype=np.int16)
    frozen = 0 if free_start else int(np.ceil(cold_start_s / interval_s))
    for t in range(intervals - 1, -1, -1):
        for n in range(width):
            after[n] = value[n] + n * interval_s + price * table[t, n]
        start_s = min(cold_start_s, t * interval_s) if free_start else cold_start_s
        for before in range(width):
            low = max(least, before - down_max)
            # A replica asked for now serves only after its cold start.
            high = min(width - 1, before + up_max) if t >= frozen else before
            pick, cheapest = max(low, min(before, width - 1)), np.inf
            for n in range(min(low, high), high + 1):
                cost = after[n] + max(0, n - before) * start_s
                if cost < cheapest:
                    pick, cheapest = n, cost
            best[t, before], value[before] = pick, cheapest
    serving = initial
    for t in range(intervals):
        serving = best[t, serving]
        chosen[t] = serving
    return float(value[initial])


@compiled
def _score(
    table: Floats,
    chosen: NDArray[np.int64],
    interval_s: float,
    cold_start_s: float,
    initial: int,
) -> tuple[float, float]:
    cost, late, before = 0.0, 0.0, initial
    for t in range(len(chosen)):
        cost += chosen[t] * interval_s + max(0, chosen[t] - before) * cold_start_s
        late += table[t, chosen[t]]
        before = chosen[t]
    return cost, late


def hindsight(
    table: Floats,
    *,
    requests: float,
    late_share_max: float,
    interval_s: float,
    cold_start_s: float,
    limits: Limits,
    initial: int,
) -> Plan:
    """Return the cheapest plan whose lateness stays within the budget.

    Args:
        table: Late requests by interval and serving replicas, see :func:`late_table`.
        requests: All requests, for the budget.
        late_share_max: Share of requests that may be late, 0 to 1.
        interval_s: Length of a decision interval.
        cold_start_s: Seconds from asking for a replica to its first answer, billed.
        limits: Bounds and steps; the rest of the guardrail is ignored.
        initial: Replicas that serve at the start, within the bounds.

    Raises:
        InputInvalid: The table is narrower than the bounds, or ``initial`` is outside of them.
    """
    programme = _programme(table, interval_s, cold_start_s, limits, initial)
    budget = late_share_max * requests
    low, high = 0.0, 1.0
    plan = programme.solve(low)
    bound = plan.cost
    if plan.late > budget:
        plan = programme.solve(high)
        while plan.late > budget and high < _DEAREST:
            low, high = high, 8.0 * high
            plan = programme.solve(high)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            tried = programme.solve(middle)
            bound = max(bound, tried.cost + middle * (tried.late - budget))
            if tried.late <= budget:
                high = middle
                plan = tried if tried.cost <= plan.cost else plan
            else:
                low = middle
            if high - low <= 1e-4 * high:
                break
    return _plan(plan, programme, requests, bound, high)


def lagrangian(
    table: Floats, prices: Floats, *, interval_s: float, cold_start_s: float, replicas_min: int
) -> Floats:
    """Return the least of cost plus price times lateness at each price, in replica-seconds.

    Whatever was started before the first interval costs nothing, and any number may change at
    once, so that no plan can do better: with a budget of ``b`` late requests every plan costs at
    least ``value - price * b``, at every price (Lagrange dual).

    Args:
        table: Late requests by interval and serving replicas, see :func:`late_table`.
        prices: Replica-seconds that one late request is worth, shape ``(P,)``.
        interval_s: Length of an interval.
        cold_start_s: Seconds from asking for a replica to its first answer, billed.
        replicas_min: Fewest replicas.
    """
    useful = np.flatnonzero(table.sum(axis=0) <= 0.0)
    width = max(int(useful[0]) if len(useful) else table.shape[1] - 1, replicas_min) + 1
    kept = np.ascontiguousarray(table[:, :width], dtype=np.float64)
    chosen = np.zeros(len(kept), dtype=np.int64)
    most = width - 1
    values = [
        _cheapest(
            kept, price, interval_s, cold_start_s, replicas_min, most, most, most, True, chosen
        )
        for price in prices
    ]
    return np.array(values)


@dataclass(frozen=True, slots=True)
class _Solution:
    chosen: NDArray[np.int64]
    cost: float
    late: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Programme:
    table: Floats
    interval_s: float
    cold_start_s: float
    limits: Limits
    initial: int

    def solve(self, price: float) -> _Solution:
        chosen = np.zeros(len(self.table), dtype=np.int64)
        _cheapest(
            self.table,
            price,
            self.interval_s,
            self.cold_start_s,
            self.limits.replicas_min,
            self.limits.step_up_max,
            self.limits.step_down_max,
            self.initial,
            False,
            chosen,
        )
        cost, late = _score(self.table, chosen, self.interval_s, self.cold_start_s, self.initial)
        return _Solution(chosen, cost, late)


def _programme(
    table: Floats, interval_s: float, cold_start_s: float, limits: Limits, initial: int
) -> _Programme:
    most = limits.replicas_max
    if table.shape[1] <= most:
        raise InputInvalid("table", table.shape, f"a column for each of 0 to {most} replicas")
    if not limits.replicas_min <= initial <= most:
        raise InputInvalid("initial", initial, f"{limits.replicas_min} to {most} replicas")
    return _Programme(
        table=np.ascontiguousarray(table[:, : most + 1], dtype=np.float64),
        interval_s=float(interval_s),
        cold_start_s=float(cold_start_s),
        limits=limits,
        initial=initial,
    )


def _plan(
    solution: _Solution, programme: _Programme, requests: float, bound: float, price: float
) -> Plan:
    ahead = ceil(programme.cold_start_s / programme.interval_s)
    padded = np.concatenate([solution.chosen, np.repeat(solution.chosen[-1:], ahead)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, ahead + 1)
    return Plan(
        replicas=windows.max(axis=1),
        serving=solution.chosen,
        cost_replica_s=solution.cost,
        late_requests=solution.late,
        late_share=solution.late / requests if requests > 0.0 else 0.0,
        bound_replica_s=min(bound, solution.cost),
        price_replica_s=price,
    )
