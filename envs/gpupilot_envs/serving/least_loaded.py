"""Balancing to the pod that has least to do, which couples the GPUs at every arrival.

What an arrival asks of all pods, how much they hold and when one next does something, is
kept at hand in the endpoints' scratch; only pods on which something happened are looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.serving.chance import below
from gpupilot_envs.serving.gpus import BLOCK, Endpoints, advance_gpu, executing_beside, room
from gpupilot_envs.serving.replica import (
    admit,
    admit_undecided,
    find_next_finish,
    next_event_s,
)
from gpupilot_envs.serving.state import REQUESTS


@compiled
def survey(pods: NDArray[np.void], endpoints: Endpoints, group: int) -> float:
    """Take down what the pods of one GPU hold and when they next do something; return when."""
    begin = endpoints.group_end[group - 1] if group > 0 else 0
    due_s = np.inf
    for k in range(begin, endpoints.group_end[group]):
        slot = endpoints.active[k]
        pod = pods[slot]
        due_s = min(due_s, next_event_s(pod))
        place = endpoints.place[slot]
        if place >= 0:
            endpoints.loads[place] = pod.admitted - pod.head + pod.executing_requests
    endpoints.due_s[group] = due_s
    return due_s


@compiled
def advance_due(
    pods: NDArray[np.void],
    ring: NDArray[np.float64],
    endpoints: Endpoints,
    now_s: float,
    service: Any,
    tally: Any,
) -> float:
    """Advance the GPUs on which something is due by ``now_s``; return when the next one is."""
    next_s = np.inf
    begin = 0
    for group in range(len(endpoints.group_end)):
        end = endpoints.group_end[group]
        if endpoints.due_s[group] <= now_s:
            advance_gpu(pods, ring, endpoints.active[begin:end], now_s, service, tally)
            survey(pods, endpoints, group)
        next_s = min(next_s, endpoints.due_s[group])
        begin = end
    return next_s


@compiled
def least_loaded(loads: NDArray[np.int64], first: int) -> int:
    """Return the place of the smallest load, of several the next one from ``first`` on."""
    fewest = loads[first]
    for load in loads:
        fewest = min(fewest, load)
    place = first
    while loads[place] != fewest:
        place = place + 1 if place + 1 < len(loads) else 0
    return place


@compiled
def offer(pod: Any, times: NDArray[np.float64], now_s: float) -> None:
    """Assign the request that arrives now to the pod."""
    times[pod.tail & (len(times) - 1)] = now_s
    pod.tail += 1


@compiled
def accept(
    pods: NDArray[np.void],
    times: NDArray[np.float64],
    endpoints: Endpoints,
    slot: int,
    service: Any,
    tally: Any,
) -> None:
    """Let the pod decide what to do about the request it was offered."""
    pod = pods[slot]
    group = endpoints.group[slot]
    begin = endpoints.group_end[group - 1] if group > 0 else 0
    tenants = endpoints.active[begin : endpoints.group_end[group]]
    admit(pod, times, executing_beside(pods, tenants, slot), service, tally)
    pod.inbox = pod.admitted
    pod.tail = pod.admitted
    find_next_finish(pod)


@compiled
def assign_least_loaded(
    pods: NDArray[np.void],
    ring: NDArray[np.float64],
    endpoints: Endpoints,
    arrivals_s: NDArray[np.float64],
    begin: int,
    until_s: float,
    service: Any,
    tally: Any,
) -> int:
    """Hand out a block of arrivals, each to the pod that has least to do right then.

    Returns:
        The first arrival not handed out; ``begin`` when a ring is nearly full.
    """
    ready = endpoints.ready
    loads = endpoints.loads
    free = room(pods, ready, ring.shape[1])
    if free < BLOCK // 4:
        return begin
    due_s = np.inf
    for group in range(len(endpoints.group_end)):
        due_s = min(due_s, survey(pods, endpoints, group))
    number = tally.totals[REQUESTS]
    stop = min(len(arrivals_s), begin + min(BLOCK, free))
    index = begin
    while index < stop and arrivals_s[index] < until_s:
        now_s = arrivals_s[index]
        if due_s <= now_s:
            due_s = advance_due(pods, ring, endpoints, now_s, service, tally)
        place = least_loaded(loads, below(service.balance_key, number, len(ready)))
        slot = ready[place]
        pod = pods[slot]
        offer(pod, ring[slot], now_s)
        admit_undecided(pod, ring[slot], np.inf, service)
        if pod.inbox < pod.tail:
            accept(pods, ring[slot], endpoints, slot, service, tally)
        loads[place] = pod.admitted - pod.head + pod.executing_requests
        event_s = next_event_s(pod)
        group = endpoints.group[slot]
        endpoints.due_s[group] = min(endpoints.due_s[group], event_s)
        due_s = min(due_s, event_s)
        number += 1
        index += 1
    tally.totals[REQUESTS] = number
    return index
