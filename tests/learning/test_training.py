"""Training starts at the classical controller, finds a known optimum, and is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpupilot_agent import bundle as bundles
from gpupilot_agent import training
from gpupilot_agent.fleet_validation import (
    OBJECTIVES,
    Score,
    Trade,
    Yardstick,
    neutral,
    priced_objectives,
    score,
)
from gpupilot_agent.ppo import _compare_copies, build, layers_of
from gpupilot_agent.ppo_policy import ACTOR_WIDTH, MASK_END
from gpupilot_agent.ppo_vec_env import FleetVecEnv
from gpupilot_agent.training import BUNDLE, CHECKPOINT, LOG, train
from gpupilot_agent.training_config import PpoSettings, Progress, TrainConfig
from gpupilot_agent.training_data import Material
from gpupilot_envs.actions import NEUTRAL
from gpupilot_envs.controller import Controller
from gpupilot_envs.errors import BundleRefused, InputInvalid
from gpupilot_envs.fleet_control import FleetControl
from gpupilot_envs.objective import first_price
from gpupilot_envs.scenarios import Ranges, Scenarios
from gpupilot_envs.workload.trace import RateTrace

MakeScenarios = Callable[..., Scenarios]

LEANEST = (0, 0, 0, *NEUTRAL[3:])

TINY = PpoSettings(n_steps=16, batch_size=256, n_epochs=4, hidden=16, critic_updates=1)


def _tiny_world(make_scenarios: MakeScenarios) -> Scenarios:
    """Return steady traffic of 2.2 replicas whose controller keeps two replicas too many.

    The optimum is known: 3 replicas carry it with time to spare, and only the least margin and
    the boldest rounding ask for 3.
    """
    steady = RateTrace(name="steady", bin_s=60.0, rps=np.ones(120))
    ranges = Ranges(demand_replicas=(2.2, 2.2), cv=(1.0, 1.0), lag_s=(0.0, 0.0), faulty_share=0.0)
    wasteful = Controller(z=40.0, hold_s=15.0, alpha=0.3, beta=0.0, conformal=False)
    return make_scenarios(traces=[steady], ranges=ranges, controller=wasteful, episode_s=600.0)


@pytest.fixture
def material(make_scenarios: MakeScenarios) -> Material:
    scenarios = make_scenarios()
    return Material(train=scenarios, validation=scenarios, trace_hashes={"train/made-up": "0" * 64})


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, material: Material) -> TrainConfig:
    monkeypatch.setattr(training, "prepare", lambda _config, _traffic: material)
    return TrainConfig(
        out=tmp_path,
        services=32,
        copies=4,
        frames=2048,
        validate_every=2,
        validation_services=12,
        validation_steps=20,
        ppo=TINY,
    )


def layers_policy(model: PPO) -> bundles.Bundle:
    """Return the actor of a model as it would be shipped."""
    return bundles.Bundle(
        networks=(layers_of(model),),
        controller=Controller(),
        config={},
        seeds={},
        trace_hashes={},
        commit="unknown",
        card={},
    )


def _env(scenarios: Scenarios, n: int = 32, copies: int = 4) -> FleetVecEnv:
    control = FleetControl(n, scenarios, multiplier=25.0, copies=copies)
    return FleetVecEnv(control, seed=0, reward_offset=1.5, reward_scale=0.1)


def test_episode_0_is_the_classical_controller(make_scenarios: MakeScenarios) -> None:
    scenarios = make_scenarios()
    model = build(_env(scenarios), PpoSettings(), seed=0, remaining=lambda: 1.0)

    def greedy(seen: np.ndarray, masks: np.ndarray) -> np.ndarray:
        actions: np.ndarray = layers_policy(model).act(seen, masks)
        assert (actions == np.array(NEUTRAL)).all()
        return actions

    learned = score(scenarios, greedy, seed=5, services=16, steps=60)
    assert learned == score(scenarios, neutral, seed=5, services=16, steps=60)


def _boldest(seen: np.ndarray, _masks: np.ndarray) -> np.ndarray:
    return np.tile(LEANEST, (len(seen), 1))


def test_ppo_finds_the_known_optimum_of_a_tiny_world(make_scenarios: MakeScenarios) -> None:
    scenarios = _tiny_world(make_scenarios)
    env = _env(scenarios, n=64, copies=8)
    settings = replace(TINY, batch_size=512, learning_rate=3e-3, neutral_logit=0.5)
    model = build(env, settings, seed=1, remaining=lambda: 1.0)
    before = score(scenarios, neutral, seed=9, services=16, steps=120)
    model.learn(40_000)

    after = score(scenarios, layers_policy(model).act, seed=9, services=16, steps=120)
    best = score(
        scenarios,
        lambda seen, _masks: np.tile(LEANEST, (len(seen), 1)),
        seed=9,
        services=16,
        steps=120,
    )
    assert after.late_ratio < 0.02
    assert after.cost_ratio < before.cost_ratio - 0.8 * (before.cost_ratio - best.cost_ratio)


def logits_of(model: PPO, observations: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return torch's own logits, to hold a bundle's against."""
    with torch.no_grad():
        latent = model.policy.mlp_extractor.forward_actor(torch.as_tensor(observations))
        return np.asarray(model.policy.action_net(latent).numpy())


