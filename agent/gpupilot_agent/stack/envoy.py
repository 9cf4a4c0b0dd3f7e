"""Envoy's configuration, the parts that all our gateways share: what they count, and how.

The histogram comes from Envoy's stats access logger: microseconds from the first byte of a
request to the last byte of its answer, one entry per request, answered or not. Envoy keeps two
significant digits and counts a bound's whole digit as below it, so each bound is configured one
microsecond low: the count at 60 ms is of the requests that took less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gpupilot_agent.stack.plan import exact_bound_us

HISTOGRAM = "request_duration_us"
COUNTER = "requests"
SCOPE = "gpupilot"
IN_FLIGHT = "downstream_rq_active"
"""End of the gauge of requests that wait for their answer."""
METRICS_PATH = "/stats/prometheus"
FLUSH_S = 0.25
"""How often Envoy merges its workers' histograms: the age a scrape may have."""
UNLIMITED = 1_000_000
EXTENSIONS = "type.googleapis.com/envoy.extensions"

BOUNDS_MS = (
    *(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0),
    *(60.0, 80.0, 100.0, 120.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 650.0, 800.0, 1000.0),
    *(1500.0, 2000.0, 3000.0, 5000.0, 10000.0, 30000.0),
)

Protocol = Literal["http_protocol_options", "http2_protocol_options"]
HTTP1: Protocol = "http_protocol_options"
HTTP2: Protocol = "http2_protocol_options"

Part = dict[str, Any]
Filter = Part
"""An access log filter (``config.accesslog.v3.AccessLogFilter``)."""


def bounds_us(target_ms: float) -> list[int]:
    """Return the histogram's bounds in microseconds, the latency target among them."""
    grid = {round(1000.0 * bound) for bound in BOUNDS_MS}
    return sorted(grid | {exact_bound_us(target_ms)})


def statistics(target_ms: float) -> Part:
    """Return how Envoy keeps the histogram; ``target_ms`` becomes one of its bounds."""
    # the scraper wants the count below each bound; one microsecond less is that (module text)
    below = [float(bound - 1) for bound in bounds_us(target_ms)]
    settings = {"match": {"contains": HISTOGRAM}, "buckets": below}
    return {
        "stats_flush_interval": f"{FLUSH_S}s",
        "stats_config": {"histogram_bucket_settings": [settings]},
    }


def listener(name: str, address: Part, manager: Part) -> Part:
    """Return a listener that hands every connection to one connection manager."""
    chain = {"filters": [manager]}
    return {"name": name, "address": address, "filter_chains": [chain]}


def connection_manager(
    prefix: str, routes: Sequence[Part], access_log: Sequence[Part], **more: Any
) -> Part:
    """Return the filter that reads HTTP/1.1 and HTTP/2 and routes each request.

    Args:
        prefix: Names it in Envoy's own metrics.
        routes: Tried in their order.
        access_log: What counts requests.
        more: Further fields of ``HttpConnectionManager``.
    """
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"},
    }
    hosts = [{"name": "all", "domains": ["*"], "routes": list(routes)}]
    kind = "filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{EXTENSIONS}.{kind}",
            "stat_prefix": prefix,
            "codec_type": "AUTO",
            "access_log": list(access_log),
            "route_config": {"virtual_hosts": hosts},
            "http_filters": [router],
            **more,
        },
    }


def inference_routes() -> list[Part]:
    """Return the routes of users' requests: gRPC to the cluster ``grpc``, the rest to ``http``."""
    return [
        {"match": {"prefix": "/", "grpc": {}}, "route": {"cluster": "grpc", "timeout": "0s"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "http", "timeout": "0s"}},
    ]


