"""How long a batch takes, by its size.

Best source: the server's own statistics by batch size (``Recording.batch_times``), which are
exact means. Else, if one execution of a batch of ``b`` takes ``fixed + per_request * b``, the mean
time of a window's executions is the same line at their mean batch, exactly; weighted least squares
through the windows finds both numbers. The mean time comes from the busy time of the GPU over the
number of executions. Where busy time is missing it comes from Triton's compute counter, which
charges every request with the whole batch it was in: such a mean stands at ``E[b^2] / E[b]``,
not at ``E[b]``. Triton does not export the second moment; it is taken from the distribution of
batch sizes that has the mean that was seen and is otherwise as uncertain as can be (Jaynes, 1957).

Whether a recording can tell the numbers apart is decided by the width of the confidence band
at the smallest and the largest batch, not by the fit's beauty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, isotonic_regression

from gpupilot_envs.calibration.findings import Finding, Points, refused
from gpupilot_envs.calibration.lines import Line, fit_level, fit_line
from gpupilot_envs.signals import Signals
from gpupilot_envs.workload.recording import Recording

PARAMETER = "batch_latency_ms"

WINDOWS_MIN = 20
"""Fewest windows with executions a line is drawn through."""

SPAN_MIN = 0.15
"""Least share of the batch sizes from 1 to the largest that the windows' means must span."""

BAND_MAX = 0.10
"""Widest acceptable 95 % band of the line at either end, half-width relative to its value."""

EXECUTIONS_MIN = 30
"""Fewest executions of a batch size whose mean counts."""

EXACT_BUSY = frozenset({"", "emulated-gpu"})
"""Sources of the busy ratio that are busy time itself; none is named by the simulator."""

_EDGE = 1e-3
_STEEPEST = 40.0

Floats = NDArray[np.float64]
BatchTimes = Mapping[int, tuple[int, float]]


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


def find_batch_times(recordings: Sequence[Recording]) -> Finding:
    """Return the batch curve of recordings made with one instance per pod."""
    batch_max = max((r.allocations[-1].batch_max for r in recordings if r.allocations), default=1)
    if any(recording.batch_times for recording in recordings):
        return _from_statistics(recordings, batch_max)
    return _from_windows(recordings, batch_max)


def pooled(recordings: Iterable[Recording]) -> dict[int, tuple[int, float]]:
    """Return executions and seconds by batch size over all recordings, ascending in size."""
    total: dict[int, tuple[int, float]] = {}
    for recording in recordings:
        for size, (count, time_s) in recording.batch_times.items():
            before = total.get(size, (0, 0.0))
            total[size] = (before[0] + count, before[1] + time_s)
    return dict(sorted(total.items()))


def _apart(recordings: Sequence[Recording], known: BatchTimes) -> float | None:
    """Return how far the mean times of single recordings lie from all together, relative RMS.

    Each size counts with its executions; ``None`` where no size was executed in two recordings.
    """
    squares, counts = [], []
    for size, (count, time_s) in known.items():
        seen = [r.batch_times[size] for r in recordings if size in r.batch_times]
        if len(seen) > 1:
            squares += [(each[1] / each[0] / (time_s / count) - 1.0) ** 2 for each in seen]
            counts += [each[0] for each in seen]
    return float(np.sqrt(np.average(squares, weights=counts))) if counts else None


def _from_statistics(recordings: Sequence[Recording], batch_max: int) -> Finding:
    counted = pooled(recordings)
    known = {s: pair for s, pair in counted.items() if pair[0] >= EXECUTIONS_MIN and s <= batch_max}
    if not known:
        return refused(PARAMETER, f"no batch size was executed {EXECUTIONS_MIN} times")
    sizes = np.array(list(known), dtype=np.float64)
    counts = np.array([count for count, _ in known.values()], dtype=np.float64)
    means_s = np.array([time_s / count for count, time_s in known.values()])
    if batch_max > 1 and np.ptp(sizes) < SPAN_MIN * (batch_max - 1):
        seen = " and ".join(f"{size:g}" for size in sizes[:3])
        return refused(
            PARAMETER,
            f"only batches of {seen} were executed {EXECUTIONS_MIN} times, of 1 to {batch_max}: "
            "record over more different loads",
        )
    rising_s = np.asarray(isotonic_regression(means_s, weights=counts).x, dtype=np.float64)
    bend = float(np.sqrt(np.average((rising_s - means_s) ** 2, weights=counts)) / means_s.mean())
    if bend > BAND_MAX:
        return refused(
            PARAMETER, "larger batches took less time: other work disturbed the recording"
        )
    curve, remarks = _extended(sizes, rising_s, counts, batch_max)
    apart = _apart(recordings, known)
    return Finding(
        parameter=PARAMETER,
        values={"": curve},
        error_ratio=None if apart is None else float(np.hypot(bend, apart)),
        source=f"{int(counts.sum())} executions by batch size, from the server's statistics, "
        + ("one recording" if apart is None else "spread over recordings"),
        remarks=remarks,
        points=Points(
            x_name="batch size",
            y_name="execution, ms",
            x=sizes,
            y=1000.0 * means_s,
            fitted_x=np.array([size for size, _ in curve]),
            fitted_y=np.array([ms for _, ms in curve]),
        ),
    )


