"""The reward has none of the pitfalls found in published environments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpupilot_envs.objective import (
    MULTIPLIER_MAX,
    MULTIPLIER_MIN,
    RewardTerms,
    ascend,
    reward_terms,
)

SLO_RPS = 100.0
INTERVAL_S = 15.0


def _terms(
    replicas: float,
    late_ratio: float,
    changed: float = 0.0,
    demand_replicas: float = 4.0,
    multiplier: float = 25.0,
) -> RewardTerms:
    demand_rps = demand_replicas * SLO_RPS
    return reward_terms(
        gpu_seconds=replicas * INTERVAL_S,
        late_requests=late_ratio * demand_rps * INTERVAL_S,
        replicas_changed=changed,
        interval_s=INTERVAL_S,
        demand_rps=demand_rps,
        slo_rps=SLO_RPS,
        multiplier=multiplier,
    )


def test_total_is_the_sum_and_every_term_is_a_price() -> None:
    terms = _terms(6.0, 0.02, changed=2.0)
    assert terms.gpu_cost == pytest.approx(-1.5)
    assert terms.lateness == pytest.approx(-0.5)
    assert terms.churn == pytest.approx(-0.005)
    assert terms.total == pytest.approx(-2.005)


def test_flapping_strictly_lowers_the_return() -> None:
    """The same mean replicas and lateness, once held and once flapping between 3 and 5."""
    held = sum(_terms(4.0, 0.0).total for _ in range(10))
    flapping = sum(_terms(3.0 + 2.0 * (k % 2), 0.0, changed=2.0).total for k in range(10))
    assert flapping < held


@given(
    demand=st.floats(0.5, 40.0),
    served=st.floats(0.0, 0.95),
    multiplier=st.floats(MULTIPLIER_MIN, MULTIPLIER_MAX),
)
def test_saturation_never_pays(demand: float, served: float, multiplier: float) -> None:
    """Holding only a part of the demand and letting the rest be late is always worse."""
    saturated = _terms(served * demand, 1.0 - served, 0.0, demand, multiplier)
    served_all = _terms(2.0 * demand, 0.0, 0.0, demand, multiplier)
    barely = _terms(0.0, 1.0, 0.0, demand, multiplier)
    assert barely.total < served_all.total
    just_enough = _terms(demand, 0.0, 0.0, demand, multiplier)
    assert saturated.total < just_enough.total


@given(st.floats(0.1, 30.0), st.floats(0.0, 1.0))
def test_no_region_is_flat(replicas: float, late_ratio: float) -> None:
    """Unlike a clipped improvement, worse is always worse: in cost and in lateness."""
    here = _terms(replicas, late_ratio).total
    assert _terms(replicas * 1.1, late_ratio).total < here
    assert _terms(replicas, late_ratio + 0.01).total < here


def test_scale_does_not_matter() -> None:
    small, large = _terms(1.5, 0.01, 0.0, 1.0), _terms(15.0, 0.01, 0.0, 10.0)
    assert small.total == pytest.approx(large.total)


def test_the_return_of_an_episode_is_the_lagrangian() -> None:
    """Uneven intervals add up to cost ratio plus multiplier times late ratio, exactly."""
    demand_rps, multiplier = 200.0, 30.0
    requests, late, replicas = [600.0, 4200.0, 4200.0], [6.0, 84.0, 0.0], [1.0, 3.0, 5.0]
    total = sum(
        reward_terms(
            gpu_seconds=n * INTERVAL_S,
            late_requests=missed,
            replicas_changed=0.0,
            interval_s=INTERVAL_S,
            demand_rps=demand_rps,
            slo_rps=SLO_RPS,
            multiplier=multiplier,
        ).total
        for missed, n in zip(late, replicas, strict=True)
    )
    cost_ratio = sum(replicas) * SLO_RPS / (3 * demand_rps)
    late_ratio = sum(late) / sum(requests)
    assert total / 3 == pytest.approx(-(cost_ratio + multiplier * late_ratio))


def test_dual_ascent_raises_the_price_while_the_objective_is_missed() -> None:
    assert ascend(25.0, late_ratio=0.03, allowed_ratio=0.01) > 25.0
    assert ascend(25.0, late_ratio=0.002, allowed_ratio=0.01) < 25.0
    assert ascend(25.0, late_ratio=0.01, allowed_ratio=0.01) == pytest.approx(25.0)


def test_the_price_stays_in_its_range_and_no_burst_throws_it() -> None:
    price = 25.0
    for _ in range(1000):
        price = ascend(price, late_ratio=1.0, allowed_ratio=0.01)
    assert price == MULTIPLIER_MAX
    for _ in range(1000):
        price = ascend(price, late_ratio=0.0, allowed_ratio=0.01)
    assert price == MULTIPLIER_MIN
    assert ascend(25.0, late_ratio=1.0, allowed_ratio=0.001) < 25.0 * 1.2
