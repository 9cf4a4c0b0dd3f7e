"""The fleet under control: deterministic, honest at episode ends, a reward worth learning from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from gpupilot_agent.ppo_vec_env import FleetVecEnv
from gpupilot_envs.actions import NEUTRAL, SIZES
from gpupilot_envs.controller import Controller
from gpupilot_envs.errors import InputInvalid
from gpupilot_envs.fleet_control import FleetControl
from gpupilot_envs.following import PERIOD_S
from gpupilot_envs.objective import RESTART_GPU_S
from gpupilot_envs.observation import FIELDS
from gpupilot_envs.scenarios import Ranges, Scenarios
from gpupilot_envs.serving_env import TRAINING_SPACE, ServingVectorEnv
from gpupilot_envs.workload.trace import RateTrace

MakeScenarios = Callable[..., Scenarios]
THIN = (0, 0, 0, 0, 0, 2, 2)
FAT = (8, 0, 6, 0, 0, 2, 2)

Choose = Callable[[int], tuple[int, ...]]


def _play(
    scenarios: Scenarios, choose: Choose, *, n: int = 48, steps: int = 300, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return reward terms ``(steps, 4, n)`` and demand ``(steps, n)`` of a scripted policy."""
    control = FleetControl(n, scenarios, multiplier=25.0)
    control.reset(np.random.default_rng(seed), stagger=False)
    steps_taken = [
        control.step(np.tile(np.array(choose(k)), (n, 1)).astype(np.int64)) for k in range(steps)
    ]
    return np.stack([s.terms for s in steps_taken]), np.stack([s.demand for s in steps_taken])


