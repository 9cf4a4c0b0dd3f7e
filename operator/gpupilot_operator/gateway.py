"""The gateway beside Triton: Envoy, which counts every request of its pod where users feel it.

Triton has no histogram of request latency, and what a full queue rejects is in none of its
counters (``docs/serving.md``). The gateway is a native sidecar: it starts before Triton and ends
after it, so that a pod that leaves answers what it has taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gpupilot_agent.stack import envoy
from gpupilot_agent.stack.plan import LOOPBACK
from gpupilot_operator.spec_predictor import Gateway

NAME = "gateway"
METRICS_NAME = "gateway-metrics"
PORTS = {NAME: 8080, METRICS_NAME: 8081}
"""By the port's name: users' requests, and what Prometheus reads."""
ADMIN_PORT = 9901
CONNECTION_S = 5
"""A connection this old ends with its next answer. Kubernetes balances connections, not requests:
without this a new pod gets none of those who are connected, and one that leaves keeps its own until
it is gone."""
IDLE_S = 1
"""A connection to Triton that has been idle for so long is closed."""
BEGIN = "/begin"
"""A request to it begins every series: Prometheus takes a series' first value for its start, so
the first failures of a pod would be unseen."""
READY = "/ready"
ANYWHERE = "0.0.0.0"
CONTROL = (
    "/v2/repository/models/.*/(un)?load",
    "/inference[.]GRPCInferenceService/RepositoryModel(Load|Unload)",
)
"""What changes the server: for the operator, who asks Triton itself, not for its users."""
START_S = 60
"""Patience with an Envoy that starts; it takes a tenth of a second."""

Manifest = dict[str, Any]


def sidecar(gateway: Gateway, target_s: float, triton: Mapping[str, int]) -> Manifest:
    """Return the sidecar's container: an init container that stays.

    Args:
        gateway: What the resource says of it.
        target_s: Latency target, made a bound of the histogram.
        triton: Triton's ports by name.
    """
    config = json.dumps(bootstrap(target_s, triton), separators=(",", ":"))
    return {
        "name": NAME,
        "image": gateway.image,
        "restartPolicy": "Always",
        "command": ["envoy"],
        "args": ["--config-yaml", config, "--disable-hot-restart", "--log-level", "warning"],
        "ports": [
            {"name": name, "containerPort": number, "protocol": "TCP"}
            for name, number in PORTS.items()
        ],
        "resources": gateway.resources.model_dump(),
        "startupProbe": _probe(BEGIN, every_s=1, failures=START_S),
        "readinessProbe": _probe(READY, every_s=5, failures=2),
    }


def bootstrap(target_s: float, triton: Mapping[str, int]) -> Manifest:
    """Return Envoy's configuration; see :func:`sidecar`."""
    refused = {"direct_response": {"status": 403, "body": {"inline_string": "for the operator"}}}
    control = [{"match": {"safe_regex": {"regex": path}}, **refused} for path in CONTROL]
    users = envoy.connection_manager(
        NAME,
        [*control, *envoy.inference_routes()],
        envoy.loggers({}),
        common_http_protocol_options={"max_connection_duration": f"{CONNECTION_S}s"},
        # with HTTP/1 the last answer says that it is the last: nobody's request meets a closed door
        http1_safe_max_connection_duration=True,
    )
    # Triton that is told to end waits for every connection to close, its whole patience long
    idle = {"idle_timeout": f"{IDLE_S}s"}
    metrics = envoy.connection_manager("metrics", _metrics_routes(), [envoy.beginning(BEGIN)])
    return {
        "admin": {"address": envoy.socket_address(LOOPBACK, ADMIN_PORT)},
        "node": {"id": NAME, "cluster": "gpupilot"},
        **_statistics(target_s),
        "static_resources": {
            "listeners": [
                _listener(NAME, users),
                _listener(METRICS_NAME, metrics),
            ],
            "clusters": [
                envoy.speaking(_cluster("http", triton["http"]), envoy.HTTP1, **idle),
                envoy.speaking(_cluster("grpc", triton["grpc"]), envoy.HTTP2, **idle),
                _cluster("admin", ADMIN_PORT),
            ],
        },
    }


def _statistics(target_s: float) -> Manifest:
    """Return what is counted: the histogram and what is in flight, not Envoy's other 1,500."""
    made = envoy.statistics(_countable_ms(target_s))
    kept = [{"prefix": envoy.SCOPE}, {"suffix": envoy.IN_FLIGHT}]
    only = {"stats_matcher": {"inclusion_list": {"patterns": kept}}}
    return {**made, "stats_config": {**made["stats_config"], **only}}


def _metrics_routes() -> list[Manifest]:
    """Return what is read from outside: of the admin's pages these two, which change nothing."""
    pages = [
        {"match": {"path": path}, "route": {"cluster": "admin"}}
        for path in (envoy.METRICS_PATH, READY)
    ]
    return [*pages, {"match": {"path": BEGIN}, "direct_response": {"status": 200}}]


def _listener(name: str, manager: Manifest) -> Manifest:
    return envoy.listener(name, envoy.socket_address(ANYWHERE, PORTS[name]), manager)


def _cluster(name: str, port: int) -> Manifest:
    endpoint = {"endpoint": {"address": envoy.socket_address(LOOPBACK, port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": envoy.unlimited(),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _countable_ms(target_s: float) -> float:
    """Return the target as the histogram counts it: two significant digits, the rest cut off.

    Admission asks for a target of two digits; of one stored before that, the attainment counts
    what took less than this, and so is no better than it was.
    """
    target_us = round(1e6 * target_s)
    step: int = 10 ** max(len(str(target_us)) - 2, 0)
    return target_us // step * step / 1000.0


def _probe(path: str, *, every_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": METRICS_NAME, "scheme": "HTTP"},
        "periodSeconds": every_s,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
