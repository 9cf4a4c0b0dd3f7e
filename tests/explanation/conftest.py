"""A slow service and an hour of its life: real worlds, cheap enough for every test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpupilot_agent.comparison.scene import Scene
from gpupilot_agent.explanation.moment import Moment
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ColdStart, ServiceProfile
from gpupilot_envs.workload.trace import RateTrace


@pytest.fixture(scope="session")
def scene() -> Scene:
    profile = ServiceProfile(
        name="slow",
        batch_latency_ms=((1.0, 40.0), (4.0, 80.0)),
        cold_start_s=ColdStart(mean=10.0, cv=0.1),
    )
    return Scene(
        profile=profile,
        targets=Targets(latency_s=0.4, attainment_ratio=0.95),
        limits=Limits(replicas_max=12),
        hours=None,
        warm_up_s=0.0,
    )


@pytest.fixture(scope="session")
def step(scene: Scene) -> Moment:
    """Return the moment at which the demand grows from two replicas to four, two running."""
    slo_rps = scene.capacity().slo_rps
    rates = np.where(np.arange(120) < 40, 1.7, 3.7) * slo_rps
    two = replace(scene.allocation, replicas=2)
    return Moment(
        at_s=600.0,
        scene=scene,
        traffic=RateTrace(name="step", bin_s=15.0, rps=rates),
        start_s=0.0,
        grants=((0.0, two),),
        running=two,
        granted=two,
    )
