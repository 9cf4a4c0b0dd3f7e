"""The oracle: exact against enumeration, its bounds are bounds, and its tables say what is late."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpupilot_agent.oracle import (
    LateCurve,
    Plan,
    capacity_curve,
    hindsight,
    isolated_second_curve,
    late_table,
)
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import parse_profile
from gpupilot_envs.serving.capacity import Capacity

Table = NDArray[np.float64]


def billed(serving: tuple[int, ...], ahead: int, initial: int) -> int:
    """Replica-intervals billed, counted pod by pod: independent of the programme's recursion.

    A pod pays while it serves and for ``ahead`` intervals before each time it begins to; through
    a gap no longer than that it pays all the time.
    """
    total = 0
    for pod in range(1, max((*serving, initial)) + 1):
        needed = [count >= pod for count in serving]
        for t in range(len(serving)):
            soon = any(needed[t : t + ahead + 1])
            total += soon
        starts_cold = needed[:1] == [True] and pod > initial
        assert not starts_cold or ahead == 0, "nothing can serve before its cold start"
    return total


def feasible(serving: tuple[int, ...], ahead: int, initial: int, limits: Limits) -> bool:
    before = initial
    for t, now in enumerate(serving):
        if not limits.replicas_min <= now <= limits.replicas_max:
            return False
        if now - before > limits.step_up_max or before - now > limits.step_down_max:
            return False
        if t < ahead and now > before:
            return False
        before = now
    return True


def enumerate_best(
    table: Table, budget: float, ahead: int, initial: int, limits: Limits
) -> float | None:
    width = limits.replicas_max + 1
    costs = [
        billed(serving, ahead, initial)
        for serving in product(range(width), repeat=len(table))
        if feasible(serving, ahead, initial, limits)
        and sum(table[t, n] for t, n in enumerate(serving)) <= budget + 1e-9
    ]
    return min(costs) if costs else None


def solve(
    table: Table, budget: float, ahead: int, initial: int, limits: Limits, interval_s: float = 15.0
) -> Plan:
    return hindsight(
        table,
        requests=1.0,
        late_share_max=budget,
        interval_s=interval_s,
        cold_start_s=ahead * interval_s,
        limits=limits,
        initial=initial,
    )


@st.composite
def small_worlds(draw: st.DrawFn) -> tuple[Table, float, int, int, Limits]:
    intervals, most = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    cells = st.integers(0, 9)
    table = np.array(
        [
            sorted(draw(st.lists(cells, min_size=most + 1, max_size=most + 1)), reverse=True)
            for _ in range(intervals)
        ],
        dtype=np.float64,
    )
    limits = Limits(
        replicas_min=draw(st.integers(0, 1)),
        replicas_max=most,
        step_up_max=draw(st.integers(1, 3)),
        step_down_max=draw(st.integers(1, 3)),
    )
    initial = draw(st.integers(limits.replicas_min, most))
    budget = float(draw(st.integers(0, 30)))
    return table, budget, draw(st.integers(0, 3)), initial, limits


@settings(max_examples=150)
@given(world=small_worlds())
def test_plan_and_bound_enclose_the_optimum_found_by_enumeration(
    world: tuple[Table, float, int, int, Limits],
) -> None:
    table, budget, ahead, initial, limits = world
    best = enumerate_best(table, budget, ahead, initial, limits)
    plan = solve(table, budget, ahead, initial, limits)
    if best is None:
        assert plan.late_requests > budget
        return
    assert plan.late_requests <= budget
    assert plan.bound_replica_s <= 15.0 * best + 1e-6
    assert 15.0 * best <= plan.cost_replica_s + 1e-6


@settings(max_examples=100)
@given(world=small_worlds(), price=st.integers(1, 40))
def test_at_a_given_price_of_lateness_the_programme_is_exact(
    world: tuple[Table, float, int, int, Limits], price: int
) -> None:
    """With every late request dearer than any replica the cheapest punctual plan is the optimum."""
    table, _, ahead, initial, limits = world
    least_late = min(
        (
            sum(table[t, n] for t, n in enumerate(serving))
            for serving in product(range(limits.replicas_max + 1), repeat=len(table))
            if feasible(serving, ahead, initial, limits)
        ),
        default=None,
    )
    assert least_late is not None
    best = enumerate_best(table, float(least_late), ahead, initial, limits)
    plan = solve(table * price, float(least_late) * price, ahead, initial, limits)
    assert best is not None
    assert plan.cost_replica_s == pytest.approx(15.0 * best)


def test_what_is_billed_is_what_the_played_plan_asks_for() -> None:
    rng = np.random.default_rng(3)
    table = np.sort(rng.integers(0, 50, size=(40, 9)).astype(float), axis=1)[:, ::-1].copy()
    plan = solve(table, 400.0, 2, 4, Limits(replicas_max=8))
    assert plan.cost_replica_s == pytest.approx(15.0 * plan.replicas.sum())
    assert (plan.replicas >= plan.serving).all()
    gaps = billed(tuple(plan.serving.tolist()), 2, 4)
    assert plan.replicas.sum() == gaps


def test_a_known_surge_is_bought_one_cold_start_ahead() -> None:
    per_second = np.concatenate([np.full(150, 90.0), np.full(60, 390.0), np.full(90, 90.0)])
    table = late_table(per_second, capacity_curve(100.0, 0.0), interval_s=15.0, replicas_max=8)
    plan = hindsight(
        table,
        requests=float(per_second.sum()),
        late_share_max=0.0,
        interval_s=15.0,
        cold_start_s=30.0,
        limits=Limits(replicas_max=8),
        initial=1,
    )
    assert plan.serving.tolist() == [1] * 10 + [4] * 4 + [1] * 6
    assert plan.replicas.tolist() == [1] * 8 + [4] * 6 + [1] * 6
    assert plan.late_requests == 0.0
    assert plan.bound_replica_s == pytest.approx(plan.cost_replica_s)


def test_a_lateness_budget_is_spent_where_it_saves_most() -> None:
    rng = np.random.default_rng(1)
    seconds = np.arange(3600)
    per_second = rng.poisson(300.0 + 200.0 * np.sin(seconds / 300.0)).astype(float)
    table = late_table(per_second, capacity_curve(100.0, 0.06), interval_s=15.0, replicas_max=16)
    plans = [
        hindsight(
            table,
            requests=float(per_second.sum()),
            late_share_max=share,
            interval_s=15.0,
            cold_start_s=40.0,
            limits=Limits(replicas_max=16),
            initial=4,
        )
        for share in (0.0, 0.005, 0.02, 1.0)
    ]
    costs = [plan.cost_replica_s for plan in plans]
    assert costs == sorted(costs, reverse=True)
    assert plans[1].late_share <= 0.005
    assert plans[1].bound_replica_s >= 0.99 * plans[1].cost_replica_s
    assert plans[3].cost_replica_s == pytest.approx(3600.0)


def test_the_capacity_curve_is_what_throughput_enforces() -> None:
    curve = capacity_curve(100.0, 0.1)
    for load in (0.0, 50.0, 110.0, 150.0, 400.0, 3000.0):
        share = float(np.interp(load, curve.requests, curve.shares))
        enforced = max(0.0, 1.0 - 110.0 / load) if load else 0.0
        assert share <= enforced + 1e-12
        assert share == pytest.approx(enforced, abs=2e-4)


def test_a_measured_second_is_never_better_than_throughput_allows() -> None:
    profile = parse_profile({"name": "small", "batch_latency_ms": [[1, 20.0], [4, 40.0]]})
    known = Capacity(slo_rps=60.0, saturation_rps=100.0, idle_latency_s=0.02)
    targets = Targets(latency_s=0.1)
    curve = isolated_second_curve(profile, known, targets, seed=1, points=11, repeats=40)
    enforced = capacity_curve(100.0, 0.1)
    floor = np.interp(curve.requests, enforced.requests, enforced.shares)
    assert curve.requests.tolist() == [30.0 * i for i in range(11)]
    assert (np.diff(curve.shares) >= 0.0).all()
    assert curve.shares[:2] == pytest.approx([0.0, 0.0])
    assert (curve.shares >= floor - 0.02).all()
    assert curve.shares[-1] > 0.6


def test_the_table_counts_each_second_on_its_own() -> None:
    curve = LateCurve(requests=np.array([0.0, 10.0, 20.0]), shares=np.array([0.0, 0.0, 1.0]))
    table = late_table(np.array([20.0, 0.0, 30.0, 10.0, 15.0]), curve, interval_s=2, replicas_max=2)
    assert table.tolist() == [[20.0, 20.0, 0.0], [40.0, 30.0, 15.0], [15.0, 7.5, 0.0]]


def test_impossible_requests_are_refused() -> None:
    table = np.zeros((4, 3))
    with pytest.raises(InputInvalid, match="table"):
        solve(table, 0.0, 0, 1, Limits(replicas_max=8))
    with pytest.raises(InputInvalid, match="initial"):
        solve(table, 0.0, 0, 0, Limits(replicas_max=2))
    with pytest.raises(InputInvalid, match="interval_s"):
        late_table(np.zeros(9), capacity_curve(1.0, 0.1), interval_s=1.5, replicas_max=2)
