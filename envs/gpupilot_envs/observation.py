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
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs.compiled import compiled, inlined
from gpupilot_envs.followed import relative_miss
from gpupilot_envs.following import (
    ANCHORS,
    BUDGET_WINDOW_S,
    HISTORY_ROWS,
    MEAN_WINDOWS_S,
    PEAK_WINDOW_S,
    PERIOD_S,
    SKILL_WINDOW_S,
    Known,
    Ring,
    mean_and_spread,
)
from gpupilot_envs.signals import SIGNAL_INDEX

Floats = NDArray[np.float64]


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


RATE_BLOCKS = (0, 1, 2, 3, 6, 12, 24, 48)
"""Readings ago at which the blocks begin over which past rates are shown, and the end."""

DEMAND_FIELDS: tuple[Field, ...] = (
    _field("load_running", "replica capacity", 0, 4, "newest rate / capacity of all replicas"),
    _field("load_ready", "replica capacity", 0, 4, "newest rate / capacity of ready replicas"),
    _field("load_forecast", "replica capacity", 0, 4, "forecast rate / capacity of all replicas"),
    _field("demand_scale", "log2 replicas / 6", 0, 2, "log2(1 + 5 min mean in replicas) / 6"),
    _field("replica_share", "ratio", 0, 1, "1 / running replicas: how coarse one more is"),
    _field("gap_instant", "running replicas", -1, 3, "classical need without hold, less running"),
    _field("gap_held", "running replicas", -1, 3, "classical ask with hold, less running"),
    _field("need_fraction", "replicas", 0, 1, "fractional part of the classical need"),
    _field("margin_share", "running replicas", 0, 3, "margin of the classical need"),
    _field("error_share", "running replicas", 0, 3, "root mean square of the forecast's errors"),
    _field("quota_used", "ratio", 0, 1, "running replicas / most allowed"),
    *(
        _field(f"rate_block_{k}", "5 min mean", -1, 4, f"mean rate {a} to {b} readings ago / mean")
        for k, (a, b) in enumerate(pairwise(RATE_BLOCKS))
    ),
    _field("trend_1_5", "ratio", -1, 4, "1 min mean / 5 min mean - 1"),
    _field("trend_5_15", "ratio", -1, 4, "5 min mean / 15 min mean - 1"),
    _field("trend_15_60", "ratio", -1, 4, "15 min mean / 60 min mean - 1"),
    _field("variability_1", "ratio", 0, 3, "deviation / mean over 1 min"),
    _field("variability_5", "ratio", 0, 3, "deviation / mean over 5 min"),
    _field("variability_60", "ratio", 0, 3, "deviation / mean over 60 min"),
    _field("peak_recent", "5 min mean", -1, 4, "decaying peak rate of 10 min / mean - 1"),
    _field("peak_gap", "running replicas", -1, 3, "need at the hour's decaying peak, less running"),
    _field("bursts", "log per hour", 0, 1, "log(1 + bursts in the last hour) / log 61"),
    _field("in_burst", "flag", 0, 1, "1 from half the hour's peak on until below a quarter"),
    _field("quiet", "hour", 0, 1, "time since the last burst"),
    _field("idle_share", "ratio", 0, 1, "share of the last hour below a tenth of its peak"),
    _field("miss_1", "log ratio", -2, 2, "log(error of the 1 min mean / of the forecast), 15 min"),
    _field("miss_5", "log ratio", -2, 2, "log(error of the 5 min mean / of the forecast), 15 min"),
    _field("miss_15", "log ratio", -2, 2, "log(error of the 15 min mean / of the forecast)"),
)
"""What is seen of the traffic."""

SERVICE_SEEN: tuple[Field, ...] = (
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
    _field("price", "log price", -1, 1, "log10(price of a late request / 30) / 2"),
    _field("metric_age", "staleness limit", 0, 4, "age of the newest sample / limit"),
    _field("rate_missing", "flag", 0, 1, "1 when the newest reading has no rate"),
    _field("latency_missing", "flag", 0, 1, "1 when the newest reading has no attainment"),
    _field("history_filled", "ratio", 0, 1, "readings so far / 15 min of them"),
)
"""What is seen of the service and its objective."""

GEAR_SEEN: tuple[Field, ...] = (
    _field("gear_choice", "ratio", 0, 1, "gears that may be changed to now / 4"),
    _field("gear_position", "ratio", 0, 1, "place on the menu, 0 the smallest or no menu"),
    _field("gear_larger", "log2 ratio / 4", 0, 1, "what the largest gear carries / this one"),
    _field("gear_smaller", "log2 ratio / 4", 0, 1, "what this gear carries / the smallest"),
    _field("gear_saving", "ratio", 0, 1, "cost over 15 min saved in the cheapest gear, 0 if none"),
    _field("gear_repaid", "ratio", 0, 4, "planner's repayment time / what that change takes"),
    _field("gear_since", "15 min", 0, 1, "time since a gear was changed, 1 if never"),
)
"""What is seen of the gears; without a menu, 0 but for the last."""

