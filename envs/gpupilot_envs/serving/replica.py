"""One pod in time order: requests are admitted, batches start, batches finish."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.serving.batcher import (
    add_to_payload,
    doze,
    drop_expired,
    dynamic_batch,
    sleep,
    slot_free,
    take_payload,
)
from gpupilot_envs.serving.chance import NOISE_SIZE, hashed
from gpupilot_envs.serving.ledger import BUCKETS_PER_OCTAVE, LATENCY_BUCKETS, OCTAVE_FIRST
from gpupilot_envs.serving.state import (
    ANSWERED,
    FRESH,
    REJECTED,
    STALE,
    TENANTS_MAX,
)

MANTISSA_SHIFT = 52 - (BUCKETS_PER_OCTAVE.bit_length() - 1)
UNLIMITED = 1 << 62
"""More requests than ever wait."""
BUCKET_ORIGIN = (OCTAVE_FIRST + 1023) * BUCKETS_PER_OCTAVE


@compiled
def latency_bucket(latency_s: float) -> int:
    """Return the ledger's bucket of a latency: exponent and leading mantissa bits."""
    bits = np.float64(latency_s).view(np.int64)
    bucket = int(bits >> MANTISSA_SHIFT) - BUCKET_ORIGIN
    return min(max(bucket, 0), LATENCY_BUCKETS - 1)


@compiled
def count_latencies(
    times: NDArray[np.float64],
    first: int,
    size: int,
    finish_s: float,
    service: Any,
    tally: Any,
) -> float:
    """Count the requests of a finished batch by latency and return the sum of latencies."""
    mask = len(times) - 1
    answer_s = finish_s + service.overhead_s
    total_s = 0.0
    for k in range(first, first + size):
        latency_s = answer_s - times[k & mask]
        total_s += latency_s
        bucket = latency_bucket(latency_s)
        tally.latency[bucket] += 1
        bound = service.bound_of_bucket[bucket]
        while latency_s > service.bounds_s[bound]:
            bound += 1
        tally.gateway[bound] += 1
    return total_s


@compiled
def settle(pod: Any, instance: int, times: NDArray[np.float64], service: Any, tally: Any) -> None:
    """Credit the batch that an instance finishes now, and free the instance."""
    finish_s = pod.finish_s[instance]
    took_s = finish_s - pod.start_s[instance]
    size = pod.size[instance]
    latency_s = count_latencies(times, pod.first[instance], size, finish_s, service, tally)
    tally.totals[ANSWERED] += size
    pod.latency_s += latency_s
    pod.compute_s += size * took_s
    pod.queue_s += latency_s - size * (took_s + service.overhead_s)
    pod.executions += 1
    pod.executed_requests += size
    pod.executing_requests -= size
    pod.executing -= 1
    pod.finish_s[instance] = np.inf
    if pod.executing == 0:
        busy_s = finish_s - pod.busy_since_s
        pod.busy_s += busy_s
        pod.busy_share_s += busy_s * pod.share_ratio


@compiled
def start(pod: Any, size: int, now_s: float, others: int, service: Any) -> None:
    """Start the execution of the oldest ``size`` requests on the first idle instance.

    The time is the curve's mean times noise, the pod's slowdown and the contention of all
    executions that run on the GPU at this moment, this one included.
    """
    instance = 0
    while pod.finish_s[instance] != np.inf:
        instance += 1
    draw = hashed(pod.noise_key, pod.noise_drawn) & np.uint64(NOISE_SIZE - 1)
    pod.noise_drawn += 1
    if pod.executing == 0:
        pod.busy_since_s = now_s
    pod.executing += 1
    pod.executing_requests += size
    tenants = min(pod.executing + others, TENANTS_MAX)
    took_s = service.curve_s[size] * service.noise[np.int64(draw)]
    pod.start_s[instance] = now_s
    pod.finish_s[instance] = now_s + took_s * pod.slowdown * service.contention[tenants]
    pod.first[instance] = pod.head
    pod.size[instance] = size
    pod.head += size


@compiled
def start_greedily(
    pod: Any,
    times: NDArray[np.float64],
    now_s: float,
    others: int,
    service: Any,
    tally: Any,
) -> None:
    """Give idle instances whatever waits, up to the largest batch."""
    while pod.executing < pod.instances and pod.queue < pod.admitted:
        if service.timeout_s != np.inf:
            drop_expired(pod, times, now_s, service, tally)
        size = min(pod.admitted - pod.queue, pod.batch_max)
        if size > 0:
            start(pod, size, now_s, others, service)
            pod.queue = pod.head


@compiled
def run_batcher(
    pod: Any,
    times: NDArray[np.float64],
    now_s: float,
    others: int,
    service: Any,
    tally: Any,
) -> None:
    """Run the batcher thread until it sleeps (``DynamicBatchScheduler::BatcherThread``)."""
    prefetching = service.timeout_s == np.inf and service.max_queue == 0
    mask = len(times) - 1
    while True:
        if pod.forming == STALE:
            pod.forming = FRESH
            pod.next_preferred = 0
        if not prefetching:
            drop_expired(pod, times, now_s, service, tally)
        if pod.queue == pod.admitted or not slot_free(pod, prefetching):
            sleep(pod, now_s)
            return
        payload = 0 if pod.forming == FRESH else pod.payload[pod.payloads - 1]
        oldest_s = times[pod.queue & mask]
        count, saturated, wake_at_s = dynamic_batch(pod, payload, oldest_s, now_s)
        if count > 0:
            add_to_payload(pod, count)
        if saturated:
            pod.forming = STALE
        if wake_at_s > 0.0:
            pod.wake_at_s = min(wake_at_s, oldest_s + service.timeout_s)
            return
        if pod.payloads > 0 and pod.executing < pod.instances:
            start(pod, take_payload(pod, times, now_s), now_s, others, service)


