"""The environment keeps Gymnasium's contract, is deterministic, and its reward has no pitfalls."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from gpupilot_envs import serving_env
from gpupilot_envs.actions import NEUTRAL, SIZES
from gpupilot_envs.limits import Limits
from gpupilot_envs.objective import RewardTerms
from gpupilot_envs.serving_env import OBSERVATION_SPACE, ServingEnv, replayed, simulated

SHORT = 600.0
Choose = Callable[[int, np.ndarray], tuple[int, ...]]


@cache
def _scene() -> serving_env.SceneFactory:
    return simulated(demand_replicas=2.0, episode_s=SHORT, limits=Limits(warm_up_s=0.0))


def _neutral(_step: int, _seen: np.ndarray) -> tuple[int, ...]:
    return NEUTRAL


def _rollout(env: gymnasium.Env[Any, Any], choose: Choose, seed: int, steps: int) -> list[Any]:
    seen, _ = env.reset(seed=seed)
    trail: list[Any] = []
    for step in range(steps):
        seen, reward, terminated, truncated, info = env.step(np.array(choose(step, seen)))
        trail.append((seen.tobytes(), reward, terminated, truncated, info))
    return trail


def test_gymnasium_checker_accepts_the_environment() -> None:
    check_env(ServingEnv(_scene()), skip_render_check=True)


def test_stable_baselines3_checker_accepts_the_environment() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env_sb3(ServingEnv(_scene()))


def test_the_registered_environment_is_truncated_by_its_time_limit_alone() -> None:
    env = gymnasium.make("gpupilot/Serving-v0", scene=_scene(), max_episode_steps=20)
    trail = _rollout(env, _neutral, seed=1, steps=20)
    assert [truncated for _, _, _, truncated, _ in trail] == [False] * 19 + [True]
    assert not any(terminated for _, _, terminated, _, _ in trail)


def test_the_registration_is_one_hour_of_decisions() -> None:
    spec = gymnasium.spec("gpupilot/Serving-v0")
    assert spec.max_episode_steps == 720


def test_two_environments_with_one_seed_are_equal_and_with_two_are_not() -> None:
    random = np.random.default_rng(0)
    actions = [tuple(int(random.integers(size)) for size in SIZES) for _ in range(30)]

    def choose(step: int, _seen: np.ndarray) -> tuple[int, ...]:
        return actions[step]

    first = _rollout(ServingEnv(_scene()), choose, seed=5, steps=30)
    again = _rollout(ServingEnv(_scene()), choose, seed=5, steps=30)
    other = _rollout(ServingEnv(_scene()), choose, seed=6, steps=30)
    assert first == again
    assert first != other


def test_observations_stay_in_the_space_and_info_carries_the_reward() -> None:
    random = np.random.default_rng(1)
    env = ServingEnv(_scene())
    env.reset(seed=2)
    for _ in range(40):
        action = np.array([random.integers(size) for size in SIZES])
        seen, reward, _, _, info = env.step(action)
        assert OBSERVATION_SPACE.contains(seen)
        named = RewardTerms(**{term.name: info[term.name] for term in fields(RewardTerms)})
        assert reward == named.total
        assert info["late_requests"] <= info["requests"] + 1000
        assert info["gpu_seconds"] > 0.0


def test_replay_meets_every_recorded_request_once() -> None:
    arrivals_s = np.sort(np.random.default_rng(3).uniform(0.0, 300.0, 20_000))
    env = ServingEnv(replayed(arrivals_s))
    trail = _rollout(env, _neutral, seed=0, steps=61)
    assert sum(info["requests"] for *_, info in trail) == len(arrivals_s)


def _returns(choose: Choose, seeds: int = 6, steps: int = 90) -> np.ndarray:
    """Mean reward of a scripted policy on several seeds."""
    env = ServingEnv(_scene())
    trails = (_rollout(env, choose, seed, steps) for seed in range(seeds))
    return np.array([np.mean([reward for _, reward, *_ in trail]) for trail in trails])


def test_flapping_lowers_the_return_at_the_event_level() -> None:
    """Alternating the boldest and the most careful action against holding the middle."""

    def flap(step: int, _seen: np.ndarray) -> tuple[int, ...]:
        return (0, 0, 0, *NEUTRAL[3:]) if step % 2 else (8, 0, 6, *NEUTRAL[3:])

    worse = _returns(_neutral) - _returns(flap)
    assert worse.mean() > worse.std(ddof=1) / np.sqrt(len(worse))
