"""From a service to the objects that carry it: pure, applied server-side, nothing else written.

One Deployment for each GPU share, because a share is a resource of the pod template and a change of
it must not take pods away before others answer (``docs/actuators.md``). The number of replicas is
not part of it: that has one writer, the scale subresource.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpupilot_agent.stack.envoy import METRICS_PATH
from gpupilot_operator import gateway
from gpupilot_operator.pod import PORTS, Platform, pod_spec
from gpupilot_operator.service import SHARE_LABEL, Service

MONITORED_EVERY = "5s"
SPOKEN = {"grpc": "kubernetes.io/h2c"}
"""What a port speaks, for meshes and gateways that look no further; the others speak ``http``.

Kubernetes' own name of HTTP/2 without TLS, which gRPC is (KEP-3726).
"""

Manifest = dict[str, Any]


def manifests(
    service: Service, platform: Platform, *, serving_milli: int, starting_milli: int | None = None
) -> list[Manifest]:
    """Return everything that carries a service which gpupilot owns.

    Args:
        service: The resource; its ``predictor.model`` must be there.
        platform: What the cluster has and allows.
        serving_milli: The share whose pods answer.
        starting_milli: Another share whose pods start beside them, in a change of share.

    Raises:
        ValueError: There is no such share.
    """
    shares = [serving_milli] if starting_milli is None else [serving_milli, starting_milli]
    made = [deployment(service, platform, share) for share in shares]
    return [*made, *around(service, platform, serving_milli)]


def around(service: Service, platform: Platform, serving_milli: int) -> list[Manifest]:
    """Return everything but the Deployments."""
    made = [service_object(service, serving_milli), disruption_budget(service)]
    return [*made, service_monitor(service)] if platform.has_service_monitors else made


def deployment_name(service: Service, share_milli: int) -> str:
    """Return the name of the Deployment of one share."""
    return f"{service.name}-{share_milli}"


def deployment(service: Service, platform: Platform, share_milli: int) -> Manifest:
    """Return the Deployment of one share, without a number of replicas."""
    selector = service.selector(share_milli)
    return _object(
        service,
        "apps/v1",
        "Deployment",
        deployment_name(service, share_milli),
        {
            "selector": {"matchLabels": selector},
            # a new pod answers before an old one goes, one at a time: GPUs are few
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {
                "metadata": {"labels": {**service.labels, **selector}},
                "spec": pod_spec(service, platform, share_milli),
            },
        },
        {SHARE_LABEL: str(share_milli)},
    )


def service_object(service: Service, serving_milli: int) -> Manifest:
    """Return the Service in front of the pods of one share."""
    return _object(
        service,
        "v1",
        "Service",
        service.name,
        {
            "selector": service.selector(serving_milli),
            "ports": _ports(service),
        },
    )


def _ports(service: Service) -> list[Manifest]:
    """Return the ports of the Service: requests go by the gateway where there is one."""
    named = {name: (number, name) for name, number in PORTS.items()}
    if service.has_gateway:
        named |= {name: (PORTS[name], gateway.NAME) for name in ("http", "grpc")}
        own = gateway.METRICS_NAME
        named[own] = (gateway.PORTS[own], own)
    return [
        {
            "name": name,
            "port": number,
            "targetPort": target,
            "protocol": "TCP",
            "appProtocol": SPOKEN.get(name, "http"),
        }
        for name, (number, target) in named.items()
    ]


def disruption_budget(service: Service) -> Manifest:
    """Return the budget by which a node's drain takes one pod at a time."""
    return _object(
        service,
        "policy/v1",
        "PodDisruptionBudget",
        service.name,
        {
            "maxUnavailable": 1,
            "selector": {"matchLabels": service.selector()},
            # a pod that never became ready must not hold up a node's drain
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    )


def service_monitor(service: Service) -> Manifest:
    """Return what tells the Prometheus operator to scrape Triton and its gateway."""
    endpoints = [{"port": "metrics", "interval": MONITORED_EVERY}]
    if service.has_gateway:
        own = {"port": gateway.METRICS_NAME, "path": METRICS_PATH, "interval": MONITORED_EVERY}
        endpoints.append(own)
    return _object(
        service,
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
        service.name,
        {
            "selector": {"matchLabels": service.labels},
            "endpoints": endpoints,
        },
    )


def _object(
    service: Service,
    api_version: str,
    kind: str,
    name: str,
    spec: Manifest,
    labels: Mapping[str, str] | None = None,
) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": service.namespace,
            "labels": {**service.labels, **service.selector(), **(labels or {})},
            "ownerReferences": [service.owner],
        },
        "spec": spec,
    }
