"""What was observed: one aligned reading, and the readings before it.

A field that the source did not answer is ``None``, never zero: zero traffic and a
missing series are different facts (``docs/metrics.md``).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """One aligned reading over a window that ends at ``at_s``.

    Attributes:
        at_s: Time of the reading in seconds (Unix time live, since the start in a simulation).
        window_s: Length of the window the rates and quantiles cover.
        age_s: Age of the newest sample behind the reading; grows while a source is silent.
        rate_rps: Requests arriving per second (answered or not).
        error_ratio: Share of requests rejected, timed out or failed, 0 to 1.
        latency_p50_s: Median latency from histogram buckets.
        latency_p95_s: 95th percentile from histogram buckets.
        latency_p99_s: 99th percentile from histogram buckets.
        attainment_ratio: Share of all requests answered within the target, from buckets.
        queue_time_s: Mean time in the batcher's queue per request.
        compute_time_s: Time of the execution a request was part of, mean over requests: large
            batches weigh more, as in Triton's own counter.
        batch_mean: Mean number of requests per batch execution.
        pending_requests: Requests waiting in queues, summed over ready pods.
        inflight_requests: Requests queued or executing, mean over the window.
        gpu_busy_ratio: Busy time of the GPU shares held by ready pods, mean over pods, 0 to 1.
        gpu_memory_used_bytes: GPU memory in use, summed over pods.
        gpu_power_w: Power drawn by the GPUs in use, summed.
        cpu_cores_used: CPU cores in use, summed over pods.
        replicas_ready: Pods that answer requests.
        replicas_pending: Pods asked for that do not answer yet (unscheduled or starting).
    """

    at_s: float
    window_s: float
    age_s: float | None = None
    rate_rps: float | None = None
    error_ratio: float | None = None
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    latency_p99_s: float | None = None
    attainment_ratio: float | None = None
    queue_time_s: float | None = None
    compute_time_s: float | None = None
    batch_mean: float | None = None
    pending_requests: float | None = None
    inflight_requests: float | None = None
    gpu_busy_ratio: float | None = None
    gpu_memory_used_bytes: float | None = None
    gpu_power_w: float | None = None
    cpu_cores_used: float | None = None
    replicas_ready: int | None = None
    replicas_pending: int | None = None

    def row(self) -> NDArray[np.float64]:
        """Return the reading as float64, shape ``(len(SIGNAL_FIELDS),)``, NaN where unanswered."""
        values = (getattr(self, name) for name in SIGNAL_FIELDS)
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

    @classmethod
    def from_row(cls, row: NDArray[np.float64]) -> Self:
        """Rebuild a reading from :meth:`row`; NaN becomes ``None``."""
        values: dict[str, float | int | None] = {}
        for name, value in zip(SIGNAL_FIELDS, row.tolist(), strict=True):
            whole = name in ("replicas_ready", "replicas_pending")
            values[name] = None if value != value else int(value) if whole else value
        return cls(**values)  # type: ignore[arg-type]


SIGNAL_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Signals))
"""Names of the fields of :class:`Signals` in the order of :meth:`Signals.row`."""

SIGNAL_INDEX: dict[str, int] = {name: index for index, name in enumerate(SIGNAL_FIELDS)}
"""Column of each field in :meth:`Signals.row` and in :meth:`History.matrix`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The last ``capacity`` readings, newest last; ``push`` returns a new history."""

    readings: tuple[Signals, ...] = ()
    capacity: int = 64

    def push(self, reading: Signals) -> History:
        """Return the history with one more reading, the oldest dropped beyond the capacity."""
        kept = (*self.readings, reading)[-self.capacity :]
        return History(readings=kept, capacity=self.capacity)

    @property
    def latest(self) -> Signals | None:
        """The newest reading, or ``None`` before the first."""
        return self.readings[-1] if self.readings else None

    @property
    def span_s(self) -> float:
        """Seconds between the oldest and the newest reading."""
        return self.readings[-1].at_s - self.readings[0].at_s if self.readings else 0.0

    def matrix(self) -> NDArray[np.float64]:
        """Return the readings as float64, shape ``(len(readings), len(SIGNAL_FIELDS))``."""
        if not self.readings:
            return np.empty((0, len(SIGNAL_FIELDS)), dtype=np.float64)
        return np.stack([reading.row() for reading in self.readings])
