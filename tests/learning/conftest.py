"""Readings, services and bundles made in the test."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from gpupilot_agent.bundle import Bundle
from gpupilot_envs.actions import SIZES, Controller
from gpupilot_envs.decision import Service
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.observation import FIELDS
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.signals import Signals

Readings = Callable[..., list[Signals]]


@pytest.fixture
def service() -> Service:
    return Service(
        profile=ServiceProfile(name="made-up", batch_latency_ms=((1, 10.0), (8, 25.0))),
        capacity=Capacity(slo_rps=100.0, saturation_rps=130.0, idle_latency_s=0.012),
        targets=Targets(latency_s=0.06, attainment_ratio=0.99),
        limits=Limits(replicas_min=1, replicas_max=32, warm_up_s=0.0),
        controller=Controller(z=1.5, conformal=False),
    )


@pytest.fixture
def readings() -> Readings:
    return _readings


def _readings(
    count: int, *, rate_rps: float = 250.0, seed: int = 0, missing: float = 0.0
) -> list[Signals]:
    """Return noisy readings of a service under load, each field missing with a probability."""
    rng = np.random.default_rng(seed)

    def maybe(value: float) -> float | None:
        return None if rng.random() < missing else float(value)

    return [
        Signals(
            at_s=15.0 * (i + 1),
            window_s=15.0,
            age_s=maybe(rng.uniform(0, 5)),
            rate_rps=maybe(rng.gamma(20.0, rate_rps / 20.0)),
            latency_p95_s=maybe(rng.uniform(0.01, 0.1)),
            attainment_ratio=maybe(rng.uniform(0.9, 1.0)),
            queue_time_s=maybe(rng.uniform(0, 0.02)),
            batch_mean=maybe(rng.uniform(1, 8)),
            pending_requests=maybe(rng.uniform(0, 50)),
            gpu_busy_ratio=maybe(rng.uniform(0, 1)),
            replicas_ready=int(rng.integers(1, 6)),
            replicas_pending=int(rng.integers(0, 3)),
        )
        for i in range(count)
    ]


def _random_bundle(seed: int = 0, width: int = 12) -> Bundle:
    """Return a bundle of random weights, large enough for its choices to vary."""
    rng = np.random.default_rng(seed)
    sizes = (len(FIELDS), width, width, sum(SIZES))
    layers = tuple(
        (
            rng.normal(0.0, 1.0, (a, b)).astype(np.float32),
            rng.normal(0.0, 0.5, b).astype(np.float32),
        )
        for a, b in pairwise(sizes)
    )
    return Bundle(
        layers=layers,
        controller=Controller(z=1.0, hold_s=150.0),
        config={"frames": 1},
        seeds={"training": seed},
        trace_hashes={"made-up": "0" * 64},
        commit="unknown",
        card={"validation": {"attainment_ratio": 0.99}},
    )


@pytest.fixture
def bundle() -> Bundle:
    return _random_bundle()
