"""From a recording to a profile: the batch-latency line and the power line, or why not.

If one execution of a batch of ``b`` takes ``fixed + per_request * b``, then the mean time of a
window's executions is the same line at their mean batch, exactly; weighted least squares through
the windows finds both numbers. The mean time comes from the busy time of the GPU over the number
of executions. Where busy time is missing it comes from Triton's compute counter, which charges
every request with the whole batch it was in: such a mean stands at ``E[b^2] / E[b]``, not at
``E[b]``. Triton does not export the second moment; it is taken from the distribution of batch
sizes that has the mean that was seen and is otherwise as uncertain as can be (Jaynes, 1957).

Whether a recording can tell the two numbers apart is decided by the width of the confidence band
at the smallest and the largest batch, not by the fit's beauty.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from gpupilot_envs.profile import Power, ServiceProfile, parse_profile
from gpupilot_envs.signals import Signals
from gpupilot_envs.workload.recording import Recording

WINDOWS_MIN = 20
"""Fewest windows with executions a line is drawn through."""

SPAN_MIN = 0.15
"""Least share of the batch sizes from 1 to the largest that the windows' means must span."""

BAND_MAX = 0.10
"""Widest acceptable 95 % band of the line at either end, half-width relative to its value."""

_Z95 = 1.96
_EDGE = 1e-3
_STEEPEST = 40.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A weighted least-squares line and how sure it is.

    Attributes:
        intercept: Value at 0.
        slope: Rise per unit.
        covariance: Of intercept and slope, shape ``(2, 2)``.
    """

    intercept: float
    slope: float
    covariance: Floats

    def at(self, x: float) -> float:
        """Return the line's value at ``x``."""
        return self.intercept + self.slope * x

    def band_ratio(self, x: float) -> float:
        """Return the half-width of the 95 % confidence band at ``x`` relative to the value."""
        basis = np.array([1.0, x])
        width = _Z95 * float(np.sqrt(max(float(basis @ self.covariance @ basis), 0.0)))
        return width / abs(self.at(x)) if self.at(x) else np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a recording says about its service.

    Attributes:
        profile: The calibrated profile, ``None`` when the batch line cannot be told.
        refusals: Why it cannot be told, one sentence each; empty when it can.
        notes: What was kept from the base profile or lies outside what was seen.
    """

    profile: ServiceProfile | None
    refusals: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Means over executions, one entry per window that has any, each of shape ``(n,)``.

    Attributes:
        batch: Mean batch size at which the time stands.
        time_s: Mean time of an execution.
        executions: How many executions the means are over.
        source: What the times come from, for the profile.
    """

    batch: Floats
    time_s: Floats
    executions: Floats
    source: str


def calibrate(recording: Recording, base: ServiceProfile, *, when: str) -> Calibration:
    """Return ``base`` with batch times and power as the recording shows them.

    Args:
        recording: Of one service with one batcher setting and one instance per pod.
        base: Gives everything a recording does not show: cold start, noise, overhead, memory.
        when: Date of the recording for the profile's ``measured`` block.
    """
    batch_max = recording.allocations[-1].batch_max if recording.allocations else 1
    windows = _windows(recording.readings, batch_max)
    refusals = tuple(_unfit(recording, windows))
    if refusals:
        return Calibration(profile=None, refusals=refusals, notes=())
    weights = windows.executions
    line = (
        _level(windows.time_s, weights)
        if batch_max == 1
        else fit_line(windows.batch, windows.time_s, weights)
    )
    refusals = tuple(_doubts(line, windows.batch, batch_max))
    if refusals:
        return Calibration(profile=None, refusals=refusals, notes=())
    power, power_note = _power(recording.readings, base.gpu.power_w)
    notes = (
        windows.source,
        *_extrapolated(windows.batch, batch_max),
        power_note,
        "noise, overhead and cold start: as in base",
    )
    profile = _profile(recording, base, line=line, power=power, notes=notes, when=when)
    return Calibration(profile=profile, refusals=(), notes=notes)


def fit_line(x: Floats, y: Floats, weight: Floats) -> Line:
    """Return the line through means ``y`` of ``weight`` observations each, shape ``(n,)``.

    Args:
        x: At least two different values.
        y: Means, positive.
        weight: Number of observations behind each mean.
    """
    basis = np.stack([np.ones_like(x), x], axis=1)
    normal = basis.T @ (basis * weight[:, None])
    intercept, slope = np.linalg.solve(normal, basis.T @ (weight * y))
    residual = y - intercept - slope * x
    variance = float(np.sum(weight * residual**2)) / max(len(x) - 2, 1)
    return Line(
        intercept=float(intercept),
        slope=float(slope),
        covariance=np.asarray(variance * np.linalg.inv(normal), dtype=np.float64),
    )


def _level(y: Floats, weight: Floats) -> Line:
    """Return the level line of a service that never batches."""
    level = float(np.average(y, weights=weight))
    variance = float(np.sum(weight * (y - level) ** 2)) / max(len(y) - 1, 1)
    covariance = np.array([[variance / float(weight.sum()), 0.0], [0.0, 0.0]])
    return Line(intercept=level, slope=0.0, covariance=covariance)


def batch_seen_by_requests(mean: float, largest: int) -> float:
    """Return ``E[b^2] / E[b]`` of the least certain batch sizes in 1..largest with that mean.

    Args:
        mean: Mean batch size, 1 to ``largest``.
        largest: Largest batch size.
    """
    sizes = np.arange(1, largest + 1, dtype=np.float64)
    if not 1.0 + _EDGE < mean < largest - _EDGE:
        return mean

    def weights(tilt: float) -> Floats:
        exponent = tilt * sizes
        tilted = np.exp(exponent - exponent.max())
        return np.asarray(tilted / tilted.sum(), dtype=np.float64)

    tilt = brentq(lambda t: float(weights(t) @ sizes) - mean, -_STEEPEST, _STEEPEST)
    return float(weights(tilt) @ sizes**2) / mean


