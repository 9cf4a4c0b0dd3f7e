"""What a request costs beside its batch: the noise of an execution, and time outside the server."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from gpupilot_envs.calibration.findings import Finding, Points, refused
from gpupilot_envs.workload.recording import Recording

WINDOWS_MIN = 20
ALONE = 1.02
"""Mean batch up to which executions count as of one request."""

SUMMARY_MEMORY_S = 90.0
"""Triton's summaries slide over about a minute: so long must batches have held one request."""

SPREAD_MAX = 0.5
"""Widest acceptable spread of the windows' estimates: interquartile range over median."""

_Z95 = 1.6449


def find_noise(recordings: Sequence[Recording]) -> Finding:
    """Return ``noise_cv`` from the quantiles of execution time where batches hold one request.

    Triton's summaries give the median and the 95th percentile of an execution. With lognormal
    noise their ratio is ``exp(1.645 sigma)``. With several sizes mixed it would be the sizes.
    """
    ratios = np.array([ratio for recording in recordings for ratio in _ratios(recording)])
    if len(ratios) < WINDOWS_MIN:
        return refused(
            "noise_cv",
            f"{len(ratios)} windows hold Triton's summaries of batches of one request, "
            f"{WINDOWS_MIN} are needed: record at light load or without batching, with "
            "--metrics-config=summary_latencies=true",
        )
    sigma = np.log(np.maximum(ratios, 1.0)) / _Z95
    found = np.sqrt(np.expm1(sigma**2))
    spread = _spread(found)
    if spread > SPREAD_MAX:
        return refused(
            "noise_cv",
            f"its estimates spread by {100 * spread:.0f} % from window to window: other work "
            "disturbed the recording",
        )
    return Finding(
        parameter="noise_cv",
        values={"": round(min(float(np.median(found)), 2.0), 4)},
        error_ratio=spread / math.sqrt(len(found)),
        source=f"median over {len(found)} windows of Triton's p50 and p95 of an execution",
    )


def _ratios(recording: Recording) -> Iterator[float]:
    """Yield p95 over p50 of the windows whose summaries hold nothing but single requests."""
    mixed_s = -math.inf
    quantiles = (_column(recording, "compute_p50_s"), _column(recording, "compute_p95_s"))
    for reading, p50, p95 in zip(recording.readings, *quantiles, strict=True):
        if reading.batch_mean is not None and reading.batch_mean > ALONE:
            mixed_s = reading.at_s
        alone = reading.at_s - mixed_s > SUMMARY_MEMORY_S
        if alone and p50 and p95 and reading.rate_rps and reading.batch_mean is not None:
            yield p95 / p50


def find_overhead(recordings: Sequence[Recording]) -> Finding:
    """Return ``overhead_ms``: the gateway's mean latency less Triton's queue and compute."""
    rows = [
        (reading.rate_rps, mean_s - reading.queue_time_s - reading.compute_time_s)
        for recording in recordings
        for reading, mean_s in zip(
            recording.readings, _column(recording, "latency_mean_s"), strict=True
        )
        if mean_s is not None
        and reading.rate_rps
        and not reading.error_ratio
        and reading.queue_time_s is not None
        and reading.compute_time_s is not None
    ]
    if len(rows) < WINDOWS_MIN:
        return refused(
            "overhead_ms",
            f"{len(rows)} windows hold a gateway's mean latency beside Triton's times, "
            f"{WINDOWS_MIN} are needed",
        )
    rate, rest_s = np.array(rows, dtype=np.float64).T
    overhead_s = float(np.median(rest_s))
    points = Points(
        x_name="requests per second",
        y_name="outside queue and execution, ms",
        x=rate,
        y=1000.0 * rest_s,
        fitted_x=np.array([rate.min(), rate.max()]),
        fitted_y=np.full(2, 1000.0 * overhead_s),
    )
    if overhead_s < 0.0:
        why = "the gateway saw less than the server: their clocks or names do not fit"
        return refused("overhead_ms", why, points)
    busy, calm = rest_s[rate >= np.median(rate)], rest_s[rate < np.median(rate)]
    grows = len(calm) > 0 and np.median(busy) > 1.5 * np.median(calm)
    return Finding(
        parameter="overhead_ms",
        values={"": round(1000.0 * overhead_s, 4)},
        error_ratio=_spread(rest_s) / math.sqrt(len(rest_s)),
        source=f"median over {len(rest_s)} windows of the gateway's mean less queue and compute",
        remarks=("it grows with the load, which the profile cannot say",) if grows else (),
        points=points,
    )


def _spread(values: np.ndarray) -> float:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float((high - low) / abs(middle)) if middle else math.inf


def _column(recording: Recording, name: str) -> Sequence[float | None]:
    return recording.details.get(name) or (None,) * len(recording.readings)
