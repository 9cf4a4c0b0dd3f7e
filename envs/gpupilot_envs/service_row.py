"""The constants of a service that a decision divides by, as one row of numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.capacity import Capacity

Floats = NDArray[np.float64]

SERVICE_FIELDS: tuple[str, ...] = (
    "slo_rps",
    "saturation_rps",
    "idle_latency_s",
    "target_s",
    "attainment_ratio",
    "cold_start_s",
    "batch_max",
    "replicas_max",
    "stale_after_s",
    "gpu_share_milli",
    "price",
)
"""Constants of a service that a decision divides by, in the order of :func:`service_row`."""


def service_row(
    profile: ServiceProfile,
    capacity: Capacity,
    targets: Targets,
    limits: Limits,
    gpu_share_milli: int = 1000,
    price: float = 25.0,
) -> Floats:
    """Return the constants of one service, float64, shape ``(len(SERVICE_FIELDS),)``."""
    return np.array(
        [
            capacity.slo_rps,
            capacity.saturation_rps,
            capacity.idle_latency_s,
            targets.latency_s,
            targets.attainment_ratio,
            profile.cold_start_s.mean,
            profile.batching.max_batch,
            limits.replicas_max,
            limits.stale_after_s,
            gpu_share_milli,
            price,
        ],
        dtype=np.float64,
    )
