"""Changing gear in the fleet: new pods beside the old ones, or new settings in the running ones.

A gear is a profile of :class:`FleetTables`. Where its GPU share differs, pods of the new gear start
while the old ones serve; once those that have started carry as much as the old ones, or as much as
was asked for, they take over together, as at the event level. Where the share is the same, the
settings change in the running pods :data:`LIVE_S` after they were asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.fleet.pods import ask, drained_s
from gpupilot_envs.serving.deployment import MODEL_LOAD_S

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LIVE_S = MODEL_LOAD_S
"""Seconds to a change in running pods; that of instances (0.24 s) is taken to last as long."""

_SOON_S = 0.05
_NONE = -1


@inlined
def replaced(service: np.void) -> bool:
    """Whether pods of another share are starting to take over."""
    return bool(service["next_profile"] >= 0 and service["restarting"] == 1)


@inlined
def asked_pods(service: np.void) -> int:
    """Return the pods asked for last."""
    pods: int = service["starting"]
    if not replaced(service):
        pods += service["ready"]
    return pods


@compiled
def ask_gear(
    service: np.void,
    plants: NDArray[np.void],
    ready_at_s: Floats,
    random: NDArray[np.uint64],
    which: int,
    replicas: int,
    profile: int,
    sums: Floats,
    booked: int,
) -> float:
    """Bring one service to ``replicas`` pods of a gear; return GPU-seconds not yet counted.

    Args:
        service: The service's memory.
        plants: Constants of every gear.
        ready_at_s: When each starting pod will be ready, shape ``(n, replicas_max)``.
        random: State of every service's generator.
        which: Place of the service in the fleet.
        replicas: Pods wanted.
        profile: Gear wanted; negative keeps the one asked for last.
        sums: The interval's sums.
        booked: Where in them the GPU-seconds of pods of another gear are booked.
    """
    if profile >= 0 and (profile != service["profile"] or service["next_profile"] != _NONE):
        _head_for(service, plants, profile)
    if not replaced(service):
        return ask(service, plants[service["profile"]], ready_at_s, random, which, replicas)
    old = service["ready"]
    service["ready"] = 0
    later = plants[service["next_profile"]]
    held_s = later["gpu_share"] * ask(service, later, ready_at_s, random, which, replicas)
    sums[booked] += held_s
    sums[booked + 1] += held_s * later["idle_w"]
    service["ready"] = old
    service["flip_at_s"] = _enough_at(service, plants, ready_at_s, which, replicas)
    return 0.0


@compiled
def _head_for(service: np.void, plants: NDArray[np.void], profile: int) -> None:
    """Note the gear that is to run next; pods that start for another share are given up."""
    heading = service["next_profile"]
    if profile == heading:
        return
    restarting = heading != _NONE and service["restarting"] == 1
    starts_as = plants[heading if restarting else service["profile"]]["pod_share"]
    if plants[profile]["pod_share"] != starts_as:
        service["starting"] = 0
    if profile == service["profile"]:
        service["next_profile"] = _NONE
        return
    here = plants[service["profile"]]["pod_share"]
    service["restarting"] = 1 if plants[profile]["pod_share"] != here else 0
    service["next_profile"] = profile
    service["flip_at_s"] = service["elapsed_s"] + LIVE_S


@compiled
def _enough_at(
    service: np.void, plants: NDArray[np.void], ready_at_s: Floats, which: int, replicas: int
) -> float:
    """Return when the pods of the new gear that have started carry enough to take over."""
    old = plants[service["profile"]]["saturation_rps"]
    new = plants[service["next_profile"]]["saturation_rps"]
    pods = int(np.ceil(min(service["ready"] * old / new, 1.0 * replicas) - 1e-9))
    if pods <= 0:
        return float(service["elapsed_s"])
    order = np.sort(ready_at_s[which, : service["starting"]])
    return float(order[min(pods, service["starting"]) - 1])


@compiled
def flip(
    service: np.void,
    plants: NDArray[np.void],
    ready_at_s: Floats,
    which: int,
    gpu_s: float,
    sums: Floats,
    booked: int,
    busy: int,
) -> None:
    """Let the next gear run from now on, and book what the old one cost until now.

    Args:
        service: The service's memory.
        plants: Constants of every gear.
        ready_at_s: When each starting pod will be ready, shape ``(n, replicas_max)``.
        which: Place of the service in the fleet.
        gpu_s: Seconds that pods of the old gear held their share in this interval.
        sums: The interval's sums.
        booked: Where in them GPU-seconds, joules, busy seconds and restarts are booked.
        busy: Where in them the busy seconds are.
    """
    old, new = plants[service["profile"]], plants[service["next_profile"]]
    if service["restarting"] == 1:
        gpu_s += service["ready"] * drained_s(service, old)
        sums[booked + 3] += service["ready"]
    share = old["gpu_share"]
    busy_s = sums[busy] - sums[booked + 2]
    sums[booked] += gpu_s * share
    sums[booked + 1] += gpu_s * share * old["idle_w"]
    sums[booked + 1] += busy_s * share * (old["busy_w"] - old["idle_w"])
    sums[booked + 2] = sums[busy]
    if service["restarting"] == 1:
        _take_over(service, ready_at_s, which)
    else:
        ratio = old["saturation_rps"] / new["saturation_rps"]
        service["backlog_s"] *= ratio
        service["stranded_s"] *= ratio
    service["profile"] = service["next_profile"]
    service["next_profile"] = _NONE


@compiled
def _take_over(service: np.void, ready_at_s: Floats, which: int) -> None:
    """Replace the pods that serve by those that have started."""
    ready, left = 0, 0
    for k in range(service["starting"]):
        at_s = ready_at_s[which, k]
        if at_s <= service["elapsed_s"] + _SOON_S:
            ready += 1
        else:
            ready_at_s[which, left] = at_s
            left += 1
    service["ready"] = ready
    service["starting"] = left
    service["stranded"] = 0
    service["backlog_s"] = 0.0
    service["stranded_s"] = 0.0
