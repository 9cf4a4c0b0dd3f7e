"""The operator's own metrics, ``gpupilot_*``: what the last tick says, and what was ever counted.

Series of a service are made from the last tick's report at every scrape, so those of a service that
is gone go with it. What is not known is no series, never 0. Names follow
https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gpupilot_operator.report import TickReport
from gpupilot_operator.service_metrics import Tallies, service_metrics, tallied

disable_created_metrics()  # type: ignore[no-untyped-call]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 15.0)


class Exporter(Collector):
    """Counts what happens and answers scrapes; for any number of threads."""

    def __init__(self) -> None:
        """Begin with nothing counted, not leading."""
        self._lock = threading.Lock()
        self._report: TickReport | None = None
        self._tallies: Tallies = {}
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(self)
        self._leader = self._gauge("leader", "Whether this replica is the one that acts.")
        self._ticked_at = self._gauge("last_tick_timestamp_seconds", "Unix time of the last tick.")
        self._lasted = self._gauge(
            "last_tick_seconds", "What the last tick took, by phase.", ("phase",)
        )
        self._whole = self._histogram("tick_seconds", "What a tick over all services takes.")
        self._decided = self._histogram(
            "decide_seconds", "From readings to verdicts of all services."
        )
        self._inferred = self._histogram(
            "inference_seconds", "What the learned policies of all services take in a tick."
        )
        self._queries = self._counter("queries_total", "Questions to Prometheus.")
        self._query_errors = self._counter(
            "query_errors_total", "Ticks in which Prometheus did not answer."
        )
        self._failures = self._counter(
            "failures_total", "Services that could not be changed or told of.", ("step",)
        )
        self._api_calls = self._counter(
            "api_calls_total", "Requests to the Kubernetes API.", ("verb", "resource", "code")
        )
        self._gauge("build_info", "Always 1; says the version.", ("version",)).labels(
            version("gpupilot")
        ).set(1)

    def collect(self) -> Iterable[Metric]:
        """Return the series of all services, as prometheus_client asks at every scrape."""
        with self._lock:
            return () if self._report is None else service_metrics(self._report, self._tallies)

    def report(self, tick: TickReport) -> None:
        """Take in what a tick did."""
        with self._lock:
            self._report, self._tallies = tick, tallied(self._tallies, tick)
        self._ticked_at.set(tick.at_s)
        phases = {"read": tick.read_s, "decide": tick.decide_s, "act": tick.act_s}
        for phase, lasted_s in phases.items():
            self._lasted.labels(phase).set(lasted_s)
        self._whole.observe(tick.whole_s)
        self._decided.observe(tick.decide_s)
        self._inferred.observe(tick.inference_s)
        self._failures.labels("changing").inc(tick.change_errors)
        self._failures.labels("telling").inc(tick.telling_errors)
        self._queries.inc(tick.queries)
        self._query_errors.inc(0 if tick.query_error is None else 1)

    def api_call(self, *, verb: str, resource: str, code: int) -> None:
        """Count a request to the Kubernetes API.

        Args:
            verb: As in a role: ``patch``, ``list``.
            resource: As in a role: ``deployments/scale``.
            code: The HTTP status; 0 where there was no answer.
        """
        self._api_calls.labels(verb, resource, str(code)).inc()

    def leading(self, leads: bool) -> None:
        """Say whether this replica acts; one that does not has no series of services."""
        self._leader.set(leads)
        if not leads:
            with self._lock:
                self._report, self._tallies = None, {}

    def _gauge(self, name: str, meaning: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"gpupilot_{name}", meaning, labels, registry=self.registry)

    def _counter(self, name: str, meaning: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"gpupilot_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str) -> Histogram:
        return Histogram(f"gpupilot_{name}", meaning, buckets=SECONDS, registry=self.registry)