BEFORE_SEEN: tuple[Field, ...] = (
    _field("margin_before", "ratio", -1, 1, "previous margin action, 0 is the classical one"),
    _field("hold_before", "ratio", -1, 1, "previous hold action, 0 is the classical one"),
    _field("lift_before", "ratio", -1, 1, "previous lift action, 0 is the classical one"),
    _field("memory_before", "ratio", -1, 1, "previous memory action, 0 is the classical one"),
    _field("anchor_before", "ratio", -1, 1, "previous anchor action, 0 is the classical one"),
    _field("horizon_before", "ratio", -1, 1, "previous horizon action, 0 is the classical one"),
    _field("patience_before", "ratio", -1, 1, "previous patience action, 0 is the planner's"),
)
"""What was done last, one field per axis of the action."""

FIELDS: tuple[Field, ...] = (*DEMAND_FIELDS, *SERVICE_SEEN, *GEAR_SEEN, *BEFORE_SEEN)
"""The observation, in order."""

LOW: NDArray[np.float32] = np.array([f.low for f in FIELDS], dtype=np.float32)
HIGH: NDArray[np.float32] = np.array([f.high for f in FIELDS], dtype=np.float32)


def schema_hash() -> str:
    """Return the SHA-256 of the field table and its time constants; a bundle must match it."""
    constants = [
        HISTORY_ROWS,
        PERIOD_S,
        BUDGET_WINDOW_S,
        PEAK_WINDOW_S,
        *MEAN_WINDOWS_S,
        SKILL_WINDOW_S,
    ]
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


ADVICE_FIELDS: tuple[str, ...] = ("forecast_rps", "need", "ask", "margin_rps", "peak_need")
"""What the classical controller makes of the readings, see :func:`gpupilot_envs.actions.advise`."""

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
_LOG_61 = math.log(61.0)
_QUARTER_HOUR = round(900.0 / PERIOD_S)
_BLOCKS = np.array(RATE_BLOCKS)
_RING_RATE = int(Ring.RATE)
_NEWEST = int(Known.NEWEST)
_COUNT = int(Known.COUNT)
_ERRORS = int(Known.ERRORS)
_SQUARES = int(Known.SQUARES)
_RECENT_PEAK = int(Known.RECENT_PEAK)
_REQUESTS = int(Known.REQUESTS)
_LATE = int(Known.LATE_REQUESTS)
_RECENT_REQUESTS = int(Known.RECENT_REQUESTS)
_RECENT_LATE = int(Known.RECENT_LATE)
_IN_BURST = int(Known.BUSY_NOW)
_BURSTS = int(Known.BURSTS)
_QUIET_S = int(Known.QUIET_S)
_IDLE = int(Known.IDLE)
_IDLE_WEIGHT = int(Known.IDLE_WEIGHT)


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
def _late_log(late: float, target: float) -> float:
    """Return the late share on a logarithmic scale of the allowed share; 1 at 100 times it."""
    if late != late:
        return 0.0
    return math.log1p(max(late, 0.0) / max(1.0 - target, 1e-6)) / _LOG_101


@compiled
def _encode_blocks(ring: Floats, known: Floats, mean: float, out: NDArray[np.float32]) -> None:
    """Fill the past rates, block by block, relative to the 5 min mean; 0 where unknown."""
    size, slot, filled = ring.shape[1], int(known[_NEWEST]), int(known[_COUNT])
    for block in range(len(_BLOCKS) - 1):
        total, seen = 0.0, 0
        for back in range(_BLOCKS[block], min(_BLOCKS[block + 1], filled)):
            at = slot - back
            rate = ring[_RING_RATE, at if at >= 0 else at + size]
            if rate == rate:
                total += rate
                seen += 1
        out[block] = total / (seen * mean) - 1.0 if seen > 0 and mean > 0.0 else 0.0


