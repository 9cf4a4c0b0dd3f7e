"""From a contender to the policy object that decides on one stretch of traffic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gpupilot_agent.baselines.fixed import ScheduledPolicy, peak_rps
from gpupilot_agent.baselines.registry import make
from gpupilot_agent.comparison.contenders import CLAIRVOYANT, ORACLE, Contender
from gpupilot_agent.comparison.scene import Scene, arrivals, first_replicas
from gpupilot_agent.comparison.traffic import Piece
from gpupilot_agent.learned import LearnedPolicy
from gpupilot_agent.oracle import LateCurve, hindsight, isolated_second_curve, late_table
from gpupilot_agent.perfect import duals
from gpupilot_agent.policies import Policy
from gpupilot_envs.limits import Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.serving.speed import share_held_milli

PLAN_INTERVAL_S = 15.0


def build(
    contender: Contender, scene: Scene, piece: Piece, pieces: Sequence[Piece], seed: int
) -> Policy:
    """Return the policy ready to decide on ``piece``, told only what it may know.

    Baselines and learned policies are told nothing of the traffic. ``static-peak`` is told the
    busiest minute of all scored pieces, ``clairvoyant`` the smoothed rate to come, ``oracle``
    every arrival.
    """
    params = dict(contender.params)
    if contender.bundle is not None:
        return LearnedPolicy(bundle=contender.bundle, price_scale=params["price_scale"])
    if contender.family == ORACLE:
        return planned(scene, piece, seed, asked=contender.asked, margin=params["margin"])
    if contender.family == "static-peak":
        params["peak_rps"] = max(peak_rps(each.trace) for each in pieces)
    trace = piece.trace if contender.family == CLAIRVOYANT else None
    return make(contender.family, params, trace=trace)


def planned(
    scene: Scene, piece: Piece, seed: int, *, asked: float, margin: float
) -> ScheduledPolicy:
    """Return the hindsight plan for the very arrivals of this piece and seed.

    The dynamic programme splits every second evenly over the replicas and forgets backlog, so
    its plan played in the world falls short of what it promises. ``margin`` makes replicas look
    slower by that share, a negative one faster; which was right is chosen in hindsight too.

    Args:
        scene: Service and surroundings.
        piece: The traffic.
        seed: Of the arrivals.
        asked: Attainment to plan for.
        margin: Share by which a replica is planned to be slower than it is, more than -1.
    """
    curve = _curve(scene.profile, scene.capacity(), scene.targets)
    slower = LateCurve(requests=curve.requests / (1.0 + margin), shares=curve.shares)
    counts = _per_second(scene, piece, seed)
    cold = scene.profile.cold_start_s
    plan = hindsight(
        late_table(
            counts, slower, interval_s=PLAN_INTERVAL_S, replicas_max=scene.limits.replicas_max
        ),
        requests=float(counts.sum()),
        late_share_max=1.0 - asked,
        interval_s=PLAN_INTERVAL_S,
        # most pods are up one standard deviation after the mean
        cold_start_s=cold.mean * (1.0 + cold.cv) + scene.cluster.scheduling_s,
        limits=scene.limits,
        initial=first_replicas(scene, piece),
    )
    return ScheduledPolicy(
        plan=tuple(int(n) for n in plan.replicas), interval_s=PLAN_INTERVAL_S, name=ORACLE
    )


def proven(scene: Scene, piece: Piece, seed: int) -> tuple[float, ...]:
    """Return what perfect information proves of the scored part, see :mod:`..perfect`."""
    scored = _per_second(scene, piece, seed)[math.ceil(piece.warm_up_s) :]
    return duals(
        scored,
        profile=scene.profile,
        capacity=scene.capacity(),
        targets=scene.targets,
        limits=scene.limits,
        gpu_share=share_held_milli(scene.profile, scene.allocation) / 1000.0,
    )


def _per_second(scene: Scene, piece: Piece, seed: int) -> NDArray[np.float64]:
    end_s = int(piece.trace.duration_s)
    times = arrivals(scene, piece, seed).take(float(end_s))
    return np.bincount(times.astype(np.int64), minlength=end_s).astype(np.float64)


@lru_cache(maxsize=8)
def _curve(profile: ServiceProfile, capacity: Capacity, targets: Targets) -> LateCurve:
    return isolated_second_curve(profile, capacity, targets, seed=0)
