"""The memory of the kernels: one record per pod, one ring of arrival times per pod.

A pod's ring holds, oldest first and under absolute indices that only grow::

    base ........ head ........ queue ........ admitted      inbox ........ tail
    | executing   | payloads    | batcher's    |             | assigned,    |
    |             | sealed ahead| queue        |             | not arrived  |

The gap between ``admitted`` and ``inbox`` is what a full queue rejected.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.serving.chance import NOISE_SIZE
from gpupilot_envs.serving.ledger import LATENCY_BUCKETS

INSTANCES_MAX = 16
"""Most model instances in one pod (the profile's limit)."""

PREFERRED_MAX = 32
"""Most preferred batch sizes kept; Triton states none, models use a handful."""

PAYLOADS_MAX = 2 * INSTANCES_MAX
"""Most payloads sealed ahead: twice the instances (``RateLimiter::PayloadSlotAvailable``)."""

BOUNDS_MAX = 65
"""Most buckets of the gateway's histogram, +Inf included."""

TENANTS_MAX = 64
"""Executions on one GPU up to which contention is tabulated."""

BATCH_MAX = 1024
"""Largest batch (the profile's limit)."""

POD = np.dtype(
    [
        ("head", np.int64),
        ("admitted", np.int64),
        ("next_finish_s", np.float64),
        ("wake_at_s", np.float64),
        ("executing_requests", np.int64),
        ("queue", np.int64),
        ("inbox", np.int64),
        ("tail", np.int64),
        ("base", np.int64),
        ("asleep_since_s", np.float64),
        ("busy_since_s", np.float64),
        ("executing", np.int64),
        ("payloads", np.int64),
        ("forming", np.int64),
        ("next_preferred", np.int64),
        ("instances", np.int64),
        ("lanes", np.int64),
        ("batch_max", np.int64),
        ("delay_s", np.float64),
        ("greedy", np.int64),
        ("preferred_count", np.int64),
        ("slowdown", np.float64),
        ("domain", np.int64),
        ("share_ratio", np.float64),
        ("noise_key", np.int64),
        ("noise_drawn", np.int64),
        ("series", np.int64),
        ("queue_s", np.float64),
        ("compute_s", np.float64),
        ("latency_s", np.float64),
        ("busy_s", np.float64),
        ("busy_share_s", np.float64),
        ("executions", np.int64),
        ("executed_requests", np.int64),
        ("finish_s", np.float64, (INSTANCES_MAX,)),
        ("start_s", np.float64, (INSTANCES_MAX,)),
        ("first", np.int64, (INSTANCES_MAX,)),
        ("size", np.int64, (INSTANCES_MAX,)),
        ("payload", np.int64, (PAYLOADS_MAX,)),
        ("preferred", np.int64, (PREFERRED_MAX,)),
        ("counted", np.float64, (5,)),
    ]
)
"""One pod as the kernels see it.

``lanes`` is the most instances the pod ever had, since one that is taken away still
finishes its batch; ``forming`` says what became of the payload being formed; ``wake_at_s``
is when the batcher thread looks next without being told; ``share_ratio`` weighs the time it
computes by the power it draws; ``counted`` is what the cumulative
counters stood at when the container started, so that a restart resets the series.
"""

STALE, FRESH, SCHEDULED = range(3)
"""The payload being formed: gone or saturated, empty, or waiting for an instance."""

TOTALS = ("requests", "answered", "rejected", "timed_out", "failed")
"""Meaning of the service-wide totals, in order."""

REQUESTS, ANSWERED, REJECTED, TIMED_OUT, FAILED = range(len(TOTALS))


SERVICE = np.dtype(
    [
        ("overhead_s", np.float64),
        ("timeout_s", np.float64),
        ("max_queue", np.int64),
        ("always_woken", np.bool_),
        ("balancing", np.int64),
        ("balance_key", np.int64),
        ("bounds", np.int64),
        ("bounds_s", np.float64, (BOUNDS_MAX,)),
        ("bound_of_bucket", np.int64, (LATENCY_BUCKETS,)),
        ("contention", np.float64, (TENANTS_MAX + 1,)),
        ("curve_s", np.float64, (BATCH_MAX + 1,)),
        ("noise", np.float64, (NOISE_SIZE,)),
    ]
)
"""What does not change during a run, as the kernels read it.

``overhead_s`` is the time per request outside queue and execution; ``timeout_s`` the longest
time in the queue, infinite for never; ``max_queue`` the most requests in a pod's queue, 0
for unbounded; ``always_woken`` whether every arrival wakes the batcher's thread, as inputs
of free shape do. ``bounds_s`` are the upper bounds of the gateway's histogram, ascending, the
last of the ``bounds`` is infinite; ``bound_of_bucket`` is the first of them that a fine
bucket of the ledger may fall into. ``contention`` is the slowdown by executions running on
the GPU at once, ``curve_s`` the mean seconds of an execution by batch size, ``noise``
factors of unit mean for it.

All arrays are inside the record: a kernel that gets one pointer spends nothing on counting
references, which made it three times faster.
"""

TALLY = np.dtype(
    [
        ("totals", np.int64, (len(TOTALS),)),
        ("latency", np.int64, (LATENCY_BUCKETS,)),
        ("gateway", np.int64, (BOUNDS_MAX,)),
    ]
)
"""Service-wide counts: by ``TOTALS``, and answered requests over the ledger's fine buckets
and over the gateway's."""


def blank_pods(count: int) -> NDArray[np.void]:
    """Return ``count`` pod records that hold nothing and will never wake."""
    pods = np.zeros(count, dtype=POD)
    pods["next_finish_s"] = np.inf
    pods["wake_at_s"] = np.inf
    pods["finish_s"] = np.inf
    pods["slowdown"] = 1.0
    return pods


def rehoused(ring: NDArray[np.float64], pods: NDArray[np.void]) -> NDArray[np.float64]:
    """Return the ring at twice the capacity, each request at its index under the new mask."""
    slots, capacity = ring.shape
    wider = np.empty((slots, 2 * capacity), dtype=np.float64)
    for slot in range(slots):
        index = np.arange(pods["base"][slot], pods["tail"][slot])
        wider[slot, index & (2 * capacity - 1)] = ring[slot, index & (capacity - 1)]
    return wider
