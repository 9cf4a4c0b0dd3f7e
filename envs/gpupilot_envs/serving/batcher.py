"""Triton's dynamic batcher: how requests in the queue become payloads, and when.

The rules are those of the server's core (release 2.51 and later, repository
``triton-inference-server/core``): ``DynamicBatchScheduler::GetDynamicBatch``,
``BatcherThread`` and ``Enqueue`` (``dynamic_batch_scheduler.cc``), ``PayloadSlotAvailable``
(``rate_limiter.cc``) and ``InstanceQueue::Dequeue`` (``instance_queue.cc``). A payload is
sealed *ahead* of the instance that will run it: up to two per instance wait while all are
busy, and requests that arrive later join one only when the batcher thread happens to look.

Threads are taken to be instantaneous. Where two of them race in the server, the order is
the one their costs make nearly certain: an instance that finishes takes its next payload
before the batcher thread, woken by the same callback, has run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.serving.state import FRESH, SCHEDULED, STALE, TIMED_OUT

IDLE_WAIT_S = 0.5
"""The batcher thread looks at its queue at least this often (``default_wait_microseconds``)."""


@compiled
def preferred_above(pod: Any, size: int) -> int:
    """Return the smallest preferred size above ``size``, else the smallest of all."""
    for k in range(pod.preferred_count):
        if pod.preferred[k] > size:
            return int(pod.preferred[k])
    return int(pod.preferred[0])


@compiled
def is_preferred(pod: Any, size: int) -> bool:
    """Return whether ``size`` is a preferred batch size."""
    k = 0
    while k < pod.preferred_count and pod.preferred[k] != size:
        k += 1
    return bool(k < pod.preferred_count)


@compiled
def largest_preferred(pod: Any, above: int, upto: int) -> int:
    """Return the largest preferred size in ``(above, upto]``, ``above`` when there is none."""
    for k in range(pod.preferred_count - 1, -1, -1):
        if above < pod.preferred[k] <= upto:
            return int(pod.preferred[k])
    return above


@compiled
def dynamic_batch(pod: Any, payload: int, oldest_s: float, now_s: float) -> tuple[int, bool, float]:
    """Decide what joins the payload now, in closed form over requests of batch size one.

    Args:
        pod: The pod record; its queue is not empty.
        payload: Requests already in the payload.
        oldest_s: Arrival of the oldest request in the queue.
        now_s: Current time.

    Returns:
        How many requests join now, whether the payload is saturated, and the time at which
        to look again (0 when something was decided now).
    """
    waiting = pod.admitted - pod.queue
    largest = pod.preferred[pod.preferred_count - 1]
    pending = max(min(waiting, pod.batch_max - payload), 0)
    saturated = payload > 0 and payload >= largest
    full = waiting > pending
    wake_at_s = oldest_s + pod.delay_s
    exceeded = pod.delay_s > 0.0 and now_s >= wake_at_s
    best = largest_preferred(pod, payload, payload + pending) - payload
    if saturated and waiting > 1 and pending > 0:
        # Beyond the largest preferred size the server marks the second request it looks at
        # as the end of the best batch, so one request joins.
        best = 1
    if best > 0 and not exceeded:
        return best, saturated or pod.delay_s == 0.0, 0.0
    if pending == 0:
        return 0, saturated, 0.0
    if full or payload + pending >= largest:
        return pending, True, 0.0
    if exceeded or pod.delay_s == 0.0:
        return pending, saturated, 0.0
    pod.next_preferred = preferred_above(pod, payload + pending) - payload
    if payload > 0 and not saturated and not is_preferred(pod, payload):
        return pending, saturated, 0.0
    return 0, saturated, wake_at_s


@compiled
def drop_expired(
    pod: Any,
    times: NDArray[np.float64],
    now_s: float,
    service: Any,
    tally: Any,
) -> None:
    """Reject the requests that outlived the queue timeout; they are the oldest of the queue.

    As in ``ApplyPolicyAtCursor`` they leave when a batch is formed, not when they expire.
    """
    mask = len(times) - 1
    while pod.queue < pod.admitted and now_s >= times[pod.queue & mask] + service.timeout_s:
        pod.queue += 1
        tally.totals[TIMED_OUT] += 1
    if pod.payloads == 0:
        pod.head = pod.queue


@compiled
def take_payload(pod: Any, times: NDArray[np.float64], now_s: float) -> int:
    """Remove the front payload for execution, merged with those behind it that may be.

    Returns:
        The number of requests to execute, from ``pod.head`` on.
    """
    mask = len(times) - 1
    size = int(pod.payload[0])
    taken = 1
    while taken < pod.payloads and pod.delay_s > 0.0 and pod.batch_max > 1:
        behind = int(pod.payload[taken])
        if now_s - times[(pod.head + size) & mask] <= pod.delay_s:
            break
        # The server marks the payload as executing before it looks at the size, so a
        # payload that was too large to merge takes no more requests either.
        if taken == pod.payloads - 1:
            pod.forming = STALE
        if size + behind > pod.batch_max:
            break
        size += behind
        taken += 1
    for k in range(pod.payloads - taken):
        pod.payload[k] = pod.payload[k + taken]
    pod.payloads -= taken
    if pod.payloads == 0:
        pod.forming = STALE
    return size


@compiled
def add_to_payload(pod: Any, count: int) -> None:
    """Move ``count`` requests from the queue into the payload being formed."""
    if pod.forming == FRESH:
        pod.payload[pod.payloads] = 0
        pod.payloads += 1
        pod.forming = SCHEDULED
    pod.payload[pod.payloads - 1] += count
    pod.queue += count


@compiled
def sleep(pod: Any, now_s: float) -> None:
    """Let the batcher thread wait for a notification, or half a second."""
    pod.asleep_since_s = now_s
    pod.wake_at_s = np.inf


@compiled
def doze(pod: Any, now_s: float) -> None:
    """Set the wake-up of a thread that a request did not notify: its half-second timer."""
    if pod.wake_at_s == np.inf:
        naps = np.floor((now_s - pod.asleep_since_s) / IDLE_WAIT_S) + 1.0
        pod.wake_at_s = pod.asleep_since_s + naps * IDLE_WAIT_S


@compiled
def slot_free(pod: Any, prefetching: bool) -> bool:
    """Return whether a payload may be sealed or grown now.

    With a queue limit or a timeout Triton does not prefetch: an instance must be waiting.
    """
    if prefetching:
        return bool(pod.payloads < 2 * pod.instances)
    return bool(pod.executing < pod.instances)
