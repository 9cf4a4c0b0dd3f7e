"""The gateway: Envoy, which spreads requests and keeps the histogram of users' latency.

The histogram comes from Envoy's stats access logger: microseconds from the first byte of a
request to the last byte of its answer, one entry per request, answered or not. Envoy keeps two
significant digits and counts a bound's whole digit as below it, so each bound is configured one
microsecond low: the count at 60 ms is of the requests that took less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpupilot_agent.stack.plan import LOOPBACK, Balancing, exact_bound_us

HISTOGRAM = "request_duration_us"
COUNTER = "requests"
SCOPE = "gpupilot"
FLUSH_S = 0.25
"""How often Envoy merges its workers' histograms: the age a scrape may have."""

BOUNDS_MS = (
    *(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0),
    *(60.0, 80.0, 100.0, 120.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 650.0, 800.0, 1000.0),
    *(1500.0, 2000.0, 3000.0, 5000.0, 10000.0, 30000.0),
)
_POLICIES: Mapping[Balancing, str] = {
    "random": "RANDOM",
    "round_robin": "ROUND_ROBIN",
    "least_loaded": "LEAST_REQUEST",
}
_UNLIMITED = 1_000_000
_EXTENSIONS = "type.googleapis.com/envoy.extensions"

Filter = dict[str, Any]
"""An access log filter (``config.accesslog.v3.AccessLogFilter``)."""


def bounds_us(target_ms: float) -> list[int]:
    """Return the histogram's bounds in microseconds, the latency target among them."""
    grid = {round(1000.0 * bound) for bound in BOUNDS_MS}
    return sorted(grid | {exact_bound_us(target_ms)})


def bootstrap(
    *, port: int, admin_port: int, endpoints: str, balancing: Balancing, target_ms: float
) -> dict[str, Any]:
    """Return Envoy's configuration.

    Args:
        port: Where users' requests arrive, HTTP/1.1 and HTTP/2 without TLS.
        admin_port: Where ``/stats/prometheus`` is.
        endpoints: File with the replicas (:func:`assignment`), watched: replicas come and go.
        balancing: How requests are spread over replicas.
        target_ms: The latency target, made a bound of the histogram.
    """
    # the scraper wants the count below each bound; one microsecond less is that (module text)
    below = [float(bound - 1) for bound in bounds_us(target_ms)]
    settings = {"match": {"contains": HISTOGRAM}, "buckets": below}
    return {
        "admin": {"address": _address(admin_port)},
        "node": {"id": "gateway", "cluster": "gpupilot"},
        "stats_flush_interval": f"{FLUSH_S}s",
        "stats_config": {"histogram_bucket_settings": [settings]},
        "static_resources": {
            "listeners": [
                {
                    "name": "gateway",
                    "address": _address(port),
                    "filter_chains": [{"filters": [_connection_manager()]}],
                }
            ],
            "clusters": [_cluster(protocol, endpoints, balancing) for protocol in ("http", "grpc")],
        },
    }


def assignment(protocol: str, replicas: Mapping[str, int]) -> dict[str, Any]:
    """Return the replicas of one protocol as Envoy reads them from the watched file.

    Args:
        protocol: ``http`` or ``grpc``.
        replicas: Port by replica name.
    """
    endpoints = [
        {
            "endpoint": {"address": _address(port)},
            "metadata": {"filter_metadata": {SCOPE: {"replica": name}}},
        }
        for name, port in replicas.items()
    ]
    kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    loads = {"@type": kind, "cluster_name": protocol, "endpoints": [{"lb_endpoints": endpoints}]}
    return {"version_info": "0", "resources": [loads]}


def _connection_manager() -> dict[str, Any]:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"},
    }
    routes = [
        {"match": {"prefix": "/", "grpc": {}}, "route": {"cluster": "grpc", "timeout": "0s"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "http", "timeout": "0s"}},
    ]
    manager = "filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.{manager}",
            "stat_prefix": "gateway",
            "codec_type": "AUTO",
            "access_log": _loggers(),
            "route_config": {
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]
            },
            "http_filters": [router],
        },
    }


