"""PPO from Stable-Baselines3, started at the classical controller and held to its constraints.

Proximal policy optimisation: Schulman et al., arXiv:1707.06347, 2017; the implementation is
``stable_baselines3.PPO``. Ours are the start (the head prefers the neutral action, so that
the greedy policy of episode 0 *is* the classical controller), the first updates that fit only the
critic, and the dual ascent on the price of a late request, one price per objective.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from gpupilot_agent.forward import Network
from gpupilot_agent.ppo_policy import MaskedPolicy
from gpupilot_agent.ppo_vec_env import TERMS, FleetVecEnv, Totals
from gpupilot_agent.training_config import PpoSettings
from gpupilot_envs.actions import NEUTRAL, SIZES
from gpupilot_envs.errors import BundleRefused
from gpupilot_envs.objective import ascend


def build(
    env: FleetVecEnv,
    settings: PpoSettings,
    *,
    seed: int,
    remaining: Callable[[], float],
    tensorboard: str | None = None,
) -> PPO:
    """Return a PPO whose greedy policy is the neutral action everywhere.

    Args:
        env: The fleet to train on.
        settings: Hyperparameters.
        seed: Seed of the weights and of the sampled actions.
        remaining: Share of the training still to come, 1 to 0, for the learning rate.
        tensorboard: Folder of event files, or ``None``.
    """
    torch.set_num_threads(1)
    span = settings.learning_rate - settings.learning_rate_end
    model = PPO(
        MaskedPolicy,
        env,
        learning_rate=lambda _: settings.learning_rate_end + span * remaining(),
        n_steps=settings.n_steps,
        batch_size=min(settings.batch_size, settings.n_steps * env.num_envs),
        n_epochs=settings.n_epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clip_range=settings.clip_range,
        ent_coef=settings.entropy,
        max_grad_norm=1.0,
        policy_kwargs={"net_arch": [settings.hidden, settings.hidden], "ortho_init": False},
        tensorboard_log=tensorboard,
        seed=seed,
        device="cpu",
    )
    model.policy.keep_noise = settings.keep_noise
    _prefer_neutral(model, settings.neutral_logit)
    return model


def layers_of(model: PPO) -> Network:
    """Return the actor of a model as plain arrays, as a bundle holds it."""
    linear = [m for m in model.policy.mlp_extractor.policy_net if hasattr(m, "weight")]
    return tuple(
        (
            np.ascontiguousarray(module.weight.detach().numpy().T.astype(np.float32)),
            np.ascontiguousarray(module.bias.detach().numpy().astype(np.float32)),
        )
        for module in [*linear, model.policy.action_net]
    )


def adopt(model: PPO, layers: Network) -> None:
    """Give a model the actor of a bundle; its critic stays as it is.

    Raises:
        BundleRefused: The layers have other shapes than the model's.
    """
    linear = [m for m in model.policy.mlp_extractor.policy_net if hasattr(m, "weight")]
    modules = [*linear, model.policy.action_net]
    shapes = [tuple(module.weight.shape[::-1]) for module in modules]
    found = [weight.shape for weight, _ in layers]
    if found != shapes:
        raise BundleRefused(f"the policy to start from has layers {found}, expected {shapes}")
    with torch.no_grad():
        for module, (weight, bias) in zip(modules, layers, strict=True):
            module.weight.copy_(torch.from_numpy(weight.T.copy()))
            module.bias.copy_(torch.from_numpy(bias))


class DualAscent(BaseCallback):  # type: ignore[misc]
    """Moves the prices of late requests after every rollout and tells what the rollout was.

    The first updates fit only the critic: a policy moved by the advantages of a critic that knows
    nothing would leave the classical controller at random.
    """

    def __init__(
        self,
        env: FleetVecEnv,
        settings: PpoSettings,
        *,
        updates_before: int,
        on_rollout: Callable[[Totals], bool],
    ) -> None:
        """Watch ``env``; ``on_rollout`` returns whether training goes on."""
        super().__init__()
        self._env = env
        self._settings = settings
        objectives = env.control.scenarios.objectives
        self._allowed = 1.0 - np.array(objectives)
        self._on_rollout = on_rollout
        self._rollouts = updates_before
        self._go_on = True

    def _on_step(self) -> bool:
        return self._go_on

    def _on_rollout_start(self) -> None:
        self.model.policy.begin_rollout()

    def _on_rollout_end(self) -> None:
        _compare_copies(self.model, self._env.control.copies, self._env.control.references)
        totals = self._env.take_totals()
        self._go_on = self._on_rollout(totals)
        self._rollouts += 1
        trains = self._rollouts > self._settings.critic_updates
        _let_actor_learn(self.model, trains=trains)
        self._log(totals)
        if trains:
            self._env.control.reprice(self._ascended(totals))

    def _log(self, totals: Totals) -> None:
        """Hand what the rollout was to TensorBoard, where event files are written."""
        control, record = self._env.control, self.logger.record
        record("serving/attainment_ratio", 1.0 - totals.late_ratio)
        record("serving/late_ratio", totals.late_ratio)
        record("serving/cost_ratio", totals.cost_ratio)
        for term, total in zip(TERMS, totals.terms.tolist(), strict=True):
            record(f"reward/{term}", total / max(totals.steps, 1))
        rows = zip(
            control.scenarios.objectives, control.multipliers, totals.late_ratios, strict=True
        )
        for objective, price, late in rows:
            record(f"serving/price_{objective:g}", price)
            record(f"serving/late_ratio_{objective:g}", late)

    def _ascended(self, totals: Totals) -> NDArray[np.float64]:
        """Return the price of every objective after one step toward its own allowed lateness."""
        known = np.where(np.isnan(totals.late_ratios), self._allowed, totals.late_ratios)
        rows = zip(self._env.control.multipliers, known, self._allowed, strict=True)
        rate = self._settings.multiplier_rate
        return np.array(
            [ascend(m, late_ratio=late, allowed_ratio=a, rate=rate) for m, late, a in rows]
        )


RAREST = 20.0
"""Standard deviations beyond which an advantage counts no more: one outage in one service of a
rollout would decide the whole update."""


def _compare_copies(model: PPO, copies: int, references: NDArray[np.bool_]) -> None:
    """Measure every advantage against those of the same service on the same traffic.

    Most of what a service earns is decided by its traffic, which no critic can foresee. Copies
    that met the same requests at the same time are an input-dependent baseline, free of bias
    because each is compared with the *other* ones (Mao et al., "Variance Reduction for
    Reinforcement Learning in Input-Driven Environments", ICLR 2019). Among them may be the
    classical controller's, from which the actor has nothing else to learn.
    """
    if copies == 1:
        return
    advantages = model.rollout_buffer.advantages
    groups = advantages.reshape(len(advantages), -1, copies)
    apart = (groups - groups.mean(axis=2, keepdims=True)) * copies / (copies - 1)
    bound = RAREST * apart.std()
    compared = np.clip(apart, -bound, bound).reshape(advantages.shape)
    compared[:, references] = 0.0
    model.rollout_buffer.advantages = compared


def _prefer_neutral(model: PPO, lead: float) -> None:
    head = model.policy.action_net
    at = 0
    with torch.no_grad():
        head.weight.mul_(0.1)
        head.bias.zero_()
        for size, neutral in zip(SIZES, NEUTRAL, strict=True):
            head.bias[at + neutral] = lead
            at += size


def _let_actor_learn(model: PPO, *, trains: bool) -> None:
    for module in (model.policy.mlp_extractor.policy_net, model.policy.action_net):
        for parameter in module.parameters():
            parameter.requires_grad_(trains)
