"""The serving problem as a Gymnasium environment, single and natively vectorised.

Importing this module registers ``gpupilot/Serving-v0``; it is the only importer of Gymnasium.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from gpupilot_envs.actions import CHOICES, SIZES
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.controller import Controller
from gpupilot_envs.decision import Seats, Service
from gpupilot_envs.embedded import DEFAULT, find_profile
from gpupilot_envs.fleet_control import FORESIGHT, FleetControl
from gpupilot_envs.following import PERIOD_S
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.objective import RewardTerms, reward_terms
from gpupilot_envs.observation import HIGH, LOW
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.reasons import reasons_of
from gpupilot_envs.scenarios import Scenarios
from gpupilot_envs.serving.capacity import capacity
from gpupilot_envs.serving.ledger import Ledger
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.workload.arrivals import ArrivalStream, ExactArrivals, RateArrivals
from gpupilot_envs.workload.randomisation import random_traffic
from gpupilot_envs.world import World

EPISODE_STEPS = round(3600.0 / PERIOD_S)
"""Decisions of an episode as registered: one hour."""

MULTIPLIER = 25.0
"""Price of a late request unless training moves it; see :mod:`gpupilot_envs.objective`."""

Observation = NDArray[np.float32]
Action = NDArray[np.int64]

OBSERVATION_SPACE = spaces.Box(LOW, HIGH, dtype=np.float32)
TRAINING_SPACE = spaces.Box(
    np.concatenate([LOW, np.zeros(CHOICES + FORESIGHT)]).astype(np.float32),
    np.concatenate([HIGH, np.ones(CHOICES), np.full(FORESIGHT, 8.0)]).astype(np.float32),
    dtype=np.float32,
)
"""A row of a fleet in training: an observation, what can be chosen, and what is to come."""

ACTION_SPACE = spaces.MultiDiscrete(list(SIZES))


class AccountedWorld(World, Protocol):
    """A world that can also say what happened in truth, for the reward."""

    def ledger(self) -> Ledger:
        """Return the cumulative truth since the world began."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One episode: a world, the service that runs in it and the demand it will see.

    Attributes:
        world: At its start.
        service: What the decision path must know of it.
        demand_rps: Mean rate of the episode, the scale of the reward.
    """

    world: AccountedWorld
    service: Service
    demand_rps: float


SceneFactory = Callable[[np.random.Generator], Scene]
"""Makes a new episode from a generator; the same state gives the same episode."""


def simulated(
    profile: ServiceProfile | None = None,
    *,
    targets: Targets | None = None,
    limits: Limits | None = None,
    controller: Controller | None = None,
    demand_replicas: float = 4.0,
    cv: float = 1.0,
    episode_s: float = EPISODE_STEPS * PERIOD_S,
) -> SceneFactory:
    """Return episodes of random traffic in the event-level world.

    Args:
        profile: The service; the embedded default where not given.
        targets: Its objective; 60 ms for 99 % where not given.
        limits: Its envelope.
        controller: The classical controller that actions move.
        demand_replicas: Mean demand in replicas at their capacity.
        cv: Variation of the gaps between arrivals inside a bin of the traffic.
        episode_s: Seconds of traffic to draw.
    """
    service = _service(profile, targets, limits, controller)

    def episode(random: np.random.Generator) -> Scene:
        seeds = random.integers(2**31, size=3)
        traffic = random_traffic(int(seeds[0]), duration_s=episode_s, bin_s=5.0)
        demand_rps = demand_replicas * service.capacity.slo_rps
        # unlike most families, on/off traffic can be silent for a whole hour
        factor = demand_rps / traffic.mean_rps if traffic.mean_rps > 0.0 else 1.0
        arrivals = RateArrivals(traffic.scaled(factor), cv=cv, seed=int(seeds[1]))
        return _scene(service, arrivals, demand_rps, int(seeds[2]))

    return episode


def replayed(
    arrivals_s: NDArray[np.float64],
    profile: ServiceProfile | None = None,
    *,
    targets: Targets | None = None,
    limits: Limits | None = None,
    controller: Controller | None = None,
) -> SceneFactory:
    """Return episodes that replay recorded arrivals, each request at its own time.

    A recording tells when requests came, not what another allocation would have done to them:
    the answer to the agent's allocation comes from the event-level world.

    Args:
        arrivals_s: Times of the requests in seconds from 0, ascending.
        profile: See :func:`simulated` for this and the rest.
        targets: See :func:`simulated`.
        limits: See :func:`simulated`.
        controller: See :func:`simulated`.
    """
    service = _service(profile, targets, limits, controller)
    span_s = float(arrivals_s[-1]) if len(arrivals_s) else 1.0
    demand_rps = len(arrivals_s) / max(span_s, 1.0)

    def episode(random: np.random.Generator) -> Scene:
        return _scene(service, ExactArrivals(arrivals_s), demand_rps, int(random.integers(2**31)))

    return episode


class ServingEnv(gymnasium.Env[Observation, Action]):
    """Size an inference service on GPUs, decision by decision.

    ## Description

    An inference service answers requests on GPUs. Every 5 s the agent sets how a queueing
    controller sizes it: how wide a margin it keeps over its forecast, how long it holds capacity
    on the way down, how boldly it rounds, and how much of the hour's peak it keeps ready. The
    guardrail (bounds, cooldowns, stale metrics, flap budget) restrains what comes of it, exactly
    as it does in production. The goal is the least GPU time at which the share of requests within
    the latency target meets the objective.

    ## Action Space

    ``MultiDiscrete([9, 7, 7, 5, 4, 5, 4])``; the neutral action ``[4, 3, 3, 0, 0, 2, 2]`` is the
    classical controller. ``action_masks()`` says which values can be chosen now.

    | index | axis | values | meaning |
    |---|---|---|---|
    | 0 | margin | -2 … **0** … +3 | added to the margin in standard deviations |
    | 1 | hold | 0 … **1** … 8 | times the seconds capacity is held on the way down |
    | 2 | lift | -1 … **0** … +1 | replicas added to the need before it is rounded up |
    | 3 | memory | **0** … 1 | share of the hour's peak need that is kept ready |
    | 4 | anchor | **0**, 60, 300, 900 | size for a mean of so many seconds, not for a forecast |
    | 5 | horizon | 0.25 … **1** … 4 | times how far ahead a rising rate is forecast |
    | 6 | patience | 0, 0.25, **1**, 4 | times the time in which another gear must repay itself |

    ``actions.axes_table()`` prints every value.

    ## Observation Space

    ``Box(float32)`` with one entry per row of ``gpupilot_envs.observation.FIELDS``: every entry
    is a ratio to the service's own capacity, target, cold start or staleness limit. Missing
    metrics read 0 and raise a flag. ``observation.fields_table()`` prints index, name, unit,
    bounds and meaning of each.

    ## Rewards

    The sum of four terms, each 0 or less, which ``info`` carries by name:

    | term | meaning |
    |---|---|
    | gpu_cost | minus GPU-seconds held / GPU-seconds the mean demand needs |
    | lateness | minus ``multiplier`` x late requests / mean requests of an interval |
    | churn | minus 0.01 x replicas changed / replicas the mean demand needs |
    | restarts | minus 5 GPU-seconds x pods replaced for another gear / the same GPU-seconds |

    ## Starting State

    A new world drawn from the seed, with enough replicas for the first minute of traffic, and a
    first reading that knows no rate yet.

    ## Episode End

    Operating a service has no end: ``terminated`` is always ``False``. ``TimeLimit`` truncates
    after 720 decisions, one hour.

    ## Arguments

    ``scene``: makes a new episode from a generator: :func:`simulated` (default), or
    :func:`replayed` for recorded arrivals, or any world behind the same protocol.
    ``multiplier``: price of a late request, 25 by default.

    ## Version History

    * v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own type

    def __init__(
        self, scene: SceneFactory | None = None, *, multiplier: float = MULTIPLIER
    ) -> None:
        """Keep how episodes are made; the first world is made by :meth:`reset`."""
        self.observation_space = OBSERVATION_SPACE
        self.action_space = ACTION_SPACE
        self.multiplier = multiplier
        self._factory = simulated() if scene is None else scene

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start a new episode; ``options`` are not used."""
        super().reset(seed=seed, options=options)
        self._scene = self._factory(self.np_random)
        self._seats = Seats(1, flaps_per_hour_max=self._scene.service.limits.flaps_per_hour_max)
        self._seats.seat([replace(self._scene.service, price=self.multiplier)])
        self._ledger = self._scene.world.ledger()
        return self._observe(), {}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry the action out through the guardrail and let one interval pass."""
        world = self._scene.world
        before = world.allocation
        granted = self._seats.decide(
            np.asarray(action, dtype=np.int64)[None, :],
            np.array([before.replicas]),
            np.array([float(world.now_s)]),
        )
        after = replace(before, replicas=int(granted[0]))
        if after != before:
            world.apply(after)
        world.advance(world.now_s + PERIOD_S)
        ledger = world.ledger()
        passed, self._ledger = ledger - self._ledger, ledger
        terms = self._terms(passed, before, after)
        info = {**asdict(terms), **self._facts(passed, after)}
        return self._observe(), terms.total, False, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which values can be chosen now, axis after axis, as sb3-contrib asks for it."""
        masks: NDArray[np.bool_] = self._seats.masks[0].copy()
        return masks

    def _observe(self) -> Observation:
        world = self._scene.world
        row = world.read(PERIOD_S).row()[None, :]
        running = np.array([world.allocation.replicas])
        seen: Observation = self._seats.observe(np.array([0]), row, running)[0].copy()
        return seen

    def _terms(self, passed: Ledger, before: Allocation, after: Allocation) -> RewardTerms:
        return reward_terms(
            gpu_seconds=passed.gpu_seconds,
            late_requests=_late(passed),
            replicas_changed=abs(after.replicas - before.replicas),
            interval_s=PERIOD_S,
            demand_rps=self._scene.demand_rps,
            slo_rps=self._scene.service.capacity.slo_rps,
            multiplier=self.multiplier,
        )

    def _facts(self, passed: Ledger, after: Allocation) -> dict[str, Any]:
        return {
            "requests": passed.requests,
            "late_requests": _late(passed),
            "gpu_seconds": passed.gpu_seconds,
            "replicas": after.replicas,
            "reasons": tuple(str(reason) for reason in reasons_of(int(self._seats.reasons[0]))),
        }


class ServingVectorEnv(VectorEnv[Observation, Action, NDArray[Any]]):
    """Many services of the interval-level world in one call; same spaces and same reward.

    For training: the world is fitted to the event level (:mod:`gpupilot_envs.fleet`). Services
    start a new episode in the very step that ends the old one (``AutoresetMode.SAME_STEP``);
    ``infos["final_obs"]`` then holds their last observations, ``infos["_final_obs"]`` marks them.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium's own type
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self, num_envs: int, scenarios: Scenarios, *, multiplier: float = MULTIPLIER
    ) -> None:
        """Lay out ``num_envs`` services drawn from ``scenarios``."""
        self.num_envs = num_envs
        self.single_observation_space = OBSERVATION_SPACE
        self.single_action_space = ACTION_SPACE
        self.observation_space = gymnasium.vector.utils.batch_space(OBSERVATION_SPACE, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(ACTION_SPACE, num_envs)
        self.control = FleetControl(num_envs, scenarios, multiplier=multiplier)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start a new episode everywhere; ``options`` are not used."""
        super().reset(seed=seed, options=options)
        return self.control.reset(self.np_random, stagger=False), {}

    def step(
        self, actions: Action
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Carry out one action per service and let one interval pass."""
        step = self.control.step(np.asarray(actions, dtype=np.int64))
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        truncated[step.ended] = True
        infos: dict[str, Any] = {
            "gpu_cost": step.terms[0],
            "lateness": step.terms[1],
            "churn": step.terms[2],
            "restarts": step.terms[3],
            "requests": step.requests,
            "late_requests": step.late,
            "gpu_seconds": step.gpu_seconds,
        }
        if len(step.ended):
            final = np.zeros_like(step.observations)
            final[step.ended] = step.final_observations
            infos |= {"final_obs": final, "_final_obs": truncated.copy()}
        rewards = step.rewards.astype(np.float64)
        return step.observations, rewards, np.zeros_like(truncated), truncated, infos


def _service(
    profile: ServiceProfile | None,
    targets: Targets | None,
    limits: Limits | None,
    controller: Controller | None,
) -> Service:
    known = find_profile(DEFAULT) if profile is None else profile
    objective = Targets(latency_s=0.06) if targets is None else targets
    return Service(
        profile=known,
        capacity=capacity(known, objective),
        targets=objective,
        limits=Limits() if limits is None else limits,
        controller=Controller() if controller is None else controller,
    )


def _scene(service: Service, arrivals: ArrivalStream, demand_rps: float, seed: int) -> Scene:
    batching = service.profile.batching
    wanted = int(np.ceil(1.25 * demand_rps / service.capacity.slo_rps))
    allocation = Allocation(
        replicas=int(np.clip(wanted, service.limits.replicas_min, service.limits.replicas_max)),
        instances_per_replica=service.profile.instances_per_replica,
        batch_max=batching.max_batch if batching.enabled else 1,
        queue_delay_us=round(1000.0 * batching.queue_delay_ms),
    )
    world = SimulatedWorld(
        service.profile, arrivals, targets=service.targets, allocation=allocation, seed=seed
    )
    return Scene(world=world, service=service, demand_rps=demand_rps)


def _late(passed: Ledger) -> float:
    missed = passed.rejected + passed.timed_out + passed.failed
    return float(passed.answered - passed.in_time + missed)


gymnasium.register(
    id="gpupilot/Serving-v0",
    entry_point="gpupilot_envs.serving_env:ServingEnv",
    vector_entry_point="gpupilot_envs.serving_env:ServingVectorEnv",
    max_episode_steps=EPISODE_STEPS,
)
