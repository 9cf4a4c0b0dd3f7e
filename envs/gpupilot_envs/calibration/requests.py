"""What a request costs beside its batch: the noise of an execution, and time outside the server."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import starmap

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.calibration.findings import Finding, Points, refused
from gpupilot_envs.signals import Signals
from gpupilot_envs.workload.recording import Recording

WINDOWS_MIN = 20
ALONE = 1.02
"""Mean batch up to which executions count as of one request."""

SUMMARY_MEMORY_S = 90.0
"""Triton's summaries slide over about a minute: so long must batches have held one request."""

SPREAD_MAX = 0.5
"""Widest acceptable spread of the windows' estimates: interquartile range over median."""

LONG_QUEUE = 3.0
"""A run whose requests waited this many executions in all says little of what is beside them."""

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


def find_overhead(recordings: Sequence[Recording], users_s: Sequence[float | None] = ()) -> Finding:
    """Return ``overhead_ms``: what users, else the gateway, waited beyond Triton's own times.

    Args:
        recordings: Of one service.
        users_s: Mean latency that the users of each recording measured, ``None`` where they did
            not; it holds the way to the gateway and their own work too.
    """
    pairs = zip(recordings, users_s or (None,) * len(recordings), strict=True)
    felt = [found for found in starmap(_beyond_server, pairs) if found is not None]
    if felt:
        source = f"median over {len(felt)} runs of users' mean latency less queue and compute"
        return _overhead(np.array(felt, dtype=np.float64), source)
    rows = [row for recording in recordings for row in _gateway_rows(recording)]
    if len(rows) < WINDOWS_MIN:
        return refused(
            "overhead_ms",
            f"{len(rows)} windows hold a gateway's mean latency beside Triton's times, "
            f"{WINDOWS_MIN} are needed",
        )
    source = f"median over {len(rows)} windows of the gateway's mean less queue and compute"
    return _overhead(np.array(rows, dtype=np.float64), source)


def _gateway_rows(recording: Recording) -> Iterator[tuple[float, float]]:
    """Yield the rate of each window, and its seconds outside queue and execution."""
    means = _column(recording, "latency_mean_s")
    for reading, mean_s in zip(recording.readings, means, strict=True):
        server_s = _server_s(reading)
        if mean_s is not None and reading.rate_rps and server_s is not None:
            yield reading.rate_rps, mean_s - server_s


def _server_s(reading: Signals) -> float | None:
    """Return the mean time in the server's queue and execution; ``None`` where requests failed."""
    if reading.error_ratio or reading.queue_time_s is None or reading.compute_time_s is None:
        return None
    return reading.queue_time_s + reading.compute_time_s


def _beyond_server(recording: Recording, users_s: float | None) -> tuple[float, float] | None:
    """Return the rate of a run and what its users waited beyond the server's own times.

    ``None`` where a long queue makes that the difference of two large numbers.
    """
    rows = [
        (r.rate_rps * r.window_s, server_s, r.compute_time_s)
        for r in recording.readings
        if r.rate_rps and (server_s := _server_s(r)) is not None
    ]
    if users_s is None or not rows:
        return None
    requests, server_s, compute_s = np.array(rows, dtype=np.float64).T
    waited_s, executed_s = (
        np.average(column, weights=requests) for column in (server_s, compute_s)
    )
    if waited_s > LONG_QUEUE * executed_s:
        return None
    length_s = sum(reading.window_s for reading in recording.readings)
    return float(requests.sum() / length_s), float(users_s - waited_s)


def _overhead(rows: NDArray[np.float64], source: str) -> Finding:
    """Return the finding from rates and seconds outside the server, shape ``(n, 2)``."""
    rate, rest_s = rows.T
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
        source=source,
        remarks=("it grows with the load, which the profile cannot say",) if grows else (),
        points=points,
    )


def _spread(values: np.ndarray) -> float:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float((high - low) / abs(middle)) if middle else math.inf


def _column(recording: Recording, name: str) -> Sequence[float | None]:
    return recording.details.get(name) or (None,) * len(recording.readings)