def _loggers() -> list[dict[str, Any]]:
    """Return one logger per outcome, and one that counts by replica and status.

    The histogram has no other label, so that both of its series exist before the first request
    that matters: Prometheus takes a new series' first value for its start, not for growth.
    """
    status = {
        "replica": f"%UPSTREAM_METADATA({SCOPE}:replica)%",
        "code": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS_NUMBER%",
    }
    counter = {"stat": _stat(COUNTER, status), "value_fixed": 1}
    # health checks and metadata are no requests of the service
    inference = _header(":path", {"safe_regex": {"regex": ".*(/infer|ModelInfer)$"}})
    return [
        _logger(_all(inference, _is_ok()), {"histograms": [_histogram("ok")]}),
        _logger(_all(inference, _is_failed()), {"histograms": [_histogram("failed")]}),
        _logger(inference, {"counters": [counter]}),
    ]


def _is_ok() -> Filter:
    """Match what was answered: HTTP 200 and, where it is gRPC, status OK."""
    plain = _header("content-type", {"prefix": "application/grpc"}, invert_match=True)
    return _all(_code("GE", 200), _code("LE", 299), _any(plain, _grpc_ok()))


def _is_failed() -> Filter:
    """Match the rest; a request its client gave up has code 0."""
    grpc = _header("content-type", {"prefix": "application/grpc"})
    return _any(_code("LE", 199), _code("GE", 300), _all(grpc, _grpc_ok(exclude=True)))


def _header(name: str, match: dict[str, Any], **more: bool) -> Filter:
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


def _histogram(outcome: str) -> dict[str, Any]:
    return {
        "stat": _stat(HISTOGRAM, {"outcome": outcome}),
        "unit": "Microseconds",
        "value_format": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    }


def _stat(name: str, tags: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "tags": [{"name": tag, "value_format": value} for tag, value in tags.items()],
    }


def _logger(which: Filter, what: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "envoy.access_loggers.stats",
        "filter": which,
        "typed_config": {
            "@type": f"{_EXTENSIONS}.access_loggers.stats.v3.Config",
            "stats_scope": {"prefix": SCOPE},
            **what,
        },
    }


def _cluster(protocol: str, endpoints: str, balancing: Balancing) -> dict[str, Any]:
    ready = {"path": "/v2/health/ready"}
    if protocol == "grpc":
        check: dict[str, Any] = {"grpc_health_check": {}}
    else:
        check = {"http_health_check": ready}
    limits = ("max_connections", "max_pending_requests", "max_requests")
    cluster: dict[str, Any] = {
        "name": protocol,
        "type": "EDS",
        "eds_cluster_config": {
            "service_name": protocol,
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {"path": endpoints.format(protocol=protocol)},
            },
        },
        "connect_timeout": "1s",
        "lb_policy": _POLICIES[balancing],
        "circuit_breakers": {"thresholds": [dict.fromkeys(limits, _UNLIMITED)]},
        # a replica that is not ready gets nothing, as behind a Kubernetes service
        "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}},
        # a healthy one that leaves the list would be kept until it fails
        "ignore_health_on_host_removal": True,
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                **check,
            }
        ],
    }
    if protocol == "grpc":
        options = f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"
        explicit = {"@type": options, "explicit_http_config": {"http2_protocol_options": {}}}
        name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {name: explicit}
    return cluster


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def relabelling(bounds: Sequence[int]) -> list[dict[str, Any]]:
    """Return Prometheus' rules that name each bucket by its true bound in microseconds."""
    return [
        {
            "source_labels": ["__name__", "le"],
            "regex": f"envoy_{SCOPE}_{HISTOGRAM}_bucket;{bound - 1}",
            "target_label": "le",
            "replacement": str(bound),
        }
        for bound in bounds
    ]
