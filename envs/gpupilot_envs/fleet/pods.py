"""Pods of the fleet: asked for, starting, ready, draining, crashed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.fleet.noise import positive, uniform

Floats = NDArray[np.float64]

STRANDED = 0.25
"""Backlog, as a share of the target, beyond which new pods are told apart from old ones."""

_SOON_S = 0.05
"""Seconds that are not worth a piece of their own."""


@inlined
def ask(
    service: np.void,
    plant: np.void,
    ready_at_s: Floats,
    random: NDArray[np.uint64],
    which: int,
    replicas: int,
) -> float:
    """Bring the pods of one service to ``replicas``; return the GPU-seconds not yet counted.

    New pods wait for the scheduler, then hold their GPU while they start. Pods that are still
    starting go first, then ready ones; a ready pod holds its GPU until its queue is served.

    Args:
        service: The service's memory.
        plant: Its constants.
        ready_at_s: When each starting pod will be ready, shape ``(n, replicas_max)``.
        random: State of every service's generator.
        which: Place of the service in the fleet.
        replicas: Pods wanted, 0 to ``replicas_max``.
    """
    change = replicas - service["ready"] - service["starting"]
    if change >= 0:
        start(service, plant, ready_at_s, random, which, change, plant["scheduling_s"])
        unbound_s: float = change * plant["scheduling_s"]
        return -unbound_s
    cancelled = min(-change, service["starting"])
    service["starting"] -= cancelled
    return _drain(service, plant, -change - cancelled)


@compiled
def start(
    service: np.void,
    plant: np.void,
    ready_at_s: Floats,
    random: NDArray[np.uint64],
    which: int,
    pods: int,
    delay_s: float,
) -> None:
    """Let ``pods`` pods start after ``delay_s``, each with a cold start of its own."""
    for _ in range(pods):
        cold_s = positive(random, which, service["cold_start_mean_s"], plant["cold_start_cv"])
        ready_at_s[which, service["starting"]] = service["elapsed_s"] + delay_s + cold_s
        service["starting"] += 1


@compiled
def _drain(service: np.void, plant: np.void, pods: int) -> float:
    """Take ``pods`` ready pods out of service; return the GPU-seconds they still hold."""
    fresh = min(pods, service["ready"] - service["stranded"])
    old = pods - fresh
    service["ready"] -= pods
    service["stranded"] -= old
    fresh_s = drained_s(service, plant)
    old_s = min(service["stranded_s"] + plant["idle_latency_s"], plant["drain_s"])
    if old > 0 and service["ready"] == service["stranded"]:
        _merge(service)
    held_s: float = fresh * fresh_s + old * old_s
    return held_s


@inlined
def drained_s(service: np.void, plant: np.void) -> float:
    """Return how long a pod taken out of service now still holds its GPU."""
    held_s: float = min(service["backlog_s"] + plant["idle_latency_s"], plant["drain_s"])
    return held_s


@compiled
def join(service: np.void, plant: np.void, ready_at_s: Floats, which: int) -> float:
    """Make every pod ready whose start is over; return when the next one will be."""
    joined = 0
    left = 0
    soonest_s = np.inf
    for k in range(service["starting"]):
        at_s = ready_at_s[which, k]
        if at_s <= service["elapsed_s"] + _SOON_S:
            joined += 1
        else:
            ready_at_s[which, left] = at_s
            soonest_s = min(soonest_s, at_s)
            left += 1
    service["starting"] = left
    if joined > 0:
        _mingle(service, plant, joined)
    return soonest_s


@compiled
def _mingle(service: np.void, plant: np.void, joined: int) -> None:
    """Add empty pods; set the others apart where they hold a backlog that is felt."""
    fresh = service["ready"] - service["stranded"]
    if service["stranded"] == 0 and service["backlog_s"] > STRANDED * plant["target_s"]:
        service["stranded"] = service["ready"]
        service["stranded_s"] = service["backlog_s"]
        service["backlog_s"] = 0.0
    else:
        service["backlog_s"] *= fresh / (fresh + joined)
    service["ready"] += joined


@inlined
def settle(service: np.void, plant: np.void) -> None:
    """Forget which pods are old once their backlog is like the others'."""
    ahead_s = service["stranded_s"] - service["backlog_s"]
    if service["stranded"] > 0 and ahead_s < STRANDED * plant["target_s"]:
        _merge(service)


@compiled
def _merge(service: np.void) -> None:
    ready = max(service["ready"], 1)
    old = service["stranded"] / ready
    service["backlog_s"] = old * service["stranded_s"] + (1.0 - old) * service["backlog_s"]
    service["stranded"] = 0
    service["stranded_s"] = 0.0


@inlined
def crash(
    service: np.void,
    plant: np.void,
    ready_at_s: Floats,
    random: NDArray[np.uint64],
    which: int,
    pods: int,
) -> int:
    """Crash up to ``pods`` ready pods; they keep their GPU and start again. Return how many."""
    struck: int = min(pods, service["ready"])
    old = max(struck - (service["ready"] - service["stranded"]), 0)
    service["ready"] -= struck
    service["stranded"] -= old
    # beside pods of another share that are to take over, a crashed one is not started again
    if service["next_profile"] < 0 or service["restarting"] == 0:
        start(service, plant, ready_at_s, random, which, struck, 0.0)
    return struck


@inlined
def crashes(service: np.void, random: NDArray[np.uint64], which: int, span_s: float) -> int:
    """Return how many pods crash by chance within ``span_s``: none or one."""
    if service["crashes_per_s"] <= 0.0:
        return 0
    chance = service["crashes_per_s"] * service["ready"] * span_s
    return 1 if uniform(random, which) < chance else 0


@compiled
def crash_all(
    services: NDArray[np.void],
    plants: NDArray[np.void],
    ready_at_s: Floats,
    random: NDArray[np.uint64],
    indices: NDArray[np.int64],
    pods: int,
) -> None:
    """Crash up to ``pods`` ready pods of each service of ``indices``."""
    for i in indices:
        service = services[i]
        crash(service, plants[service["profile"]], ready_at_s, random, i, pods)