def _windows(readings: Iterable[Signals], batch_max: int) -> Windows:
    by_busy, by_requests = [], []
    for r in readings:
        if not r.batch_mean or not r.rate_rps:
            continue
        executions = r.rate_rps * r.window_s / r.batch_mean
        if r.gpu_busy_ratio and r.replicas_ready and not r.replicas_pending:
            busy_s = r.gpu_busy_ratio * r.replicas_ready * r.window_s
            by_busy.append((r.batch_mean, busy_s / executions, executions))
        if r.compute_time_s:
            batch = batch_seen_by_requests(r.batch_mean, batch_max)
            by_requests.append((batch, r.compute_time_s, executions))
    if len(by_busy) >= min(WINDOWS_MIN, len(by_requests)):
        return _columns(by_busy, "batch times: from the busy time per execution")
    return _columns(
        by_requests, "batch times: from Triton's compute counter per request, to about 10 %"
    )


def _columns(rows: list[tuple[float, float, float]], source: str) -> Windows:
    columns = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return Windows(
        batch=columns[:, 0], time_s=columns[:, 1], executions=columns[:, 2], source=source
    )


def _unfit(recording: Recording, windows: Windows) -> Iterable[str]:
    """Yield why no line should be drawn through this recording at all."""
    count = len(windows.batch)
    if count < WINDOWS_MIN:
        yield f"only {count} windows have executions; at least {WINDOWS_MIN} are needed"
    if {a.instances_per_replica for a in recording.allocations} - {1}:
        yield (
            "several instances share a pod's GPU, so one execution's time depends on the others; "
            "record with one instance per pod"
        )
    for name in ("batch_max", "gpu_share_milli", "cpu_milli"):
        if len({getattr(allocation, name) for allocation in recording.allocations}) > 1:
            yield f"{name} changed during the recording; record with one setting"


def _doubts(line: Line, batch: Floats, batch_max: int) -> Iterable[str]:
    """Yield why the line cannot be trusted from batch 1 to ``batch_max``."""
    if batch_max > 1:
        low, high = np.quantile(batch, [0.05, 0.95])
        needed = SPAN_MIN * (batch_max - 1)
        if high - low < needed:
            yield (
                f"the mean batch stayed between {low:.2f} and {high:.2f}; it must span at least "
                f"{needed:.2f} of 1 to {batch_max}: record over more different loads"
            )
            return
    for size in sorted({1, batch_max}):
        if line.at(size) <= 0.0:
            yield f"the line gives {1000 * line.at(size):.2f} ms at batch {size}"
        elif line.band_ratio(size) > BAND_MAX:
            yield (
                f"the time at batch {size} is known to ±{100 * line.band_ratio(size):.0f} % only, "
                f"at most ±{100 * BAND_MAX:.0f} % is useful: record for longer"
            )
    if line.slope < 0.0:
        yield "larger batches took less time than smaller ones: other work disturbed the recording"


def _extrapolated(batch: Floats, batch_max: int) -> list[str]:
    seen = float(batch.max())
    if seen >= batch_max:
        return []
    return [
        f"batches beyond a mean of {seen:.1f} were not seen; up to {batch_max} the line goes on"
    ]


def _power(readings: Iterable[Signals], base: Power) -> tuple[Power, str]:
    """Return watts of an idle and a busy GPU, from windows in which the pods did not change."""
    rows = [
        (r.gpu_busy_ratio, r.gpu_power_w / r.replicas_ready)
        for r in readings
        if r.gpu_busy_ratio is not None
        and r.gpu_power_w is not None
        and r.replicas_ready
        and not r.replicas_pending
    ]
    busy, watts = np.array(rows, dtype=np.float64).reshape(-1, 2).T
    if len(busy) < WINDOWS_MIN or np.ptp(busy) < SPAN_MIN:
        return base, "power: as in base, the recording does not show it"
    line = fit_line(busy, watts, np.ones_like(busy))
    idle_w, busy_w = line.at(0.0), line.at(1.0)
    if min(idle_w, busy_w) < 0.0 or max(line.band_ratio(0.0), line.band_ratio(1.0)) > BAND_MAX:
        return base, "power: as in base, the recording does not tell idle from busy"
    measured = Power(idle=round(idle_w, 2), busy=round(busy_w, 2))
    return measured, "power: from watts per pod against its busy ratio"


def _profile(
    recording: Recording,
    base: ServiceProfile,
    *,
    line: Line,
    power: Power,
    notes: Iterable[str],
    when: str,
) -> ServiceProfile:
    last = recording.allocations[-1]
    sizes = sorted({1, last.batch_max})
    document = base.model_dump(mode="json")
    document |= {
        "name": recording.service,
        "batch_latency_ms": [[size, round(1000 * line.at(size), 4)] for size in sizes],
        "instances_per_replica": 1,
        "measured": {
            "how": f"gpupilot calibrate on {len(recording.readings)} windows; {'; '.join(notes)}",
            "where": recording.service,
            "when": when,
        },
    }
    document["gpu"]["power_w"] = power.model_dump()
    document["batching"] = {
        "enabled": last.batch_max > 1,
        "max_batch": last.batch_max,
        "preferred": [size for size in base.batching.preferred if size <= last.batch_max],
        "queue_delay_ms": last.queue_delay_us / 1000.0,
    }
    return parse_profile(document, origin=recording.service)
