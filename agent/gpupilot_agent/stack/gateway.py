"""The stack's gateway: Envoy, which spreads requests over replicas and counts how users fare.

What it counts is told in :mod:`gpupilot_agent.stack.envoy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpupilot_agent.stack import envoy
from gpupilot_agent.stack.envoy import HISTOGRAM, SCOPE
from gpupilot_agent.stack.plan import LOOPBACK, Balancing

_POLICIES: Mapping[Balancing, str] = {
    "random": "RANDOM",
    "round_robin": "ROUND_ROBIN",
    "least_loaded": "LEAST_REQUEST",
}


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
    log = envoy.loggers({"replica": f"%UPSTREAM_METADATA({SCOPE}:replica)%"})
    manager = envoy.connection_manager("gateway", envoy.inference_routes(), log)
    return {
        "admin": {"address": _address(admin_port)},
        "node": {"id": "gateway", "cluster": "gpupilot"},
        **envoy.statistics(target_ms),
        "static_resources": {
            "listeners": [envoy.listener("gateway", _address(port), manager)],
            "clusters": [
                _cluster("http", endpoints, balancing),
                envoy.speaking(_cluster("grpc", endpoints, balancing), envoy.HTTP2),
            ],
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


def _cluster(protocol: str, endpoints: str, balancing: Balancing) -> dict[str, Any]:
    check: dict[str, Any] = {"http_health_check": {"path": "/v2/health/ready"}}
    if protocol == "grpc":
        check = {"grpc_health_check": {}}
    return {
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
        "circuit_breakers": envoy.unlimited(),
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


def _address(port: int) -> dict[str, Any]:
    return envoy.socket_address(LOOPBACK, port)


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
