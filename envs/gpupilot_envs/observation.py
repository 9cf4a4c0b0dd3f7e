"""What a learned policy sees: one table of dimensionless fields and the kernel that fills it.

Every rate is divided by what the service's own replicas carry at its objective, every time by the
target, the cold start or the staleness limit, so that one policy serves services of any size. The
table :data:`FIELDS` generates the bounds of the Gymnasium space, the documentation and the schema
hash that a policy bundle is checked against.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.limits import Limits, Targets
from gpupilot_envs.profile import ServiceProfile
from gpupilot_envs.serving.capacity import Capacity
from gpupilot_envs.signals import SIGNAL_INDEX

HISTORY_ROWS = 64
"""Readings the encoder looks back on: 16 minutes at one reading per :data:`PERIOD_S`."""

PERIOD_S = 15.0
"""Seconds between decisions, and the window of each reading."""

BUDGET_WINDOW_S = 3600.0
"""Time constant of the decaying window over which the error budget is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One number the policy sees.

    Attributes:
        name: Snake-case name, unique.
        unit: What one unit means; every field is a ratio.
        low: Least value; smaller ones are clipped.
        high: Largest value; larger ones are clipped.
        meaning: How it is computed, for the documentation.
    """

    name: str
    unit: str
    low: float
    high: float
    meaning: str


def _field(name: str, unit: str, low: float, high: float, meaning: str) -> Field:
    return Field(name=name, unit=unit, low=low, high=high, meaning=meaning)


RATE_LAGS = 8
"""How many of the newest readings are shown one by one."""

FIELDS: tuple[Field, ...] = (
    _field("load_running", "replica capacity", 0, 4, "newest rate / capacity of all replicas"),
    _field("load_ready", "replica capacity", 0, 4, "newest rate / capacity of ready replicas"),
    _field("load_forecast", "replica capacity", 0, 4, "forecast rate / capacity of all replicas"),
    _field("demand_scale", "log2 replicas / 6", 0, 2, "log2(1 + 5 min mean in replicas) / 6"),
    _field("demand_fraction", "replicas", 0, 1, "fractional part of the 1 min mean in replicas"),
    _field("gap_instant", "running replicas", -1, 3, "classical need without hold, less running"),
    _field("gap_held", "running replicas", -1, 3, "classical ask with hold, less running"),
    _field("quota_used", "ratio", 0, 1, "running replicas / most allowed"),
    *(
        _field(f"rate_lag_{lag}", "5 min mean", -1, 4, f"rate {lag} readings ago / mean - 1")
        for lag in range(RATE_LAGS)
    ),
    _field("trend_short", "ratio", -1, 4, "1 min mean / 5 min mean - 1"),
    _field("trend_long", "ratio", -1, 4, "5 min mean / 15 min mean - 1"),
    _field("variability_short", "ratio", 0, 2, "deviation / mean over 2 min"),
    _field("variability_long", "ratio", 0, 2, "deviation / mean over 10 min"),
    _field("peak_over_mean", "ratio", 0, 4, "highest / mean over 10 min - 1"),
    _field("latency_p95", "target", 0, 4, "newest 95th percentile / target"),
    _field("late_now", "log budget", 0, 1, "log(1 + late share / allowed share) / log 101, newest"),
    _field("late_5min", "log budget", 0, 1, "the same over 5 min"),
    _field("budget_left", "allowed late", -4, 1, "1 - late requests / allowed ones, last hour"),
    _field("backlog", "target", 0, 4, "time to serve the queue at full capacity / target"),
    _field("queue_time", "target", 0, 4, "mean time in the batcher's queue / target"),
    _field("batch_fill", "ratio", 0, 1, "mean batch / largest batch allowed"),
    _field("gpu_busy", "ratio", 0, 1, "busy share of the GPUs held"),
    _field("starting", "running replicas", 0, 2, "replicas not ready yet / running"),
    _field("cold_start", "3 min", 0, 2, "mean cold start / 180 s"),
    _field("idle_latency", "target", 0, 1, "latency of a lone request / target: how tight it is"),
    _field("objective", "log ratio", 0, 1, "-log10(1 - attainment target) / 4: how strict it is"),
    _field("metric_age", "staleness limit", 0, 4, "age of the newest sample / limit"),
    _field("rate_missing", "flag", 0, 1, "1 when the newest reading has no rate"),
    _field("latency_missing", "flag", 0, 1, "1 when the newest reading has no attainment"),
    _field("history_filled", "ratio", 0, 1, "readings so far / 15 min of them"),
    _field("margin_before", "ratio", -1, 1, "previous margin action, 0 is the classical one"),
    _field("hold_before", "ratio", -1, 1, "previous hold action, 0 is the classical one"),
    _field("lift_before", "ratio", -1, 1, "previous lift action, 0 is the classical one"),
)
"""The observation, in order."""

LOW: NDArray[np.float32] = np.array([f.low for f in FIELDS], dtype=np.float32)
HIGH: NDArray[np.float32] = np.array([f.high for f in FIELDS], dtype=np.float32)


def schema_hash() -> str:
    """Return the SHA-256 of the field table and its time constants; a bundle must match it."""
    constants = [HISTORY_ROWS, PERIOD_S, BUDGET_WINDOW_S]
    document = {"fields": [asdict(field) for field in FIELDS], "constants": constants}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def fields_table() -> str:
    """Return the observation as a Markdown table for the documentation."""
    head = "| # | field | unit | low | high | meaning |\n|---|---|---|---|---|---|\n"
    rows = (
        f"| {i} | `{f.name}` | {f.unit} | {f.low:g} | {f.high:g} | {f.meaning} |\n"
        for i, f in enumerate(FIELDS)
    )
    return head + "".join(rows)


SERVICE_FIELDS: tuple[str, ...] = (
    "slo_rps",
    "saturation_rps",
    "idle_latency_s",
    "target_s",
    "attainment_ratio",
    "cold_start_s",
    "batch_max",
    "replicas_max",
    "stale_after_s",
    "gpu_share_milli",
)
"""Constants of a service that a decision divides by, in the order of :func:`service_row`."""


def service_row(
    profile: ServiceProfile,
    capacity: Capacity,
    targets: Targets,
    limits: Limits,
    gpu_share_milli: int = 1000,
) -> NDArray[np.float64]:
    """Return the constants of one service, float64, shape ``(len(SERVICE_FIELDS),)``."""
    return np.array(
        [
            capacity.slo_rps,
            capacity.saturation_rps,
            capacity.idle_latency_s,
            targets.latency_s,
            targets.attainment_ratio,
            profile.cold_start_s.mean,
            profile.batching.max_batch,
            limits.replicas_max,
            limits.stale_after_s,
            gpu_share_milli,
        ],
        dtype=np.float64,
    )


BUDGET_FIELDS: tuple[str, ...] = ("requests", "late_requests")
"""What :func:`account` carries from reading to reading, decaying over :data:`BUDGET_WINDOW_S`."""

_RATE = SIGNAL_INDEX["rate_rps"]
_ATTAINMENT = SIGNAL_INDEX["attainment_ratio"]
_P95 = SIGNAL_INDEX["latency_p95_s"]
_QUEUE = SIGNAL_INDEX["queue_time_s"]
_BATCH = SIGNAL_INDEX["batch_mean"]
_PENDING_REQUESTS = SIGNAL_INDEX["pending_requests"]
_BUSY = SIGNAL_INDEX["gpu_busy_ratio"]
_READY = SIGNAL_INDEX["replicas_ready"]
_PENDING = SIGNAL_INDEX["replicas_pending"]
_AGE = SIGNAL_INDEX["age_s"]
_LOG_101 = math.log(101.0)
_DECAY = math.exp(-PERIOD_S / BUDGET_WINDOW_S)
_MINUTE, _TWO_MINUTES, _FIVE_MINUTES, _TEN_MINUTES, _QUARTER = 4, 8, 20, 40, 60


@inlined
def account(row: NDArray[np.float64], budget: NDArray[np.float64]) -> None:
    """Add one reading to the decaying counts of requests and late requests, in place."""
    rate, attainment = row[_RATE], row[_ATTAINMENT]
    known = rate == rate and attainment == attainment
    requests = rate * PERIOD_S if known else 0.0
    late = requests * (1.0 - attainment) if known else 0.0
    budget[0] = budget[0] * _DECAY + requests
    budget[1] = budget[1] * _DECAY + late


@compiled
def _mean(
    rows: NDArray[np.float64], newest: int, count: int, column: int, span: int
) -> tuple[float, float, float]:
    """Return mean, deviation and maximum of a column over the newest ``span`` rows, NaN if none."""
    total, squares, highest, seen = 0.0, 0.0, 0.0, 0
    for back in range(min(span, count)):
        value = rows[(newest - back) % rows.shape[0], column]
        if value == value:
            total += value
            squares += value * value
            highest = max(highest, value)
            seen += 1
    if seen == 0:
        return np.nan, np.nan, np.nan
    mean = total / seen
    return mean, math.sqrt(max(squares / seen - mean * mean, 0.0)), highest


@inlined
def _over(value: float, scale: float) -> float:
    """Return ``value / scale``, 0 where either is missing or the scale is 0."""
    return value / scale if scale > 0.0 and value == value else 0.0


@inlined
def _one_or_more(replicas: float) -> float:
    """Return ``replicas``, 1 where missing or fewer; ``max`` would let NaN through."""
    if replicas > 1.0:
        return replicas
    return 1.0


@inlined
def _late(attainment: float, target: float) -> float:
    """Return the late share on a logarithmic scale of the allowed share; 1 at 100 times it."""
    if attainment != attainment:
        return 0.0
    return math.log1p(max(1.0 - attainment, 0.0) / max(1.0 - target, 1e-6)) / _LOG_101


@compiled
def _encode_demand(
    rows: NDArray[np.float64],
    newest: int,
    count: int,
    service: NDArray[np.float64],
    running: float,
    advice: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    slo_rps = service[0]
    row = rows[newest]
    mean_1, _, _ = _mean(rows, newest, count, _RATE, _MINUTE)
    mean_2, sigma_2, _ = _mean(rows, newest, count, _RATE, _TWO_MINUTES)
    mean_5, _, _ = _mean(rows, newest, count, _RATE, _FIVE_MINUTES)
    mean_10, sigma_10, peak_10 = _mean(rows, newest, count, _RATE, _TEN_MINUTES)
    mean_15, _, _ = _mean(rows, newest, count, _RATE, _QUARTER)
    replicas = max(running, 1.0)
    demand = mean_1 / slo_rps
    out[0] = _over(row[_RATE], replicas * slo_rps)
    out[1] = _over(row[_RATE], _one_or_more(row[_READY]) * slo_rps)
    out[2] = _over(advice[0], replicas * slo_rps)
    out[3] = math.log2(1.0 + mean_5 / slo_rps) / 6.0
    out[4] = demand - math.floor(demand)
    out[5] = (advice[1] - running) / replicas
    out[6] = (advice[2] - running) / replicas
    out[7] = _over(running, service[7])
    for lag in range(RATE_LAGS):
        rate = rows[(newest - lag) % rows.shape[0], _RATE] if lag < count else np.nan
        out[8 + lag] = rate / mean_5 - 1.0 if mean_5 > 0.0 and rate == rate else 0.0
    after = 8 + RATE_LAGS
    out[after] = mean_1 / mean_5 - 1.0 if mean_5 > 0.0 else 0.0
    out[after + 1] = mean_5 / mean_15 - 1.0 if mean_15 > 0.0 else 0.0
    out[after + 2] = _over(sigma_2, mean_2)
    out[after + 3] = _over(sigma_10, mean_10)
    out[after + 4] = peak_10 / mean_10 - 1.0 if mean_10 > 0.0 else 0.0


@compiled
def _encode_service(
    rows: NDArray[np.float64],
    newest: int,
    count: int,
    service: NDArray[np.float64],
    running: float,
    budget: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    row = rows[newest]
    slo_rps, target_s, attainment = service[0], service[3], service[4]
    mean_late, _, _ = _mean(rows, newest, count, _ATTAINMENT, _FIVE_MINUTES)
    ready = _one_or_more(row[_READY])
    allowed = (1.0 - attainment) * budget[0]
    out[0] = _over(row[_P95], target_s)
    out[1] = _late(row[_ATTAINMENT], attainment)
    out[2] = _late(mean_late, attainment)
    out[3] = 1.0 - _over(budget[1], allowed)
    out[4] = _over(row[_PENDING_REQUESTS], ready * slo_rps * target_s)
    out[5] = _over(row[_QUEUE], target_s)
    out[6] = _over(row[_BATCH], service[6])
    out[7] = _over(row[_BUSY], 1.0)
    out[8] = _over(row[_PENDING], max(running, 1.0))
    out[9] = service[5] / 180.0
    out[10] = _over(service[2], target_s)
    out[11] = -math.log10(max(1.0 - attainment, 1e-6)) / 4.0
    out[12] = _over(row[_AGE], service[8])
    out[13] = 1.0 if row[_RATE] != row[_RATE] else 0.0
    out[14] = 1.0 if row[_ATTAINMENT] != row[_ATTAINMENT] else 0.0
    out[15] = min(count / _QUARTER, 1.0)


_SERVICE_AT = 8 + RATE_LAGS + 5
_BEFORE_AT = _SERVICE_AT + 16


@compiled
def encode(
    rows: NDArray[np.float64],
    newest: int,
    count: int,
    service: NDArray[np.float64],
    running: float,
    advice: NDArray[np.float64],
    budget: NDArray[np.float64],
    before: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Fill the observation of one service, in place.

    Args:
        rows: Readings as a ring, float64, shape ``(capacity, len(SIGNAL_FIELDS))``, NaN missing.
        newest: Index of the newest row in the ring.
        count: Rows filled, at least 1.
        service: :func:`service_row`, float64, shape ``(len(SERVICE_FIELDS),)``.
        running: Replicas the service was last told to run.
        advice: What the classical controller makes of it, float64, shape ``(3,)``: forecast in
            requests/s, replicas needed now, replicas it would ask for with its hold.
        budget: Counts of :func:`account`, float64, shape ``(2,)``.
        before: Previous action in -1..1, float64, shape ``(3,)``: margin, hold, lift.
        out: The observation, float32, shape ``(len(FIELDS),)``.
    """
    _encode_demand(rows, newest, count, service, running, advice, out)
    _encode_service(rows, newest, count, service, running, budget, out[_SERVICE_AT:])
    out[_BEFORE_AT] = before[0]
    out[_BEFORE_AT + 1] = before[1]
    out[_BEFORE_AT + 2] = before[2]
    for index in range(out.shape[0]):
        value = out[index]
        out[index] = min(max(value, LOW[index]), HIGH[index]) if value == value else 0.0