def _extended(
    sizes: Floats, means_s: Floats, counts: Floats, batch_max: int
) -> tuple[list[tuple[float, float]], tuple[str, ...]]:
    """Return the curve up to the largest batch, the line going on where nothing was seen."""
    curve = [(float(s), round(1000.0 * float(t), 4)) for s, t in zip(sizes, means_s, strict=True)]
    unseen = [float(size) for size in (1, batch_max) if size not in sizes]
    if not unseen or len(sizes) < 2:
        return curve, ()
    line = fit_line(sizes, means_s, counts)
    for size in unseen:
        near_s = means_s[0] if size < sizes[0] else means_s[-1]
        at_s = min(line.at(size), near_s) if size < sizes[0] else max(line.at(size), near_s)
        curve.append((size, round(1000.0 * max(at_s, 0.1 * near_s), 4)))
    said = " and ".join(f"{size:g}" for size in unseen)
    return sorted(curve), (f"batches of {said} were hardly seen: the line goes on",)


def _from_windows(recordings: Sequence[Recording], batch_max: int) -> Finding:
    windows = windows_of(recordings, batch_max)
    why = [*_unfit(windows)]
    if why:
        return refused(PARAMETER, "; ".join(why))
    weights = windows.executions
    line = (
        fit_level(windows.time_s, weights)
        if batch_max == 1
        else fit_line(windows.batch, windows.time_s, weights)
    )
    sizes = sorted({1, batch_max})
    points = Points(
        x_name="mean batch size of a window",
        y_name="execution, ms",
        x=windows.batch,
        y=1000.0 * windows.time_s,
        fitted_x=np.array(sizes, dtype=np.float64),
        fitted_y=np.array([1000.0 * line.at(size) for size in sizes]),
    )
    why = list(_doubts(line, windows.batch, batch_max))
    if why:
        return refused(PARAMETER, "; ".join(why), points)
    return Finding(
        parameter=PARAMETER,
        values={"": [(float(size), round(1000 * line.at(size), 4)) for size in sizes]},
        error_ratio=max(line.band_ratio(size) for size in sizes),
        source=windows.source,
        remarks=tuple(_extrapolated(windows.batch, batch_max)),
        points=points,
    )


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


def windows_of(recordings: Iterable[Recording], batch_max: int) -> Windows:
    """Return the windows in which something was executed, from the better of two sources."""
    by_busy: list[tuple[float, float, float]] = []
    by_requests: list[tuple[float, float, float]] = []
    for recording in recordings:
        exact = recording.sources.get("gpu_busy_ratio", "") in EXACT_BUSY
        for reading in recording.readings:
            busy, requests = _window(reading, batch_max)
            if busy is not None and exact:
                by_busy.append(busy)
            if requests is not None:
                by_requests.append(requests)
    if len(by_busy) >= max(min(WINDOWS_MIN, len(by_requests)), 1):
        return _columns(by_busy, "from the busy time per execution")
    return _columns(by_requests, "from Triton's compute counter per request, to about 10 %")


def _window(
    r: Signals, batch_max: int
) -> tuple[tuple[float, float, float] | None, tuple[float, float, float] | None]:
    if not r.batch_mean or not r.rate_rps:
        return None, None
    executions = r.rate_rps * r.window_s / r.batch_mean
    busy = requests = None
    if r.gpu_busy_ratio and r.replicas_ready and not r.replicas_pending:
        busy_s = r.gpu_busy_ratio * r.replicas_ready * r.window_s
        busy = (r.batch_mean, busy_s / executions, executions)
    if r.compute_time_s:
        batch = batch_seen_by_requests(r.batch_mean, batch_max)
        requests = (batch, r.compute_time_s, executions)
    return busy, requests


def _columns(rows: list[tuple[float, float, float]], source: str) -> Windows:
    columns = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return Windows(
        batch=columns[:, 0], time_s=columns[:, 1], executions=columns[:, 2], source=source
    )


def _unfit(windows: Windows) -> Iterable[str]:
    """Yield why no line should be drawn through these windows at all."""
    count = len(windows.batch)
    if count < WINDOWS_MIN:
        yield f"only {count} windows have executions; at least {WINDOWS_MIN} are needed"


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


def _extrapolated(batch: Floats, batch_max: int) -> Iterable[str]:
    seen = float(batch.max())
    if seen < batch_max:
        yield f"beyond a mean of {seen:.1f} none were seen; up to {batch_max} the line goes on"
