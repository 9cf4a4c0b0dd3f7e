"""A small service and a quarter of an hour of traffic: real worlds, cheap enough for every test."""

from __future__ import annotations

import numpy as np
import pytest

from gpupilot_agent.comparison.config import CompareConfig
from gpupilot_agent.comparison.scene import Scene
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ColdStart, ServiceProfile
from gpupilot_envs.workload.trace import RateTrace


@pytest.fixture(scope="session")
def profile() -> ServiceProfile:
    return ServiceProfile(
        name="small",
        batch_latency_ms=((1.0, 20.0), (4.0, 40.0)),
        cold_start_s=ColdStart(mean=10.0, cv=0.1),
    )


@pytest.fixture(scope="session")
def scene(profile: ServiceProfile) -> Scene:
    return Scene(
        profile=profile,
        targets=Targets(latency_s=0.2, attainment_ratio=0.95),
        limits=Limits(replicas_max=12),
        scale_to_replicas=2.0,
        warm_up_s=90.0,
    )


def wave(name: str, *, period_s: float = 450.0, bins: int = 90, swing: float = 0.7) -> RateTrace:
    """Return a quarter of an hour of sinusoidal traffic in bins of 10 s."""
    at_s = np.arange(bins) * 10.0
    rates = 1.0 + swing * np.sin(2.0 * np.pi * at_s / period_s)
    return RateTrace(name=name, family="wave", bin_s=10.0, rps=rates)


@pytest.fixture(scope="session")
def traces() -> tuple[RateTrace, ...]:
    return wave("slow"), wave("quick", period_s=200.0)


@pytest.fixture(scope="session")
def small(scene: Scene, traces: tuple[RateTrace, ...]) -> CompareConfig:
    return CompareConfig(
        scene=scene,
        traces=traces,
        policies=("static", "queueing", "clairvoyant", "oracle"),
        seeds=2,
        levels=(0.95, 0.99),
    )