def _return(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean reward of each service."""
    total: NDArray[np.float64] = terms.sum(axis=1).mean(axis=0)
    return total


def _sigmas(better: NDArray[np.float64], worse: NDArray[np.float64]) -> float:
    """Return the paired difference in standard errors."""
    difference = better - worse
    return float(difference.mean() / (difference.std(ddof=1) / np.sqrt(len(difference))))


def test_best_and_worst_scripted_policies_differ_by_many_sigmas(
    make_scenarios: MakeScenarios,
) -> None:
    """A reward blind to the actions, as found in public work, would show no difference."""
    neutral, _ = _play(make_scenarios(), lambda _: NEUTRAL)
    worst, _ = _play(make_scenarios(), lambda _: THIN)
    assert _sigmas(_return(neutral), _return(worst)) > 5.0


def test_flapping_strictly_lowers_the_return(make_scenarios: MakeScenarios) -> None:
    held, _ = _play(make_scenarios(), lambda _: NEUTRAL)
    flapping, _ = _play(make_scenarios(), lambda k: FAT if k % 2 else THIN)
    assert _sigmas(_return(held), _return(flapping)) > 5.0
    assert flapping[:, 2].sum() < held[:, 2].sum()


def test_imitating_the_baseline_is_not_the_optimum(make_scenarios: MakeScenarios) -> None:
    """A scripted policy other than the neutral one earns more: there is something to learn."""
    fat = make_scenarios(
        controller=Controller(z=3.0, hold_s=600.0),
        ranges=Ranges(demand_replicas=(4.0, 8.0), cold_start_s=(3.0, 6.0)),
    )
    baseline, _ = _play(fat, lambda _: NEUTRAL, n=240)
    leaner, _ = _play(fat, lambda _: (2, 1, 3, 0, 0, 2, 2), n=240)
    assert _sigmas(_return(leaner), _return(baseline)) > 5.0


def test_saturation_never_pays(make_scenarios: MakeScenarios) -> None:
    """Fewer replicas than the demand earns less than the classical controller, always."""
    thin = make_scenarios(controller=Controller(z=0.0, hold_s=15.0, alpha=0.2))
    saturated, _ = _play(thin, lambda _: THIN)
    served, _ = _play(make_scenarios(), lambda _: NEUTRAL)
    assert saturated[:, 0].mean() > served[:, 0].mean()
    assert _sigmas(_return(served), _return(saturated)) > 3.0


def test_equal_seeds_give_equal_fleets_and_others_do_not(make_scenarios: MakeScenarios) -> None:
    first, _ = _play(make_scenarios(), lambda k: tuple(k % size for size in SIZES), seed=3)
    again, _ = _play(make_scenarios(), lambda k: tuple(k % size for size in SIZES), seed=3)
    other, _ = _play(make_scenarios(), lambda k: tuple(k % size for size in SIZES), seed=4)
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


KEEP = (*NEUTRAL[:6], 0)
"""The classical controller, in the gear it is in."""


def _geared(make_scenarios: MakeScenarios, **numbers: Any) -> Scenarios:
    """Return services that may change between whole and half GPUs, most of them large."""
    ranges = Ranges(demand_replicas=(6.0, 12.0), geared_share=1.0, faulty_share=0.0, **numbers)
    return make_scenarios(geared=True, ranges=ranges)


def test_the_planner_finds_the_cheaper_gear_and_pays_for_the_change(
    make_scenarios: MakeScenarios,
) -> None:
    """Half GPUs that carry three fifths save a sixth; every change restarts pods."""
    kept, _ = _play(_geared(make_scenarios), lambda _: KEEP)
    planned, _ = _play(_geared(make_scenarios), lambda _: NEUTRAL)
    assert kept[:, 3].sum() == 0.0
    assert planned[:, 3].sum() < 0.0
    replaced = planned[:, 3].min(axis=0) < 0.0
    assert 0.3 < replaced.mean() < 0.8  # those that began with whole ones, and some that need them
    assert planned[200:, 0, replaced].mean() > 0.93 * kept[200:, 0, replaced].mean()
    # both generations are billed while the new one starts: a cold start at nearly twice the price
    first = planned[:60, 0, replaced].min(axis=0)
    assert np.median(first) < 1.3 * np.median(kept[:60, 0, replaced].mean(axis=0))


def test_a_restarted_pod_costs_what_the_objective_says(make_scenarios: MakeScenarios) -> None:
    control = FleetControl(8, _geared(make_scenarios), multiplier=25.0)
    control.reset(np.random.default_rng(1), stagger=False)
    paid = np.zeros(8)
    pods = np.zeros(8)
    for _ in range(120):
        step = control.step(np.tile(np.array(NEUTRAL), (8, 1)))
        paid -= step.terms[3]
        pods += control._world.restarts
    unit = RESTART_GPU_S / (PERIOD_S * control._demand_rps / control._unit_rps)
    assert pods.max() > 0.0
    assert paid == pytest.approx(pods * unit)


def test_a_menu_that_is_never_used_changes_nothing(make_scenarios: MakeScenarios) -> None:
    """The gear that was drawn is kept: step by step the fleet without any menu."""
    ranges = Ranges(demand_replicas=(2.0, 6.0), geared_share=0.0)
    shut = make_scenarios(geared=True, ranges=ranges)
    kept, _ = _play(shut, lambda _: KEEP, steps=120)
    planned, _ = _play(shut, lambda _: NEUTRAL, steps=120)
    assert kept.tobytes() == planned.tobytes()


def test_mean_demand_of_an_episode_is_one(make_scenarios: MakeScenarios) -> None:
    """Late requests are counted against it, so it must be the episode's own mean."""
    _, demand = _play(make_scenarios(), lambda _: NEUTRAL, steps=360)
    assert demand.mean(axis=0) == pytest.approx(1.0, rel=0.05)


def test_copies_differ_by_their_actions_alone(make_scenarios: MakeScenarios) -> None:
    control = FleetControl(12, make_scenarios(), multiplier=25.0, copies=4)
    control.reset(np.random.default_rng(0), stagger=True)
    same = np.tile(np.array(NEUTRAL), (12, 1))
    for _ in range(130):
        step = control.step(same)
        groups = step.observations.reshape(3, 4, -1)
        assert (groups == groups[:, :1]).all()
    assert not (groups[0, 0] == groups[1, 0]).all()
    different = same.copy()
    different[::4] = (8, 6, 6, 4, 0, 2, 2)
    for _ in range(10):
        step = control.step(different)
    assert len(np.unique(step.observations[:4], axis=0)) == 2


def test_a_target_without_room_tells_no_price(make_scenarios: MakeScenarios) -> None:
    """What is late there is late by chance; counted, it would set the price for all."""
    scenarios = make_scenarios()
    tables = scenarios.tables
    scenarios.tables = replace(tables, plants=tables.plants.copy())
    scenarios.tables.plants["slo_rps"] = 0.05 * scenarios.tables.plants["saturation_rps"]
    env = _vec_env(scenarios)
    env.reset()
    assert env.control.too_tight.all()
    env.step(np.tile(np.array(NEUTRAL), (16, 1)))
    totals = env.take_totals()
    assert totals.requests.sum() == 0.0
    assert np.isnan(totals.late_ratios).all()
    assert totals.cost_ratio > 0.0


def test_actions_of_another_schema_are_refused(make_scenarios: MakeScenarios) -> None:
    control = FleetControl(4, make_scenarios(), multiplier=25.0)
    control.reset(np.random.default_rng(0), stagger=False)
    with pytest.raises(InputInvalid, match="actions"):
        control.step(np.zeros((4, len(NEUTRAL) - 2), dtype=np.int64))


def test_services_must_come_in_whole_groups(make_scenarios: MakeScenarios) -> None:
    with pytest.raises(InputInvalid, match="multiple of the 8 copies"):
        FleetControl(12, make_scenarios(), multiplier=25.0, copies=8)


def test_the_cold_start_shown_is_the_cold_start_lived(make_scenarios: MakeScenarios) -> None:
    ranges = Ranges(cold_start_s=(90.0, 90.0))
    control = FleetControl(4, make_scenarios(ranges=ranges), multiplier=25.0)
    seen = control.reset(np.random.default_rng(0), stagger=False)
    at = [field.name for field in FIELDS].index("cold_start")
    assert seen[:, at] == pytest.approx(90.0 / 180.0)


def _vec_env(scenarios: Scenarios, n: int = 16, seed: int = 0) -> FleetVecEnv:
    control = FleetControl(n, scenarios, multiplier=25.0)
    return FleetVecEnv(control, seed=seed, reward_offset=1.5, reward_scale=0.1)


def test_an_ended_episode_hands_over_its_last_observation(make_scenarios: MakeScenarios) -> None:
    """Stable-Baselines3 adds the value of exactly this observation to the last reward."""
    env = _vec_env(make_scenarios(episode_s=300.0))
    env.reset()
    ended, filled = 0, [field.name for field in FIELDS].index("history_filled")
    for _ in range(70):
        seen, _, dones, infos = env.step(np.tile(np.array(NEUTRAL), (16, 1)))
        assert len(infos) == 16
        for i, info in enumerate(infos):
            assert bool(info) == bool(dones[i])
            if info:
                ended += 1
                last = info["terminal_observation"]
                assert info["TimeLimit.truncated"]
                assert TRAINING_SPACE.contains(last)
                assert not np.array_equal(last, seen[i])
                assert last[filled] > seen[i][filled]  # the new episode has no history
    assert ended >= 16


def test_first_episodes_end_spread_over_time(make_scenarios: MakeScenarios) -> None:
    env = _vec_env(make_scenarios(episode_s=300.0), n=64)
    env.reset()
    action = np.tile(np.array(NEUTRAL), (64, 1))
    ends = [int(env.step(action)[2].sum()) for _ in range(60)]
    assert sum(ends) == 64
    assert max(ends) < 16


def test_totals_are_the_lagrangian_of_the_rewards(make_scenarios: MakeScenarios) -> None:
    """Cost ratio and late ratio, counted aside, give back the mean reward but for the churn."""
    env = _vec_env(make_scenarios(ranges=Ranges(demand_replicas=(2.0, 6.0), price=(1.0, 1.0))))
    env.reset()
    env.take_totals()
    rewards = [env.step(np.tile(np.array(NEUTRAL), (16, 1)))[1] for _ in range(50)]
    totals = env.take_totals()
    per_step = float(np.mean(rewards)) / 0.1 - 1.5
    lateness = 25.0 * totals.late / totals.steps
    assert per_step == pytest.approx(-totals.cost_ratio - lateness, abs=0.02)
    assert env.take_totals().steps == 0


def test_the_vector_environment_keeps_gymnasiums_contract(make_scenarios: MakeScenarios) -> None:
    env = ServingVectorEnv(8, make_scenarios(episode_s=50.0))
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    seen, _ = env.reset(seed=7)
    assert env.observation_space.contains(seen)
    for step in range(10):
        actions = env.action_space.sample()
        seen, rewards, terminated, truncated, infos = env.step(actions)
        assert env.observation_space.contains(seen)
        assert rewards == pytest.approx(infos["gpu_cost"] + infos["lateness"] + infos["churn"])
        assert not terminated.any()
        assert truncated.all() == (step == 9)
    assert (infos["_final_obs"] == truncated).all()
    assert not np.array_equal(infos["final_obs"], seen)


def test_the_vector_environment_is_deterministic_by_seed(make_scenarios: MakeScenarios) -> None:
    trails = []
    for _ in range(2):
        env = ServingVectorEnv(8, make_scenarios())
        env.reset(seed=11)
        actions = np.tile(np.array(NEUTRAL), (8, 1))
        trails.append(b"".join(env.step(actions)[0].tobytes() for _ in range(20)))
    assert trails[0] == trails[1]


def test_a_step_is_one_array_call_whatever_the_number_of_services(
    make_scenarios: MakeScenarios,
) -> None:
    """No Python loop over services: Python-level calls per step do not grow with them."""
    import cProfile
    import pstats

    calls = []
    for n in (8, 128):
        env = _vec_env(make_scenarios(episode_s=7200.0), n=n)
        env.reset()
        env.control._left[:] = 10_000
        action = np.tile(np.array(NEUTRAL), (n, 1))
        env.step(action)
        profile = cProfile.Profile()
        profile.runcall(env.step, action)
        calls.append(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]
    assert calls[0] == calls[1]


def test_steady_demand_is_carried_within_the_objective(make_scenarios: MakeScenarios) -> None:
    steady = RateTrace(name="steady", bin_s=60.0, rps=np.ones(120))
    ranges = Ranges(demand_replicas=(3.5, 3.5), faulty_share=0.0, cv=(1.0, 1.0))
    terms, demand = _play(make_scenarios(traces=[steady], ranges=ranges), lambda _: NEUTRAL)
    late = -terms[:, 1].sum() / 25.0 / demand.sum()
    assert late < 0.01
    assert -terms[:, 0].mean() == pytest.approx(4.0 / 3.5, rel=0.25)