def test_numpy_and_torch_agree_over_a_whole_episode(
    make_scenarios: MakeScenarios, config: TrainConfig
) -> None:
    """The golden test of the export: after training, on every observation of an episode."""
    env = _env(make_scenarios())
    model = build(env, TINY, seed=3, remaining=lambda: 1.0)
    model.learn(1024)
    exported = layers_policy(model)
    path = config.out / "exported.npz"
    bundles.save(exported, path)
    loaded = bundles.load(path)
    seen = env.reset()
    for _ in range(120):
        expected = logits_of(model, seen)
        fields, masks = seen[:, :ACTOR_WIDTH], seen[:, ACTOR_WIDTH:MASK_END] > 0.0
        assert loaded.logits(fields) == pytest.approx(expected, abs=1e-5)
        actions, _ = model.predict(seen, deterministic=True)
        assert (loaded.act(fields, masks) == actions).all()
        seen, *_ = env.step(actions)


def test_copies_are_compared_with_each_other(make_scenarios: MakeScenarios) -> None:
    model = build(_env(make_scenarios()), TINY, seed=0, remaining=lambda: 1.0)
    random = np.random.default_rng(0)
    raw = random.normal(size=(16, 32)).astype(np.float32)
    model.rollout_buffer.advantages = raw.copy()
    first = np.arange(32) % 4 == 0
    _compare_copies(model, 4, first)
    others = (raw.reshape(16, 8, 4).sum(axis=2, keepdims=True) - raw.reshape(16, 8, 4)) / 3
    expected = (raw.reshape(16, 8, 4) - others).reshape(16, 32)
    found = model.rollout_buffer.advantages
    assert found[:, ~first] == pytest.approx(expected[:, ~first], abs=1e-5)
    assert (found[:, first] == 0.0).all()


def test_a_price_for_many_kinds_stays_near_the_rule_of_thumb() -> None:
    """Services that no price serves in time would otherwise set it for all."""
    hopeless = Trade(
        knobs=(4.0, 60.0, 1000.0),
        scores=tuple(Score(late_ratio=late, cost_ratio=1.5) for late in (0.05, 0.03, 0.02)),
    )
    alone = dict(priced_objectives(hopeless, one_kind=True))
    shared = dict(priced_objectives(hopeless, one_kind=False))
    assert alone[0.99] == pytest.approx(1000.0)
    assert shared[0.99] == pytest.approx(2.0 * first_price(0.99))
    assert shared[0.95] == pytest.approx(alone[0.95], rel=0.3)


