"""What a pod costs: the time until it answers, its GPU's power, and sharing the GPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpupilot_envs.calibration.batches import (
    BAND_MAX,
    EXECUTIONS_MIN,
    SPAN_MIN,
    WINDOWS_MIN,
    pooled,
)
from gpupilot_envs.calibration.findings import Finding, Points, refused
from gpupilot_envs.calibration.lines import bent, fit_line, level, straight, unseen_error
from gpupilot_envs.workload.recording import Recording

COLD_START, POWER, CONTENTION = (
    "cold_start_s",
    "gpu.power_w",
    "gpu.sharing.contention_by_tenants",
)
STARTS_MIN = 3
TOGETHER_MIN = 0.3
"""Least share of the time another instance must have been executing too."""

ENOUGH = 0.8
"""A parabola whose unseen error is below so much of the line's is worth a remark."""


def find_cold_start(recordings: Sequence[Recording]) -> Finding:
    """Return mean and coefficient of variation of the time from scheduled to ready."""
    exact = [
        value
        for recording in recordings
        for value in recording.details.get("cold_start_s", ())
        if value is not None and value > 0.0
    ]
    seen = [] if exact else [s for recording in recordings for s in _pending_s(recording)]
    starts = np.array(exact or seen, dtype=np.float64)
    if len(starts) < STARTS_MIN:
        why = f"{len(starts)} starts of pods were recorded, {STARTS_MIN} are needed"
        return refused(COLD_START, why)
    mean_s = float(starts.mean())
    grid_s = max(r.readings[0].window_s for r in recordings if r.readings)
    if not exact and mean_s < 2.0 * grid_s:
        return refused(
            COLD_START,
            f"pods were ready within about {mean_s:.0f} s, seen every {grid_s:.0f} s: record "
            "more often, or with kube-state-metrics",
        )
    spread = float(starts.std(ddof=1)) / mean_s
    of_grid = 0.0 if exact else 0.5 * grid_s / mean_s
    return Finding(
        parameter=COLD_START,
        values={"mean": round(mean_s, 3), "cv": round(min(spread, 2.0), 4)},
        error_ratio=spread / np.sqrt(len(starts)) + of_grid,
        source=f"{len(starts)} starts of pods, "
        + ("scheduled to ready" if exact else "from windows in which pods were pending"),
    )


def _pending_s(recording: Recording) -> list[float]:
    """Return how long pods were pending until more were ready, per rise."""
    found, since, ready = [], None, 0
    for reading in recording.readings:
        now = reading.replicas_ready or 0
        if reading.replicas_pending and since is None:
            since, ready = reading.at_s - 0.5 * reading.window_s, now
        elif not reading.replicas_pending and since is not None:
            if now > ready:
                found.append(reading.at_s - 0.5 * reading.window_s - since)
            since = None
    return found


def find_power(recordings: Sequence[Recording]) -> Finding:
    """Return watts of an idle and of a busy GPU: idle plus a term in utilisation.

    From windows in which the pods did not change. The error is that of windows left out of the
    fit; a level or a parabola that foretells those better is told.
    """
    rows = [
        (r.gpu_busy_ratio, r.gpu_power_w / r.replicas_ready)
        for recording in recordings
        for r in recording.readings
        if r.gpu_busy_ratio is not None
        and r.gpu_power_w is not None
        and r.replicas_ready
        and not r.replicas_pending
    ]
    busy, watts = np.array(rows, dtype=np.float64).reshape(-1, 2).T
    if len(busy) < WINDOWS_MIN:
        return refused(POWER, f"only {len(busy)} windows hold watts and utilisation")
    points = Points(x_name="utilisation", y_name="watts of a pod's GPU", x=busy, y=watts)
    if np.ptp(busy) < SPAN_MIN:
        why = f"utilisation stayed between {busy.min():.2f} and {busy.max():.2f}"
        return refused(POWER, why, points)
    equal = np.ones_like(busy)
    line = fit_line(busy, watts, equal)
    idle_w, busy_w = line.at(0.0), line.at(1.0)
    if min(idle_w, busy_w) < 0.0 or max(line.band_ratio(0.0), line.band_ratio(1.0)) > BAND_MAX:
        return refused(POWER, "the recording does not tell idle from busy", points)
    error = unseen_error(busy, watts, equal, straight)
    remarks = []
    if unseen_error(busy, watts, equal, level) <= error:
        remarks.append("utilisation explains none of it")
    if unseen_error(busy, watts, equal, bent) < ENOUGH * error:
        remarks.append("it bends: a line is not the whole truth")
    return Finding(
        parameter=POWER,
        values={"idle": round(idle_w, 2), "busy": round(busy_w, 2)},
        error_ratio=error,
        source=f"watts against utilisation over {len(busy)} windows, 5-fold error",
        remarks=tuple(remarks),
        points=Points(
            x_name=points.x_name,
            y_name=points.y_name,
            x=busy,
            y=watts,
            fitted_x=np.array([0.0, 1.0]),
            fitted_y=np.array([idle_w, busy_w]),
        ),
    )


def find_contention(alone: Sequence[Recording], together: Sequence[Recording]) -> Finding:
    """Return how much slower an execution is while another runs on the same GPU.

    Args:
        alone: Recordings with one instance per pod.
        together: Recordings with two.

    The executions of two instances overlap for the share of the time that each is busy, taken as
    independent: their mean time is ``1 + share * (slowdown - 1)`` of that of one alone.
    """
    single, double = pooled(alone), pooled(together)
    common = [
        size
        for size in set(single) & set(double)
        if min(single[size][0], double[size][0]) >= EXECUTIONS_MIN
    ]
    if not common:
        return refused(
            CONTENTION,
            "it takes recordings with one and with two instances per pod, both with the server's "
            f"statistics (--triton) and {EXECUTIONS_MIN} executions of one batch size",
        )
    counts = np.array([double[size][0] for size in common], dtype=np.float64)
    together_s = np.array([double[size][1] / double[size][0] for size in common])
    alone_s = np.array([single[size][1] / single[size][0] for size in common])
    ratio = float(counts @ together_s / (counts @ alone_s))
    share = _busy_share(together)
    if share < TOGETHER_MIN:
        return refused(
            CONTENTION,
            f"two instances executed together {100 * share:.0f} % of the time, "
            f"{100 * TOGETHER_MIN:.0f} % are needed: record at a higher load",
        )
    slower = max(1.0 + (ratio - 1.0) / share, 1.0)
    each = together_s / alone_s
    spread = float(np.sqrt(np.average((each - ratio) ** 2, weights=counts)))
    off = spread / share / slower if len(common) > 1 else None
    return Finding(
        parameter=CONTENTION,
        values={"": [(1.0, 1.0), (2.0, round(slower, 4))]},
        error_ratio=off,
        source=f"{int(counts.sum())} executions with two instances, {100 * share:.0f} % together, "
        + ("one batch size" if off is None else "spread over batch sizes"),
        remarks=("instances are taken to be busy independently",),
    )


def _busy_share(recordings: Sequence[Recording]) -> float:
    """Return the share of the recorded time that one instance executes, at most 1."""
    executing_s = sum(time_s for _, time_s in pooled(recordings).values())
    available_s = sum(
        reading.window_s * allocation.replicas * allocation.instances_per_replica
        for recording in recordings
        for reading, allocation in zip(recording.readings, recording.allocations, strict=True)
    )
    return min(executing_s / available_s, 1.0) if available_s else 0.0
