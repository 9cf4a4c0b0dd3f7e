"""Adding up an interval: from the shares of its requests to what it cost and what it showed."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.fleet.lookup import STEADY
from gpupilot_envs.fleet.noise import count, uniform
from gpupilot_envs.fleet.table import Steady
from gpupilot_envs.signals import SIGNAL_INDEX

Floats = NDArray[np.float64]


class Outcome(IntEnum):
    """Columns of what an interval was in truth, not what the metrics show of it."""

    ARRIVALS = 0
    IN_TIME = 1
    ERRORS = 2
    GPU_SECONDS = 3
    ENERGY_J = 4
    READY = 5
    STARTING = 6
    SCALE_EVENTS = 7
    RESTARTS = 8


_IN_TIME = int(Steady.IN_TIME)
_ERRORS = int(Steady.ERRORS)
_P50 = int(Steady.LOG_P50)
_P95 = int(Steady.LOG_P95)
_QUEUE = int(Steady.QUEUE_S)
_COMPUTE = int(Steady.COMPUTE_S)
_BATCH = int(Steady.BATCH)
_BUSY = int(Steady.BUSY)
_SLOPE = int(Steady.IN_TIME_SLOPE)
_P50_SLOPE = int(Steady.LOG_P50_SLOPE)

# the first columns of the sums are those of Steady, weighted by requests
_REQUESTS = STEADY
_LOST = STEADY + 1
_BUSY_S = STEADY + 2
_READY_S = STEADY + 3
_WORST = STEADY + 4
_WORST_P50 = STEADY + 5
BOOKED = STEADY + 8
"""Of gears left during the interval: GPU-seconds, joules, busy seconds, pods replaced."""

BUSY = _BUSY_S
"""Seconds in which ready pods executed."""

SUMS = STEADY + 12
"""Length of the sums of an interval."""


@inlined
def begin(sums: Floats) -> None:
    """Clear the sums."""
    for k in range(SUMS):
        sums[k] = 0.0
    sums[_WORST_P50 + 1] = -np.inf


@inlined
def add_lost(sums: Floats, requests: float) -> None:
    """Add requests that met no ready pod."""
    sums[_LOST] += requests


@inlined
def add_share(sums: Floats, felt: Floats, requests: float, pod_s: float) -> None:
    """Add requests that felt alike: some of the pods during a part of the interval.

    Args:
        sums: The interval's sums.
        felt: Means over those requests by column of :class:`Steady`.
        requests: Expected number of those requests.
        pod_s: Seconds of ready pods that served them.
    """
    for k in range(STEADY):
        sums[k] += requests * felt[k]
    sums[_REQUESTS] += requests
    sums[_BUSY_S] += pod_s * felt[_BUSY]
    sums[_READY_S] += pod_s
    if felt[_P95] > sums[_WORST_P50 + 1]:
        sums[_WORST] = requests
        for k in range(3):
            sums[_WORST_P50 + k] = felt[_P50 + k]
    elif felt[_P95] > sums[_WORST_P50 + 1] - 0.05:
        sums[_WORST] += requests


@inlined
def conclude(
    service: np.void,
    plant: np.void,
    random: NDArray[np.uint64],
    which: int,
    sums: Floats,
    interval_s: float,
    gpu_s: float,
    waiting: float,
    changed: bool,
    kept: Floats,
    outcome: Floats,
) -> None:
    """Write the interval's truth into ``outcome`` and its metrics into the newest of ``kept``.

    Args:
        service: The service's memory, after the interval.
        plant: Its constants.
        random: State of every service's generator.
        which: Place of the service in the fleet.
        sums: The interval's sums.
        interval_s: Its length.
        gpu_s: Seconds that pods of the gear that runs now held their share.
        waiting: Requests that waited when the interval began.
        changed: Whether the number of pods asked for was changed.
        kept: See :func:`gpupilot_envs.fleet.reading.show`.
        outcome: By service and :class:`Outcome`.
    """
    served = sums[_REQUESTS]
    mean = served + sums[_LOST]
    dispersion = 1.0 + service["dispersion"]
    arrivals = count(random, which, mean, dispersion)
    per = 1.0 / max(served, 1e-12)
    kept_share = served / max(mean, 1e-12)
    excess = min(max((arrivals - mean) / max(mean, 1.0), -_EXCESS_MOST), _EXCESS_MOST)
    # the mean over all draws must stay: requests of crowded intervals count more often
    crowded = excess - dispersion / max(mean, 1.0)
    ratio = (sums[_IN_TIME] + crowded * sums[_SLOPE]) * per * kept_share
    in_time = np.floor(arrivals * min(max(ratio, 0.0), 1.0) + uniform(random, which))
    in_time = min(in_time, arrivals)
    error_ratio = 1.0 - kept_share * (1.0 - sums[_ERRORS] * per)
    errors = min(arrivals * error_ratio, arrivals - in_time)
    share = plant["gpu_share"]
    busy_w = (plant["busy_w"] - plant["idle_w"]) * share
    idle_j = gpu_s * share * plant["idle_w"] + sums[BOOKED + 1]
    energy_j = idle_j + busy_w * (sums[_BUSY_S] - sums[BOOKED + 2])
    outcome[which, 0] = arrivals
    outcome[which, 1] = in_time
    outcome[which, 2] = errors
    outcome[which, 3] = gpu_s * share + sums[BOOKED]
    outcome[which, 4] = energy_j
    outcome[which, 5] = service["ready"]
    outcome[which, 6] = service["starting"]
    outcome[which, 7] = 1.0 if changed else 0.0
    outcome[which, 8] = sums[BOOKED + 3]
    newest = service["newest"]
    pending = waiting_requests(service, plant)
    kept[which, newest, _RATE] = arrivals / interval_s
    kept[which, newest, _PENDING_REQUESTS] = pending
    kept[which, newest, _INFLIGHT] = 0.5 * (waiting + pending) + sums[_COMPUTE] / interval_s
    kept[which, newest, _POWER] = energy_j / interval_s
    kept[which, newest, _READY] = service["ready"]
    kept[which, newest, _PENDING] = service["starting"]
    # what is answered now may have waited since before: completions, not arrivals
    completed = max(arrivals + waiting - pending, 0.0)
    if completed >= 1.0:
        kept[which, newest, _ERROR] = min(errors / completed, 1.0)
        kept[which, newest, _ATTAINMENT] = min(in_time / completed, 1.0)
    else:
        kept[which, newest, _ERROR] = np.nan
        kept[which, newest, _ATTAINMENT] = np.nan
    pods = sums[_READY_S] > 0.0
    kept[which, newest, _GPU_BUSY] = sums[_BUSY_S] / sums[_READY_S] if pods else np.nan
    if completed >= 1.0 and served > 0.0:
        _tell_latency(plant, sums, excess, per, kept, which, newest)
    else:
        for k in range(3):
            kept[which, newest, _LATENCY + k] = np.nan
        kept[which, newest, _QUEUE_TIME] = np.nan
        kept[which, newest, _COMPUTE_TIME] = np.nan
        kept[which, newest, _BATCH_MEAN] = np.nan


@inlined
def waiting_requests(service: np.void, plant: np.void) -> float:
    """Return the requests that wait in all queues of the service now."""
    fresh = service["ready"] - service["stranded"]
    waiting_s = fresh * service["backlog_s"] + service["stranded"] * service["stranded_s"]
    requests: float = waiting_s * plant["saturation_rps"]
    return requests


_EXCESS_MOST = 0.3
"""Relative excess of arrivals up to which the slopes of the steady state are trusted."""

_RATE = SIGNAL_INDEX["rate_rps"]
_ERROR = SIGNAL_INDEX["error_ratio"]
_LATENCY = SIGNAL_INDEX["latency_p50_s"]
_ATTAINMENT = SIGNAL_INDEX["attainment_ratio"]
_QUEUE_TIME = SIGNAL_INDEX["queue_time_s"]
_COMPUTE_TIME = SIGNAL_INDEX["compute_time_s"]
_BATCH_MEAN = SIGNAL_INDEX["batch_mean"]
_PENDING_REQUESTS = SIGNAL_INDEX["pending_requests"]
_INFLIGHT = SIGNAL_INDEX["inflight_requests"]
_GPU_BUSY = SIGNAL_INDEX["gpu_busy_ratio"]
_POWER = SIGNAL_INDEX["gpu_power_w"]
_READY = SIGNAL_INDEX["replicas_ready"]
_PENDING = SIGNAL_INDEX["replicas_pending"]


@inlined
def _tell_latency(
    plant: np.void,
    sums: Floats,
    excess: float,
    per: float,
    kept: Floats,
    which: int,
    newest: int,
) -> None:
    """Write the metrics that only answered requests have."""
    alike = sums[_WORST] * per >= 0.999
    log_share = 0.0 if alike else np.log(max(sums[_WORST] * per, 1e-12))
    shown_max_s = plant["latency_shown_max_s"]
    for k in range(3):
        log_s = sums[_P50 + k] * per
        if not alike:
            log_s = max(log_s, _worst(sums, log_share, k))
        log_s += excess * sums[_P50_SLOPE + k] * per
        kept[which, newest, _LATENCY + k] = min(np.exp(log_s), shown_max_s)
    kept[which, newest, _QUEUE_TIME] = sums[_QUEUE] * per
    kept[which, newest, _COMPUTE_TIME] = sums[_COMPUTE] * per
    kept[which, newest, _BATCH_MEAN] = sums[_BATCH] * per


@compiled
def _worst(sums: Floats, log_share: float, k: int) -> float:
    """Return the log of a quantile of all requests if only the worst share reaches it.

    The quantile q of all is the quantile ``1 - (1 - q) / share`` of the worst share; between
    the known quantiles the log of latency is taken as linear in the log of the survival.
    """
    depth = _depth(k) + log_share
    if depth <= 0.0:
        return -np.inf
    p50 = sums[_WORST_P50]
    p95 = sums[_WORST_P50 + 1]
    p99 = sums[_WORST_P50 + 2]
    if depth < _depth(1):
        log_s: float = p50 + (p95 - p50) * (depth - _depth(0)) / (_depth(1) - _depth(0))
    else:
        log_s = p95 + (p99 - p95) * (depth - _depth(1)) / (_depth(2) - _depth(1))
    return log_s


@compiled
def _depth(k: int) -> float:
    """Return ``-ln(1 - q)`` of the median, the 95th and the 99th percentile."""
    return 0.6931471805599453 if k == 0 else 2.995732273553991 if k == 1 else 4.605170185988091
