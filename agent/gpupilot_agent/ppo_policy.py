"""The network that PPO trains: masked choices for the actor, a look ahead for the critic only.

A row of the fleet's observations holds, one after the other, what the actor sees (the fields a
bundle sees), which values of the action can be chosen now (S. Huang and S. Ontanon, "A Closer
Look at Invalid Action Masking in Policy Gradient Algorithms", FLAIRS 2022), and what is going to
happen, which only the critic may read: an asymmetric critic (Pinto et al., RSS 2018) takes the
luck of the traffic out of the advantages and never travels with the policy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from gpupilot_envs.actions import CHOICES, SIZES
from gpupilot_envs.fleet_control import FORESIGHT
from gpupilot_envs.observation import FIELDS

ACTOR_WIDTH = len(FIELDS)
MASK_END = ACTOR_WIDTH + CHOICES

_IMPOSSIBLE = -1e8


class Bodies(nn.Module):  # type: ignore[misc]
    """The hidden layers: the actor's over its fields, the critic's over these and the future."""

    def __init__(self, hidden: int) -> None:
        """Lay out two tanh layers for each."""
        super().__init__()
        self.latent_dim_pi = self.latent_dim_vf = hidden
        self.policy_net = _body(ACTOR_WIDTH, hidden)
        self.value_net = _body(ACTOR_WIDTH + FORESIGHT, hidden)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last hidden layer of actor and critic."""
        return self.forward_actor(rows), self.forward_critic(rows)

    def forward_actor(self, rows: Tensor) -> Tensor:
        """Return the actor's last hidden layer."""
        latent: Tensor = self.policy_net(rows[:, :ACTOR_WIDTH])
        return latent

    def forward_critic(self, rows: Tensor) -> Tensor:
        """Return the critic's last hidden layer."""
        seen = torch.cat([rows[:, :ACTOR_WIDTH], rows[:, MASK_END:]], dim=1)
        latent: Tensor = self.value_net(seen)
        return latent


def _body(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())


class MaskedPolicy(ActorCriticPolicy):  # type: ignore[misc]
    """Stable-Baselines3's actor and critic over ``TRAINING_SPACE``, one choice per axis.

    The distributions are a handful of tensor operations: the library's own, one object per axis
    and call, would take as long as the network. Logits stand one row per value and one column per
    service: the few values of an axis are then added up for many services at once.

    Attributes:
        keep_noise: Decisions for which a service's exploration stays the same. What one decision
            of five seconds does is lost in the noise of the traffic, and undone by the next; what
            is kept up for a cold start shows (R. Raffin, J. Kober and F. Stulp, "Smooth
            Exploration for Robotic Reinforcement Learning", CoRL 2021).
    """

    keep_noise: int = 1
    _noise: Tensor | None = None
    _kept: int = 0

    def begin_rollout(self) -> None:
        """Draw new exploration at the next decision."""
        self._noise = None

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = Bodies(self.net_arch[0])

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return chosen actions, values and the logarithms of the actions' probabilities."""
        logs = self._log_probabilities(obs)
        actions = _largest(logs if deterministic else logs + self._explore(logs))
        values = self.value_net(self.mlp_extractor.forward_critic(obs))
        return actions, values, _of_actions(logs, actions)

    def evaluate_actions(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values, logarithms of the actions' probabilities, and entropies."""
        logs = self._log_probabilities(obs)
        values = self.value_net(self.mlp_extractor.forward_critic(obs))
        entropy = -(logs.exp() * logs).sum(dim=0)
        return values, _of_actions(logs, actions.long()), entropy

    def predict_values(self, obs: Tensor) -> Tensor:
        """Return the critic's values."""
        values: Tensor = self.value_net(self.mlp_extractor.forward_critic(obs))
        return values

    def _predict(self, observation: Tensor, deterministic: bool = False) -> Tensor:
        logs = self._log_probabilities(observation)
        return _largest(logs if deterministic else logs + _gumbel(logs))

    def _explore(self, logs: Tensor) -> Tensor:
        """Return the noise of these decisions: the largest sum with it is a sample."""
        if self._noise is None or self._kept >= self.keep_noise:
            self._noise, self._kept = _gumbel(logs), 0
        self._kept += 1
        return self._noise

    def _log_probabilities(self, obs: Tensor) -> Tensor:
        """Return the logarithm of every value's probability, shape ``(CHOICES, n)``."""
        head, latent = self.action_net, self.mlp_extractor.forward_actor(obs)
        logits = torch.addmm(head.bias[:, None], head.weight, latent.T)
        possible = obs[:, ACTOR_WIDTH:MASK_END].T
        logits = logits + (1.0 - possible) * _IMPOSSIBLE
        return torch.cat([torch.log_softmax(axis, dim=0) for axis in torch.split(logits, SIZES)])


def _gumbel(like: Tensor) -> Tensor:
    """Return standard Gumbel noise (E. J. Gumbel, 1954)."""
    uniform = torch.rand(like.shape[::-1]).T.contiguous()
    return -torch.log(-torch.log(uniform.clamp_min(1e-20)))


def _largest(logs: Tensor) -> Tensor:
    """Return the index of the largest number of every axis, shape ``(n, axes)``."""
    return torch.stack([axis.argmax(dim=0) for axis in torch.split(logs, SIZES)], dim=1)


_STARTS = torch.tensor(np.concatenate([[0], np.cumsum(SIZES)[:-1]]))


def _of_actions(logs: Tensor, actions: Tensor) -> Tensor:
    picked: Any = logs.gather(0, (actions + _STARTS).T).sum(dim=0)
    total: Tensor = picked
    return total