def loggers(tags: Mapping[str, str]) -> list[Part]:
    """Return one logger per outcome, and one that counts by status and further tags.

    The histogram has no other label, so that both of its series exist before the first request
    that matters: Prometheus takes a new series' first value for its start, not for growth.
    """
    status = {**tags, "code": "%RESPONSE_CODE%", "grpc_status": "%GRPC_STATUS_NUMBER%"}
    counter = {"stat": _stat(COUNTER, status), "value_fixed": 1}
    # health checks and metadata are no requests of the service
    inference = _header(":path", {"safe_regex": {"regex": ".*(/infer|ModelInfer)$"}})
    return [
        _logger(_all(inference, _is_ok()), {"histograms": [_histogram("ok")]}),
        _logger(_all(inference, _is_failed()), {"histograms": [_histogram("failed")]}),
        _logger(inference, {"counters": [counter]}),
    ]


def beginning(path: str) -> Part:
    """Return the logger by which one request to a path begins both series of the histogram."""
    both = [_histogram("ok"), _histogram("failed")]
    return _logger(_header(":path", {"exact": path}), {"histograms": both})


def speaking(cluster: Part, protocol: Protocol, **common: Any) -> Part:
    """Return a cluster that speaks a protocol to its servers; gRPC needs HTTP/2.

    Args:
        cluster: The cluster.
        protocol: Its field in Envoy's configuration.
        common: Fields of ``HttpProtocolOptions`` that both protocols have.
    """
    kind = f"{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"
    options: Part = {"@type": kind, "explicit_http_config": {protocol: {}}}
    if common:
        options["common_http_protocol_options"] = common
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {**cluster, "typed_extension_protocol_options": {name: options}}


def unlimited() -> Part:
    """Return circuit breakers that never open: Triton's queue is what bounds a service."""
    limits = ("max_connections", "max_pending_requests", "max_requests")
    return {"thresholds": [dict.fromkeys(limits, UNLIMITED)]}


def socket_address(address: str, port: int) -> Part:
    """Return a TCP address."""
    return {"socket_address": {"address": address, "port_value": port}}


def _is_ok() -> Filter:
    """Match what was answered: HTTP 200 and, where it is gRPC, status OK."""
    plain = _header("content-type", {"prefix": "application/grpc"}, invert_match=True)
    return _all(_code("GE", 200), _code("LE", 299), _any(plain, _grpc_ok()))


def _is_failed() -> Filter:
    """Match the rest; a request its client gave up has code 0."""
    grpc = _header("content-type", {"prefix": "application/grpc"})
    return _any(_code("LE", 199), _code("GE", 300), _all(grpc, _grpc_ok(exclude=True)))


def _header(name: str, match: Part, **more: bool) -> Filter:
    return {"header_filter": {"header": {"name": name, "string_match": match, **more}}}


def _code(comparison: str, value: int) -> Filter:
    limit = {"default_value": value, "runtime_key": f"{SCOPE}.code_{comparison}_{value}"}
    return {"status_code_filter": {"comparison": {"op": comparison, "value": limit}}}


def _grpc_ok(*, exclude: bool = False) -> Filter:
    return {"grpc_status_filter": {"statuses": ["OK"], "exclude": exclude}}


def _all(*filters: Filter) -> Filter:
    return {"and_filter": {"filters": list(filters)}}


def _any(*filters: Filter) -> Filter:
    return {"or_filter": {"filters": list(filters)}}


def _histogram(outcome: str) -> Part:
    return {
        "stat": _stat(HISTOGRAM, {"outcome": outcome}),
        "unit": "Microseconds",
        "value_format": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    }


def _stat(name: str, tags: Mapping[str, str]) -> Part:
    return {
        "name": name,
        "tags": [{"name": tag, "value_format": value} for tag, value in tags.items()],
    }


def _logger(which: Filter, what: Part) -> Part:
    return {
        "name": "envoy.access_loggers.stats",
        "filter": which,
        "typed_config": {
            "@type": f"{EXTENSIONS}.access_loggers.stats.v3.Config",
            "stats_scope": {"prefix": SCOPE},
            **what,
        },
    }
