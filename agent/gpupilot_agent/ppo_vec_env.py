"""A fleet under control as a Stable-Baselines3 ``VecEnv``: one array call a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from gpupilot_envs.fleet_control import FleetControl, Step
from gpupilot_envs.serving_env import ACTION_SPACE, OBSERVATION_SPACE


@dataclass(slots=True)
class Totals:
    """What happened to the whole fleet since the last count.

    Attributes:
        requests: Requests that arrived, each service weighted to the same mean demand.
        late: Of those, not answered within the target.
        cost: Sum of the cost terms: GPU time over what the mean demand needs.
        steps: Service-steps counted.
    """

    requests: float = 0.0
    late: float = 0.0
    cost: float = 0.0
    steps: int = 0

    @property
    def late_ratio(self) -> float:
        """Share of requests late, 0 to 1."""
        return self.late / self.requests if self.requests > 0.0 else 0.0

    @property
    def cost_ratio(self) -> float:
        """GPU time held over GPU time the mean demand needs."""
        return self.cost / self.steps if self.steps else 0.0


class FleetVecEnv(VecEnv):  # type: ignore[misc]
    """Services of a fleet for Stable-Baselines3.

    Stable-Baselines3 wants a list of one ``info`` per service and walks through it each step. All
    services share one empty ``info`` except those whose episode was cut off in this very step:
    theirs carry ``TimeLimit.truncated`` and ``terminal_observation``, so that the value of the
    state after the cut is not lost.

    Attributes:
        control: The fleet; its ``multiplier`` may be moved between steps.
    """

    def __init__(
        self, control: FleetControl, *, seed: int, reward_offset: float, reward_scale: float
    ) -> None:
        """Wrap ``control``; rewards are handed out as ``(reward + offset) * scale``."""
        # the base class asks for attributes of the fleet while it is built
        self.control = control
        super().__init__(control.n, OBSERVATION_SPACE, ACTION_SPACE)
        self._random = np.random.default_rng(seed)
        self._offset = np.float32(reward_offset)
        self._scale = np.float32(reward_scale)
        self._nothing: dict[str, Any] = {}
        self._quiet = [self._nothing] * control.n
        self._totals = Totals()

    def take_totals(self) -> Totals:
        """Return what happened since the last call."""
        totals, self._totals = self._totals, Totals()
        return totals

    def reset(self) -> NDArray[np.float32]:
        """Start new episodes everywhere, their first ends spread over time."""
        return self.control.reset(self._random, stagger=True)

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions until :meth:`step_wait`."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Let one interval pass for every service."""
        step = self.control.step(self._actions)
        self._count(step)
        dones = np.zeros(self.num_envs, dtype=np.bool_)
        dones[step.ended] = True
        rewards = (step.rewards + self._offset) * self._scale
        return step.observations, rewards, dones, self._infos(step)

    def _infos(self, step: Step) -> list[dict[str, Any]]:
        infos = self._quiet
        if len(step.ended):
            infos = self._quiet.copy()
            for index, final in zip(step.ended.tolist(), step.final_observations, strict=True):
                infos[index] = {"TimeLimit.truncated": True, "terminal_observation": final}
        return infos

    def _count(self, step: Step) -> None:
        """Add a step; a late request of a small service weighs as much as one of a large one."""
        totals, multiplier = self._totals, self.control.multiplier
        totals.late -= float(step.terms[1].sum()) / multiplier
        totals.requests += float(step.demand.sum())
        totals.cost -= float(step.terms[0].sum())
        totals.steps += self.num_envs

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
