"""Slice by slice: nobody is hidden, and a policy compared with itself differs by nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from gpupilot_agent.fleet_validation import neutral
from gpupilot_agent.slices import Slice, labelled, plain, regrets, slices
from gpupilot_envs.actions import NEUTRAL
from gpupilot_envs.curriculum import FRESH, Curriculum
from gpupilot_envs.scenarios import Ranges, Scenarios

MakeScenarios = Callable[..., Scenarios]

WIDE = Ranges(demand_replicas=(2.0, 6.0), cold_start_s=(5.0, 180.0), faulty_share=0.5)
SERVICES = 48


def _lean(observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Ask for far too little, whoever asks."""
    assert len(observations) == len(masks)
    return np.tile(np.array((0, 0, 0, *NEUTRAL[3:])), (len(observations), 1))


def _wasteful(observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Hold what was once needed for eight times as long."""
    assert len(observations) == len(masks)
    return np.tile(np.array((NEUTRAL[0], 6, *NEUTRAL[2:])), (len(observations), 1))


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


def test_what_needs_more_at_equal_attainment_is_told_so(make_scenarios: MakeScenarios) -> None:
    worse = _of(make_scenarios(ranges=WIDE), _wasteful)["all"]
    assert worse.cost_ratio > worse.classical_cost_ratio
    assert worse.difference is not None
    assert worse.low is not None
    assert 0.0 < worse.low < worse.difference


def test_what_the_controller_never_was_is_not_compared(make_scenarios: MakeScenarios) -> None:
    late = _of(make_scenarios(ranges=WIDE), _lean)["all"]
    assert late.late_ratio > late.classical_late_ratio
    assert late.difference is None
    assert late.low is None


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
