"""PromQL for all services at once: five to seven queries, however many services and signals.

Each query is a union of aggregations ``by (service)``, told apart by the label ``origin``: what is
answered, and by which source. A service's name is taken from the label its exporter carries it in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpupilot_envs.latency_sources import SUMMARY_QUANTILES
from gpupilot_envs.metric_names import (
    Expression,
    Histogram,
    MetricNames,
    MetricSource,
    ServiceLabel,
)

SERVICE, ORIGIN, LE = "service", "origin", "le"
NAMESPACE = "namespace"
"""Labels of an answer; the namespace only where it was asked for."""

PARTS = 3
"""Queries that share the buckets of many services: one is answered by one core of the server."""

QUERIES = 5
"""How many queries :func:`queries` returns at the most while the buckets are one of them."""

QUERIES_MOST = QUERIES + PARTS - 1
"""How many it returns at the most."""

BOUNDS_MOST = 120
"""With more bounds than that the buckets are asked in one: a matcher would name half of them."""

REQUESTS, ANSWERED, ANSWERED_TIME, AGE, BUCKETS = (
    "requests_rate",
    "answered_rate",
    "answered_time",
    "gateway_age",
    "buckets",
)
"""What the gateway is asked; rate, errors and latencies are worked out from them."""

SUMMARY = "triton-summary"
SUMMARY_OK, SUMMARY_FAILED, SUMMARY_QUANTILE = "summary_ok", "summary_failed", "summary_quantile"
"""What the fallback without a gateway is asked."""

MATCHERS_MAX = 50
"""Up to so many services are named in a query; of more, all are fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the queries are about.

    Attributes:
        services: Names of the services, all that there are when empty.
        window_s: Range of the rates in seconds, whole.
        namespace: Kubernetes namespace, every one when ``None``.
        by_namespace: Whether services of one name in different namespaces are told apart, by the
            label ``namespace`` of the answer; it is missing where a source has none.
        bounds: Bounds of buckets as an earlier answer wrote them, to ask for the buckets in parts;
            every bucket is in one of them, also of a bound that is not named.
    """

    services: tuple[str, ...]
    window_s: int
    namespace: str | None = None
    by_namespace: bool = False
    bounds: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Matchers of which every bucket passes exactly one."""
        if not PARTS <= len(self.bounds) <= BOUNDS_MOST:
            return ("",)
        shares = [_any(self.bounds[place::PARTS]) for place in range(1, PARTS)]
        named = [f'{LE}=~"{share}"' for share in shares]
        return (f'{LE}!~"{"|".join(shares)}"', *named)

    def match(self, label: ServiceLabel) -> str:
        """Return the label matchers of the services."""
        named = "(.+)"
        if 0 < len(self.services) <= MATCHERS_MAX:
            named = f"({'|'.join(map(_literal, self.services))})"
        whose = f'{label.label}=~"{_quoted(label.pattern.replace("(.+)", named, 1))}"'
        if self.namespace and label.namespace:
            whose += f',{label.namespace}="{_quoted(self.namespace)}"'
        return whose

    def fill(self, text: str, label: ServiceLabel) -> str:
        """Return an expression of the table with its placeholders filled in."""
        filled = text.replace("$match", self.match(label))
        filled = filled.replace("$window", f"{self.window_s}s")
        return filled.replace("$seconds", str(self.window_s)).strip()


def queries(names: MetricNames, scope: Scope) -> dict[str, str]:
    """Return the queries by name: ``gateway``, ``buckets``, ``server``, ``gpu``, ``kubernetes``.

    Of buckets that are asked in parts the further ones are ``buckets-1`` and ``buckets-2``. Every
    answer carries the labels ``service`` and ``origin`` (:func:`origin`), buckets ``le`` too. Those
    of the first gateway carry no origin: labelling tens of thousands of series costs as much as
    adding them up.
    """
    gateway = [part for source in names.gateways for part in _gateway(source, scope)]
    groups = {"gateway": [*gateway, *_summary(scope)]}
    for number, part in enumerate(scope.parts):
        groups[f"buckets-{number}" if number else "buckets"] = [
            _labelled(_bucket_rates(source, scope, part), BUCKETS, source.name)
            if place
            else _bucket_rates(source, scope, part)
            for place, source in enumerate(names.gateways)
        ]
    for group in ("server", "gpu", "kubernetes"):
        groups[group] = [
            _labelled(expression_query(source, expression, scope), signal, source.name)
            for signal, answering in names.answering(group).items()
            for source, expression in answering
        ]
    return {name: " or ".join(parts) for name, parts in groups.items() if parts}


