"""Readings of real services from Prometheus: the same ``Signals`` the simulator gives.

A constant number of queries answers for all services. What Prometheus does not answer is
``None``; no traffic is a rate of 0. Of several sources for a signal the first of the table that
answers is used, and named beside the reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan

import numpy as np
from numpy.typing import NDArray

from gpupilot_envs import metric_queries as asked
from gpupilot_envs.live_reading import LiveReading, Reader, Told
from gpupilot_envs.metric_names import MetricNames
from gpupilot_envs.prometheus import Prometheus, Series
from gpupilot_envs.signals import Signals

MANY = 3_000
"""Buckets from which on they are asked in parts: some 80 services with Envoy's 36."""


class LiveSignals:
    """Reads all services at once; the port the operator and the recorder share.

    Attributes:
        queries: How many the last reading of services of any namespace took.
    """

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
        self._reader = Reader(names)
        self._bounds: tuple[str, ...] = ()
        self.queries = 0

    def read(self, services: Sequence[str], window_s: int, at_s: float) -> dict[str, Signals]:
        """Return the reading of each service over the window that ends at ``at_s``.

        Raises:
            MetricsUnavailable: Prometheus does not answer; a service without series is no error.
        """
        return {name: found.signals for name, found in self.look(services, window_s, at_s).items()}

    def look(self, services: Sequence[str], window_s: int, at_s: float) -> dict[str, LiveReading]:
        """Return each service's reading with its sources and details; see :meth:`read`."""
        found = {name: Told() for name in services}
        queries = asked.queries(self._names, self._scope(services, window_s))
        for labels, value in self._prometheus.numbers(queries.values(), at_s):
            told = found.get(labels.get(asked.SERVICE, ""))
            if told is not None and not isnan(value):
                self._reader.take(told, labels, value)
        return self._readings(found, at_s, window_s)

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
        found = {key: Told() for key in wanted.values()}
        anywhere: dict[str, set[str]] = {}
        for (_, name), key in wanted.items():
            anywhere.setdefault(name, set()).add(key)
        # one name and several services: nobody knows whose it is
        alone = {name: min(keys) for name, keys in anywhere.items() if len(keys) == 1}
        chosen = asked.named(tuple(anywhere))
        scope = asked.Scope(
            services=chosen, window_s=window_s, by_namespace=True, bounds=self._bounds
        )
        queries = asked.queries(self._names, scope)
        self.queries = len(queries)
        take = self._reader.take
        for labels, value in self._prometheus.numbers(queries.values(), at_s):
            name, namespace = labels.get(asked.SERVICE, ""), labels.get(asked.NAMESPACE)
            whose = alone.get(name) if namespace is None else wanted.get((namespace, name))
            if whose is not None and not isnan(value):
                take(found[whose], labels, value)
        self._bounds = self._reader.bounds if _buckets(found.values()) >= MANY else ()
        return self._readings(found, at_s, window_s)

    def span(self, service: str, window_s: int, start_s: int, end_s: int) -> list[LiveReading]:
        """Return one service's readings at ``start_s``, every ``window_s``, up to ``end_s``.

        Raises:
            MetricsUnavailable: Prometheus does not answer.
        """
        times = range(start_s, end_s + 1, window_s)
        rows = [Told() for _ in times]
        for query in asked.queries(self._names, self._scope((service,), window_s)).values():
            for series in self._prometheus.span(query, start_s, end_s, window_s):
                if series.labels.get(asked.SERVICE) != service:
                    continue
                for row, value in _on_grid(series, start_s, window_s):
                    if not isnan(value):
                        self._reader.take(rows[row], series.labels, value)
        target_s = self._target_s(service)
        return [
            self._reader.reading(told, float(at_s), window_s, target_s)
            for at_s, told in zip(times, rows, strict=True)
        ]

    def services(self, window_s: int, at_s: float) -> tuple[str, ...]:
        """Return the names of all services that have any series, ascending."""
        queries = asked.queries(self._names, self._scope((), window_s))
        found = self._prometheus.numbers(queries.values(), at_s)
        return tuple(sorted({labels.get(asked.SERVICE, "") for labels, _ in found} - {""}))

    def _readings(
        self, found: Mapping[str, Told], at_s: float, window_s: int
    ) -> dict[str, LiveReading]:
        return {
            key: self._reader.reading(told, at_s, window_s, self._target_s(key))
            for key, told in found.items()
        }

    def _scope(self, services: Sequence[str], window_s: int) -> asked.Scope:
        chosen = asked.named(services)
        return asked.Scope(services=chosen, window_s=window_s, namespace=self._namespace)


def _buckets(found: Iterable[Told]) -> int:
    return sum(len(each) for told in found for each in told.buckets.values())


def _on_grid(series: Series, start_s: int, step_s: int) -> Iterable[tuple[int, float]]:
    rows: NDArray[np.int64] = np.rint((series.times_s - start_s) / step_s).astype(np.int64)
    return zip(rows.tolist(), series.values.tolist(), strict=True)
