"""The network in training: what is masked is never tried, and exploration is kept up."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

from gpupilot_agent.ppo_policy import ACTOR_WIDTH, MASK_END, MaskedPolicy
from gpupilot_envs.actions import CHOICES, NEUTRAL, SIZES
from gpupilot_envs.serving_env import ACTION_SPACE, TRAINING_SPACE

STARTS = torch.tensor([0, *SIZES[:-1]]).cumsum(0)


@pytest.fixture
def policy() -> MaskedPolicy:
    torch.manual_seed(0)
    return MaskedPolicy(
        TRAINING_SPACE, ACTION_SPACE, lambda _: 1e-3, net_arch=[8, 8], ortho_init=False
    )


def _rows(n: int = 500) -> torch.Tensor:
    rows = torch.rand((n, *TRAINING_SPACE.shape))
    rows[:, ACTOR_WIDTH:MASK_END] = (rows[:, ACTOR_WIDTH:MASK_END] < 0.4).float()
    rows[:, ACTOR_WIDTH + STARTS + torch.tensor(NEUTRAL)] = 1.0
    return rows


def test_it_is_the_librarys_own_kind_of_policy(policy: MaskedPolicy) -> None:
    assert isinstance(policy, ActorCriticPolicy)


@pytest.mark.parametrize("deterministic", [False, True])
def test_what_is_masked_is_never_tried(policy: MaskedPolicy, deterministic: bool) -> None:
    rows = _rows()
    actions, values, logs = policy(rows, deterministic=deterministic)
    assert (rows[:, ACTOR_WIDTH:MASK_END].gather(1, actions + STARTS) == 1.0).all()
    assert values.shape == (len(rows), 1)
    assert (logs > -1e6).all()


def test_chances_are_those_of_the_samples(policy: MaskedPolicy) -> None:
    """What the update thinks an action's chance was is how often it is drawn."""
    row = _rows(1).repeat(20_000, 1)
    policy.begin_rollout()
    actions, _, logs = policy(row)
    values, evaluated, entropy = policy.evaluate_actions(row, actions)
    assert torch.allclose(evaluated, logs)
    assert (entropy > 0.0).all()
    assert values.shape == (len(row), 1)
    kinds, where, counts = actions.unique(dim=0, return_inverse=True, return_counts=True)
    assert len(kinds) > 5
    often = counts.argmax()
    chance = logs[(where == often).nonzero()[0, 0]].exp()
    assert counts[often] / len(row) == pytest.approx(float(chance.detach()), abs=0.02)


def test_noise_is_kept_for_as_many_decisions_as_asked(policy: MaskedPolicy) -> None:
    policy.keep_noise = 3
    policy.begin_rollout()
    rows = _rows()
    drawn = [policy(rows)[0] for _ in range(6)]
    same = [bool((a == b).all()) for a, b in pairwise(drawn)]
    assert same == [True, True, False, True, True]
    policy.begin_rollout()
    assert not (policy(rows)[0] == drawn[-1]).all()


def test_the_actor_does_not_see_what_only_the_critic_may(policy: MaskedPolicy) -> None:
    rows = _rows()
    other = rows.clone()
    other[:, MASK_END:] += 1.0
    assert (policy(rows, deterministic=True)[0] == policy(other, deterministic=True)[0]).all()
    assert (policy.predict_values(rows) != policy.predict_values(other)).any()
    assert MASK_END - ACTOR_WIDTH == CHOICES