def expression_query(source: MetricSource, expression: Expression, scope: Scope) -> str:
    """Return the PromQL of one entry of the table, one number per service."""
    aggregate, inner = expression.aggregate
    query = _by_service(aggregate, scope.fill(inner, source.service), source.service, scope)
    if expression.over is not None:
        below = _by_service(
            "sum", scope.fill(expression.over, source.service), source.service, scope
        )
        query = f"({query} / {below})"
    return query if expression.scale == 1.0 else f"{query} * {expression.scale!r}"


def column_queries(names: MetricNames, scope: Scope) -> dict[str, str]:
    """Return, by column, the PromQL that answers it, alternatives joined by ``or``."""
    found: dict[str, str] = {}
    for group in ("server", "gpu", "kubernetes"):
        for signal, answering in names.answering(group).items():
            found[signal] = " or ".join(expression_query(s, e, scope) for s, e in answering)
    rate = " or ".join(_requests(source, scope) for source in names.gateways)
    found["rate_rps"] = rate
    buckets = " or ".join(_bucket_rates(source, scope) for source in names.gateways)
    shares = ("latency_p50_s", "latency_p95_s", "latency_p99_s", "attainment_ratio")
    return found | dict.fromkeys(shares, buckets)


def _gateway(source: Histogram, scope: Scope) -> Iterable[str]:
    whose = scope.match(source.service)
    window = f"[{scope.window_s}s]"
    good = f"{whose},{source.answered}"
    count, total = f"{source.histogram}_count", f"{source.histogram}_sum"
    label = source.service
    yield _labelled(_requests(source, scope), REQUESTS, source.name)
    answered = _by_service("sum", f"rate({count}{{{good}}}{window})", label, scope)
    yield _labelled(answered, ANSWERED, source.name)
    time = _by_service("sum", f"rate({total}{{{good}}}{window})", label, scope)
    yield _labelled(f"{time} * {source.unit_s!r}", ANSWERED_TIME, source.name)
    age = _by_service("min", f"time() - timestamp({count}{{{whose}}})", label, scope)
    yield _labelled(age, AGE, source.name)


def _requests(source: Histogram, scope: Scope) -> str:
    whose = scope.match(source.service)
    rate = f"rate({source.histogram}_count{{{whose}}}[{scope.window_s}s])"
    return _by_service("sum", rate, source.service, scope)


def _bucket_rates(source: Histogram, scope: Scope, part: str = "") -> str:
    whose = ",".join(filter(None, (scope.match(source.service), source.answered, part)))
    rate = f"rate({source.histogram}_bucket{{{whose}}}[{scope.window_s}s])"
    return _by_service("sum", rate, source.service, scope, LE)


def _summary(scope: Scope) -> Iterable[str]:
    """Yield what Triton's own counters say, by service, else by model: first come, first used."""
    for label in (
        ServiceLabel(label="service", namespace="namespace"),
        ServiceLabel(label="model", namespace="namespace"),
    ):
        whose, window = scope.match(label), f"[{scope.window_s}s]"
        for signal, name in ((SUMMARY_OK, "success"), (SUMMARY_FAILED, "failure")):
            rate = f"rate(nv_inference_request_{name}{{{whose}}}{window})"
            yield _labelled(_by_service("sum", rate, label, scope), signal, SUMMARY)
        quantiles = "|".join(f"{q:g}".replace(".", "[.]") for q in SUMMARY_QUANTILES)
        worst = f'nv_inference_request_summary_us{{{whose},quantile=~"{quantiles}"}}'
        found = _by_service("max", worst, label, scope, "quantile")
        yield _labelled(found, SUMMARY_QUANTILE, SUMMARY)


def _by_service(aggregate: str, inner: str, label: ServiceLabel, scope: Scope, *more: str) -> str:
    if label.label != SERVICE or label.pattern != "(.+)":
        pattern = _quoted(label.pattern)
        inner = f'label_replace({inner}, "{SERVICE}", "$1", "{label.label}", "{pattern}")'
    by = [SERVICE, *more]
    if scope.by_namespace and label.namespace:
        by.append(NAMESPACE)
        if label.namespace != NAMESPACE:
            inner = f'label_replace({inner}, "{NAMESPACE}", "$1", "{label.namespace}", "(.*)")'
    return f"{aggregate} by ({', '.join(by)}) ({inner})"


def _labelled(query: str, signal: str, source: str) -> str:
    return f'label_replace({query}, "{ORIGIN}", "{_quoted(origin(signal, source))}", "", "")'


def origin(signal: str, source: str) -> str:
    """Return the value of the label that says what is answered, and by which source."""
    return f"{signal} {source}"


def _any(bounds: Sequence[str]) -> str:
    return _quoted("|".join(map(re.escape, bounds)))


def _literal(name: str) -> str:
    return re.escape(name).replace("\\-", "-")


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def named(services: Sequence[str]) -> tuple[str, ...]:
    """Return the services as a scope wants them: sorted, each once."""
    return tuple(sorted(set(services)))
