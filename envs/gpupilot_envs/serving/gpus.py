"""The GPUs of a service: which pods take requests, which share a GPU, and time passing on them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import borrowed, compiled, inlined
from gpupilot_envs.serving.replica import advance_alone, advance_tenants

BLOCK = 4096
"""Arrivals handed out before the pods are advanced: small enough to stay in the cache."""


class Endpoints(NamedTuple):
    """Who gets requests and who shares a GPU, fixed between two control events.

    Attributes:
        ready: Slots of the pods that take requests, oldest first.
        active: Slots of all pods that may hold requests, grouped by GPU.
        group_end: End of each GPU's group in ``active``.
        group: By slot, the GPU's group a pod is in.
        place: By slot, where a pod stands in ``ready``; -1 for one that takes no requests.
        due_s: By group, scratch of ``least_loaded``: nothing happens there before this time.
        loads: By place in ``ready``, scratch of ``least_loaded``: requests a pod holds.
    """

    ready: NDArray[np.int64]
    active: NDArray[np.int64]
    group_end: NDArray[np.int64]
    group: NDArray[np.int64]
    place: NDArray[np.int64]
    due_s: NDArray[np.float64]
    loads: NDArray[np.int64]


def endpoints_of(
    ready: tuple[int, ...], active: NDArray[np.int64], domain: NDArray[np.int64]
) -> Endpoints:
    """Return the endpoints of the pods in ``active``, which are sorted by their domain.

    Args:
        ready: Slots of the pods that take requests, oldest first.
        active: Slots of all pods that may hold requests.
        domain: By slot, whose executions contend with a pod's own.
    """
    domains = domain[active]
    starts = np.diff(domains, prepend=domains[:1]) != 0
    group = np.zeros(len(domain), dtype=np.int64)
    group[active] = np.cumsum(starts)
    place = np.full(len(domain), -1, dtype=np.int64)
    place[list(ready)] = np.arange(len(ready))
    ends = np.flatnonzero(np.append(starts[1:], len(active) > 0)) + 1
    return Endpoints(
        ready=np.array(ready, dtype=np.int64),
        active=active,
        group_end=ends.astype(np.int64),
        group=group,
        place=place,
        due_s=np.zeros(len(ends)),
        loads=np.zeros(len(ready), dtype=np.int64),
    )


@inlined
def borrowed_endpoints(endpoints: Endpoints) -> Endpoints:
    """Return the same endpoints, their references not counted."""
    return Endpoints(
        borrowed(endpoints.ready),
        borrowed(endpoints.active),
        borrowed(endpoints.group_end),
        borrowed(endpoints.group),
        borrowed(endpoints.place),
        borrowed(endpoints.due_s),
        borrowed(endpoints.loads),
    )


@compiled
def advance_gpu(
    pods: NDArray[np.void],
    ring: NDArray[np.float64],
    tenants: NDArray[np.int64],
    until_s: float,
    service: Any,
    tally: Any,
) -> None:
    """Advance the pods of one GPU."""
    if len(tenants) == 1:
        slot = tenants[0]
        advance_alone(pods[slot], ring[slot], until_s, service, tally)
    else:
        advance_tenants(pods, ring, tenants, until_s, service, tally)


@compiled
def advance_gpus(
    pods: NDArray[np.void],
    ring: NDArray[np.float64],
    endpoints: Endpoints,
    until_s: float,
    service: Any,
    tally: Any,
) -> None:
    """Advance every GPU through all events and arrivals up to ``until_s``."""
    begin = 0
    for end in endpoints.group_end:
        advance_gpu(pods, ring, endpoints.active[begin:end], until_s, service, tally)
        begin = end
    close_inboxes(pods, endpoints.active)


@compiled
def close_inboxes(pods: NDArray[np.void], active: NDArray[np.int64]) -> None:
    """Forget the gap that rejected requests left, where every assigned request has arrived."""
    for slot in active:
        pod = pods[slot]
        if pod.inbox == pod.tail:
            pod.inbox = pod.admitted
            pod.tail = pod.admitted


@compiled
def room(pods: NDArray[np.void], ready: NDArray[np.int64], capacity: int) -> int:
    """Return how many requests every ready pod's ring can take, answered ones forgotten."""
    least = capacity
    for slot in ready:
        pod = pods[slot]
        base = pod.head
        for k in range(pod.lanes):
            if pod.finish_s[k] != np.inf:
                base = min(base, pod.first[k])
        pod.base = base
        least = min(least, capacity - (pod.tail - base))
    return int(least)


@compiled
def executing_beside(pods: NDArray[np.void], active: NDArray[np.int64], slot: int) -> int:
    """Return the executions running on a pod's GPU that are not its own."""
    others = 0
    for other in active:
        if other != slot and pods[other].domain == pods[slot].domain:
            others += pods[other].executing
    return others