def test_a_run_leaves_a_bundle_a_checkpoint_and_a_curve(config: TrainConfig) -> None:
    told: list[Progress] = []
    path = train(config, told.append)
    assert path == config.out / BUNDLE
    bundle = bundles.load(path)
    assert bundle.config["frames"] == 2048
    assert bundle.trace_hashes == {"train/made-up": "0" * 64}
    for name in ("classical", "validation"):
        assert all(score["cost_ratio"] > 1.0 for score in bundle.card[name]["scores"])
    assert [objective for objective, _ in bundle.prices] == list(OBJECTIVES)
    assert bundle.familiar is not None
    assert bundle.card["familiar"]["strange"]["training, other services"] < 0.3
    rows = [json.loads(line) for line in (config.out / LOG).read_text().splitlines()]
    assert [row["frames"] for row in rows] == [0, 1024, 2048]
    assert all(
        row["rollout_cost_ratio"] > 1.0 and min(row["multipliers"]) >= 3.0 for row in rows[1:]
    )
    assert (config.out / CHECKPOINT).is_file()
    assert [p.phase for p in told] == ["preparing", *["training"] * 4, "done"]
    fractions = [p.fraction for p in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_equal_runs_give_equal_weights_and_another_seed_does_not(config: TrainConfig) -> None:
    def weights(run: TrainConfig) -> bytes:
        bundle = bundles.load(train(run))
        return b"".join(weight.tobytes() for weight, _ in bundle.networks[0])

    first = weights(replace(config, out=config.out / "a"))
    again = weights(replace(config, out=config.out / "b"))
    other = weights(replace(config, out=config.out / "c", seed=1))
    assert first == again
    assert first != other


def test_training_stops_when_its_time_is_up(config: TrainConfig) -> None:
    told: list[Progress] = []
    train(replace(config, frames=10_000_000, max_seconds=0.01), told.append)
    assert max(p.frames for p in told) <= 1024


def test_training_stops_when_nothing_gets_better(config: TrainConfig) -> None:
    """A learning rate of nothing: no validation is better than the start."""
    still = replace(TINY, learning_rate=0.0, learning_rate_end=0.0)
    train(replace(config, frames=10_000_000, patience=3, ppo=still))
    rows = [json.loads(line) for line in (config.out / LOG).read_text().splitlines()]
    assert [row["frames"] for row in rows] == [0, 1024, 2048, 3072]


def test_training_starts_from_the_actor_of_a_bundle(config: TrainConfig) -> None:
    """With a learning rate of nothing the trained policy is the one it started from."""
    first = train(replace(config, out=config.out / "first"))
    still = replace(TINY, learning_rate=0.0, learning_rate_end=0.0, hidden=64)
    tuned = train(replace(config, out=config.out / "tuned", start=first, ppo=still, seed=5))
    (was,), (became,) = bundles.load(first).networks, bundles.load(tuned).networks
    for (a, b), (c, d) in zip(was, became, strict=True):
        assert (a == c).all()
        assert (b == d).all()


def test_a_start_of_another_shape_is_refused(config: TrainConfig, bundle: bundles.Bundle) -> None:
    (network,) = bundle.networks
    deeper = replace(bundle, networks=((*network[:2], *network[1:]),))
    bundles.save(deeper, config.out / "deeper.npz")
    with pytest.raises(BundleRefused, match="to start from"):
        train(replace(config, start=config.out / "deeper.npz"))


def test_saving_is_measured_at_equal_attainment(make_scenarios: MakeScenarios) -> None:
    """A wider margin costs more and is in time more often: by itself it saves nothing."""
    sloped = Controller(z=1.2, z_per_log_price=0.4)
    scenarios = make_scenarios(controller=sloped)
    yardstick = Yardstick(scenarios, sloped, seed=1, services=48, steps=120)
    trade = yardstick.trade(neutral)
    assert abs(yardstick.saving(trade)) < 0.02
    late = [score.late_ratio for score in trade.scores]
    assert late == sorted(late, reverse=True)
    hopeless = Trade(knobs=(1.0,), scores=(replace(trade.scores[0], late_ratio=0.9),))
    assert yardstick.saving(hopeless) == -np.inf


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("services", 1),
        ("frames", 0),
        ("attainment_ratio", 1.0),
        ("max_seconds", 0.0),
        ("patience", 0),
        ("checkpoint_s", -1.0),
        ("profiles", ()),
        ("seed", -1),
    ],
)
def test_a_setting_that_cannot_be_trained_is_refused_by_name(
    tmp_path: Path, name: str, value: object
) -> None:
    with pytest.raises(InputInvalid, match=name):
        TrainConfig(out=tmp_path, **{name: value})  # type: ignore[arg-type]


def test_event_files_hold_what_people_look_for(config: TrainConfig) -> None:
    train(replace(config, tensorboard=True))
    (folder,) = (config.out / "tensorboard").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    names = set(events.Tags()["scalars"])
    assert names >= {
        "reward/gpu_cost",
        "reward/lateness",
        "reward/churn",
        "serving/attainment_ratio",
        "serving/cost_ratio",
        "serving/price_0.99",
        "train/approx_kl",
        "train/entropy_loss",
        "train/explained_variance",
        "train/learning_rate",
        "validation/saving",
    }
    costs = [event.value for event in events.Scalars("serving/cost_ratio")]
    terms = [event.value for event in events.Scalars("reward/gpu_cost")]
    assert costs == pytest.approx([-term for term in terms])