@compiled
def find_next_finish(pod: Any) -> None:
    """Find when the next batch of the pod finishes."""
    earliest_s = np.inf
    for k in range(pod.lanes):
        earliest_s = min(earliest_s, pod.finish_s[k])
    pod.next_finish_s = earliest_s


@inlined
def finish(pod: Any, times: NDArray[np.float64], others: int, service: Any, tally: Any) -> None:
    """Finish the batch that is due and start what can start."""
    now_s = pod.next_finish_s
    instance = 0
    while pod.finish_s[instance] != now_s:
        instance += 1
    settle(pod, instance, times, service, tally)
    if pod.greedy:
        start_greedily(pod, times, now_s, others, service, tally)
    else:
        if pod.payloads > 0 and pod.executing < pod.instances:
            start(pod, take_payload(pod, times, now_s), now_s, others, service)
        run_batcher(pod, times, now_s, others, service, tally)


@inlined
def admit(pod: Any, times: NDArray[np.float64], others: int, service: Any, tally: Any) -> None:
    """Put the request that arrives now into the queue, or reject it when the queue is full."""
    mask = len(times) - 1
    now_s = times[pod.inbox & mask]
    if service.max_queue > 0 and pod.admitted - pod.queue >= service.max_queue:
        pod.inbox += 1
        tally.totals[REJECTED] += 1
        return
    times[pod.admitted & mask] = now_s
    pod.admitted += 1
    pod.inbox += 1
    if pod.greedy:
        start_greedily(pod, times, now_s, others, service, tally)
        return
    prefetching = service.timeout_s == np.inf and service.max_queue == 0
    enough = service.always_woken or pod.admitted - pod.queue >= pod.next_preferred
    if enough and slot_free(pod, prefetching):
        run_batcher(pod, times, now_s, others, service, tally)
    else:
        doze(pod, now_s)


@inlined
def patience(pod: Any, service: Any) -> int:
    """Return how many more requests may arrive before anything has to be decided."""
    if service.max_queue > 0:
        return 0
    if pod.greedy:
        return UNLIMITED if pod.executing >= pod.instances else 0
    if service.always_woken:
        return 0
    if slot_free(pod, service.timeout_s == np.inf):
        return int(pod.next_preferred - 1 - (pod.admitted - pod.queue))
    return UNLIMITED


@inlined
def admit_undecided(pod: Any, times: NDArray[np.float64], until_s: float, service: Any) -> None:
    """Admit at once all that arrive before ``until_s`` or the next event and only queue up."""
    mask = len(times) - 1
    inbox = pod.inbox
    stop = min(pod.tail, inbox + patience(pod, service))
    stop_s = min(next_event_s(pod), until_s)
    if inbox >= stop or times[inbox & mask] >= stop_s:
        return
    if not pod.greedy:
        doze(pod, times[inbox & mask])
        stop_s = min(stop_s, pod.wake_at_s)
    inbox += 1
    while inbox < stop and times[inbox & mask] < stop_s:
        inbox += 1
    pod.inbox = inbox
    pod.admitted = inbox


@compiled
def next_event_s(pod: Any) -> float:
    """Return when the pod next does something of its own, arrivals apart."""
    return float(min(pod.next_finish_s, pod.wake_at_s))


@compiled
def next_arrival_s(pod: Any, times: NDArray[np.float64]) -> float:
    """Return when the next assigned request arrives, infinite for none."""
    return float(times[pod.inbox & (len(times) - 1)]) if pod.inbox < pod.tail else np.inf


@inlined
def step(pod: Any, times: NDArray[np.float64], others: int, service: Any, tally: Any) -> None:
    """Do the pod's earliest event; on a tie a finish goes before a wake-up, an arrival last."""
    event_s = next_event_s(pod)
    if event_s <= next_arrival_s(pod, times):
        if pod.next_finish_s <= event_s:
            finish(pod, times, others, service, tally)
        else:
            run_batcher(pod, times, event_s, others, service, tally)
    else:
        admit(pod, times, others, service, tally)
    find_next_finish(pod)


@compiled
def advance_alone(
    pod: Any, times: NDArray[np.float64], until_s: float, service: Any, tally: Any
) -> None:
    """Advance a pod that is alone on its GPU through all events up to ``until_s``."""
    while True:
        admit_undecided(pod, times, until_s, service)
        if min(next_event_s(pod), next_arrival_s(pod, times)) > until_s:
            return
        step(pod, times, 0, service, tally)


@compiled
def advance_tenants(
    pods: NDArray[np.void],
    ring: NDArray[np.float64],
    tenants: NDArray[np.int64],
    until_s: float,
    service: Any,
    tally: Any,
) -> None:
    """Advance the pods of one GPU together, event by event, arrivals last on a tie."""
    while True:
        first = -1
        first_s = np.inf
        first_arrives = True
        running = 0
        for slot in tenants:
            pod = pods[slot]
            running += pod.executing
            event_s = next_event_s(pod)
            arrival_s = next_arrival_s(pod, ring[slot])
            arrives = arrival_s < event_s
            soonest_s = arrival_s if arrives else event_s
            if soonest_s < first_s or (soonest_s == first_s and first_arrives and not arrives):
                first, first_s, first_arrives = slot, soonest_s, arrives
        if first_s > until_s or first < 0:
            return
        others = running - pods[first].executing
        step(pods[first], ring[first], others, service, tally)
