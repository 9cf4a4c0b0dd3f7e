"""What the numbers of an answer say of one service: pure, from Prometheus' numbers to a reading.

A thousand services are some forty thousand numbers in a tick, nearly all of them buckets: these
are sorted as they come, and nothing is made of each.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from gpupilot_envs import metric_queries as asked
from gpupilot_envs.latency_sources import QUANTILES, SUMMARY_QUANTILES
from gpupilot_envs.metric_names import ALLOCATION, DETAILS, SIGNALS, MetricNames
from gpupilot_envs.serving.prometheus import histogram_quantile
from gpupilot_envs.signals import Signals

WHOLE = frozenset({"replicas_ready", "replicas_pending", *ALLOCATION})
DETAIL_COLUMNS = ("latency_mean_s", *DETAILS)
"""What a live reading tells beyond ``Signals``, for calibration."""

_SAME_BOUND = 1e-6
_BELOW = 1e-3
"""A bound may lie so far below the target: Envoy's are 1 us low (``docs/serving.md``)."""

Buckets = Sequence[tuple[float, float]]
"""Upper bounds and the rates up to them, ascending, infinity last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveReading:
    """One service at one time.

    Attributes:
        signals: The reading.
        running: What Kubernetes says the service runs with, by field of ``Allocation``.
        details: Further columns of a recording (:data:`DETAIL_COLUMNS`).
        sources: Source of each field that was answered.
        bounds_s: Upper bounds of the gateway's buckets, without infinity.
    """

    signals: Signals
    running: Mapping[str, int] = field(default_factory=dict)
    details: Mapping[str, float | None] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    bounds_s: tuple[float, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was answered."""
        return not self.sources


class _Origin(NamedTuple):
    """What a number is, and how early its source is asked: the earliest answers."""

    place: int
    signal: str
    source: str


class _Point(NamedTuple):
    """One number that is no bucket."""

    place: int
    signal: str
    source: str
    quantile: str
    value: float


@dataclass(slots=True)
class Told:
    """Every number of one service at one time, as they come."""

    points: list[_Point] = field(default_factory=list)
    buckets: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


