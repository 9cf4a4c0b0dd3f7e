"""The arms of the ablation of actuators: controllers, what each may change, and one run of one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gpupilot_agent.baselines.registry import SEARCH_SPACES, make
from gpupilot_agent.bundle import Bundle
from gpupilot_agent.comparison.scene import Scene, arrivals, random_seed
from gpupilot_agent.comparison.traffic import Piece
from gpupilot_agent.learned import LearnedPolicy
from gpupilot_agent.policies import Policy
from gpupilot_agent.rollout import rollout
from gpupilot_agent.tuning import trials
from gpupilot_envs.gears import Actuator, Gear, Menu, menu
from gpupilot_envs.serving.world import SimulatedWorld

HPA, CLASSICAL, PLANNED, LEARNED = "hpa", "predictive-5s", "queueing-gears", "ppo"
PRICES = (0.03, 30.0)
"""Least and largest factor of a learned policy on the price of a late request it was given."""

REFERENCE = "HPA, replicas only"
CLASSICAL_REFERENCE = "queueing, replicas only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A controller with a set of actuators.

    Attributes:
        name: As it stands in the table.
        policy: Name of the baseline.
        starts: Gears to start in, and to stay in without a menu; the cheapest is chosen.
        menu: What may be changed at run time.
        bundle: Of a learned policy.
    """

    name: str
    policy: str
    starts: tuple[Gear, ...]
    menu: Menu | None = None
    bundle: Bundle | None = None

    def controller(self, params: dict[str, float]) -> Policy:
        """Return the policy in one setting."""
        if self.bundle is not None:
            return LearnedPolicy(bundle=self.bundle, price_scale=params["price_scale"])
        return make(self.policy, params)

    def settings(self, count: int) -> list[dict[str, float]]:
        """Return the settings it is played in: the same for one controller, whatever it may move.

        So two arms of a controller differ by their actuators, not by the luck of the draw.
        """
        if self.bundle is not None:
            return [{"price_scale": float(scale)} for scale in np.geomspace(*PRICES, count)]
        space = SEARCH_SPACES[HPA if self.policy == HPA else CLASSICAL]
        return trials(space, count, seed=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One arm on one piece of traffic."""

    requests: int
    in_time: int
    cost_s: float
    energy_j: float
    restarts: int
    scored_s: float


def arms(scene: Scene, bundle: Bundle) -> list[Arm]:
    """Return every arm with something to choose, the most telling ones first."""

    def able(*actuators: Actuator) -> Menu:
        return menu(scene.profile, scene.targets, actuators)

    limits, batching, both = able("limits"), able("batching"), able("limits", "batching")
    base = (both.gears[both.base],)
    learned = Arm(name="learned, all", policy=LEARNED, starts=base, menu=both, bundle=bundle)
    found = [
        Arm(name=REFERENCE, policy=HPA, starts=base),
        Arm(name=CLASSICAL_REFERENCE, policy=CLASSICAL, starts=base),
        Arm(name="queueing, all", policy=PLANNED, starts=base, menu=both),
        learned,
        Arm(name="HPA, static gear", policy=HPA, starts=both.gears),
        Arm(name="queueing, static gear", policy=CLASSICAL, starts=both.gears),
        Arm(name="queueing, + share or limit", policy=PLANNED, starts=base, menu=limits),
        Arm(name="queueing, + batching, instances", policy=PLANNED, starts=base, menu=batching),
        replace(learned, name="learned, replicas only", menu=None),
        replace(learned, name="learned, static gear", starts=both.gears, menu=None),
    ]
    return [arm for arm in found if arm.menu is None or len(arm.menu) > 1]


def play(
    scene: Scene, arm: Arm, start: Gear, params: dict[str, float], piece: Piece, seed: int
) -> Score:
    """Return what an arm does on a piece of traffic."""
    bins = max(1, math.ceil(300.0 / piece.trace.bin_s))
    first = math.ceil(float(piece.trace.rps[:bins].max()) / start.capacity.slo_rps)
    world = SimulatedWorld(
        scene.profile,
        arrivals(scene, piece, seed),
        targets=scene.targets,
        allocation=start.allocated(max(first, 1)),
        seed=random_seed("world", piece, seed),
        cluster=scene.cluster,
        scrape=scene.scrape,
    )
    run = rollout(
        arm.controller(params),
        world,
        limits=scene.limits,
        targets=scene.targets,
        profile=scene.profile,
        capacity=start.capacity,
        duration_s=piece.warm_up_s + piece.scored_s,
        warm_up_s=piece.warm_up_s,
        menu=arm.menu,
    )
    got, on_cpu = run.scored, scene.profile.device == "cpu"
    return Score(
        requests=got.requests,
        in_time=min(got.in_time, got.requests),
        cost_s=got.cpu_seconds if on_cpu else got.gpu_seconds,
        energy_j=got.energy_j,
        restarts=got.pod_restarts,
        scored_s=run.scored_s,
    )


def setting(gear: Gear, arm: Arm) -> str:
    """Return what an arm runs with, in words."""
    if arm.menu is not None:
        return f"{len(arm.menu)} gears"
    able = gear.allocation
    words = f"{gear.cost_milli} milli, batch {able.batch_max}"
    return words + (f", {able.instances_per_replica} instances" * (able.instances_per_replica > 1))