@compiled
def _encode_demand(
    row: Floats,
    ring: Floats,
    known: Floats,
    service: Floats,
    running: float,
    advice: Floats,
    out: NDArray[np.float32],
) -> None:
    slo_rps = service[0]
    mean_1, spread_1 = mean_and_spread(known, 0)
    mean_5, spread_5 = mean_and_spread(known, 1)
    mean_15, _ = mean_and_spread(known, 2)
    mean_60, spread_60 = mean_and_spread(known, 3)
    replicas = max(running, 1.0)
    carried = replicas * slo_rps
    out[0] = _over(row[_RATE], carried)
    out[1] = _over(row[_RATE], _one_or_more(row[_READY]) * slo_rps)
    out[2] = _over(advice[0], carried)
    out[3] = math.log2(1.0 + mean_5 / slo_rps) / 6.0
    out[4] = 1.0 / replicas
    out[5] = (advice[1] - running) / replicas
    out[6] = (advice[2] - running) / replicas
    out[7] = advice[1] - math.floor(advice[1]) if advice[1] == advice[1] else 0.0
    out[8] = _over(advice[3], carried)
    errors = known[_ERRORS]
    out[9] = math.sqrt(max(known[_SQUARES], 0.0) / errors) / carried if errors > 0.0 else 0.0
    out[10] = _over(running, service[7])
    _encode_blocks(ring, known, mean_5, out[11:])
    after = 11 + len(_BLOCKS) - 1
    out[after] = mean_1 / mean_5 - 1.0 if mean_5 > 0.0 else 0.0
    out[after + 1] = mean_5 / mean_15 - 1.0 if mean_15 > 0.0 else 0.0
    out[after + 2] = mean_15 / mean_60 - 1.0 if mean_60 > 0.0 else 0.0
    out[after + 3] = _over(spread_1, mean_1)
    out[after + 4] = _over(spread_5, mean_5)
    out[after + 5] = _over(spread_60, mean_60)
    out[after + 6] = known[_RECENT_PEAK] / mean_5 - 1.0 if mean_5 > 0.0 else 0.0
    out[after + 7] = (advice[4] - running) / replicas
    out[after + 8] = math.log1p(known[_BURSTS]) / _LOG_61
    out[after + 9] = known[_IN_BURST]
    out[after + 10] = known[_QUIET_S] / 3600.0
    out[after + 11] = _over(known[_IDLE], known[_IDLE_WEIGHT])
    for anchor in range(ANCHORS):
        out[after + 12 + anchor] = relative_miss(known, anchor)


@compiled
def _encode_service(
    row: Floats,
    known: Floats,
    service: Floats,
    running: float,
    out: NDArray[np.float32],
) -> None:
    slo_rps, target_s, attainment = service[0], service[3], service[4]
    ready = _one_or_more(row[_READY])
    allowed = (1.0 - attainment) * known[_REQUESTS]
    out[0] = _over(row[_P95], target_s)
    out[1] = _late_log(1.0 - row[_ATTAINMENT], attainment)
    out[2] = _late_log(_over(known[_RECENT_LATE], known[_RECENT_REQUESTS]), attainment)
    out[3] = 1.0 - _over(known[_LATE], allowed)
    out[4] = _over(row[_PENDING_REQUESTS], ready * slo_rps * target_s)
    out[5] = _over(row[_QUEUE], target_s)
    out[6] = _over(row[_BATCH], service[6])
    out[7] = _over(row[_BUSY], 1.0)
    out[8] = _over(row[_PENDING], max(running, 1.0))
    out[9] = service[5] / 180.0
    out[10] = _over(service[2], target_s)
    out[11] = -math.log10(max(1.0 - attainment, 1e-6)) / 4.0
    out[12] = 0.5 * math.log10(max(service[10], 1e-3) / 30.0)
    out[13] = _over(row[_AGE], service[8])
    out[14] = 1.0 if row[_RATE] != row[_RATE] else 0.0
    out[15] = 1.0 if row[_ATTAINMENT] != row[_ATTAINMENT] else 0.0
    out[16] = min(known[_COUNT] / _QUARTER_HOUR, 1.0)


_SERVICE_AT = len(DEMAND_FIELDS)
_GEAR_AT = _SERVICE_AT + len(SERVICE_SEEN)
_BEFORE_AT = _GEAR_AT + len(GEAR_SEEN)


@compiled
def encode(
    row: Floats,
    ring: Floats,
    known: Floats,
    service: Floats,
    running: float,
    advice: Floats,
    gears: Floats,
    before: Floats,
    out: NDArray[np.float32],
) -> None:
    """Fill the observation of one service, in place.

    Args:
        row: The newest reading, :meth:`Signals.row`, NaN where missing.
        ring: The readings before it, see :mod:`gpupilot_envs.following`, newest included.
        known: Plain numbers of the same.
        service: :func:`service_row`, float64, shape ``(len(SERVICE_FIELDS),)``.
        running: Replicas the service was last told to run.
        advice: What the classical controller makes of it, shape ``(len(ADVICE_FIELDS),)``.
        gears: :data:`GEAR_SEEN`, see :func:`gpupilot_envs.gear_sight.see_gears`.
        before: Previous action in -1..1, one per axis.
        out: The observation, float32, shape ``(len(FIELDS),)``.
    """
    _encode_demand(row, ring, known, service, running, advice, out)
    _encode_service(row, known, service, running, out[_SERVICE_AT:])
    for k in range(gears.shape[0]):
        out[_GEAR_AT + k] = gears[k]
    for axis in range(before.shape[0]):
        out[_BEFORE_AT + axis] = before[axis]
    for index in range(out.shape[0]):
        value = out[index]
        out[index] = min(max(value, LOW[index]), HIGH[index]) if value == value else 0.0
