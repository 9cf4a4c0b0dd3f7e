"""Prometheus behind the control loop: a few queries for all services of all namespaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gpupilot_envs.live import LiveSignals
from gpupilot_envs.live_reading import LiveReading
from gpupilot_envs.metric_names import metric_names
from gpupilot_envs.prometheus import Access, Prometheus
from gpupilot_operator.service import Service

WINDOW_S = 15
"""Window of rates and quantiles: two scrapes must lie in it, and operators scrape every 5 s."""


class LiveMetrics:
    """Reads all services at once; a service without series gets an empty reading."""

    def __init__(
        self, access: Access, *, window_s: int = WINDOW_S, names: Path | None = None
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            access: Where Prometheus is. Its time limit bounds a tick: short, without retries.
            window_s: Window of rates and quantiles, whole seconds.
            names: A table of the user's own metric names, before the embedded one.

        Raises:
            InputInvalid: The table cannot be read, or the extra ``prometheus`` is missing.
        """
        self._prometheus = Prometheus(access)
        self._window_s = window_s
        self._targets_s: dict[str, float] = {}
        self._live = LiveSignals(self._prometheus, metric_names(names), self._targets_s.__getitem__)

    @property
    def queries(self) -> int:
        """Queries that the last reading of all services took."""
        return self._live.queries

    def read(self, services: Sequence[Service], at_s: float) -> Mapping[str, LiveReading]:
        """Return the reading of each service by key.

        Raises:
            MetricsUnavailable: Prometheus does not answer.
        """
        self._targets_s.clear()
        self._targets_s.update(
            {service.key: service.spec.targets.latency_s for service in services}
        )
        return self._live.everywhere(named(services), self._window_s, at_s)

    def close(self) -> None:
        """Close the connection."""
        self._prometheus.close()


def named(services: Sequence[Service]) -> dict[tuple[str, str], str]:
    """Return by namespace and name who is meant by a series.

    A series may carry the resource's name, its model's, or that of the Deployment that is
    scaled. A name that two services of a namespace answer to is nobody's, unless it is the
    resource's own.
    """
    own = {(service.namespace, service.name): service.key for service in services}
    others = [(name, service.key) for service in services for name in _other_names(service)]
    claims = Counter(name for name, _ in others)
    alone = {name: key for name, key in others if claims[name] == 1}
    return alone | own


def _other_names(service: Service) -> Iterator[tuple[str, str]]:
    predictor = service.spec.predictor
    found = set()
    if predictor.model is not None and predictor.model.name is not None:
        found.add(predictor.model.name)
    if predictor.target_ref is not None:
        found.add(predictor.target_ref.name)
    for name in sorted(found - {service.name}):
        yield service.namespace, name
