"""Slice by slice: nobody is hidden, and a policy compared with itself differs by nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from gpupilot_agent.fleet_validation import Paid, neutral
from gpupilot_agent.slices import Slice, _difference, labelled, plain, regrets, slices
from gpupilot_envs.curriculum import FRESH, Curriculum
from gpupilot_envs.scenarios import Ranges, Scenarios

MakeScenarios = Callable[..., Scenarios]

WIDE = Ranges(demand_replicas=(2.0, 6.0), cold_start_s=(5.0, 180.0), faulty_share=0.5)
SERVICES = 48


def _of(scenarios: Scenarios, act: Callable[..., NDArray[np.int64]]) -> dict[str, Slice]:
    prices = np.full(len(scenarios.objectives), 25.0)
    found = slices(scenarios, act, prices=prices, seed=3, services=SERVICES, steps=120)
    return {each.name: each for each in found}


def test_the_controller_against_itself_differs_by_nothing(make_scenarios: MakeScenarios) -> None:
    found = _of(make_scenarios(ranges=WIDE), neutral)
    assert found["all"].difference == pytest.approx(0.0, abs=0.01)
    for each in found.values():
        assert each.late_ratio == each.classical_late_ratio
        assert each.cost_ratio == each.classical_cost_ratio


def test_every_service_is_in_one_slice_of_every_kind(make_scenarios: MakeScenarios) -> None:
    found = _of(make_scenarios(ranges=WIDE), neutral)
    assert found["all"].services == SERVICES
    for kind in ("cold start", "target", "profile", "traffic", "faults"):
        counts = [each.services for name, each in found.items() if name.startswith(f"{kind} ")]
        assert sum(counts) == SERVICES, kind


def _made_up(cost: float, late: float) -> Paid:
    """Return what four services that are all alike paid."""
    each = np.ones(4)
    return Paid(
        cost=cost * each,
        late=late * each,
        requests=each,
        priced=cost * each,
        telling=each.astype(np.bool_),
    )


FRONTIER = [_made_up(1.0 + k / 10.0, 0.04 / 2.0**k) for k in range(5)]
"""A tenth of the demand more for half as many late requests."""


@pytest.mark.parametrize(("cost", "difference"), [(1.25, 0.0), (1.5, 0.2), (1.0, -0.2)])
def test_costs_are_compared_at_equal_attainment(cost: float, difference: float) -> None:
    """Halfway between two settings of the controller, in the logarithm of the late share."""
    ours = _made_up(cost, 0.04 / 2.0**2.5)
    assert _difference(ours, FRONTIER, np.arange(4)) == pytest.approx(difference, abs=1e-9)


@pytest.mark.parametrize("late", [0.05, 0.001])
def test_where_the_controller_never_was_nothing_is_compared(late: float) -> None:
    assert np.isnan(_difference(_made_up(1.2, late), FRONTIER, np.arange(4)))


def test_bands_hold_what_they_say(make_scenarios: MakeScenarios) -> None:
    scenarios = make_scenarios(ranges=WIDE)
    cases = scenarios.cases(np.random.default_rng(0), 200)
    band = labelled(scenarios, cases)["cold start"]
    assert cases["cold_start_s"][band == "below 15 s"].max() < 15.0
    assert cases["cold_start_s"][band == "90 s or more"].min() >= 90.0
    assert set(band) == {"below 15 s", "15 to 45 s", "45 to 90 s", "90 s or more"}


def test_regrets_are_told_by_group_the_most_first(make_scenarios: MakeScenarios) -> None:
    scenarios, curriculum = make_scenarios(ranges=WIDE), Curriculum(0.5)
    assert regrets(scenarios, curriculum) == []
    cases = scenarios.cases(np.random.default_rng(0), 40)
    slow = cases["cold_start_s"] >= 90.0
    curriculum.judge(cases, np.full(40, FRESH), np.where(slow, 2.0, 0.5))
    rows = regrets(scenarios, curriculum)
    assert rows[0] == {"name": "cold start 90 s or more", "kept": int(slow.sum()), "regret": 2.0}
    assert [row["regret"] for row in rows] == sorted((row["regret"] for row in rows), reverse=True)


def test_a_card_holds_plain_numbers(make_scenarios: MakeScenarios) -> None:
    (first, *_) = plain(list(_of(make_scenarios(ranges=WIDE), neutral).values()))
    assert first["name"] == "all"
    assert all(value is None or type(value) in (str, int, float) for value in first.values())
    assert first["cost_ratio"] == pytest.approx(first["classical_cost_ratio"])
