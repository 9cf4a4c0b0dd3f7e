"""The queries behind a reading, evaluated over the scrapes as Prometheus would."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled
from gpupilot_envs.serving.prometheus import LOOKBACK_S, histogram_quantile, increase
from gpupilot_envs.serving.samples import (
    ARRIVED,
    BUCKETS,
    BUSY_S,
    COMPLETED,
    COMPUTE_S,
    DOWN,
    ENERGY_J,
    EXECUTED,
    EXECUTIONS,
    FAILURES,
    IN_FLIGHT,
    PENDING,
    POD_COUNTERS,
    QUEUE_S,
    READY,
    UNREADY,
    Samples,
)
from gpupilot_envs.signals import SIGNAL_FIELDS, SIGNAL_INDEX

AT_S = SIGNAL_INDEX["at_s"]
WINDOW_S = SIGNAL_INDEX["window_s"]
AGE_S = SIGNAL_INDEX["age_s"]
RATE_RPS = SIGNAL_INDEX["rate_rps"]
ERROR_RATIO = SIGNAL_INDEX["error_ratio"]
LATENCY_P50_S = SIGNAL_INDEX["latency_p50_s"]
LATENCY_P95_S = SIGNAL_INDEX["latency_p95_s"]
LATENCY_P99_S = SIGNAL_INDEX["latency_p99_s"]
ATTAINMENT_RATIO = SIGNAL_INDEX["attainment_ratio"]
QUEUE_TIME_S = SIGNAL_INDEX["queue_time_s"]
COMPUTE_TIME_S = SIGNAL_INDEX["compute_time_s"]
BATCH_MEAN = SIGNAL_INDEX["batch_mean"]
PENDING_REQUESTS = SIGNAL_INDEX["pending_requests"]
INFLIGHT_REQUESTS = SIGNAL_INDEX["inflight_requests"]
GPU_BUSY_RATIO = SIGNAL_INDEX["gpu_busy_ratio"]
GPU_POWER_W = SIGNAL_INDEX["gpu_power_w"]
REPLICAS_READY = SIGNAL_INDEX["replicas_ready"]
REPLICAS_PENDING = SIGNAL_INDEX["replicas_pending"]
FIELD_COUNT = len(SIGNAL_FIELDS)


@compiled
def visible(samples: Samples, now_s: float, delay_s: float) -> int:
    """Return the number of rows written up to the newest one that can be seen now."""
    newest = samples.written[0]
    retained = len(samples.times_s)
    while newest > 0 and samples.times_s[(newest - 1) % retained] > now_s - delay_s:
        newest -= 1
    return int(newest)


@compiled
def rows_in(samples: Samples, newest: int, start_s: float) -> NDArray[np.int64]:
    """Return the places of the rows with values after ``start_s``, oldest first."""
    retained = len(samples.times_s)
    oldest = newest
    limit = max(samples.written[0] - retained, 0)
    while oldest > limit and samples.times_s[(oldest - 1) % retained] > start_s:
        oldest -= 1
    places = np.empty(newest - oldest, dtype=np.int64)
    count = 0
    for number in range(oldest, newest):
        if samples.modes[number % retained] != DOWN:
            places[count] = number % retained
            count += 1
    return places[:count]


@compiled
def service_increase(
    samples: Samples, places: NDArray[np.int64], column: int, start_s: float, end_s: float
) -> float:
    """Return the increase of one counter of the service over the range."""
    times_s = np.empty(len(places))
    values = np.empty(len(places))
    for k in range(len(places)):
        times_s[k] = samples.times_s[places[k]]
        values[k] = samples.service[places[k], column]
    return increase(times_s, values, start_s, end_s)


@compiled
def service_mean(samples: Samples, places: NDArray[np.int64], column: int) -> float:
    """Return ``avg_over_time`` of one gauge of the service, NaN without samples."""
    total = 0.0
    for k in range(len(places)):
        total += samples.service[places[k], column]
    return total / len(places)


@compiled
def pod_increases(
    samples: Samples, places: NDArray[np.int64], start_s: float, end_s: float
) -> NDArray[np.float64]:
    """Return the counters' increases summed over pods, and how many pods answered.

    Every pod is a series of its own with its own extrapolation; a slot that one pod left
    and another took within the window is two series.
    """
    sums = np.zeros(POD_COUNTERS + 1)
    times_s = np.empty(len(places))
    values = np.empty((POD_COUNTERS, len(places)))
    for slot in range(samples.series.shape[1]):
        count = 0
        previous = np.int64(0)
        for k in range(len(places) + 1):
            series = samples.series[places[k], slot] if k < len(places) else np.int64(0)
            if series != previous and count > 0:
                if count > 1:
                    sums[POD_COUNTERS] += 1.0
                    for c in range(POD_COUNTERS):
                        sums[c] += increase(times_s[:count], values[c, :count], start_s, end_s)
                count = 0
            previous = series
            if series > 0:
                times_s[count] = samples.times_s[places[k]]
                for c in range(POD_COUNTERS):
                    values[c, count] = samples.pods[places[k], slot, c]
                count += 1
    return sums


@compiled
def fill_gateway(
    out: NDArray[np.float64],
    samples: Samples,
    places: NDArray[np.int64],
    bounds_s: NDArray[np.float64],
    target: int,
) -> None:
    """Fill what the gateway answers: rate, errors, latency quantiles, attainment."""
    end_s = out[AT_S]
    start_s = end_s - out[WINDOW_S]
    arrived = service_increase(samples, places, ARRIVED, start_s, end_s)
    out[RATE_RPS] = arrived / (end_s - start_s)
    completed = service_increase(samples, places, COMPLETED, start_s, end_s)
    if completed > 0.0:
        failures = service_increase(samples, places, FAILURES, start_s, end_s)
        in_time = service_increase(samples, places, BUCKETS + target, start_s, end_s)
        out[ERROR_RATIO] = min(failures / completed, 1.0)
        out[ATTAINMENT_RATIO] = min(in_time / completed, 1.0)
    counts = np.empty(len(bounds_s) + 1)
    for k in range(len(counts)):
        counts[k] = service_increase(samples, places, BUCKETS + k, start_s, end_s)
    out[LATENCY_P50_S] = histogram_quantile(0.50, bounds_s, counts)
    out[LATENCY_P95_S] = histogram_quantile(0.95, bounds_s, counts)
    out[LATENCY_P99_S] = histogram_quantile(0.99, bounds_s, counts)


@compiled
def fill_pods(out: NDArray[np.float64], samples: Samples, places: NDArray[np.int64]) -> None:
    """Fill what Triton's counters and the nodes answer, summed or averaged over pods."""
    end_s = out[AT_S]
    start_s = end_s - out[WINDOW_S]
    sums = pod_increases(samples, places, start_s, end_s)
    if sums[EXECUTED] > 0.0:
        out[QUEUE_TIME_S] = sums[QUEUE_S] / sums[EXECUTED]
        out[COMPUTE_TIME_S] = sums[COMPUTE_S] / sums[EXECUTED]
        out[BATCH_MEAN] = sums[EXECUTED] / sums[EXECUTIONS]
    if sums[POD_COUNTERS] > 0.0:
        mean_s = sums[BUSY_S] / sums[POD_COUNTERS]
        out[GPU_BUSY_RATIO] = min(mean_s / (end_s - start_s), 1.0)
    joules = service_increase(samples, places, ENERGY_J, start_s, end_s)
    out[GPU_POWER_W] = joules / (end_s - start_s)
    out[INFLIGHT_REQUESTS] = service_mean(samples, places, IN_FLIGHT)


