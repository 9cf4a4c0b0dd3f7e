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
    and call, would take as long as the network.
    """

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = Bodies(self.net_arch[0])

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return chosen actions, values and the logarithms of the actions' probabilities."""
        logs = self._log_probabilities(obs)
        actions = self._choose(logs, deterministic)
        values = self.value_net(self.mlp_extractor.forward_critic(obs))
        return actions, values, _of_actions(logs, actions)

    def evaluate_actions(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values, logarithms of the actions' probabilities, and entropies."""
        logs = self._log_probabilities(obs)
        values = self.value_net(self.mlp_extractor.forward_critic(obs))
        entropy = -(logs.exp() * logs).sum(dim=1)
        return values, _of_actions(logs, actions.long()), entropy

    def predict_values(self, obs: Tensor) -> Tensor:
        """Return the critic's values."""
        values: Tensor = self.value_net(self.mlp_extractor.forward_critic(obs))
        return values

    def _predict(self, observation: Tensor, deterministic: bool = False) -> Tensor:
        return self._choose(self._log_probabilities(observation), deterministic)

    def _log_probabilities(self, obs: Tensor) -> Tensor:
        """Return the logarithm of the probability of every value, axis after axis."""
        logits = self.action_net(self.mlp_extractor.forward_actor(obs))
        possible = obs[:, ACTOR_WIDTH:MASK_END]
        logits = logits + (1.0 - possible) * _IMPOSSIBLE
        axes = [torch.log_softmax(axis, dim=1) for axis in torch.split(logits, SIZES, dim=1)]
        return torch.cat(axes, dim=1)

    @staticmethod
    def _choose(logs: Tensor, deterministic: bool) -> Tensor:
        """Return the most likely value of every axis, or a sample (Gumbel's trick)."""
        if not deterministic:
            logs = logs - torch.log(-torch.log(torch.rand_like(logs).clamp_min(1e-20)))
        axes = torch.split(logs, SIZES, dim=1)
        return torch.stack([axis.argmax(dim=1) for axis in axes], dim=1)


_STARTS = torch.tensor(np.concatenate([[0], np.cumsum(SIZES)[:-1]]))


def _of_actions(logs: Tensor, actions: Tensor) -> Tensor:
    picked: Any = logs.gather(1, actions + _STARTS).sum(dim=1)
    total: Tensor = picked
    return total
