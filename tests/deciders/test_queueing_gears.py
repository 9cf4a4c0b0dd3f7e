"""The queueing controller with all actuators: its asks, and what they buy in the world."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpupilot_agent.baselines.registry import make
from gpupilot_agent.policies import Policy
from gpupilot_agent.rollout import Run, rollout
from gpupilot_envs.allocation import Allocation
from gpupilot_envs.gears import Gear, Menu, menu
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile, parse_profile
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.serving.measure import allocation_of
from gpupilot_envs.serving.world import SimulatedWorld
from gpupilot_envs.workload.arrivals import RateArrivals
from gpupilot_envs.workload.trace import RateTrace

TARGETS = Targets(latency_s=0.06)


def gear(share_milli: int, slo_rps: float) -> Gear:
    able = Capacity(slo_rps=slo_rps, saturation_rps=1.5 * slo_rps, idle_latency_s=0.015)
    allocation = Allocation(replicas=1, gpu_share_milli=share_milli)
    return Gear(allocation=allocation, capacity=able, cost_milli=share_milli)


MENU = Menu(gears=(gear(200, 25.0), gear(1000, 100.0)), base=1)


def shown(policy: Policy, stage: Any, rates: list[float], **view: Any) -> Any:
    """Return the last proposal for a series of rates."""
    service = stage(policy, replicas=2)
    for rate in rates:
        service.ask(rate_rps=rate)
    return policy.act(replace(service.view(), **view), None)


@pytest.mark.parametrize("rates", [[100.0] * 6, [20.0, 80.0, 300.0], [5.0]])
def test_without_a_menu_it_is_the_queueing_controller(stage: Any, rates: list[float]) -> None:
    plain = shown(make("predictive-5s"), stage, rates)
    geared = shown(make("queueing-gears"), stage, rates)
    assert geared.ask == plain.ask
    assert geared.why == plain.why


def test_little_traffic_is_given_a_little_share(stage: Any) -> None:
    proposal = shown(make("queueing-gears"), stage, [20.0] * 40, menu=MENU)
    assert proposal.ask.gpu_share_milli == 200
    assert proposal.ask.replicas * 25.0 >= 20.0
    assert proposal.why.endswith(", gear 1 of 2")


def test_before_the_first_rate_nothing_is_asked(stage: Any) -> None:
    proposal = shown(make("queueing-gears"), stage, [], menu=MENU)
    assert proposal.ask == Allocation(replicas=2)


@pytest.fixture(scope="module")
def profile() -> ServiceProfile:
    return parse_profile(
        {
            "name": "sliced",
            "batch_latency_ms": [[1, 8.0], [8, 15.0]],
            "cold_start_s": {"mean": 20.0, "cv": 0.1},
            "gpu": {"sharing": {"mode": "mig", "speed_by_share": [[333, 0.55], [1000, 1.0]]}},
        }
    )


def played(profile: ServiceProfile, policy: Policy, gears: Menu | None) -> Run:
    """A day's wave squeezed into an hour and a half, from nearly nothing to three GPUs."""
    able = menu(profile, TARGETS, ("limits",))
    whole = able.gears[able.base].capacity
    wave = 1.5 * (1.0 - np.cos(np.linspace(0.0, 2.0 * np.pi, 180))) * whole.slo_rps + 5.0
    trace = RateTrace(name="wave", family="wave", bin_s=30.0, rps=wave)
    world = SimulatedWorld(
        profile,
        RateArrivals(trace, seed=3),
        targets=TARGETS,
        allocation=allocation_of(profile),
        seed=3,
    )
    return rollout(
        policy,
        world,
        limits=Limits(),
        targets=TARGETS,
        profile=profile,
        capacity=whole,
        duration_s=trace.duration_s,
        warm_up_s=300.0,
        menu=gears,
    )


def test_shares_save_gpu_time_at_the_same_attainment(profile: ServiceProfile) -> None:
    """With thirds of a GPU at hand it needs much less of it, and is no later than by 0.3 points."""
    policy = make("queueing-gears")
    plain = played(profile, policy, None)
    geared = played(profile, policy, menu(profile, TARGETS, ("limits",)))
    assert plain.scored.attainment_ratio is not None
    assert geared.scored.attainment_ratio is not None
    assert geared.scored.attainment_ratio > plain.scored.attainment_ratio - 0.003
    assert geared.scored.gpu_seconds < 0.85 * plain.scored.gpu_seconds
    assert geared.scored.pod_restarts < 30
