"""The compiled loop: arrivals are balanced over ready pods, GPUs advance, scrapes are taken.

Between two scrapes or control events the GPUs are independent of each other, so each is
advanced on its own through a whole block of arrivals. Only ``least_loaded`` couples them
at every arrival.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import borrowed, compiled
from gpupilot_envs.serving.batcher import take_payload
from gpupilot_envs.serving.chance import below
from gpupilot_envs.serving.gpus import (
    BLOCK,
    Endpoints,
    advance_gpus,
    borrowed_endpoints,
    executing_beside,
    room,
)
from gpupilot_envs.serving.least_loaded import assign_least_loaded
from gpupilot_envs.serving.replica import find_next_finish, run_batcher, start, start_greedily
from gpupilot_envs.serving.samples import Samples, take_sample
from gpupilot_envs.serving.state import FAILED, FRESH, REQUESTS, STALE

RANDOM, ROUND_ROBIN, LEAST_LOADED = range(3)
"""Codes of the balancing, in the order of ``BALANCINGS``."""


@compiled
def assign_block(
    pods: NDArray[np.void],
    ring: NDArray[np.float64],
    endpoints: Endpoints,
    arrivals_s: NDArray[np.float64],
    begin: int,
    until_s: float,
    service: Any,
    tally: Any,
) -> int:
    """Hand out arrivals before ``until_s`` by chance or in turn, at most a block of them.

    Returns:
        The first arrival not handed out; ``begin`` when a ring is nearly full.
    """
    ready = endpoints.ready
    free = room(pods, ready, ring.shape[1])
    if free < BLOCK // 4:
        return begin
    mask = ring.shape[1] - 1
    count = len(ready)
    key = service.balance_key
    number = tally.totals[REQUESTS]
    at_random = service.balancing == RANDOM
    stop = min(len(arrivals_s), begin + min(BLOCK, free))
    index = begin
    while index < stop and arrivals_s[index] < until_s:
        slot = ready[below(key, number, count) if at_random else number % count]
        tail = pods[slot].tail
        ring[slot, tail & mask] = arrivals_s[index]
        pods[slot].tail = tail + 1
        number += 1
        index += 1
    tally.totals[REQUESTS] = number
    return index


@compiled
def fail_arrivals(arrivals_s: NDArray[np.float64], begin: int, until_s: float, tally: Any) -> int:
    """Fail the arrivals before ``until_s``: no pod is ready, the connection is refused."""
    index = begin
    while index < len(arrivals_s) and arrivals_s[index] < until_s:
        index += 1
    tally.totals[REQUESTS] += index - begin
    tally.totals[FAILED] += index - begin
    return index


@compiled
def serve(
    pods: NDArray[np.void],
    ring: NDArray[np.float64],
    endpoints: Endpoints,
    arrivals_s: NDArray[np.float64],
    begin: int,
    until_s: float,
    service: Any,
    tally: Any,
) -> int:
    """Serve the arrivals before ``until_s`` and all events up to it.

    Returns:
        The first arrival not served; time has stopped there because a ring is full.
    """
    index = begin
    while index < len(arrivals_s) and arrivals_s[index] < until_s:
        previous = index
        if len(endpoints.ready) == 0:
            index = fail_arrivals(arrivals_s, index, until_s, tally)
        elif service.balancing == LEAST_LOADED:
            index = assign_least_loaded(
                pods, ring, endpoints, arrivals_s, index, until_s, service, tally
            )
        else:
            index = assign_block(pods, ring, endpoints, arrivals_s, index, until_s, service, tally)
        if index == previous:
            return index
        if index < len(arrivals_s) and arrivals_s[index] < until_s:
            advance_gpus(pods, ring, endpoints, arrivals_s[index - 1], service, tally)
    advance_gpus(pods, ring, endpoints, until_s, service, tally)
    return index


@compiled
def run_until(
    pods: NDArray[np.void],
    ring: NDArray[np.float64],
    endpoints: Endpoints,
    arrivals_s: NDArray[np.float64],
    begin: int,
    until_s: float,
    service: Any,
    tally: Any,
    samples: Samples,
) -> int:
    """Serve up to ``until_s`` and take every scrape that falls due, that at ``until_s`` too.

    Returns:
        The first arrival not served; before ``until_s`` only because a ring is full.
    """
    pods = borrowed(pods)
    ring = borrowed(ring)
    arrivals_s = borrowed(arrivals_s)
    endpoints = borrowed_endpoints(endpoints)
    index = begin
    while True:
        scrape_s = samples.clock[0] * samples.clock[1]
        stop_s = min(scrape_s, until_s)
        index = serve(pods, ring, endpoints, arrivals_s, index, stop_s, service, tally)
        if index < len(arrivals_s) and arrivals_s[index] < stop_s:
            return index
        if scrape_s > until_s:
            return index
        take_sample(pods, endpoints.active, scrape_s, tally, samples)
        samples.clock[0] += 1.0


@compiled
def kick(
    pods: NDArray[np.void],
    ring: NDArray[np.float64],
    active: NDArray[np.int64],
    slot: int,
    now_s: float,
    service: Any,
    tally: Any,
) -> None:
    """Let a pod look at its queue again after its configuration changed."""
    pod = pods[slot]
    others = executing_beside(pods, active, slot)
    if pod.greedy:
        pod.payloads = 0
        pod.forming = STALE
        pod.wake_at_s = np.inf
        pod.queue = pod.head
        start_greedily(pod, ring[slot], now_s, others, service, tally)
    else:
        while pod.payloads > 0 and pod.executing < pod.instances:
            size = take_payload(pod, ring[slot], now_s)
            start(pod, size, now_s, others, service)
        run_batcher(pod, ring[slot], now_s, others, service, tally)
    find_next_finish(pod)


@compiled
def kill(pods: NDArray[np.void], slot: int, now_s: float, tally: Any) -> int:
    """Lose everything a pod has in its queue and in execution; return how many requests."""
    pod = pods[slot]
    lost = pod.admitted - pod.head + pod.executing_requests
    tally.totals[FAILED] += lost
    if pod.executing > 0:
        busy_s = now_s - pod.busy_since_s
        pod.busy_s += busy_s
        pod.busy_share_s += busy_s * pod.share_ratio
    pod.executing = 0
    pod.executing_requests = 0
    pod.finish_s[:] = np.inf
    pod.next_finish_s = np.inf
    pod.wake_at_s = np.inf
    pod.payloads = 0
    pod.forming = FRESH
    pod.next_preferred = 0
    pod.head = pod.tail
    pod.queue = pod.tail
    pod.admitted = pod.tail
    pod.inbox = pod.tail
    return int(lost)
