"""A fleet under control as a Stable-Baselines3 ``VecEnv``: one array call a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from gpupilot_envs.actions import CHOICES
from gpupilot_envs.controller import REFERENCE_PRICE
from gpupilot_envs.fleet_control import FleetControl, Step
from gpupilot_envs.serving_env import ACTION_SPACE, TRAINING_SPACE

TERMS = ("gpu_cost", "lateness", "churn", "restarts")
"""Terms of the reward, as :class:`gpupilot_envs.objective.RewardTerms` names them."""


@dataclass(slots=True)
class Totals:
    """What happened to the whole fleet since the last count.

    Attributes:
        requests: Requests that arrived by objective, each service weighted to the same demand.
        late: Of those, not answered within the target.
        cost: GPU time and pods replaced, over the GPU time the mean demand needs.
        terms: Sum of each term of the reward, in the order of :data:`TERMS`.
        steps: Service-steps counted.
    """

    requests: NDArray[np.float64]
    late: NDArray[np.float64]
    terms: NDArray[np.float64]
    cost: float = 0.0
    steps: int = 0

    @classmethod
    def of(cls, objectives: int) -> Totals:
        """Return a count of nothing."""
        none = np.zeros(objectives)
        return cls(requests=none, late=none.copy(), terms=np.zeros(len(TERMS)))

    @property
    def late_ratios(self) -> NDArray[np.float64]:
        """Share of requests late by objective, 0 to 1; NaN where none arrived."""
        arrived = self.requests > 0.0
        return np.divide(
            self.late, self.requests, out=np.full_like(self.late, np.nan), where=arrived
        )

    @property
    def late_ratio(self) -> float:
        """Share of all requests late, 0 to 1."""
        return float(self.late.sum() / max(self.requests.sum(), 1e-9))

    @property
    def cost_ratio(self) -> float:
        """GPU time held over GPU time the mean demand needs."""
        return self.cost / self.steps if self.steps else 0.0


class FleetVecEnv(VecEnv):  # type: ignore[misc]
    """Services of a fleet for Stable-Baselines3.

    Stable-Baselines3 wants a list of one ``info`` per service and walks through it each step. All
    services share one empty ``info`` except those whose episode was cut off in this very step:
    theirs carry ``TimeLimit.truncated`` and ``terminal_observation``, so that the value of the
    state after the cut is not lost. A row holds what :mod:`gpupilot_agent.ppo_policy` says.

    Attributes:
        control: The fleet; it may be repriced between steps.
    """

    def __init__(
        self, control: FleetControl, *, seed: int, reward_offset: float, reward_scale: float
    ) -> None:
        """Wrap ``control``; rewards are handed out as ``(reward + offset) * scale``.

        The scale falls with the root of a service's price. What is best for the service stays the
        same, and the luck of those with a high price does not drown the others.
        """
        # the base class asks for attributes of the fleet while it is built
        self.control = control
        super().__init__(control.n, TRAINING_SPACE, ACTION_SPACE)
        self._random = np.random.default_rng(seed)
        self._offset = np.float32(reward_offset)
        self._scale = np.float32(reward_scale)
        self._nothing: dict[str, Any] = {}
        self._quiet = [self._nothing] * control.n
        self._totals = Totals.of(len(control.multipliers))

    def take_totals(self) -> Totals:
        """Return what happened since the last call."""
        totals, self._totals = self._totals, Totals.of(len(self.control.multipliers))
        return totals

    def reset(self) -> NDArray[np.float32]:
        """Start new episodes everywhere, their first ends spread over time."""
        return self._full(self.control.reset(self._random, stagger=True))

    def _full(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        control = self.control
        return np.concatenate([observations, control.masks, control.foresight()], axis=1)

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions until :meth:`step_wait`."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Let one interval pass for every service."""
        # a service that ends is another one afterwards; the price is never written in place
        self._prices, self._objectives = self.control.price, self.control.objective.copy()
        self._too_tight = self.control.too_tight.copy()
        step = self.control.step(self._actions)
        self._count(step)
        dones = np.zeros(self.num_envs, dtype=np.bool_)
        dones[step.ended] = True
        weight = np.sqrt(REFERENCE_PRICE / self._prices).astype(np.float32)
        rewards = (step.rewards + self._offset) * self._scale * weight
        return self._full(step.observations), rewards, dones, self._infos(step)

    def _infos(self, step: Step) -> list[dict[str, Any]]:
        infos = self._quiet
        if len(step.ended):
            infos = self._quiet.copy()
            unmasked = np.ones((len(step.ended), CHOICES), dtype=np.float32)
            parts = [step.final_observations, unmasked, step.final_foresight]
            finals = np.concatenate(parts, axis=1)
            for index, final in zip(step.ended.tolist(), finals, strict=True):
                infos[index] = {"TimeLimit.truncated": True, "terminal_observation": final}
        return infos

    def _count(self, step: Step) -> None:
        """Add a step of the policy; a small service's late requests weigh as a large one's do."""
        totals, ours = self._totals, ~self.control.references
        kinds, terms = len(totals.late), step.terms[:, ours]
        telling = ours & ~self._too_tight
        objectives = self._objectives[telling]
        late = -step.terms[1, telling] / self._prices[telling]
        totals.late += np.bincount(objectives, late, kinds)
        totals.requests += np.bincount(objectives, step.demand[telling], kinds)
        totals.terms += terms.sum(axis=1)
        totals.cost -= float(terms[[0, 3]].sum())
        totals.steps += int(ours.sum())

    def close(self) -> None:
        """Nothing to release."""

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Start the episodes to come from another seed."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
        return [seed] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the fleet once per service asked for."""
        return [getattr(self.control, attr_name, None)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: services have no attributes of their own.

        Raises:
            AttributeError: Always.
        """
        asked = f"{attr_name}={value!r}"
        raise AttributeError(f"{asked} belongs to the fleet, not to services {indices}")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Refuse: services have no methods of their own.

        Raises:
            AttributeError: Always.
        """
        asked = f"{method_name}{method_args}{method_kwargs or ''}"
        raise AttributeError(f"{asked} belongs to the fleet, not to services {indices}")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Return that no service is wrapped."""
        return [isinstance(self, wrapper_class)] * len(list(self._get_indices(indices)))