class Reader:
    """Sorts numbers by where they come from, and makes readings of them."""

    def __init__(self, names: MetricNames) -> None:
        """Read answers of queries made from a table.

        Args:
            names: The table; of several sources the first in it that answers is used.
        """
        self._units_s = {gateway.name: gateway.unit_s for gateway in names.gateways}
        ranked = [*(g.name for g in names.gateways), *(s.name for s in names.sources)]
        self._places = {name: place for place, name in enumerate([*ranked, asked.SUMMARY])}
        first = names.gateways[0].name if names.gateways else ""
        self._origins: dict[str | None, _Origin] = {None: _Origin(0, asked.BUCKETS, first)}
        self._bounds: dict[str, float] = {}

    @property
    def bounds(self) -> tuple[str, ...]:
        """Every bound of a bucket that was ever answered, as it was written, ascending."""
        return tuple(sorted(self._bounds, key=self._bounds.__getitem__))

    def take(self, told: Told, labels: Mapping[str, str], value: float) -> None:
        """Add a number of an answer to what was told of its service.

        Args:
            told: Of the service that the labels name.
            labels: Of the series.
            value: Its number, not NaN.
        """
        label = labels.get(asked.ORIGIN)
        origin = self._origins.get(label) or self._origin(label)
        if origin.signal == asked.BUCKETS:
            text = labels[asked.LE]
            bound = self._bounds.get(text) or self._bound(text)
            buckets = told.buckets.get(origin.source)
            if buckets is None:
                buckets = told.buckets[origin.source] = []
            buckets.append((bound, value))
        else:
            told.points.append(_Point(*origin, labels.get("quantile", ""), value))

    def reading(self, told: Told, at_s: float, window_s: int, target_s: float) -> LiveReading:
        """Return the reading of a service.

        Args:
            told: Every number of it.
            at_s: End of the window.
            window_s: Its length.
            target_s: Latency target.
        """
        ranked = sorted(told.points, key=itemgetter(0))
        single: dict[str, _Point] = {}
        for point in ranked:
            if not point.quantile:
                single.setdefault(point.signal, point)
        felt, sources, bounds_s = self._felt(ranked, single, told.buckets, target_s)
        values: dict[str, float | int | None] = {}
        for name in SIGNALS:
            if name in single:
                values[name] = _typed(name, single[name].value)
                sources[name] = single[name].source
        ages = [single[name].value for name in (asked.AGE, "age_s") if name in single]
        values["age_s"] = max(min(ages), 0.0) if ages else None
        details: dict[str, float | None] = dict.fromkeys(DETAIL_COLUMNS)
        details["latency_mean_s"] = felt.pop("latency_mean_s", None)
        for name in DETAILS:
            if name in single:
                details[name] = single[name].value
        running = {n: round(single[n].value) for n in ALLOCATION if n in single}
        signals = Signals(at_s=at_s, window_s=float(window_s), **(felt | values))  # type: ignore[arg-type]
        return LiveReading(
            signals=signals, running=running, details=details, sources=sources, bounds_s=bounds_s
        )

    def _origin(self, label: str | None) -> _Origin:
        signal, _, source = str(label).partition(" ")
        found = _Origin(self._places.get(source, len(self._places)), signal, source)
        self._origins[label] = found
        return found

    def _bound(self, label: str) -> float:
        found = self._bounds[label] = float(label)
        return found

    def _felt(
        self,
        ranked: Sequence[_Point],
        single: Mapping[str, _Point],
        histograms: Mapping[str, Buckets],
        target_s: float,
    ) -> tuple[dict[str, float | None], dict[str, str], tuple[float, ...]]:
        """Return what users felt, from the first gateway that answers, else from Triton."""
        rate = single.get(asked.REQUESTS)
        if rate is None:
            return _felt_in_triton(ranked, target_s)
        of_it = {p.signal: p.value for p in reversed(ranked) if p.source == rate.source}
        answered, time = of_it.get(asked.ANSWERED, 0.0), of_it.get(asked.ANSWERED_TIME, 0.0)
        buckets = sorted(histograms.get(rate.source, ()))
        unit_s = self._units_s.get(rate.source, 1.0)
        found: dict[str, float | None] = {"rate_rps": rate.value}
        bounds_s = tuple(bound * unit_s for bound, _ in buckets if bound < math.inf)
        if rate.value > 0.0:
            found["error_ratio"] = min(max(1.0 - answered / rate.value, 0.0), 1.0)
            in_time = _rate_within(buckets, target_s / unit_s) if answered > 0.0 else 0.0
            found["attainment_ratio"] = None if in_time is None else min(in_time / rate.value, 1.0)
        if answered > 0.0:
            found["latency_mean_s"] = time / answered
            found |= _quantiles(buckets, unit_s)
        return found, dict.fromkeys(found, rate.source), bounds_s


def _quantiles(buckets: Buckets, unit_s: float) -> dict[str, float | None]:
    bounds = np.array([bound for bound, _ in buckets if bound < math.inf])
    counts = np.array([rate for _, rate in buckets])
    if not len(bounds) or len(counts) != len(bounds) + 1:
        return {}
    found = {name: float(histogram_quantile(q, bounds, counts)) for name, q in QUANTILES.items()}
    return {name: None if math.isnan(v) else v * unit_s for name, v in found.items()}


def _rate_within(buckets: Buckets, target: float) -> float | None:
    """Return the rate of answers within the target, ``None`` when no bucket ends there."""
    place = bisect_left(buckets, (1.0 - _BELOW) * target, key=itemgetter(0))
    if place == len(buckets) or buckets[place][0] > (1.0 + _SAME_BOUND) * target:
        return None
    return buckets[place][1]


def _felt_in_triton(
    ranked: Sequence[_Point], target_s: float
) -> tuple[dict[str, float | None], dict[str, str], tuple[float, ...]]:
    ok, failed = (
        next((p.value for p in ranked if p.signal == signal), None)
        for signal in (asked.SUMMARY_OK, asked.SUMMARY_FAILED)
    )
    if ok is None:
        return {}, {}, ()
    rate = ok + (failed or 0.0)
    worst = {
        float(p.quantile): p.value * 1e-6 for p in ranked if p.signal == asked.SUMMARY_QUANTILE
    }
    found: dict[str, float | None] = {"rate_rps": rate}
    if rate > 0.0:
        found["error_ratio"] = (failed or 0.0) / rate
        found |= {name: worst.get(q) for name, q in QUANTILES.items()}
        kept = [q for q in SUMMARY_QUANTILES if worst.get(q, math.inf) <= target_s]
        found["attainment_ratio"] = max(kept, default=0.0) if worst else None
    return found, dict.fromkeys(found, asked.SUMMARY), ()


def _typed(name: str, value: float) -> float | int:
    return round(value) if name in WHOLE else value