@compiled
def fill_gauges(out: NDArray[np.float64], samples: Samples, newest: int) -> None:
    """Fill the instant queries from the newest scrape, unless it is stale."""
    if newest == 0:
        return
    place = (newest - 1) % len(samples.times_s)
    if samples.modes[place] == DOWN or out[AT_S] - samples.times_s[place] >= LOOKBACK_S:
        return
    out[REPLICAS_READY] = samples.service[place, READY]
    out[REPLICAS_PENDING] = samples.service[place, UNREADY]
    pending = 0.0
    pods = 0
    for slot in range(samples.series.shape[1]):
        if samples.series[place, slot] > 0:
            pending += samples.pods[place, slot, PENDING]
            pods += 1
    if pods > 0:
        out[PENDING_REQUESTS] = pending


@compiled
def fill_age(out: NDArray[np.float64], samples: Samples, newest: int) -> None:
    """Fill the age of the newest sample that carries a value."""
    retained = len(samples.times_s)
    number = newest
    limit = max(samples.written[0] - retained, 0)
    while number > limit and samples.modes[(number - 1) % retained] == DOWN:
        number -= 1
    if number > limit:
        out[AGE_S] = out[AT_S] - samples.times_s[(number - 1) % retained]


@compiled
def evaluate(
    samples: Samples,
    now_s: float,
    window_s: float,
    delay_s: float,
    bounds_s: NDArray[np.float64],
    target: int,
) -> NDArray[np.float64]:
    """Return a reading as a row of ``Signals``, NaN where Prometheus has no answer.

    Args:
        samples: The scrapes.
        now_s: Time of the queries.
        window_s: Range of the rates.
        delay_s: Age at which a sample becomes visible.
        bounds_s: Upper bounds of the gateway's buckets.
        target: Index of the bound that is the latency target.
    """
    out = np.full(FIELD_COUNT, np.nan)
    out[AT_S] = now_s
    out[WINDOW_S] = window_s
    newest = visible(samples, now_s, delay_s)
    places = rows_in(samples, newest, now_s - window_s)
    fill_gateway(out, samples, places, bounds_s, target)
    fill_pods(out, samples, places)
    fill_gauges(out, samples, newest)
    fill_age(out, samples, newest)
    return out
