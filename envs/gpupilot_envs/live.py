"""Readings of real services from Prometheus: the same ``Signals`` the simulator gives.

A constant number of queries answers for all services. What Prometheus does not answer is
``None``; no traffic is a rate of 0. Of several sources for a signal the first of the table that
answers is used, and named beside the reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs import metric_queries as asked
from gpupilot_envs.latency_sources import QUANTILES, SUMMARY_QUANTILES
from gpupilot_envs.metric_names import ALLOCATION, DETAILS, SIGNALS, MetricNames
from gpupilot_envs.prometheus import Prometheus, Series
from gpupilot_envs.serving.prometheus import histogram_quantile
from gpupilot_envs.signals import Signals

WHOLE = frozenset({"replicas_ready", "replicas_pending", *ALLOCATION})
DETAIL_COLUMNS = ("latency_mean_s", *DETAILS)
"""What a live reading tells beyond ``Signals``, for calibration."""

_SAME_BOUND = 1e-6
_BELOW = 1e-3
"""A bound may lie so far below the target: Envoy's are 1 us low (``docs/serving.md``)."""


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


class LiveSignals:
    """Reads all services at once; the port the operator and the recorder share."""

    def __init__(
        self,
        prometheus: Prometheus,
        names: MetricNames,
        targets_s: Mapping[str, float] | Callable[[str], float],
        *,
        namespace: str | None = None,
    ) -> None:
        """Read through ``prometheus``.

        Args:
            prometheus: Where to ask.
            names: Which series answer which signal.
            targets_s: Latency target of each service, for its attainment.
            namespace: Kubernetes namespace, every one when ``None``.
        """
        self._prometheus = prometheus
        self._names = names
        self._target_s = targets_s if callable(targets_s) else targets_s.__getitem__
        self._namespace = namespace
        self._units_s = {gateway.name: gateway.unit_s for gateway in names.gateways}
        ranked = [*(g.name for g in names.gateways), *(s.name for s in names.sources)]
        self._order = {name: place for place, name in enumerate([*ranked, asked.SUMMARY])}

    def read(self, services: Sequence[str], window_s: int, at_s: float) -> dict[str, Signals]:
        """Return the reading of each service over the window that ends at ``at_s``.

        Raises:
            MetricsUnavailable: Prometheus does not answer; a service without series is no error.
        """
        return {name: found.signals for name, found in self.look(services, window_s, at_s).items()}

    def look(self, services: Sequence[str], window_s: int, at_s: float) -> dict[str, LiveReading]:
        """Return each service's reading with its sources and details; see :meth:`read`."""
        found: dict[str, list[_Point]] = {name: [] for name in services}
        for query in asked.queries(self._names, self._scope(services, window_s)).values():
            for series in self._prometheus.instant(query, at_s):
                point = _Point.of(series.labels, float(series.values[0]), self._order)
                if point is not None and point.service in found:
                    found[point.service].append(point)
        return {
            name: assemble(points, at_s, window_s, self._target_s(name), self._units_s)
            for name, points in found.items()
        }

    def everywhere(
        self, wanted: Mapping[tuple[str, str], str], window_s: int, at_s: float
    ) -> dict[str, LiveReading]:
        """Return readings of services of any namespace by their keys; see :meth:`read`.

        A series without a namespace counts where only one key has services of its name.

        Args:
            wanted: Key by namespace and name; several names may mean one key.
            window_s: Window of rates and quantiles.
            at_s: Its end.
        """
        anywhere: dict[str, set[str | None]] = {}
        for (_, name), key in wanted.items():
            anywhere.setdefault(name, set()).add(key)
        found: dict[str, list[_Point]] = {key: [] for key in wanted.values()}
        chosen = asked.named(tuple(anywhere))
        scope = asked.Scope(services=chosen, window_s=window_s, by_namespace=True)
        for query in asked.queries(self._names, scope).values():
            for labels, value in self._prometheus.numbers(query, at_s):
                point = _Point.of(labels, value, self._order)
                if point is None:
                    continue
                namespace = labels.get(asked.NAMESPACE)
                if namespace is not None:
                    keys = {wanted.get((namespace, point.service))}
                else:
                    keys = {*anywhere.get(point.service, ())}
                # one name and several services: nobody knows whose it is
                for whose in keys if len(keys) == 1 else ():
                    if whose is not None:
                        found[whose].append(point)
        return {
            key: assemble(points, at_s, window_s, self._target_s(key), self._units_s)
            for key, points in found.items()
        }

    def span(self, service: str, window_s: int, start_s: int, end_s: int) -> list[LiveReading]:
        """Return one service's readings at ``start_s``, every ``window_s``, up to ``end_s``.

        Raises:
            MetricsUnavailable: Prometheus does not answer.
        """
        rows: list[list[_Point]] = [[] for _ in range(start_s, end_s + 1, window_s)]
        for query in asked.queries(self._names, self._scope((service,), window_s)).values():
            for series in self._prometheus.span(query, start_s, end_s, window_s):
                for row, value in _on_grid(series, start_s, window_s):
                    point = _Point.of(series.labels, value, self._order)
                    if point is not None and point.service == service:
                        rows[row].append(point)
        target_s = self._target_s(service)
        times = range(start_s, end_s + 1, window_s)
        return [
            assemble(points, float(at_s), window_s, target_s, self._units_s)
            for at_s, points in zip(times, rows, strict=True)
        ]

    def services(self, window_s: int, at_s: float) -> tuple[str, ...]:
        """Return the names of all services that have any series, ascending."""
        names: set[str] = set()
        for query in asked.queries(self._names, self._scope((), window_s)).values():
            found = self._prometheus.instant(query, at_s)
            names |= {series.labels.get(asked.SERVICE, "") for series in found}
        return tuple(sorted(names - {""}))

    def _scope(self, services: Sequence[str], window_s: int) -> asked.Scope:
        chosen = asked.named(services)
        return asked.Scope(services=chosen, window_s=window_s, namespace=self._namespace)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """One number of an answer: what it is, of which service, from which source."""

    service: str
    signal: str
    source: str
    place: int
    bound: str
    value: float

    @classmethod
    def of(cls, labels: Mapping[str, str], value: float, order: Mapping[str, int]) -> _Point | None:
        if math.isnan(value) or not labels.get(asked.SERVICE):
            return None
        source = labels[asked.SOURCE]
        return cls(
            service=labels[asked.SERVICE],
            signal=labels[asked.SIGNAL],
            source=source,
            place=order.get(source, len(order)),
            bound=labels.get(asked.LE) or labels.get("quantile", ""),
            value=value,
        )


