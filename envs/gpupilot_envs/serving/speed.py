"""How fast a pod executes under its GPU share and CPU limit, alone and among tenants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.allocation import Allocation
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.cluster import WHOLE_MILLI
from gpupilot_envs.serving.state import TENANTS_MAX


def interpolated(curve: Sequence[tuple[float, float]], at: float) -> float:
    """Return a curve's value: linear between points, in proportion below the first.

    Beyond the last point the last value holds.
    """
    points = np.array(curve, dtype=np.float64)
    if at < points[0, 0]:
        return float(points[0, 1] * at / points[0, 0])
    return float(np.interp(at, points[:, 0], points[:, 1]))


def share_held_milli(profile: ServiceProfile, allocation: Allocation) -> int:
    """Return the thousandths of a GPU one pod holds: a whole one where sharing is off."""
    exclusive = profile.gpu.sharing.mode == "exclusive"
    return WHOLE_MILLI if exclusive else allocation.gpu_share_milli


def slowdown(profile: ServiceProfile, allocation: Allocation) -> float:
    """Return the time of an execution relative to a whole GPU without a CPU limit."""
    share = share_held_milli(profile, allocation)
    by_share = interpolated(profile.gpu.sharing.speed_by_share, share)
    by_cpu = interpolated(profile.cpu.speed_by_milli, allocation.cpu_milli)
    return 1.0 / (by_share * by_cpu)


def dynamic_ratio(profile: ServiceProfile, allocation: Allocation) -> float:
    """Return what a computing pod draws over idle, relative to a whole GPU or one core doing so.

    Of a CPU service in proportion to its speed: more cores do more work in less time.
    """
    if profile.device == "cpu":
        return interpolated(profile.cpu.speed_by_milli, allocation.cpu_milli)
    share_milli = share_held_milli(profile, allocation)
    return interpolated(profile.gpu.power_w.dynamic_by_share, share_milli)


def contention(profile: ServiceProfile) -> NDArray[np.float64]:
    """Return the slowdown by executions running at once, shape ``(TENANTS_MAX + 1,)``.

    Linear between the profile's points; beyond the last point the last slope goes on.
    """
    given = np.array(profile.gpu.sharing.contention_by_tenants, dtype=np.float64)
    tenants = np.arange(TENANTS_MAX + 1, dtype=np.float64)
    out = np.interp(tenants, given[:, 0], given[:, 1])
    if len(given) > 1:
        slope = (given[-1, 1] - given[-2, 1]) / (given[-1, 0] - given[-2, 0])
        out += slope * np.maximum(tenants - given[-1, 0], 0.0)
    return np.asarray(out, dtype=np.float64)


def curve_s(profile: ServiceProfile, batch_max: int) -> NDArray[np.float64]:
    """Return seconds of one execution by batch size up to ``batch_max``, index 0 unused."""
    batching = profile.batching.model_copy(update={"max_batch": batch_max})
    return profile.model_copy(update={"batching": batching}).batch_latency_s()
