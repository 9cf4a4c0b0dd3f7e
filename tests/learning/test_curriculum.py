"""Which services come again: the more often the more the classical controller wins there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpupilot_agent.world_state import dumps, loads
from gpupilot_envs.actions import NEUTRAL
from gpupilot_envs.curriculum import FRESH, KEPT, Curriculum
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.fleet_control import FleetControl
from gpupilot_envs.scenarios import Scenarios

MakeScenarios = Callable[..., Scenarios]

BAD = (0, 0, 0, *NEUTRAL[3:])
"""Far too lean: what it pays is far above the classical controller."""


def _filled(scenarios: Scenarios, regrets: list[float]) -> Curriculum:
    found = Curriculum(0.5)
    cases = scenarios.cases(np.random.default_rng(0), len(regrets))
    found.judge(cases, np.full(len(regrets), FRESH), np.array(regrets))
    return found


def _fleet(scenarios: Scenarios, share: float = 0.5) -> FleetControl:
    return FleetControl(32, scenarios, multiplier=25.0, copies=4, curriculum=Curriculum(share))


def test_regret_decides_how_often_a_service_comes_again(make_scenarios: MakeScenarios) -> None:
    scenarios = make_scenarios()
    curriculum = _filled(scenarios, [0.0, 3.0, -1.0, 0.5])
    random, met = np.random.default_rng(1), np.zeros(4)
    for _ in range(200):
        cases, places = curriculum.draw(scenarios, random, 16)
        again = places != FRESH
        assert (cases[again] == curriculum.cases[places[again]]).all()
        met += np.bincount(places[again], minlength=4)
    assert met.sum() == pytest.approx(1600, rel=0.1)
    assert met[1] > met[3] > met[0] > met[2]
    assert met / met.sum() == pytest.approx(curriculum.chances(), abs=0.03)


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=2 * KEPT))
def test_chances_are_a_distribution_that_rises_with_regret(regrets: list[float]) -> None:
    curriculum = Curriculum(0.5)
    curriculum.regrets = np.array(regrets)
    chances = curriculum.chances()
    assert chances.sum() == pytest.approx(1.0)
    order = np.argsort(curriculum.regrets, kind="stable")
    assert (np.diff(chances[order][np.argsort(-chances[order])]) <= 0.0).all()
    assert chances[int(np.argmax(curriculum.regrets))] == chances.max()


def test_only_the_most_regretted_are_kept(make_scenarios: MakeScenarios) -> None:
    curriculum = _filled(make_scenarios(), [float(k) for k in range(KEPT + 40)])
    assert len(curriculum.cases) == KEPT
    assert sorted(curriculum.regrets) == [float(k) for k in range(40, KEPT + 40)]


def test_a_service_met_again_moves_its_running_regret(make_scenarios: MakeScenarios) -> None:
    curriculum = _filled(make_scenarios(), [4.0, 1.0])
    curriculum.judge(curriculum.cases[:1].copy(), np.array([0]), np.array([0.0]))
    assert curriculum.regrets.tolist() == [2.0, 1.0]
    assert curriculum.visits.tolist() == [2, 1]


def test_without_a_share_nothing_comes_again(make_scenarios: MakeScenarios) -> None:
    scenarios = make_scenarios()
    curriculum = _filled(scenarios, [1.0, 2.0])
    curriculum.share = 0.0
    cases, places = curriculum.draw(scenarios, np.random.default_rng(3), 8)
    assert (places == FRESH).all()
    assert (cases == scenarios.cases(np.random.default_rng(3), 8)).all()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(InputInvalid, match="curriculum"):
        Curriculum(share)


def test_the_first_copy_is_the_classical_controller(make_scenarios: MakeScenarios) -> None:
    """Whatever the agent asks for, the reference is what it would be without an agent."""
    scenarios = make_scenarios()
    led, alone = _fleet(scenarios, share=0.0), _fleet(scenarios, share=0.0)
    for control in (led, alone):
        control.reset(np.random.default_rng(5), stagger=False)
    assert led.references.tolist() == [True, False, False, False] * 8
    for _ in range(40):
        told = led.step(np.tile(np.array(BAD), (32, 1)))
        none = alone.step(np.tile(np.array(NEUTRAL), (32, 1)))
    assert (told.observations[led.references] == none.observations[led.references]).all()
    assert not (told.observations == none.observations).all()


def test_a_policy_as_good_as_the_reference_regrets_nothing(make_scenarios: MakeScenarios) -> None:
    control = _fleet(make_scenarios(episode_s=300.0))
    control.reset(np.random.default_rng(5), stagger=False)
    for _ in range(120):
        control.step(np.tile(np.array(NEUTRAL), (32, 1)))
    assert control.curriculum is not None
    assert len(control.curriculum.cases) >= 8
    assert control.curriculum.regrets == pytest.approx(0.0, abs=1e-12)


def test_a_worse_policy_is_regretted(make_scenarios: MakeScenarios) -> None:
    control = _fleet(make_scenarios(episode_s=600.0))
    control.reset(np.random.default_rng(5), stagger=False)
    for _ in range(120):
        control.step(np.tile(np.array(BAD), (32, 1)))
    assert control.curriculum is not None
    assert np.median(control.curriculum.regrets) > 0.0


def test_a_curriculum_goes_on_where_it_was_kept(make_scenarios: MakeScenarios) -> None:
    scenarios = make_scenarios()
    curriculum = _filled(scenarios, [4.0, 1.0, 2.0])
    back = loads(dumps(curriculum, {}), {})
    drawn = [each.draw(scenarios, np.random.default_rng(9), 32) for each in (curriculum, back)]
    assert drawn[0][0].tobytes() == drawn[1][0].tobytes()
    assert drawn[0][1].tobytes() == drawn[1][1].tobytes()
