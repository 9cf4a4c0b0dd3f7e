"""Scrapes: what the metrics endpoints showed at each scrape, kept in a ring of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.serving.state import ANSWERED, FAILED, REQUESTS

RETAINED = 512
"""Scrapes kept; at one a second a window may be 8.5 minutes long."""

POD_COUNTERS = 5
"""Per pod, as Triton counts: queue s, compute s, requests, executions, busy s."""

QUEUE_S, COMPUTE_S, EXECUTED, EXECUTIONS, BUSY_S, PENDING = range(POD_COUNTERS + 1)

ARRIVED, COMPLETED, FAILURES, ENERGY_J, IN_FLIGHT, READY, UNREADY, BUCKETS = range(8)
"""Columns of a service row; from ``BUCKETS`` on cumulative counts by gateway bucket."""

SCRAPED, DOWN, GARBLED, SILENT = range(4)
"""What a scrape yields: values; nothing and a staleness marker; NaN; nothing at all."""

NEXT_SCRAPE, INTERVAL_S, MODE = range(3)
"""Slots of :attr:`Samples.clock`."""

GPU_S, SINCE_S, HELD, IDLE_W, BUSY_W, READY_PODS, UNREADY_PODS = range(7)
"""Slots of :attr:`Samples.meter`."""


class Samples(NamedTuple):
    """The rows of the last scrapes and what a scrape reads besides the pods.

    Attributes:
        clock: By ``NEXT_SCRAPE`` and its neighbours: scrapes are at multiples of the interval.
        meter: By ``GPU_S`` and its neighbours: GPU seconds up to ``SINCE_S``, share held since.
        written: Number of rows written so far, shape ``(1,)``.
        times_s: Time of each row, shape ``(RETAINED,)``.
        modes: ``SCRAPED``, ``DOWN`` or ``GARBLED`` per row.
        service: Service rows, shape ``(RETAINED, BUCKETS + buckets)``.
        pods: Pod rows, shape ``(RETAINED, slots, POD_COUNTERS + 1)``.
        series: Which pod a slot's values are of, 0 for none, shape ``(RETAINED, slots)``.
    """

    clock: NDArray[np.float64]
    meter: NDArray[np.float64]
    written: NDArray[np.int64]
    times_s: NDArray[np.float64]
    modes: NDArray[np.int64]
    service: NDArray[np.float64]
    pods: NDArray[np.float64]
    series: NDArray[np.int64]


def blank_samples(
    *, interval_s: float, slots: int, buckets: int, idle_w: float, busy_w: float
) -> Samples:
    """Return an empty store; the first scrape is due at time 0."""
    return Samples(
        clock=np.array([0.0, interval_s, SCRAPED]),
        meter=np.array([0.0, 0.0, 0.0, idle_w, busy_w, 0.0, 0.0]),
        written=np.zeros(1, dtype=np.int64),
        times_s=np.zeros(RETAINED),
        modes=np.zeros(RETAINED, dtype=np.int64),
        service=np.zeros((RETAINED, BUCKETS + buckets)),
        pods=np.zeros((RETAINED, slots, POD_COUNTERS + 1)),
        series=np.zeros((RETAINED, slots), dtype=np.int64),
    )


def widened(samples: Samples, slots: int) -> Samples:
    """Return the store with room for ``slots`` pods, everything kept."""
    more = slots - samples.series.shape[1]
    return samples._replace(
        pods=np.pad(samples.pods, ((0, 0), (0, more), (0, 0))),
        series=np.pad(samples.series, ((0, 0), (0, more))),
    )


@compiled
def gpu_seconds(meter: NDArray[np.float64], now_s: float) -> float:
    """Return the GPU seconds held up to ``now_s``."""
    return float(meter[GPU_S] + (now_s - meter[SINCE_S]) * meter[HELD])


@compiled
def busy_share_seconds(pods: NDArray[np.void], now_s: float) -> float:
    """Return seconds of a whole GPU's computing up to ``now_s``, running executions included."""
    total_s = 0.0
    for slot in range(len(pods)):
        pod = pods[slot]
        total_s += pod.busy_share_s
        if pod.executing > 0:
            total_s += (now_s - pod.busy_since_s) * pod.share_ratio
    return total_s


@compiled
def energy_j(pods: NDArray[np.void], meter: NDArray[np.float64], now_s: float) -> float:
    """Return the energy drawn so far: idle power while a share is held, the rest while busy.

    Power is taken as linear in the share held and in the time that the pods' shares compute,
    each weighed as the profile says.
    """
    idle_j = meter[IDLE_W] * gpu_seconds(meter, now_s)
    return float(idle_j + (meter[BUSY_W] - meter[IDLE_W]) * busy_share_seconds(pods, now_s))


@compiled
def write_pod(row: NDArray[np.float64], pods: NDArray[np.void], slot: int, now_s: float) -> None:
    """Write what one pod's metrics endpoint shows."""
    pod = pods[slot]
    busy_s = pod.busy_s + (now_s - pod.busy_since_s if pod.executing > 0 else 0.0)
    row[QUEUE_S] = pod.queue_s - pod.counted[QUEUE_S]
    row[COMPUTE_S] = pod.compute_s - pod.counted[COMPUTE_S]
    row[EXECUTED] = pod.executed_requests - pod.counted[EXECUTED]
    row[EXECUTIONS] = pod.executions - pod.counted[EXECUTIONS]
    row[BUSY_S] = busy_s - pod.counted[BUSY_S]
    row[PENDING] = pod.admitted - pod.head


@compiled
def write_service(
    row: NDArray[np.float64],
    pods: NDArray[np.void],
    tally: Any,
    meter: NDArray[np.float64],
    now_s: float,
) -> None:
    """Write what the gateway, the nodes and the Kubernetes API show of the service."""
    completed = 0
    for k in range(ANSWERED, FAILED + 1):
        completed += tally.totals[k]
    row[ARRIVED] = tally.totals[REQUESTS]
    row[COMPLETED] = completed
    row[FAILURES] = completed - tally.totals[ANSWERED]
    row[ENERGY_J] = energy_j(pods, meter, now_s)
    row[IN_FLIGHT] = tally.totals[REQUESTS] - completed
    row[READY] = meter[READY_PODS]
    row[UNREADY] = meter[UNREADY_PODS]
    cumulative = 0
    for k in range(len(row) - BUCKETS):
        cumulative += tally.gateway[k]
        row[BUCKETS + k] = cumulative


@compiled
def take_sample(
    pods: NDArray[np.void],
    active: NDArray[np.int64],
    now_s: float,
    tally: Any,
    samples: Samples,
) -> None:
    """Write one scrape of the service and of every pod whose container runs."""
    mode = int(samples.clock[MODE])
    if mode == SILENT:
        return
    place = samples.written[0] % len(samples.times_s)
    samples.written[0] += 1
    samples.times_s[place] = now_s
    samples.modes[place] = mode
    samples.series[place, :] = 0
    write_service(samples.service[place], pods, tally, samples.meter, now_s)
    for slot in active:
        samples.series[place, slot] = pods[slot].series
        write_pod(samples.pods[place, slot], pods, slot, now_s)
    if mode == GARBLED:
        samples.service[place, :] = np.nan
        samples.pods[place, :, :] = np.nan