def assemble(
    points: Iterable[_Point],
    at_s: float,
    window_s: int,
    target_s: float,
    units_s: Mapping[str, float],
) -> LiveReading:
    """Return the reading that an answer's numbers make.

    Args:
        points: Every number of one service at one time.
        at_s: End of the window.
        window_s: Its length.
        target_s: Latency target.
        units_s: Seconds per unit of each gateway's bucket bounds.
    """
    ranked = sorted(points, key=lambda point: point.place)
    single: dict[str, _Point] = {}
    for point in ranked:
        if not point.bound:
            single.setdefault(point.signal, point)
    felt, sources, bounds_s = _felt(ranked, single, target_s, units_s)
    values: dict[str, float | int | None] = {}
    for name in SIGNALS:
        if name in single:
            values[name] = _typed(name, single[name].value)
            sources[name] = single[name].source
    ages = [p.value for name, p in single.items() if name in (asked.AGE, "age_s")]
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


def _felt(
    ranked: Sequence[_Point],
    single: Mapping[str, _Point],
    target_s: float,
    units_s: Mapping[str, float],
) -> tuple[dict[str, float | None], dict[str, str], tuple[float, ...]]:
    """Return what users felt, from the first gateway that answers, else from Triton's summaries."""
    rate = single.get(asked.REQUESTS)
    if rate is None:
        return _felt_in_triton(ranked, target_s)
    answered, time = (
        next((p.value for p in ranked if (p.signal, p.source) == (signal, rate.source)), 0.0)
        for signal in (asked.ANSWERED, asked.ANSWERED_TIME)
    )
    buckets = sorted(
        (float(p.bound), p.value)
        for p in ranked
        if p.signal == asked.BUCKETS and p.source == rate.source
    )
    unit_s = units_s.get(rate.source, 1.0)
    found: dict[str, float | None] = {"rate_rps": rate.value}
    bounds_s = tuple(bound * unit_s for bound, _ in buckets if math.isfinite(bound))
    if rate.value > 0.0:
        found["error_ratio"] = min(max(1.0 - answered / rate.value, 0.0), 1.0)
        in_time = _rate_within(buckets, target_s / unit_s) if answered > 0.0 else 0.0
        found["attainment_ratio"] = None if in_time is None else min(in_time / rate.value, 1.0)
    if answered > 0.0:
        found["latency_mean_s"] = time / answered
        found |= _quantiles(buckets, unit_s)
    return found, dict.fromkeys(found, rate.source), bounds_s


def _quantiles(buckets: Sequence[tuple[float, float]], unit_s: float) -> dict[str, float | None]:
    bounds = np.array([bound for bound, _ in buckets if math.isfinite(bound)])
    counts = np.array([rate for _, rate in buckets])
    if not len(bounds) or len(counts) != len(bounds) + 1:
        return {}
    found = {name: float(histogram_quantile(q, bounds, counts)) for name, q in QUANTILES.items()}
    return {name: None if math.isnan(v) else v * unit_s for name, v in found.items()}


def _rate_within(buckets: Sequence[tuple[float, float]], target: float) -> float | None:
    """Return the rate of answers within the target, ``None`` when no bucket ends there."""
    least, most = (1.0 - _BELOW) * target, (1.0 + _SAME_BOUND) * target
    return next((rate for bound, rate in buckets if least <= bound <= most), None)


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
    worst = {float(p.bound): p.value * 1e-6 for p in ranked if p.signal == asked.SUMMARY_QUANTILE}
    found: dict[str, float | None] = {"rate_rps": rate}
    if rate > 0.0:
        found["error_ratio"] = (failed or 0.0) / rate
        found |= {name: worst.get(q) for name, q in QUANTILES.items()}
        kept = [q for q in SUMMARY_QUANTILES if worst.get(q, math.inf) <= target_s]
        found["attainment_ratio"] = max(kept, default=0.0) if worst else None
    return found, dict.fromkeys(found, asked.SUMMARY), ()


def _typed(name: str, value: float) -> float | int:
    return round(value) if name in WHOLE else value


def _on_grid(series: Series, start_s: int, step_s: int) -> Iterable[tuple[int, float]]:
    rows: NDArray[np.int64] = np.rint((series.times_s - start_s) / step_s).astype(np.int64)
    return zip(rows.tolist(), series.values.tolist(), strict=True)
